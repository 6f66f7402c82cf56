//! One SQLite file: the lock that keeps a second server away, and the checks before it is trusted.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{OpenError, dialect::PREPARED};

/// A file larger than this is not read whole at start; `lokid doctor` and `audit verify` do.
const CHECKED_WHOLE: u64 = 8 << 20;

/// How long to wait for whoever holds a lock on the file.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How every connection is opened. WAL with FULL: a commit that was answered survives a power loss.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
        .statement_cache_capacity(PREPARED)
        // Keys are random, so a commit touches pages all over; fewer checkpoints write each of them less often.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-8192")
        .disable_statement_logging()
}

/// `loki.db.lock`, beside the database.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// Whether there was data here before, as the file beside the lock's path remembers.
fn was_used(lock: &Path) -> bool {
    fs::read(lock).is_ok_and(|text| text.starts_with(b"used"))
}

/// Writes down that there is data now, so that a vanished file is not taken for a first start.
pub(super) fn remember(path: &Path) {
    let lock = lock_path(path);
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(false).mode(0o600);
    let written = open.open(&lock).and_then(|mut file| file.write_all(b"used\n").and_then(|()| file.sync_all()));
    // A full or read-only disk must not keep a sound database from opening.
    if let Err(e) = written {
        tracing::warn!(error = %e, file = %lock.display(), "cannot write the lock file");
    }
}

/// The lock that a server holds.
pub(super) struct Lock(Arc<File>);

impl Lock {
    /// Takes the directory and the lock; a second server is refused.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let file_error = |path: &Path| {
            let path = path.display().to_string();
            move |source| OpenError::File { path, source }
        };
        make_directory(path).map_err(file_error(path))?;
        let lock = lock_path(path);
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = open.open(&lock).map_err(file_error(&lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(Arc::new(file))),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.display().to_string())),
            Err(TryLockError::Error(e)) => Err(file_error(&lock)(e)),
        }
    }

    /// To hold as long as the server lives.
    pub(super) fn held(self) -> Arc<File> {
        self.0
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
        }
        _ => Ok(()),
    }
}

/// Makes the file if this is the first start, checks it otherwise.
pub(super) async fn prepare(path: &Path, is_server: bool) -> Result<SqliteConnection, OpenError> {
    let name = path.display().to_string();
    let length = fs::metadata(path).map(|m| m.len()).ok();
    // SQLite takes a file of one byte for an empty one too.
    if length.unwrap_or(0) <= 1 {
        let lock = lock_path(path);
        if was_used(&lock) {
            return Err(OpenError::Gone { path: name, lock: lock.display().to_string() });
        }
        create(path)?;
    }
    let damaged = |source: sqlx::Error| match &source {
        sqlx::Error::Database(e) if matches!(e.code().as_deref(), Some("11" | "26")) => {
            OpenError::Damaged { path: name.clone(), reason: e.message().to_owned() }
        }
        _ => OpenError::Connect { name: name.clone(), source },
    };
    let mut conn = connect(path).await.map_err(damaged)?;
    if length.is_some_and(|l| (1..=CHECKED_WHOLE).contains(&l)) {
        let verdict: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut conn).await.map_err(damaged)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: name, reason: verdict });
        }
    }
    // A command beside the server leaves the log to it.
    if is_server {
        // Nor does one that is opening the log right now: it looks where the log is sound.
        let goes_on = |e: &sqlx::Error| is_full_or_read_only(e) || is_busy(e);
        settle(&mut conn).await.or_else(|e| if goes_on(&e) { Ok(()) } else { Err(damaged(e)) })?;
    }
    Ok(conn)
}

/// Processes that begin to write a log beside the file at the same moment refuse each other at once, whatever the timeout.
async fn connect(path: &Path) -> sqlx::Result<SqliteConnection> {
    let begun = Instant::now();
    loop {
        match SqliteConnection::connect_with(&options(path)).await {
            Err(e) if is_busy(&e) && begun.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(10)).await,
            connected => return connected,
        }
    }
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error().and_then(|e| e.code()?.parse::<u32>().ok());
    code.map(|code| code & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(5)
}

/// Such a disk must not keep a sound database from opening; nothing can be added to its log either.
fn is_full_or_read_only(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(8 | 13))
}

/// Writes what stands in the log into the file itself, and begins the log anew. To be done before something is added to a
/// log that another process, or another connection, left: if its last sync failed, what we read may be in the system's
/// memory only, no later sync would write it, and after a power loss everything behind it would be gone with it.
///
/// Whoever reads at the same time is not waited for: they have the log open, and know where it is sound.
pub(super) async fn settle(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    let patience = |time: Duration| AssertSqlSafe(format!("PRAGMA busy_timeout = {}", time.as_millis()));
    sqlx::query(patience(Duration::ZERO)).execute(&mut *conn).await?;
    let settled = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *conn).await;
    sqlx::query(patience(PATIENCE)).execute(conn).await?;
    settled.map(drop)
}

/// Readable by its owner only; SQLite gives its side files the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    make_directory(path)
        .and_then(|()| OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop))
        .map_err(|source| OpenError::File { path: path.display().to_string(), source })
}
