//! Cross-site requests do not act. A browser's unsafe request must come from our own origin (Fetch
//! Metadata, else `Origin`) and carry a token that only our own pages hold: as the form's field `csrf`,
//! or as the header `X-CSRF-Token` where there is no form.

use actix_web::{
    HttpRequest,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderMap, ORIGIN},
    },
};
use subtle::ConstantTimeEq as _;

use super::{Web, problem::Problem};
use crate::domain::session::Session;

const LABEL: &[u8] = b"lokid csrf v1";

/// The token of a session's forms.
pub(super) fn token(web: &Web, session: &Session) -> String {
    web.app.sealer.tag(LABEL, session.id.as_str())
}

/// The token of a form that is shown before anybody is signed in, bound to a value of that page.
pub(super) fn token_for(web: &Web, subject: &str) -> String {
    web.app.sealer.tag(b"lokid csrf without session v1", subject)
}

/// Whether a form carries the token it should.
pub(super) fn matches(expected: &str, given: &str) -> Result<(), Problem> {
    if bool::from(expected.as_bytes().ct_eq(given.as_bytes())) { Ok(()) } else { Err(stale()) }
}

fn stale() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "the form is out of date (csrf token); go back, reload the page and try again")
}

/// Checks a request that came with a session cookie. A form's token is checked where the form is read.
pub(super) fn check(web: &Web, req: &HttpRequest, session: &Session) -> Result<(), Problem> {
    if req.method().is_safe() {
        return Ok(());
    }
    same_origin(web, req)?;
    let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    // The API reads no form, so there a form's media type must not stand in for the token.
    let is_api = req.match_pattern().is_none_or(|p| p.starts_with("/api/"));
    let is_form =
        req.headers().get(CONTENT_TYPE).map(text).unwrap_or_default().starts_with("application/x-www-form-urlencoded");
    if is_form && !is_api {
        return Ok(());
    }
    let given = req.headers().get("x-csrf-token").map(text).unwrap_or_default();
    matches(&token(web, session), &given)
}

/// Refuses what another site sent. Without either header nothing is known, and the token decides.
pub(super) fn same_origin(web: &Web, req: &HttpRequest) -> Result<(), Problem> {
    if is_same_origin(req.headers(), &|origin| web.is_own_origin(origin)) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::FORBIDDEN, "this request was sent by another site"))
    }
}

fn is_same_origin(headers: &HeaderMap, is_own: &dyn Fn(&str) -> bool) -> bool {
    if headers.get_all("sec-fetch-site").count() > 1 || headers.get_all(ORIGIN).count() > 1 {
        return false;
    }
    let site = headers.get("sec-fetch-site").map(|v| v.to_str().unwrap_or("?"));
    let origin = headers.get(ORIGIN).map(|v| v.to_str().unwrap_or("?"));
    match (site, origin) {
        (Some("same-origin" | "none"), _) | (None, None) => true,
        (Some(_), _) => false,
        (None, Some(origin)) => is_own(origin),
    }
}

impl Web {
    /// Whether an `Origin` is one of the addresses that this server is known by.
    fn is_own_origin(&self, origin: &str) -> bool {
        let scheme = self.app.settings.server.public_url.scheme();
        origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")).is_some_and(|host| self.knows_host(host))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn allowed(headers: &[(&'static str, &str)]) -> bool {
        let mut req = TestRequest::default();
        for (name, value) in headers {
            req = req.append_header((*name, *value));
        }
        is_same_origin(req.to_http_request().headers(), &|origin| origin == "https://door.example")
    }

    #[test]
    fn only_our_own_pages_may_act_in_a_browser() {
        assert!(allowed(&[("sec-fetch-site", "same-origin")]) && allowed(&[("sec-fetch-site", "none")]));
        assert!(allowed(&[("origin", "https://door.example")]) && allowed(&[]));
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert!(!allowed(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(!allowed(&[("origin", "null")]) && !allowed(&[("origin", "https://evil.example")]));
        assert!(!allowed(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
    }
}
