//! Runs: listed, looked up, counted. [`acts`] has what changes them, [`lines`] their logs.

pub mod acts;
pub mod lines;
pub mod lost;

use super::{Store, StoreError, dialect::Conn, statements::statements};
use crate::domain::{
    run::{Progress, Run, RunId, RunState},
    time::Moment,
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, turn, state, node, source, provider, config, request_id, replay_of, created_by, created_by_name, created_at, ",
            "started_at, stop_asked_at, ended_at, pid, exit_code, reason, token, log_lines, phase, iteration, complexity, ",
            "mode, current_task FROM runs ",
            $rest
        )
    };
}

statements! {
    /// One.
    BY_ID = select!("WHERE id = $1");
    /// The one that a request made.
    BY_REQUEST = select!("WHERE created_by = $1 AND request_id = $2");
    /// A page of all, newest first.
    PAGE = select!("WHERE turn < $1 ORDER BY turn DESC LIMIT $2");
    /// A page of those in one state, newest first.
    PAGE_IN_STATE = select!("WHERE state = $1 AND turn < $2 ORDER BY turn DESC LIMIT $3");
    /// All that have not ended, oldest first.
    ACTIVE = select!("WHERE state IN ('queued', 'running', 'paused', 'stopping') ORDER BY turn");
    /// How many there are in each state.
    COUNTS = "SELECT state, COUNT(*) FROM runs GROUP BY state";
    /// How many ended badly since a moment.
    FAILED_SINCE = "SELECT COUNT(*) FROM runs WHERE state = 'failed' AND created_at >= $1";
    /// What a run works from.
    INPUT = "SELECT text FROM run_inputs WHERE run = $1";
    /// What happened to it.
    STEPS = "SELECT time, state, reason, actor_name FROM run_steps WHERE run = $1 ORDER BY n";
}

row! {
    RunRow {
        id: String, turn: i64, state: String, node: String, source: Option<String>, provider: Option<String>, config: Option<String>,
        request_id: Option<String>, replay_of: Option<String>, created_by: String, created_by_name: String, created_at: i64,
        started_at: Option<i64>, stop_asked_at: Option<i64>, ended_at: Option<i64>, pid: Option<i64>, exit_code: Option<i64>,
        reason: String, token: Option<String>, log_lines: i64, phase: Option<String>, iteration: Option<i64>,
        complexity: Option<String>, mode: Option<String>, current_task: Option<String>,
    }
}

impl RunRow {
    fn read(self) -> Result<Run, StoreError> {
        let id = |id: String| id.parse().map_err(|_| StoreError::Damaged("a run's id"));
        Ok(Run {
            id: id(self.id)?,
            turn: self.turn,
            state: self.state.parse().map_err(|_| StoreError::Damaged("a run's state"))?,
            node: self.node,
            source: self.source,
            provider: self.provider,
            config: self.config,
            request_id: self.request_id,
            replay_of: self.replay_of.map(id).transpose()?,
            created_by: self.created_by,
            created_by_name: self.created_by_name,
            created_at: Moment::from_millis(self.created_at),
            started_at: self.started_at.map(Moment::from_millis),
            stop_asked_at: self.stop_asked_at.map(Moment::from_millis),
            ended_at: self.ended_at.map(Moment::from_millis),
            pid: self.pid,
            exit_code: self.exit_code,
            reason: self.reason,
            token: self.token.map(|t| t.parse().map_err(|_| StoreError::Damaged("a run's token"))).transpose()?,
            log_lines: self.log_lines,
            progress: Progress {
                phase: self.phase,
                iteration: self.iteration,
                complexity: self.complexity,
                mode: self.mode,
                current_task: self.current_task,
            },
        })
    }
}

fn read_all(rows: Vec<RunRow>) -> Result<Vec<Run>, StoreError> {
    rows.into_iter().map(RunRow::read).collect()
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Only those in this state.
    pub state: Option<RunState>,
    /// Asked for before this one ([`Run::turn`]).
    pub before: Option<i64>,
    /// How many at most.
    pub limit: i64,
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub time: Moment,
    /// The state from then on.
    pub state: String,
    /// Why; empty when that goes without saying.
    pub reason: String,
    /// Who did it.
    pub actor_name: String,
}

impl Store {
    /// One run.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        let row: Option<RunRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(pool).await?);
        row.map(RunRow::read).transpose()
    }

    /// A page of runs, newest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn runs(&self, page: &Page) -> Result<Vec<Run>, StoreError> {
        let before = page.before.unwrap_or(i64::MAX);
        let rows: Vec<RunRow> = match page.state {
            None => on_db!(&self.db, pool =>
                sqlx::query_as(PAGE).bind(before).bind(page.limit).fetch_all(pool).await?),
            Some(state) => on_db!(&self.db, pool => sqlx::query_as(PAGE_IN_STATE)
                .bind(state.as_str()).bind(before).bind(page.limit).fetch_all(pool).await?),
        };
        read_all(rows)
    }

    /// Every run that has not ended, oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn active_runs(&self) -> Result<Vec<Run>, StoreError> {
        read_all(on_db!(&self.db, pool => sqlx::query_as(ACTIVE).fetch_all(pool).await?))
    }

    /// How many runs there are in each state; states without any are not named.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn count_runs(&self) -> Result<Vec<(RunState, i64)>, StoreError> {
        let rows: Vec<(String, i64)> = on_db!(&self.db, pool => sqlx::query_as(COUNTS).fetch_all(pool).await?);
        let read = |(state, count): (String, i64)| {
            Ok((state.parse().map_err(|_| StoreError::Damaged("a run's state"))?, count))
        };
        rows.into_iter().map(read).collect()
    }

    /// How many runs that were asked for since a moment have failed.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn runs_failed_since(&self, since: Moment) -> Result<i64, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(FAILED_SINCE).bind(since.millis()).fetch_one(pool).await?))
    }

    /// What a run works from.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn run_input(&self, id: &RunId) -> Result<Option<String>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(INPUT).bind(id.as_str()).fetch_optional(pool).await?))
    }

    /// What happened to a run, oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn run_steps(&self, id: &RunId) -> Result<Vec<Step>, StoreError> {
        let rows: Vec<(i64, String, String, String)> =
            on_db!(&self.db, pool => sqlx::query_as(STEPS).bind(id.as_str()).fetch_all(pool).await?);
        let step =
            |(time, state, reason, actor_name)| Step { time: Moment::from_millis(time), state, reason, actor_name };
        Ok(rows.into_iter().map(step).collect())
    }
}

async fn find(conn: &mut Conn, id: &RunId) -> Result<Option<Run>, StoreError> {
    let row: Option<RunRow> =
        on_conn!(conn, conn => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(conn).await?);
    row.map(RunRow::read).transpose()
}

async fn find_by_request(conn: &mut Conn, who: &str, request: &str) -> Result<Option<Run>, StoreError> {
    let row: Option<RunRow> =
        on_conn!(conn, conn => sqlx::query_as(BY_REQUEST).bind(who).bind(request).fetch_optional(conn).await?);
    row.map(RunRow::read).transpose()
}
