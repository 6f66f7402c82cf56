//! Examining the whole log for those who wait for it: at most one examination at a time on each server. Who asks while
//! one is under way waits for that one; when nobody does any more, it ends.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    ActError, App,
    audit::Verdict,
    evidence::{anchors, believed},
};
use crate::{
    audit::verify,
    domain::{
        event::{Actor, EventName, NewEvent, Origin, Outcome},
        identity::{Caller, ReadAudit},
        time::Moment,
    },
    store::StoreError,
};

/// A page that has not asked for so long is closed.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// The latest examination of this server.
#[derive(Debug, Default)]
pub struct Examinations(Mutex<Option<Arc<Examination>>>);

/// How far an examination is, or how it ended.
#[derive(Debug, Clone)]
pub enum State {
    /// It goes on.
    UnderWay,
    /// It came to its end.
    Done(Arc<Verdict>),
    /// The log could not be read to its end.
    Unreadable,
    /// Nobody waited for it any more.
    BrokenOff,
}

/// One examination.
#[derive(Debug)]
pub struct Examination {
    /// When it began.
    pub began: Moment,
    /// Where the log ended then.
    pub total: i64,
    done: AtomicI64,
    /// When a page last asked, in milliseconds.
    asked_at: AtomicI64,
    /// How many requests stay open for it.
    waiting: AtomicUsize,
    /// Everybody who asked for it.
    askers: Mutex<Vec<(Actor, Origin)>>,
    state: watch::Sender<State>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that stays open until the end.
struct Waiting<'e>(&'e Examination);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Examination {
    /// How many entries of [`Self::total`] are behind it.
    pub fn done(&self) -> i64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits for its end, at most so long. It goes on afterwards, as long as a page asks for it.
    pub async fn ends_within(&self, while_: Duration) -> State {
        let _elapsed = tokio::time::timeout(while_, self.end()).await;
        self.state()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the log could not be read.
    pub async fn verdict(&self) -> Result<Arc<Verdict>, ActError> {
        match self.end().await {
            State::Done(verdict) => Ok(verdict),
            State::UnderWay | State::Unreadable | State::BrokenOff => Err(StoreError::Lost.into()),
        }
    }

    async fn end(&self) -> State {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::UnderWay)).await;
        ended.map_or(State::Unreadable, |state| state.clone())
    }

    /// Notes how far it is. Answers whether to go on.
    fn goes_on(&self, app: &App, done: i64) -> bool {
        self.done.store(done, Ordering::Relaxed);
        let asked_at = Moment::from_millis(self.asked_at.load(Ordering::Relaxed));
        self.waiting.load(Ordering::Relaxed) > 0 || app.now().since(asked_at) < GIVEN_UP
    }
}

/// Joins the examination that is under way, or begins one.
///
/// # Errors
/// [`ActError`] when the log cannot be read.
pub async fn join(app: &Arc<App>, caller: &Caller<ReadAudit>, from: &Origin) -> Result<Arc<Examination>, ActError> {
    let asker = (caller.identity().actor.clone(), from.clone());
    let total = app.store.audit_head().await?.seq;
    let mut latest = lock(&app.examinations.0);
    if let Some(known) = latest.as_ref() {
        // Whoever is added before the end is told is recorded with it.
        let mut askers = lock(&known.askers);
        if matches!(known.state(), State::UnderWay) {
            askers.push(asker);
            known.asked_at.store(app.now().millis(), Ordering::Relaxed);
            return Ok(Arc::clone(known));
        }
    }
    let new = Arc::new(Examination {
        began: app.now(),
        total,
        done: AtomicI64::new(0),
        asked_at: AtomicI64::new(app.now().millis()),
        waiting: AtomicUsize::new(0),
        askers: Mutex::new(vec![asker]),
        state: watch::Sender::new(State::UnderWay),
    });
    *latest = Some(Arc::clone(&new));
    tokio::spawn(examine(Arc::clone(app), Arc::clone(&new)));
    Ok(new)
}

/// The latest examination, for a page that shows how far it is. Asking keeps it going.
pub fn latest(app: &App, _: &Caller<ReadAudit>) -> Option<Arc<Examination>> {
    let latest = lock(&app.examinations.0).clone()?;
    latest.asked_at.store(app.now().millis(), Ordering::Relaxed);
    Some(latest)
}

/// Whoever waits hears of the end also when it comes by a panic.
struct Ends(Arc<Examination>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let under_way = matches!(state, State::UnderWay);
            if under_way {
                *state = State::Unreadable;
            }
            under_way
        });
    }
}

async fn examine(app: Arc<App>, examination: Arc<Examination>) {
    let _ends = Ends(Arc::clone(&examination));
    let outside = anchors(&app).await;
    let compared = outside.all();
    let watched = verify::watched(&app.store, believed(&app), &compared, |done| examination.goes_on(&app, done));
    let state = match watched.await {
        Ok(Some(report)) => State::Done(Arc::new(Verdict::of(outside.beside(report)))),
        Ok(None) => State::BrokenOff,
        Err(e) => {
            tracing::warn!(error = %e, "the audit log could not be examined to its end");
            State::Unreadable
        }
    };
    let mut askers = lock(&examination.askers);
    for (actor, from) in askers.drain(..) {
        record(&app, &examination, &state, actor, &from);
    }
    examination.state.send_replace(state);
}

fn record(app: &App, examination: &Examination, state: &State, actor: Actor, from: &Origin) {
    let event = NewEvent::new(app.now(), EventName::AuditVerified, actor);
    let event = match state {
        State::Done(verdict) => verdict.recorded_in(event),
        State::BrokenOff => event.because(Outcome::Failure, "nobody waited").with("entries", examination.done()),
        State::Unreadable | State::UnderWay => {
            event.because(Outcome::Failure, "unreadable").with("entries", examination.done())
        }
    };
    app.note(event, from);
}
