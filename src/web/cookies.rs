//! Cookies, read from the header's bytes: exact names, no decoding of names, nothing twice.
//!
//! actix-web decodes percent signs in cookie *names* and trims Unicode white space around them, so that a
//! sibling domain could plant a cookie that arrives under a `__Host-` name. Hence this reader, and the
//! guard in front of `actix-session` that lets it see only what this reader accepts.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, Key, SameSite, time::Duration},
    http::header::{COOKIE, HeaderMap, HeaderValue},
};
use aws_lc_rs::hmac;
use data_encoding::BASE64;

use super::{Web, client::Client};
use crate::{
    authn::{DigestCache, digest_cache},
    domain::session::digest_of,
};

/// The browser's sign-in cookie lives as long as a sign-in may take.
const SIGN_IN_SECONDS: i64 = 600;
/// Unfinished sign-ins that one browser may hold; beyond them cookies are removed again.
const MOST_SIGN_INS: usize = 30;

/// Cookies of ours that may say who somebody is, good or not, each there once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    /// lokid's own session.
    session: Option<Place>,
    /// The one for other apps.
    door: Option<Place>,
}

/// Where a cookie's value stands in the one line that [`Web::keep_own_cookies`] left.
#[derive(Debug, Clone, Copy)]
struct Place {
    from: u16,
    to: u16,
}

impl Place {
    /// `None` beyond what any line may have.
    fn between(from: usize, to: usize) -> Option<Self> {
        Some(Self { from: from.try_into().ok()?, to: to.try_into().ok()? })
    }

    fn read(self, headers: &HeaderMap) -> Option<&str> {
        let line = headers.get(COOKIE)?.as_bytes();
        std::str::from_utf8(line.get(self.from.into()..self.to.into())?).ok()
    }
}

/// Checks what `actix-session` signed: the MAC in base64, then the value, percent-encoded as a whole. The
/// key is set up once; `CookieJar::signed` does so at every look.
pub(super) struct Signed {
    key: hmac::Key,
    /// The digest of the secret in each cookie that was found good, by the digest of the cookie as it came. Both say
    /// the same for ever, whatever becomes of the session.
    good: DigestCache<[u8; 32], [u8; 32]>,
}

/// Cookies that are known to be good without another look at their MAC.
const GOOD: u64 = 50_000;

/// Characters of a SHA-256 in base64, and of a session's secret.
const MAC_CHARS: usize = 44;
const SECRET_CHARS: usize = 43;

impl Signed {
    pub(super) fn by(key: &Key) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.signing()), good: digest_cache(GOOD) }
    }

    /// The digest of the secret in a cookie's value, if this key signed it.
    fn digest(&self, value: &str) -> Option<[u8; 32]> {
        let as_it_came = digest_of(value);
        if let Some(known) = self.good.get(&as_it_came) {
            return Some(known);
        }
        let digest = digest_of(&self.secret(value)?);
        self.good.insert(as_it_came, digest);
        Some(digest)
    }

    /// The secret in a cookie's value, if this key signed it.
    fn secret(&self, value: &str) -> Option<String> {
        let text = decoded(value)?;
        let (mac, secret) = text.split_at(MAC_CHARS);
        let mut bytes = [0; MAC_CHARS / 4 * 3];
        let length = BASE64.decode_mut(mac, &mut bytes).ok()?;
        hmac::verify(&self.key, secret, &bytes[..length]).ok()?;
        std::str::from_utf8(secret).map(str::to_owned).ok()
    }
}

/// Undoes percent-encoding of a text that must have exactly the length of a MAC and a secret.
fn decoded(value: &str) -> Option<[u8; MAC_CHARS + SECRET_CHARS]> {
    let mut text = [0; MAC_CHARS + SECRET_CHARS];
    let mut bytes = value.bytes();
    for place in &mut text {
        let byte = bytes.next()?;
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        *place = if byte == b'%' { u8::try_from(digit()? << 4 | digit()?).ok()? } else { byte };
    }
    bytes.next().is_none().then_some(text)
}

