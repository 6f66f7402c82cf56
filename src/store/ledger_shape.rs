//! Whether the tables of the log are the ones that lokid made. A trigger, a rule or a table that was built anew can keep
//! entries out, show them twice or hide them, and leave the chain whole.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqlStr, SqliteConnection, SqlitePool};

use super::{Store, StoreError, dialect::Db, open::SQLITE};

/// On SQLite: everything that belongs to the tables of the log.
const OBJECTS: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL \
     AND (tbl_name IN ('audit', 'audit_checkpoints', 'audit_tombstones', 'audit_keys') \
     OR name IN ('audit', 'audit_checkpoints', 'audit_tombstones', 'audit_keys'))";
/// The version of the tables.
const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";
/// On PostgreSQL: what is wrong with them, in words.
const FAULTS: &str = "WITH log AS (SELECT oid, relname::text AS name, relkind, relrowsecurity, relhassubclass FROM pg_class \
     WHERE oid IN (to_regclass('audit'), to_regclass('audit_checkpoints'), to_regclass('audit_tombstones'))), \
     guard(name) AS (VALUES ('audit_is_not_edited'), ('audit_is_not_deleted')) \
     SELECT 'the trigger ' || t.tgname || ' was added to the table ' || log.name FROM log JOIN pg_trigger t ON t.tgrelid = log.oid \
         WHERE NOT t.tgisinternal AND t.tgname NOT IN (SELECT name FROM guard) \
     UNION ALL SELECT 'the trigger ' || name || ' of the table audit is missing or disabled' FROM guard \
         WHERE NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = to_regclass('audit') AND t.tgname = guard.name \
         AND t.tgenabled IN ('O', 'A')) \
     UNION ALL SELECT 'the rule ' || r.rulename || ' was added to the table ' || log.name FROM log JOIN pg_rewrite r ON r.ev_class = log.oid \
     UNION ALL SELECT 'the table ' || name || ' is not a plain table' FROM log WHERE relkind <> 'r' OR relrowsecurity OR relhassubclass \
     UNION ALL SELECT 'the table ' || name || ' has lost its primary key' FROM log \
         WHERE NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = log.oid AND i.indisprimary AND i.indisvalid) \
     UNION ALL SELECT 'the column ' || a.attname || ' of the table audit takes NULL' FROM pg_attribute a \
         WHERE a.attrelid = to_regclass('audit') AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull \
         AND a.attname NOT IN ('request_id', 'ip', 'user_agent') ORDER BY 1 LIMIT 1";

/// What belongs to a table, by kind, name and table, with its definition.
type Objects = BTreeMap<(String, String, String), String>;

impl Store {
    /// What about the tables of the log is not as lokid made it, in words.
    ///
    /// # Errors
    /// When the database cannot say.
    pub fn audit_shape(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async {
            match &self.db {
                Db::Sqlite(pool) => on_sqlite(pool).await,
                Db::Postgres(pool) => Ok(sqlx::query_scalar(FAULTS).fetch_optional(pool).await?),
            }
        })
    }
}

/// Compared with the tables of an empty database.
async fn on_sqlite(pool: &SqlitePool) -> Result<Option<String>, StoreError> {
    let mut fresh = SqliteConnection::connect("sqlite::memory:").await?;
    let mut ours = 0;
    for (version, _, sql) in SQLITE {
        sqlx::raw_sql(SqlStr::from_static(sql)).execute(&mut fresh).await?;
        ours = *version;
    }
    let theirs: i64 = sqlx::query_scalar(VERSION).fetch_one(pool).await?;
    if theirs > ours {
        // Of a newer lokid, which knows how they are to be.
        return Ok(None);
    }
    let expected = sqlx::query_as(OBJECTS).fetch_all(&mut fresh).await?;
    let found = sqlx::query_as(OBJECTS).fetch_all(pool).await?;
    Ok(difference(&objects(expected), &objects(found)))
}

fn objects(rows: Vec<(String, String, String, String)>) -> Objects {
    rows.into_iter().map(|(kind, name, table, sql)| ((kind, name, table), sql)).collect()
}

fn difference(expected: &Objects, found: &Objects) -> Option<String> {
    let gone = expected.iter().find(|(object, _)| !found.contains_key(object));
    let other = || expected.iter().find(|(object, sql)| found.get(object) != Some(sql));
    // One index more hides nothing.
    let added = || found.keys().find(|object| object.0 != "index" && !expected.contains_key(object));
    if let Some(((kind, name, table), _)) = gone {
        return Some(format!("the {kind} {name} of the table {table} is missing"));
    }
    if let Some(((kind, name, _), _)) = other() {
        return Some(format!("the {kind} {name} was made anew otherwise"));
    }
    added().map(|(kind, name, table)| format!("the {kind} {name} was added to the table {table}"))
}
