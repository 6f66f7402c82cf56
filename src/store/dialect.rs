//! Two engines behind one text. `on_db!` runs the same expression on whichever pool there is, `on_conn!`
//! on the writer's connection; `row!` reads a row by its columns' names on both.

use std::{sync::OnceLock, time::Duration};

use super::StoreError;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, SqliteConnection, SqlitePool};

/// The engines that lokid runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file on this machine.
    Sqlite,
    /// A server, shared by several nodes.
    Postgres,
}

impl Engine {
    /// As shown to operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A pool for reading.
#[derive(Clone)]
pub(super) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// The writer's own connection.
pub(super) enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// A server that stands still says nothing, not even that it is too slow.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What a database across a network answers, if it answers in time.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let too_slow = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(too_slow)?
}

macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::store::dialect::Db::Sqlite($pool) => $body,
            $crate::store::dialect::Db::Postgres($pool) => {
                let asked = async { Ok::<_, $crate::store::StoreError>($body) };
                $crate::store::dialect::in_time(asked).await?
            }
        }
    };
}

macro_rules! on_conn {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::store::dialect::Conn::Sqlite($c) => {
                let $c = &mut *$c;
                $body
            }
            $crate::store::dialect::Conn::Postgres($c) => {
                let $c = &mut *$c;
                $body
            }
        }
    };
}

/// A struct and how to read it from a row of either engine.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),+ $(,)? }) => {
        $(#[$doc])*
        struct $name { $($field: $ty),+ }
        row!(@read $name, sqlx::sqlite::SqliteRow, $($field),+);
        row!(@read $name, sqlx::postgres::PgRow, $($field),+);
    };
    (@read $name:ident, $row:ty, $($field:ident),+) => {
        impl<'r> sqlx::FromRow<'r, $row> for $name {
            fn from_row(row: &'r $row) -> sqlx::Result<Self> {
                use sqlx::Row as _;
                Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
            }
        }
    };
}

/// A statement that reads the log as evidence. SQLite answers from any index that holds all that is asked, and whoever can
/// write to the file can make one that says something else than the table; so the table is gone through by its places.
pub(super) fn past_indexes(engine: Engine, sql: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(match engine {
        Engine::Sqlite => sql.replace("FROM audit ", "FROM audit NOT INDEXED "),
        Engine::Postgres => sql.to_owned(),
    })
}

impl Db {
    pub(super) const fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }
}

impl Conn {
    pub(super) const fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// A statement without parameters or answer.
    pub(super) async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        on_conn!(self, conn => { sqlx::query(sql).execute(conn).await?; });
        Ok(())
    }

    /// Ends a transaction that went wrong. Answers whether the connection can go on: when a commit failed, SQLite may have
    /// ended the transaction by itself. Where none could be begun the file may be another one by now.
    pub(super) async fn roll_back(&mut self, after_commit: bool) -> bool {
        match self.run("ROLLBACK").await {
            Ok(()) => true,
            Err(sqlx::Error::Database(e)) => {
                after_commit && self.engine() == Engine::Sqlite && e.message().ends_with("no transaction is active")
            }
            Err(_) => false,
        }
    }

    /// Makes sure that nothing is left of a commit that failed. SQLite's log may hold all of it, with only the sync
    /// missing, and whoever reads the log after a crash would take it for done. This writes a commit without an act in
    /// its place. (PostgreSQL stops when a sync fails, and reads its log anew.)
    pub(super) async fn write_over(&mut self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(_) => self.run("PRAGMA user_version = 0").await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Ends politely; whether that worked no longer matters.
    pub(super) async fn close(self) {
        let _ = match self {
            Self::Sqlite(conn) => conn.close().await,
            Self::Postgres(conn) => conn.close().await,
        };
    }
}

/// Rows in one statement at most.
const MOST_ROWS: usize = 64;

/// Texts that differ only in how many rows they are for; each is built once. Their parameters stand in the
/// order of their numbers, each once.
pub(super) struct Texts {
    sqlite: [OnceLock<String>; MOST_ROWS],
    postgres: [OnceLock<String>; MOST_ROWS],
    build: fn(usize) -> String,
}

impl Texts {
    pub(super) const fn new(build: fn(usize) -> String) -> Self {
        let sqlite = [const { OnceLock::new() }; MOST_ROWS];
        Self { sqlite, postgres: [const { OnceLock::new() }; MOST_ROWS], build }
    }

    /// The text for so many rows, which [`pieces`] has cut.
    ///
    /// On SQLite the parameters have no numbers: it searches a list for every numbered one that is bound,
    /// which for a thousand of them takes longer than the insert.
    pub(super) fn rows(&'static self, engine: Engine, rows: usize) -> AssertSqlSafe<&'static str> {
        AssertSqlSafe(match engine {
            Engine::Sqlite => self.sqlite[rows - 1].get_or_init(|| without_numbers(&(self.build)(rows))),
            Engine::Postgres => self.postgres[rows - 1].get_or_init(|| (self.build)(rows)),
        })
    }
}

/// `($1, $2)` → `(?, ?)`
fn without_numbers(sql: &str) -> String {
    let mut parts = sql.split('$');
    let head = parts.next().unwrap_or_default().to_owned();
    parts.fold(head, |text, part| text + "?" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// `INSERT … VALUES ($1, $2), ($3, $4), …` for `rows` rows. The same text serves both engines.
pub(super) fn insert_many(table: &str, columns: &[&str], rows: usize) -> String {
    format!("INSERT INTO {table} ({}) VALUES {}", columns.join(", "), tuples(columns.len(), rows))
}

/// `($1, $2), ($3, $4), …`
pub(super) fn tuples(width: usize, rows: usize) -> String {
    let tuple = |row: usize| {
        let places: Vec<_> = (1..=width).map(|at| format!("${}", row * width + at)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(tuple).collect::<Vec<_>>().join(", ")
}

/// Cuts a list into as many rows as one statement takes.
pub(super) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    rows.chunks(MOST_ROWS)
}

/// Prepared statements that a connection keeps: every fixed one, and [`Texts`] of every length.
pub(super) const PREPARED: usize = 4 * MOST_ROWS;

/// A statement that one engine does not accept.
#[derive(Debug, thiserror::Error)]
#[error("{name} on {engine:?}: {source}")]
pub struct CheckFailed {
    /// The statement's name.
    pub name: &'static str,
    /// Where it failed.
    pub engine: Engine,
    /// What the engine says.
    pub source: sqlx::Error,
}
