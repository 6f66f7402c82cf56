//! Signing in: the page with a button for each provider, the way there and back, the one-time link.

use std::time::Duration;

use actix_session::Session;
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;
use data_encoding::BASE64URL_NOPAD;

use super::{Shell, html};
use crate::{
    actions::{admin_link, sign_in},
    domain::session::SessionId,
    oidc::state::SignIn,
    web::{Web, api::Query, body, client::origin, csrf, extract, problem::Problem, refusals, session_store},
};

/// The page waits this long for a provider before it says that it does not answer.
const PROBE: Duration = Duration::from_millis(1500);

struct Button {
    href: String,
    name: String,
    reachable: bool,
}

#[derive(Template)]
#[template(path = "pages/login.html")]
struct LoginPage {
    shell: Shell,
    buttons: Vec<Button>,
    signed_out: bool,
}

/// `GET /login`
pub(in crate::web) async fn show(web: Data<Web>, req: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["return_to", "signed_out"])?;
    let return_to = query.text("return_to").unwrap_or("/");
    let mut buttons = Vec::new();
    for provider in web.app.providers.iter() {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        pairs.append_pair("provider", provider.id()).append_pair("return_to", return_to);
        buttons.push(Button {
            href: format!("/auth/oidc/login?{}", pairs.finish()),
            name: provider.name().to_owned(),
            reachable: tokio::time::timeout(PROBE, provider.probe()).await.is_ok_and(|probed| probed.is_ok()),
        });
    }
    let signed_out = query.text("signed_out").is_some();
    html(&web, StatusCode::OK, &LoginPage { shell: Shell::for_anybody("Sign in", "/login"), buttons, signed_out })
}

/// `GET /auth/oidc/login`: to the provider.
pub(in crate::web) async fn begin(web: Data<Web>, req: HttpRequest) -> Result<HttpResponse, Problem> {
    refusals::count_client(&web, &req, &web.limits.sign_in)?;
    let query = Query::read(req.query_string(), &["return_to", "provider", "fresh"])?;
    let mut all = web.app.providers.iter();
    let provider = match (query.text("provider"), all.next(), all.next()) {
        (Some(id), _, _) => {
            web.app.providers.find(id).ok_or_else(|| Problem::invalid("provider", "there is no such provider"))?
        }
        (None, Some(only), None) => only,
        (None, None, _) => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no identity provider is configured (enterprise.auth.oidc)",
            ));
        }
        (None, Some(_), Some(_)) => {
            return Err(Problem::invalid("provider", "say which; /login has a button for each"));
        }
    };
    let asked = query.text("return_to").unwrap_or("/");
    let return_to = sign_in::own_path(&web.app.settings.server.public_url, asked).ok_or_else(|| {
        Problem::invalid(
            "return_to",
            "expected a path of this server that begins with one /, of at most 1024 characters",
        )
    })?;
    let cookie = BASE64URL_NOPAD.encode(&web.app.entropy.bytes::<32>());
    let begun = sign_in::begin(&web.app, provider, &return_to, query.text("fresh").is_some(), &cookie).await?;
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((LOCATION, begun.url.as_str()));
    answer.cookie(web.new_sign_in_cookie(&begun.label, cookie));
    for surplus in web.surplus_sign_ins(&req) {
        answer.cookie(surplus);
    }
    Ok(answer.finish())
}

/// `GET /auth/oidc/callback`: back from the provider, on to a clean address.
pub(in crate::web) async fn finish(
    web: Data<Web>,
    req: HttpRequest,
    session: Session,
) -> Result<HttpResponse, Problem> {
    refusals::count_client(&web, &req, &web.limits.callback)?;
    let before = session_before(&web, &req).await;
    let cookie = |begun: &SignIn| web.sign_in_secret(&req, begun.label());
    let done = sign_in::finish(&web.app, req.query_string(), cookie, before, &origin(&req)).await?;
    adopt(&session, &done)
}

async fn session_before(web: &Web, req: &HttpRequest) -> Option<SessionId> {
    extract::session(web, req).await.ok().map(|known| known.session.id.clone())
}

/// Lets `actix-session` set the cookie of a session that an action has opened.
fn adopt(session: &Session, done: &sign_in::SignedIn) -> Result<HttpResponse, Problem> {
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the session cookie could not be made");
    session.renew();
    session.insert(session_store::SECRET, done.secret.reveal()).map_err(broken)?;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, done.return_to.as_str())).finish())
}

#[derive(Template)]
#[template(path = "pages/link.html")]
struct LinkPage {
    shell: Shell,
    csrf: String,
}

/// `GET /login/local/{code}`: a page with a button, so that a preview of the link does not use it up.
pub(in crate::web) async fn link(web: Data<Web>, code: Path<String>) -> Result<HttpResponse, Problem> {
    if !web.app.admin_link.is_good(&code, web.app.now()) {
        return Err(link_not_good());
    }
    let csrf = csrf::token_for(&web, &code);
    html(&web, StatusCode::OK, &LinkPage { shell: Shell::for_anybody("Sign in", "/login"), csrf })
}

/// `POST /login/local/{code}`
pub(in crate::web) async fn use_link(
    web: Data<Web>,
    req: HttpRequest,
    session: Session,
    code: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    refusals::count_client(&web, &req, &web.limits.callback)?;
    csrf::same_origin(&web, &req)?;
    body::form(&web, &req, payload, &csrf::token_for(&web, &code)).await?;
    let before = session_before(&web, &req).await;
    let done = admin_link::with_link(&web.app, &code, before, &origin(&req)).await?;
    adopt(&session, &done)
}

fn link_not_good() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, admin_link::LINK_NOT_GOOD)
}
