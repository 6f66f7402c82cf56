//! `Authorization: Bearer loki_…`

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{Authn, CredentialRefused, DigestCache, digest_cache, uses::Use};
use crate::domain::{
    identity::{Credential, Identity},
    scope::Scope,
    time::Moment,
    token::{TokenDigest, TokenId, TokenState},
};

/// A token's last use is noted once in this while.
const NOTED_EVERY: Duration = Duration::from_secs(30);
/// A token's use is an audit event once in this while.
const EVENT_EVERY: Duration = Duration::from_hours(1);

/// A usable token as the cache holds it.
struct Known {
    identity: Arc<Identity>,
    expires_at: Option<Moment>,
    /// When its last use was noted, in milliseconds.
    noted_at: AtomicI64,
}

pub(super) struct Cache {
    known: DigestCache<TokenDigest, (u64, Arc<Known>)>,
    /// Tokens whose use made an event lately; outlives the entries above, which any revocation ends.
    told: moka::sync::Cache<TokenId, ()>,
}

impl Cache {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            known: digest_cache(capacity),
            told: moka::sync::Cache::builder().max_capacity(capacity).time_to_live(EVENT_EVERY).build(),
        }
    }
}

impl Authn {
    /// Who holds the presented token. `from` is the true client's address, for the token's last use.
    ///
    /// # Errors
    /// [`CredentialRefused`] says why nobody does.
    pub async fn by_token(&self, presented: &str, from: IpAddr) -> Result<Arc<Identity>, CredentialRefused> {
        let digest = TokenDigest::of_presented(presented)?;
        let now = self.clock.now();
        // The epoch is read before the token is: what changes meanwhile makes the entry stale at once.
        let epoch = self.store.rights().epoch();
        if let Some(identity) = self.cached(&digest, epoch, now, from) {
            return Ok(identity);
        }
        let token = self.store.token_by_digest(&digest).await?.ok_or(CredentialRefused::UnknownToken)?;
        match token.state(now) {
            TokenState::Expired(at) => return Err(CredentialRefused::ExpiredToken { id: token.id, at }),
            TokenState::Revoked(at) => return Err(CredentialRefused::RevokedToken { id: token.id, at }),
            TokenState::Active | TokenState::Replaced => {}
        }
        let known = Arc::new(Known {
            identity: Arc::new(Identity::of_token(&token)),
            expires_at: token.expires_at,
            noted_at: AtomicI64::new(token.last_used_at.map_or(0, Moment::millis)),
        });
        if let Some(epoch) = epoch {
            self.tokens.known.insert(digest, (epoch, Arc::clone(&known)));
        }
        self.note(&known, now, from);
        if self.tokens.told.get(&token.id).is_none() {
            self.tokens.told.insert(token.id.clone(), ());
            self.uses.add(Use::FirstOfToken { id: token.id, name: token.name, at: now });
        }
        Ok(Arc::clone(&known.identity))
    }

    /// Who holds the presented token, if that can be said without asking the database. `None` says nothing:
    /// [`Self::by_token`] knows.
    pub fn by_known_token(&self, presented: &str, from: IpAddr) -> Option<Arc<Identity>> {
        let digest = TokenDigest::of_presented(presented).ok()?;
        self.cached(&digest, self.store.rights().epoch(), self.clock.now(), from)
    }

    /// Notes that a request was let in because its sender holds a scope. Costs a load, unless it is the first such
    /// request of a token.
    pub fn needed(&self, who: &Identity, scope: Scope) {
        if let Credential::Token(id) = &who.credential
            && who.in_use.note(scope)
        {
            self.uses.add(Use::ScopeOfToken { id: id.clone(), scope });
        }
    }

    fn cached(&self, digest: &TokenDigest, epoch: Option<u64>, now: Moment, from: IpAddr) -> Option<Arc<Identity>> {
        let (seen, known) = self.tokens.known.get(digest)?;
        if Some(seen) != epoch || known.expires_at.is_some_and(|at| at <= now) {
            return None;
        }
        self.note(&known, now, from);
        Some(Arc::clone(&known.identity))
    }

    fn note(&self, known: &Known, now: Moment, from: IpAddr) {
        let noted = known.noted_at.load(Ordering::Relaxed);
        if now.since(Moment::from_millis(noted)) >= NOTED_EVERY
            && known.noted_at.compare_exchange(noted, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Credential::Token(id) = &known.identity.credential
        {
            self.uses.add(Use::Token { id: id.clone(), at: now, from: from.to_string() });
        }
    }
}
