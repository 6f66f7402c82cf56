//! A database of one test's own, the store on it, and ways to look behind the store's back.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lokid::store::{Database, Engine, OpenError, Place, Store};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;

use super::{postgres, until};

/// A fresh database with a server's store on it. What it is kept in goes with it.
pub(crate) struct Home {
    pub(crate) store: Store,
    pub(crate) database: Database,
    /// What the SQLite file lies in; goes with this.
    directory: Option<TempDir>,
}

impl Home {
    pub(crate) async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(directory.path().join("data/loki.db"));
        let store = server_on(&database).await.unwrap();
        Self { store, database, directory: Some(directory) }
    }

    /// `None` when the machine has no PostgreSQL and the environment allows to go without.
    pub(crate) async fn on_postgres() -> Option<Self> {
        let database = Database::Postgres(postgres::fresh_database().await?);
        let store = server_on(&database).await.unwrap();
        Some(Self { store, database, directory: None })
    }

    /// Another process on the same database: a command beside a SQLite server, a second node on PostgreSQL.
    pub(crate) async fn another_process(&self) -> Store {
        // Each node has a name of its own.
        static NODES: AtomicU32 = AtomicU32::new(2);
        let is_server = self.store.engine() == Engine::Postgres;
        let name = format!("node-{}", NODES.fetch_add(1, Ordering::Relaxed));
        open(&self.database, &name, is_server).await.unwrap()
    }

    /// Ends the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        let Self { store, database, directory } = self;
        store.close().await;
        drop(store);
        let store = server_on(&database).await.unwrap();
        Self { store, database, directory }
    }

    /// The present epoch, once losses through others are heard of.
    pub(crate) async fn epoch(&self) -> u64 {
        epoch(&self.store).await
    }

    /// A connection that knows nothing of lokid's rules.
    pub(crate) async fn behind_its_back(&self) -> Raw {
        match &self.database {
            Database::Sqlite(path) => Raw::Sqlite(raw_sqlite(path).await),
            Database::Postgres(url) => Raw::Postgres(PgConnection::connect(url).await.unwrap()),
        }
    }

    /// An empty database of the same engine, on which nothing was ever opened.
    pub(crate) async fn empty_database(&self) -> Database {
        match &self.database {
            Database::Sqlite(path) => {
                Database::Sqlite(tempfile::tempdir_in(path.parent().unwrap()).unwrap().keep().join("fresh/loki.db"))
            }
            Database::Postgres(_) => Database::Postgres(postgres::fresh_database().await.unwrap()),
        }
    }

    /// The SQLite file.
    pub(crate) fn file(&self) -> PathBuf {
        let Database::Sqlite(path) = &self.database else { panic!("only SQLite has a file") };
        path.clone()
    }

    /// The URL of the PostgreSQL database.
    pub(crate) fn url(&self) -> String {
        let Database::Postgres(url) = &self.database else { panic!("only PostgreSQL has a URL") };
        url.clone()
    }
}

/// The present epoch of a store, once losses through others are heard of.
pub(crate) async fn epoch(store: &Store) -> u64 {
    until("a store that hears of others", Duration::from_secs(10), async || store.rights().epoch()).await
}

pub(crate) async fn server_on(database: &Database) -> Result<Store, OpenError> {
    open(database, "node-1", true).await
}

/// A command beside the server, or without one.
pub(crate) async fn command_on(database: &Database) -> Result<Store, OpenError> {
    open(database, "command", false).await
}

/// A server of another name.
pub(crate) async fn node_on(database: &Database, name: &str) -> Store {
    open(database, name, true).await.unwrap()
}

async fn open(database: &Database, node: &str, is_server: bool) -> Result<Store, OpenError> {
    Store::open(Place { database: database.clone(), node: node.to_owned(), is_server }).await
}

pub(crate) async fn raw_sqlite(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(false).connect().await.unwrap()
}

/// A connection past the store.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Raw {
    pub(crate) async fn run(&mut self, sql: &str) -> sqlx::Result<()> {
        let text = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(conn) => text.execute(conn).await.map(|_done| ()),
            Self::Postgres(conn) => text.execute(conn).await.map(|_done| ()),
        }
    }

    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        let text = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(conn) => sqlx::query_scalar(text).fetch_one(conn).await.unwrap(),
            Self::Postgres(conn) => sqlx::query_scalar(text).fetch_one(conn).await.unwrap(),
        }
    }

    pub(crate) async fn texts(&mut self, sql: &str) -> Vec<String> {
        let text = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(conn) => sqlx::query_scalar(text).fetch_all(conn).await.unwrap(),
            Self::Postgres(conn) => sqlx::query_scalar(text).fetch_all(conn).await.unwrap(),
        }
    }

    /// Takes away what keeps the log append-only, as somebody with the database's password could.
    pub(crate) async fn drop_triggers(&mut self) {
        let (find, on) = match self {
            Self::Sqlite(_) => ("SELECT name FROM sqlite_master WHERE type = 'trigger'", ""),
            Self::Postgres(_) => ("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal", " ON audit"),
        };
        for trigger in self.texts(find).await {
            self.run(&format!("DROP TRIGGER {trigger}{on}")).await.unwrap();
        }
    }
}
