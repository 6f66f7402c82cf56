//! Outgoing HTTP to providers and issuers: no redirect is followed, every body and every wait is bounded.

use std::{path::Path, sync::Arc, time::Duration};

use openidconnect::{HttpRequest, HttpResponse};
use serde_json::Value;

use crate::domain::time::Moment;

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
        for name in ["content-type", "cache-control", "age", "date"] {
            if let Some(value) = answer.headers().get(name) {
                out.headers_mut().insert(name, value.clone());
            }
        }
        Ok(out)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`HttpError`], also for any status but 200 and anything but JSON.
    pub async fn json(&self, url: &str) -> Result<Value, HttpError> {
        self.document(url).await.map(|document| document.value)
    }

    /// Reads a JSON document with what its headers say of it.
    ///
    /// # Errors
    /// [`HttpError`], also for any status but 200 and anything but JSON.
    pub async fn document(&self, url: &str) -> Result<Document, HttpError> {
        let mut request = HttpRequest::new(Vec::new());
        *request.uri_mut() = url.parse().map_err(|_| HttpError::Malformed)?;
        request.headers_mut().insert("accept", "application/json".parse().map_err(|_| HttpError::Malformed)?);
        let answer = self.send(request).await?;
        if answer.status().as_u16() != 200 {
            return Err(HttpError::Malformed);
        }
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        Ok(Document {
            value: serde_json::from_slice(answer.body()).map_err(|_| HttpError::Malformed)?,
            keep: keep(header("cache-control"), header("age")),
            date: header("date").and_then(moment),
        })
    }
}

/// A JSON document with what its headers say of it.
#[derive(Debug)]
pub struct Document {
    /// The document.
    pub value: Value,
    /// How long it may be kept (RFC 9111 §4.2); `None` when nothing is said.
    pub keep: Option<Duration>,
    /// The time by the clock of whoever sent it.
    pub date: Option<Moment>,
}

/// `max-age` less `Age`; nothing at all where keeping is forbidden.
fn keep(cache_control: Option<&str>, age: Option<&str>) -> Option<Duration> {
    let directives = || cache_control.unwrap_or_default().split(',').map(|d| d.trim().to_ascii_lowercase());
    if directives().any(|d| d == "no-store" || d == "no-cache") {
        return Some(Duration::ZERO);
    }
    let max_age = directives().find_map(|d| d.strip_prefix("max-age=")?.trim_matches('"').parse::<u64>().ok())?;
    let age = age.and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or_default();
    Some(Duration::from_secs(max_age.saturating_sub(age)))
}

/// `Fri, 27 Nov 2026 23:17:04 GMT` (RFC 9110 §5.6.7).
fn moment(text: &str) -> Option<Moment> {
    let read = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Moment::from_millis(read.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_as_long_as_its_headers_say() {
        let seconds = |cache: &str, age: &str| keep(Some(cache), Some(age)).map(|d| d.as_secs());
        assert_eq!(seconds("public, max-age=3600, must-revalidate", ""), Some(3600));
        assert_eq!((seconds("Max-Age=\"60\"", "20"), seconds("max-age=60", "90")), (Some(40), Some(0)));
        assert_eq!(
            (seconds("max-age=60, no-store", ""), seconds("public", "9"), keep(None, None)),
            (Some(0), None, None)
        );
        assert_eq!((seconds("max-age=-1", ""), seconds("x-max-age=9", "")), (None, None));
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        assert_eq!(moment("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Moment::from_seconds(784_111_777)));
        assert_eq!(moment("yesterday"), None);
    }
}
