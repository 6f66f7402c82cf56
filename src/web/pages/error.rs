//! What went wrong, as a page.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use askama::Template;

use super::{Shell, html, known_session};
use crate::web::{Web, problem::Problem};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    shell: Shell,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    sign_in: bool,
}

/// The text of an error's page.
pub(in crate::web) fn page(_: &Web, problem: &Problem, request_id: &str) -> String {
    let page = ErrorPage {
        shell: Shell::for_anybody(problem.title(), ""),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        request_id,
        sign_in: matches!(problem.status.as_u16(), 400 | 401 | 403 | 503),
    };
    page.render().unwrap_or_else(|_| problem.detail.clone())
}

#[derive(Template)]
#[template(path = "pages/fresh.html")]
struct FreshPage {
    shell: Shell,
    provider: Option<String>,
    minutes: u64,
}

/// A `*` token needs a sign-in that is fresh.
pub(in crate::web) fn fresh_sign_in(web: &Web, req: &HttpRequest) -> HttpResponse {
    let session = known_session(req);
    let provider =
        session.as_ref().map(|s| s.session.provider.clone()).filter(|id| web.app.providers.find(id).is_some());
    let shell = match &session {
        Some(known) => Shell::of(web, req, &known.identity, "Sign in again", "/tokens"),
        None => Shell::for_anybody("Sign in again", "/tokens"),
    };
    let minutes = web.app.settings.auth.sessions.fresh.as_secs() / 60;
    html(web, StatusCode::FORBIDDEN, &FreshPage { shell, provider, minutes })
        .unwrap_or_else(|_| HttpResponse::InternalServerError().finish())
}
