//! What changes runs. Each act checks the state that it needs inside its transaction, so that two who ask
//! at once cannot both be followed.

use super::{find, find_by_request};
use crate::{
    domain::{
        event::{Actor, EventName, NewEvent},
        ledger::storable,
        run::{Ending, NotNow, Progress, Run, RunId, RunState, Wish},
        scope::{Scope, ScopeSet},
        time::Moment,
        token::{Token, TokenDigest, TokenId},
    },
    store::{
        Act, Batch, StoreError,
        dialect::Conn,
        statements::statements,
        tokens::{self, NewToken},
    },
};

statements! {
    /// A new one.
    ADD = "INSERT INTO runs (id, turn, state, node, source, provider, config, request_id, replay_of, created_by, created_by_name, \
         created_at, reason, log_lines, log_bytes) VALUES ($1, (SELECT COALESCE(MAX(turn), 0) + 1 FROM runs), 'queued', $2, $3, $4, $5, $6, $7, $8, $9, $10, '', 0, 0)";
    /// What it works from.
    ADD_INPUT = "INSERT INTO run_inputs (run, text) VALUES ($1, $2)";
    /// How many of a node wait or work.
    COUNT_ACTIVE = "SELECT COUNT(*) FROM runs WHERE state IN ('queued', 'running', 'paused', 'stopping') AND node = $1";
    /// How many of a node have a process, or are about to.
    COUNT_WORKING = "SELECT COUNT(*) FROM runs WHERE state IN ('running', 'paused', 'stopping') AND node = $1";
    /// Whose turn it is.
    NEXT = "SELECT id FROM runs WHERE state = 'queued' AND node = $1 ORDER BY turn LIMIT 1";
    /// Its turn has come.
    LAUNCH = "UPDATE runs SET state = 'running', started_at = $1, token = $2 WHERE id = $3 AND state = 'queued'";
    /// Which process it is.
    SET_PID = "UPDATE runs SET pid = $1 WHERE id = $2";
    /// It waits again: its process was never started.
    REQUEUE = "UPDATE runs SET state = 'queued', started_at = NULL, token = NULL WHERE id = $1 AND state = 'running'";
    /// Whose the runs are that have not ended.
    INHERIT = "UPDATE runs SET node = $1 WHERE state IN ('queued', 'running', 'paused', 'stopping') AND node <> $1";
    /// Another state.
    SET_STATE = "UPDATE runs SET state = $1, stop_asked_at = $2 WHERE id = $3";
    /// Its end.
    END = "UPDATE runs SET state = $1, ended_at = $2, exit_code = $3, reason = $4 WHERE id = $5";
    /// What it says of itself; what it does not say stays.
    REPORT = "UPDATE runs SET phase = COALESCE($1, phase), iteration = COALESCE($2, iteration), \
         complexity = COALESCE($3, complexity), mode = COALESCE($4, mode), current_task = COALESCE($5, current_task) WHERE id = $6";
    /// Runs that were over before a moment. The newest stays: turns are not given twice.
    OVER_BEFORE = "SELECT id FROM runs WHERE ended_at < $1 AND turn < (SELECT MAX(turn) FROM runs) ORDER BY ended_at LIMIT $2";
    /// A run's log. The last line of all stays: places are not given twice, or who follows would miss what comes.
    FORGET_LINES = "DELETE FROM run_lines WHERE run = $1 AND pos < (SELECT MAX(pos) FROM run_lines)";
    /// What happened to it.
    FORGET_STEPS = "DELETE FROM run_steps WHERE run = $1";
    /// What it worked from.
    FORGET_INPUT = "DELETE FROM run_inputs WHERE run = $1";
    /// The run itself.
    FORGET_RUN = "DELETE FROM runs WHERE id = $1";
    /// One more thing that happened to it.
    ADD_STEP = "INSERT INTO run_steps (run, n, time, state, reason, actor_name) \
         VALUES ($1, (SELECT COUNT(*) FROM run_steps WHERE run = $1), $2, $3, $4, $5)";
}

