//! Outgoing HTTP to a provider: no redirect is followed, every body and every wait is bounded.

use std::{path::Path, sync::Arc, time::Duration};

use openidconnect::{HttpRequest, HttpResponse};

/// The longest answer that is read: discovery, keys, tokens and UserInfo are all far below it.
const LONGEST: usize = 1 << 20;
const WHOLE_ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// A client for one provider.
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpError {
    /// The connection failed, broke or took too long.
    #[error("{0}")]
    Transport(Arc<reqwest::Error>),
    /// The answer has more than [`LONGEST`] bytes.
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
    /// The answer points elsewhere.
    #[error("the answer is a redirect, which is not followed")]
    Redirect,
    /// The answer cannot be handed on.
    #[error("the answer is malformed")]
    Malformed,
}

impl From<reqwest::Error> for HttpError {
    fn from(e: reqwest::Error) -> Self {
        Self::Transport(Arc::new(e.without_url()))
    }
}

/// The file of extra certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the CA file {path} cannot be used: {reason}")]
pub struct CaRefused {
    path: String,
    reason: String,
}

impl HttpClient {
    /// A client that trusts the system's authorities and those of `ca_file`.
    ///
    /// # Errors
    /// When the file holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, CaRefused> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(WHOLE_ANSWER)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("lokid/", env!("CARGO_PKG_VERSION")));
        let refused =
            |reason: String| CaRefused { path: ca_file.map(|p| p.display().to_string()).unwrap_or_default(), reason };
        if let Some(path) = ca_file {
            let pem = std::fs::read(path).map_err(|e| refused(e.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| refused(e.to_string()))?;
            if certificates.is_empty() {
                return Err(refused("it holds no CERTIFICATE block".into()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        builder.build().map(Self).map_err(|e| refused(e.to_string()))
    }

    /// Sends a request and reads the whole bounded answer.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let mut answer = self.0.execute(request).await?;
        if answer.status().is_redirection() {
            return Err(HttpError::Redirect);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LONGEST {
                return Err(HttpError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let mut out = HttpResponse::new(body);
        *out.status_mut() = answer.status();
        if let Some(kind) = answer.headers().get("content-type") {
            out.headers_mut().insert("content-type", kind.clone());
        }
        Ok(out)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`HttpError`], also for any status but 200 and anything but JSON.
    pub async fn json(&self, url: &str) -> Result<serde_json::Value, HttpError> {
        let mut request = HttpRequest::new(Vec::new());
        *request.uri_mut() = url.parse().map_err(|_| HttpError::Malformed)?;
        request.headers_mut().insert("accept", "application/json".parse().map_err(|_| HttpError::Malformed)?);
        let answer = self.send(request).await?;
        if answer.status().as_u16() != 200 {
            return Err(HttpError::Malformed);
        }
        serde_json::from_slice(answer.body()).map_err(|_| HttpError::Malformed)
    }
}
