//! The one-time link of the local administrator, which whoever sees this machine's terminal can use.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq as _;

use super::{
    ActError, App,
    sign_in::{Admitted, SignedIn, person_of, session_of},
};
use crate::{
    domain::{
        claim::Claims,
        event::{Actor, ActorKind, EventName, NewEvent, Origin, Outcome},
        person::LOCAL_ISSUER,
        session::{SessionId, SessionSecret, digest_of},
        time::Moment,
    },
    store::sessions::Open,
};

/// Its code. Only its digest is kept, and only in memory.
#[derive(Debug, Default)]
pub struct AdminLink(Mutex<Option<([u8; 32], Moment)>>);

/// What to say to whoever comes with a link that is not, or no longer, good.
pub const LINK_NOT_GOOD: &str =
    "this sign-in link was used before, is older than 15 minutes, or is another node's; restart lokid for a new one";

/// How long the link works.
pub const LINK_LIFE: Duration = Duration::from_mins(15);

impl AdminLink {
    /// Makes a link's code, in place of any earlier one.
    pub fn issue(&self, random: [u8; 32], now: Moment) -> String {
        let code = BASE64URL_NOPAD.encode(&random);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((digest_of(&code), now.plus(LINK_LIFE)));
        code
    }

    /// Whether a code would be accepted now.
    pub fn is_good(&self, code: &str, now: Moment) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.is_some_and(|(digest, ends)| bool::from(digest.ct_eq(&digest_of(code))) && now < ends)
    }

    /// Uses a code up. Answers until when it would have been good; of two that come at once, one gets that.
    fn take(&self, code: &str, now: Moment) -> Option<Moment> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = kept.filter(|(digest, ends)| bool::from(digest.ct_eq(&digest_of(code))) && now < *ends);
        if good.is_some() {
            *kept = None;
        }
        good.map(|(_, ends)| ends)
    }

    /// Makes a code good again that was taken for nothing.
    fn give_back(&self, code: &str, ends: Moment) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((digest_of(code), ends));
    }
}

/// Signs the local administrator in with the link's code.
///
/// # Errors
/// [`ActError::NotAdmitted`] when the code is not (or no longer) good.
pub async fn with_link(
    app: &App,
    code: &str,
    replaces: Option<SessionId>,
    from: &Origin,
) -> Result<SignedIn, ActError> {
    let now = app.now();
    let Some(good_until) = app.admin_link.take(code, now) else {
        let event = NewEvent::new(now, EventName::SignInFailed, Actor::anonymous());
        app.note(event.because(Outcome::Denied, "link_not_good"), from);
        return Err(ActError::NotAdmitted(LINK_NOT_GOOD.into()));
    };
    let mut claims = Claims::new();
    claims.insert("name".into(), "Local administrator".into());
    let person = person_of(app, LOCAL_ISSUER, "administrator", &claims);
    let secret = SessionSecret::from_random(app.entropy.bytes());
    let admitted = Admitted {
        role: "admin".into(),
        scopes: app.settings.auth.roles.scopes_of("admin").unwrap_or_default(),
        why: "the one-time link from this machine's terminal".into(),
        groups: Vec::new(),
    };
    let session = session_of(app, &person, "local", &admitted, from);
    let actor = Actor::new(ActorKind::Person, "", person.display_name());
    let event = NewEvent::new(now, EventName::SignInSucceeded, actor)
        .on("session", session.id.as_str())
        .from(from)
        .with("provider", "local")
        .with("role", "admin");
    let once = (format!("link {}", session.id), now.plus(LINK_LIFE));
    let opened = app.store.act(Open {
        person,
        session,
        digest: secret.digest(),
        door_digest: secret.door_digest(),
        sealed: None,
        replaces,
        once,
        event,
    });
    if let Err(e) = opened.await {
        app.admin_link.give_back(code, good_until);
        return Err(e.into());
    }
    app.metrics.signed_in();
    Ok(SignedIn { secret, return_to: "/".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_works_once_and_in_time() {
        let link = AdminLink::default();
        let now = Moment::from_seconds(0);
        let code = link.issue([9; 32], now);
        assert!(link.take("other", now).is_none() && link.take(&code, now.plus(LINK_LIFE)).is_none());
        assert!(link.is_good(&code, now) && link.take(&code, now).is_some() && link.take(&code, now).is_none());
        link.give_back(&code, now.plus(LINK_LIFE));
        assert!(link.is_good(&code, now));
    }
}
