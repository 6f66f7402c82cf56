//! Opening: connect, migrate, check, start the writer and whatever hears of other processes' changes.

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, SqlStr, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
    sqlite::SqlitePoolOptions,
};

use super::{
    OpenError, Rights, Store,
    dialect::{Conn, Db, Engine, PREPARED},
    ledger, node_name, sqlite, statements, told, writer,
};

/// Where the data is and who opens it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The database.
    pub database: Database,
    /// What this process is called in the audit log.
    pub node: String,
    /// Whether it is a server (and keeps other servers away) or a command beside one.
    pub is_server: bool,
}

/// A database to open.
#[derive(Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server's URL, with its password.
    Postgres(String),
}

/// The place that the settings name.
pub fn open_place(database: &crate::config::server::Database, node: &str, is_server: bool) -> Place {
    let database = match database {
        crate::config::server::Database::Sqlite(path) => Database::Sqlite(path.clone()),
        crate::config::server::Database::Postgres(url) => Database::Postgres(url.reveal().to_owned()),
    };
    Place { database, node: node.to_owned(), is_server }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

macro_rules! migrations {
    ($($version:literal $name:literal),+ $(,)?) => {
        pub(super) const SQLITE: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/sqlite/", $name, ".sql")))),+];
        pub(super) const POSTGRES: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/postgres/", $name, ".sql")))),+];
    };
}

migrations! {
    1 "0001_the_door", 2 "0002_other_apps", 3 "0003_tasks", 4 "0004_runs", 5 "0005_evidence", 6 "0006_certificates",
    7 "0007_nodes", 8 "0008_stopped_nodes", 9 "0009_audit_filters", 10 "0010_scopes_in_use", 11 "0011_revoked_keys",
    12 "0012_audit_times",
}

fn migrator(engine: Engine) -> Migrator {
    let list = if engine == Engine::Sqlite { SQLITE } else { POSTGRES };
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        let text = SqlStr::from_static(sql);
        Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(list.iter().map(migration).collect())
}

/// What PostgreSQL is asked of every connection. A node that freezes or falls silent within a transaction holds the lock
/// of the log that all nodes append to: the server ends such a connection, and notices one whose machine is gone.
const SESSION: [(&str, &str); 6] = [
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "15s"),
];
/// The writer gives a lock up that does not come; whoever waits is told that it is unavailable.
const BOUNDED: &str = "SET lock_timeout = '5s'";

/// How the writer gets a new connection after it lost the old one.
pub(super) enum Reopen {
    Sqlite(PathBuf),
    /// With the node's name, if a server's.
    Postgres(Box<PgConnectOptions>, Option<Arc<str>>),
}

impl Reopen {
    pub(super) async fn connect(&self) -> sqlx::Result<Conn> {
        let connecting = async {
            Ok(match self {
                Self::Sqlite(path) => {
                    let mut conn = sqlite::options(path).connect().await?;
                    sqlite::settle(&mut conn).await?;
                    Conn::Sqlite(conn)
                }
                Self::Postgres(options, name) => {
                    let mut conn = PgConnection::connect_with(options).await?;
                    conn.execute(BOUNDED).await?;
                    // Two servers of one name would take each other's runs for their own. PostgreSQL may need a
                    // moment to notice that our old connection is gone.
                    if let Some(name) = name
                        && !node_name::take_within(&mut conn, name, Duration::from_secs(4)).await?
                    {
                        tracing::error!(node = %name, "another server works under this node's name (cluster.node)");
                        return Err(sqlx::Error::Protocol(format!("another server is the node {name}")));
                    }
                    Conn::Postgres(conn)
                }
            })
        };
        tokio::time::timeout(Duration::from_secs(5), connecting).await.map_err(|_| sqlx::Error::PoolTimedOut)?
    }
}

impl Store {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// [`OpenError`] says what to do about it.
    pub async fn open(place: Place) -> Result<Self, OpenError> {
        match place.database {
            Database::Sqlite(path) => Self::open_sqlite(path, place.node, place.is_server).await,
            Database::Postgres(url) => Self::open_postgres(&url, place.node, place.is_server).await,
        }
    }

    async fn open_sqlite(path: PathBuf, node: String, is_server: bool) -> Result<Self, OpenError> {
        let lock = is_server.then(|| sqlite::Lock::take(&path)).transpose()?;
        let mut conn = sqlite::prepare(&path, is_server).await?;
        migrate_sqlite(&mut conn).await?;
        sqlite::remember(&path);
        let lock = lock.map(sqlite::Lock::held);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .min_connections(0)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(sqlite::options(&path));
        let rights = Arc::new(Rights::default());
        rights.set_deaf(true); // until the writer has looked for the first time
        let node: Arc<str> = node.into();
        let (writer, committed) =
            writer::spawn(Conn::Sqlite(conn), Reopen::Sqlite(path), Arc::clone(&rights), Arc::clone(&node));
        Ok(Self { db: Db::Sqlite(pool), writer, node, rights, committed, words: told::words(), _lock: lock })
    }

