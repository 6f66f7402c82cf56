//! The list of every fixed statement, so that a test can prepare them all on both engines.

use sqlx::{Executor as _, SqlStr};

use super::{CheckFailed, Store, dialect::Db};

/// Declares statements by name and lists them.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(in crate::store) const $name: &str = $sql;)+
        /// Every statement of this file.
        pub(in crate::store) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}
pub(super) use statements;

statements! {
    /// A sign of life.
    PING = "SELECT 1";
}

/// Every fixed statement with its name.
pub fn every_statement() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rooms = [
        ALL,
        super::token_uses::ALL,
        super::tokens::ALL,
        super::people::ALL,
        super::review::ALL,
        super::sessions::ALL,
        super::ledger::ALL,
        super::ledger_times::ALL,
        super::evidence::ALL,
        super::retention::ALL,
        super::signing_keys::ALL,
        super::runs::ALL,
        super::runs::acts::ALL,
        super::runs::lines::ALL,
        super::tasks::ALL,
        super::certificates::ALL,
        super::nodes::ALL,
        super::runs::lost::ALL,
    ];
    rooms.into_iter().flatten().copied()
}

/// Prepares every statement on this store's engine.
///
/// # Errors
/// The first that the engine does not accept.
pub async fn prepare_all(store: &Store) -> Result<(), CheckFailed> {
    for (name, sql) in every_statement() {
        let text = SqlStr::from_static(sql);
        let prepared = match &store.db {
            Db::Sqlite(pool) => pool.prepare(text).await.map(drop),
            Db::Postgres(pool) => pool.prepare(text).await.map(drop),
        };
        prepared.map_err(|source| CheckFailed { name, engine: store.engine(), source })?;
    }
    Ok(())
}

/// `table.column` of every table of ours, for comparing the engines.
///
/// # Errors
/// When the engine cannot be asked.
pub async fn schema(store: &Store) -> sqlx::Result<std::collections::BTreeSet<(String, String)>> {
    const SQLITE: &str =
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'";
    const POSTGRES: &str = "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema()";
    let rows: Vec<(String, String)> = match &store.db {
        Db::Sqlite(pool) => sqlx::query_as(SQLITE).fetch_all(pool).await?,
        Db::Postgres(pool) => sqlx::query_as(POSTGRES).fetch_all(pool).await?,
    };
    Ok(rows.into_iter().filter(|(table, _)| !table.starts_with("_sqlx") && !table.starts_with("sqlite_")).collect())
}
