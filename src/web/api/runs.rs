//! `/api/v2/runs` and `/api/control`

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::LOCATION,
    web::{Data, Json, Path, Payload},
};
use utoipa::ToSchema;

use super::Query;
use crate::{
    actions::runs::{self, Input, Placed, StartRequest},
    domain::{
        identity::{Caller, ControlRuns, ReadState},
        run::{Run, RunState, Wish, check_name, check_request_id},
        time::Moment,
    },
    store::runs::Page,
    web::{Web, body, client::origin, problem::Problem},
};

/// A run.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct RunView {
    /// Public id, `run-…`.
    id: String,
    /// `queued`, `running`, `paused`, `stopping`, `completed`, `failed` or `stopped`.
    status: &'static str,
    /// Its place in the queue, from 1, when it waits.
    position: Option<usize>,
    /// Why it is in this state; empty when that goes without saying.
    reason: String,
    /// The file that its PRD came from; null when the text was sent.
    prd: Option<String>,
    /// The provider that was asked for.
    provider: Option<String>,
    /// The configuration that was asked for.
    config: Option<String>,
    /// The caller's UUID of the request.
    request_id: Option<String>,
    /// The run whose input it repeats.
    replay_of: Option<String>,
    /// Public id of who started it.
    created_by: String,
    /// What they are called.
    created_by_name: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    started_at: Option<String>,
    /// RFC 3339.
    ended_at: Option<String>,
    /// Its process.
    pid: Option<i64>,
    /// What its process ended with.
    exit_code: Option<i64>,
    /// The node that it belongs to.
    node: String,
    /// Lines of its log.
    log_lines: i64,
    /// What it says of itself.
    phase: Option<String>,
    /// What it says of itself.
    iteration: Option<i64>,
    /// What it says of itself.
    complexity: Option<String>,
    /// What it says of itself.
    mode: Option<String>,
    /// What it says of itself.
    current_task: Option<String>,
}

impl RunView {
    pub(super) fn of(placed: Placed) -> Self {
        let Placed { run, position } = placed;
        Self {
            id: run.id.to_string(),
            status: run.state.as_str(),
            position,
            reason: run.reason,
            prd: run.source,
            provider: run.provider,
            config: run.config,
            request_id: run.request_id,
            replay_of: run.replay_of.map(|id| id.to_string()),
            created_by: run.created_by,
            created_by_name: run.created_by_name,
            created_at: run.created_at.rfc3339(),
            started_at: run.started_at.map(Moment::rfc3339),
            ended_at: run.ended_at.map(Moment::rfc3339),
            pid: run.pid,
            exit_code: run.exit_code,
            node: run.node,
            log_lines: run.log_lines,
            phase: run.progress.phase,
            iteration: run.progress.iteration,
            complexity: run.progress.complexity,
            mode: run.progress.mode,
            current_task: run.progress.current_task,
        }
    }
}

/// What a new run shall work from: exactly one of `prd` (or `prd_path`) and `prd_text`.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct StartBody {
    /// A file inside the workspace: regular, UTF-8, at most 1 MiB.
    prd: Option<String>,
    /// The same by another name.
    prd_path: Option<String>,
    /// The text itself.
    prd_text: Option<String>,
    /// Which provider to use, for the command.
    provider: Option<String>,
    /// Which configuration to use, for the command.
    config: Option<String>,
    /// A UUID: a repeated request with the same one makes no second run.
    request_id: Option<String>,
}

impl StartBody {
    fn read(self) -> Result<StartRequest, Problem> {
        let input = match (self.prd, self.prd_path, self.prd_text) {
            (Some(file), None, None) | (None, Some(file), None) => Input::File(file),
            (None, None, Some(text)) => Input::Text(text),
            _ => {
                let message = "expected exactly one of prd (or prd_path), a file inside the workspace, and prd_text";
                return Err(Problem::invalid("prd", message));
            }
        };
        let named = |field: &'static str, text: Option<String>| {
            text.as_deref().map(check_name).transpose().map_err(|e| Problem::invalid(field, e))
        };
        Ok(StartRequest {
            input,
            provider: named("provider", self.provider)?,
            config: named("config", self.config)?,
            request_id: self
                .request_id
                .as_deref()
                .map(check_request_id)
                .transpose()
                .map_err(|e| Problem::invalid("request_id", e))?,
        })
    }
}

/// What became of a control request.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct Controlled {
    /// Whether it is so. False for a run whose command could not be started; a refusal is a problem.
    success: bool,
    /// What happened, for people.
    message: String,
    /// The run.
    run_id: String,
    /// Its state now.
    status: &'static str,
    /// Its process, when it has one.
    pid: Option<i64>,
    /// Its place in the queue, from 1, when it waits.
    position: Option<usize>,
}

impl Controlled {
    fn of(run: &Run, position: Option<usize>, message: String) -> Self {
        let (run_id, status) = (run.id.to_string(), run.state.as_str());
        Self { success: run.state != RunState::Failed, message, run_id, status, pid: run.pid, position }
    }

    fn started(placed: &Placed) -> Self {
        let message = match (placed.run.state, placed.position) {
            (RunState::Queued, Some(position)) => format!("the run waits at place {position} of the queue"),
            (RunState::Failed, _) => format!("the run failed: {}", placed.run.reason),
            (state, _) => format!("the run is {}", state.as_str()),
        };
        Self::of(&placed.run, placed.position, message)
    }
}

/// Start a run. The body is JSON whatever its Content-Type says: the documented curl line names none.
#[utoipa::path(post, operation_id = "control_start", path = "/api/control/start", tag = "runs", request_body = StartBody,
    responses((status = 200, body = Controlled), (status = 400), (status = 401), (status = 403), (status = 409), (status = 422)))]
