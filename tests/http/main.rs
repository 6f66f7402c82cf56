//! The door over HTTP, on a real listener: who may do what, what is refused and how, and that what was
//! refused changed nothing. Every test has a database, a port and a provider of its own.

#[path = "../support/door.rs"]
mod door;
#[path = "../support/provider.rs"]
mod provider;

mod access;
mod callback;
mod credentials;
mod discovery;
mod lifetimes;
mod limits;
mod logout;
mod oidc;
mod openapi;
mod problem;
mod raw;
mod refresh;
mod tokens;
