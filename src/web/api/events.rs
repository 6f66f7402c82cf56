//! `/api/events`: what happens, as server-sent events (WHATWG HTML §9.2).
//!
//! A stream ends when the credential that opened it does not hold any more, when its reader is too slow, and when the
//! server ends. Its reader comes back with `Last-Event-ID` and misses nothing.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
    },
    web::{Bytes, Data},
};
use futures_util::stream;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{Query, audit::EntryView, run_reports::LineView};
use crate::{
    actions::happenings::{self, Cursor, Following, Happening, TooSlow, What},
    domain::{
        identity::{Caller, ReadState},
        ledger::Entry,
        run::RunId,
        scope::Scope,
    },
    web::{Web, extract, problem::Problem},
};

/// So that proxies and readers see that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon the end of a credential ends its streams.
const CHECK: Duration = Duration::from_millis(500);
/// More than this is not told again to one who comes back.
const MOST_TOLD_AGAIN: usize = 5000;
/// Happenings that are sent in one piece.
const AT_ONCE: usize = 256;

/// Kinds of events, as readers name them.
const TYPES: [&str; 4] = ["run", "task", "log", "audit"];

/// Which events a reader wants.
#[derive(Debug, Clone)]
struct Wanted {
    /// Some of [`TYPES`].
    types: Vec<&'static str>,
    /// Only of this run.
    of: Option<RunId>,
}

impl Wanted {
    fn read(query: &Query, may_audit: bool) -> Result<Self, Problem> {
        const EXPECTED: &str = "expected some of run, task, log, audit, separated by commas";
        let known = |name: &str| TYPES.into_iter().find(|known| *known == name);
        let types = match query.text("types") {
            None => TYPES.into_iter().filter(|name| may_audit || *name != "audit").collect(),
            Some(text) => text
                .split(',')
                .map(|name| known(name).ok_or_else(|| Problem::invalid("types", EXPECTED)))
                .collect::<Result<Vec<_>, _>>()?,
        };
        if types.contains(&"audit") && !may_audit {
            return Err(Problem::new(StatusCode::FORBIDDEN, "audit events need the scope audit"));
        }
        let of = query.parsed::<RunId>("run_id", "the id of a run, run- and 12 characters")?;
        Ok(Self { types, of })
    }

    fn wants(&self, name: &str) -> bool {
        self.types.contains(&name)
    }

    fn takes(&self, what: &What) -> bool {
        let is_of = |id: &str| self.of.as_ref().is_none_or(|of| of.as_str() == id);
        match what {
            What::Line(line) => self.wants("log") && is_of(&line.run),
            What::Entry(entry) if self.wants("audit") => is_of(&entry.resource_id),
            What::Entry(entry) => {
                let kind = entry.resource_kind.as_str();
                matches!(kind, "run" | "task") && self.wants(kind) && is_of(&entry.resource_id)
            }
        }
    }

    /// An event of the stream. Who may read the audit log gets entries as they stand there, everybody else what they
    /// say of a run or task.
    fn frame(&self, happening: &Happening) -> String {
        match &happening.what {
            What::Line(line) => {
                happening.shown.get_or_init(|| written(happening.cursor, "log", &LineView::of(line))).clone()
            }
            What::Entry(entry) => {
                let kind = entry.resource_kind.as_str();
                let mut text = String::new();
                if matches!(kind, "run" | "task") && self.wants(kind) {
                    text.push_str(happening.shown.get_or_init(|| written(happening.cursor, kind, &Change::of(entry))));
                }
                if self.wants("audit") {
                    text.push_str(&written(happening.cursor, "audit", &EntryView::of((**entry).clone())));
                }
                text
            }
        }
    }
}

/// Counts a stream as long as it is open.
struct Open {
    web: Data<Web>,
    caller: u64,
}

impl Open {
    fn one_more(web: &Data<Web>, caller: u64) -> Result<Self, Problem> {
        let most = web.app.settings.limits.event_streams;
        let mut open = web.event_streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_caller = open.get(&caller).copied().unwrap_or(0);
        // Nobody takes all of them from the others.
        if open.values().sum::<usize>() >= most || of_caller >= most.div_ceil(2) {
            let detail =
                format!("too many event streams are open already (limits.event_streams {most}); try again later");
            return Err(
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(actix_web::http::header::RETRY_AFTER, "10")
            );
        }
        open.insert(caller, of_caller + 1);
        Ok(Self { web: web.clone(), caller })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.web.event_streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}

/// How many streams each caller has open.
#[derive(Debug, Default)]
pub(in crate::web) struct Streams(Mutex<HashMap<u64, usize>>);

/// Follow what happens: events `run`, `task`, `log` and, for holders of `audit`, `audit`. `Last-Event-ID` resumes.
#[utoipa::path(get, operation_id = "follow_events", path = "/api/events", tag = "runs",
    params(("types" = Option<String>, Query, description = "Some of run,task,log,audit; default all that the credential may see"),
        ("run_id" = Option<String>, Query, description = "Only what is about this run"),
        ("since" = Option<String>, Query, description = "The id of an event: only what came behind it, and all of that"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 401), (status = 403), (status = 422), (status = 429)))]
