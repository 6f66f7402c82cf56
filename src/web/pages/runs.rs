//! `/runs` and `/runs/{id}`: what works and waits, and a log that can be read while it is written.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{Shell, When, form_token, html, known_session};
use crate::{
    actions::{
        ActError,
        happenings::{self, Cursor},
        runs::{self, Input, Placed, StartRequest},
    },
    domain::{
        identity::{Caller, ControlRuns, Identity, ReadState},
        run::{Run, RunState, Wish, check_name},
        scope::Scope,
        time::Moment,
    },
    store::runs::lines::Line,
    web::{
        Web,
        api::{
            Query,
            runs::{next_cursor, page as page_of},
        },
        body,
        client::origin,
        problem::Problem,
    },
};

/// Lines of a log on one page.
const LINES: i64 = 500;

/// A run as lists and its own page show it.
pub(super) struct RunView {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) position: Option<usize>,
    pub(super) reason: String,
    pub(super) source: String,
    pub(super) by: String,
    pub(super) asked: When,
    pub(super) took: String,
    pub(super) phase: String,
    /// What may be asked of it, with the word on the button.
    pub(super) wishes: Vec<(&'static str, &'static str)>,
}

impl RunView {
    pub(super) fn of(placed: Placed, now: Moment) -> Self {
        let Placed { run, position } = placed;
        let wishes = Wish::EVERY.iter().filter(|wish| run.state.after(**wish).is_ok());
        let said = [run.progress.phase.clone(), run.progress.current_task.clone()];
        Self {
            id: run.id.to_string(),
            state: run.state.as_str(),
            position,
            took: took(&run, now),
            reason: run.reason,
            source: run.source.unwrap_or_else(|| "text".into()),
            by: run.created_by_name,
            asked: run.created_at.into(),
            phase: said.into_iter().flatten().collect::<Vec<_>>().join(": "),
            wishes: wishes.map(|wish| (wish.as_str(), label(*wish))).collect(),
        }
    }
}

const fn label(wish: Wish) -> &'static str {
    match wish {
        Wish::Stop => "Stop",
        Wish::Pause => "Pause",
        Wish::Resume => "Resume",
    }
}

/// `1 h 4 min`, `3 min 20 s`, `12 s`; how long it has worked or did.
fn took(run: &Run, now: Moment) -> String {
    let Some(began) = run.started_at else { return String::new() };
    let seconds = run.ended_at.unwrap_or(now).since(began).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn may_control(who: &Identity, req: &HttpRequest) -> bool {
    who.scopes.allows(Scope::Control) && known_session(req).is_some()
}

#[derive(Template)]
#[template(path = "pages/runs.html")]
struct RunsPage {
    shell: Shell,
    /// Behind which events change what is shown.
    since: Cursor,
    runs: Vec<RunView>,
    /// The states to filter by, and which is chosen.
    states: Vec<&'static str>,
    chosen: String,
    next: Option<String>,
    may_control: bool,
    has_command: bool,
    error: Option<String>,
    sent: Sent,
}

/// What was sent with a form that could not be taken.
#[derive(Default)]
struct Sent {
    prd: String,
    text: String,
}

/// `GET /runs`
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &req, &caller, None, Sent::default()).await
}

async fn page(
    web: &Web,
    req: &HttpRequest,
    caller: &Caller<ReadState>,
    error: Option<String>,
    sent: Sent,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["status", "cursor"])?;
    let asked = page_of(&query)?;
    let since = happenings::end(&web.app).await?;
    let found = runs::list(&web.app, caller, &asked).await?;
    let chosen = query.text("status").unwrap_or_default().to_owned();
    let next = next_cursor(&found, asked.limit).map(|cursor| format!("/runs?status={chosen}&cursor={cursor}"));
    let now = web.app.now();
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = RunsPage {
        shell: Shell::of(web, req, caller.identity(), "Runs", "/runs"),
        since,
        runs: found.into_iter().map(|placed| RunView::of(placed, now)).collect(),
        states: RunState::EVERY.iter().map(|state| state.as_str()).collect(),
        chosen,
        next,
        may_control: may_control(caller.identity(), req),
        has_command: !web.app.settings.runs.command.is_empty(),
        error,
        sent,
    };
    html(web, status, &page)
}

/// `POST /runs`
pub(in crate::web) async fn start(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = body::form_up_to(&web, &req, payload, &form_token(&web, &req)?, body::PRD).await?;
    let read = || -> Result<StartRequest, String> {
        let input = match (form.text("prd").trim(), form.text("text")) {
            ("", "") => return Err("Name a file of the workspace, or write what is to be done".into()),
            ("", text) => Input::Text(text.replace("\r\n", "\n")),
            (file, "") => Input::File(file.to_owned()),
            _ => return Err("Give either a file or a text, not both".into()),
        };
        let provider = Some(form.text("provider").trim()).filter(|p| !p.is_empty());
        let provider = provider.map(check_name).transpose().map_err(|e| format!("Provider: {e}"))?;
        Ok(StartRequest { input, provider, config: None, request_id: None })
    };
    let refused = match read() {
        Ok(request) => match runs::start(&web.app, &caller, request, &origin(&req)).await {
            Ok(placed) => return Ok(to(&placed.run)),
            Err(ActError::Invalid { message, .. } | ActError::Conflict(message)) => message,
            Err(e) => return Err(e.into()),
        },
        Err(message) => message,
    };
    let sent = Sent { prd: form.text("prd").into(), text: form.text("text").into() };
    let reader = caller.shared().acting_as::<ReadState>()?;
    page(&web, &req, &reader, Some(refused), sent).await
}

