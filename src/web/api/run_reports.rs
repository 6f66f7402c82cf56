//! What runs say of themselves, and what happened to them: `/api/v2/runs/{id}/timeline`, `/api/v2/runs/{id}/progress` and
//! `/api/logs`

use actix_web::{
    HttpRequest,
    web::{Data, Json, Path, Payload},
};
use utoipa::ToSchema;

use super::{Query, runs::RunView};
use crate::{
    actions::runs::{self, Placed},
    domain::{
        identity::{Caller, ReadState, WriteState},
        run::Progress,
    },
    store::runs::{Step, lines::Line},
    web::{Web, body, client::origin, problem::Problem},
};

/// Something that happened to a run.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct StepView {
    /// RFC 3339.
    time: String,
    /// The state from then on.
    status: String,
    /// Why.
    reason: String,
    /// Who did it.
    actor: String,
}

impl StepView {
    fn of(step: Step) -> Self {
        Self { time: step.time.rfc3339(), status: step.state, reason: step.reason, actor: step.actor_name }
    }
}

/// What happened to a run, oldest first.
#[utoipa::path(get, operation_id = "run_timeline", path = "/api/v2/runs/{id}/timeline", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = Vec<StepView>), (status = 401), (status = 403), (status = 404)))]
pub(in crate::web) async fn timeline(
    web: Data<Web>,
    caller: Caller<ReadState>,
    id: Path<String>,
) -> Result<Json<Vec<StepView>>, Problem> {
    let steps = runs::timeline(&web.app, &caller, &id).await?;
    Ok(Json(steps.into_iter().map(StepView::of).collect()))
}

/// What a run says of itself; a field that is not there stays as it is.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ProgressBody {
    /// What it is at, at most 200 characters.
    phase: Option<String>,
    /// The round that it is in.
    iteration: Option<i64>,
    /// How hard it finds the work.
    complexity: Option<String>,
    /// How it works.
    mode: Option<String>,
    /// What it works on now.
    current_task: Option<String>,
}

/// Say how far a run is. A run's own token speaks for that run only.
#[utoipa::path(post, operation_id = "report_progress", path = "/api/v2/runs/{id}/progress", tag = "runs", params(("id" = String, Path)), request_body = ProgressBody,
    responses((status = 200, body = RunView), (status = 401), (status = 403), (status = 404), (status = 415), (status = 422)))]
pub(in crate::web) async fn progress(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<Json<RunView>, Problem> {
    let said = body::json::<ProgressBody>(&web, &req, payload).await?;
    let line = |field: &'static str, text: Option<String>| {
        text.as_deref().map(crate::domain::task::check_title).transpose().map_err(|e| Problem::invalid(field, e))
    };
    if said.iteration.is_some_and(|n| n < 0) {
        return Err(Problem::invalid("iteration", "expected a whole number from 0 on"));
    }
    let progress = Progress {
        phase: line("phase", said.phase)?,
        iteration: said.iteration,
        complexity: line("complexity", said.complexity)?,
        mode: line("mode", said.mode)?,
        current_task: line("current_task", said.current_task)?,
    };
    let run = runs::report(&web.app, &caller, &id, progress, &origin(&req)).await?;
    Ok(Json(RunView::of(Placed { run, position: None })))
}

/// A line of a log.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct LineView {
    /// What it says; without control characters and escape sequences.
    message: String,
    /// `info` for standard output, `warning` for standard error.
    level: &'static str,
    /// RFC 3339.
    timestamp: String,
    /// The run.
    run_id: String,
    /// Its number in that run's log, from 1.
    number: i64,
}

impl LineView {
    pub(in crate::web) fn of(line: &Line) -> Self {
        Self {
            message: line.text.clone(),
            level: if line.stream == "err" { "warning" } else { "info" },
            timestamp: line.time.rfc3339(),
            run_id: line.run.clone(),
            number: line.n,
        }
    }
}

/// The last lines of a run's log, or of all runs.
#[utoipa::path(get, operation_id = "read_logs", path = "/api/logs", tag = "runs",
    params(("lines" = Option<i64>, Query, description = "How many, 1–10000, default 100"), ("run_id" = Option<String>, Query, description = "Only of this run"),
        ("after" = Option<i64>, Query, description = "With run_id: from behind this number on")),
    responses((status = 200, body = Vec<LineView>), (status = 401), (status = 403), (status = 404), (status = 422)))]
pub(in crate::web) async fn logs(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<Json<Vec<LineView>>, Problem> {
    let query = Query::read(req.query_string(), &["lines", "run_id", "after"])?;
    let expected = "a whole number from 1 to 10000";
    let count = query.parsed::<i64>("lines", expected)?.unwrap_or(100);
    if !(1..=10_000).contains(&count) {
        return Err(Problem::invalid("lines", format!("expected {expected}")));
    }
    let which = query.text("run_id");
    let lines = match (which, query.parsed::<u32>("after", "the number of a line")?) {
        (Some(which), Some(after)) => {
            let run = runs::show(&web.app, &caller, which).await?.run;
            runs::lines_after(&web.app, &caller, &run.id, after.into(), count).await?
        }
        (None, Some(_)) => return Err(Problem::invalid("after", "needs run_id: lines are numbered by run")),
        (which, None) => runs::last_lines(&web.app, &caller, which, count).await?,
    };
    Ok(Json(lines.iter().map(LineView::of).collect()))
}