impl Web {
    /// The session cookie's name. `__Host-` where cookies can be `Secure`.
    pub(super) const fn session_cookie(&self) -> &'static str {
        if self.secure { "__Host-loki_session" } else { "loki_session" }
    }

    /// The name of the cookie that other apps of the parent domain see. It needs a `Domain`, so no `__Host-`.
    pub(super) const fn door_cookie_name(&self) -> &'static str {
        if self.secure { "__Secure-loki_door" } else { "loki_door" }
    }

    /// What the cookie for other apps holds, if it is there once.
    pub(super) fn door_secret(req: &HttpRequest) -> Option<String> {
        Client::of(req).cookies.door?.read(req.headers()).map(str::to_owned)
    }

    /// Whether a cookie for other apps is there at all, good or not.
    pub(super) fn has_door_cookie(req: &HttpRequest) -> bool {
        Client::of(req).cookies.door.is_some()
    }

    /// What the names of the cookies that bind unfinished sign-ins to a browser begin with. Each sign-in has
    /// its own, so that tabs which begin at the same moment do not overwrite each other's.
    const fn sign_in_cookie(&self) -> &'static str {
        if self.secure { "__Host-loki_signin_" } else { "loki_signin_" }
    }

    /// The secret in the session cookie, if it is there once and signed by us.
    pub(super) fn session_secret(&self, req: &HttpRequest) -> Option<String> {
        self.signed.secret(Client::of(req).cookies.session?.read(req.headers())?)
    }

    /// The digest of [`Self::session_secret`].
    pub(super) fn session_digest(&self, req: &HttpRequest) -> Option<[u8; 32]> {
        self.signed.digest(Client::of(req).cookies.session?.read(req.headers())?)
    }

    /// Whether a session cookie is there at all, good or not.
    pub(super) fn has_session_cookie(req: &HttpRequest) -> bool {
        Client::of(req).cookies.session.is_some()
    }

    /// The cookie that a sign-in of this label is bound to.
    pub(super) fn sign_in_secret(&self, req: &HttpRequest, label: &str) -> Option<String> {
        single(req.headers(), &format!("{}{label}", self.sign_in_cookie())).map(str::to_owned)
    }

    /// The cookie of a sign-in that begins.
    pub(super) fn new_sign_in_cookie(&self, label: &str, value: String) -> Cookie<'static> {
        Cookie::build(format!("{}{label}", self.sign_in_cookie()), value)
            .path("/")
            .http_only(true)
            .secure(self.secure)
            // The provider's redirect is a cross-site navigation: Strict would not be sent with it.
            .same_site(SameSite::Lax)
            .max_age(Duration::seconds(SIGN_IN_SECONDS))
            .finish()
    }

    /// Removals of sign-in cookies that this browser holds beyond the most that anybody needs.
    pub(super) fn surplus_sign_ins(&self, req: &HttpRequest) -> Vec<Cookie<'static>> {
        let labels = pairs(req.headers()).filter_map(|(name, _)| name.strip_prefix(self.sign_in_cookie().as_bytes()));
        let surplus = labels.filter_map(|label| std::str::from_utf8(label).ok()).skip(MOST_SIGN_INS);
        let removal = |label: &str| {
            let mut cookie = self.new_sign_in_cookie(label, String::new());
            cookie.make_removal();
            cookie
        };
        surplus.map(removal).collect()
    }

    /// Leaves only the cookies of ours that this reader accepts, for everybody who reads after us. Answers
    /// which of them may say who somebody is.
    pub(super) fn keep_own_cookies(&self, headers: &mut HeaderMap) -> Shown {
        keep(headers, self.session_cookie(), self.door_cookie_name(), self.sign_in_cookie())
    }
}

/// Leaves only the cookies of these two names and those of sign-ins, each there once, in one line.
fn keep(headers: &mut HeaderMap, session: &str, door: &str, sign_in: &str) -> Shown {
    let is_ours = |name: &str| name == session || name == door || is_sign_in(name, sign_in);
    let named = pairs(headers).filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)));
    let ours: Vec<(&str, &[u8])> = named.filter(|(name, _)| is_ours(name)).collect();
    let length = ours.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    let (mut shown, mut kept) = (Shown::default(), String::with_capacity(length));
    for (name, value) in ours.iter().take(64) {
        let is_there_twice = || ours.iter().filter(|(other, _)| other == name).count() > 1;
        let Some(value) = sound(value).filter(|_| !is_there_twice()) else { continue };
        let parts = [if kept.is_empty() { "" } else { "; " }, name, "=", value];
        parts.into_iter().for_each(|part| kept.push_str(part));
        let place = Place::between(kept.len() - value.len(), kept.len());
        if *name == session {
            shown.session = place;
        } else if *name == door {
            shown.door = place;
        }
    }
    let mut lines = headers.get_all(COOKIE);
    if let (Some(line), None) = (lines.next(), lines.next())
        && line.as_bytes() == kept.as_bytes()
    {
        return shown;
    }
    headers.remove(COOKIE);
    if let Ok(kept) = HeaderValue::from_maybe_shared(actix_web::web::Bytes::from(kept))
        && !kept.is_empty()
    {
        headers.insert(COOKIE, kept);
    }
    shown
}

/// A prefix of ours and eight characters of base64url.
fn is_sign_in(name: &str, prefix: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    name.strip_prefix(prefix).is_some_and(|label| label.len() == 8 && label.bytes().all(plain))
}

/// Every `name=value` pair of all `Cookie` headers, as the bytes stand there.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|b| *b == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|b| *b == b'=')?;
        Some((&pair[..at], &pair[at + 1..]))
    })
}

/// The value of the cookie of exactly this name; `None` when it is missing, there twice, or not ASCII.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut found = pairs(headers).filter(|(n, _)| *n == name.as_bytes());
    let (_, value) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    sound(value)
}

/// A value that a cookie of ours can have.
fn sound(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|v| v.is_ascii() && v.len() <= 4096)
}

