//! The token endpoint: a code or a refresh token for tokens, with the configured client authentication.

use openidconnect::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, IssuerUrl, JsonWebKeySet,
    OAuth2TokenResponse as _, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, TokenResponse as _,
    TokenUrl,
    core::{CoreClient, CoreErrorResponseType, CoreTokenResponse, CoreTokenType},
};

use super::{OidcError, Provider, provider::Metadata};
use crate::{config::auth::ClientAuth, domain::screen, issuers::http::HttpError};

type Client = CoreClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) id: Option<String>,
}

/// Why a refresh failed, as far as it matters for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshFailed {
    /// The provider says that the grant is over: the session ends.
    Revoked(OidcError),
    /// It could not be asked or did not answer sensibly: the session goes on as it is.
    Later(OidcError),
}

impl Provider {
    pub(super) async fn redeem_code(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, OidcError> {
        let client = self.client(metadata)?;
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
        let request = self.proof(metadata).into_iter().fold(request, |r, (name, value)| r.add_extra_param(name, value));
        let send = |request| self.http.send(request);
        let answer = request.request_async(&send).await;
        answer.map_err(|e| explain(e).1).and_then(|answer| read(&answer))
    }

    pub(super) async fn redeem_refresh(&self, metadata: &Metadata, token: &str) -> Result<Tokens, RefreshFailed> {
        let client = self.client(metadata).map_err(RefreshFailed::Later)?;
        let token = RefreshToken::new(token.to_owned());
        let request = client.exchange_refresh_token(&token);
        let proof = self.proof(metadata);
        let request = proof.into_iter().fold(request, |r, (name, value)| r.add_extra_param(name, value));
        let send = |request| self.http.send(request);
        let answer = request.request_async(&send).await.map_err(|e| match explain(e) {
            (true, e) => RefreshFailed::Revoked(e),
            (false, e) => RefreshFailed::Later(e),
        })?;
        read(&answer).map_err(RefreshFailed::Later)
    }

    fn client(&self, metadata: &Metadata) -> Result<Client, OidcError> {
        let endpoint = metadata.typed.token_endpoint().ok_or_else(|| OidcError::check("there is no token_endpoint"))?;
        let url = TokenUrl::new(endpoint.to_string()).map_err(|e| OidcError::check(e.to_string()))?;
        let redirect = RedirectUrl::new(self.redirect_uri.to_string()).map_err(|e| OidcError::check(e.to_string()))?;
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|e| OidcError::check(e.to_string()))?;
        let client =
            CoreClient::new(ClientId::new(self.settings.client_id.clone()), issuer, JsonWebKeySet::new(vec![]));
        let secret = |secret: &crate::config::server::Secret| ClientSecret::new(secret.reveal().to_owned());
        let client = match &self.settings.client_auth {
            ClientAuth::Basic(s) => client.set_client_secret(secret(s)).set_auth_type(AuthType::BasicAuth),
            ClientAuth::Post(s) => client.set_client_secret(secret(s)).set_auth_type(AuthType::RequestBody),
            ClientAuth::PrivateKey { .. } | ClientAuth::None => client.set_auth_type(AuthType::RequestBody),
        };
        Ok(client.set_token_uri(url).set_redirect_uri(redirect))
    }

    /// The assertion of `private_key_jwt` (Core §9, RFC 7523 §3), for which `openidconnect` has no door.
    fn proof(&self, metadata: &Metadata) -> Vec<(&'static str, String)> {
        let Some(signer) = &self.signer else { return Vec::new() };
        let now = self.clock.now().seconds();
        let id = crate::domain::entropy::Entropy.bytes::<16>();
        let claims = serde_json::json!({
            "iss": self.settings.client_id,
            "sub": self.settings.client_id,
            "aud": metadata.typed.issuer().as_str(),
            "jti": data_encoding::BASE64URL_NOPAD.encode(&id),
            "iat": now,
            "exp": now + 60,
        });
        vec![
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
            ("client_assertion", signer.sign("JWT", &claims)),
        ]
    }
}

type Failed = RequestTokenError<HttpError, openidconnect::StandardErrorResponse<CoreErrorResponseType>>;

/// Whether the grant itself is over, and what to say.
fn explain(error: Failed) -> (bool, OidcError) {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            let over = *answer.error() == CoreErrorResponseType::InvalidGrant;
            (over, OidcError::Refused(printable(answer.error().as_ref())))
        }
        RequestTokenError::Request(e) => (false, OidcError::Unreachable(format!("token endpoint: {e}"))),
        RequestTokenError::Parse(..) => (false, OidcError::Unreachable("token endpoint: the answer is not one".into())),
        RequestTokenError::Other(what) => (false, OidcError::Unreachable(format!("token endpoint: {what}"))),
    }
}

fn read(answer: &CoreTokenResponse) -> Result<Tokens, OidcError> {
    if *answer.token_type() != CoreTokenType::Bearer {
        return Err(OidcError::check("token_type is not Bearer"));
    }
    Ok(Tokens {
        access: answer.access_token().secret().clone(),
        refresh: answer.refresh_token().map(|t| t.secret().clone()),
        id: answer.id_token().map(ToString::to_string),
    })
}

/// What a provider says, cut and without what a page or a terminal could trip over.
pub(super) fn printable(text: &str) -> String {
    screen::harmless(text, 120)
}
