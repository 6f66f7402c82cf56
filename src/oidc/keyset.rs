//! A provider's public keys, filtered: what is too weak or not for signatures never reaches a verifier.

use data_encoding::BASE64URL_NOPAD;
use openidconnect::core::CoreJsonWebKey;
use serde_json::Value;

use crate::issuers::jwk::{MOST, is_usable};

/// The usable keys of a provider, each in the two forms that verifiers want.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    kind: String,
    for_id_tokens: CoreJsonWebKey,
    for_logout: jsonwebtoken::jwk::Jwk,
}

impl KeySet {
    /// The usable keys of a JWKS document; `None` when it is not one.
    pub(super) fn read(document: &Value) -> Option<Self> {
        let listed = document.get("keys")?.as_array()?;
        let keys = listed.iter().take(MOST).filter(|key| is_usable(key)).filter_map(|value| {
            Some(Key {
                kid: value.get("kid").and_then(Value::as_str).map(str::to_owned),
                kind: value.get("kty")?.as_str()?.to_owned(),
                for_id_tokens: serde_json::from_value(value.clone()).ok()?,
                for_logout: serde_json::from_value(value.clone()).ok()?,
            })
        });
        Some(Self { keys: keys.collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have signed a token with this header: of the type that the algorithm needs, and
    /// of the same kid, where both name one.
    fn candidates(&self, header: &Header) -> impl Iterator<Item = &Key> {
        let kind = match header.alg.as_str() {
            "RS256" | "RS384" | "RS512" | "PS256" => "RSA",
            "ES256" | "ES384" => "EC",
            "EdDSA" => "OKP",
            _ => "",
        };
        let fits = move |key: &&Key| {
            let same = header.kid.is_none() || key.kid.is_none() || header.kid == key.kid;
            key.kind == kind && same
        };
        self.keys.iter().filter(fits).take(8)
    }

    pub(super) fn for_id_token(&self, header: &Header) -> Vec<CoreJsonWebKey> {
        self.candidates(header).filter_map(|key| key.named_as(header)).collect()
    }

    pub(super) fn for_logout(&self, header: &Header) -> Vec<jsonwebtoken::jwk::Jwk> {
        self.candidates(header).map(|key| key.for_logout.clone()).collect()
    }
}

impl Key {
    /// `openidconnect` passes over a key without kid when the token names one, so the key takes its name.
    fn named_as(&self, header: &Header) -> Option<CoreJsonWebKey> {
        match (&self.kid, &header.kid) {
            (None, Some(kid)) => {
                let mut key = serde_json::to_value(&self.for_id_tokens).ok()?;
                key["kid"] = kid.clone().into();
                serde_json::from_value(key).ok()
            }
            _ => Some(self.for_id_tokens.clone()),
        }
    }
}

/// The part of a JOSE header that decides which key is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
}

impl Header {
    /// Reads the header of a compact JWS; refuses what no provider of ours may send.
    pub(super) fn read(jwt: &str) -> Result<Self, &'static str> {
        if jwt.len() > 128 * 1024 {
            return Err("the token is too long");
        }
        let mut parts = jwt.split('.');
        let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("a token has three parts");
        };
        let head = BASE64URL_NOPAD.decode(head.as_bytes()).map_err(|_| "the header is not base64url")?;
        let head: Value = serde_json::from_slice(&head).map_err(|_| "the header is not JSON")?;
        if head.get("crit").is_some() {
            return Err("the header has critical extensions, which are not understood");
        }
        let text = |name: &str| head.get(name).and_then(Value::as_str).map(str::to_owned);
        let alg = text("alg").ok_or("the header names no algorithm")?;
        if !ALGORITHMS.contains(&alg.as_str()) {
            return Err("the algorithm is not one of RS256, RS384, RS512, PS256, ES256, ES384, EdDSA");
        }
        Ok(Self { alg, kid: text("kid"), typ: text("typ") })
    }
}

const ALGORITHMS: [&str; 7] = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&vec![0xff; bytes]), "e": "AQAB", "kid": "a"})
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        assert_eq!(KeySet::read(&json!({"keys": [rsa(256), rsa(128), 7]})).unwrap().keys.len(), 1);
        assert!(KeySet::read(&json!({"keys": {}})).is_none());
    }

    #[test]
    fn headers_with_tricks_are_refused() {
        let header =
            |value: Value| Header::read(&format!("{}.e30.AA", BASE64URL_NOPAD.encode(value.to_string().as_bytes())));
        assert_eq!(header(json!({"alg": "RS256", "kid": "a"})).unwrap().kid.as_deref(), Some("a"));
        for alg in ["none", "None", "HS256", "ES512", "rs256", ""] {
            assert!(header(json!({"alg": alg})).is_err(), "{alg}");
        }
        assert!(header(json!({"alg": "RS256", "crit": ["b64"]})).is_err());
        assert!(Header::read("a.b").is_err() && Header::read("....").is_err());
    }
}