#[cfg(test)]
mod tests {
    use actix_web::{cookie::CookieJar, test::TestRequest};
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&[u8]]) -> Option<String> {
        let mut req = TestRequest::default();
        for line in lines {
            req = req.append_header((COOKIE, HeaderValue::from_bytes(line).unwrap()));
        }
        let mut headers = req.to_http_request().headers().clone();
        let exact = single(&headers, "__Host-loki_session").map(str::to_owned);
        let shown = keep(&mut headers, "__Host-loki_session", "__Secure-loki_door", "__Host-loki_signin_");
        let kept = shown.session.and_then(|place| place.read(&headers)).map(str::to_owned);
        assert_eq!(kept, exact, "what is kept is what is there once under the exact name");
        assert_eq!(single(&headers, "__Host-loki_session").map(str::to_owned), exact, "for whoever reads after us too");
        kept
    }

    #[test]
    fn only_the_exact_name_counts_and_only_once() {
        assert_eq!(read(&[b"a=1; __Host-loki_session=x; b=2"]).as_deref(), Some("x"));
        for planted in [
            &b"__%48ost-loki_session=evil"[..],
            b"__host-loki_session=evil",
            b"\xe2\x80\x80__Host-loki_session=evil",
            b"\xc2\xa0__Host-loki_session=evil",
            b"__Host-loki_session =evil",
            b"__Host-loki_session=x; __Host-loki_session=y",
            b"__Host-loki_session=\xff",
            b"__Host-loki_session",
        ] {
            assert_eq!(read(&[planted]), None, "{}", String::from_utf8_lossy(planted));
        }
        assert_eq!(read(&[b"__Host-loki_session=x", b"__Host-loki_session=x"]), None);
        assert_eq!(read(&[b"junk=\xff; __Host-loki_session=x"]).as_deref(), Some("x"));
    }

    #[test]
    fn only_what_is_ours_and_there_once_is_left_in_one_line() {
        let left = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(line).unwrap());
            let shown = keep(&mut headers, "s", "d", "in_");
            let read = |place: Option<Place>| place.and_then(|p| p.read(&headers)).unwrap_or("-").to_owned();
            let line = headers.get(COOKIE).map_or("-", |line| line.to_str().unwrap()).to_owned();
            [line, read(shown.session), read(shown.door)].join(" | ")
        };
        assert_eq!(left("s=1"), "s=1 | 1 | -");
        assert_eq!(left("d=2; s=1"), "d=2; s=1 | 1 | 2");
        assert_eq!(left("app=x; s=1;d=2 ; in_12345678=3; in_1=4"), "s=1; d=2; in_12345678=3 | 1 | 2");
        assert_eq!(left("s=1; d=2; s=3"), "d=2 | - | 2");
        assert_eq!(left("s=; in_12345678=1; in_12345678=1"), "s= |  | -");
        assert_eq!(left("app=x"), "- | - | -");
        assert_eq!(left(&format!("s={}; d=2", "x".repeat(4097))), "d=2 | - | 2");
    }

    /// A secret as `actix-session` writes it into a cookie.
    fn written(key: &Key, secret: &str) -> String {
        let mut jar = CookieJar::new();
        jar.signed_mut(key).add(Cookie::new("s", secret.to_owned()));
        jar.get("s").unwrap().encoded().to_string().strip_prefix("s=").unwrap().to_owned()
    }

    #[test]
    fn what_actix_session_signs_is_read_and_nothing_that_differs_from_it() {
        let (key, other) = (Key::from(&[7; 64]), Key::from(&[8; 64]));
        let (reader, secret) = (Signed::by(&key), "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE");
        let good = written(&key, secret);
        assert_eq!(reader.secret(&good).as_deref(), Some(secret));
        assert_eq!((reader.digest(&good), reader.digest(&good)), (Some(digest_of(secret)), Some(digest_of(secret))));
        assert_eq!(reader.secret(&good.replace("%3D", "=")).as_deref(), Some(secret));
        assert_eq!(Signed::by(&other).secret(&good), None, "another key's");
        assert_eq!(reader.secret(&written(&key, &secret[1..])), None, "too short to be a secret of ours");
        assert_eq!(reader.secret(&written(&key, &format!("{secret}x"))), None, "too long");
        for at in 0..good.len() {
            for letter in ["A", "%", "~", "", "%00", "\u{7f}"] {
                let changed = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
                let is_refused = reader.secret(&changed).is_none() && reader.digest(&changed).is_none();
                assert!(changed == good || is_refused, "{changed}");
            }
        }
        for wrong in ["", "%", "%3", &good[1..], &format!("\"{good}\""), &format!("{good}%"), &secret.repeat(2)] {
            assert_eq!(reader.secret(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(bytes in proptest::collection::vec(0x20u8..0xff, 0..120)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let req = TestRequest::default().insert_header((COOKIE, value)).to_http_request();
                let _ = single(req.headers(), "loki_session");
            }
        }
    }
}
