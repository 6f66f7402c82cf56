//! Signing out: by a person, and by a provider behind the browser's back.

use actix_session::Session;
use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, LOCATION},
    },
    web::{Data, Payload},
};
use askama::Template;

use super::{Shell, html};
use crate::{
    actions::{ActError, sessions},
    authn::CredentialRefused,
    web::{Web, body, client::origin, csrf, extract, problem::Problem, refusals},
};

#[derive(Template)]
#[template(path = "pages/logout.html")]
struct LogoutPage {
    shell: Shell,
    csrf: String,
}

/// `GET /auth/logout`: acts when the browser says that the person came here by hand or from our own page;
/// else shows a page with a button. An image on another site must not sign people out.
pub(in crate::web) async fn ask(web: Data<Web>, req: HttpRequest, session: Session) -> Result<HttpResponse, Problem> {
    let known = match extract::session(&web, &req).await {
        Ok(known) => known,
        Err(CredentialRefused::Unavailable(e)) => return Err(e.into()),
        Err(_) => return Ok(signed_out("/login?signed_out=1")),
    };
    let header = |name: &str| req.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let deliberate = matches!(header("sec-fetch-site"), "same-origin" | "none")
        && header("sec-fetch-mode") == "navigate"
        && header("sec-purpose").is_empty();
    if deliberate {
        return end(&web, &req, &session).await;
    }
    let csrf = csrf::token(&web, &known.session);
    html(&web, StatusCode::OK, &LogoutPage { shell: Shell::for_anybody("Sign out", "/auth/logout"), csrf })
}

/// `POST /auth/logout`
pub(in crate::web) async fn act(
    web: Data<Web>,
    req: HttpRequest,
    session: Session,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    csrf::same_origin(&web, &req)?;
    match extract::session(&web, &req).await {
        Ok(known) => {
            body::form(&web, &req, payload, &csrf::token(&web, &known.session)).await?;
            end(&web, &req, &session).await
        }
        Err(CredentialRefused::Unavailable(e)) => Err(e.into()),
        Err(_) => Ok(signed_out("/login?signed_out=1")),
    }
}

async fn end(web: &Web, req: &HttpRequest, session: &Session) -> Result<HttpResponse, Problem> {
    let known = extract::session(web, req).await?;
    let at_provider = sessions::sign_out(&web.app, &known.session, &known.identity, &origin(req)).await?;
    session.purge();
    let mut answer = signed_out(at_provider.as_ref().map_or("/login?signed_out=1", |url| url.as_str()));
    if let Some(door) = web.door_cookie_removal() {
        let _ = answer.add_cookie(&door);
    }
    Ok(answer)
}

fn signed_out(next: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, next)).finish()
}

/// `POST /auth/oidc/backchannel-logout` (Back-Channel Logout 1.0 §2.5, §2.8): 200 or 400, nothing else, and
/// never kept in a cache. 503 only when it could not be carried out, so that the provider tries again.
pub(in crate::web) async fn back_channel(
    web: Data<Web>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    refusals::count_client(&web, &req, &web.limits.callback)?;
    let refused = |detail: String| Problem::bad_request(detail).with(CACHE_CONTROL, "no-store");
    let form = body::unbound_form(&web, &req, payload).await.map_err(|e| refused(e.detail))?;
    let mut tokens = form.all("logout_token");
    let (Some(token), None) = (tokens.next(), tokens.next()) else {
        return Err(refused("logout_token must be there once".into()));
    };
    match sessions::back_channel(&web.app, token, &origin(&req)).await {
        Ok(_) => Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).finish()),
        Err(ActError::Store(e)) => Err(e.into()),
        Err(e) => Err(refused(e.to_string())),
    }
}