    async fn open_postgres(url: &str, node: String, is_server: bool) -> Result<Self, OpenError> {
        let connect_error = |name: &str| {
            let name = name.to_owned();
            move |source| OpenError::Connect { name, source }
        };
        let options: PgConnectOptions = url.parse().map_err(connect_error("(database.url)"))?;
        let options = options.statement_cache_capacity(PREPARED).disable_statement_logging().options(SESSION);
        let name = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or(""));
        let mut conn = PgConnection::connect_with(&options).await.map_err(connect_error(&name))?;
        if is_server && !node_name::take_patiently(&mut conn, &node).await.map_err(connect_error(&name))? {
            return Err(OpenError::NodeTaken { database: name, name: node });
        }
        // During a rolling upgrade a node of the version before is restarted on tables of the next, which only add.
        let mut migrator = migrator(Engine::Postgres);
        migrator.set_ignore_missing(true).run(&mut conn).await?;
        conn.execute(BOUNDED).await.map_err(connect_error(&name))?;
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.clone());
        let rights = Arc::new(Rights::default());
        rights.set_deaf(true); // until the listener listens
        let closed = pool.close_event();
        let words = told::words();
        let (listening, ears) = (options.clone(), Ears { rights: Arc::clone(&rights), words: words.clone() });
        tokio::spawn(async move {
            tokio::select! { () = closed => {} () = listen(listening, ears) => {} }
        });
        let node: Arc<str> = node.into();
        let reopen = Reopen::Postgres(Box::new(options), is_server.then(|| Arc::clone(&node)));
        let (writer, committed) = writer::spawn(Conn::Postgres(conn), reopen, Arc::clone(&rights), Arc::clone(&node));
        Ok(Self { db: Db::Postgres(pool), writer, node, rights, committed, words, _lock: None })
    }
}

/// All of it in one write transaction: sqlx's lock does nothing on SQLite, and two processes may start at once.
async fn migrate_sqlite(conn: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrator(Engine::Sqlite).run(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// After this long without a word the listener's connection is asked for a sign of life.
const SILENCE: Duration = Duration::from_millis(250);
/// When that does not come within this, nothing is believed until it does.
const DOUBT: Duration = Duration::from_millis(100);
/// When it does not come within this, the connection is given up.
const LOST: Duration = Duration::from_secs(1);

/// Where what is heard goes.
struct Ears {
    rights: Arc<Rights>,
    words: told::Words,
}

/// Hears of rights that were lost through other nodes, and what else they say. While it does not, nothing may be cached.
async fn listen(options: PgConnectOptions, ears: Ears) {
    loop {
        // A pool of its own, so that a connection which is lost without an end takes no reader's place.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        if let Ok(Ok(mut listener)) = tokio::time::timeout(Duration::from_secs(5), listener(&pool)).await {
            ears.rights.set_deaf(false);
            while hears(&mut listener, &ears).await {}
        }
        ears.rights.set_deaf(true);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn listener(pool: &sqlx::PgPool) -> sqlx::Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    // Otherwise a lost connection is replaced before we learn that it was lost.
    listener.eager_reconnect(false);
    listener.listen_all(["lokid_rights", told::CHANNEL]).await?;
    Ok(listener)
}

/// Waits for the next word, or after a silence for a sign of life. Answers whether the connection still works.
async fn hears(listener: &mut PgListener, ears: &Ears) -> bool {
    match tokio::time::timeout(SILENCE, listener.try_recv()).await {
        Ok(Ok(Some(heard))) if heard.channel() == told::CHANNEL => {
            let _nobody_listens = ears.words.send(heard.payload().into());
        }
        Ok(Ok(Some(heard))) => {
            ears.rights.advance();
            if let Ok(told_at) = heard.payload().parse::<i64>() {
                let asked = sqlx::query_scalar::<_, i64>(ledger::SINCE_TOLD).bind(told_at).fetch_one(listener);
                let Some(took) = answers(asked, &ears.rights).await else { return false };
                ears.rights.propagation.add(Duration::from_micros(took.try_into().unwrap_or_default()));
            }
        }
        // `None`: the connection was lost, and what was said meanwhile is unknown.
        Ok(_) => return false,
        Err(_silence) => {
            let asked = sqlx::query(statements::PING).execute(listener);
            return answers(asked, &ears.rights).await.is_some();
        }
    }
    true
}

/// What the listener's connection answers. While it does not, nothing is believed; what is said meanwhile waits in it.
async fn answers<T>(asked: impl Future<Output = sqlx::Result<T>>, rights: &Rights) -> Option<T> {
    tokio::pin!(asked);
    if let Ok(answer) = tokio::time::timeout(DOUBT, &mut asked).await {
        return answer.ok();
    }
    rights.set_deaf(true);
    let answer = tokio::time::timeout(LOST, asked).await.ok()?.ok()?;
    rights.set_deaf(false);
    Some(answer)
}