pub(in crate::web) async fn follow(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["types", "run_id", "since"])?;
    let wanted = Wanted::read(&query, caller.identity().scopes.allows(Scope::Audit))?;
    if wanted.wants("audit") {
        web.app.authn.needed(caller.identity(), Scope::Audit);
    }
    // A browser says where it was only when it comes back; a page says by `since` what it was made from.
    let (name, since) = match req.headers().get("last-event-id") {
        Some(value) => ("Last-Event-ID", value.to_str().ok().or(Some("?"))),
        None => ("since", query.text("since")),
    };
    let since = since.map(str::parse::<Cursor>).transpose().map_err(|e| Problem::invalid(name, e))?;
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would gather what belongs to a reader at once.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"));
    if req.method() == Method::HEAD {
        // A body that nobody reads would never end.
        return Ok(answer.finish());
    }
    let open = Open::one_more(&web, web.limits.key_of(extract::key(caller.identity())))?;
    let following = happenings::follow(&web.app, since).await?;
    let stream = Stream::new(open, extract::Standing::of(&req, &caller), wanted, following);
    Ok(answer.streaming(stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    })))
}

struct Stream {
    open: Open,
    standing: extract::Standing,
    wanted: Wanted,
    following: Following,
    /// How much of what was missed was told already.
    told_again: usize,
    begun: bool,
    heartbeat: Interval,
    check: Interval,
}

impl Stream {
    fn new(open: Open, standing: extract::Standing, wanted: Wanted, following: Following) -> Self {
        let every = |period| {
            let mut interval = interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (heartbeat, check) = (every(HEARTBEAT), every(CHECK));
        Self { open, standing, wanted, following, told_again: 0, begun: false, heartbeat, check }
    }

    /// The next piece; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(self.greeting());
        }
        if let Some(since) = self.following.since {
            return self.tell_again(since).await;
        }
        loop {
            tokio::select! {
                () = end(&mut self.following.ended) => return None,
                _ = self.heartbeat.tick() => return Some(Bytes::from_static(b":\n\n")),
                _ = self.check.tick() => {
                    if !self.standing.still_holds().await {
                        return None;
                    }
                }
                got = self.following.coming.next() => {
                    let text = self.gather(got).ok()?;
                    if !text.is_empty() {
                        return Some(text.into());
                    }
                }
            }
        }
    }

    /// The next stretch of what was missed. Read piece by piece, so that one who does not read costs nothing.
    async fn tell_again(&mut self, mut since: Cursor) -> Option<Bytes> {
        if !self.standing.still_holds().await {
            return None;
        }
        let until = self.following.from;
        let piece = happenings::behind(&self.open.web.app, &mut since, until).await.ok()?;
        self.told_again += piece.len();
        self.following.since = (!piece.is_empty()).then_some(since);
        if self.told_again > MOST_TOLD_AGAIN {
            self.following.since = None;
            return Some(format!("id: {until}\nevent: reset\ndata: {{\"detail\":\"too much happened meanwhile; load what you show again\"}}\n\n").into());
        }
        let text = self.text(&piece);
        Some(if text.is_empty() { ":\n\n".into() } else { text.into() })
    }

    /// With where the reader is now, so that one without any event yet can resume too.
    fn greeting(&self) -> Bytes {
        let at = self.following.since.unwrap_or(self.following.from);
        format!("retry: 2000\nid: {at}\nevent: hello\ndata: {{}}\n\n").into()
    }

    /// What came, with all that waits behind it.
    fn gather(&mut self, first: Result<Arc<Happening>, TooSlow>) -> Result<String, TooSlow> {
        let mut piece = vec![first?];
        while piece.len() < AT_ONCE
            && let Some(happening) = self.following.coming.try_next()?
        {
            piece.push(happening);
        }
        piece.retain(|happening| happening.is_behind(self.following.from));
        Ok(self.text(&piece))
    }

    fn text(&self, piece: &[Arc<Happening>]) -> String {
        let wanted = piece.iter().filter(|happening| self.wanted.takes(&happening.what));
        wanted.map(|happening| self.wanted.frame(happening)).collect()
    }
}

/// Waits for the server's end.
async fn end(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

fn written(cursor: Cursor, event: &str, data: &impl serde::Serialize) -> String {
    // JSON holds no line feed, so one `data` line carries it.
    format!("id: {cursor}\nevent: {event}\ndata: {}\n\n", serde_json::to_string(data).unwrap_or_default())
}

/// What everybody who may read sees of an entry.
#[derive(Debug, serde::Serialize)]
struct Change<'e> {
    /// `run.pause`, `task.move`, …
    event: &'e str,
    id: &'e str,
    /// The state from now on, where the entry says it.
    status: Option<String>,
    time: String,
}

impl<'e> Change<'e> {
    fn of(entry: &'e Entry) -> Self {
        let details: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&entry.details).unwrap_or_default();
        let text = |name: &str| details.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let status = text("status").or_else(|| text("to"));
        Self { event: &entry.event, id: &entry.resource_id, status, time: entry.time.rfc3339() }
    }
}
