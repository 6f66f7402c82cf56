//! Keys and tokens, signed by hand.

use std::sync::LazyLock;

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, KeyPair as _},
};
use data_encoding::BASE64URL_NOPAD as B64;
use serde_json::{Value, json};

static MAIN: LazyLock<rsa::KeyPair> = LazyLock::new(|| rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap());
static OTHER: LazyLock<rsa::KeyPair> = LazyLock::new(|| rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap());

/// With what a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The published key.
    Main,
    /// A key that is not published.
    Other,
    /// HMAC with the published key's modulus as the secret.
    HmacOfPublic,
    /// An empty signature.
    Nothing,
    /// The published key, with one bit of the signature turned.
    Broken,
}

/// base64url.
pub(crate) fn text(bytes: &[u8]) -> String {
    B64.encode(bytes)
}

/// The published key as a JWK.
pub(crate) fn main_jwk() -> Value {
    let public = MAIN.public_key();
    json!({
        "kty": "RSA", "use": "sig", "kid": "main",
        "n": text(public.modulus().big_endian_without_leading_zero()),
        "e": text(public.exponent().big_endian_without_leading_zero()),
    })
}

/// A compact JWS.
pub(crate) fn jws(header: &Value, claims: &Value, sign: Sign) -> String {
    let signed = format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
    let rsa = |key: &rsa::KeyPair, algorithm: &'static dyn signature::RsaEncoding| {
        let mut out = vec![0; key.public_modulus_len()];
        key.sign(algorithm, &SystemRandom::new(), signed.as_bytes(), &mut out).unwrap();
        out
    };
    let algorithm: &'static dyn signature::RsaEncoding = match header["alg"].as_str() {
        Some("RS384") => &signature::RSA_PKCS1_SHA384,
        Some("RS512") => &signature::RSA_PKCS1_SHA512,
        Some("PS256") => &signature::RSA_PSS_SHA256,
        _ => &signature::RSA_PKCS1_SHA256,
    };
    let signature = match sign {
        Sign::Main => rsa(&MAIN, algorithm),
        Sign::Other => rsa(&OTHER, algorithm),
        Sign::Nothing => Vec::new(),
        Sign::HmacOfPublic => {
            let secret = MAIN.public_key().modulus().big_endian_without_leading_zero();
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec()
        }
        Sign::Broken => {
            let mut out = rsa(&MAIN, algorithm);
            out[7] ^= 1;
            out
        }
    };
    format!("{signed}.{}", text(&signature))
}

/// The `at_hash` of an access token under SHA-256.
pub(crate) fn at_hash(access_token: &str) -> String {
    text(&digest::digest(&digest::SHA256, access_token.as_bytes()).as_ref()[..16])
}

/// The other key, which is not published.
pub(crate) fn other_jwk() -> Value {
    let public = OTHER.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    json!({
        "kty": "RSA", "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero()),
    })
}
