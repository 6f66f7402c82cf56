//! Runs: asked for, stopped, paused, resumed, repeated, looked at. [`foreman`] gives them their turn and sees
//! to their processes.

pub mod foreman;

use super::{ActError, App};
use crate::{
    domain::{
        event::{EventName, NewEvent, Origin},
        identity::{Caller, ControlRuns, Credential, Identity, ReadState, WriteState},
        log_line::without_secrets,
        run::{Progress, Run, RunId, RunState, Wish},
    },
    runner::prd::{self, PrdRefused},
    store::runs::{
        Page, Step,
        acts::{Enqueue, Enqueued, Follow, Report},
        lines::Line,
    },
};

/// What a run shall work from.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file of the workspace.
    File(String),
    /// This text.
    Text(String),
    /// This text of a file that somebody at the terminal named.
    Named {
        /// As they named it.
        name: String,
        /// What it says.
        text: String,
    },
}

/// What is asked for; its names are checked.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// What to work from.
    pub input: Input,
    /// Which provider to use, for the command.
    pub provider: Option<String>,
    /// Which configuration to use, for the command.
    pub config: Option<String>,
    /// By which a repeated request is recognised.
    pub request_id: Option<String>,
}

/// A run and its place in the queue, from 1, when it waits.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The run.
    pub run: Run,
    /// How many have their turn before or with it.
    pub position: Option<usize>,
}

fn not_found(which: &str) -> ActError {
    ActError::NotFound { what: "run", which: which.chars().take(80).collect() }
}

fn id_of(which: &str) -> Result<RunId, ActError> {
    which.parse().map_err(|_| not_found(which))
}

fn event(app: &App, name: EventName, who: &Identity, id: &RunId, from: &Origin) -> NewEvent {
    NewEvent::new(app.now(), name, who.actor.clone()).on("run", id.as_str()).from(from)
}

/// Asks for a run. It starts at once if fewer than may work at once do; else it waits.
///
/// # Errors
/// [`ActError::Invalid`] for what it shall work from; [`ActError::Conflict`] when there is no command, or no room.
pub async fn start(
    app: &App,
    caller: &Caller<ControlRuns>,
    request: StartRequest,
    from: &Origin,
) -> Result<Placed, ActError> {
    let (source, input) = match request.input {
        Input::File(name) => {
            let text = prd::read(&app.settings.runs.workspace, &name).map_err(|e| refused("prd", e))?;
            (Some(without_secrets(&name)), text)
        }
        Input::Named { name, text } => (Some(name), text),
        Input::Text(text) => (None, prd::check_text(text.into_bytes()).map_err(|e| refused("prd_text", e))?),
    };
    let asked = Asked {
        source,
        input,
        provider: request.provider,
        config: request.config,
        request_id: request.request_id,
        replay_of: None,
    };
    enqueue(app, caller.identity(), asked, from).await
}

fn refused(field: &'static str, e: PrdRefused) -> ActError {
    match e {
        PrdRefused::Workspace(_) => ActError::Conflict(e.to_string()),
        e => ActError::Invalid { field, message: e.to_string() },
    }
}

/// Asks for a run that works from the same input as an earlier one.
///
/// # Errors
/// [`ActError::NotFound`], and as [`start`].
pub async fn replay(app: &App, caller: &Caller<ControlRuns>, which: &str, from: &Origin) -> Result<Placed, ActError> {
    let old = app.store.run(&id_of(which)?).await?.ok_or_else(|| not_found(which))?;
    let input = app.store.run_input(&old.id).await?.ok_or_else(|| not_found(which))?;
    let asked = Asked {
        source: old.source,
        input,
        provider: old.provider,
        config: old.config,
        request_id: None,
        replay_of: Some(old.id),
    };
    enqueue(app, caller.identity(), asked, from).await
}

/// What a run is made of.
struct Asked {
    source: Option<String>,
    input: String,
    provider: Option<String>,
    config: Option<String>,
    request_id: Option<String>,
    replay_of: Option<RunId>,
}

