//! One task, one connection: acts queue up, and all that wait when a commit ends share the next one.
//!
//! A batch runs optimistically in one transaction. If the engine refuses anything in it, the whole batch
//! is rolled back and each act is tried in a transaction of its own, so that one act cannot spoil
//! another's. Answers leave after the commit, and after [`Rights`] advanced if a right was lost.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

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
pub(super) fn spawn(conn: Conn, reopen: Reopen, rights: Arc<Rights>, node: String) -> Handle {
    let (queue, messages) = mpsc::channel(QUEUE);
    let writer = Writer { conn: Some(conn), reopen, rights, node, seen_version: None };
    tokio::spawn(writer.run(messages));
    Handle { queue }
}

struct Writer {
    conn: Option<Conn>,
    reopen: Reopen,
    rights: Arc<Rights>,
    node: String,
    /// What `PRAGMA data_version` said last.
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
        if self.try_together(&mut jobs).await.is_ok() {
            jobs.into_iter().for_each(|job| job.finish(Ok(())));
            return closed;
        }
        for job in jobs {
            let mut alone = [job];
            let committed = self.try_together(&mut alone).await;
            let [job] = alone;
            if let Err(e) = &committed {
                tracing::warn!(error = %e, cause = ?std::error::Error::source(e), "an act was not committed");
            }
            job.finish(committed);
        }
        closed
    }

    /// All of `jobs` in one transaction, or none.
    async fn try_together(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.reopen.connect().await?,
        };
        match transact(&mut conn, jobs, &self.node).await {
            Ok(rights_lost) => {
                if rights_lost {
                    self.rights.advance();
                }
                self.conn = Some(conn);
                Ok(())
            }
            Err(e) => {
                // A connection that cannot roll back is of no more use.
                if conn.run("ROLLBACK").await.is_ok() {
                    self.conn = Some(conn);
                } else if matches!(conn, Conn::Sqlite(_)) {
                    conn.close().await;
                }
                Err(e)
            }
        }
    }

    /// On SQLite: did another process write to the file? (On PostgreSQL a listener hears of it.)
    async fn listen(&mut self) {
        if self.conn.is_none() {
            self.conn = self.reopen.connect().await.ok();
        }
        let Some(Conn::Sqlite(conn)) = &mut self.conn else { return };
        let version = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(conn).await;
        self.rights.set_deaf(version.is_err());
        if let Ok(version) = version
            && self.seen_version.replace(version).is_some_and(|seen| seen != version)
        {
            self.rights.advance();
        }
    }
}

async fn transact(conn: &mut Conn, jobs: &mut [Box<dyn Job>], node: &str) -> Result<bool, StoreError> {
    let mut batch = Batch::begin(conn, node).await?;
    let names: Vec<_> = jobs.iter().filter_map(|job| job.names()).collect();
    if names.len() > 1 {
        batch.look_up_names(&names).await?;
    }
    for job in jobs {
        job.apply(&mut batch).await?;
    }
    batch.commit().await
}
