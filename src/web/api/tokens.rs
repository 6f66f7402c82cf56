//! `/api/enterprise/tokens`

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::LOCATION,
    web::{Data, Json, Path, Payload},
};
use utoipa::ToSchema;

use super::Query;
use crate::{
    actions::tokens::{self, Grant, Minted, TokenRequest},
    domain::{
        identity::{Caller, ManageTokens},
        scope::{Scope, ScopeSet},
        time::Moment,
        token::{Token, TokenId},
    },
    store::tokens::Page,
    web::{Web, body, client::origin, extract, problem::Problem, refusals},
};

/// A token, never with its secret.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TokenView {
    /// Public id, `tok-…`.
    id: String,
    /// What it is called.
    name: String,
    /// What it grants.
    scopes: Vec<&'static str>,
    /// The role by which it was asked for.
    role: Option<String>,
    /// Whose it is.
    owner: String,
    /// `active`, `replaced`, `expired` or `revoked`.
    state: &'static str,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; null when it does not expire.
    expires_at: Option<String>,
    /// RFC 3339; null when it was never used.
    last_used: Option<String>,
    /// The address of the last use.
    last_used_from: Option<String>,
    /// Whether it was revoked.
    revoked: bool,
    /// The id of the token that took its place.
    replaced_by: Option<String>,
}

impl TokenView {
    /// As the API shows it.
    pub fn of(token: &Token, now: Moment) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.to_string(),
            scopes: token.scopes.iter().map(Scope::as_str).collect(),
            role: token.role.clone(),
            owner: token.owner_name.clone(),
            state: token.state(now).word(),
            created_at: token.created_at.rfc3339(),
            expires_at: token.expires_at.map(Moment::rfc3339),
            last_used: token.last_used_at.map(Moment::rfc3339),
            last_used_from: token.last_used_from.clone(),
            revoked: token.revoked_at.is_some(),
            replaced_by: token.replaced_by.as_ref().map(ToString::to_string),
        }
    }
}

/// A new token with the one sight of its secret.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct NewTokenView {
    #[serde(flatten)]
    token_view: TokenView,
    /// The secret. It is not shown again.
    token: String,
}

/// What a new token shall be: `scopes` or `role`, not both.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewToken {
    /// 1–64 characters.
    name: String,
    /// Some of `*`, `control`, `write`, `read`, `audit`.
    scopes: Option<Vec<String>>,
    /// A role's name.
    role: Option<String>,
    /// Whole days.
    expires_days: Option<u32>,
}

impl NewToken {
    fn read(self) -> Result<TokenRequest, Problem> {
        let name = self.name.parse().map_err(|e| Problem::invalid("name", e))?;
        let grant = match (self.scopes, self.role) {
            (Some(scopes), None) => {
                let set = scopes.iter().map(|s| s.parse::<Scope>()).collect::<Result<ScopeSet, _>>();
                Grant::Scopes(set.map_err(|e| Problem::invalid("scopes", e))?)
            }
            (None, Some(role)) => Grant::Role(role),
            _ => return Err(Problem::invalid("scopes", "give either scopes or role")),
        };
        Ok(TokenRequest { name, grant, days: self.expires_days })
    }
}

/// Make a token.
#[utoipa::path(post, path = "/api/enterprise/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, body = NewTokenView), (status = 401), (status = 403), (status = 409), (status = 415), (status = 422), (status = 429)))]
pub(in crate::web) async fn create(
    web: Data<Web>,
    caller: Caller<ManageTokens>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    limit(&web, &req, &caller)?;
    let request = body::json::<NewToken>(&web, &req, payload).await?.read()?;
    let minted = tokens::mint(&web.app, &caller, request, &origin(&req)).await?;
    Ok(created(&web, &minted))
}

/// How fast one caller may make tokens, by whatever door.
pub(in crate::web) fn limit<R>(web: &Web, req: &HttpRequest, caller: &Caller<R>) -> Result<(), Problem> {
    let who = caller.identity();
    let key = web.limits.key_of(extract::key(who));
    web.limits.token_creation.check(key).map_err(|e| refusals::too_fast(web, req, &who.actor, e))
}

impl NewTokenView {
    /// As the API shows it, once.
    pub fn of(minted: &Minted, now: Moment) -> Self {
        Self { token_view: TokenView::of(&minted.token, now), token: minted.secret.reveal().to_owned() }
    }
}

