//! API tokens: what a secret looks like, what may name one, how long it lives.
//!
//! A secret is `loki_` + 43 characters (32 random bytes, base64url) + `_` + 6 characters (CRC-32 of
//! what stands before, base62), so that a scanner and the server reject a typo without a look-up.
//! A [`TokenSecret`] and its [`TokenDigest`] are different types and neither is shown by `Debug`.

use std::{fmt, str::FromStr, time::Duration};

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{id::public_id, scope::ScopeSet, time::Moment};

public_id!(
    /// The public name of a token: `tok-` and 12 characters, unrelated to the secret.
    TokenId,
    "tok-"
);

const PREFIX: &str = "loki_";
const BODY: usize = 43;
const SECRET_LENGTH: usize = PREFIX.len() + BODY + 1 + 6;

/// What the holder of a token presents. Wiped when dropped.
pub struct TokenSecret(Zeroizing<String>);

/// SHA-256 of a secret: what is stored and looked up.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest([u8; 32]);

/// The text has not the form of a token, or its checksum is off.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum NotAToken {
    /// It does not look like one of ours.
    #[error("a lokid token is loki_ followed by 50 characters")]
    Shape,
    /// It looks like one, but a character is wrong or missing.
    #[error("the token's checksum does not fit: a character was lost or changed in copying")]
    Checksum,
}

impl TokenSecret {
    /// A new secret from 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        let mut text = String::with_capacity(SECRET_LENGTH);
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&random, &mut text);
        let check = checksum(&text);
        text.push('_');
        text.extend(check.iter().map(|b| char::from(*b)));
        Self(Zeroizing::new(text))
    }

    /// The text to hand to its holder, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What to store.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

impl TokenDigest {
    /// The digest of a presented text, if it has a token's form and checksum. Copies nothing.
    ///
    /// # Errors
    /// [`NotAToken`] says whether the form or the checksum is off.
    pub fn of_presented(text: &str) -> Result<Self, NotAToken> {
        let bytes = text.as_bytes();
        if bytes.len() != SECRET_LENGTH || !text.starts_with(PREFIX) || bytes[PREFIX.len() + BODY] != b'_' {
            return Err(NotAToken::Shape);
        }
        let (signed, check) = (&text[..PREFIX.len() + BODY], &bytes[PREFIX.len() + BODY + 1..]);
        let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !signed.bytes().all(alphabet) {
            return Err(NotAToken::Shape);
        }
        if checksum(signed) != check {
            return Err(NotAToken::Checksum);
        }
        Ok(Self::of(bytes))
    }

    /// The digest as stored.
    pub const fn from_stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// In constant time.
impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Written out because equality is.
impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

fn checksum(text: &str) -> [u8; 6] {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    out
}

/// What people call a token: 1–64 printable characters, no white space at the ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct TokenName(String);

/// The text cannot name a token.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum NotATokenName {
    /// Empty or too long.
    #[error("must have 1 to 64 characters")]
    Length,
    /// Holds a character that a page or a terminal could trip over.
    #[error("may hold letters, digits, spaces and . _ - / : @ + #, and begins with a letter or digit")]
    Character,
    /// Would be taken for a public id.
    #[error("may not begin with tok-, which is how ids begin")]
    LooksLikeAnId,
}

impl FromStr for TokenName {
    type Err = NotATokenName;

    fn from_str(text: &str) -> Result<Self, NotATokenName> {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-' | '/' | ':' | '@' | '+' | '#');
        match text.chars().count() {
            1..=64 if text.starts_with("tok-") => Err(NotATokenName::LooksLikeAnId),
            1..=64 if text.starts_with(char::is_alphanumeric) && !text.ends_with(' ') && text.chars().all(fits) => {
                Ok(Self(text.to_owned()))
            }
            1..=64 => Err(NotATokenName::Character),
            _ => Err(NotATokenName::Length),
        }
    }
}

impl TokenName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a token lives, in whole days: 1 to the configured maximum, or for ever where allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(Option<u32>);

/// What the configuration says about lifetimes.
#[derive(Debug, Clone, Copy)]
pub struct LifetimeRule {
    /// Days when the caller names none; `None` means a token does not expire.
    pub default_days: Option<u32>,
    /// The longest that may be asked for; `None` means no limit.
    pub max_days: Option<u32>,
}

/// The asked-for life is outside the rule.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("expected a whole number of days from 1 to {max_days}")]
pub struct LifetimeRefused {
    /// The longest life that is allowed.
    pub max_days: u32,
}

/// A hundred years: the longest life that is not "for ever".
const MOST_DAYS: u32 = 36_500;

impl LifetimeRule {
    /// The life of a token for which `days` were asked.
    ///
    /// # Errors
    /// When the days are zero or more than the rule allows.
    pub fn grant(self, days: Option<u32>) -> Result<Lifetime, LifetimeRefused> {
        let max_days = self.max_days.unwrap_or(MOST_DAYS);
        match days {
            None => Ok(Lifetime(self.default_days.map(|d| d.min(max_days)).or(self.max_days))),
            Some(days) if (1..=max_days).contains(&days) => Ok(Lifetime(Some(days))),
            Some(_) => Err(LifetimeRefused { max_days }),
        }
    }
}

