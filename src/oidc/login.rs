//! The first half of a sign-in: the address at the provider that the browser is sent to.

use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use url::Url;

use super::{OidcError, Provider, state::SignIn};

impl Provider {
    /// The authorization request (OpenID Connect Core §3.1.2.1) for a sign-in, with PKCE S256.
    ///
    /// # Errors
    /// When the provider's metadata cannot be read.
    pub async fn authorization_url(&self, sign_in: &SignIn, state: &str) -> Result<Url, OidcError> {
        let metadata = self.metadata().await?;
        let verifier = PkceCodeVerifier::new(sign_in.verifier.clone());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let mut url = metadata.typed.authorization_endpoint().url().clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("redirect_uri", self.redirect_uri.as_str())
                .append_pair("scope", &self.settings.scopes.join(" "))
                .append_pair("state", state)
                .append_pair("nonce", &sign_in.nonce)
                .append_pair("code_challenge", challenge.as_str())
                .append_pair("code_challenge_method", "S256");
            // Core §11: without consent a provider may leave the refresh token out.
            let consent = self.settings.scopes.iter().any(|s| s == "offline_access");
            let prompt = match (sign_in.fresh, consent) {
                (true, true) => "login consent",
                (true, false) => "login",
                (false, true) => "consent",
                (false, false) => "",
            };
            if !prompt.is_empty() {
                query.append_pair("prompt", prompt);
            }
            let max_age = if sign_in.fresh { Some(0) } else { self.settings.max_age.map(|age| age.as_secs()) };
            if let Some(seconds) = max_age {
                query.append_pair("max_age", &seconds.to_string());
            }
        }
        Ok(url)
    }
}
