//! A ring of keys, sealed so that only holders of the bootstrap token can read it or make one.
//!
//! AES-256-GCM under a key that HKDF-SHA-256 (RFC 5869) derives from the token with a random salt. Authenticated with
//! it: this format's version, the bucket, the key in it, the ring's name and its revision. So a value that was put in another
//! place, or given another number, does not open.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::entropy::Entropy;

const VERSION: u8 = 1;
const PURPOSE: &[u8] = b"lokid cluster ring v1";
/// The longest envelope that is read. Forty RSA keys are shorter.
pub const LONGEST: usize = 128 * 1024;

/// What is carried.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    /// Grows by one with each change.
    pub revision: u64,
    /// The name of the key that signs.
    pub kid: String,
    /// The keys.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} {})", self.revision, self.kid)
    }
}

/// Where a ring is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The key in it.
    pub key: String,
}

/// As stored. Nothing in it is secret but what is sealed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u8,
    revision: u64,
    kid: String,
    /// Which bootstrap token sealed it ([`Token::fingerprint`]).
    token: String,
    salt: String,
    nonce: String,
    sealed: String,
}

#[derive(Deserialize)]
struct Versioned {
    version: u8,
}

/// A value is no ring that this node can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Not what lokid writes.
    #[error("it is not a ring that lokid sealed")]
    Shape,
    /// Another version's.
    #[error("it is of version {0}; this lokid reads version {VERSION}")]
    Version(u8),
    /// Another token.
    #[error("it was sealed under the bootstrap token {theirs}; this node has {ours}")]
    Token {
        /// Fingerprint of the token that sealed it.
        theirs: String,
        /// Fingerprints of this node's.
        ours: String,
    },
    /// The right token, and yet it does not open.
    #[error("it does not open: it was changed, or comes from another bucket or key")]
    Changed,
}

/// A bootstrap token: at least 128 bits that nobody can guess.
pub struct Token {
    secret: Zeroizing<Vec<u8>>,
    fingerprint: String,
}

impl Token {
    /// Of its bytes.
    pub fn new(secret: &[u8]) -> Self {
        let mut print = [0; 4];
        derive(&Salt::new(HKDF_SHA256, b"lokid bootstrap token v1").extract(secret), b"fingerprint", &mut print);
        Self { secret: Zeroizing::new(secret.to_vec()), fingerprint: HEXLOWER.encode(&print) }
    }

    /// Eight digits that name it and help nobody to find it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn key(&self, salt: &[u8]) -> LessSafeKey {
        let mut bytes = Zeroizing::new([0; 32]);
        derive(&Salt::new(HKDF_SHA256, salt).extract(&self.secret), PURPOSE, &mut bytes[..]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes[..]).expect("32 bytes are an AES-256 key"))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.fingerprint)
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(prk: &Prk, label: &[u8], out: &mut [u8]) {
    let info = [label];
    let okm = prk.expand(&info, Length(out.len())).expect("HKDF gives 8160 bytes");
    okm.fill(out).expect("the length was asked for");
}

/// What is authenticated beside the body. None of the parts holds a zero byte.
fn bound_to(place: &Place, kid: &str, revision: u64) -> Aad<Vec<u8>> {
    let revision = revision.to_string();
    Aad::from([PURPOSE, place.bucket.as_bytes(), place.key.as_bytes(), kid.as_bytes(), revision.as_bytes()].join(&0))
}

/// Seals a ring for its place.
///
/// # Panics
/// When the crypto provider refuses, or the operating system gives no randomness.
pub fn seal(ring: &Ring, place: &Place, token: &Token, entropy: Entropy) -> Vec<u8> {
    let (salt, nonce): ([u8; 32], [u8; NONCE_LEN]) = (entropy.bytes(), entropy.bytes());
    let mut body = ring.body.to_vec();
    let aad = bound_to(place, &ring.kid, ring.revision);
    let sealed = token.key(&salt).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body);
    sealed.expect("a short text can be sealed");
    let envelope = Envelope {
        version: VERSION,
        revision: ring.revision,
        kid: ring.kid.clone(),
        token: token.fingerprint.clone(),
        salt: BASE64.encode(&salt),
        nonce: BASE64.encode(&nonce),
        sealed: BASE64.encode(&body),
    };
    serde_json::to_vec(&envelope).expect("an envelope is JSON")
}

