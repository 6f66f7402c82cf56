//! `/api/audit`

use actix_web::{
    HttpRequest,
    web::{Data, Json},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Query;
use crate::{
    actions::{
        audit::{self, Verdict},
        examination,
    },
    domain::{
        event::{EventName, Outcome},
        identity::{Caller, ReadAudit},
        ledger::Entry,
        time::Moment,
    },
    store::ledger::Filter,
    web::{Web, client::origin, problem::Problem},
};

/// Somebody or something.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Party {
    kind: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// One entry of the log.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct EntryView {
    /// Its place, from 1, without gaps.
    seq: i64,
    /// RFC 3339.
    time: String,
    /// The event's name.
    event: String,
    /// `info` or `warning`.
    level: String,
    /// Who acted.
    actor: Party,
    /// On what.
    resource: Party,
    /// `success`, `failure` or `denied`.
    outcome: String,
    /// Why.
    reason: String,
    /// The request.
    request_id: Option<String>,
    /// The true client's address.
    ip: Option<String>,
    /// The caller's program.
    user_agent: Option<String>,
    /// The node that wrote it.
    node: String,
    /// What else is known.
    #[schema(value_type = Object)]
    details: Box<RawValue>,
    /// Hexadecimal digits.
    prev_hash: String,
    /// Hexadecimal digits.
    hash: String,
}

impl EntryView {
    /// As the API shows it.
    pub fn of(entry: Entry) -> Self {
        let hex = |hash: &[u8]| data_encoding::HEXLOWER.encode(hash);
        let raw = RawValue::from_string(entry.details).or_else(|_| RawValue::from_string("null".into()));
        Self {
            seq: entry.seq,
            time: entry.time.rfc3339(),
            event: entry.event,
            level: entry.level,
            actor: Party { kind: entry.actor_kind, id: entry.actor_id, name: Some(entry.actor_name) },
            resource: Party { kind: entry.resource_kind, id: entry.resource_id, name: None },
            outcome: entry.outcome,
            reason: entry.reason,
            request_id: entry.request_id,
            ip: entry.ip,
            user_agent: entry.user_agent,
            node: entry.node,
            details: raw.expect("null is JSON"),
            prev_hash: hex(&entry.prev_hash),
            hash: hex(&entry.hash),
        }
    }
}

/// A page of entries.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first, or with `after` oldest first.
    entries: Vec<EntryView>,
    /// For `cursor`, when there may be more.
    next_cursor: Option<String>,
}

/// What a moment looks like.
pub(super) const WHEN: &str = "a date (2026-01-31) or a date and time with zone (2026-01-31T09:00:00Z)";

const PARAMETERS: [&str; 8] = ["event", "actor", "outcome", "start", "end", "limit", "cursor", "after"];

/// Whether a filter's event is one that there is, or the beginning of one and `*`.
///
/// # Errors
/// What would be right.
pub fn check_filter(event: &str) -> Result<(), String> {
    let known = match event.strip_suffix('*') {
        Some(prefix) => EventName::EVERY.iter().any(|e| e.as_str().starts_with(prefix)),
        None => EventName::find(event).is_some(),
    };
    let names = || EventName::EVERY.iter().map(|e| e.as_str()).collect::<Vec<_>>().join(", ");
    if known { Ok(()) } else { Err(format!("expected one of {}, or the beginning of one and *", names())) }
}

/// Reads the parameters that the API and the page share.
pub(in crate::web) fn filter(query: &Query) -> Result<Filter, Problem> {
    let event = query.text("event");
    event.map_or(Ok(()), check_filter).map_err(|expected| Problem::invalid("event", expected))?;
    let outcome = query.text("outcome");
    if outcome.is_some_and(|o| Outcome::find(o).is_none()) {
        return Err(Problem::invalid("outcome", "expected success, failure or denied"));
    }
    if query.text("actor").is_some_and(|a| a.len() > 256 || a.contains('\0')) {
        return Err(Problem::invalid("actor", "expected an id or a name of at most 256 characters"));
    }
    let (start, end) = (query.parsed::<Moment>("start", WHEN)?, query.parsed::<Moment>("end", WHEN)?);
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        return Err(Problem::invalid("end", "expected a moment after start"));
    }
    Ok(Filter {
        event: event.map(str::to_owned),
        actor: query.text("actor").map(str::to_owned),
        outcome: outcome.map(str::to_owned),
        start,
        end,
        before: query.parsed::<i64>("cursor", "one that an earlier answer gave")?,
        after: query.parsed::<i64>("after", "the place of an entry")?,
        ..Filter::default()
    })
}

/// Read the audit log, newest first; with `after` what follows an entry, oldest first.
#[utoipa::path(get, path = "/api/audit", tag = "audit",
    params(("event" = Option<String>, Query, description = "A name, or the beginning of one and *"), ("actor" = Option<String>, Query),
        ("outcome" = Option<String>, Query), ("start" = Option<String>, Query), ("end" = Option<String>, Query),
        ("limit" = Option<i64>, Query, description = "1–1000, default 100"), ("cursor" = Option<String>, Query),
        ("after" = Option<i64>, Query, description = "Only entries behind this place, oldest first")),
    responses((status = 200, body = AuditPage), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<Json<AuditPage>, Problem> {
    let query = Query::read(req.query_string(), &PARAMETERS)?;
    let (filter, limit) = (filter(&query)?, query.limit(100, 1000)?);
    let entries = audit::page(&web.app, &caller, &filter, limit).await?;
    let full = i64::try_from(entries.len()).is_ok_and(|n| n == limit);
    let next_cursor = entries.last().filter(|_| full && filter.after.is_none()).map(|e| e.seq.to_string());
    Ok(Json(AuditPage { entries: entries.into_iter().map(EntryView::of).collect(), next_cursor }))
}

/// How often something happened.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct CountView {
    event: String,
    outcome: String,
    times: i64,
    /// RFC 3339.
    latest: String,
}

impl CountView {
    /// As the API shows it.
    pub fn of(c: crate::store::ledger::Count) -> Self {
        Self { event: c.event, outcome: c.outcome, times: c.times, latest: c.latest.rfc3339() }
    }
}

/// Count events by name and outcome, since `start` or (by default) ever.
#[utoipa::path(get, path = "/api/audit/summary", tag = "audit", params(("start" = Option<String>, Query)),
    responses((status = 200, body = Vec<CountView>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn summary(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<Json<Vec<CountView>>, Problem> {
    let query = Query::read(req.query_string(), &["start"])?;
    let since = filter(&query)?.start.unwrap_or(Moment::from_millis(i64::MIN));
    let counts = audit::summary(&web.app, &caller, since).await?;
    Ok(Json(counts.into_iter().map(CountView::of).collect()))
}

/// Examine the whole log: the chain, and everything that was signed about it. Who asks while that is under way is
/// answered with the same examination.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", responses((status = 200, body = Verdict), (status = 401), (status = 403)))]
pub(in crate::web) async fn verify(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<Json<Verdict>, Problem> {
    let examination = examination::join(&web.app, &caller, &origin(&req)).await?;
    Ok(Json(Verdict::clone(&*examination.verdict().await?)))
}