async fn step(conn: &mut Conn, id: &RunId, state: RunState, reason: &str, event: &NewEvent) -> Result<(), StoreError> {
    on_conn!(conn, conn => {
        sqlx::query(ADD_STEP)
            .bind(id.as_str())
            .bind(event.time.millis())
            .bind(state.as_str())
            .bind(storable(reason.to_owned()))
            .bind(storable(event.actor.name.clone()))
            .execute(conn)
            .await?;
    });
    Ok(())
}

/// Puts a run into the queue.
#[derive(Debug)]
pub struct Enqueue {
    /// The run, in the state `queued`.
    pub run: Run,
    /// What it works from.
    pub input: String,
    /// How many may wait or work at once.
    pub limit: i64,
    /// What to record.
    pub event: NewEvent,
}

/// What became of a request for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits for its turn.
    Added,
    /// The same request came before: this is its run.
    Known(Box<Run>),
    /// As many as may be wait or work.
    Full(i64),
}

impl Act for Enqueue {
    type Output = Enqueued;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Enqueued, StoreError> {
        let (run, conn) = (&self.run, batch.conn().await?);
        if let Some(request) = &run.request_id
            && let Some(known) = find_by_request(conn, &run.created_by, request).await?
        {
            return Ok(Enqueued::Known(Box::new(known)));
        }
        let active: i64 =
            on_conn!(conn, conn => sqlx::query_scalar(COUNT_ACTIVE).bind(&run.node).fetch_one(conn).await?);
        if active >= self.limit {
            return Ok(Enqueued::Full(active));
        }
        on_conn!(conn, conn => {
            sqlx::query(ADD)
                .bind(run.id.as_str())
                .bind(&run.node)
                .bind(run.source.clone().map(storable))
                .bind(run.provider.as_deref())
                .bind(run.config.as_deref())
                .bind(run.request_id.as_deref())
                .bind(run.replay_of.as_ref().map(RunId::as_str))
                .bind(storable(run.created_by.clone()))
                .bind(storable(run.created_by_name.clone()))
                .bind(run.created_at.millis())
                .execute(conn)
                .await?;
        });
        on_conn!(conn, conn => {
            sqlx::query(ADD_INPUT).bind(run.id.as_str()).bind(storable(self.input.clone())).execute(conn).await?;
        });
        step(conn, &run.id, RunState::Queued, "", &self.event).await?;
        batch.record(self.event.clone());
        Ok(Enqueued::Added)
    }
}

/// Gives the next waiting run of this node its turn, if fewer than `at_once` have theirs, and its process a token:
/// it may write, and lives as long as the run has not ended.
#[derive(Debug)]
pub struct Launch {
    /// The node.
    pub node: String,
    /// How many may work at once.
    pub at_once: i64,
    /// The public id of its token.
    pub token: TokenId,
    /// That token's digest.
    pub digest: TokenDigest,
    /// What to record of the token; the run is filled in.
    pub event: NewEvent,
}

impl Act for Launch {
    /// The run that may start.
    type Output = Option<Run>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let conn = batch.conn().await?;
        let working: i64 =
            on_conn!(conn, conn => sqlx::query_scalar(COUNT_WORKING).bind(&self.node).fetch_one(conn).await?);
        let next: Option<String> =
            on_conn!(conn, conn => sqlx::query_scalar(NEXT).bind(&self.node).fetch_optional(conn).await?);
        let Some(next) = next.filter(|_| working < self.at_once) else { return Ok(None) };
        let id: RunId = next.parse().map_err(|_| StoreError::Damaged("a run's id"))?;
        let now = self.event.time;
        on_conn!(conn, conn => {
            sqlx::query(LAUNCH).bind(now.millis()).bind(self.token.as_str()).bind(&next).execute(conn).await?;
        });
        step(conn, &id, RunState::Running, "", &self.event).await?;
        let run = find(conn, &id).await?.ok_or(StoreError::Damaged("a run that was just launched"))?;
        batch.add_token(NewToken { token: self.token_of(&next)?, digest: self.digest });
        let launched = NewEvent::new(now, EventName::RunLaunched, self.event.actor.clone()).on("run", next.as_str());
        batch.record(launched.with("status", RunState::Running.as_str()));
        let event = self.event.clone().on("token", self.token.as_str());
        batch.record(event.with("name", next).with("scopes", Scope::Write.as_str()));
        Ok(Some(run))
    }
}

