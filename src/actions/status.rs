//! How the instance is.

use super::{ActError, App};
use crate::domain::{
    identity::{Caller, ReadState},
    task::TaskStatus,
    time::Moment,
};

/// How the instance is, in the seed's terms. Runs come with their own issue: until then there
/// are none, which is what this says.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Status {
    /// `idle`, `running`, `paused` or `stopped`.
    pub status: &'static str,
    /// lokid's version.
    pub version: &'static str,
    /// Since when it runs.
    pub uptime_seconds: u64,
    /// Runs that are under way.
    pub active_sessions: i64,
    /// Processes that work on them.
    pub running_agents: i64,
    /// Tasks that wait.
    pub pending_tasks: i64,
    /// Whether the database answers.
    pub database_connected: bool,
    /// The run's phase.
    pub phase: Option<String>,
    /// The run's iteration.
    pub iteration: i64,
    /// The run's complexity.
    pub complexity: Option<String>,
    /// The run's mode.
    pub mode: Option<String>,
    /// The run's provider.
    pub provider: Option<String>,
    /// What is worked on.
    pub current_task: Option<String>,
    /// The run that is worked on.
    pub current_run_id: Option<String>,
    /// Runs with their processes.
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
    pub status: String,
    /// Its log.
    pub log_file: Option<String>,
}

/// How the instance is.
pub async fn status(app: &App, _: &Caller<ReadState>) -> Status {
    let pending = app.store.count_tasks(TaskStatus::Pending).await;
    Status {
        status: "idle",
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.now().since(app.started_at).as_secs(),
        active_sessions: 0,
        running_agents: 0,
        pending_tasks: pending.as_ref().map_or(0, |count| *count),
        database_connected: pending.is_ok(),
        phase: None,
        iteration: 0,
        complexity: None,
        mode: None,
        provider: None,
        current_task: None,
        current_run_id: None,
        sessions: Vec::new(),
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
