//! The audit log's table: appended by the writer, read in pages by `seq`, walked for verification.

use sqlx::AssertSqlSafe;

use super::{
    Act, Batch, Store, StoreError,
    dialect::{Conn, Texts, insert_many, pieces},
    statements::statements,
};
use crate::domain::{
    event::NewEvent,
    ledger::{Entry, Fault, Hash, Head, Walk},
    time::Moment,
};

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

/// Entries of one stretch of a walk.
const AT_ONCE: i64 = 512;

const SELECT: &str = "SELECT seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, \
     outcome, reason, request_id, ip, user_agent, node, details, prev_hash, hash FROM audit";

/// On PostgreSQL: whoever appends waits for whoever appends, until the commit.
pub(super) const LOCK_CHAIN: &str = "SELECT pg_advisory_xact_lock(7815264305)";
/// On PostgreSQL: tells the other processes, with the commit, that somebody lost a right.
pub(super) const TELL_OTHERS: &str = "SELECT pg_notify('lokid_rights', '')";

statements! {
    /// The end of the chain.
    HEAD = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1";
    /// One stretch of the chain.
    STRETCH = "SELECT seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, outcome, \
         reason, request_id, ip, user_agent, node, details, prev_hash, hash FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2";
    /// How often each event and outcome came.
    SUMMARY = "SELECT event, outcome, COUNT(*) AS times, MAX(time) AS latest FROM audit \
         WHERE time >= $1 GROUP BY event, outcome ORDER BY event, outcome";
    /// How often each event came in each hour since a moment.
    BY_HOUR = "SELECT (time - $1) / 3600000 AS hour, event, COUNT(*) FROM audit WHERE time >= $1 GROUP BY 1, 2 ORDER BY 1, 2";
    /// The filter with every clause, so that each is prepared on both engines.
    FULL_FILTER = "SELECT seq FROM audit WHERE seq < $1 AND seq > $2 AND event = $3 AND substr(event, 1, length($4)) = $4 \
         AND (actor_id = $5 OR actor_name = $5) AND outcome = $6 AND time >= $7 AND time < $8 ORDER BY seq DESC LIMIT $9";
}

row! {
    EntryRow {
        seq: i64, time: i64, event: String, level: String, actor_kind: String, actor_id: String, actor_name: String,
        resource_kind: String, resource_id: String, outcome: String, reason: String, request_id: Option<String>,
        ip: Option<String>, user_agent: Option<String>, node: String, details: String, prev_hash: Vec<u8>, hash: Vec<u8>,
    }
}

/// A hash of the wrong length cannot be right; this one never verifies. (Zeros would: as the first entry's predecessor.)
fn hash_of(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or([0xFF; 32])
}

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        Self {
            seq: row.seq,
            time: Moment::from_millis(row.time),
            event: row.event,
            level: row.level,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_name: row.actor_name,
            resource_kind: row.resource_kind,
            resource_id: row.resource_id,
            outcome: row.outcome,
            reason: row.reason,
            request_id: row.request_id,
            ip: row.ip,
            user_agent: row.user_agent,
            node: row.node,
            details: row.details,
            prev_hash: hash_of(&row.prev_hash),
            hash: hash_of(&row.hash),
        }
    }
}

pub(super) async fn head(conn: &mut Conn) -> Result<Head, StoreError> {
    let row: Option<(i64, Vec<u8>)> = on_conn!(conn, conn => sqlx::query_as(HEAD).fetch_optional(conn).await?);
    Ok(row.map_or(Head::EMPTY, |(seq, hash)| Head { seq, hash: hash_of(&hash) }))
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

/// Which entries to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// This event, or with a trailing `*` all that begin so.
    pub event: Option<String>,
    /// The actor's id or name.
    pub actor: Option<String>,
    /// How it went.
    pub outcome: Option<String>,
    /// Not earlier than this.
    pub start: Option<Moment>,
    /// Earlier than this.
    pub end: Option<Moment>,
    /// Only places below this one.
    pub before: Option<i64>,
    /// Only places above this one; then the oldest come first.
    pub after: Option<i64>,
}