impl Launch {
    fn token_of(&self, run: &str) -> Result<Token, StoreError> {
        Ok(Token {
            id: self.token.clone(),
            name: run.parse().map_err(|_| StoreError::Damaged("a run's id"))?,
            owner: run.to_owned(),
            owner_name: run.to_owned(),
            scopes: ScopeSet::of(&[Scope::Write]),
            role: None,
            created_at: self.event.time,
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            last_used_at: None,
            last_used_from: None,
            used_scopes: ScopeSet::EMPTY,
            watched_since: self.event.time,
        })
    }
}

/// Notes which process a run is.
#[derive(Debug)]
pub struct SetPid {
    /// The run.
    pub id: RunId,
    /// Its process.
    pub pid: i64,
}

impl Act for SetPid {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(SET_PID).bind(self.pid).bind(self.id.as_str()).execute(conn).await?;
        });
        Ok(())
    }
}

/// Lets a run wait again whose process was never started, and ends its token.
#[derive(Debug)]
pub struct Requeue {
    /// The run, as it was found.
    pub run: Run,
    /// The end of its token.
    pub event: NewEvent,
}

impl Act for Requeue {
    /// Whether it waits again; not when somebody stopped it meanwhile.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let changed = on_conn!(batch.conn().await?, conn =>
            sqlx::query(REQUEUE).bind(self.run.id.as_str()).execute(conn).await?.rows_affected());
        if changed == 0 {
            return Ok(false);
        }
        step(batch.conn().await?, &self.run.id, RunState::Queued, "lokid was restarted", &self.event).await?;
        let event = NewEvent::new(self.event.time, EventName::RunRequeued, self.event.actor.clone());
        batch.record(event.on("run", self.run.id.as_str()).with("status", RunState::Queued.as_str()));
        end_token(batch, self.run.token.as_ref(), &self.event).await?;
        Ok(true)
    }
}

/// Makes the runs of a SQLite file this server's, whatever the machine was called before: the lock lets only one work on it.
#[derive(Debug)]
pub struct Inherit {
    /// This node.
    pub node: String,
}

impl Act for Inherit {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        on_conn!(batch.conn().await?, conn => { sqlx::query(INHERIT).bind(&self.node).execute(conn).await?; });
        Ok(())
    }
}

/// Follows somebody's wish.
#[derive(Debug)]
pub struct Follow {
    /// The run.
    pub id: RunId,
    /// What is wished for.
    pub wish: Wish,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Follow {
    /// `None` when there is no such run.
    type Output = Option<Result<Run, NotNow>>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let conn = batch.conn().await?;
        let Some(run) = find(conn, &self.id).await? else { return Ok(None) };
        let next = match run.state.after(self.wish) {
            Ok(next) => next,
            Err(not_now) => return Ok(Some(Err(not_now))),
        };
        let (now, id) = (self.event.time, self.id.as_str());
        let stop_asked_at = (self.wish == Wish::Stop).then_some(now);
        on_conn!(conn, conn => {
            sqlx::query(SET_STATE).bind(next.as_str()).bind(stop_asked_at.map(Moment::millis)).bind(id).execute(conn).await?;
        });
        if next.is_over() {
            let reason = "stopped before its turn came";
            on_conn!(conn, conn => {
                sqlx::query(END).bind(next.as_str()).bind(now.millis()).bind(None::<i64>).bind(reason).bind(id).execute(conn).await?;
            });
        }
        step(conn, &self.id, next, "", &self.event).await?;
        let run = find(conn, &self.id).await?.ok_or(StoreError::Damaged("a run that was just changed"))?;
        batch.record(self.event.clone().with("status", next.as_str()));
        Ok(Some(Ok(run)))
    }
}