impl Lifetime {
    /// When a token that is made now ends.
    pub fn ends(self, now: Moment) -> Option<Moment> {
        self.0.map(|days| now.plus(Duration::from_secs(u64::from(days) * 86_400)))
    }
}

/// A token as it is stored and listed. Never holds the secret.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// What its owner calls it.
    pub name: TokenName,
    /// Who it belongs to: a person's id, a token's id, or `local` for the machine's own command line.
    pub owner: String,
    /// What to call the owner when showing it.
    pub owner_name: String,
    /// What it grants.
    pub scopes: ScopeSet,
    /// The role by which it was asked for, if it was.
    pub role: Option<String>,
    /// When it was made.
    pub created_at: Moment,
    /// When it ends; `None`: it does not.
    pub expires_at: Option<Moment>,
    /// When it was revoked.
    pub revoked_at: Option<Moment>,
    /// The token that took its place.
    pub replaced_by: Option<TokenId>,
    /// When it was last used, to within the writing interval.
    pub last_used_at: Option<Moment>,
    /// From where it was last used.
    pub last_used_from: Option<String>,
    /// The scopes that its requests have needed, to within the writing interval.
    pub used_scopes: ScopeSet,
    /// Since when that is noted.
    pub watched_since: Moment,
}

/// Whether a token can be used, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used.
    Active,
    /// It can still be used, but another has taken its place.
    Replaced,
    /// Its time is over since then.
    Expired(Moment),
    /// Somebody revoked it then.
    Revoked(Moment),
}

impl Token {
    /// Its state at a moment.
    pub fn state(&self, now: Moment) -> TokenState {
        match (self.revoked_at, self.expires_at) {
            (Some(at), _) => TokenState::Revoked(at),
            (None, Some(at)) if at <= now => TokenState::Expired(at),
            _ if self.replaced_by.is_some() => TokenState::Replaced,
            _ => TokenState::Active,
        }
    }

    /// Whether it can be used at a moment.
    pub fn is_live(&self, now: Moment) -> bool {
        matches!(self.state(now), TokenState::Active | TokenState::Replaced)
    }
}

impl TokenState {
    /// One word, for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Replaced => "replaced",
            Self::Expired(_) => "expired",
            Self::Revoked(_) => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_has_the_promised_form_and_does_not_show_itself() {
        let secret = TokenSecret::from_random([7; 32]);
        assert_eq!(secret.reveal().len(), 55);
        assert!(secret.reveal().starts_with("loki_"));
        assert_eq!(TokenDigest::of_presented(secret.reveal()), Ok(secret.digest()));
        assert_eq!(format!("{secret:?} {:?}", secret.digest()), "TokenSecret(…) TokenDigest(…)");
    }

    proptest! {
        #[test]
        fn one_changed_character_is_always_noticed(random: [u8; 32], at in 5usize..48, to in "[A-Za-z0-9_-]") {
            let secret = TokenSecret::from_random(random);
            let mut typo = secret.reveal().to_owned();
            typo.replace_range(at..=at, &to);
            prop_assert_eq!(TokenDigest::of_presented(&typo).is_ok(), typo == secret.reveal());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = TokenDigest::of_presented(&text);
            let _ = text.parse::<TokenName>();
        }
    }

    #[test]
    fn names_are_plain_and_never_look_like_ids() {
        assert!("ci bot/main@1.2".parse::<TokenName>().is_ok());
        assert_eq!("".parse::<TokenName>(), Err(NotATokenName::Length));
        assert_eq!("x".repeat(65).parse::<TokenName>(), Err(NotATokenName::Length));
        assert_eq!("tok-abc".parse::<TokenName>(), Err(NotATokenName::LooksLikeAnId));
        for wrong in ["=cmd", "-x", "a\nb", "a\u{1b}[0m", "<b>", " a", "a ", "a\u{202e}b"] {
            assert_eq!(wrong.parse::<TokenName>(), Err(NotATokenName::Character), "{wrong:?}");
        }
    }

    #[test]
    fn a_lifetime_stays_within_the_rule() {
        let rule = LifetimeRule { default_days: Some(90), max_days: Some(365) };
        assert_eq!(rule.grant(None), Ok(Lifetime(Some(90))));
        assert_eq!(rule.grant(Some(365)), Ok(Lifetime(Some(365))));
        assert_eq!(rule.grant(Some(366)), Err(LifetimeRefused { max_days: 365 }));
        assert_eq!(rule.grant(Some(0)), Err(LifetimeRefused { max_days: 365 }));
        let open = LifetimeRule { default_days: None, max_days: None };
        assert_eq!(open.grant(None).unwrap().ends(Moment::from_millis(0)), None);
    }
}