/// Opens a sealed ring with the token that sealed it.
///
/// # Errors
/// [`Unopened`].
pub fn open(sealed: &[u8], place: &Place, tokens: &[Token]) -> Result<Ring, Unopened> {
    if sealed.len() > LONGEST {
        return Err(Unopened::Shape);
    }
    // First: what the next version writes beside its number is its own affair.
    let Versioned { version } = serde_json::from_slice(sealed).map_err(|_| Unopened::Shape)?;
    if version != VERSION {
        return Err(Unopened::Version(version));
    }
    let envelope: Envelope = serde_json::from_slice(sealed).map_err(|_| Unopened::Shape)?;
    let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| Unopened::Shape);
    let (salt, nonce, body) = (bytes(&envelope.salt)?, bytes(&envelope.nonce)?, bytes(&envelope.sealed)?);
    let Some(token) = tokens.iter().find(|token| token.fingerprint == envelope.token) else {
        let ours: Vec<_> = tokens.iter().map(Token::fingerprint).collect();
        return Err(Unopened::Token { theirs: shown(&envelope.token), ours: ours.join(" and ") });
    };
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| Unopened::Shape)?;
    let mut body = Zeroizing::new(body);
    let aad = bound_to(place, &envelope.kid, envelope.revision);
    let length = token.key(&salt).open_in_place(nonce, aad, &mut body).map_err(|_| Unopened::Changed)?.len();
    body.truncate(length);
    Ok(Ring { revision: envelope.revision, kid: envelope.kid, body })
}

/// The fingerprint of the token that sealed a ring, as it says of itself; `None` where nothing does.
pub fn sealed_under(sealed: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(sealed).ok()?;
    Some(shown(&envelope.token))
}

/// A fingerprint that a stranger may have written, fit to be shown.
fn shown(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bucket: &str, key: &str) -> Place {
        Place { bucket: bucket.into(), key: key.into() }
    }

    fn ring(revision: u64) -> Ring {
        Ring { revision, kid: "k1".into(), body: Zeroizing::new(b"-----BEGIN PRIVATE KEY-----".to_vec()) }
    }

    #[test]
    fn a_ring_opens_with_its_token_in_its_place_and_nowhere_else() {
        let (home, token) = (place("b", "k"), Token::new(&[1; 32]));
        let sealed = seal(&ring(7), &home, &token, Entropy);
        assert!(!String::from_utf8_lossy(&sealed).contains("PRIVATE"));
        assert_eq!(sealed_under(&sealed).as_deref(), Some(token.fingerprint()));
        let both = [Token::new(&[2; 32]), Token::new(&[1; 32])];
        assert_eq!(open(&sealed, &home, &both), Ok(ring(7)));
        let wrong = open(&sealed, &home, &both[..1]).unwrap_err().to_string();
        assert!(wrong.contains(token.fingerprint()) && wrong.contains(both[0].fingerprint()), "{wrong}");
        for elsewhere in [place("c", "k"), place("b", "l"), place("b\0k", "")] {
            assert_eq!(open(&sealed, &elsewhere, &both), Err(Unopened::Changed));
        }
        assert_ne!(sealed, seal(&ring(7), &home, &token, Entropy), "salt and nonce are new each time");
    }

    #[test]
    fn a_ring_of_which_anything_was_changed_does_not_open() {
        let (home, tokens) = (place("b", "k"), [Token::new(&[1; 32])]);
        let sealed = seal(&ring(7), &home, &tokens[0], Entropy);
        let changed = |field: &str, value: serde_json::Value| {
            let mut envelope: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
            assert!(envelope.get(field).is_some());
            envelope[field] = value;
            open(envelope.to_string().as_bytes(), &home, &tokens)
        };
        assert_eq!(changed("revision", 7.into()), Ok(ring(7)));
        assert_eq!(changed("revision", 8.into()), Err(Unopened::Changed));
        assert_eq!(changed("kid", "k2".into()), Err(Unopened::Changed));
        assert_eq!(changed("salt", BASE64.encode(&[0; 32]).into()), Err(Unopened::Changed));
        assert_eq!(changed("nonce", BASE64.encode(&[0; 12]).into()), Err(Unopened::Changed));
        assert_eq!(changed("nonce", "".into()), Err(Unopened::Shape));
        assert_eq!(changed("sealed", BASE64.encode(&[0; 60]).into()), Err(Unopened::Changed));
        assert_eq!(changed("sealed", "".into()), Err(Unopened::Changed));
        assert_eq!(changed("version", 2.into()), Err(Unopened::Version(2)));
        let open = |text: &str| open(text.as_bytes(), &home, &tokens);
        assert_eq!(open(r#"{"version": 2, "kdf": "another"}"#), Err(Unopened::Version(2)));
        assert_eq!(open(r#"{"version": 1, "kdf": "another"}"#), Err(Unopened::Shape));
        assert!(matches!(changed("token", "00000000".into()), Err(Unopened::Token { .. })));
        for nonsense in [String::new(), "{}".into(), "-----BEGIN".into(), " ".repeat(LONGEST + 1)] {
            assert_eq!(open(&nonsense), Err(Unopened::Shape));
        }
    }
}