impl Filter {
    /// The statement for the parts that are set; placeholders count in the order of [`Self::FULL`].
    fn sql(&self) -> String {
        let mut clauses = Vec::new();
        let mut place = 0;
        let mut add = |set: bool, clause: &str| {
            if set {
                place += 1;
                clauses.push(clause.replace('?', &format!("${place}")));
            }
        };
        add(self.before.is_some(), "seq < ?");
        add(self.after.is_some(), "seq > ?");
        let is_prefix = self.event.as_ref().is_some_and(|e| e.ends_with('*'));
        // `LIKE` ignores case on SQLite and not on PostgreSQL, and has characters with a meaning.
        add(self.event.is_some(), if is_prefix { "substr(event, 1, length(?)) = ?" } else { "event = ?" });
        add(self.actor.is_some(), "(actor_id = ? OR actor_name = ?)");
        add(self.outcome.is_some(), "outcome = ?");
        add(self.start.is_some(), "time >= ?");
        add(self.end.is_some(), "time < ?");
        let filter = if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) };
        let order = if self.after.is_some() { "ASC" } else { "DESC" };
        format!("{SELECT}{filter} ORDER BY seq {order} LIMIT ${}", place + 1)
    }

    /// The event's name, or how it begins.
    fn event_text(&self) -> Option<String> {
        self.event.as_ref().map(|event| event.strip_suffix('*').unwrap_or(event).to_owned())
    }
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
        let rows: Vec<EntryRow> = on_db!(&self.db, pool => {
            let mut query = sqlx::query_as(AssertSqlSafe(filter.sql()));
            for number in [filter.before, filter.after].into_iter().flatten() {
                query = query.bind(number);
            }
            for text in [filter.event_text(), filter.actor.clone(), filter.outcome.clone()].into_iter().flatten() {
                query = query.bind(text);
            }
            for moment in [filter.start, filter.end].into_iter().flatten() {
                query = query.bind(moment.millis());
            }
            query.bind(limit).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    /// How often each event came since a moment.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_summary(&self, since: Moment) -> Result<Vec<Count>, StoreError> {
        let rows: Vec<(String, String, i64, i64)> =
            on_db!(&self.db, pool => sqlx::query_as(SUMMARY).bind(since.millis()).fetch_all(pool).await?);
        let count =
            |(event, outcome, times, latest)| Count { event, outcome, times, latest: Moment::from_millis(latest) };
        Ok(rows.into_iter().map(count).collect())
    }

    /// How often each event came in each hour since a moment: the hour from 0, the event, how often.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_by_hour(&self, since: Moment) -> Result<Vec<(i64, String, i64)>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_as(BY_HOUR).bind(since.millis()).fetch_all(pool).await?))
    }

    /// Walks the whole chain in stretches, so that no statement takes long however long the chain is.
    /// The inner result is what the walk found.
    ///
    /// # Errors
    /// When the database cannot be read to the end.
    pub async fn walk_audit(&self) -> Result<Result<Head, (Head, Fault)>, StoreError> {
        let mut walk = Walk::from_the_start();
        let mut from = i64::MIN;
        loop {
            let rows: Vec<EntryRow> =
                on_db!(&self.db, pool => sqlx::query_as(STRETCH).bind(from).bind(AT_ONCE).fetch_all(pool).await?);
            let Some(last) = rows.last() else { return Ok(Ok(walk.head())) };
            from = last.seq.saturating_add(1);
            for row in rows {
                if let Err(fault) = walk.step(&row.into()) {
                    return Ok(Err((walk.head(), fault)));
                }
            }
        }
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        let row: Option<(i64, Vec<u8>)> = on_db!(&self.db, pool => sqlx::query_as(HEAD).fetch_optional(pool).await?);
        Ok(row.map_or(Head::EMPTY, |(seq, hash)| Head { seq, hash: hash_of(&hash) }))
    }
}
