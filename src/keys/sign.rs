//! Private keys that sign JWTs. The key type decides the algorithm; the pair is parsed once and held, so that
//! signing costs a signature and nothing else.

use aws_lc_rs::{
    digest,
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa, signature,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

/// A private key, the algorithm that goes with its type, and its name.
pub struct SigningKey {
    pair: Pair,
    alg: &'static str,
    /// The public members (RFC 7517), without `use`, `alg` and `kid`.
    public: Value,
    kid: String,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A text holds no key that lokid signs with.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum KeyRefused {
    /// No block of a private key.
    #[error(
        "there is no private key in it: expected PEM blocks (BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY, BEGIN RSA PRIVATE KEY), or their base64"
    )]
    Nothing,
    /// Another type, or too small.
    #[error("key {0} is not one that lokid signs with: expected RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519")]
    Type(usize),
    /// The same key twice.
    #[error("key {0} stands in it twice")]
    Twice(usize),
}

impl SigningKey {
    /// Reads every private key of a PEM text, or of the base64 of one, in order.
    ///
    /// # Errors
    /// [`KeyRefused`] with the number of the block, from 1.
    pub fn read_all(text: &str) -> Result<Vec<Self>, KeyRefused> {
        let unwrapped = if text.contains("-----BEGIN") {
            text.as_bytes().to_vec()
        } else {
            let plain: String = text.split_whitespace().collect();
            BASE64.decode(plain.as_bytes()).map_err(|_| KeyRefused::Nothing)?
        };
        let mut keys: Vec<Self> = Vec::new();
        for (at, block) in PrivateKeyDer::pem_slice_iter(&unwrapped).enumerate() {
            let key = block.ok().and_then(|der| Self::read(&der)).ok_or(KeyRefused::Type(at + 1))?;
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(KeyRefused::Twice(at + 1));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyRefused::Nothing) } else { Ok(keys) }
    }

    /// Reads a text that holds one key.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn read_one(text: &str) -> Result<Self, KeyRefused> {
        Ok(Self::read_all(text)?.remove(0))
    }

    /// Names itself as somebody else knows it; without a `kid`, not at all (a provider that knows the key
    /// under another name would not find it under ours).
    #[must_use]
    pub fn presented_as(mut self, kid: Option<String>) -> Self {
        self.kid = kid.unwrap_or_default();
        self
    }

    fn read(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let p256 = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let p384 = &signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        match der {
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()).ok().and_then(Self::of_rsa),
            PrivateKeyDer::Sec1(der) => {
                let read = |curve| EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()).ok();
                read(p256)
                    .map(|p| Self::of_ecdsa(p, "P-256"))
                    .or_else(|| read(p384).map(|p| Self::of_ecdsa(p, "P-384")))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let ecdsa = |curve| EcdsaKeyPair::from_pkcs8(curve, der).ok();
                let rsa = || rsa::KeyPair::from_pkcs8(der).ok().and_then(Self::of_rsa);
                let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::of_ed25519);
                ecdsa(p256)
                    .map(|p| Self::of_ecdsa(p, "P-256"))
                    .or_else(|| ecdsa(p384).map(|p| Self::of_ecdsa(p, "P-384")))
                    .or_else(ed25519)
                    .or_else(rsa)
            }
            _ => None,
        }
    }

    fn of_rsa(pair: rsa::KeyPair) -> Option<Self> {
        let n = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let e = pair.public_key().exponent().big_endian_without_leading_zero().to_vec();
        let public = json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&n), "e": BASE64URL_NOPAD.encode(&e)});
        (256..=1024).contains(&n.len()).then(|| Self::of(Pair::Rsa(pair), "RS256", public))
    }

    fn of_ecdsa(pair: EcdsaKeyPair, curve: &'static str) -> Self {
        // 0x04, then both coordinates in full length (RFC 7518 §6.2.1.2).
        let (x, y) = pair.public_key().as_ref()[1..].split_at(if curve == "P-256" { 32 } else { 48 });
        let public = json!({"kty": "EC", "crv": curve, "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y)});
        Self::of(Pair::Ecdsa(pair), if curve == "P-256" { "ES256" } else { "ES384" }, public)
    }

    fn of_ed25519(pair: Ed25519KeyPair) -> Self {
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(pair.public_key().as_ref())});
        Self::of(Pair::Ed25519(pair), "EdDSA", public)
    }

    fn of(pair: Pair, alg: &'static str, public: Value) -> Self {
        Self { pair, alg, kid: thumbprint(&public).unwrap_or_default(), public }
    }

    /// A new key for P-256.
    ///
    /// # Panics
    /// When the crypto provider cannot make one.
    pub fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        Self::of_ecdsa(pair, "P-256")
    }

    /// The key that belongs to a seed, always the same one (RFC 8032 §5.1.5).
    ///
    /// # Panics
    /// When the crypto provider refuses 32 bytes.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self::of_ed25519(Ed25519KeyPair::from_seed_unchecked(seed).expect("32 bytes are a seed"))
    }

    /// Its name: the lower-case hexadecimal SHA-256 thumbprint (RFC 7638), unless it is presented otherwise.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// `RS256`, `ES256`, `ES384` or `EdDSA`.
    pub const fn alg(&self) -> &'static str {
        self.alg
    }

    /// Its public half as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.alg.into();
        jwk["kid"] = self.kid.as_str().into();
        jwk
    }

    /// The private key as PKCS#8 PEM, for whoever has to keep it.
    ///
    /// # Panics
    /// When the crypto provider cannot write down a key that it made or read.
    pub fn to_pem(&self) -> zeroize::Zeroizing<String> {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.as_der().map(|d| d.as_ref().to_vec()),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map(|d| d.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|d| d.as_ref().to_vec()),
        };
        let body = zeroize::Zeroizing::new(BASE64.encode(&der.expect("a key can be written down")));
        let lines = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default());
        let text = lines.fold("-----BEGIN PRIVATE KEY-----\n".to_owned(), |text, line| text + line + "\n");
        zeroize::Zeroizing::new(text + "-----END PRIVATE KEY-----\n")
    }

    /// A compact JWS (RFC 7515 §7.1) over `claims`, with this `typ`.
    ///
    /// # Panics
    /// When the claims are no JSON, or the operating system gives no randomness.
    pub fn sign<C: serde::Serialize>(&self, typ: &str, claims: &C) -> String {
        let mut header = json!({"alg": self.alg, "typ": typ});
        if !self.kid.is_empty() {
            header["kid"] = self.kid.as_str().into();
        }
        let header = header.to_string();
        let claims = serde_json::to_vec(claims).expect("claims are JSON");
        let mut jws = BASE64URL_NOPAD.encode(header.as_bytes());
        jws.push('.');
        BASE64URL_NOPAD.encode_append(&claims, &mut jws);
        let signature = self.signature(jws.as_bytes());
        jws.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut jws);
        jws
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut out).expect("a held key signs");
                out
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("a held key signs").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({} {})", self.alg, self.kid)
    }
}

