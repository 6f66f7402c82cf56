//! Browser sessions: the secret in the cookie, the limits, and when one is over.

use std::{fmt, time::Duration};

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::{id::public_id, person::PersonId, scope::ScopeSet, time::Moment};

public_id!(
    /// The public name of a session: `ses-` and 12 characters, unrelated to the cookie.
    SessionId,
    "ses-"
);

/// The random 256 bits in the cookie. Wiped when dropped.
pub struct SessionSecret(Zeroizing<String>);

impl SessionSecret {
    /// A new secret from 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(BASE64URL_NOPAD.encode(&random)))
    }

    /// The cookie's content.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored.
    pub fn digest(&self) -> [u8; 32] {
        digest_of(&self.0)
    }

    /// What is stored of [`door_secret`].
    pub fn door_digest(&self) -> [u8; 32] {
        digest_of(&door_secret(&self.0))
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// What the cookie of other apps holds (`loki_door`): one-way from the session's own, so that whoever sees it
/// cannot come to lokid itself with it.
pub fn door_secret(secret: &str) -> String {
    BASE64URL_NOPAD.encode(&digest_of(&format!("lokid forward-auth v1\n{secret}")))
}

/// SHA-256 of a cookie's content.
pub fn digest_of(secret: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Over after this long without a request.
    pub idle: Duration,
    /// Over after this long whatever happens.
    pub absolute: Duration,
    /// A sign-in is fresh for this long: needed to mint a `*` token.
    pub fresh: Duration,
}

/// A signed-in browser.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its public id.
    pub id: SessionId,
    /// Who is signed in.
    pub person: PersonId,
    /// The provider's id in the configuration; `local` for the administrator link.
    pub provider: String,
    /// The provider's own session, if it named one (`sid`).
    pub provider_sid: Option<String>,
    /// The role that the rules gave.
    pub role: String,
    /// What that role grants.
    pub scopes: ScopeSet,
    /// Which rule gave the role, for `/account`.
    pub rule: String,
    /// The groups that the provider names.
    pub groups: Vec<String>,
    /// When the person signed in.
    pub signed_in_at: Moment,
    /// When the person last proved who they are: at sign-in or, as the provider says, before it.
    pub proven_at: Moment,
    /// The last request, to within the writing interval.
    pub last_seen_at: Moment,
    /// When it ended, if it did.
    pub ended_at: Option<Moment>,
    /// When the claims were last read at the provider.
    pub claims_at: Moment,
    /// Where the person signed in from.
    pub ip: Option<String>,
    /// With which browser.
    pub user_agent: Option<String>,
}

impl Session {
    /// Whether it is over at a moment, by end, idleness or age.
    pub fn is_over(&self, limits: &SessionLimits, now: Moment) -> bool {
        self.ended_at.is_some() || self.ends_at(limits) <= now
    }

    /// When it is over if no further request comes.
    pub fn ends_at(&self, limits: &SessionLimits) -> Moment {
        self.ends_when_seen(limits, self.last_seen_at)
    }

    /// When it is over if the last request came at `seen`.
    pub fn ends_when_seen(&self, limits: &SessionLimits, seen: Moment) -> Moment {
        seen.plus(limits.idle).min(self.signed_in_at.plus(limits.absolute))
    }

    /// Whether the person proved who they are just now.
    pub fn is_fresh(&self, limits: &SessionLimits, now: Moment) -> bool {
        now < self.proven_at.plus(limits.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_over_by_idleness_by_age_or_by_hand() {
        let start = Moment::from_millis(0);
        let limits = SessionLimits {
            idle: Duration::from_mins(30),
            absolute: Duration::from_hours(8),
            fresh: Duration::from_mins(5),
        };
        let mut session = Session {
            id: SessionId::from_random([1; 12]),
            person: PersonId::from_random([2; 12]),
            provider: "main".into(),
            provider_sid: None,
            role: "viewer".into(),
            scopes: ScopeSet::EMPTY,
            rule: String::new(),
            groups: vec![],
            signed_in_at: start,
            proven_at: start,
            last_seen_at: start,
            ended_at: None,
            claims_at: start,
            ip: None,
            user_agent: None,
        };
        let after = |minutes| start.plus(Duration::from_mins(minutes));
        assert!(!session.is_over(&limits, after(29)) && session.is_over(&limits, after(30)));
        session.last_seen_at = after(479);
        assert!(!session.is_over(&limits, after(479)) && session.is_over(&limits, after(480)));
        assert!(session.is_fresh(&limits, after(4)) && !session.is_fresh(&limits, after(5)));
        session.last_seen_at = start;
        session.ended_at = Some(after(1));
        assert!(session.is_over(&limits, after(2)));
    }
}
