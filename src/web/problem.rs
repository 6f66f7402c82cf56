//! The one place that turns errors into HTTP (RFC 9457). A handler's error leaves as an empty answer that
//! carries a [`Problem`]; the front, which knows the request, writes it as JSON or as a page.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};

use super::limits::TooFast;
use crate::{
    actions::ActError,
    authn::{CredentialRefused, workload::WorkloadRefused},
    domain::identity::{Access, Refusal},
    oidc::OidcError,
    store::{StoreError, tokens::MintRefused},
};

/// An error as the caller will read it. What only the log may read was logged before.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) status: StatusCode,
    /// What happened, which value, what would be right. Never a secret, SQL or a file's path.
    pub(super) detail: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// A person without a session may be sent to sign in.
    pub(super) sign_in_helps: bool,
    /// A sign-in that is not fresh enough: where to go for a fresh one.
    pub(super) fresh_sign_in: bool,
    /// A word that programs can go by, where the status alone does not say it.
    pub(super) code: Option<&'static str>,
    /// The word of OAuth for it (RFC 6749 §5.2), where a door speaks OAuth.
    oauth: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            headers: Vec::new(),
            sign_in_helps: false,
            fresh_sign_in: false,
            code: None,
            oauth: None,
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn invalid(field: &str, message: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {message}"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this address; /openapi.json lists what there is")
    }

    /// No credential was sent (RFC 6750 §3.1: then no `error` is named).
    pub(super) fn unauthenticated() -> Self {
        let detail = "this needs a credential: Authorization: Bearer loki_…, or sign in with a browser";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, r#"Bearer realm="loki""#);
        problem.sign_in_helps = true;
        problem
    }

    /// A credential was sent and is not good.
    pub(super) fn invalid_token(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let quoted: String = detail.chars().filter(|c| c.is_ascii() && !matches!(c, '"' | '\\')).collect();
        let challenge = format!(r#"Bearer realm="loki", error="invalid_token", error_description="{quoted}""#);
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge);
        problem.sign_in_helps = true;
        problem
    }

    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says it in OAuth's word too.
    #[must_use]
    pub(super) fn coded(mut self, code: &'static str) -> Self {
        self.oauth = Some(code);
        self
    }

    /// The body of `application/problem+json`.
    pub(super) fn json(&self, request_id: &str) -> String {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": format!("urn:lokid:request:{request_id}"),
        });
        if let Some(code) = self.code {
            body["code"] = code.into();
        }
        if let Some(code) = self.oauth {
            body["error"] = code.into();
            body["error_description"] = self.detail.as_str().into();
        }
        body.to_string()
    }

    pub(super) fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::new(self.status);
        for (name, value) in &self.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.headers_mut().append(name.clone(), value);
            }
        }
        answer.extensions_mut().insert(self.clone());
        answer
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        let cause = std::error::Error::source(&e).map(ToString::to_string);
        tracing::error!(error = %e, cause, "the database failed a request");
        let detail = match e {
            // The one case in which it is not known whether the act happened.
            StoreError::InDoubt => {
                "the database went away at the last moment; look whether it was done before you try again"
            }
            _ => "the database does not answer; nothing was changed. Try again in a moment",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, "2")
    }
}

impl From<CredentialRefused> for Problem {
    fn from(e: CredentialRefused) -> Self {
        match e {
            CredentialRefused::Unavailable(e) => e.into(),
            CredentialRefused::Workload(e) => e.into(),
            other => Self::invalid_token(other.to_string()),
        }
    }
}

impl From<WorkloadRefused> for Problem {
    fn from(e: WorkloadRefused) -> Self {
        let detail = match &e {
            WorkloadRefused::Malformed(_) => e.to_string(),
            _ => format!("{e}. An administrator can look at every check at /explain-token"),
        };
        match e {
            WorkloadRefused::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()).with(RETRY_AFTER, "10")
            }
            WorkloadRefused::Scopes(missing) => {
                let sound = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
                let scope: String = missing.join(" ").chars().filter(|c| sound(c) || *c == ' ').collect();
                let challenge = format!(r#"Bearer realm="loki", error="insufficient_scope", scope="{scope}""#);
                Self::new(StatusCode::FORBIDDEN, detail).with(WWW_AUTHENTICATE, challenge)
            }
            WorkloadRefused::NoRule | WorkloadRefused::Preset(_) => {
                let challenge = r#"Bearer realm="loki", error="insufficient_scope""#;
                Self::new(StatusCode::FORBIDDEN, detail).with(WWW_AUTHENTICATE, challenge)
            }
            _ => Self::invalid_token(detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal.needs {
            Access::Scope(scope) => {
                let challenge = format!(r#"Bearer realm="loki", error="insufficient_scope", scope="{scope}""#);
                let detail = format!("this needs the scope {scope}, which your credential does not hold");
                Self::new(StatusCode::FORBIDDEN, detail).with(WWW_AUTHENTICATE, challenge)
            }
            Access::Person => Self::new(StatusCode::FORBIDDEN, "this is for people who are signed in with a browser"),
            Access::Open | Access::Credential => Self::unauthenticated(),
        }
    }
}

impl From<TooFast> for Problem {
    fn from(e: TooFast) -> Self {
        let seconds = e.retry_after.as_secs() + u64::from(e.retry_after.subsec_nanos() > 0);
        let detail = format!("too many requests (limit {}); try again in {seconds} s", e.name);
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .with(RETRY_AFTER, seconds.to_string())
            .with(HeaderName::from_static("ratelimit-limit"), e.count.to_string())
            .with(HeaderName::from_static("ratelimit-remaining"), "0")
            .with(HeaderName::from_static("ratelimit-reset"), seconds.to_string())
    }
}

impl From<ActError> for Problem {
    fn from(e: ActError) -> Self {
        let status = match &e {
            ActError::NotFound { .. } => StatusCode::NOT_FOUND,
            ActError::Ambiguous(..)
            | ActError::Conflict(_)
            | ActError::Step(_)
            | ActError::Mint(MintRefused::NameTaken(_) | MintRefused::TooMany(_)) => StatusCode::CONFLICT,
            ActError::TooWide { .. }
            | ActError::NeedsFreshSignIn
            | ActError::NotAdmitted(_)
            | ActError::DomainNotAllowed(_) => StatusCode::FORBIDDEN,
            ActError::RenewTooSoon { .. } => StatusCode::TOO_MANY_REQUESTS,
            ActError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            ActError::Oidc(OidcError::Unreachable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            ActError::Oidc(_) => StatusCode::BAD_REQUEST,
            ActError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        match e {
            ActError::Store(e) => e.into(),
            e => {
                let mut problem = Self::new(status, e.to_string());
                problem.fresh_sign_in = matches!(e, ActError::NeedsFreshSignIn);
                match e {
                    ActError::DomainNotAllowed(_) => problem.code = Some("domain_not_allowed"),
                    ActError::RenewTooSoon { wait, .. } => {
                        problem.code = Some("renew_too_soon");
                        return problem.with(RETRY_AFTER, (wait.as_secs() + 1).to_string());
                    }
                    _ => {}
                }
                problem
            }
        }
    }
}
