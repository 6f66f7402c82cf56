//! Signed statements of who somebody is, for other apps (`contract.md` §4). lokid itself never takes one.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{ActError, App};
use crate::domain::{
    identity::{Caller, Credential, Identity, Known},
    protected::ProtectedApp,
    rotation::ASSERTION_LIVES,
    time::Moment,
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
    pub jws: Arc<str>,
    /// When it ends.
    pub expires_at: Moment,
}

#[derive(Clone)]
struct Kept {
    assertion: Assertion,
    /// What was known when it was issued: identities may have changed since.
    epoch: u64,
    kid: Arc<str>,
}

/// Assertions that were issued within the last minute.
pub struct Issued(moka::sync::Cache<(String, String), Kept>);

impl Default for Issued {
    fn default() -> Self {
        let weight = |(id, host): &(String, String), kept: &Kept| {
            u32::try_from(id.len() + host.len() + kept.assertion.jws.len() + 256).unwrap_or(u32::MAX)
        };
        Self(moka::sync::Cache::builder().weigher(weight).max_capacity(MOST_KEPT).time_to_live(KEPT).build())
    }
}

/// The public name of the credential: a session's or a token's id.
fn credential(who: &Identity) -> &str {
    match &who.credential {
        Credential::Session { id, .. } => id.as_str(),
        Credential::Token(id) => id.as_str(),
        Credential::Terminal => "terminal",
    }
}

/// An assertion about `who` for the app; the same one for up to a minute. Only for somebody whom a rule of
/// the app admits.
pub fn assert(app: &App, who: &Identity, of: &ProtectedApp) -> Assertion {
    let (now, epoch, ring) = (app.now(), app.store.rights().epoch(), app.keys.load());
    let key = (credential(who).to_owned(), of.host.clone());
    let kid = ring.signing().kid();
    if let Some(kept) = app.assertions.0.get(&key)
        && Some(kept.epoch) == epoch
        && *kept.kid == *kid
        && now < kept.assertion.expires_at.minus(ASSERTION_LIVES).plus(KEPT)
    {
        return kept.assertion;
    }
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
    let assertion = Assertion { jws: ring.signing().sign(TYP, &claims).into(), expires_at };
    if let Some(epoch) = epoch {
        app.assertions.0.insert(key, Kept { assertion: assertion.clone(), epoch, kid: kid.into() });
    }
    assertion
}

/// An assertion that the caller fetches for an app of theirs.
///
/// # Errors
/// [`ActError::NotFound`] for an app that is not configured, [`ActError::NotAdmitted`] for one that has no
/// rule for the caller.
pub fn fetch(app: &App, caller: &Caller<Known>, host: &str) -> Result<(String, Assertion), ActError> {
    let which = || host.chars().filter(|c| !c.is_control()).take(100).collect();
    let of = app.settings.apps.at(host).ok_or_else(|| ActError::NotFound { what: "app", which: which() })?;
    if !of.is_open_to(caller.identity()) {
        return Err(ActError::NotAdmitted(format!("no rule of {} admits you", of.host)));
    }
    Ok((of.host.clone(), assert(app, caller.identity(), of)))
}