/// The end of a run's process: its final state, and the end of its token.
#[derive(Debug)]
pub struct End {
    /// The run.
    pub id: RunId,
    /// How its process ended.
    pub ending: Ending,
    /// What to record of the run; its name and the rest are filled in.
    pub event: NewEvent,
    /// What to record of its token.
    pub token_event: NewEvent,
}

impl Act for End {
    /// Whether it was this call that ended it.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let conn = batch.conn().await?;
        let Some(run) = find(conn, &self.id).await?.filter(|run| !run.state.is_over()) else { return Ok(false) };
        let state = self.ending.state(run.state == RunState::Stopping);
        let reason = self.ending.reason();
        on_conn!(conn, conn => {
            sqlx::query(END)
                .bind(state.as_str())
                .bind(self.event.time.millis())
                .bind(self.ending.code().map(i64::from))
                .bind(storable(reason.clone()))
                .bind(self.id.as_str())
                .execute(conn)
                .await?;
        });
        step(conn, &self.id, state, &reason, &self.event).await?;
        let mut event = self.event.clone().with("status", state.as_str());
        event.name = if state == RunState::Failed { EventName::RunFailed } else { EventName::RunCompleted };
        event.reason = reason;
        batch.record(event);
        end_token(batch, run.token.as_ref(), &self.token_event).await?;
        Ok(true)
    }
}

async fn end_token(batch: &mut Batch<'_>, token: Option<&TokenId>, event: &NewEvent) -> Result<(), StoreError> {
    let Some(token) = token else { return Ok(()) };
    let event = event.clone().on("token", token.as_str());
    tokens::Revoke { id: token.clone(), event }.apply(batch).await.map(drop)
}

/// Notes what a run says of itself.
#[derive(Debug)]
pub struct Report {
    /// The run.
    pub id: RunId,
    /// What it says.
    pub progress: Progress,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Report {
    /// The run; `None` when there is none, or it is over.
    type Output = Option<Run>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let conn = batch.conn().await?;
        if find(conn, &self.id).await?.is_none_or(|run| run.state.is_over()) {
            return Ok(None);
        }
        let (p, text) = (&self.progress, |text: &Option<String>| text.clone().map(storable));
        on_conn!(conn, conn => {
            sqlx::query(REPORT)
                .bind(text(&p.phase))
                .bind(p.iteration)
                .bind(text(&p.complexity))
                .bind(text(&p.mode))
                .bind(text(&p.current_task))
                .bind(self.id.as_str())
                .execute(conn)
                .await?;
        });
        let run = find(conn, &self.id).await?;
        batch.record(self.event.clone());
        Ok(run)
    }
}

/// Forgets some of the runs that were over before a moment, with all that is kept of them.
#[derive(Debug)]
pub struct Forget {
    /// The present moment.
    pub now: Moment,
    /// The moment before which they were over.
    pub before: Moment,
}

/// Runs that are forgotten at once: each may have many lines, and others wait for the writer meanwhile.
const FORGOTTEN_AT_ONCE: i64 = 5;

impl Act for Forget {
    /// Whether there may be more.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let conn = batch.conn().await?;
        let old: Vec<String> = on_conn!(conn, conn => sqlx::query_scalar(OVER_BEFORE)
            .bind(self.before.millis()).bind(FORGOTTEN_AT_ONCE).fetch_all(conn).await?);
        for id in &old {
            for sql in [FORGET_LINES, FORGET_STEPS, FORGET_INPUT, FORGET_RUN] {
                on_conn!(conn, conn => { sqlx::query(sql).bind(id).execute(conn).await?; });
            }
        }
        if !old.is_empty() {
            let event = NewEvent::new(self.now, EventName::RunsForgotten, Actor::system());
            batch.record(event.with("runs", old.join(" ")));
        }
        Ok(i64::try_from(old.len()).is_ok_and(|n| n == FORGOTTEN_AT_ONCE))
    }
}