async fn enqueue(app: &App, who: &Identity, asked: Asked, from: &Origin) -> Result<Placed, ActError> {
    let settings = &app.settings.runs;
    if settings.command.is_empty() {
        let message = "no command is configured, so there is nothing to run; set runs.command (LOKI_RUNS_COMMAND)";
        return Err(ActError::Conflict(message.into()));
    }
    let id = RunId::from_random(app.entropy.bytes());
    let event = event(app, EventName::RunStarted, who, &id, from)
        .with("source", asked.source.clone())
        .with("bytes", asked.input.len())
        .with("replay_of", asked.replay_of.as_ref().map(RunId::as_str));
    let run = Run {
        id: id.clone(),
        turn: 0,
        state: RunState::Queued,
        node: app.store.node().to_owned(),
        source: asked.source,
        provider: asked.provider,
        config: asked.config,
        request_id: asked.request_id,
        replay_of: asked.replay_of,
        created_by: who.actor.id.clone(),
        created_by_name: who.actor.name.clone(),
        created_at: app.now(),
        started_at: None,
        stop_asked_at: None,
        ended_at: None,
        pid: None,
        exit_code: None,
        reason: String::new(),
        token: None,
        log_lines: 0,
        progress: Progress::default(),
    };
    let limit = settings.max_parallel + settings.max_queued;
    match app.store.act(Enqueue { run, input: asked.input, limit, event }).await? {
        Enqueued::Added => {
            app.foreman.call().await;
            show_placed(app, &id).await
        }
        Enqueued::Known(run) => show_placed(app, &run.id).await,
        Enqueued::Full(active) => Err(ActError::Conflict(format!(
            "{active} runs work or wait already, and as many are allowed (runs.max_parallel {}, runs.max_queued {}); \
             wait for one to end, or stop one",
            settings.max_parallel, settings.max_queued
        ))),
    }
}

async fn show_placed(app: &App, id: &RunId) -> Result<Placed, ActError> {
    let run = app.store.run(id).await?.ok_or_else(|| not_found(id.as_str()))?;
    let waiting = if run.state == RunState::Queued { app.store.active_runs().await? } else { Vec::new() };
    Ok(Placed { position: position(&waiting, &run), run })
}

/// A run's place among those of its node that wait.
fn position(active: &[Run], run: &Run) -> Option<usize> {
    let waits = |other: &&Run| other.state == RunState::Queued && other.node == run.node;
    active.iter().filter(waits).position(|other| other.id == run.id).map(|at| at + 1)
}

/// Stops, pauses or resumes a run; without a name the only one that has not ended.
///
/// # Errors
/// [`ActError::NotFound`]; [`ActError::Conflict`] when the run's state does not allow it, when there is none to act
/// on, or when there are several and none was named.
pub async fn follow(
    app: &App,
    caller: &Caller<ControlRuns>,
    which: Option<&str>,
    wish: Wish,
    from: &Origin,
) -> Result<Run, ActError> {
    let id = match which {
        Some(which) => id_of(which)?,
        None => only_active(app, wish).await?,
    };
    let name = match wish {
        Wish::Stop => EventName::RunStopped,
        Wish::Pause => EventName::RunPaused,
        Wish::Resume => EventName::RunResumed,
    };
    let event = event(app, name, caller.identity(), &id, from);
    let followed = app.store.act(Follow { id: id.clone(), wish, event }).await?;
    let run = followed.ok_or_else(|| not_found(id.as_str()))?.map_err(|e| ActError::Conflict(e.to_string()))?;
    // Its process follows: whoever watches it sees what is wanted ([`foreman`]).
    Ok(run)
}

