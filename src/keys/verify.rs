//! Public keys, and what they say of a signature. A key's name is its thumbprint, so whoever knows the name
//! knows the key, wherever it was kept.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::sign::{SigningKey, thumbprint};

/// A public key that verifies signatures.
#[derive(Clone)]
pub struct PublicKey {
    key: DecodingKey,
    alg: Algorithm,
    jwk: Value,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?})", self.alg)
    }
}

/// Public keys by their names.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(HashMap<String, PublicKey>);

/// A text is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a JWK Set with a public key for RS256, ES256, ES384 or EdDSA, as lokid enterprise audit keys prints it"
)]
pub struct NoKeySet;

/// What is to be said of a signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed<T> {
    /// The key of this name signed it.
    By(String, T),
    /// A key signed it that is not here.
    Unknown(String),
    /// Nobody's signature, or another kind of statement.
    Bad,
}

impl PublicKeys {
    /// The public halves of our own keys.
    pub fn of<'k>(keys: impl IntoIterator<Item = &'k SigningKey>) -> Self {
        let mut all = Self::default();
        keys.into_iter().for_each(|key| drop(all.add(&key.jwk())));
        all
    }

    /// The keys of a JWK Set (RFC 7517 §5). Those of other types are passed over.
    ///
    /// # Errors
    /// When it is none, or holds no key that we could have signed with.
    pub fn read(text: &str) -> Result<Self, NoKeySet> {
        let set: Value = serde_json::from_str(text).map_err(|_| NoKeySet)?;
        let mut all = Self::default();
        set.get("keys").and_then(Value::as_array).ok_or(NoKeySet)?.iter().for_each(|jwk| drop(all.add(jwk)));
        if all.0.is_empty() { Err(NoKeySet) } else { Ok(all) }
    }

    /// Adds the key of a JWK under its thumbprint, which it answers; `None` for one that we could not have signed with.
    pub fn add(&mut self, jwk: &Value) -> Option<String> {
        let kid = thumbprint(jwk)?;
        let alg = match (jwk.get("kty")?.as_str()?, jwk.get("crv").and_then(Value::as_str)) {
            ("RSA", _) => Algorithm::RS256,
            ("EC", Some("P-256")) => Algorithm::ES256,
            ("EC", Some("P-384")) => Algorithm::ES384,
            ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).ok()?).ok()?;
        self.0.insert(kid.clone(), PublicKey { key, alg, jwk: jwk.clone() });
        Some(kid)
    }

    /// Adds those of another set.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Those of these names.
    #[must_use]
    pub fn only(mut self, names: &[String]) -> Self {
        self.0.retain(|kid, _| names.contains(kid));
        self
    }

    /// Whether a key is here.
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// As a JWK Set, sorted by name.
    pub fn jwks(&self) -> Value {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(kid, _)| *kid);
        serde_json::json!({"keys": all.into_iter().map(|(_, key)| &key.jwk).collect::<Vec<_>>()})
    }

    /// Checks a compact JWS of this `typ`, and reads what it says. The key decides the algorithm, never the header.
    pub fn check<T: DeserializeOwned>(&self, typ: &str, jws: &str) -> Signed<T> {
        let Ok(header) = jsonwebtoken::decode_header(jws) else { return Signed::Bad };
        let Some(kid) = header.kid.filter(|_| header.typ.as_deref() == Some(typ)) else { return Signed::Bad };
        let Some(key) = self.0.get(&kid) else { return Signed::Unknown(kid) };
        let Some((message, signature)) = jws.rsplit_once('.') else { return Signed::Bad };
        if header.alg != key.alg
            || !jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, key.alg).unwrap_or(false)
        {
            return Signed::Bad;
        }
        let claims = message.split_once('.').and_then(|(_, body)| {
            let body = data_encoding::BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
            serde_json::from_slice(&body).ok()
        });
        claims.map_or(Signed::Bad, |claims| Signed::By(kid, claims))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signature_is_believed_of_the_right_key_kind_and_text_only() {
        let (ours, theirs) = (SigningKey::generate(), SigningKey::generate());
        let keys = PublicKeys::read(&json!({"keys": [ours.jwk(), {"kty": "oct", "k": "AA"}]}).to_string()).unwrap();
        let says = json!({"seq": 7});
        let jws = ours.sign("a+jwt", &says);
        let good = Signed::By(ours.kid().to_owned(), says.clone());
        assert_eq!(keys.check::<Value>("a+jwt", &jws), good);
        assert_eq!(keys.check::<Value>("b+jwt", &jws), Signed::Bad);
        assert_eq!(keys.check::<Value>("a+jwt", &theirs.sign("a+jwt", &says)), Signed::Unknown(theirs.kid().into()));
        let parts: Vec<&str> = jws.split('.').collect();
        let other = data_encoding::BASE64URL_NOPAD.encode(br#"{"seq":8}"#);
        assert_eq!(keys.check::<Value>("a+jwt", &format!("{}.{other}.{}", parts[0], parts[2])), Signed::Bad);
        for wrong in ["", "a.b.c", &jws[..jws.len() - 2], &format!("{jws}x")] {
            assert_eq!(keys.check::<Value>("a+jwt", wrong), Signed::Bad, "{wrong}");
        }
        assert_eq!(PublicKeys::read(&keys.jwks().to_string()).unwrap().names(), [ours.kid()]);
    }

    #[test]
    fn a_key_goes_by_its_thumbprint_whatever_it_calls_itself() {
        let (ours, theirs) = (SigningKey::generate(), SigningKey::generate());
        let mut forged = theirs.jwk();
        forged["kid"] = ours.kid().into();
        let keys = PublicKeys::read(&json!({"keys": [forged]}).to_string()).unwrap();
        assert_eq!(keys.names(), [theirs.kid()]);
        for nothing in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#] {
            assert_eq!(PublicKeys::read(nothing).unwrap_err(), NoKeySet);
        }
    }
}
