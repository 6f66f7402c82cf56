//! How the instance is.

use super::{ActError, App};
use crate::{
    domain::{
        identity::{Caller, ReadState},
        run::{Run, RunState},
        task::TaskStatus,
        time::Moment,
    },
    store::{StoreError, runs::Page},
};

/// How the instance is, in the seed's terms: its "sessions" and "agents" are runs and their processes.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Status {
    /// `idle`: nothing to do; `running`; `paused`: all that could work is paused; `stopped`: the last run was stopped and
    /// none follows.
    pub status: &'static str,
    /// lokid's version.
    pub version: &'static str,
    /// Since when it runs.
    pub uptime_seconds: u64,
    /// Runs that have not ended.
    pub active_sessions: usize,
    /// Processes that work on them.
    pub running_agents: usize,
    /// Tasks that wait.
    pub pending_tasks: i64,
    /// Whether the database answers.
    pub database_connected: bool,
    /// The present run's phase.
    pub phase: Option<String>,
    /// The present run's iteration.
    pub iteration: i64,
    /// The present run's complexity.
    pub complexity: Option<String>,
    /// The present run's mode.
    pub mode: Option<String>,
    /// The present run's provider.
    pub provider: Option<String>,
    /// What it works on.
    pub current_task: Option<String>,
    /// The run that the fields above are about: the oldest that has not ended.
    pub current_run_id: Option<String>,
    /// Runs that have not ended, oldest first.
    pub sessions: Vec<RunSummary>,
}

/// One run.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct RunSummary {
    /// Its id.
    pub session_id: String,
    /// Its process.
    pub pid: Option<i64>,
    /// Its state.
    pub status: &'static str,
    /// Where its log is read.
    pub log_file: Option<String>,
}

impl RunSummary {
    fn of(run: &Run) -> Self {
        Self {
            session_id: run.id.to_string(),
            pid: run.pid,
            status: run.state.as_str(),
            log_file: Some(format!("/api/logs?run_id={}", run.id)),
        }
    }
}

/// One word for all of it.
fn word(active: &[Run], last: Option<&Run>) -> &'static str {
    let has = |state: RunState| active.iter().any(|run| run.state == state);
    match last {
        _ if has(RunState::Running) || has(RunState::Stopping) => "running",
        _ if has(RunState::Paused) => "paused",
        _ if !active.is_empty() => "running",
        Some(last) if last.state == RunState::Stopped => "stopped",
        _ => "idle",
    }
}

/// How the instance is. It answers also while the database does not.
pub async fn status(app: &App, _: &Caller<ReadState>) -> Status {
    let known = async {
        let pending = app.store.count_tasks(TaskStatus::Pending).await?;
        let last = app.store.runs(&Page { limit: 1, ..Page::default() }).await?;
        Ok::<_, StoreError>((pending, app.store.active_runs().await?, last))
    };
    let known = known.await;
    let database_connected = known.is_ok();
    let (pending_tasks, active, last) = known.unwrap_or_default();
    let present = active.first();
    let progress = present.map(|run| run.progress.clone()).unwrap_or_default();
    Status {
        status: word(&active, last.first()),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.now().since(app.started_at).as_secs(),
        active_sessions: active.len(),
        running_agents: active.iter().filter(|run| run.state.has_process()).count(),
        pending_tasks,
        database_connected,
        phase: progress.phase,
        iteration: progress.iteration.unwrap_or(0),
        complexity: progress.complexity,
        mode: progress.mode,
        provider: present.and_then(|run| run.provider.clone()),
        current_task: progress.current_task,
        current_run_id: present.map(|run| run.id.to_string()),
        sessions: active.iter().map(RunSummary::of).collect(),
    }
}

/// What the overview counts.
#[derive(Debug, Clone, Copy)]
pub struct Overview {
    /// Tokens that can be used.
    pub active_tokens: i64,
    /// Browsers that are signed in.
    pub live_sessions: i64,
    /// Tasks that wait.
    pub pending_tasks: i64,
    /// Tasks that are being done.
    pub tasks_in_progress: i64,
}

/// Counts for the overview.
///
/// # Errors
/// [`ActError`].
pub async fn overview(app: &App, _: &Caller<ReadState>) -> Result<Overview, ActError> {
    let (limits, now): (_, Moment) = (&app.settings.auth.sessions, app.now());
    Ok(Overview {
        pending_tasks: app.store.count_tasks(TaskStatus::Pending).await?,
        tasks_in_progress: app.store.count_tasks(TaskStatus::InProgress).await?,
        active_tokens: app.store.active_tokens(now).await?,
        live_sessions: app.store.live_sessions(now.minus(limits.absolute), now.minus(limits.idle)).await?,
    })
}