fn to(run: &Run) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, format!("/runs/{}", run.id))).finish()
}

struct LineView {
    number: i64,
    when: When,
    is_error: bool,
    text: String,
}

impl LineView {
    fn of(line: Line) -> Self {
        Self { number: line.n, when: line.time.into(), is_error: line.stream == "err", text: line.text }
    }
}

struct StepView {
    when: When,
    state: String,
    reason: String,
    by: String,
}

#[derive(Template)]
#[template(path = "pages/run.html")]
struct RunPage {
    shell: Shell,
    /// Behind which events change what is shown.
    since: Cursor,
    run: RunView,
    steps: Vec<StepView>,
    pid: Option<i64>,
    exit_code: Option<i64>,
    replay_of: Option<String>,
    is_over: bool,
    lines: Vec<LineView>,
    /// How many there are.
    count: i64,
    /// The number before the first that is shown, for the stretch before.
    earlier: Option<i64>,
    /// The number behind which the next stretch begins, unless this is the last.
    later: Option<i64>,
    may_control: bool,
    error: Option<String>,
}

/// `GET /runs/{id}`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    one(&web, &req, &caller, &id, None).await
}

async fn one(
    web: &Web,
    req: &HttpRequest,
    caller: &Caller<ReadState>,
    id: &str,
    error: Option<String>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["after"])?;
    let since = happenings::end(&web.app).await?;
    let placed = runs::show(&web.app, caller, id).await?;
    let run = placed.run.clone();
    let asked = query.parsed::<u32>("after", "the number of a line")?.map(i64::from);
    let after = asked.unwrap_or(run.log_lines - LINES).max(0);
    let lines = runs::lines_after(&web.app, caller, &run.id, after, LINES).await?;
    let steps = runs::timeline(&web.app, caller, id).await?;
    let end = after + i64::try_from(lines.len()).unwrap_or(0);
    let step = |step: crate::store::runs::Step| StepView {
        when: step.time.into(),
        state: step.state,
        reason: step.reason,
        by: step.actor_name,
    };
    let status = if error.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
    let page = RunPage {
        shell: Shell::of(web, req, caller.identity(), &format!("Run {}", run.id), "/runs"),
        since,
        run: RunView::of(placed, web.app.now()),
        steps: steps.into_iter().map(step).collect(),
        pid: run.pid.filter(|_| run.state.has_process()),
        exit_code: run.exit_code,
        replay_of: run.replay_of.map(|id| id.to_string()),
        is_over: run.state.is_over(),
        lines: lines.into_iter().map(LineView::of).collect(),
        count: run.log_lines,
        earlier: (after > 0).then(|| (after - LINES).max(0)),
        later: (end < run.log_lines).then_some(end),
        may_control: may_control(caller.identity(), req),
        error,
    };
    html(web, status, &page)
}

/// `POST /runs/{id}/{act}`
pub(in crate::web) async fn act(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    path: Path<(String, String)>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let (id, act) = path.into_inner();
    let done = match act.as_str() {
        "replay" => runs::replay(&web.app, &caller, &id, &origin(&req)).await.map(|placed| placed.run),
        wish => {
            let wish = wish.parse().map_err(|_| Problem::not_found())?;
            runs::follow(&web.app, &caller, Some(&id), wish, &origin(&req)).await
        }
    };
    match done {
        Ok(run) => Ok(to(&run)),
        // It went on meanwhile: the page shows how it is now.
        Err(ActError::Conflict(message)) => {
            let reader = caller.shared().acting_as::<ReadState>()?;
            one(&web, &req, &reader, &id, Some(message)).await
        }
        Err(e) => Err(e.into()),
    }
}

/// What works, waits and failed lately, for the overview.
pub(super) struct Work {
    pub(super) active: Vec<RunView>,
    pub(super) failed: Vec<RunView>,
}

/// Failures of this long are shown.
const LATELY: Duration = Duration::from_hours(24);

pub(super) async fn work(web: &Web, caller: &Caller<ReadState>) -> Result<Work, Problem> {
    let now = web.app.now();
    let view = |placed| RunView::of(placed, now);
    let active = runs::active(&web.app, caller).await?;
    let failed = crate::store::runs::Page { state: Some(RunState::Failed), before: None, limit: 5 };
    let failed = runs::list(&web.app, caller, &failed).await?;
    let lately = |placed: &Placed| placed.run.created_at >= now.minus(LATELY);
    Ok(Work {
        active: runs::placed(active).into_iter().map(view).collect(),
        failed: failed.into_iter().filter(lately).map(view).collect(),
    })
}
