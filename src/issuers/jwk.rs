//! Public keys of an issuer (RFC 7517), filtered: what is too weak or not for signatures never reaches a verifier. Each
//! is parsed once, so that a verification costs a verification and nothing else.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm};
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

/// More keys than any issuer has; the rest is ignored.
pub const MOST: usize = 64;
/// Keys that are tried for a token that does not say which one signed it.
const TRIED: usize = 4;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037): public keys only, and none of them optional to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const EVERY: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The exact name, as `alg` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this exact name.
    pub fn named(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key, ready to verify with.
struct Key {
    kid: Option<String>,
    /// For each algorithm that goes with its type (and with its `alg`, where it names one).
    ready: Vec<(Algorithm, ParsedPublicKey)>,
}

/// The usable keys of an issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: usize,
}

impl KeySet {
    /// The usable keys of a JWKS document; `None` when it is not one. Of two keys with one kid and type the first
    /// counts: a token could not say which it means.
    pub fn read(document: &Value) -> Option<Self> {
        let listed = document.get("keys")?.as_array()?;
        let mut set = Self { keys: Vec::new(), left_out: listed.len().saturating_sub(MOST) };
        for value in listed.iter().take(MOST) {
            match Key::read(value).filter(|key| !set.has(key)) {
                Some(key) => set.keys.push(key),
                None => set.left_out += 1,
            }
        }
        Some(set)
    }

    fn has(&self, new: &Key) -> bool {
        let same = |known: &&Key| known.kid.is_some() && known.kid == new.kid;
        self.keys.iter().filter(same).any(|known| known.ready.iter().any(|(alg, _)| new.key_for(*alg).is_some()))
    }

    /// Whether nothing can be verified with it.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys can be used.
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many were left out: too weak, for something else, of another type, or one too many.
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// The names of the keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid.as_deref())
    }

    /// Whether a key has this name.
    pub fn names(&self, kid: &str) -> bool {
        self.kids().any(|known| known == kid)
    }

    /// Checks a signature with the key of this name, or with those that have none; a token that names no key may have
    /// been signed by any of the right type.
    ///
    /// # Errors
    /// [`NotVerified`] says whether another key set may help.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        let named = kid.is_some_and(|kid| self.names(kid));
        let may_be = |key: &&Key| match (kid, &key.kid) {
            (Some(kid), Some(known)) => kid == known,
            (Some(_), None) => !named,
            (None, _) => true,
        };
        let mut fits = self.keys.iter().filter(may_be).filter_map(|key| key.key_for(algorithm)).take(TRIED).peekable();
        if fits.peek().is_none() {
            return Err(if named { NotVerified::WrongType } else { NotVerified::UnknownKey });
        }
        if fits.any(|key| key.verify_sig(message, signature).is_ok()) {
            return Ok(());
        }
        Err(if kid.is_none() || named { NotVerified::Signature } else { NotVerified::UnknownKey })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kids()).finish()
    }
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotVerified {
    /// No key of this name; a newer set may have it.
    UnknownKey,
    /// The key of this name is not for this algorithm.
    WrongType,
    /// The signature is not that of the key.
    Signature,
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        if !is_usable(value) {
            return None;
        }
        let kid = match value.get("kid") {
            None => None,
            Some(Value::String(kid)) if (1..=256).contains(&kid.len()) => Some(kid.clone()),
            Some(_) => return None,
        };
        let only = value.get("alg").map(|alg| alg.as_str().and_then(Algorithm::named));
        let for_algorithm = |algorithm: Algorithm| Some((algorithm, parse(value, algorithm)?));
        let named = Algorithm::EVERY.into_iter().filter(|algorithm| only.is_none_or(|only| only == Some(*algorithm)));
        let ready: Vec<_> = named.filter_map(for_algorithm).collect();
        (!ready.is_empty()).then_some(Self { kid, ready })
    }

    fn key_for(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.ready.iter().find(|(known, _)| *known == algorithm).map(|(_, key)| key)
    }
}

fn bytes(value: &Value, member: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(value.get(member)?.as_str()?.as_bytes()).ok()
}

/// The key for one algorithm, if its type is that of the algorithm.
fn parse(value: &Value, algorithm: Algorithm) -> Option<ParsedPublicKey> {
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    let (curve, length): (&'static dyn VerificationAlgorithm, usize) =
        match (text("kty")?, text("crv"), algorithm, algorithm.rsa()) {
            ("RSA", _, _, Some(parameters)) => {
                let (n, e) = (bytes(value, "n")?, bytes(value, "e")?);
                return RsaPublicKeyComponents { n: stripped(&n), e: stripped(&e) }
                    .to_parsed_public_key(parameters)
                    .ok();
            }
            ("EC", Some("P-256"), Algorithm::Es256, _) => (&signature::ECDSA_P256_SHA256_FIXED, 32),
            ("EC", Some("P-384"), Algorithm::Es384, _) => (&signature::ECDSA_P384_SHA384_FIXED, 48),
            ("OKP", Some("Ed25519"), Algorithm::EdDsa, _) => (&signature::ED25519, 32),
            _ => return None,
        };
    let x = bytes(value, "x").filter(|x| x.len() == length)?;
    let public = match text("kty")? {
        // 0x04, then both coordinates in full length (RFC 7518 §6.2.1.2).
        "EC" => {
            let y = bytes(value, "y").filter(|y| y.len() == length)?;
            [&[4], &x[..], &y[..]].concat()
        }
        _ => x,
    };
    ParsedPublicKey::new(curve, public).ok()
}

/// Without zeros in front, which some issuers write.
fn stripped(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    &number[zeros..]
}

/// For signatures, of a known type, and strong enough.
pub fn is_usable(key: &Value) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let number = |name: &str| bytes(key, name).map(|number| stripped(&number).to_vec());
    let for_signatures = key.get("use").is_none_or(|u| u == "sig")
        && match key.get("key_ops") {
            None => true,
            Some(Value::Array(ops)) => ops.iter().any(|op| op == "verify"),
            Some(_) => false,
        };
    let strong = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            // An even exponent, or 1, would let anybody sign.
            let sound = |e: &Vec<u8>| e.len() <= 8 && e.last().is_some_and(|last| last % 2 == 1) && e[..] != [1];
            number("n").is_some_and(|n| (256..=1024).contains(&n.len())) && number("e").as_ref().is_some_and(sound)
        }
        (Some("EC"), Some("P-256" | "P-384")) | (Some("OKP"), Some("Ed25519")) => true,
        _ => false,
    };
    // A published private key is nobody's proof.
    for_signatures && strong && key.get("d").is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&vec![0xff; bytes]), "e": "AQAB", "kid": "a"})
    }

    #[test]
    fn weak_foreign_and_private_keys_are_left_out() {
        let with = |name: &str, value: Value| {
            let mut key = rsa(256);
            key[name] = value;
            key
        };
        assert!(is_usable(&rsa(256)) && is_usable(&with("use", json!("sig"))));
        assert!(is_usable(&with("key_ops", json!(["verify"]))));
        for bad in [
            rsa(128),
            with("n", json!(BASE64URL_NOPAD.encode(&[vec![0; 128], vec![0xff; 128]].concat()))),
            with("e", json!("AQ")),
            with("e", json!("Ag")),
            with("use", json!("enc")),
            with("use", json!(["sig"])),
            with("key_ops", json!(["encrypt"])),
            with("d", json!("AQ")),
        ] {
            assert!(!is_usable(&bad), "{bad}");
        }
        assert!(!is_usable(&json!({"kty": "oct", "k": "AAAA"})));
        assert!(KeySet::read(&json!({"keys": {}})).is_none());
    }
}
