//! Signing JWTs with a private key from a PEM file: client assertions, and the demo provider's ID tokens.

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// A private key and the algorithm that goes with its type.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// The PEM text holds no key that lokid signs with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyRefused {
    /// Another kind of block.
    #[error("expected a PKCS#8 PEM block (BEGIN PRIVATE KEY); convert with: openssl pkcs8 -topk8 -nocrypt")]
    NotPkcs8,
    /// A type or size that is not accepted.
    #[error("expected an RSA key of at least 2048 bits, or a P-256, P-384 or Ed25519 key")]
    Type,
}

impl Signer {
    /// Reads one PKCS#8 key.
    ///
    /// # Errors
    /// [`KeyRefused`] says what would be right.
    pub fn from_pem(pem: &str, kid: Option<String>) -> Result<Self, KeyRefused> {
        let der = pkcs8_of(pem).ok_or(KeyRefused::NotPkcs8)?;
        let (key, algorithm) = if let Ok(pair) = rsa::KeyPair::from_pkcs8(&der) {
            if pair.public_modulus_len() < 256 {
                return Err(KeyRefused::Type);
            }
            (EncodingKey::from_rsa_pem(pem.as_bytes()), Algorithm::RS256)
        } else if EcdsaKeyPair::from_pkcs8(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &der).is_ok() {
            (EncodingKey::from_ec_pem(pem.as_bytes()), Algorithm::ES256)
        } else if EcdsaKeyPair::from_pkcs8(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING, &der).is_ok() {
            (EncodingKey::from_ec_pem(pem.as_bytes()), Algorithm::ES384)
        } else if Ed25519KeyPair::from_pkcs8(&der).is_ok() {
            (EncodingKey::from_ed_pem(pem.as_bytes()), Algorithm::EdDSA)
        } else {
            return Err(KeyRefused::Type);
        };
        Ok(Self { key: key.map_err(|_| KeyRefused::Type)?, algorithm, kid })
    }

    /// A compact JWS over `claims`.
    ///
    /// # Errors
    /// When the claims cannot be written as JSON or the key cannot sign.
    pub fn sign<C: serde::Serialize>(&self, claims: &C) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, claims, &self.key)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({:?})", self.algorithm)
    }
}

fn pkcs8_of(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split("-----BEGIN PRIVATE KEY-----").nth(1)?.split("-----END PRIVATE KEY-----").next()?;
    let text: String = body.split_whitespace().collect();
    data_encoding::BASE64.decode(text.as_bytes()).ok()
}

/// A new RSA-2048 key for this process: what to sign with, and its public half as a JWK.
///
/// # Panics
/// When the crypto provider cannot make a key.
pub fn ephemeral_rsa(kid: &str) -> (Signer, serde_json::Value) {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("an RSA key can be made");
    let der = pair.as_der().expect("a key can be written down");
    let public = pair.public_key();
    let text = |n: &[u8]| data_encoding::BASE64URL_NOPAD.encode(n);
    let jwk = serde_json::json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
        "n": text(public.modulus().big_endian_without_leading_zero()),
        "e": text(public.exponent().big_endian_without_leading_zero()),
    });
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        data_encoding::BASE64.encode(der.as_ref())
    );
    (Signer::from_pem(&pem, Some(kid.to_owned())).expect("it was made just now"), jwk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_blocks_are_refused_with_the_way_to_convert_them() {
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(Signer::from_pem(sec1, None).unwrap_err(), KeyRefused::NotPkcs8);
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
        assert_eq!(Signer::from_pem(nonsense, None).unwrap_err(), KeyRefused::Type);
    }

    #[test]
    fn what_an_ephemeral_key_signs_its_jwk_verifies() {
        let (signer, jwk) = ephemeral_rsa("k1");
        let claims = serde_json::json!({"sub": "x", "exp": 4_000_000_000_i64});
        let jwt = signer.sign(&claims).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap();
        let rules = jsonwebtoken::Validation::new(Algorithm::RS256);
        let read = jsonwebtoken::decode::<serde_json::Value>(&jwt, &key, &rules).unwrap();
        assert_eq!((read.claims, read.header.kid.as_deref()), (claims, Some("k1")));
    }
}
