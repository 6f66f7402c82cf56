//! The session cookie's content.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{Authn, CredentialRefused, DigestCache, digest_cache, uses::Use};
use crate::{
    domain::{
        identity::Identity,
        session::{Session, SessionId, digest_of},
        time::Moment,
    },
    store::sessions::SessionOfPerson,
};

/// A session's last request is noted once in this while.
const NOTED_EVERY: Duration = Duration::from_secs(15);

/// A live session as the cache holds it.
pub struct KnownSession {
    /// Who is signed in.
    pub identity: Arc<Identity>,
    /// The session as it was read.
    pub session: Session,
    /// The last request, in milliseconds; shared with earlier reads of the same session.
    last_seen: Arc<AtomicI64>,
}

/// By which cookie somebody is known.
#[derive(Clone, Copy)]
enum Cookie {
    /// lokid's own.
    Session,
    /// The one that other apps see.
    Door,
}

pub(super) struct Cache {
    known: DigestCache<[u8; 32], (u64, Arc<KnownSession>)>,
    /// By the cookie of other apps.
    doors: DigestCache<[u8; 32], (u64, Arc<KnownSession>)>,
    seen: moka::sync::Cache<SessionId, Arc<AtomicI64>>,
}

impl Cache {
    pub(super) fn new(capacity: u64, idle: Duration) -> Self {
        Self {
            known: digest_cache(capacity),
            doors: digest_cache(capacity),
            seen: moka::sync::Cache::builder().max_capacity(capacity).time_to_idle(idle).build(),
        }
    }
}

impl Authn {
    /// Whose live session this is, by the SHA-256 of its secret.
    ///
    /// # Errors
    /// [`CredentialRefused::NoSession`] when it is over or never was one.
    pub async fn by_session(&self, digest: [u8; 32]) -> Result<Arc<KnownSession>, CredentialRefused> {
        self.by(Cookie::Session, digest).await
    }

    /// Whose live session the cookie of other apps belongs to. It is good for nothing else, and the cookie of
    /// lokid itself is not good for this.
    ///
    /// # Errors
    /// [`CredentialRefused::NoSession`] when it is over or never was one.
    pub async fn by_door(&self, secret: &str) -> Result<Arc<KnownSession>, CredentialRefused> {
        if secret.len() != 43 {
            return Err(CredentialRefused::NoSession);
        }
        self.by(Cookie::Door, digest_of(secret)).await
    }

    async fn by(&self, cookie: Cookie, digest: [u8; 32]) -> Result<Arc<KnownSession>, CredentialRefused> {
        let cache = match cookie {
            Cookie::Session => &self.sessions.known,
            Cookie::Door => &self.sessions.doors,
        };
        let now = self.clock.now();
        let epoch = self.store.rights().epoch();
        if let Some(epoch) = epoch
            && let Some((seen, known)) = cache.get(&digest)
            && seen == epoch
        {
            return self.admit(&known, now).map(|()| known);
        }
        let found = match cookie {
            Cookie::Session => self.store.session_by_digest(&digest).await?,
            Cookie::Door => self.store.session_by_door(&digest).await?,
        };
        let known = self.known(found.ok_or(CredentialRefused::NoSession)?);
        self.admit(&known, now)?;
        if let Some(epoch) = epoch {
            cache.insert(digest, (epoch, Arc::clone(&known)));
        }
        Ok(known)
    }

    fn known(&self, found: SessionOfPerson) -> Arc<KnownSession> {
        let session = found.session;
        let stored = session.last_seen_at.millis();
        let last_seen = self.sessions.seen.get_with_by_ref(&session.id, || Arc::new(AtomicI64::new(stored)));
        last_seen.fetch_max(stored, Ordering::Relaxed);
        let ends = session.signed_in_at.plus(self.limits.absolute);
        let identity = Arc::new(Identity::of_session(&session, found.profile, ends));
        Arc::new(KnownSession { identity, session, last_seen })
    }

    /// Whose live session this is, if that can be said without asking the database. `None` says nothing:
    /// [`Self::by_session`] knows.
    pub fn by_known_session(&self, digest: &[u8; 32]) -> Option<Arc<KnownSession>> {
        let epoch = self.store.rights().epoch()?;
        let (seen, known) = self.sessions.known.get(digest)?;
        (seen == epoch && self.admit(&known, self.clock.now()).is_ok()).then_some(known)
    }

    /// Whether a session that was live still is, without a look at the database and without counting as a use of it.
    pub fn still_lives(&self, known: &KnownSession) -> bool {
        let seen = Moment::from_millis(known.last_seen.load(Ordering::Relaxed));
        known.session.ends_when_seen(&self.limits, seen) > self.clock.now()
    }

    /// Whether the session is live now; if so it has been seen now.
    fn admit(&self, known: &KnownSession, now: Moment) -> Result<(), CredentialRefused> {
        let seen = known.last_seen.load(Ordering::Relaxed);
        if known.session.ended_at.is_some()
            || known.session.ends_when_seen(&self.limits, Moment::from_millis(seen)) <= now
        {
            return Err(CredentialRefused::NoSession);
        }
        if now.since(Moment::from_millis(seen)) >= NOTED_EVERY
            && known.last_seen.compare_exchange(seen, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.uses.add(Use::Session { id: known.session.id.clone(), at: now });
        }
        Ok(())
    }
}