fn created(web: &Web, minted: &Minted) -> HttpResponse {
    let location = format!("/api/enterprise/tokens/{}", minted.token.id);
    HttpResponse::Created().insert_header((LOCATION, location)).json(NewTokenView::of(minted, web.app.now()))
}

/// List tokens, newest first. `Link: <…>; rel="next"` leads to the next page.
#[utoipa::path(get, path = "/api/enterprise/tokens", tag = "tokens",
    params(("include_revoked" = Option<bool>, Query, description = "Also those that cannot be used any more"),
        ("limit" = Option<i64>, Query, description = "1–1000, default 200"), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Vec<TokenView>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ManageTokens>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["include_revoked", "limit", "cursor"])?;
    let limit = query.limit(200, 1000)?;
    let with_ended = query.parsed("include_revoked", "true or false")?.unwrap_or(false);
    let before = query.text("cursor").map(read_cursor).transpose()?;
    let page = Page { owner: None, with_ended, before, limit };
    let tokens = tokens::list(&web.app, &caller, &page).await?;
    let now = web.app.now();
    let mut answer = HttpResponse::Ok();
    if let Some(last) = tokens.last().filter(|_| i64::try_from(tokens.len()).is_ok_and(|n| n == limit)) {
        let next = format!(
            "</api/enterprise/tokens?include_revoked={with_ended}&limit={limit}&cursor={}>; rel=\"next\"",
            cursor(last)
        );
        answer.insert_header(("link", next));
    }
    Ok(answer.json(tokens.iter().map(|t| TokenView::of(t, now)).collect::<Vec<_>>()))
}

/// The place after a token in the order of lists.
pub(in crate::web) fn cursor(token: &Token) -> String {
    format!("{}.{}", token.created_at.millis(), token.id)
}

/// Reads a [`cursor`].
pub(in crate::web) fn read_cursor(text: &str) -> Result<(Moment, TokenId), Problem> {
    let read = |text: &str| {
        let (at, id) = text.split_once('.')?;
        Some((Moment::from_millis(at.parse().ok()?), id.parse().ok()?))
    };
    read(text).ok_or_else(|| Problem::invalid("cursor", "expected one that an earlier answer gave"))
}

/// Show a token by its id or name.
#[utoipa::path(get, path = "/api/enterprise/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = TokenView), (status = 401), (status = 403), (status = 404), (status = 409)))]
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ManageTokens>,
    id: Path<String>,
) -> Result<Json<TokenView>, Problem> {
    let token = tokens::find(&web.app, &caller, &id).await?;
    Ok(Json(TokenView::of(&token, web.app.now())))
}

/// That a token is revoked.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Revoked {
    /// `ok`
    status: &'static str,
    /// `revoke`
    action: &'static str,
    /// As it was asked for.
    identifier: String,
}

/// Revoke a token by its id or name. Doing it again changes nothing.
#[utoipa::path(delete, path = "/api/enterprise/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = Revoked), (status = 401), (status = 403), (status = 404), (status = 409)))]
pub(in crate::web) async fn revoke(
    web: Data<Web>,
    caller: Caller<ManageTokens>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<Json<Revoked>, Problem> {
    let token = tokens::find(&web.app, &caller, &id).await?;
    tokens::revoke(&web.app, caller.identity(), &token, &origin(&req)).await?;
    Ok(Json(Revoked { status: "ok", action: "revoke", identifier: id.into_inner() }))
}

/// How to rotate.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Rotation {
    /// How many hours the old token still works. Default 24.
    grace_period_hours: Option<u32>,
}

/// Put a new token in the place of an old one, which works until the grace ends.
#[utoipa::path(post, path = "/api/enterprise/tokens/{id}/rotate", tag = "tokens", params(("id" = String, Path)),
    request_body = Option<Rotation>,
    responses((status = 201, body = NewTokenView), (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(in crate::web) async fn rotate(
    web: Data<Web>,
    caller: Caller<ManageTokens>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    limit(&web, &req, &caller)?;
    let has_body = req.headers().contains_key("content-type");
    let rotation = if has_body { body::json::<Rotation>(&web, &req, payload).await? } else { Rotation::default() };
    let old = tokens::find(&web.app, &caller, &id).await?;
    let hours = rotation.grace_period_hours.unwrap_or(24);
    let minted = tokens::rotate(&web.app, caller.identity(), &old, hours, &origin(&req)).await?;
    Ok(created(&web, &minted))
}
