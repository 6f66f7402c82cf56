//! The audit log's table: appended by the writer, read in pages by `seq`.

use sqlx::AssertSqlSafe;

use super::{
    Act, Batch, Store, StoreError,
    dialect::{Conn, Texts, insert_many, past_indexes, pieces},
    ledger_filter::bind_filter,
    ledger_row::{EntryRow, Number, Said, hash_of},
    statements::statements,
};
use crate::domain::{
    event::NewEvent,
    ledger::{Entry, Head},
    time::Moment,
};

pub use super::ledger_filter::Filter;

const COLUMNS: &[&str] = &[
    "seq",
    "time",
    "event",
    "level",
    "actor_kind",
    "actor_id",
    "actor_name",
    "resource_kind",
    "resource_id",
    "outcome",
    "reason",
    "request_id",
    "ip",
    "user_agent",
    "node",
    "details",
    "prev_hash",
    "hash",
];

pub(super) const SELECT: &str = "SELECT seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, \
     outcome, reason, request_id, ip, user_agent, node, details, prev_hash, hash FROM audit";

/// On PostgreSQL: whoever appends waits for whoever appends, until the commit.
pub(super) const LOCK_CHAIN: &str = "SELECT pg_advisory_xact_lock(7815264305)";
/// On PostgreSQL: what was put off until the commit happens now.
const NOTHING_PUT_OFF: &str = "SET CONSTRAINTS ALL IMMEDIATE";
/// On PostgreSQL: tells the other processes, with the commit, that somebody lost a right.
pub(super) const TELL_OTHERS: &str =
    "SELECT pg_notify('lokid_rights', (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint::text)";
/// On PostgreSQL: its own clock, in milliseconds.
pub(super) const MOMENT: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint";
/// On PostgreSQL: the microseconds since what was told then.
pub(super) const SINCE_TOLD: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint - $1";

statements! {
    /// The end of the chain.
    HEAD = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    /// One entry.
    BY_SEQ = "SELECT seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, outcome, \
         reason, request_id, ip, user_agent, node, details, prev_hash, hash FROM audit WHERE seq = $1";
    /// How often each event and outcome came.
    SUMMARY = "SELECT event, outcome, COUNT(*) AS times, MAX(time) AS latest FROM audit \
         WHERE time >= $1 GROUP BY event, outcome ORDER BY event, outcome";
    /// How often each event came in each hour since a moment.
    BY_HOUR = "SELECT (time - $1) / 3600000 AS hour, event, COUNT(*) FROM audit WHERE time >= $1 GROUP BY 1, 2 ORDER BY 1, 2";
    /// The filter with every clause, so that each is prepared on both engines.
    FULL_FILTER = "SELECT seq FROM audit WHERE seq IN (SELECT seq FROM (SELECT seq FROM (SELECT seq FROM audit WHERE seq < $1 \
         AND seq > $2 AND event || '' = $3 AND outcome || '' = $5 AND time >= $6 AND time < $7 AND actor_id = $4 \
         ORDER BY seq DESC LIMIT $8) b0 UNION ALL SELECT seq FROM (SELECT seq FROM audit WHERE actor_name = $4 AND \
         actor_id <> $4 AND outcome <> 'success' ORDER BY seq DESC LIMIT $8) b1) chosen ORDER BY seq DESC LIMIT $8) \
         ORDER BY seq DESC LIMIT $8";
}

pub(super) async fn head(conn: &mut Conn) -> Result<Head, StoreError> {
    let row: Option<(i64, Vec<u8>)> = {
        let sql = past_indexes(conn.engine(), HEAD);
        on_conn!(conn, conn => sqlx::query_as(sql).fetch_optional(conn).await?)
    };
    Ok(row.map_or(Head::EMPTY, |(seq, hash)| Head { seq, hash: hash_of(&hash) }))
}

/// At most so many entries behind a place, as they would be if this transaction ended now.
pub(super) async fn behind(conn: &mut Conn, place: i64, most: i64) -> Result<Vec<Entry>, StoreError> {
    if let Conn::Postgres(_) = conn {
        conn.run(NOTHING_PUT_OFF).await?;
    }
    let filter = Filter { in_order: true, ..Filter::behind(Some(place)) };
    let sql = past_indexes(conn.engine(), &filter.sql(SELECT));
    let rows: Vec<EntryRow> = on_conn!(conn, conn => {
        bind_filter!(sqlx::query_as(sql), filter).bind(most).fetch_all(conn).await?
    });
    Ok(rows.into_iter().map(Entry::from).collect())
}

static INSERT: Texts = Texts::new(|rows| insert_many("audit", COLUMNS, rows));

pub(super) async fn insert(conn: &mut Conn, entries: &[Entry]) -> Result<(), StoreError> {
    for piece in pieces(entries) {
        let sql = INSERT.rows(conn.engine(), piece.len());
        on_conn!(conn, conn => {
            let mut query = sqlx::query(sql);
            for e in piece {
                query = query.bind(e.seq).bind(e.time.millis());
                for text in [&e.event, &e.level, &e.actor_kind, &e.actor_id, &e.actor_name] {
                    query = query.bind(text);
                }
                for text in [&e.resource_kind, &e.resource_id, &e.outcome, &e.reason] {
                    query = query.bind(text);
                }
                for text in [&e.request_id, &e.ip, &e.user_agent] {
                    query = query.bind(text.as_deref());
                }
                query = query.bind(&e.node).bind(&e.details).bind(&e.prev_hash[..]).bind(&e.hash[..]);
            }
            query.execute(conn).await?;
        });
    }
    Ok(())
}

