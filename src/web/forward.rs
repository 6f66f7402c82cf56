//! What a reverse proxy says of a request that it asks about. Believed only from listed proxies; what is
//! missing, there twice or contradictory is refused, never guessed (`traps.md` 26–30).

use std::borrow::Cow;

use actix_web::{
    HttpRequest,
    http::{
        Method, StatusCode,
        header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderName},
    },
};

use super::Web;
use crate::actions::access::Asked;

/// Where Envoy's `path_prefix` leads: the original path follows it.
pub(super) const ENVOY: &str = "/auth/verify/envoy";

/// A header that a proxy writes: its name, and how documentation spells it.
struct Written(HeaderName, &'static str);

static PROTO: Written = Written(HeaderName::from_static("x-forwarded-proto"), "X-Forwarded-Proto");
static METHOD: Written = Written(HeaderName::from_static("x-forwarded-method"), "X-Forwarded-Method");
static FORWARDED_HOST: Written = Written(HeaderName::from_static("x-forwarded-host"), "X-Forwarded-Host");
static TARGET: Written = Written(HeaderName::from_static("x-forwarded-uri"), "X-Forwarded-Uri");
static OWN_HOST: Written = Written(HOST, "Host");

/// The original request, as the headers that describe it say.
#[derive(Debug, Clone)]
pub(super) struct Original<'r> {
    /// What it asks for.
    pub(super) asked: Asked<'r>,
    /// `http` or `https`.
    pub(super) scheme: &'r str,
}

/// Why the proxy's word is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotBelieved {
    #[error("this address is not a proxy that server.trusted_proxies lists")]
    Peer,
    #[error("the proxy sent no {0}; lokid proxy-config prints a configuration that does")]
    Missing(&'static str),
    #[error("{0} is there more than once")]
    Repeated(&'static str),
    #[error("{0} is not what a proxy writes")]
    Malformed(&'static str),
    #[error("X-Forwarded-Host and Host name different hosts")]
    Contradictory,
}

impl NotBelieved {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Peer => "proxy_not_listed",
            Self::Missing(_) => "forwarded_header_missing",
            Self::Repeated(_) => "forwarded_header_repeated",
            Self::Malformed(_) => "forwarded_header_malformed",
            Self::Contradictory => "forwarded_headers_contradict",
        }
    }
}

/// Reads the original request.
///
/// # Errors
/// [`NotBelieved`].
pub(super) fn read<'r>(web: &Web, req: &'r HttpRequest) -> Result<Original<'r>, NotBelieved> {
    let peer = req.peer_addr().map(|a| a.ip());
    let listed = &web.app.settings.server.trusted_proxies;
    if !peer.is_some_and(|peer| listed.iter().any(|network| network.contains(peer))) {
        return Err(NotBelieved::Peer);
    }
    let headers = req.headers();
    let scheme = needed(headers, &PROTO)?;
    if !matches!(scheme, "http" | "https") {
        return Err(NotBelieved::Malformed(PROTO.1));
    }
    let target = req.uri().path_and_query().map_or("", |p| p.as_str());
    let asked = match target.strip_prefix(ENVOY) {
        Some(original) if original.starts_with('/') => envoy(req, original)?,
        _ => forwarded(headers)?,
    };
    Ok(Original { asked, scheme })
}

/// nginx (as `lokid proxy-config` writes it), Traefik, Caddy.
fn forwarded(headers: &HeaderMap) -> Result<Asked<'_>, NotBelieved> {
    let method = needed(headers, &METHOD)?;
    let host = needed(headers, &FORWARDED_HOST)?;
    let target = needed(headers, &TARGET)?;
    if !is_method(method) {
        return Err(NotBelieved::Malformed(METHOD.1));
    }
    if !is_host(host) {
        return Err(NotBelieved::Malformed(FORWARDED_HOST.1));
    }
    Ok(Asked { method: method.into(), host: in_lower_case(host), target: target.into() })
}

/// Envoy keeps method and host and puts the path behind its prefix.
fn envoy<'r>(req: &'r HttpRequest, target: &'r str) -> Result<Asked<'r>, NotBelieved> {
    let host = needed(req.headers(), &OWN_HOST)?;
    if !is_host(host) {
        return Err(NotBelieved::Malformed(OWN_HOST.1));
    }
    if once(req.headers(), &FORWARDED_HOST)?.is_some_and(|said| !said.eq_ignore_ascii_case(host)) {
        return Err(NotBelieved::Contradictory);
    }
    Ok(Asked { method: req.method().as_str().into(), host: in_lower_case(host), target: target.into() })
}

