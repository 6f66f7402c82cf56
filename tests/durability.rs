//! What was answered stays: revocations, kills, full and read-only disks, a locked database, syncs that fail. The server is
//! the binary itself, in a process of its own. `LOKID_ROUNDS=10` runs ten times as many rounds.

#[path = "durability/door.rs"]
mod door;
#[path = "durability/faults.rs"]
mod faults;
#[path = "durability/http.rs"]
mod http;
#[path = "durability/killed.rs"]
mod killed;
#[path = "durability/revoked.rs"]
mod revoked;
#[path = "durability/runs.rs"]
mod runs;
#[path = "durability/server.rs"]
mod server;
#[path = "durability/sign_in.rs"]
mod sign_in;
#[path = "durability/syncs.rs"]
mod syncs;

/// So many rounds, times `LOKID_ROUNDS`.
#[expect(clippy::disallowed_methods, reason = "how long to test is no setting of lokid")]
fn rounds(few: u64) -> u64 {
    few * std::env::var_os("LOKID_ROUNDS").and_then(|n| n.to_str()?.parse().ok()).unwrap_or(1)
}
