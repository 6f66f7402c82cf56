//! Values and rules only: scopes, roles, identities, tokens, sessions, events.
//!
//! Nothing here does I/O, speaks HTTP or SQL, or reads a clock; time and randomness come in as
//! arguments ([`time::Clock`] and [`entropy::Entropy`] are the two sources, handed out at the top).

pub mod causes;
pub mod certificate;
pub mod chain;
pub mod checkpoint;
pub mod claim;
pub mod client_certificate;
pub mod dns;
pub mod entropy;
pub mod event;
pub mod id;
pub mod identity;
pub mod ledger;
pub mod log_line;
pub mod node;
pub mod path;
pub mod person;
pub mod protected;
pub mod retention;
pub mod role;
pub mod rotation;
pub mod run;
pub mod scope;
pub mod screen;
pub mod session;
pub mod spread;
pub mod task;
pub mod time;
pub mod token;
mod words;
pub mod workload;
