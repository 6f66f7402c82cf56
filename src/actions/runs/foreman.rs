//! Who gives runs their turn, takes over what they print, and notices their end. What the database says is what
//! is wanted; the foreman sees that the processes follow, also after a restart.
//!
//! One task on the server's own runtime launches, one for each run that has a process watches.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    actions::App,
    config::runs::Runs,
    domain::{
        event::{Actor, EventName, NewEvent},
        run::{Ending, Run, RunId, RunState},
        token::{TokenId, TokenSecret},
    },
    runner::{Found, Job, Order, Runner, spool},
    store::{
        StoreError,
        runs::{
            acts::{End, Forget, Launch, Requeue, SetPid},
            lines::{NewLine, TakeLines},
        },
    },
};

/// How often a running process's output is looked for: a line is seen after half of this on average.
const LOOK: Duration = Duration::from_millis(40);
/// After a look that failed because of the database.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a caller waits for a run to get its turn before it is told that it waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// The way to the foreman.
#[derive(Debug)]
pub struct Foreman {
    runner: Runner,
    calls: mpsc::Sender<oneshot::Sender<()>>,
    /// Taken by [`begin`].
    waiting: std::sync::Mutex<Option<mpsc::Receiver<oneshot::Sender<()>>>>,
}

impl Foreman {
    /// For runs that are kept and supervised as the settings say. Nobody works before [`begin`].
    pub fn new(settings: &Runs) -> Self {
        let (calls, waiting) = mpsc::channel(64);
        let runner = Runner::new(settings.directory.clone(), settings.supervisor.clone());
        Self { runner, calls, waiting: Some(waiting).into() }
    }

    /// Asks for a look at the queue and waits until it was taken.
    pub(super) async fn call(&self) {
        let (reply, done) = oneshot::channel();
        if self.calls.try_send(reply).is_ok() {
            let _ = tokio::time::timeout(ANSWER_WITHIN, done).await;
        }
    }

    /// Lets a run's process follow the state that was just stored.
    pub(super) fn tell(&self, run: &Run) {
        if let Some(order) = order_of(run.state) {
            self.runner.tell(&run.id, order);
        }
    }
}

const fn order_of(state: RunState) -> Option<Order> {
    match state {
        RunState::Running => Some(Order::Resume),
        RunState::Paused => Some(Order::Pause),
        RunState::Stopping => Some(Order::Stop),
        _ => None,
    }
}

/// Takes up the runs that a server before this one left, then works until the runtime ends. A second call does nothing.
pub fn begin(app: &Arc<App>) {
    let waiting = app.foreman.waiting.lock().ok().and_then(|mut waiting| waiting.take());
    if let Some(waiting) = waiting {
        tokio::spawn(work(Arc::clone(app), waiting));
    }
}