async fn only_active(app: &App, wish: Wish) -> Result<RunId, ActError> {
    let active = app.store.active_runs().await?;
    let fitting: Vec<&Run> = active.iter().filter(|run| run.state.after(wish).is_ok()).collect();
    match (fitting.as_slice(), active.first()) {
        ([one], _) => Ok(one.id.clone()),
        ([], Some(run)) if active.len() == 1 => {
            run.state.after(wish).map(|_| run.id.clone()).map_err(|e| ActError::Conflict(e.to_string()))
        }
        ([], _) => Err(ActError::Conflict(format!("there is no run to {}", wish.as_str()))),
        (several, _) => {
            let ids: Vec<_> = several.iter().map(|run| run.id.as_str()).collect();
            Err(ActError::Conflict(format!("there are {} runs; say which by run_id: {}", ids.len(), ids.join(", "))))
        }
    }
}

/// A page of runs, newest first, each with its place in the queue.
///
/// # Errors
/// [`ActError`].
pub async fn list(app: &App, _: &Caller<ReadState>, page: &Page) -> Result<Vec<Placed>, ActError> {
    let runs = app.store.runs(page).await?;
    let some_wait = runs.iter().any(|run| run.state == RunState::Queued);
    let active = if some_wait { app.store.active_runs().await? } else { Vec::new() };
    Ok(runs.into_iter().map(|run| Placed { position: position(&active, &run), run }).collect())
}

/// Runs that have not ended, all of them, with their places in the queue.
pub fn placed(active: Vec<Run>) -> Vec<Placed> {
    let positions: Vec<_> = active.iter().map(|run| position(&active, run)).collect();
    active.into_iter().zip(positions).map(|(run, position)| Placed { run, position }).collect()
}

/// Every run that has not ended, oldest first.
///
/// # Errors
/// [`ActError`].
pub async fn active(app: &App, _: &Caller<ReadState>) -> Result<Vec<Run>, ActError> {
    Ok(app.store.active_runs().await?)
}

/// One run.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn show(app: &App, _: &Caller<ReadState>, which: &str) -> Result<Placed, ActError> {
    show_placed(app, &id_of(which)?).await
}

/// What happened to a run, oldest first.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn timeline(app: &App, caller: &Caller<ReadState>, which: &str) -> Result<Vec<Step>, ActError> {
    let placed = show(app, caller, which).await?;
    Ok(app.store.run_steps(&placed.run.id).await?)
}

/// The last lines of one run's log, or of all.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn last_lines(
    app: &App,
    caller: &Caller<ReadState>,
    which: Option<&str>,
    count: i64,
) -> Result<Vec<Line>, ActError> {
    let Some(which) = which else { return Ok(app.store.latest_lines(count).await?) };
    let run = show(app, caller, which).await?.run;
    Ok(app.store.last_run_lines(&run.id, (run.log_lines - count).max(0), count).await?)
}

/// Lines of a run's log whose number is above `after`.
///
/// # Errors
/// [`ActError`].
pub async fn lines_after(
    app: &App,
    _: &Caller<ReadState>,
    run: &RunId,
    after: i64,
    count: i64,
) -> Result<Vec<Line>, ActError> {
    Ok(app.store.run_lines(run, after, count).await?)
}

/// Notes what a run says of itself. A run's own token speaks for that run only.
///
/// # Errors
/// [`ActError::NotFound`] also when the run is over.
pub async fn report(
    app: &App,
    caller: &Caller<WriteState>,
    which: &str,
    progress: Progress,
    from: &Origin,
) -> Result<Run, ActError> {
    let (id, who) = (id_of(which)?, caller.identity());
    let stranger = who.actor.name.starts_with("run-") && who.actor.name != id.as_str();
    if matches!(who.credential, Credential::Token(_)) && stranger {
        return Err(not_found(which));
    }
    let event = event(app, EventName::RunReported, who, &id, from)
        .with("phase", progress.phase.clone())
        .with("current_task", progress.current_task.clone());
    let act = Report { id, progress, event };
    app.store.act(act).await?.ok_or_else(|| not_found(which))
}
