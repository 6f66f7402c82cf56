//! Whether the tables of the log are the ones that lokid made. A trigger, a rule or a table that was built anew can keep
//! entries out, show them twice or hide them, and leave the chain whole.

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqlStr, SqliteConnection, SqlitePool};

use super::{
    Store, StoreError,
    dialect::Db,
    open::{POSTGRES, SQLITE},
};

/// On SQLite: all that it makes tables, indexes, triggers and views of. It goes by the definition alone: the kind and the
/// table beside it may say anything. Names count in any case.
const OBJECTS: &str = "SELECT type, lower(name), lower(tbl_name), sql FROM sqlite_schema WHERE sql IS NOT NULL";
/// The tables of the log.
const LOG: [&str; 4] = ["audit", "audit_checkpoints", "audit_tombstones", "audit_keys"];
/// How SQLite begins to say what hides nothing: a table of somebody else, or one index more, for whoever reads the log as
/// evidence reads past the indexes (`dialect::past_indexes`).
const HARMLESS: [&str; 3] = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "];
/// The version of the tables.
const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";
/// On PostgreSQL: what is wrong with them, in words. `$1` and `$2` are the bodies of the two guards, `$3` the tables that
/// lokid writes to: a trigger on any of them can reach the log's, and others are not ours to judge.
const FAULTS: &str = "WITH log(name, key) AS (VALUES ('audit', 'PRIMARY KEY (seq)'), \
     ('audit_checkpoints', 'PRIMARY KEY (seq, hash)'), ('audit_tombstones', 'PRIMARY KEY (first_seq)')), \
     guard(name, type, body) AS (VALUES ('audit_is_not_edited', 50, $1), ('audit_is_not_deleted', 11, $2)), \
     trigger AS (SELECT t.oid, t.tgname::text AS name, c.relname::text AS place, EXISTS (SELECT 1 FROM guard \
         JOIN pg_proc p ON p.oid = t.tgfoid WHERE guard.name = t.tgname AND c.oid = to_regclass('audit') AND guard.type = t.tgtype \
         AND guard.body = p.prosrc AND t.tgqual IS NULL AND t.tgenabled IN ('O', 'A') AND t.tgconstraint = 0) AS ours \
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal \
         AND c.oid IN (SELECT to_regclass(ours) FROM unnest($3) ours)) \
     SELECT 'the trigger ' || name || ' of the table audit is missing, disabled or another one' FROM guard \
         WHERE NOT EXISTS (SELECT 1 FROM trigger WHERE trigger.name = guard.name AND ours) \
     UNION ALL SELECT 'the trigger ' || name || ' was added to the table ' || place FROM trigger WHERE NOT ours \
     UNION ALL SELECT 'the table ' || log.name || ' is not a plain table' FROM log LEFT JOIN pg_class c \
         ON c.oid = to_regclass(log.name) WHERE c.relkind IS DISTINCT FROM 'r' OR c.relrowsecurity OR c.relhassubclass OR c.relispartition \
     UNION ALL SELECT 'the rule ' || r.rulename || ' was added to the table ' || log.name FROM log \
         JOIN pg_rewrite r ON r.ev_class = to_regclass(log.name) \
     UNION ALL SELECT 'the table ' || log.name || ' has lost its primary key' FROM log WHERE NOT EXISTS (SELECT 1 \
         FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid WHERE k.conrelid = to_regclass(log.name) \
         AND pg_get_constraintdef(k.oid) = log.key AND i.indisvalid AND i.indisunique AND i.indpred IS NULL) \
     UNION ALL SELECT 'the column ' || a.attname || ' of the table audit takes NULL' FROM pg_attribute a \
         WHERE a.attrelid = to_regclass('audit') AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.attnotnull \
         AND a.attname NOT IN ('request_id', 'ip', 'user_agent') \
     UNION ALL SELECT 'the column ' || a.attname || ' of the table audit is of another type: ' || format_type(a.atttypid, a.atttypmod) \
         FROM pg_attribute a WHERE a.attrelid = to_regclass('audit') AND a.attnum > 0 AND NOT a.attisdropped \
         AND (a.attgenerated <> '' OR a.atttypmod <> -1 OR a.atttypid <> CASE WHEN a.attname IN ('seq', 'time') THEN 'bigint'::regtype \
         WHEN a.attname IN ('prev_hash', 'hash') THEN 'bytea'::regtype ELSE 'text'::regtype END) ORDER BY 1 LIMIT 1";

/// What SQLite is told to make: kind, name, table and definition.
type Object = (String, String, String, String);

impl Store {
    /// What about the tables of the log is not as lokid made it, in words.
    ///
    /// # Errors
    /// When the database cannot say.
    pub fn audit_shape(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async {
            match &self.db {
                Db::Sqlite(pool) => on_sqlite(pool).await,
                Db::Postgres(pool) => {
                    let [edits, deletes] = ["audit_is_append_only", "audit_entry_is_kept"].map(body_of);
                    Ok(sqlx::query_scalar(FAULTS).bind(edits).bind(deletes).bind(tables()).fetch_optional(pool).await?)
                }
            }
        })
    }
}

/// The body of a function of PostgreSQL, as the migrations have it.
fn body_of(function: &str) -> &'static str {
    let begin = format!("CREATE FUNCTION {function}()");
    let after = POSTGRES.iter().find_map(|(_, _, sql)| sql.split_once(&begin)).map_or("", |(_, after)| after);
    after.split("$$").nth(1).unwrap_or_default()
}

/// Every table of PostgreSQL that the migrations make.
fn tables() -> Vec<String> {
    let of = |sql: &'static str| sql.split("CREATE TABLE ").skip(1).filter_map(|rest| rest.split([' ', '(']).next());
    POSTGRES.iter().flat_map(|(_, _, sql)| of(sql)).map(str::to_owned).collect()
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
    let expected = sqlx::query_as(OBJECTS).fetch_all(&mut fresh).await?;
    let found: Vec<Object> = sqlx::query_as(OBJECTS).fetch_all(pool).await?;
    let newer = |what: String| format!("{what} (they are of version {theirs}; this lokid knows {ours})");
    Ok(difference(&expected, &found).map(|what| if theirs > ours { newer(what) } else { what }))
}

/// A trigger on another table can reach the log's, so every one counts, and every view.
fn difference(expected: &[Object], found: &[Object]) -> Option<String> {
    let counts = |object: &&Object| LOG.contains(&&*object.2) || ["trigger", "view"].contains(&&*object.0);
    let lost = expected.iter().filter(counts).find(|object| !found.contains(object));
    if let Some((kind, name, table, _)) = lost {
        let is_there = found.iter().any(|other| (&other.0, &other.1, &other.2) == (kind, name, table));
        return Some(if is_there {
            format!("the {kind} {name} was made anew otherwise")
        } else {
            format!("the {kind} {name} of the table {table} is missing")
        });
    }
    let is_added =
        |object: &&Object| !expected.contains(object) && !HARMLESS.iter().any(|begin| object.3.starts_with(begin));
    found
        .iter()
        .find(is_added)
        .map(|(kind, name, table, _)| format!("the {kind} {name} was added to the table {table}"))
}
