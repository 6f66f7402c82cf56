//! What a caller may do: one function an act. Each takes a permit ([`Caller`]) and checked values, makes
//! the change together with its event, and knows nothing of HTTP.

pub mod access;
pub mod admin_link;
pub mod app;
pub mod assertion;
pub mod audit;
pub mod background;
pub mod certificates;
pub mod evidence;
pub mod examination;
pub mod exchange;
pub mod happenings;
pub mod keys;
pub mod listener;
pub mod metrics;
pub mod nodes;
pub mod people;
pub mod review;
pub mod runs;
pub mod sessions;
pub mod sign_in;
pub mod status;
pub mod tasks;
pub mod tokens;
pub mod vouching;

pub use app::App;

use std::time::Duration;

use crate::{
    domain::{dns::DomainName, scope::ScopeSet, time::Moment},
    oidc::OidcError,
    store::{StoreError, signing_keys::StepRefused, tokens::MintRefused},
};

/// Why an act did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The thing is not there, or not the caller's to see.
    #[error("there is no {what} {which:?}")]
    NotFound {
        /// `token`, `session`, `person`.
        what: &'static str,
        /// As it was asked for.
        which: String,
    },
    /// A name fits several things.
    #[error("{0:?} names several tokens; say which by its id: {1}")]
    Ambiguous(String, String),
    /// Nobody hands out a scope that they lack.
    #[error("you cannot hand out scopes that you do not hold; you hold: {held}")]
    TooWide {
        /// What the caller holds.
        held: ScopeSet,
    },
    /// A `*` token needs a sign-in that is not older than so many minutes.
    #[error("making a token with the scope * needs a fresh sign-in")]
    NeedsFreshSignIn,
    /// A value of the request is not acceptable.
    #[error("{field}: {message}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        message: String,
    },
    /// The limit or the name is taken.
    #[error(transparent)]
    Mint(#[from] MintRefused),
    /// The thing is no longer in the state that the act needs.
    #[error("{0}")]
    Conflict(String),
    /// A step of a key's rotation.
    #[error(transparent)]
    Step(#[from] StepRefused),
    /// A sign-in or logout token failed.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// No rule gives the caller certificates for the domain.
    #[error(
        "no rule gives you certificates for {0}; an operator can add one under certificates.allow, or domains to the rule \
         that let you in"
    )]
    DomainNotAllowed(DomainName),
    /// The last certificate of the domain is very new.
    #[error("the certificate for {domain} was made a moment ago and may be renewed from {until}")]
    RenewTooSoon {
        /// Which.
        domain: DomainName,
        /// From when on.
        until: Moment,
        /// In how long that is.
        wait: Duration,
    },
    /// The person may not come in.
    #[error("{0}")]
    NotAdmitted(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}
