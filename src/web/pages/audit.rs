//! `/audit`: filter, page, follow, verify. The filter lives in the address.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Payload},
};
use askama::Template;

use super::{
    Shell, When,
    audit_chart::{self, Chart},
    form_token, html,
};
use crate::{
    actions::{
        audit::{self, Verdict},
        examination::{self, Examination, State},
    },
    domain::{
        event::EventName,
        identity::{Caller, ReadAudit},
        ledger::Entry,
    },
    store::ledger::Filter,
    web::{
        Web,
        api::{Query, audit::filter},
        body,
        client::origin,
        problem::Problem,
    },
};

/// An entry as lists show it.
pub(super) struct Line {
    pub(super) seq: i64,
    pub(super) when: When,
    pub(super) event: String,
    pub(super) warning: bool,
    pub(super) actor: String,
    pub(super) actor_id: String,
    pub(super) resource: String,
    pub(super) outcome: String,
    pub(super) reason: String,
    pub(super) ip: String,
    pub(super) details: Vec<(String, String)>,
    pub(super) request_id: String,
    pub(super) hash: String,
}

impl Line {
    pub(super) fn of(entry: Entry) -> Self {
        let details: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&entry.details).unwrap_or_default();
        let text = |value: serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Self {
            seq: entry.seq,
            when: entry.time.into(),
            event: entry.event,
            warning: entry.level == "warning",
            actor: if entry.actor_name.is_empty() { entry.actor_kind } else { entry.actor_name },
            actor_id: entry.actor_id,
            // The whole name of a key would take the room of everything else.
            resource: if entry.resource_kind == "key" && entry.resource_id.is_ascii() && entry.resource_id.len() > 16 {
                format!("{}…", &entry.resource_id[..16])
            } else {
                entry.resource_id
            },
            outcome: entry.outcome,
            reason: entry.reason,
            ip: entry.ip.unwrap_or_default(),
            details: details.into_iter().map(|(name, value)| (name, text(value))).collect(),
            request_id: entry.request_id.unwrap_or_default(),
            hash: data_encoding::HEXLOWER.encode(&entry.hash),
        }
    }
}

/// The filter as it was asked for.
#[derive(Default)]
struct Asked {
    event: String,
    actor: String,
    outcome: String,
    start: String,
    end: String,
    follow: bool,
}

#[derive(Template)]
#[template(path = "pages/audit.html")]
struct AuditPage {
    shell: Shell,
    lines: Vec<Line>,
    asked: Asked,
    events: Vec<&'static str>,
    error: Option<String>,
    next: Option<String>,
    shown: Shown,
    chart: Option<Chart>,
    /// The filter as a query, for the links to the exports.
    query: String,
}

/// Entries that a timeline counts at most, so that a page of a large log does not take long.
const MOST_COUNTED: i64 = 50_000;

async fn chart(web: &Web, caller: &Caller<ReadAudit>, filter: &Filter) -> Result<Chart, Problem> {
    let span = audit_chart::span(filter, web.app.now());
    let within = Filter { start: Some(span.0), end: Some(span.1), before: None, after: None, ..filter.clone() };
    let width = audit_chart::bar_width(span);
    let tallies = audit::timeline(&web.app, caller, &within, span.0, width, MOST_COUNTED).await?;
    Ok(audit_chart::draw(&tallies, span, MOST_COUNTED))
}

const PAGE: i64 = 50;
const FILTER: [&str; 5] = ["event", "actor", "outcome", "start", "end"];
const PARAMETERS: [&str; 7] = ["event", "actor", "outcome", "start", "end", "cursor", "follow"];

/// `GET /audit`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &caller, &req, Shown::default()).await
}

/// How far an examination is.
struct Progress {
    done: i64,
    total: i64,
    percent: i64,
    began: When,
}

/// What is known of an examination that was asked for on a page.
#[derive(Default)]
struct Shown {
    verdict: Option<Verdict>,
    progress: Option<Progress>,
    /// Why there is no verdict.
    ended: Option<&'static str>,
}

impl Shown {
    fn of(examination: &Examination) -> Self {
        match examination.state() {
            State::Done(verdict) => Self { verdict: Some(Verdict::clone(&verdict)), ..Self::default() },
            State::UnderWay => {
                // The log grows meanwhile, and whoever wrote it grows with it.
                let (done, total) = (examination.done(), examination.total.max(examination.done()));
                let percent = done * 100 / total.max(1);
                Self {
                    progress: Some(Progress { done, total, percent, began: examination.began.into() }),
                    ..Self::default()
                }
            }
            State::Unreadable => {
                Self { ended: Some("The log could not be read to its end. Try again in a moment."), ..Self::default() }
            }
            State::BrokenOff => {
                Self { ended: Some("The examination was broken off, because nobody waited for it."), ..Self::default() }
            }
        }
    }
}

/// Who examines a short log is answered without a page between.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(700);
/// Between two looks at an examination, in seconds.
const LOOK: u32 = 1;

/// `POST /audit/verify`: walks the whole chain, or joins whoever does.
pub(in crate::web) async fn verify(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let examination = examination::join(&web.app, &caller, &origin(&req)).await?;
    examination.ends_within(AT_ONCE).await;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/audit/verify")).finish())
}

/// `GET /audit/verify`: how far the latest examination is, or what it found. Loads itself again until it has ended.
pub(in crate::web) async fn progress(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    match examination::latest(&web.app, &caller) {
        Some(latest) => page(&web, &caller, &req, Shown::of(&latest)).await,
        None => Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/audit")).finish()),
    }
}

async fn page(web: &Web, caller: &Caller<ReadAudit>, req: &HttpRequest, shown: Shown) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &PARAMETERS)?;
    let text = |name: &str| query.text(name).unwrap_or_default().to_owned();
    let asked = Asked {
        event: text("event"),
        actor: text("actor"),
        outcome: text("outcome"),
        start: text("start"),
        end: text("end"),
        follow: query.text("follow").is_some(),
    };
    let (found, chart, error, status) = match filter(&query) {
        Ok(filter) => {
            let found = audit::page(&web.app, caller, &filter, PAGE).await?;
            let chart = chart(web, caller, &filter).await?;
            (found, Some(chart), None, StatusCode::OK)
        }
        Err(problem) => (Vec::new(), None, Some(problem.detail), problem.status),
    };
    let full = i64::try_from(found.len()).is_ok_and(|n| n == PAGE);
    let next = found.last().filter(|_| full).map(|last| {
        let mut pairs = url::form_urlencoded::Serializer::new(query.again(&FILTER));
        format!("/audit?{}", pairs.append_pair("cursor", &last.seq.to_string()).finish())
    });
    let mut shell = Shell::of(web, req, caller.identity(), "Audit log", "/audit");
    shell.reload = shown.progress.as_ref().map(|_| LOOK).or(asked.follow.then_some(5));
    let page = AuditPage {
        shell,
        lines: found.into_iter().map(Line::of).collect(),
        asked,
        events: EventName::EVERY.iter().map(|e| e.as_str()).collect(),
        error,
        next,
        shown,
        chart,
        query: query.again(&FILTER),
    };
    html(web, status, &page)
}
