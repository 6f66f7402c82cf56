//! The second half of a sign-in: what the browser brought back, and what the provider says for it.

use openidconnect::HttpRequest;
use serde_json::Value;

use super::{
    OidcError, Provider, ProviderTokens, Vouched,
    exchange::{RefreshFailed, Tokens, printable},
    id_token::Expected,
    provider::Metadata,
    state::SignIn,
};
use crate::{config::auth::UserInfo, domain::claim::Claims};

pub use super::exchange::RefreshFailed as RefreshError;

/// The parameters of an authorization response (RFC 6749 §4.1.2), each at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// `state`.
    pub state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

impl Answer {
    /// Reads a query. A parameter that is there twice makes the whole answer ambiguous.
    ///
    /// # Errors
    /// When it is ambiguous.
    pub fn read(query: &str) -> Result<Self, OidcError> {
        let mut answer = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "error" => &mut answer.error,
                "iss" => &mut answer.iss,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(OidcError::State("the answer carries a parameter twice; begin again"));
            }
        }
        Ok(answer)
    }
}

impl Provider {
    /// Turns an answer into what the provider vouches for.
    ///
    /// # Errors
    /// [`OidcError`] says which check failed.
    pub async fn finish(&self, answer: &Answer, sign_in: &SignIn) -> Result<Vouched, OidcError> {
        let metadata = self.metadata().await?;
        // RFC 9207 §2.4: an answer from another provider is not believed, whatever it says.
        match &answer.iss {
            Some(iss) if *iss != self.settings.issuer => return Err(OidcError::check("iss is another issuer's")),
            None if metadata.answers_carry_iss => return Err(OidcError::check("iss is missing from the answer")),
            _ => {}
        }
        let code = match (&answer.error, &answer.code) {
            (Some(error), _) => return Err(OidcError::Refused(printable(error))),
            (None, Some(code)) if (1..=4096).contains(&code.len()) => code,
            _ => return Err(OidcError::State("the answer carries neither code nor error; begin again")),
        };
        let tokens = self.redeem_code(&metadata, code, &sign_in.verifier).await?;
        let id_token = tokens.id.clone().ok_or_else(|| OidcError::check("the token endpoint gave no ID token"))?;
        let max_age = self.settings.max_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let expected = Expected {
            nonce: Some(&sign_in.nonce),
            access_token: &tokens.access,
            // A fresh sign-in may be as old as the time that it took.
            max_age: if sign_in.fresh { Some((self.clock.now().millis() - sign_in.began_at) / 1000) } else { max_age },
        };
        let claims = self.verify_id_token(&metadata, &id_token, &expected).await?;
        self.vouch(&metadata, claims, tokens).await
    }

    /// Reads the claims again with a refresh token. `subject` is whose they must be (Core §12.2).
    ///
    /// # Errors
    /// [`RefreshFailed`] says whether the session is over.
    pub async fn refresh(&self, kept: &ProviderTokens, subject: &str) -> Result<Vouched, RefreshFailed> {
        let metadata = self.metadata().await.map_err(RefreshFailed::Later)?;
        let refresh = kept.refresh.as_deref().unwrap_or_default();
        let mut tokens = self.redeem_refresh(&metadata, refresh).await?;
        tokens.refresh = tokens.refresh.or_else(|| kept.refresh.clone());
        let claims = match &tokens.id {
            Some(id_token) => {
                let expected = Expected { nonce: None, access_token: &tokens.access, max_age: None };
                self.verify_id_token(&metadata, id_token, &expected).await.map_err(RefreshFailed::Later)?
            }
            None => {
                tokens.id.clone_from(&kept.id);
                self.userinfo(&metadata, &tokens.access, subject).await.map_err(RefreshFailed::Later)?
            }
        };
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(RefreshFailed::Revoked(OidcError::check("sub is not that of the session")));
        }
        self.vouch(&metadata, claims, tokens).await.map_err(RefreshFailed::Later)
    }

    async fn vouch(&self, metadata: &Metadata, mut claims: Claims, tokens: Tokens) -> Result<Vouched, OidcError> {
        let text = |claims: &Claims, name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let subject = text(&claims, "sub").unwrap_or_default();
        let missing = !claims.contains_key("email") || self.settings.groups_claim.find(&claims).is_none();
        let ask = match self.settings.userinfo {
            UserInfo::Always => true,
            UserInfo::WhenNeeded => missing && metadata.typed.userinfo_endpoint().is_some(),
            UserInfo::Never => false,
        };
        if ask {
            let more = self.userinfo(metadata, &tokens.access, &subject).await?;
            // What the ID token says was signed, so it stays. An address and whether it is verified belong
            // together: the word of one answer does not vouch for the address of the other.
            let other_address = claims.get("email").is_some_and(|email| Some(email) != more.get("email"));
            more.into_iter().filter(|(name, _)| name != "email_verified" || !other_address).for_each(
                |(name, value)| {
                    claims.entry(name).or_insert(value);
                },
            );
        }
        Ok(Vouched {
            subject,
            sid: text(&claims, "sid"),
            auth_time: claims.get("auth_time").and_then(Value::as_i64),
            tokens: ProviderTokens { refresh: tokens.refresh, id: tokens.id },
            claims,
        })
    }

    /// Core §5.3: the answer counts only for the same `sub`.
    async fn userinfo(&self, metadata: &Metadata, access_token: &str, subject: &str) -> Result<Claims, OidcError> {
        let endpoint =
            metadata.typed.userinfo_endpoint().ok_or_else(|| OidcError::check("there is no userinfo_endpoint"))?;
        let mut request = HttpRequest::new(Vec::new());
        let malformed = || OidcError::Unreachable("userinfo: the request cannot be made".into());
        *request.uri_mut() = endpoint.as_str().parse().map_err(|_| malformed())?;
        let bearer = format!("Bearer {access_token}").parse().map_err(|_| malformed())?;
        request.headers_mut().insert("authorization", bearer);
        let answer = self.http.send(request).await.map_err(|e| OidcError::Unreachable(format!("userinfo: {e}")))?;
        if answer.status().as_u16() != 200 {
            return Err(OidcError::Unreachable(format!("userinfo: status {}", answer.status().as_u16())));
        }
        let claims: Claims = serde_json::from_slice(answer.body())
            .map_err(|_| OidcError::Unreachable("userinfo: the answer is not a JSON object".into()))?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(OidcError::check("userinfo speaks of another sub"));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_comes_twice_makes_the_answer_ambiguous() {
        assert_eq!(Answer::read("code=a&state=b&x=1&x=2").unwrap().code.as_deref(), Some("a"));
        for twice in ["code=a&code=a", "state=a&state=b", "iss=a&iss=", "error=x&error=y"] {
            assert!(Answer::read(twice).is_err(), "{twice}");
        }
    }
}
