//! `/tokens`: one's own tokens (and, for an administrator, all): make, rotate, revoke.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{Shell, When, form_token, html};
use crate::{
    actions::tokens::{self, Grant, Minted, TokenRequest},
    domain::{
        identity::{Caller, Identity, ManageTokens, SignedIn},
        scope::{Scope, ScopeSet},
        time::Moment,
        token::{Token, TokenState},
    },
    store::tokens::Page,
    web::{
        Web,
        api::{
            Query,
            tokens::{cursor, limit, read_cursor},
        },
        body::{self, Form},
        client::origin,
        problem::Problem,
    },
};

struct Row {
    id: String,
    name: String,
    owner: String,
    scopes: String,
    state: &'static str,
    live: bool,
    can_rotate: bool,
    expires: Option<When>,
    used: Option<When>,
    used_from: String,
    /// Usable, but not used for a long time: perhaps nobody needs it any more.
    idle: bool,
}

/// After so long without a use somebody should ask what a token is for.
const LONG_UNUSED: std::time::Duration = std::time::Duration::from_hours(24 * 90);

impl Row {
    fn of(token: &Token, now: Moment) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.to_string(),
            owner: token.owner_name.clone(),
            scopes: token.scopes.to_string(),
            state: token.state(now).word(),
            live: token.is_live(now),
            can_rotate: token.state(now) == TokenState::Active,
            expires: token.expires_at.map(When::from),
            used: token.last_used_at.map(When::from),
            used_from: token.last_used_from.clone().unwrap_or_default(),
            idle: token.is_live(now) && now.since(token.last_used_at.unwrap_or(token.created_at)) >= LONG_UNUSED,
        }
    }
}

struct ScopeChoice {
    name: &'static str,
    meaning: &'static str,
    allowed: bool,
    chosen: bool,
}

/// The form as it was sent, to be shown again with what is wrong.
#[derive(Default)]
struct Sent {
    name: String,
    days: String,
    scopes: Vec<String>,
    error: Option<String>,
}

struct NewSecret {
    name: String,
    secret: String,
    expires: Option<When>,
    curl: String,
}

#[derive(Template)]
#[template(path = "pages/tokens.html")]
struct TokensPage {
    shell: Shell,
    rows: Vec<Row>,
    choices: Vec<ScopeChoice>,
    sent: Sent,
    new: Option<NewSecret>,
    is_admin: bool,
    all: bool,
    ended: bool,
    next: Option<String>,
    most: i64,
    default_days: String,
}

const PAGE: i64 = 50;

/// `GET /tokens`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &caller, &req, Sent::default(), None, StatusCode::OK).await
}

async fn page(
    web: &Web,
    caller: &Caller<SignedIn>,
    req: &HttpRequest,
    sent: Sent,
    new: Option<NewSecret>,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["all", "ended", "cursor"])?;
    let (all, ended) = (query.text("all").is_some(), query.text("ended").is_some());
    let before = query.text("cursor").map(read_cursor).transpose()?;
    let wanted = Page { owner: None, with_ended: ended, before, limit: PAGE };
    let manager = caller.shared().acting_as::<ManageTokens>().ok();
    let found = match &manager {
        Some(manager) if all => tokens::list(&web.app, manager, &wanted).await?,
        _ => tokens::list_own(&web.app, caller, wanted).await?,
    };
    let now = web.app.now();
    let full = i64::try_from(found.len()).is_ok_and(|n| n == PAGE);
    let flags = format!("{}{}", if all { "all=1&" } else { "" }, if ended { "ended=1&" } else { "" });
    let page = TokensPage {
        shell: Shell::of(web, req, caller.identity(), "Tokens", "/tokens"),
        rows: found.iter().map(|t| Row::of(t, now)).collect(),
        choices: choices(caller.identity(), &sent),
        sent,
        new,
        is_admin: manager.is_some(),
        next: found.last().filter(|_| full).map(|t| format!("/tokens?{flags}cursor={}", cursor(t))),
        all,
        ended,
        most: web.app.settings.auth.max_active_per_user,
        default_days: web.app.settings.auth.lifetimes.default_days.map(|d| d.to_string()).unwrap_or_default(),
    };
    html(web, status, &page)
}

fn choices(who: &Identity, sent: &Sent) -> Vec<ScopeChoice> {
    let choice = |scope: Scope| ScopeChoice {
        name: scope.as_str(),
        meaning: scope.meaning(),
        allowed: who.scopes.allows(scope),
        chosen: sent.scopes.iter().any(|s| s == scope.as_str()),
    };
    [Scope::Read, Scope::Write, Scope::Control, Scope::Audit, Scope::All].into_iter().map(choice).collect()
}

/// `POST /tokens`: the answer shows the secret once. What is wrong is said on the page, with the form as it was.
pub(in crate::web) async fn create(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    limit(&web, &req, &caller)?;
    let form = body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let made = match read(&form) {
        Ok(request) => tokens::mint_own(&web.app, &caller, request, &origin(&req)).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match made {
        Ok(minted) => {
            page(&web, &caller, &req, Sent::default(), Some(reveal(&web, &minted)), StatusCode::CREATED).await
        }
        Err(problem) if problem.fresh_sign_in || problem.status.is_server_error() => Err(problem),
        Err(problem) => {
            let sent = Sent {
                name: form.text("name").to_owned(),
                days: form.text("expires_days").to_owned(),
                scopes: form.all("scopes").map(str::to_owned).collect(),
                error: Some(problem.detail),
            };
            page(&web, &caller, &req, sent, None, problem.status).await
        }
    }
}

fn read(form: &Form) -> Result<TokenRequest, Problem> {
    let name = form.text("name").trim().parse().map_err(|e| Problem::invalid("Name", e))?;
    let scopes = form.all("scopes").map(str::parse::<Scope>).collect::<Result<ScopeSet, _>>();
    let scopes = scopes.map_err(|e| Problem::invalid("Scopes", e))?;
    if scopes.is_empty() {
        return Err(Problem::invalid("Scopes", "choose at least one"));
    }
    let days = match form.text("expires_days").trim() {
        "" => None,
        text => Some(text.parse().map_err(|_| Problem::invalid("Expires in days", "expected a whole number"))?),
    };
    Ok(TokenRequest { name, grant: Grant::Scopes(scopes), days })
}

fn reveal(web: &Web, minted: &Minted) -> NewSecret {
    let secret = minted.secret.reveal().to_owned();
    let address = web.app.settings.server.public_url.as_str().trim_end_matches('/');
    NewSecret {
        name: minted.token.name.to_string(),
        curl: format!("curl -H \"Authorization: Bearer {secret}\" {address}/api/status"),
        secret,
        expires: minted.token.expires_at.map(When::from),
    }
}

/// `POST /tokens/{id}/revoke`
pub(in crate::web) async fn revoke(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let token = tokens::find_own(&web.app, &caller, &id).await?;
    tokens::revoke(&web.app, caller.identity(), &token, &origin(&req)).await?;
    let back = if token.owner == caller.identity().actor.id { "/tokens" } else { "/tokens?all=1" };
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, back)).finish())
}

/// `POST /tokens/{id}/rotate`: the answer shows the new secret once.
pub(in crate::web) async fn rotate(
    web: Data<Web>,
    caller: Caller<SignedIn>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    limit(&web, &req, &caller)?;
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let old = tokens::find_own(&web.app, &caller, &id).await?;
    let minted = tokens::rotate(&web.app, caller.identity(), &old, 24, &origin(&req)).await?;
    page(&web, &caller, &req, Sent::default(), Some(reveal(&web, &minted)), StatusCode::CREATED).await
}
