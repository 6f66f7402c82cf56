//! Several nodes: the binary itself in processes of its own, a real NATS and a real PostgreSQL.

#[path = "cluster/accounts.rs"]
mod accounts;
#[path = "cluster/anchors.rs"]
mod anchors;
#[path = "cluster/coverage.rs"]
mod coverage;
#[path = "support/covered.rs"]
mod covered;
#[path = "cluster/database.rs"]
mod database;
#[path = "cluster/hostile.rs"]
mod hostile;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "durability/http.rs"]
mod http;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/nats.rs"]
mod nats;
#[path = "cluster/nodes.rs"]
mod nodes;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "support/postgres.rs"]
mod postgres;
#[path = "cluster/refused.rs"]
mod refused;
#[path = "durability/server.rs"]
mod server;
#[path = "durability/sign_in.rs"]
mod sign_in;
