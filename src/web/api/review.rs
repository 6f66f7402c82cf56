//! `/api/review/…`: what whoever reviews rights takes along, as JSON or CSV.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Query, audit::WHEN};
use crate::{
    actions::review::{self, Change, Chosen, Finding, Holder, KINDS, Review, TokenReview},
    audit::lines,
    domain::{
        identity::{Caller, ReadAudit},
        scope::Scope,
        time::Moment,
    },
    web::{Web, problem::Problem},
};

/// Without another word, a token is judged after so many days.
pub const DAYS: u32 = 90;

/// The rows of a review.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct ReviewView<T> {
    /// RFC 3339.
    pub as_of: String,
    /// `false`: there is more than one review goes through.
    pub complete: bool,
    /// The rows.
    pub rows: Vec<T>,
}

impl<T> ReviewView<T> {
    /// As the API shows it.
    pub fn of(review: Review<T>, now: Moment) -> Self {
        Self { as_of: now.rfc3339(), complete: review.complete, rows: review.rows }
    }
}

/// The parameters of `/api/review/access`.
///
/// # Errors
/// What would be right, by the parameter.
pub fn chosen(kind: Option<&str>, scope: Option<&str>, beyond_owner: bool) -> Result<Chosen, (&'static str, String)> {
    if let Some(kind) = kind
        && !KINDS.contains(&kind)
    {
        return Err(("kind", format!("expected one of {}", KINDS.join(", "))));
    }
    let scope = scope.map(str::parse::<Scope>).transpose().map_err(|e| ("scope", e.to_string()))?;
    Ok(Chosen { kind: kind.map(str::to_owned), scope, beyond_owner })
}

pub(in crate::web) fn read_chosen(query: &Query) -> Result<Chosen, Problem> {
    let beyond = match query.text("beyond_owner") {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return Err(Problem::invalid("beyond_owner", "expected true or false")),
    };
    chosen(query.text("kind"), query.text("scope"), beyond).map_err(|(name, why)| Problem::invalid(name, why))
}

pub(in crate::web) fn read_days(query: &Query) -> Result<u32, Problem> {
    const EXPECTED: &str = "a whole number of days from 1 to 3650";
    let days = query.parsed::<u32>("days", EXPECTED)?.unwrap_or(DAYS);
    if (1..=3650).contains(&days) { Ok(days) } else { Err(Problem::invalid("days", format!("expected {EXPECTED}"))) }
}

pub(in crate::web) fn read_finding(query: &Query) -> Result<Option<Finding>, Problem> {
    query.parsed::<Finding>("finding", "unused or scopes")
}

pub(in crate::web) fn read_since(query: &Query, now: Moment) -> Result<Moment, Problem> {
    Ok(query.parsed::<Moment>("since", WHEN)?.unwrap_or_else(|| since_by_default(now)))
}

/// Without another word, changes of the last 90 days are shown.
pub fn since_by_default(now: Moment) -> Moment {
    now.minus(std::time::Duration::from_hours(24 * u64::from(DAYS)))
}

/// In the form that was asked for.
fn answer<T: serde::Serialize>(
    query: &Query,
    name: &str,
    columns: &[&str],
    view: &ReviewView<T>,
) -> Result<HttpResponse, Problem> {
    match query.text("format") {
        None | Some("json") => Ok(HttpResponse::Ok().json(view)),
        Some("csv") => {
            let rows: Vec<Value> = view.rows.iter().map(|row| json!(row)).collect();
            let disposition = format!("attachment; filename=\"{name}.csv\"");
            let kind = "text/csv; charset=utf-8; header=present";
            let answer = HttpResponse::Ok()
                .content_type(kind)
                .insert_header(("content-disposition", disposition))
                .body(lines::csv(columns, &rows));
            Ok(answer)
        }
        Some(_) => Err(Problem::invalid("format", "expected json or csv")),
    }
}

/// Who may do what, and through which rule.
#[utoipa::path(get, path = "/api/review/access", tag = "review",
    params(("kind" = Option<String>, Query, description = "person, token, psk, certificate, workload or rule"),
        ("scope" = Option<String>, Query, description = "Only who may do what asks for this scope"),
        ("beyond_owner" = Option<bool>, Query, description = "Only tokens that grant more than their owner may do"),
        ("format" = Option<String>, Query, description = "json (default) or csv")),
    responses((status = 200, body = ReviewView<Holder>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn access(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["kind", "scope", "beyond_owner", "format"])?;
    let found = review::holders(&web.app, &caller, &read_chosen(&query)?).await?;
    answer(&query, "access", Holder::COLUMNS, &ReviewView::of(found, web.app.now()))
}

/// Usable tokens: which are not used, and which grant more than was needed.
#[utoipa::path(get, path = "/api/review/tokens", tag = "review",
    params(("days" = Option<u32>, Query, description = "How long without a use is long; default 90"),
        ("finding" = Option<String>, Query, description = "Only unused, or only scopes (some were never needed)"),
        ("format" = Option<String>, Query, description = "json (default) or csv")),
    responses((status = 200, body = ReviewView<TokenReview>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn tokens(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["days", "finding", "format"])?;
    let found = review::tokens(&web.app, &caller, read_days(&query)?, read_finding(&query)?).await?;
    answer(&query, "tokens", TokenReview::COLUMNS, &ReviewView::of(found, web.app.now()))
}

/// Who lost or gained a right since a moment, newest first.
#[utoipa::path(get, path = "/api/review/changes", tag = "review",
    params(("since" = Option<String>, Query, description = "A date, or a date and time with zone; default 90 days ago"),
        ("format" = Option<String>, Query, description = "json (default) or csv")),
    responses((status = 200, body = ReviewView<Change>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn changes(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["since", "format"])?;
    let now = web.app.now();
    let found = review::changes(&web.app, &caller, read_since(&query, now)?).await?;
    answer(&query, "changes", Change::COLUMNS, &ReviewView::of(found, now))
}
