//! Signing out: at the provider (RP-initiated) and from the provider (back-channel).

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use url::Url;

use super::{OidcError, Provider, SKEW, id_token::payload, keyset::Header, provider::Metadata};
use crate::domain::{claim::Claims, time::Moment};

/// The event that makes a JWT a logout token (Back-Channel Logout 1.0 §2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be, in seconds, whatever it says of its end.
const LONGEST_LIFE: i64 = 86_400;

/// What a checked logout token asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutToken {
    /// All sessions of this subject.
    pub subject: Option<String>,
    /// The one session that the provider calls so.
    pub sid: Option<String>,
    /// Used once.
    pub jti: String,
    /// Until when to remember that.
    pub expires_at: Moment,
}

/// The issuer that a logout token claims to come from, before anything is checked.
pub fn unverified_issuer(jwt: &str) -> Option<String> {
    Header::read(jwt).ok()?;
    payload(jwt)?.get("iss")?.as_str().map(str::to_owned)
}

impl Provider {
    /// Where to send the browser so that the provider's session ends too; `None` when it offers no such
    /// place (or cannot be asked: signing out here must not wait for it).
    pub async fn logout_url(&self, id_token: Option<&str>, return_to: &Url) -> Option<Url> {
        let mut url = self.metadata().await.ok()?.end_session.clone()?;
        {
            let mut query = url.query_pairs_mut();
            if let Some(id_token) = id_token.filter(|t| t.len() <= 6 * 1024) {
                query.append_pair("id_token_hint", id_token);
            }
            query.append_pair("client_id", &self.settings.client_id);
            query.append_pair("post_logout_redirect_uri", return_to.as_str());
        }
        Some(url)
    }

    /// Verifies a logout token (Back-Channel Logout 1.0 §2.6).
    ///
    /// # Errors
    /// [`OidcError`] says which check failed.
    pub async fn verify_logout_token(&self, jwt: &str) -> Result<LogoutToken, OidcError> {
        let header = Header::read(jwt).map_err(OidcError::check)?;
        let metadata = self.metadata().await?;
        let mut claims = signed_claims(&metadata, jwt, &header);
        if claims.is_none()
            && let Some(newer) = self.newer_than(&metadata).await
        {
            claims = signed_claims(&newer, jwt, &header);
        }
        let claims = claims.ok_or_else(|| OidcError::check("no key of the provider fits the signature"))?;
        self.check_logout_claims(&claims, &header)
    }

    fn check_logout_claims(&self, claims: &Claims, header: &Header) -> Result<LogoutToken, OidcError> {
        let refuse = |what: &str| Err(OidcError::check(what));
        let now = self.clock.now().seconds();
        if header.typ.as_deref().is_some_and(|t| !["logout+jwt", "jwt"].contains(&t.to_ascii_lowercase().as_str())) {
            return refuse("typ is not that of a logout token");
        }
        if claims.get("iss").and_then(Value::as_str) != Some(self.settings.issuer.as_str()) {
            return refuse("iss is not the configured issuer");
        }
        let ours = match claims.get("aud") {
            Some(Value::String(aud)) => *aud == self.settings.client_id,
            Some(Value::Array(list)) => list.iter().any(|aud| aud == self.settings.client_id.as_str()),
            _ => false,
        };
        if !ours {
            return refuse("aud does not name this client");
        }
        let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
        let (Some(iat), Some(exp)) = (seconds("iat"), seconds("exp")) else {
            return refuse("iat and exp are needed");
        };
        // A jti is remembered for a day, so a token that is older could be used again.
        let too_old = iat < now - LONGEST_LIFE;
        if too_old
            || exp.saturating_add(SKEW) <= now
            || iat > now + SKEW
            || seconds("nbf").is_some_and(|nbf| nbf > now + SKEW)
        {
            return refuse("the token is not valid at this moment");
        }
        let is_logout = claims.get("events").and_then(|e| e.get(EVENT)).is_some_and(Value::is_object);
        if !is_logout || claims.contains_key("nonce") {
            return refuse("this is another kind of token");
        }
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=255).contains(&text.len()) => Ok(Some(text.clone())),
            Some(_) => Err(OidcError::check(format!("{name} is not a text of up to 255 characters"))),
        };
        let (subject, sid) = (text("sub")?, text("sid")?);
        if subject.is_none() && sid.is_none() {
            return refuse("sub or sid is needed");
        }
        let jti = text("jti")?.ok_or_else(|| OidcError::check("jti is needed"))?;
        let expires_at = Moment::from_seconds(exp.min(now + LONGEST_LIFE) + 2 * SKEW);
        Ok(LogoutToken { subject, sid, jti: format!("{} {jti}", self.settings.id), expires_at })
    }
}

/// The claims, if some key of the provider signed them.
fn signed_claims(metadata: &Metadata, jwt: &str, header: &Header) -> Option<Claims> {
    let algorithm: Algorithm = header.alg.parse().ok()?;
    let mut signature_only = Validation::new(algorithm);
    signature_only.required_spec_claims.clear();
    (signature_only.validate_exp, signature_only.validate_aud) = (false, false);
    metadata.keys.for_logout(header).iter().find_map(|jwk| {
        let key = DecodingKey::from_jwk(jwk).ok()?;
        jsonwebtoken::decode::<Claims>(jwt, &key, &signature_only).ok().map(|read| read.claims)
    })
}
