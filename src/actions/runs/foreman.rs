//! Who gives runs their turn, takes over what they print, and notices their end. What the database says is what
//! is wanted; the foreman sees that the processes follow, also after a restart.
//!
//! One task on the server's own runtime launches, one for each run that has a process watches.

use std::{collections::HashMap, path::Path, process::Child, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    actions::App,
    config::runs::Runs,
    domain::{
        event::{Actor, EventName, NewEvent},
        run::{Ending, Run, RunId, RunState},
        time::Moment,
        token::{TokenId, TokenSecret},
    },
    runner::{Found, Job, Order, Runner, spool},
    store::{
        Engine, StoreError,
        runs::{
            acts::{End, Forget, Inherit, Launch, Requeue, SetPid},
            lines::{NewLine, TakeLines},
        },
    },
};

/// How often a running process's output is looked for: a line is seen after half of this on average.
const LOOK: Duration = Duration::from_millis(40);
/// After a look that failed because of the database.
const PAUSE: Duration = Duration::from_millis(500);
/// After its grace a run that was asked to stop is killed by its supervisor; after this long again, by order.
const DEAF: Duration = Duration::from_secs(5);
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
    if app.store.engine() == Engine::Sqlite {
        app.store.act(Inherit { node: app.store.node().to_owned() }).await?;
    }
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
        let (id, found) = (run.id.clone(), runner.look(&run.id));
        tracing::info!(run = %id, ?found, "a run of before");
        if found == Found::NeverStarted && run.pid.is_none() {
            let event = token_event(app, EventName::TokenRevoked).with("name", id.as_str());
            if app.store.act(Requeue { run, event }).await? {
                clear(runner, &id);
                continue;
            }
        }
        tokio::spawn(watch(Arc::clone(app), id, None, None));
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
        // From here on the run has its turn: whatever happens, somebody watches it to its end.
        let (supervisor, failed) = match supervised(app, &run, &secret).await {
            Ok(supervisor) => (Some(supervisor), None),
            Err(why) => (None, Some(Ending::NotStarted(why))),
        };
        if supervisor.is_some() {
            app.foreman.runner.settled(&run.id).await;
            note_pid(app, &run.id).await;
        }
        tokio::spawn(watch(Arc::clone(app), run.id, supervisor, failed));
    }
}

/// Starts the supervisor of a run. An error is what the operating system or the database says.
async fn supervised(app: &App, run: &Run, secret: &TokenSecret) -> Result<Child, String> {
    let input = app.store.run_input(&run.id).await.map_err(|e| e.to_string())?.unwrap_or_default();
    let job = job(&app.settings.runs, run, input, secret.reveal());
    let runner = app.foreman.runner.clone();
    let started = tokio::task::spawn_blocking(move || runner.start(&job)).await.map_err(|e| e.to_string())?;
    started.map_err(|e| e.to_string())
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

/// Takes over what a run prints and lets its process follow what is wanted until it has ended, then gives its place to
/// the next. `failed`: it could not be started.
async fn watch(app: Arc<App>, id: RunId, supervisor: Option<Child>, failed: Option<Ending>) {
    let runner = &app.foreman.runner;
    // One that was just started works already; of one that was found nobody knows what it was told.
    let mut told = supervisor.is_some().then_some(RunState::Running);
    loop {
        let seen = match &failed {
            Some(ending) => end(&app, &id, ending.clone()).await.map(|()| true),
            None => look(&app, &id, &mut told).await,
        };
        match seen {
            Ok(false) => tokio::time::sleep(LOOK).await,
            Ok(true) => break,
            Err(e) => {
                tracing::warn!(run = %id, error = %e, "a run's progress waits for the database");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    if let Some(mut supervisor) = supervisor {
        // It has said how it ended and goes now, or cannot be reached any more. Waiting keeps it from staying a zombie.
        let is_gone = matches!(runner.look(&id), Found::Ended(_));
        let _ = tokio::task::spawn_blocking(move || {
            if !is_gone {
                let _ = supervisor.kill();
            }
            supervisor.wait()
        })
        .await;
    }
    clear(runner, &id);
    app.foreman.call().await;
}

/// Takes over what there is; answers whether the run has ended.
async fn look(app: &App, id: &RunId, told: &mut Option<RunState>) -> Result<bool, StoreError> {
    let runner = &app.foreman.runner;
    // In this order: what was printed before the end is there when the end is.
    let found = runner.look(id);
    let Some((taken, wanted, asked)) = app.store.run_wanted(id).await? else {
        runner.tell(id, Order::Kill);
        return Ok(true);
    };
    if wanted.is_over() {
        // Others took this node for dead and marked its runs.
        runner.tell(id, Order::Kill);
        runner.kill_orphan(id);
        return Ok(true);
    }
    take_output(app, id, &runner.output(id), taken).await?;
    let ending = match found {
        Found::Alive => {
            obey(app, id, (wanted, asked), told);
            return Ok(false);
        }
        Found::Ended(ending) => ending,
        Found::Lost => {
            runner.kill_orphan(id);
            Ending::Lost("its supervisor is gone, so how it ended is not known; what was left of it was killed".into())
        }
        Found::NeverStarted => {
            Ending::Lost("its directory (runs.directory) is gone, so it could be followed no longer".into())
        }
    };
    end(app, id, ending).await?;
    Ok(true)
}

/// Tells the process what is wanted, if that is something else than it was told. Only the one who watches a run tells it
/// anything, so orders come in the order of their commits.
fn obey(app: &App, id: &RunId, (wanted, asked): (RunState, Option<Moment>), told: &mut Option<RunState>) {
    let runner = &app.foreman.runner;
    if *told != Some(wanted) && order_of(wanted).is_some_and(|order| runner.tell(id, order)) {
        *told = Some(wanted);
    }
    let patience = app.settings.runs.stop_grace + DEAF;
    if wanted == RunState::Stopping && asked.is_some_and(|at| at.plus(patience) <= app.now()) {
        runner.tell(id, Order::Kill);
    }
}

async fn take_output(app: &App, id: &RunId, output: &Path, mut from: i64) -> Result<(), StoreError> {
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
    let now = app.now();
    let before = now.minus(app.settings.runs.keep);
    while app.store.act(Forget { now, before }).await? {}
    Ok(())
}
