//! A credential → who it is. Tokens and sessions are looked up through a cache that can never accept
//! what was revoked: entries carry the epoch at which their read began ([`crate::store::Rights`]).
//!
//! Nothing here writes: when and from where a credential was used is gathered in [`uses`] and stored in
//! batches by whoever calls [`uses::Uses::drain`].

mod psk;
pub mod session;
pub mod token;
pub mod uses;
pub mod workload;

use std::hash::Hash;

use quick_cache::{UnitWeighter, sync};

use workload::{WorkloadRefused, Workloads};

use crate::{
    config::auth::Auth,
    domain::{
        session::SessionLimits,
        spread::Spread,
        time::{Clock, Moment},
        token::{NotAToken, TokenId},
    },
    store::{Store, StoreError},
};

/// Turns credentials into identities.
pub struct Authn {
    store: Store,
    clock: Clock,
    limits: SessionLimits,
    tokens: token::Cache,
    sessions: session::Cache,
    preshared_keys: psk::Holders,
    /// Issuers of signed tokens.
    pub workloads: Workloads,
    /// Which credentials were used, and when, since it was last asked.
    pub uses: uses::Uses,
}

/// Why a credential was not accepted. Says nothing about credentials of others.
#[derive(Debug, thiserror::Error)]
pub enum CredentialRefused {
    /// It has not the form of a token.
    #[error("{0}")]
    NotAToken(#[from] NotAToken),
    /// There is no such token.
    #[error("the token is not known here")]
    UnknownToken,
    /// Its time is over.
    #[error("the token {id} expired at {at}")]
    ExpiredToken {
        /// Which.
        id: TokenId,
        /// When.
        at: Moment,
    },
    /// Somebody revoked it.
    #[error("the token {id} was revoked at {at}")]
    RevokedToken {
        /// Which.
        id: TokenId,
        /// When.
        at: Moment,
    },
    /// A signed token of somebody else.
    #[error(transparent)]
    Workload(#[from] WorkloadRefused),
    /// No such pre-shared key.
    #[error("the pre-shared key is not known here")]
    UnknownKey,
    /// The browser's session is over or was never one.
    #[error("the session is over; sign in again")]
    NoSession,
    /// It cannot be said now.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl CredentialRefused {
    /// A stable word for the audit log and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotAToken(_) => "malformed_token",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken { .. } => "expired_token",
            Self::RevokedToken { .. } => "revoked_token",
            Self::Workload(e) => e.reason(),
            Self::UnknownKey => "unknown_psk",
            Self::NoSession => "no_session",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// What is known by a digest.
pub(crate) type DigestCache<K, V> = sync::Cache<K, V, UnitWeighter, Spread>;

/// An empty one with room for `capacity` entries.
pub(crate) fn digest_cache<K: Hash + Eq + Clone, V: Clone>(capacity: u64) -> DigestCache<K, V> {
    // It grows with what is in it; room for all at once would count as memory from the start.
    let few = 64;
    sync::Cache::with(few, capacity, UnitWeighter, Spread::default(), sync::DefaultLifecycle::default())
}

impl Authn {
    /// With at most `capacity` tokens and as many sessions in memory.
    pub fn new(store: Store, clock: Clock, auth: &Auth, workloads: Workloads, capacity: u64) -> Self {
        let limits = auth.sessions;
        Self {
            preshared_keys: psk::Holders::new(&auth.preshared_keys),
            workloads,
            store,
            clock,
            limits,
            tokens: token::Cache::new(capacity),
            sessions: session::Cache::new(capacity, limits.idle),
            uses: uses::Uses::default(),
        }
    }
}
