//! Evidence: what makes the audit log believable to somebody who does not believe whoever keeps it, and a bounded
//! queue in front of it for events that must not hold up a request. What does not fit is counted and recorded as an
//! explicit gap.

pub mod anchor;
mod examiner;
pub mod export;
mod flaw;
pub mod lines;
pub mod offline;
mod outside;
mod places;
pub mod sink;
pub mod verify;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::{
        event::{Actor, EventName, NewEvent, Outcome},
        ledger::{Entry, View},
        time::Clock,
    },
    store::{
        Store, StoreError,
        ledger::Append,
        ledger_stretch::{Stretch, aside},
    },
};

/// Events in one commit.
const MOST: usize = 256;
/// After a failed commit, the next try waits this long.
const PAUSE: Duration = Duration::from_millis(250);

enum Message {
    Record(Box<NewEvent>),
    Flush(oneshot::Sender<()>),
}

/// The way to the log for events of the record-or-count class. Cheap to clone.
#[derive(Clone)]
pub struct EventQueue {
    queue: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
    /// How many wait for what was handed over.
    waited_for: Arc<AtomicU64>,
}

impl EventQueue {
    /// Starts the task that empties the queue, on the present runtime.
    pub fn start(store: Store, clock: Clock, capacity: usize) -> Self {
        let (queue, messages) = mpsc::channel(capacity);
        let lost = Arc::new(AtomicU64::new(0));
        let waited_for = Arc::new(AtomicU64::new(0));
        let drain =
            Drain { store, clock, lost: Arc::clone(&lost), waited_for: Arc::clone(&waited_for), held: Vec::new() };
        tokio::spawn(drain.run(messages));
        Self { queue, lost, lost_ever: Arc::default(), waited_for }
    }

    /// Hands an event over, or counts it when too many wait.
    pub fn record(&self, event: NewEvent) {
        if self.queue.try_send(Message::Record(Box::new(event))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an event that is one too many of its kind: it is recorded as part of a gap.
    pub fn count_only(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events wait.
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// How many did not fit since the start.
    pub fn lost(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }

    /// Waits until everything that was handed over before is committed (or given up at shutdown).
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        self.waited_for.fetch_add(1, Ordering::Relaxed);
        if self.queue.send(Message::Flush(reply)).await.is_ok() {
            let _ = done.await;
        }
        self.waited_for.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Drain {
    store: Store,
    clock: Clock,
    lost: Arc<AtomicU64>,
    waited_for: Arc<AtomicU64>,
    /// Events that are not committed yet.
    held: Vec<NewEvent>,
}

impl Drain {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut waiting = Vec::with_capacity(MOST);
        while messages.recv_many(&mut waiting, MOST).await > 0 {
            let mut flushed = Vec::new();
            for message in waiting.drain(..) {
                match message {
                    Message::Record(event) => self.held.push(*event),
                    Message::Flush(reply) => flushed.push(reply),
                }
            }
            self.commit().await;
            for reply in flushed {
                let _ = reply.send(());
            }
        }
    }

    /// Commits what is held. Meanwhile the queue fills, and beyond its end events are counted.
    async fn commit(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let gap = NewEvent::new(self.clock.now(), EventName::AuditGap, Actor::system());
            self.held.push(gap.because(Outcome::Failure, "queue_full").with("lost", lost));
        }
        loop {
            match self.store.act(Append { events: self.held.clone() }).await {
                Ok(()) => return self.held.clear(),
                Err(e) => tracing::warn!(error = %e, events = self.held.len(), "audit events wait for the database"),
            }
            // Whoever ends the server does not wait for a database that takes nothing.
            if self.waited_for.load(Ordering::Relaxed) > 0 {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Looks at a stretch where no request waits for it. What does not add up is read once more, column by column.
async fn look_at<T: Send + 'static>(
    store: &Store,
    read: Stretch,
    look: impl FnOnce(&[View<'_>]) -> T + Send + 'static,
) -> Result<T, StoreError> {
    let looked = aside(move || {
        if let Some(views) = read.views() {
            return Ok(look(&views));
        }
        Err(Box::new((read.here(), look)))
    });
    match looked.await {
        Ok(found) => Ok(found),
        Err(again) => {
            let (here, look) = *again;
            let entries = store.audit_stretch(&here).await?;
            Ok(aside(move || look(&entries.iter().map(Entry::view).collect::<Vec<_>>())).await)
        }
    }
}
