//! One task, one connection: acts queue up, and all that wait when a commit ends share the next one.
//!
//! A batch runs optimistically in one transaction. If the engine refuses anything in it, the whole batch
//! is rolled back and each act is tried in a transaction of its own, so that one act cannot spoil
//! another's. Where no transaction can be begun, nobody is made to wait for the next try; where it is not
//! known whether a commit happened, nothing is tried again. Answers leave after the commit, and after
//! [`Rights`] advanced if a right was lost.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};

pub use super::batch::Batch;
use super::{Rights, StoreError, dialect::Conn, open::Reopen, rights::LISTEN_INTERVAL};

/// A change together with its events. `apply` may run twice (see the module), each time from the start.
pub trait Act: Send + Sync + 'static {
    /// What whoever asked gets once it is committed.
    type Output: Send + 'static;

    /// Makes the change within the batch's transaction.
    fn apply<'b>(
        &'b self,
        batch: &'b mut Batch<'_>,
    ) -> impl Future<Output = Result<Self::Output, StoreError>> + Send + 'b;

    /// Owner and name that the change will look for, so that a batch can look for all at once.
    fn names(&self) -> Option<(&str, &str)> {
        None
    }
}

/// Acts that may wait at once. Beyond it the database is too slow for what is asked of it.
const QUEUE: usize = 4096;
/// Acts in one commit.
const MOST: usize = 128;
/// How long an act may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a transaction may take. A connection that says nothing for so long is given up.
const DEADLINE: Duration = Duration::from_secs(30);

type Applied<'b> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'b>>;

trait Job: Send {
    fn apply<'b>(&'b mut self, batch: &'b mut Batch<'_>) -> Applied<'b>;
    fn names(&self) -> Option<(&str, &str)>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
    /// Whether whoever asked still waits; from now on they wait for the end.
    fn begin(&self) -> bool;
}

struct Waiting<A: Act> {
    act: A,
    output: Option<A::Output>,
    reply: oneshot::Sender<Result<A::Output, StoreError>>,
    begun: Arc<AtomicBool>,
}

impl<A: Act> Job for Waiting<A> {
    fn apply<'b>(&'b mut self, batch: &'b mut Batch<'_>) -> Applied<'b> {
        Box::pin(async move {
            self.output = Some(self.act.apply(batch).await?);
            Ok(())
        })
    }

    fn names(&self) -> Option<(&str, &str)> {
        self.act.names()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { output, reply, .. } = *self;
        let _ = reply.send(committed.and_then(|()| output.ok_or(StoreError::Overloaded)));
    }

    fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }
}

enum Message {
    Do(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// The way to the writer.
#[derive(Clone)]
pub(super) struct Handle {
    queue: mpsc::Sender<Message>,
}

impl Handle {
    pub(super) async fn act<A: Act>(&self, act: A) -> Result<A::Output, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let job = Waiting { act, output: None, reply, begun: Arc::clone(&begun) };
        self.queue.try_send(Message::Do(Box::new(job))).map_err(|_| StoreError::Overloaded)?;
        if let Ok(done) = tokio::time::timeout(PATIENCE, &mut answer).await {
            return done.unwrap_or(Err(StoreError::Overloaded));
        }
        // Taking the turn ourselves keeps the writer from doing what we say was not done.
        if !begun.swap(true, Ordering::AcqRel) {
            return Err(StoreError::Overloaded);
        }
        answer.await.unwrap_or(Err(StoreError::Overloaded))
    }

    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

/// Starts the writer on the present runtime.
pub(super) fn spawn(conn: Conn, reopen: Reopen, rights: Arc<Rights>, node: Arc<str>) -> (Handle, watch::Receiver<u64>) {
    let (queue, messages) = mpsc::channel(QUEUE);
    let (committed, heard) = watch::channel(0);
    let writer = Writer { conn: Some(conn), reopen, rights, node, committed, seen_version: None };
    tokio::spawn(writer.run(messages));
    (Handle { queue }, heard)
}

struct Writer {
    conn: Option<Conn>,
    reopen: Reopen,
    rights: Arc<Rights>,
    node: Arc<str>,
    /// Tells whoever follows the log that there is more.
    committed: watch::Sender<u64>,
    /// What `PRAGMA data_version` said last on this connection.
    seen_version: Option<i64>,
}

impl Writer {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut waiting: Vec<Message> = Vec::with_capacity(MOST);
        let mut tick = tokio::time::interval(LISTEN_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => self.listen().await,
                got = messages.recv_many(&mut waiting, MOST) => {
                    if got == 0 {
                        break;
                    }
                    if let Some(closed) = self.serve(waiting.drain(..)).await {
                        messages.close();
                        if let Some(conn) = self.conn.take() {
                            conn.close().await;
                        }
                        let _ = closed.send(());
                        break;
                    }
                }
            }
        }
    }

    async fn serve(&mut self, messages: impl Iterator<Item = Message>) -> Option<oneshot::Sender<()>> {
        let (mut jobs, mut closed) = (Vec::new(), None);
        for message in messages {
            match message {
                Message::Do(job) if job.begin() => jobs.push(job),
                Message::Do(_) => {}
                Message::Close(reply) => closed = Some(reply),
            }
        }
        if jobs.is_empty() {
            return closed;
        }
        match self.try_together(&mut jobs).await {
            Err(Failed::Refused(_)) if jobs.len() > 1 => self.try_alone(jobs).await,
            done => finish(jobs, done),
        }
        closed
    }