pub(in crate::web) async fn start(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<Controlled>, Problem> {
    let asked = body::json_of_any_type::<StartBody>(&web, &req, payload).await?.read()?;
    let placed = runs::start(&web.app, &caller, asked, &origin(&req)).await?;
    Ok(Json(Controlled::started(&placed)))
}

/// Which run to act on; without one the only one that has not ended.
#[derive(Debug, Default, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Which {
    /// The run.
    run_id: Option<String>,
}

async fn control(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
) -> Result<Json<Controlled>, Problem> {
    let which = body::json_or_nothing::<Which>(&web, &req, payload).await?;
    let run = runs::follow(&web.app, &caller, which.run_id.as_deref(), wish, &origin(&req)).await?;
    let message = format!("the run is {}", run.state.as_str());
    Ok(Json(Controlled::of(&run, None, message)))
}

/// Stop a run: TERM, and KILL after the grace.
#[utoipa::path(post, operation_id = "control_stop", path = "/api/control/stop", tag = "runs", request_body = Which,
    responses((status = 200, body = Controlled), (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(in crate::web) async fn stop(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<Controlled>, Problem> {
    control(web, caller, req, payload, Wish::Stop).await
}

/// Pause a run: its whole process group stands still.
#[utoipa::path(post, operation_id = "control_pause", path = "/api/control/pause", tag = "runs", request_body = Which,
    responses((status = 200, body = Controlled), (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(in crate::web) async fn pause(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<Controlled>, Problem> {
    control(web, caller, req, payload, Wish::Pause).await
}

/// Let a paused run go on.
#[utoipa::path(post, operation_id = "control_resume", path = "/api/control/resume", tag = "runs", request_body = Which,
    responses((status = 200, body = Controlled), (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(in crate::web) async fn resume(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<Controlled>, Problem> {
    control(web, caller, req, payload, Wish::Resume).await
}

/// The page that a query asks for. Its cursor is the turn of the last run that was seen.
pub(in crate::web) fn page(query: &Query) -> Result<Page, Problem> {
    let state = query.text("status").map(str::parse::<RunState>).transpose();
    Ok(Page {
        state: state.map_err(|e| Problem::invalid("status", e))?,
        before: query.parsed::<u32>("cursor", "the next_cursor that a list answered")?.map(i64::from),
        limit: query.limit(50, 500)?,
    })
}

/// The cursor behind the last of a full page.
pub(in crate::web) fn next_cursor(found: &[Placed], limit: i64) -> Option<String> {
    let last = found.last().filter(|_| i64::try_from(found.len()).is_ok_and(|n| n == limit))?;
    Some(last.run.turn.to_string())
}

/// A page of runs.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct RunList {
    /// Newest first.
    runs: Vec<RunView>,
    /// To be sent as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
}

/// List runs, newest first.
#[utoipa::path(get, operation_id = "list_runs", path = "/api/v2/runs", tag = "runs",
    params(("status" = Option<String>, Query, description = "Only those in this state"), ("cursor" = Option<String>, Query, description = "Where the page before ended"),
        ("limit" = Option<i64>, Query, description = "1–500, default 50")),
    responses((status = 200, body = RunList), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<Json<RunList>, Problem> {
    let page = page(&Query::read(req.query_string(), &["status", "cursor", "limit"])?)?;
    let found = runs::list(&web.app, &caller, &page).await?;
    let next_cursor = next_cursor(&found, page.limit);
    Ok(Json(RunList { runs: found.into_iter().map(RunView::of).collect(), next_cursor }))
}

fn created(placed: Placed) -> HttpResponse {
    let location = format!("/api/v2/runs/{}", placed.run.id);
    HttpResponse::Created().insert_header((LOCATION, location)).json(RunView::of(placed))
}

/// Start a run.
#[utoipa::path(post, operation_id = "create_run", path = "/api/v2/runs", tag = "runs", request_body = StartBody,
    responses((status = 201, body = RunView), (status = 401), (status = 403), (status = 409), (status = 415), (status = 422)))]
pub(in crate::web) async fn create(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let asked = body::json_up_to::<StartBody>(&web, &req, payload, body::PRD).await?.read()?;
    Ok(created(runs::start(&web.app, &caller, asked, &origin(&req)).await?))
}

/// Show a run.
#[utoipa::path(get, operation_id = "show_run", path = "/api/v2/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = RunView), (status = 401), (status = 403), (status = 404)))]
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadState>,
    id: Path<String>,
) -> Result<Json<RunView>, Problem> {
    Ok(Json(RunView::of(runs::show(&web.app, &caller, &id).await?)))
}

/// Stop a run.
#[utoipa::path(post, operation_id = "cancel_run", path = "/api/v2/runs/{id}/cancel", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = RunView), (status = 401), (status = 403), (status = 404), (status = 409)))]
pub(in crate::web) async fn cancel(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<Json<RunView>, Problem> {
    let run = runs::follow(&web.app, &caller, Some(&id), Wish::Stop, &origin(&req)).await?;
    Ok(Json(RunView::of(Placed { run, position: None })))
}

/// Start a run that works from the same input.
#[utoipa::path(post, operation_id = "replay_run", path = "/api/v2/runs/{id}/replay", tag = "runs", params(("id" = String, Path)),
    responses((status = 201, body = RunView), (status = 401), (status = 403), (status = 404), (status = 409)))]
pub(in crate::web) async fn replay(
    web: Data<Web>,
    caller: Caller<ControlRuns>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Ok(created(runs::replay(&web.app, &caller, &id, &origin(&req)).await?))
}