async fn work(app: Arc<App>, mut waiting: mpsc::Receiver<oneshot::Sender<()>>) {
    while let Err(e) = take_up(&app).await {
        tracing::warn!(error = %e, "the runs of before wait for the database");
        tokio::time::sleep(PAUSE).await;
    }
    let mut replies = Vec::new();
    loop {
        if let Err(e) = launch(&app).await {
            tracing::warn!(error = %e, "runs wait for the database");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        for reply in replies.drain(..) {
            let _: Result<(), ()> = oneshot::Sender::send(reply, ());
        }
        if waiting.recv_many(&mut replies, 64).await == 0 {
            return;
        }
    }
}

/// Compares what the database says with the processes that there are.
async fn take_up(app: &Arc<App>) -> Result<(), StoreError> {
    let ours = |run: &Run| run.node == app.store.node();
    let active: HashMap<RunId, Run> =
        app.store.active_runs().await?.into_iter().filter(ours).map(|run| (run.id.clone(), run)).collect();
    let runner = &app.foreman.runner;
    for id in runner.known() {
        // A run that is over, or one that only waits: nothing of it may work.
        if !active.get(&id).is_some_and(|run| run.state.has_process()) {
            runner.tell(&id, Order::Kill);
            runner.kill_orphan(&id);
            clear(runner, &id);
        }
    }
    for run in active.into_values().filter(|run| run.state.has_process()) {
        let found = runner.look(&run.id);
        tracing::info!(run = %run.id, ?found, "a run of before");
        if found == Found::NeverStarted && run.state == RunState::Running {
            let event = token_event(app, EventName::TokenRevoked);
            app.store.act(Requeue { run, event }).await?;
            continue;
        }
        app.foreman.tell(&run);
        tokio::spawn(watch(Arc::clone(app), run.id, None));
    }
    Ok(())
}

fn token_event(app: &App, name: EventName) -> NewEvent {
    NewEvent::new(app.now(), name, Actor::system())
}

/// Gives waiting runs their turn as long as there is room.
async fn launch(app: &Arc<App>) -> Result<(), StoreError> {
    loop {
        let secret = TokenSecret::from_random(app.entropy.bytes());
        let act = Launch {
            node: app.store.node().to_owned(),
            at_once: app.settings.runs.max_parallel,
            token: TokenId::from_random(app.entropy.bytes()),
            digest: secret.digest(),
            event: token_event(app, EventName::TokenCreated),
        };
        let Some(run) = app.store.act(act).await? else { return Ok(()) };
        let input = app.store.run_input(&run.id).await?.unwrap_or_default();
        let job = job(&app.settings.runs, &run, input, secret.reveal());
        let runner = app.foreman.runner.clone();
        let started = tokio::task::spawn_blocking(move || runner.start(&job)).await;
        match started {
            Ok(Ok(supervisor)) => {
                app.foreman.runner.settled(&run.id).await;
                note_pid(app, &run.id).await;
                tokio::spawn(watch(Arc::clone(app), run.id, Some(supervisor)));
            }
            Ok(Err(e)) => end(app, &run.id, Ending::NotStarted(e.to_string())).await?,
            Err(e) => end(app, &run.id, Ending::NotStarted(e.to_string())).await?,
        }
    }
}

fn job(settings: &Runs, run: &Run, input: String, token: &str) -> Job {
    let mut environment = settings.environment.clone();
    let told = [
        ("LOKI_URL", Some(settings.url.as_str())),
        ("LOKI_RUN_ID", Some(run.id.as_str())),
        ("LOKI_TOKEN", Some(token)),
        ("LOKI_RUN_PROVIDER", run.provider.as_deref()),
        ("LOKI_RUN_CONFIG", run.config.as_deref()),
    ];
    environment.extend(told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    Job {
        id: run.id.clone(),
        command: settings.command.clone(),
        workspace: settings.workspace.clone(),
        environment,
        input,
        log_bytes: settings.log_bytes,
        grace: settings.stop_grace,
    }
}

async fn note_pid(app: &App, id: &RunId) {
    if let Some(pid) = app.foreman.runner.pid(id)
        && let Err(e) = app.store.act(SetPid { id: id.clone(), pid }).await
    {
        tracing::warn!(run = %id, error = %e, "the process's id could not be stored");
    }
}

/// Takes over what a run prints until it has ended, then gives its place to the next.
async fn watch(app: Arc<App>, id: RunId, supervisor: Option<std::process::Child>) {
    loop {
        match look(&app, &id).await {
            Ok(false) => tokio::time::sleep(LOOK).await,
            Ok(true) => break,
            Err(e) => {
                tracing::warn!(run = %id, error = %e, "a run's progress waits for the database");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // It has said how it ended and goes now; waiting keeps it from staying a zombie.
    if let Some(mut supervisor) = supervisor {
        let _ = tokio::task::spawn_blocking(move || supervisor.wait()).await;
    }
    clear(&app.foreman.runner, &id);
    app.foreman.call().await;
}

/// Takes over what there is; answers whether the run has ended.
async fn look(app: &App, id: &RunId) -> Result<bool, StoreError> {
    let runner = &app.foreman.runner;
    // In this order: what was printed before the end is there when the end is.
    let found = runner.look(id);
    take_output(app, id, &runner.output(id)).await?;
    let ending = match found {
        Found::Alive => return Ok(false),
        Found::Ended(ending) => ending,
        Found::Lost => {
            runner.kill_orphan(id);
            Ending::Lost("its supervisor is gone, so how it ended is not known; what was left of it was killed".into())
        }
        Found::NeverStarted => Ending::Lost("its process was never started".into()),
    };
    end(app, id, ending).await?;
    Ok(true)
}

async fn take_output(app: &App, id: &RunId, output: &Path) -> Result<(), StoreError> {
    let mut from = app.store.run_log_taken(id).await?;
    loop {
        let (records, to) = spool::read(output, u64::try_from(from).unwrap_or_default()).unwrap_or_else(|e| {
            tracing::warn!(run = %id, error = %e, "a run's output cannot be read");
            (Vec::new(), u64::try_from(from).unwrap_or_default())
        });
        let to = i64::try_from(to).unwrap_or(i64::MAX);
        if to == from {
            return Ok(());
        }
        let line = |r: spool::Record| NewLine { time: r.time, stream: r.stream.as_str(), text: r.text };
        let lines = records.into_iter().map(line).collect();
        let act = TakeLines { id: id.clone(), from, to, lines };
        match app.store.act(act).await? {
            Some(taken) => from = taken,
            None => return Ok(()),
        }
    }
}

async fn end(app: &App, id: &RunId, ending: Ending) -> Result<(), StoreError> {
    let event = NewEvent::new(app.now(), EventName::RunCompleted, Actor::system()).on("run", id.as_str());
    let token_event = token_event(app, EventName::TokenRevoked).with("name", id.as_str());
    app.store.act(End { id: id.clone(), ending, event, token_event }).await?;
    Ok(())
}

fn clear(runner: &Runner, id: &RunId) {
    if let Err(e) = runner.remove(id) {
        tracing::warn!(run = %id, error = %e, "a run's directory cannot be removed");
    }
}

/// Ends every run that has not ended, at once, and waits until that is done. For a server whose data goes with it.
pub async fn end_all(app: &App) {
    let Ok(mut active) = app.store.active_runs().await else { return };
    active.retain(|run| run.node == app.store.node() && app.foreman.runner.tell(&run.id, Order::Kill));
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    while active.iter().any(|run| app.foreman.runner.look(&run.id) == Found::Alive)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(LOOK).await;
    }
}

/// Forgets runs that have been over long enough.
///
/// # Errors
/// When the database cannot take it.
pub async fn forget(app: &App) -> Result<(), StoreError> {
    let before = app.now().minus(app.settings.runs.keep);
    while app.store.act(Forget { before }).await? {}
    Ok(())
}
