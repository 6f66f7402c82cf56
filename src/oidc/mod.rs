//! The relying party: a person's sign-in at an OpenID provider, and everything that follows from it.
//!
//! `openidconnect` does the flow and the signatures; what it leaves open is closed here: bounded answers
//! without redirects ([`crate::issuers::http`]), filtered and refreshed keys ([`keyset`]), the checks of an ID token that
//! it does not make ([`id_token`]), response parameters ([`callback`]) and back-channel logout ([`logout`]).

pub mod callback;
mod exchange;
mod id_token;
mod keyset;
pub mod login;
pub mod logout;
pub mod provider;
pub mod state;

use crate::domain::claim::Claims;

pub use provider::{Provider, Providers};

/// How far two clocks may differ, in seconds.
pub const SKEW: i64 = 60;

/// Why a sign-in, refresh or logout token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The provider cannot be reached, is too slow, or answers nonsense. Trying later may help.
    #[error("the identity provider cannot be reached or does not answer as it should: {0}")]
    Unreachable(String),
    /// What came back does not belong to a sign-in that was begun here, by this browser, just now.
    #[error("{0}")]
    State(&'static str),
    /// The provider itself says no.
    #[error("the identity provider refused: {0}")]
    Refused(String),
    /// What the provider vouches for fails a check.
    #[error("the identity provider's answer is not acceptable: {0}")]
    Check(String),
}

impl OidcError {
    /// A stable word for the audit log and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "provider_unreachable",
            Self::State(_) => "state_invalid",
            Self::Refused(_) => "refused_by_provider",
            Self::Check(_) => "check_failed",
        }
    }

    fn check(what: impl Into<String>) -> Self {
        Self::Check(what.into())
    }
}

/// What a finished sign-in or refresh says of somebody.
#[derive(Clone)]
pub struct Vouched {
    /// The checked claims, those of UserInfo added where it was asked.
    pub claims: Claims,
    /// `sub`.
    pub subject: String,
    /// The provider's session, if it names one.
    pub sid: Option<String>,
    /// When the person last proved who they are, in seconds, if the provider says so.
    pub auth_time: Option<i64>,
    /// To be kept sealed.
    pub tokens: ProviderTokens,
}

/// The provider's tokens that lokid keeps for a session.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct ProviderTokens {
    /// To re-read the claims.
    pub refresh: Option<String>,
    /// To sign out at the provider (`id_token_hint`).
    pub id: Option<String>,
}

impl std::fmt::Debug for Vouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vouched({})", self.subject)
    }
}
