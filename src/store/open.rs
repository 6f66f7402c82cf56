//! Opening: connect, migrate, check, start the writer and whatever hears of other processes' changes.

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
    sqlite::SqlitePoolOptions,
};

use super::{
    OpenError, Rights, Store,
    dialect::{Conn, Db, Engine},
    sqlite, writer,
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
        const SQLITE: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/sqlite/", $name, ".sql")))),+];
        const POSTGRES: &[(i64, &str, &str)] =
            &[$(($version, $name, include_str!(concat!("../../migrations/postgres/", $name, ".sql")))),+];
    };
}

migrations! { 1 "0001_the_door" }

fn migrator(engine: Engine) -> Migrator {
    let list = if engine == Engine::Sqlite { SQLITE } else { POSTGRES };
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        let text = SqlStr::from_static(sql);
        Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(list.iter().map(migration).collect())
}

/// How the writer gets a new connection after it lost the old one.
pub(super) enum Reopen {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl Reopen {
    pub(super) async fn connect(&self) -> sqlx::Result<Conn> {
        let connecting = async {
            Ok(match self {
                Self::Sqlite(path) => Conn::Sqlite(sqlite::options(path).connect().await?),
                Self::Postgres(options) => Conn::Postgres(PgConnection::connect_with(options).await?),
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
            Database::Postgres(url) => Self::open_postgres(&url, place.node).await,
        }
    }

    async fn open_sqlite(path: PathBuf, node: String, is_server: bool) -> Result<Self, OpenError> {
        let lock = is_server.then(|| sqlite::Lock::take(&path)).transpose()?;
        let mut conn = sqlite::prepare(&path, lock.as_ref()).await?;
        migrator(Engine::Sqlite).run(&mut conn).await?;
        let lock = lock.map(sqlite::Lock::remember);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .min_connections(0)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(sqlite::options(&path));
        let rights = Arc::new(Rights::default());
        let writer = writer::spawn(Conn::Sqlite(conn), Reopen::Sqlite(path), Arc::clone(&rights), node);
        Ok(Self { db: Db::Sqlite(pool), writer, rights, _lock: lock })
    }

    async fn open_postgres(url: &str, node: String) -> Result<Self, OpenError> {
        let connect_error = |name: &str| {
            let name = name.to_owned();
            move |source| OpenError::Connect { name, source }
        };
        let options: PgConnectOptions = url.parse().map_err(connect_error("(database.url)"))?;
        let options = options.disable_statement_logging().options([("statement_timeout", "30s")]);
        let name = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or(""));
        let mut conn = PgConnection::connect_with(&options).await.map_err(connect_error(&name))?;
        migrator(Engine::Postgres).run(&mut conn).await?;
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options.clone());
        let rights = Arc::new(Rights::default());
        tokio::spawn(listen(pool.clone(), Arc::clone(&rights)));
        let reopen = Reopen::Postgres(Box::new(options));
        let writer = writer::spawn(Conn::Postgres(conn), reopen, Arc::clone(&rights), node);
        Ok(Self { db: Db::Postgres(pool), writer, rights, _lock: None })
    }
}

/// Hears of rights that were lost through other nodes. While it does not, nothing may be cached.
async fn listen(pool: sqlx::PgPool, rights: Arc<Rights>) {
    while !pool.is_closed() {
        rights.set_deaf(true);
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen("lokid_rights").await.is_ok()
        {
            listener.ignore_pool_close_event(false);
            rights.set_deaf(false);
            // `try_recv` answers `None` when the connection was lost: what was said meanwhile is unknown.
            while let Ok(Some(_)) = listener.try_recv().await {
                rights.advance();
            }
        }
        rights.set_deaf(true);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