/// Appends events that stand for themselves.
#[derive(Debug)]
pub struct Append {
    /// The events, oldest first.
    pub events: Vec<NewEvent>,
}

impl Act for Append {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        self.events.iter().for_each(|event| batch.record(event.clone()));
        Ok(())
    }
}

/// How many entries of one outcome lie in one bar of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The bar, from 0.
    pub bar: i64,
    /// How they went.
    pub outcome: String,
    /// How many.
    pub entries: i64,
}

/// How often an event came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The event.
    pub event: String,
    /// How it went.
    pub outcome: String,
    /// How often.
    pub times: i64,
    /// The last time.
    pub latest: Moment,
}

impl Store {
    /// A page of entries: newest first, or with `after` oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_page(&self, filter: &Filter, limit: i64) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        for filter in self.by_place(filter).await? {
            let missing = limit.saturating_sub(i64::try_from(entries.len()).unwrap_or(limit));
            if missing <= 0 {
                break;
            }
            let sql = match (filter.in_order, filter.sql(SELECT)) {
                (true, sql) => past_indexes(self.db.engine(), &sql),
                (false, sql) => AssertSqlSafe(sql),
            };
            let rows: Vec<EntryRow> = on_db!(&self.db, pool => {
                let query = sqlx::query_as(sql);
                bind_filter!(query, filter).bind(missing).fetch_all(pool).await?
            });
            entries.extend(rows.into_iter().map(Entry::from));
        }
        Ok(entries)
    }

    /// How often each event came since a moment.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_summary(&self, since: Moment) -> Result<Vec<Count>, StoreError> {
        let rows: Vec<(Said, Said, i64, Number)> =
            on_db!(&self.db, pool => sqlx::query_as(SUMMARY).bind(since.millis()).fetch_all(pool).await?);
        let count = |(Said(event), Said(outcome), times, Number(latest))| {
            let latest = Moment::from_millis(latest);
            Count { event, outcome, times, latest }
        };
        Ok(rows.into_iter().map(count).collect())
    }

    /// How often each event came in each hour since a moment: the hour from 0, the event, how often.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_by_hour(&self, since: Moment) -> Result<Vec<(i64, String, i64)>, StoreError> {
        let rows: Vec<(Number, Said, i64)> =
            on_db!(&self.db, pool => sqlx::query_as(BY_HOUR).bind(since.millis()).fetch_all(pool).await?);
        Ok(rows.into_iter().map(|(Number(hour), Said(event), times)| (hour, event, times)).collect())
    }

    /// How many entries fit in each stretch of `width` milliseconds since `from`, of the latest `most` that fit.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_timeline(
        &self,
        filter: &Filter,
        from: Moment,
        width: i64,
        most: i64,
    ) -> Result<Vec<Tally>, StoreError> {
        let mut tallies: std::collections::BTreeMap<(i64, String), i64> = std::collections::BTreeMap::new();
        for filter in self.by_place(filter).await? {
            let missing = most - tallies.values().sum::<i64>();
            if missing <= 0 {
                break;
            }
            for (bar, outcome, entries) in self.tally(&filter, (from, width), missing).await? {
                *tallies.entry((bar, outcome)).or_default() += entries;
            }
        }
        Ok(tallies.into_iter().map(|((bar, outcome), entries)| Tally { bar, outcome, entries }).collect())
    }

    async fn tally(
        &self,
        filter: &Filter,
        (from, width): (Moment, i64),
        most: i64,
    ) -> Result<Vec<(i64, String, i64)>, StoreError> {
        let chosen = filter.sql("SELECT time, outcome FROM audit");
        let bar = format!("(time - ({})) / {}", from.millis(), width.max(1));
        let sql =
            format!("SELECT {bar} AS bar, outcome, COUNT(*) AS entries FROM ({chosen}) chosen GROUP BY {bar}, outcome");
        let rows: Vec<(Number, Said, i64)> = on_db!(&self.db, pool => {
            let query = sqlx::query_as(AssertSqlSafe(sql));
            bind_filter!(query, filter).bind(most).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(|(Number(bar), Said(outcome), entries)| (bar, outcome, entries)).collect())
    }

    /// One entry.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_entry(&self, seq: i64) -> Result<Option<Entry>, StoreError> {
        let row: Option<EntryRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_SEQ).bind(seq).fetch_optional(pool).await?);
        Ok(row.map(Entry::from))
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        let sql = past_indexes(self.db.engine(), HEAD);
        let row: Option<(i64, Vec<u8>)> = on_db!(&self.db, pool => sqlx::query_as(sql).fetch_optional(pool).await?);
        Ok(row.map_or(Head::EMPTY, |(seq, hash)| Head { seq, hash: hash_of(&hash) }))
    }
}
