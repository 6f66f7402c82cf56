//! The checks of an ID token (OpenID Connect Core §3.1.3.7). `openidconnect` checks signature, issuer,
//! audience, expiry and nonce; the rest is checked here, on the claims as they were signed.

use std::str::FromStr as _;

use aws_lc_rs::digest;
use data_encoding::BASE64URL_NOPAD;
use openidconnect::{
    ClientId, IssuerUrl, JsonWebKeySet, Nonce,
    core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKey, CoreJwsSigningAlgorithm},
};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::{OidcError, Provider, SKEW, keyset::Header, provider::Metadata};
use crate::domain::claim::Claims;

/// What an ID token must fit, beside its signature.
pub(super) struct Expected<'a> {
    /// The nonce of the request; a refreshed token may leave it out (Core §12.2).
    pub(super) nonce: Option<&'a str>,
    /// The access token that came with it, for `at_hash`.
    pub(super) access_token: &'a str,
    /// The oldest authentication in seconds, when one was asked for.
    pub(super) max_age: Option<i64>,
}

impl Provider {
    /// Verifies an ID token. A token that fits no key makes the keys be read again, once.
    pub(super) async fn verify_id_token(
        &self,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Claims, OidcError> {
        let header = Header::read(token).map_err(OidcError::check)?;
        match self.verify_signature(metadata, token, &header, expected.nonce) {
            Err(SignatureOr::NoKeyFits) => {
                let no_key = OidcError::check("no key of the provider fits the ID token's signature");
                let newer = self.newer_than(metadata).await.ok_or_else(|| no_key.clone())?;
                match self.verify_signature(&newer, token, &header, expected.nonce) {
                    Ok(()) => {}
                    Err(SignatureOr::NoKeyFits) => return Err(no_key),
                    Err(SignatureOr::Other(e)) => return Err(e),
                }
            }
            Err(SignatureOr::Other(e)) => return Err(e),
            Ok(()) => {}
        }
        let claims = payload(token).ok_or_else(|| OidcError::check("the ID token's payload is not a JSON object"))?;
        self.check_claims(&claims, &header, expected)?;
        Ok(claims)
    }

    fn verify_signature(
        &self,
        metadata: &Metadata,
        token: &str,
        header: &Header,
        nonce: Option<&str>,
    ) -> Result<(), SignatureOr> {
        let parsed = CoreIdToken::from_str(token)
            .map_err(|_| SignatureOr::Other(OidcError::check("the ID token cannot be read")))?;
        let mut last = SignatureOr::NoKeyFits;
        for key in metadata.keys.for_id_token(header) {
            let checked = self.verifier(key).map_err(SignatureOr::Other)?;
            let same = |given: Option<&Nonce>| match (nonce, given) {
                (Some(wanted), Some(given)) if bool::from(wanted.as_bytes().ct_eq(given.secret().as_bytes())) => Ok(()),
                (None, _) => Ok(()),
                _ => Err("nonce is not the one that was sent".to_owned()),
            };
            match parsed.claims(&checked, same) {
                Ok(_) => return Ok(()),
                Err(openidconnect::ClaimsVerificationError::SignatureVerification(_)) => {}
                Err(e) => last = SignatureOr::Other(OidcError::check(super::exchange::printable(&e.to_string()))),
            }
        }
        Err(last)
    }

    fn verifier(&self, key: CoreJsonWebKey) -> Result<CoreIdTokenVerifier<'static>, OidcError> {
        use CoreJwsSigningAlgorithm as A;
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|e| OidcError::check(e.to_string()))?;
        let audience = ClientId::new(self.settings.audience.clone());
        let allowed = [
            A::RsaSsaPkcs1V15Sha256,
            A::RsaSsaPkcs1V15Sha384,
            A::RsaSsaPkcs1V15Sha512,
            A::RsaSsaPssSha256,
            A::EcdsaP256Sha256,
            A::EcdsaP384Sha384,
            A::EdDsa,
        ];
        // The clock is set back by the skew: what expired within it is still good.
        let now = self.clock.now().seconds() - SKEW;
        let moment = move || chrono::DateTime::from_timestamp(now, 0).unwrap_or_default();
        Ok(CoreIdTokenVerifier::new_public_client(audience, issuer, JsonWebKeySet::new(vec![key]))
            .set_allowed_algs(allowed)
            .set_time_fn(moment)
            // More audiences are allowed when `azp` is us, which `check_claims` demands.
            .set_other_audience_verifier_fn(|_| true))
    }

    fn check_claims(&self, claims: &Claims, header: &Header, expected: &Expected<'_>) -> Result<(), OidcError> {
        let refuse = |what: &str| Err(OidcError::check(what));
        let now = self.clock.now().seconds();
        let seconds = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_i64().map(Some).ok_or_else(|| OidcError::check(format!("{name} is not a whole number")))
            }
        };
        if header.typ.as_deref().is_some_and(|t| !t.eq_ignore_ascii_case("jwt")) {
            return refuse("typ is not that of an ID token");
        }
        if claims.get("iss").and_then(Value::as_str) != Some(self.settings.issuer.as_str()) {
            return refuse("iss is not the configured issuer");
        }
        if !claims.get("sub").and_then(Value::as_str).is_some_and(|s| (1..=255).contains(&s.len())) {
            return refuse("sub is missing or longer than 255 characters");
        }
        self.check_audience(claims)?;
        match seconds("iat")? {
            Some(iat) if iat > now + SKEW => return refuse("iat lies ahead; is the clock right?"),
            Some(iat) if iat < now - 86_400 => return refuse("iat is more than a day ago"),
            Some(_) => {}
            None => return refuse("iat is missing"),
        }
        if seconds("nbf")?.is_some_and(|nbf| nbf > now + SKEW) {
            return refuse("nbf lies ahead; is the clock right?");
        }
        if let Some(max_age) = expected.max_age {
            match seconds("auth_time")? {
                Some(at) if at > now + SKEW => return refuse("auth_time lies ahead; is the clock right?"),
                Some(at) if at.saturating_add(max_age + SKEW) < now => {
                    return refuse("auth_time is older than was asked for");
                }
                Some(_) => {}
                None => return refuse("auth_time is missing although max_age was asked for"),
            }
        }
        check_at_hash(claims, header, expected.access_token)
    }

    /// The audience holds us, and `azp`, if it is there or needed, is us.
    fn check_audience(&self, claims: &Claims) -> Result<(), OidcError> {
        let azp = match claims.get("azp") {
            None => None,
            Some(Value::String(azp)) => Some(azp.as_str()),
            Some(_) => return Err(OidcError::check("azp is not a text")),
        };
        let several = matches!(claims.get("aud"), Some(Value::Array(list)) if list.len() > 1);
        match azp {
            Some(azp) if azp != self.settings.client_id => Err(OidcError::check("azp is not this client")),
            None if several => Err(OidcError::check("several audiences need azp")),
            _ => Ok(()),
        }
    }
}

enum SignatureOr {
    NoKeyFits,
    Other(OidcError),
}

/// Core §3.1.3.6: the left half of the access token's hash, by the hash of the signature's algorithm.
fn check_at_hash(claims: &Claims, header: &Header, access_token: &str) -> Result<(), OidcError> {
    let Some(given) = claims.get("at_hash") else { return Ok(()) };
    let algorithm = match header.alg.as_str() {
        "RS384" | "ES384" => &digest::SHA384,
        "RS512" | "EdDSA" => &digest::SHA512,
        _ => &digest::SHA256,
    };
    let hash = digest::digest(algorithm, access_token.as_bytes());
    let half = BASE64URL_NOPAD.encode(&hash.as_ref()[..hash.as_ref().len() / 2]);
    if given.as_str() == Some(half.as_str()) {
        Ok(())
    } else {
        Err(OidcError::check("at_hash is not that of the access token"))
    }
}

/// The claims of a compact JWS whose signature was checked.
pub(super) fn payload(token: &str) -> Option<Claims> {
    let middle = token.split('.').nth(1)?;
    let bytes = BASE64URL_NOPAD.decode(middle.as_bytes()).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}
