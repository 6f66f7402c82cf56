//! lokid: the one binary at a team's door.
//!
//! People sign in through their company's identity provider, automation calls with scoped tokens, and
//! one append-only audit log remembers. The floors of the modules are in `ARCHITECTURE.md`; a test in
//! `tests/architecture.rs` keeps them.

pub mod actions;
pub mod audit;
pub mod authn;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod domain;
pub mod issuers;
pub mod keys;
pub mod oidc;
pub mod pki;
pub mod runner;
pub mod store;
pub mod telemetry;
pub mod web;