fn in_lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// The value of a header that must be there once.
fn needed<'h>(headers: &'h HeaderMap, header: &Written) -> Result<&'h str, NotBelieved> {
    once(headers, header)?.ok_or(NotBelieved::Missing(header.1))
}

/// The value of a header that may be there once.
fn once<'h>(headers: &'h HeaderMap, Written(name, spelt): &Written) -> Result<Option<&'h str>, NotBelieved> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(NotBelieved::Repeated(spelt));
    }
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= 8192 => Ok(Some(text)),
        _ => Err(NotBelieved::Malformed(spelt)),
    }
}

fn is_method(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}

/// A name or address with an optional port; a list is two hosts, and that is one too many.
fn is_host(text: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (1..=260).contains(&text.len()) && text.bytes().all(sound) && !text.ends_with('.')
}

impl Original<'_> {
    /// The address as the browser wrote it.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.asked.host, self.asked.target)
    }

    /// Whether a browser waits for a page: then it can be sent to sign in. Everybody else gets 401.
    pub(super) fn is_navigation(&self, req: &HttpRequest) -> bool {
        let text = |name: &str| req.headers().get(name).and_then(|v| v.to_str().ok());
        let method = self.asked.method.parse::<Method>();
        matches!(method, Ok(Method::GET | Method::HEAD))
            && !req.headers().contains_key(AUTHORIZATION)
            && text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"))
            && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
    }
}

/// nginx's `auth_request` knows 2xx, 401 and 403, and answers 500 to every other status. Where it asks
/// (`redirect=no`), the rest is 403.
pub(super) fn status_for(req: &HttpRequest, status: StatusCode) -> StatusCode {
    let known = status.is_success() || matches!(status.as_u16(), 401 | 403) || status.is_server_error();
    if !redirects(req) && !known { StatusCode::FORBIDDEN } else { status }
}

/// Whether the proxy that asks can pass a redirect on. Behind Envoy's prefix the query is the app's own.
pub(super) fn redirects(req: &HttpRequest) -> bool {
    req.uri().path() != "/auth/verify" || req.query_string() != "redirect=no"
}

/// Whether the front must not compare `Host` with our own names: it may be the app's.
pub(super) fn is_asked_about_others(path: &str) -> bool {
    path == "/auth/verify" || path.strip_prefix(ENVOY).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn forwarded_by(lines: &[(&'static str, &str)]) -> Result<Asked<'static>, NotBelieved> {
        let mut req = TestRequest::default();
        for (name, value) in lines {
            req = req.append_header((*name, *value));
        }
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let req = req.to_http_request();
        forwarded(req.headers()).map(|asked| Asked {
            method: owned(asked.method),
            host: owned(asked.host),
            target: owned(asked.target),
        })
    }

    const GOOD: [(&str, &str); 3] =
        [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "App.example:8443"), ("X-Forwarded-Uri", "/a?b=c")];

    #[test]
    fn a_complete_description_is_taken_as_it_stands() {
        let asked = forwarded_by(&GOOD).unwrap();
        assert_eq!((&*asked.method, &*asked.host, &*asked.target), ("GET", "app.example:8443", "/a?b=c"));
    }

    #[test]
    fn what_is_missing_repeated_or_odd_is_refused() {
        for at in 0..GOOD.len() {
            let mut lines = GOOD.to_vec();
            let removed = lines.remove(at);
            assert_eq!(forwarded_by(&lines).unwrap_err(), NotBelieved::Missing(removed.0));
            lines.extend([removed, removed]);
            assert_eq!(forwarded_by(&lines).unwrap_err(), NotBelieved::Repeated(removed.0));
        }
        for (name, value) in [
            ("X-Forwarded-Host", "a.example, b.example"),
            ("X-Forwarded-Host", "a.example."),
            ("X-Forwarded-Host", "user@a.example"),
            ("X-Forwarded-Host", "a.example/x"),
            ("X-Forwarded-Host", ""),
            ("X-Forwarded-Method", "get"),
            ("X-Forwarded-Method", "GET, POST"),
        ] {
            let lines: Vec<_> = GOOD.iter().map(|line| if line.0 == name { (name, value) } else { *line }).collect();
            assert_eq!(forwarded_by(&lines).unwrap_err(), NotBelieved::Malformed(name), "{value:?}");
        }
    }
}