/// The thumbprint of a public JWK (RFC 7638 §3) as lower-case hexadecimal digits; `None` for an unknown type.
pub fn thumbprint(jwk: &Value) -> Option<String> {
    let members: &[&str] = match jwk.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let pairs = members.iter().map(|name| Some(format!("\"{name}\":\"{}\"", jwk.get(name)?.as_str()?)));
    let canonical = format!("{{{}}}", pairs.collect::<Option<Vec<_>>>()?.join(","));
    Some(HEXLOWER.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// seeds/001's example key: base64 of a SEC1 PEM.
    const EXAMPLE: &str = "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSUNUWHlVQ0phYmlHTW1wd3VqYlBmWHhNS2MzWjNFM0tEcmlEbmQwZktiTmtvQW9HQ0NxR1NNNDkKQXdFSG9VUURRZ0FFM1FYQmZ1eEV1UEhJT0ZDb3RaaXBOMUFqM3UrOUtFRWd4RFVURW9CcjYxYXpaYWFvYlRGbwo0cGY3WFRSbzVhM2U2aDdKUW9wckp4QSszd0dwTUpSYWl3PT0KLS0tLS1FTkQgRUMgUFJJVkFURSBLRVktLS0tLQo=";

    #[test]
    fn thumbprints_are_those_of_the_vectors() {
        let of_seed = json!({"kty": "EC", "crv": "P-256", "x": "QCN7adG2AmIK3UdHJvVJkldsUc6XeBRz83Z4rXX8Va4", "y": "PI95b-ary66nrvA55TpaiWADq8b3O1CYIbvjqIHpXCY"});
        assert_eq!(thumbprint(&of_seed).unwrap(), "ccc5bc9d835ff3c8f7075ed4a7510159cf440fd7bf7b517b5caeb1fa419ee6a1");
        let key = SigningKey::read_one(EXAMPLE).unwrap();
        assert_eq!(key.kid(), "e05015c36b1fccdee6ec1c45a4988acafcc1118c5d01e1120ee5be64ba176d22");
        assert_eq!(key.alg(), "ES256");
        let rfc = json!({"kty": "RSA", "e": "AQAB", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        assert_eq!(thumbprint(&rfc).unwrap(), "3736cbb1787cb8309c77ee8c3705c5e16ffb9e859715901f1e4c59b11182f57b");
    }

    #[test]
    fn what_a_key_signs_its_jwk_verifies_and_its_pem_reads_back() {
        let key = SigningKey::generate();
        let read = SigningKey::read_one(&key.to_pem()).unwrap();
        assert_eq!(read.jwk(), key.jwk());
        let claims = json!({"sub": "x", "exp": 4_000_000_000_i64});
        let jwk = serde_json::from_value(key.jwk()).unwrap();
        let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        let verified = jsonwebtoken::decode::<Value>(&read.sign("JWT", &claims), &public, &rules).unwrap();
        assert_eq!((verified.claims, verified.header.kid.as_deref()), (claims, Some(key.kid())));
    }

    #[test]
    fn several_blocks_are_read_in_order_and_what_is_wrong_is_named_by_number() {
        let (a, b) = (SigningKey::generate(), SigningKey::generate());
        let both = format!("{}{}", *a.to_pem(), *b.to_pem());
        let read = SigningKey::read_all(&both).unwrap();
        assert_eq!(read.iter().map(SigningKey::kid).collect::<Vec<_>>(), [a.kid(), b.kid()]);
        let twice = format!("{both}{}", *a.to_pem());
        assert_eq!(SigningKey::read_all(&twice).unwrap_err(), KeyRefused::Twice(3));
        let bad = format!("{}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", *a.to_pem());
        assert_eq!(SigningKey::read_all(&bad).unwrap_err(), KeyRefused::Type(2));
        for nothing in ["", "hello", "aGVsbG8="] {
            assert_eq!(SigningKey::read_all(nothing).unwrap_err(), KeyRefused::Nothing);
        }
    }
}
