//! What was used when: gathered on the hot path, stored in batches elsewhere.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::{
    event::Actor,
    scope::{Scope, ScopeSet},
    session::SessionId,
    time::Moment,
    token::{TokenId, TokenName},
};

/// One use of a credential.
#[derive(Debug)]
pub enum Use {
    /// A token was used.
    Token {
        /// Which.
        id: TokenId,
        /// When.
        at: Moment,
        /// From where.
        from: String,
    },
    /// A session was used.
    Session {
        /// Which.
        id: SessionId,
        /// When.
        at: Moment,
    },
    /// A token was used for the first time in a while: worth an event.
    FirstOfToken {
        /// Which.
        id: TokenId,
        /// What it is called.
        name: TokenName,
        /// When.
        at: Moment,
    },
    /// A token's request needed a scope that none before needed.
    ScopeOfToken {
        /// Which.
        id: TokenId,
        /// The scope.
        scope: Scope,
    },
    /// A bearer of a workload token or a pre-shared key came for the first time in a while.
    FirstOfAutomation(Arrival),
}

/// That automation which proves itself otherwise than by a token of ours came.
#[derive(Debug)]
pub struct Arrival {
    /// Who.
    pub actor: Actor,
    /// The rule that let it in; empty for none.
    pub rule: String,
    /// When.
    pub at: Moment,
    /// From where.
    pub from: String,
}

/// What has gathered since the last drain, one place for each credential.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Tokens with the moment and address of their last use.
    pub tokens: HashMap<TokenId, (Moment, String)>,
    /// Sessions with the moment of their last request.
    pub sessions: HashMap<SessionId, Moment>,
    /// Scopes that tokens' requests needed for the first time.
    pub scopes: HashMap<TokenId, ScopeSet>,
    /// Tokens that were used for the first time in a while.
    pub first_uses: Vec<(TokenId, TokenName, Moment)>,
    /// Automation that came otherwise, for the first time in a while.
    pub arrivals: Vec<Arrival>,
}

impl Gathered {
    fn needs(&mut self, id: TokenId, scopes: ScopeSet) {
        let known = self.scopes.entry(id).or_default();
        *known = known.with(scopes);
    }
}

/// More credentials than this between two drains are not noted: their last use stays a little older.
const MOST: usize = 200_000;

/// Where uses gather.
#[derive(Debug, Default)]
pub struct Uses(Mutex<Gathered>);

impl Uses {
    /// Notes a use. Each credential comes here at most every few seconds.
    pub(super) fn add(&self, used: Use) {
        let mut gathered = self.lock();
        let noted =
            gathered.tokens.len() + gathered.sessions.len() + gathered.first_uses.len() + gathered.arrivals.len();
        match used {
            // Never left out: of each token and scope this comes once, and then not again.
            Use::ScopeOfToken { id, scope } => gathered.needs(id, ScopeSet::of(&[scope])),
            _ if noted >= MOST => {}
            Use::Token { id, at, from } => drop(gathered.tokens.insert(id, (at, from))),
            Use::Session { id, at } => drop(gathered.sessions.insert(id, at)),
            Use::FirstOfToken { id, name, at } => gathered.first_uses.push((id, name, at)),
            Use::FirstOfAutomation(arrival) => gathered.arrivals.push(arrival),
        }
    }

    /// Takes scopes back that could not be stored.
    pub fn keep_scopes(&self, needed: Vec<(TokenId, ScopeSet)>) {
        let mut gathered = self.lock();
        needed.into_iter().for_each(|(id, scopes)| gathered.needs(id, scopes));
    }

    /// Takes what has gathered.
    pub fn drain(&self) -> Gathered {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // Nothing here can leave the map half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
