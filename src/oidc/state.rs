//! The state of an unfinished sign-in. It travels sealed in the `state` parameter, so nothing on the
//! server fills up however many sign-ins are begun, and twenty tabs do not get in each other's way.
//!
//! It is bound to the browser by a cookie, expires, names its provider, and is used up by the sign-in
//! that it finishes (the store takes its id once).

use data_encoding::BASE64URL_NOPAD;

use super::OidcError;
use crate::{
    domain::{entropy::Entropy, session::digest_of, time::Moment},
    keys::seal::{Purpose, Sealer},
};

/// How long a person may take at the provider.
pub const LIFE: std::time::Duration = std::time::Duration::from_mins(10);
/// The longest address to come back to.
pub const LONGEST_RETURN: usize = 1024;

/// What must be known when the person comes back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SignIn {
    /// Used once.
    pub id: String,
    /// The provider's id.
    pub provider: String,
    /// For the ID token.
    pub nonce: String,
    /// PKCE (RFC 7636).
    pub verifier: String,
    /// Where to go afterwards: a path of ours.
    pub return_to: String,
    /// When it began, in milliseconds.
    pub began_at: i64,
    /// The person was asked to prove anew who they are.
    pub fresh: bool,
    /// SHA-256 of the browser's cookie.
    browser: String,
}

impl SignIn {
    /// A new sign-in of the browser that will hold `cookie`.
    pub fn new(provider: &str, return_to: &str, fresh: bool, cookie: &str, now: Moment, entropy: Entropy) -> Self {
        let text = |bytes: [u8; 32]| BASE64URL_NOPAD.encode(&bytes);
        Self {
            id: BASE64URL_NOPAD.encode(&entropy.bytes::<16>()),
            provider: provider.to_owned(),
            nonce: BASE64URL_NOPAD.encode(&entropy.bytes::<16>()),
            verifier: text(entropy.bytes()),
            return_to: return_to.to_owned(),
            began_at: now.millis(),
            fresh,
            browser: BASE64URL_NOPAD.encode(&digest_of(cookie)),
        }
    }

    /// The value of the `state` parameter.
    pub fn seal(&self, sealer: &Sealer, entropy: Entropy) -> String {
        let plain = serde_json::to_vec(self).expect("texts and numbers are JSON");
        BASE64URL_NOPAD.encode(&sealer.seal(Purpose::SignIn, &plain, entropy))
    }

    /// Reads a `state` parameter that came back.
    ///
    /// # Errors
    /// When it was not made here, is too old, or belongs to another browser: `cookie` answers what this
    /// browser holds for it.
    pub fn open(
        sealer: &Sealer,
        state: &str,
        cookie: impl FnOnce(&Self) -> Option<String>,
        now: Moment,
    ) -> Result<Self, OidcError> {
        const FOREIGN: OidcError = OidcError::State("this sign-in was not begun here; begin again");
        let sealed = BASE64URL_NOPAD.decode(state.as_bytes()).map_err(|_| FOREIGN)?;
        let plain = sealer.open(Purpose::SignIn, &sealed).map_err(|_| FOREIGN)?;
        let read: Self = serde_json::from_slice(&plain).map_err(|_| FOREIGN)?;
        let cookie = cookie(&read).ok_or(OidcError::State(
            "this sign-in was begun in another browser, or cookies are off; begin again here",
        ))?;
        if BASE64URL_NOPAD.encode(&digest_of(&cookie)) != read.browser {
            return Err(OidcError::State("this sign-in was begun in another browser; begin again here"));
        }
        if read.expires_at() <= now {
            return Err(OidcError::State("this sign-in took longer than ten minutes; begin again"));
        }
        Ok(read)
    }

    /// What tells this sign-in's cookie from those of other tabs.
    pub fn label(&self) -> &str {
        &self.id[..8]
    }

    /// When it can no longer be finished.
    pub fn expires_at(&self) -> Moment {
        Moment::from_millis(self.began_at).plus(LIFE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_opens_for_its_browser_in_time_and_unchanged() {
        let sealer = Sealer::new(&[3; 32]);
        let now = Moment::from_seconds(1000);
        let sign_in = SignIn::new("main", "/tokens", false, "cookie", now, Entropy);
        let state = sign_in.seal(&sealer, Entropy);
        let holding = |cookie: Option<&'static str>| move |_: &SignIn| cookie.map(str::to_owned);
        assert_eq!(SignIn::open(&sealer, &state, holding(Some("cookie")), now), Ok(sign_in));

        let late = now.plus(LIFE);
        let changed = format!("B{}", &state[1..]);
        for (state, cookie, now) in [
            (&state, Some("other"), now),
            (&state, None, now),
            (&state, Some("cookie"), late),
            (&changed, Some("cookie"), now),
        ] {
            assert!(matches!(SignIn::open(&sealer, state, holding(cookie), now), Err(OidcError::State(_))));
        }
    }
}
