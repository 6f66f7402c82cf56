//! `/account`: who am I, which role and why, where else am I signed in.

use actix_session::Session;
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{SessionView, Shell, When, form_token, html, known_session};
use crate::{
    actions::sessions,
    domain::{
        identity::{Caller, SignedIn},
        scope::Scope,
    },
    web::{Web, body, client::origin, problem::Problem},
};

#[derive(Template)]
#[template(path = "pages/account.html")]
struct AccountPage {
    shell: Shell,
    name: String,
    email: String,
    id: String,
    provider: String,
    role: String,
    rule: String,
    scopes: Vec<(&'static str, &'static str)>,
    ends: When,
    sessions: Vec<SessionView>,
}

/// `GET /account`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let known = known_session(&req).ok_or_else(Problem::unauthenticated)?;
    let who = caller.identity();
    let current = known.session.id.to_string();
    let own = sessions::own(&web.app, &caller).await?;
    let page = AccountPage {
        shell: Shell::of(&web, &req, who, "Account", "/account"),
        name: who.actor.name.clone(),
        email: who.email.clone().unwrap_or_default(),
        id: who.actor.id.clone(),
        provider: known.session.provider.clone(),
        role: known.session.role.clone(),
        rule: known.session.rule.clone(),
        scopes: who.scopes.iter().map(|s: Scope| (s.as_str(), s.meaning())).collect(),
        ends: known.session.signed_in_at.plus(web.app.settings.auth.sessions.absolute).into(),
        sessions: own.iter().map(|s| SessionView::of(s, Some(&current))).collect(),
    };
    html(&web, StatusCode::OK, &page)
}

/// `POST /account/sessions/{id}/end`
pub(in crate::web) async fn end_one(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    sessions::end_one(&web.app, &caller, &id, &origin(&req)).await?;
    // An administrator ends somebody's session on that person's page, and goes back there.
    let back = match form.text("person").parse::<crate::domain::person::PersonId>() {
        Ok(person) => format!("/people/{person}"),
        Err(_) => "/account".to_owned(),
    };
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, back)).finish())
}

/// `POST /account/end-everywhere`: also here.
pub(in crate::web) async fn end_everywhere(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
    session: Session,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    sessions::end_everywhere(&web.app, &caller, &origin(&req)).await?;
    session.purge();
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/login?signed_out=1")).finish())
}
