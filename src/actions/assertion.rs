//! Signed statements of who somebody is, for other apps (`contract.md` §4). lokid itself never takes one.

use std::{hash::RandomState, sync::Arc, time::Duration};

use quick_cache::{
    Equivalent, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use serde::Serialize;

use super::{ActError, App};
use crate::{
    domain::{
        identity::{Caller, Credential, Identity, Known},
        protected::ProtectedApp,
        rotation::ASSERTION_LIVES,
        screen,
        time::Moment,
    },
    keys::sign::SigningKey,
};

/// The header's `typ` (RFC 8725 §3.11): nothing else that we sign has it.
pub const TYP: &str = "loki-assertion+jwt";
/// An assertion is handed out again for this long.
const KEPT: Duration = Duration::from_mins(1);
/// Bytes of them.
const MOST_KEPT: u64 = 32 * 1024 * 1024;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    user: &'a str,
    name: &'a str,
    /// Empty unless the provider vouches for it.
    email: &'a str,
    groups: &'a [String],
    sid: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
}

/// An assertion with its end.
#[derive(Debug, Clone)]
pub struct Assertion {
    /// The compact JWS.
    pub jws: String,
    /// When it ends.
    pub expires_at: Moment,
}

/// An assertion that can be handed out again, beside the form that its carrier needs.
pub struct Kept<R> {
    /// The assertion.
    pub assertion: Assertion,
    /// What was made of it when it was issued.
    pub ready: R,
    /// Whom it is about. The same object only as long as nobody lost a right: see [`crate::authn`].
    who: Arc<Identity>,
    kid: String,
    /// Until when it is handed out.
    until: Moment,
}

/// For which credential, and for which app's host.
#[derive(Hash, PartialEq, Eq)]
struct Key(String, String);

/// A [`Key`] to look for.
#[derive(Hash)]
struct Sought<'a>(&'a str, &'a str);

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

#[derive(Clone)]
struct Bytes;

impl<R> Weighter<Key, Arc<Kept<R>>> for Bytes {
    /// The assertion is in it twice where `R` holds it too; the rest is a guess on the safe side.
    fn weight(&self, Key(id, host): &Key, kept: &Arc<Kept<R>>) -> u64 {
        (id.len() + host.len() + 2 * kept.assertion.jws.len() + 512) as u64
    }
}

/// Assertions that were issued within the last minute, each as an `R` too.
pub struct Issued<R>(Cache<Key, Arc<Kept<R>>, Bytes, RandomState>);

impl<R> Default for Issued<R> {
    fn default() -> Self {
        Self(Cache::with(64, MOST_KEPT, Bytes, RandomState::new(), DefaultLifecycle::default()))
    }
}

impl<R> Issued<R> {
    /// Gives the room of those back that are not handed out any more.
    pub fn forget_old(&self, now: Moment) {
        self.0.retain(|_, kept| now < kept.until);
    }
}

/// The public name of the credential: a session's or a token's id.
fn credential(who: &Identity) -> &str {
    match &who.credential {
        Credential::Session { id, .. } => id.as_str(),
        Credential::Token(id) => id.as_str(),
        Credential::Certificate(fingerprint) => fingerprint,
        Credential::Workload(token) => &token.id,
        Credential::PresharedKey(_) => &who.actor.id,
        Credential::Terminal => "terminal",
    }
}

/// An assertion about `who` for the app; the same one for up to a minute. Only for somebody whom a rule of
/// the app admits. `make` turns a new one into what its carrier needs.
pub fn assert<R>(
    app: &App,
    issued: &Issued<R>,
    who: &Arc<Identity>,
    of: &ProtectedApp,
    make: impl FnOnce(&Assertion) -> R,
) -> Arc<Kept<R>> {
    let (now, ring) = (app.now(), app.keys.load());
    let kid = ring.signing().kid();
    if let Some(kept) = issued.0.get(&Sought(credential(who), &of.host))
        && Arc::ptr_eq(&kept.who, who)
        && kept.kid == kid
        && now < kept.until
    {
        return kept;
    }
    let assertion = issue(app, ring.signing(), who, of, now);
    let kept = Arc::new(Kept {
        ready: make(&assertion),
        assertion,
        who: Arc::clone(who),
        kid: kid.to_owned(),
        until: now.plus(KEPT),
    });
    issued.0.insert(Key(credential(who).to_owned(), of.host.clone()), Arc::clone(&kept));
    kept
}

fn issue(app: &App, key: &SigningKey, who: &Identity, of: &ProtectedApp, now: Moment) -> Assertion {
    let expires_at = now.plus(ASSERTION_LIVES);
    let claims = Claims {
        iss: app.settings.server.public_url.as_str().trim_end_matches('/'),
        aud: &of.host,
        sub: &who.actor.id,
        user: &who.actor.id,
        name: &who.actor.name,
        email: who.verified_email().unwrap_or_default(),
        groups: &who.groups,
        sid: credential(who),
        jti: data_encoding::BASE64URL_NOPAD.encode(&app.entropy.bytes::<16>()),
        iat: now.millis() / 1000,
        exp: now.millis() / 1000 + i64::try_from(ASSERTION_LIVES.as_secs()).unwrap_or_default(),
    };
    Assertion { jws: key.sign(TYP, &claims), expires_at }
}

/// The app that the caller may fetch an assertion for.
///
/// # Errors
/// [`ActError::NotFound`] for an app that is not configured, [`ActError::NotAdmitted`] for one that has no
/// rule for the caller.
pub fn app_of<'a>(app: &'a App, caller: &Caller<Known>, host: &str) -> Result<&'a ProtectedApp, ActError> {
    let which = || screen::harmless(host, 100);
    let of = app.settings.apps.at(host).ok_or_else(|| ActError::NotFound { what: "app", which: which() })?;
    if !of.is_open_to(caller.identity()) {
        return Err(ActError::NotAdmitted(format!("no rule of {} admits you", of.host)));
    }
    Ok(of)
}
