//! `POST /api/token/exchange` (RFC 8693).

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::AUTHORIZATION},
    web::{Data, Payload},
};
use utoipa::ToSchema;

use crate::{
    actions::{ActError, exchange},
    domain::{
        identity::{Caller, Known},
        scope::ScopeSet,
    },
    web::{
        Web,
        api::tokens,
        body::{self, Form},
        client::origin,
        extract,
        peer::Peer,
        problem::Problem,
        refusals,
    },
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TYPES: [&str; 3] =
    ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token", ACCESS_TOKEN];
const FIELDS: [&str; 7] =
    ["grant_type", "subject_token", "subject_token_type", "requested_token_type", "scope", "audience", "resource"];

/// What the exchange takes, as a form.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct Exchange {
    /// `urn:ietf:params:oauth:grant-type:token-exchange`
    grant_type: String,
    /// A signed token of a configured issuer.
    subject_token: String,
    /// `urn:ietf:params:oauth:token-type:jwt`, `…:id_token` or `…:access_token`
    subject_token_type: String,
    /// Scopes separated by spaces; left out: all that the rule gives.
    scope: Option<String>,
}

/// A token for the one that was sent (RFC 8693 §2.2.1).
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct Exchanged {
    /// The `loki_` token. It is not shown again.
    access_token: String,
    /// `urn:ietf:params:oauth:token-type:access_token`
    issued_token_type: &'static str,
    /// `Bearer`
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Scopes separated by spaces.
    scope: String,
}

/// Exchange a workload's signed token, once, for a `loki_` token that lives a few minutes.
#[utoipa::path(post, path = "/api/token/exchange", tag = "tokens", security(()),
    request_body(content = Exchange, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = Exchanged), (status = 400), (status = 415), (status = 429), (status = 503)))]
pub(in crate::web) async fn exchange(
    web: Data<Web>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    if req.headers().contains_key(AUTHORIZATION) || Web::has_session_cookie(&req) || Peer::known(&req).is_some() {
        return Err(invalid("send the token to exchange as subject_token, and no other credential"));
    }
    let form = body::unbound_form(&web, &req, payload).await?;
    let asked = read(&web, &form)?;
    let identity = extract::by_jwt(&web, &req, asked.token).await.map_err(as_oauth)?;
    let caller: Caller<Known> = identity.acting_as().map_err(|refusal| as_oauth(refusal.into()))?;
    tokens::limit(&web, &req, &caller)?;
    let minted = exchange::exchange(&web.app, &caller, asked.scopes, &origin(&req)).await.map_err(|e| match e {
        e @ ActError::TooWide { .. } => coded("invalid_scope", e),
        // Whoever sends it a second time may have found it somewhere.
        e @ ActError::Conflict(_) => refusals::refused(&web, &req, "exchanged_before", invalid(&e.to_string())),
        e @ ActError::NotAdmitted(_) => invalid(&e.to_string()),
        e => e.into(),
    })?;
    let life = minted.token.expires_at.unwrap_or(minted.token.created_at).since(minted.token.created_at);
    Ok(HttpResponse::Ok().json(Exchanged {
        access_token: minted.secret.reveal().to_owned(),
        issued_token_type: ACCESS_TOKEN,
        token_type: "Bearer",
        expires_in: life.as_secs(),
        scope: minted.token.scopes.to_string(),
    }))
}

struct Asked<'f> {
    token: &'f str,
    scopes: Option<ScopeSet>,
}

fn read<'f>(web: &Web, form: &'f Form) -> Result<Asked<'f>, Problem> {
    if let Some(twice) = FIELDS.into_iter().find(|field| form.all(field).count() > 1) {
        return Err(invalid(&format!("{twice} is there more than once")));
    }
    if form.text("grant_type") != GRANT {
        return Err(coded("unsupported_grant_type", format!("grant_type: expected {GRANT}")));
    }
    if !SUBJECT_TYPES.contains(&form.text("subject_token_type")) {
        return Err(invalid(&format!("subject_token_type: expected {}", SUBJECT_TYPES[0])));
    }
    if !matches!(form.text("requested_token_type"), "" | ACCESS_TOKEN) {
        return Err(invalid(&format!("requested_token_type: expected {ACCESS_TOKEN}, or leave it out")));
    }
    if !form.text("actor_token").is_empty() || !form.text("actor_token_type").is_empty() {
        return Err(invalid("actor_token: nobody acts for somebody else here"));
    }
    let own = web.app.settings.server.public_url.as_str().trim_end_matches('/');
    let elsewhere = |field: &&str| {
        !matches!(form.text(field).trim_end_matches('/'), "") && form.text(field).trim_end_matches('/') != own
    };
    if let Some(field) = ["audience", "resource"].iter().find(|field| elsewhere(field)) {
        return Err(coded("invalid_target", format!("{field}: tokens of lokid are for {own} only")));
    }
    let token = form.text("subject_token");
    if token.is_empty() {
        return Err(invalid("subject_token: must be there"));
    }
    let wanted = Some(form.text("scope")).filter(|scope| !scope.is_empty());
    let scopes = wanted.map(str::parse::<ScopeSet>).transpose().map_err(|e| coded("invalid_scope", e))?;
    Ok(Asked { token, scopes: scopes.filter(|scopes| !scopes.is_empty()) })
}

fn coded(code: &'static str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail.to_string()).coded(code)
}

fn invalid(detail: &str) -> Problem {
    coded("invalid_request", detail)
}

/// RFC 8693 §2.2.2: a subject token that is not acceptable, for whatever reason, is an invalid request.
fn as_oauth(problem: Problem) -> Problem {
    match problem.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => invalid(&format!("subject_token: {}", problem.detail)),
        _ => problem,
    }
}
