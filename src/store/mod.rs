//! The only room that contains SQL. One `Store` over two engines; every mutation is an [`act`](Store::act)
//! that one writer commits together with its audit events.
//!
//! Reads go to a pool; all writes of this process go through one writer task over one connection, so
//! concurrent acts share one commit ([`writer`]). A right can be lost only by an act, and every such act
//! advances [`Rights`] before its answer leaves.

#[macro_use]
mod dialect;
mod batch;
pub mod certificates;
pub mod evidence;
pub mod exchange;
pub mod ledger;
mod ledger_file;
mod ledger_filter;
mod ledger_row;
mod ledger_shape;
pub mod ledger_stretch;
mod ledger_times;
mod node_name;
pub mod nodes;
mod open;
pub mod people;
pub mod retention;
pub mod review;
mod rights;
pub mod runs;
pub mod sessions;
pub mod signing_keys;
mod sqlite;
mod statements;
pub mod tasks;
pub mod token_uses;
pub mod tokens;
pub mod told;
mod writer;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

pub use dialect::{CheckFailed, Engine};
pub use open::{Database, Place, open_place};
pub use rights::Rights;
pub use statements::{every_statement, prepare_all, schema};
pub use writer::{Act, Batch};

use dialect::Db;

/// What can go wrong with a database. Whoever asked gets 503: nothing was changed (but see [`Self::InDoubt`]).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do what it was asked.
    #[error("the database did not answer as it should")]
    Unavailable(#[from] sqlx::Error),
    /// Nor did its file, to whoever reads the whole log.
    #[error("the database did not answer as it should")]
    Unreadable(#[from] rusqlite::Error),
    /// Too many acts wait, or the writer is gone.
    #[error("the database is too slow for what is asked of it")]
    Overloaded,
    /// The act was not tried, or not committed, because the database was lost; the cause is in the log.
    #[error("the database was lost before the change was made")]
    Lost,
    /// The connection was lost, or a sync failed, while it committed: the change may have been made, with its event, or
    /// not at all.
    #[error("the database was lost while the change was committed; look whether it was made")]
    InDoubt,
    /// A stored value cannot be what lokid wrote.
    #[error("a stored value is damaged: {0}")]
    Damaged(&'static str),
}

/// The database cannot be used at all; the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server works on this data directory.
    #[error("another lokid server is running on {0}; stop it first, or give this one another database.url")]
    Locked(String),
    /// The file is not a sound database.
    #[error("the database {path} is damaged: {reason}. Restore it from a backup; lokid does not start on it")]
    Damaged {
        /// The file.
        path: String,
        /// What the engine says.
        reason: String,
    },
    /// The directory was used before, but its data is gone.
    #[error(
        "{path} is missing or empty, but this directory held lokid's data before. Restore the file, or remove {lock} to begin anew"
    )]
    Gone {
        /// The database file.
        path: String,
        /// The file that remembers.
        lock: String,
    },
    /// The directory or file cannot be written.
    #[error("cannot use {path}: {source}")]
    File {
        /// What was to be used.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The engine cannot be reached or refuses.
    #[error("cannot open the database {name} (database.url): {source}")]
    Connect {
        /// The database, without its password.
        name: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// Another node of this name lives.
    #[error(
        "another lokid server works on {database} as node {name:?}; give each node a name of its own (cluster.node)"
    )]
    NodeTaken {
        /// The database, without its password.
        database: String,
        /// The name.
        name: String,
    },
    /// The tables are not the ones that this version knows.
    #[error("the database's tables do not fit this version of lokid: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// Whoever asks whether this node can serve does not ask for long.
const PING_WITHIN: Duration = Duration::from_secs(2);

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
    writer: writer::Handle,
    node: Arc<str>,
    rights: Arc<Rights>,
    /// Grows with every commit that this process hears of.
    committed: watch::Receiver<u64>,
    /// What other nodes say.
    words: told::Words,
    /// Held as long as the server lives.
    _lock: Option<Arc<std::fs::File>>,
}

impl Store {
    /// Does `act` in one transaction together with the events that it records.
    ///
    /// # Errors
    /// When the transaction did not commit: nothing was changed. [`StoreError::InDoubt`] when that is not known.
    pub async fn act<A: Act>(&self, act: A) -> Result<A::Output, StoreError> {
        self.writer.act(act).await
    }

    /// The counter that says whether something read earlier may still be believed.
    pub fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// Changes after every commit of this process, and where the engine tells, of others.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// How many commits there were so far, as [`Self::committed`] tells of them.
    pub fn commits(&self) -> u64 {
        *self.committed.borrow()
    }

    /// What this process is called in the audit log.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Which engine this is.
    pub fn engine(&self) -> Engine {
        self.db.engine()
    }

    /// Asks the engine for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = async {
            on_db!(&self.db, pool => { sqlx::query(statements::PING).execute(pool).await?; });
            Ok(())
        };
        let too_slow = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        tokio::time::timeout(PING_WITHIN, asked).await.map_err(too_slow)?
    }

    /// Waits until a server on the same database has heard what this process changed, so that a command
    /// does not say that something ended while it is still taken.
    pub async fn until_others_have_heard(&self) {
        tokio::time::sleep(2 * rights::LISTEN_INTERVAL).await;
    }

    /// Commits what waits and ends the writer. Acts that come later get [`StoreError::Overloaded`].
    pub async fn close(&self) {
        self.writer.close().await;
        match &self.db {
            Db::Sqlite(pool) => pool.close().await,
            Db::Postgres(pool) => pool.close().await,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.engine())
    }
}