    /// Each of `jobs` in a transaction of its own, until the database is lost.
    async fn try_alone(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let mut alone = vec![job];
            let done = self.try_together(&mut alone).await;
            let is_lost = matches!(done, Err(Failed::Lost(_) | Failed::InDoubt(_)));
            finish(alone, done);
            if is_lost {
                jobs.for_each(|job| job.finish(Err(StoreError::Lost)));
                return;
            }
        }
    }

    /// All of `jobs` in one transaction, or none.
    async fn try_together(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let kept = matches!(self.conn, Some(Conn::Postgres(_)));
        match self.try_once(jobs).await {
            // A connection that had nothing to do may have been closed long ago; a new one tells.
            Err(Failed::Lost(_)) if kept && self.conn.is_none() => self.try_once(jobs).await,
            done => done,
        }
    }

    async fn try_once(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen.connect().await.map_err(|e| Failed::Lost(e.into()))?,
        };
        let mut stage = Stage::Begin;
        let transaction = transact(&mut conn, jobs, &self.node, &mut stage);
        let transaction = AssertUnwindSafe(transaction).catch_unwind();
        let (error, answers) = match tokio::time::timeout(DEADLINE, transaction).await {
            Ok(Ok(Ok(rights_lost))) => {
                if rights_lost {
                    self.rights.advance();
                }
                self.conn = Some(conn);
                self.committed.send_modify(|count| *count += 1);
                return Ok(());
            }
            Ok(Ok(Err(error))) => (error, true),
            // An act that panics must not take the writer with it, and every later act with that.
            Ok(Err(_panic)) => (StoreError::Damaged("an act gave up"), true),
            Err(_too_slow) => (sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into(), false),
        };
        // A connection that cannot roll back is of no more use.
        let rolled_back = answers && conn.roll_back(matches!(stage, Stage::Commit)).await;
        // What a sync failed to write is not synced again: it is written over, and whoever asks again writes it anew.
        let is_gone = rolled_back && (!matches!(stage, Stage::Commit) || conn.write_over().await.is_ok());
        if rolled_back {
            self.conn = Some(conn);
        } else {
            self.seen_version = None;
            if matches!(conn, Conn::Sqlite(_)) {
                conn.close().await;
            }
        }
        Err(match stage {
            Stage::Commit if !is_gone => {
                // It may have been committed, and with it the loss of a right.
                self.rights.advance();
                Failed::InDoubt(error)
            }
            Stage::Begin => Failed::Lost(error),
            _ if !rolled_back => Failed::Lost(error),
            _ => Failed::Refused(error),
        })
    }

    /// On SQLite: did another process write to the file? (On PostgreSQL a listener hears of it.)
    async fn listen(&mut self) {
        if matches!(self.reopen, Reopen::Postgres(..)) {
            return;
        }
        if self.conn.is_none() {
            // What the old connection saw says nothing about the new one.
            self.seen_version = None;
            self.conn = self.reopen.connect().await.ok();
        }
        let version = match &mut self.conn {
            Some(Conn::Sqlite(conn)) => sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(conn).await.ok(),
            _ => None,
        };
        self.rights.set_deaf(version.is_none());
        if version.is_none() {
            self.conn = None;
        } else if std::mem::replace(&mut self.seen_version, version) != version {
            self.rights.advance();
            self.committed.send_modify(|count| *count += 1);
        }
    }
}

/// How far a transaction came.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Begin,
    Act,
    Commit,
}

/// Why a transaction did not end well, which says what may be done next.
enum Failed {
    /// The database cannot be used at present; nothing was done.
    Lost(StoreError),
    /// Something in it was refused; nothing was done.
    Refused(StoreError),
    /// Whether it was committed is not known.
    InDoubt(StoreError),
}

/// Answers everybody. The cause goes to the log, and to the one who asked when there was only one.
fn finish(jobs: Vec<Box<dyn Job>>, done: Result<(), Failed>) {
    let Err(failed) = done else {
        return jobs.into_iter().for_each(|job| job.finish(Ok(())));
    };
    let (Failed::Lost(error) | Failed::Refused(error) | Failed::InDoubt(error)) = &failed;
    let acts = jobs.len();
    tracing::warn!(%error, cause = ?std::error::Error::source(error), acts, "acts were not committed");
    let mut jobs = jobs.into_iter();
    match failed {
        Failed::InDoubt(_) => jobs.for_each(|job| job.finish(Err(StoreError::InDoubt))),
        Failed::Lost(error) | Failed::Refused(error) => {
            if let Some(first) = jobs.next() {
                first.finish(Err(error));
            }
            jobs.for_each(|job| job.finish(Err(StoreError::Lost)));
        }
    }
}

async fn transact(
    conn: &mut Conn,
    jobs: &mut [Box<dyn Job>],
    node: &str,
    stage: &mut Stage,
) -> Result<bool, StoreError> {
    let mut batch = Batch::begin(conn, node).await?;
    *stage = Stage::Act;
    let names: Vec<_> = jobs.iter().filter_map(|job| job.names()).collect();
    if names.len() > 1 {
        batch.look_up_names(&names).await?;
    }
    for job in jobs {
        job.apply(&mut batch).await?;
    }
    let rights_lost = batch.finish().await?;
    *stage = Stage::Commit;
    conn.run("COMMIT").await?;
    Ok(rights_lost)
}
