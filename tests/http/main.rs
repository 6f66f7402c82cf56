//! The door over HTTP, on a real listener: who may do what, what is refused and how, and that what was
//! refused changed nothing. Every test has a database, a port and a provider of its own.

#[path = "../support/clients.rs"]
mod clients;
#[path = "../support/covered.rs"]
mod covered;
#[path = "../support/door.rs"]
mod door;
#[path = "../support/issuer.rs"]
mod issuer;
#[path = "../support/jose.rs"]
mod jose;
#[path = "../support/pki.rs"]
mod pki;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../support/provider.rs"]
mod provider;
#[path = "../support/workshop.rs"]
mod workshop;

mod access;
mod assertion;
mod callback;
mod canaries;
mod certificates;
mod coverage;
mod credentials;
mod cross_site;
mod discovery;
mod events;
mod evidence;
mod examination;
mod exchange;
mod explain;
mod forward;
mod keys;
mod lifetimes;
mod limits;
mod logout;
mod metrics;
mod mtls;
mod oidc;
mod openapi;
mod outage;
mod passing;
mod problem;
mod psk;
mod raw;
mod redirects;
mod refresh;
mod review;
mod rotation;
mod runs;
mod sinks;
mod tasks;
mod tokens;
mod verifier;
mod vouching;
mod workload;
mod workload_jose;
mod workload_keys;
