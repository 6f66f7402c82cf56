//! What is signed about the audit log: checkpoints, tombstones of stretches that retention took out, the public
//! keys that signed them; and how far the sinks have been told.
//!
//! Signing happens inside the transaction, because only there is the head known that the statement is about. The
//! store cannot sign: whoever acts hands in how ([`Signer`]).

use std::{fmt, sync::Arc};

use super::{
    Act, Batch, Store, StoreError,
    dialect::{Conn, past_indexes},
    ledger_row::{Number, Said, hash_of},
    statements::statements,
};
use crate::domain::{
    chain::Hole,
    checkpoint::{Cadence, Checkpoint, Latest, Statement, Vouching},
    event::{Actor, EventName, NewEvent},
    ledger::{GENESIS, Hash},
    time::Moment,
};

statements! {
    /// The last checkpoint.
    LATEST = "SELECT seq, time, kid FROM audit_checkpoints ORDER BY seq DESC, time DESC LIMIT 1";
    /// A stretch of checkpoints.
    CHECKPOINTS = "SELECT seq, hash, time, kid, jws FROM audit_checkpoints WHERE seq > $1 AND seq <= $2 ORDER BY seq, hash";
    /// The one that covers a place first.
    COVERING = "SELECT seq, hash, time, kid, jws FROM audit_checkpoints WHERE seq >= $1 ORDER BY seq, hash LIMIT 1";
    /// One more.
    ADD_CHECKPOINT = "INSERT INTO audit_checkpoints (seq, hash, time, kid, jws) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (seq, hash) DO NOTHING";
    /// Keys that signed.
    SIGNERS = "SELECT jwk FROM audit_keys ORDER BY first_used_at, kid";
    /// One more.
    ADD_SIGNER = "INSERT INTO audit_keys (kid, jwk, first_used_at) VALUES ($1, $2, $3) ON CONFLICT (kid) DO NOTHING";
    /// Tombstones that reach behind one place and begin before or at another.
    TOMBSTONES = "SELECT first_seq, last_seq, prev_hash, first_hash, last_hash, jws FROM audit_tombstones \
         WHERE first_seq >= COALESCE((SELECT MAX(first_seq) FROM audit_tombstones WHERE first_seq <= $1), $1) \
         AND last_seq > $1 AND first_seq <= $2 ORDER BY first_seq";
    /// Tombstones behind a place.
    NEXT_TOMBSTONES = "SELECT first_seq, last_seq, prev_hash, first_hash, last_hash, jws FROM audit_tombstones \
         WHERE first_seq > $1 ORDER BY first_seq LIMIT $2";
    /// The same stretch, signed by another key.
    RESTATE = "UPDATE audit_tombstones SET jws = $1 WHERE first_seq = $2 AND jws = $3";
    /// The first entry of a stretch for which a tombstone stands all the same.
    UNDEAD = "SELECT seq FROM audit WHERE seq >= $1 AND seq <= $2 AND COALESCE((SELECT last_seq FROM audit_tombstones \
         WHERE first_seq <= audit.seq ORDER BY first_seq DESC LIMIT 1) >= audit.seq, false) ORDER BY seq LIMIT 1";
    /// A tombstone that begins within another one, or is none.
    NESTED = "SELECT first_seq FROM (SELECT first_seq, MAX(last_seq) OVER (ORDER BY first_seq ROWS BETWEEN UNBOUNDED \
         PRECEDING AND 1 PRECEDING) AS reached, last_seq FROM audit_tombstones) stones \
         WHERE first_seq <= reached OR last_seq < first_seq OR first_seq < 1 ORDER BY first_seq LIMIT 1";
    /// Tombstones that reach into a stretch or touch it.
    TOUCHING = "SELECT first_seq, last_seq, prev_hash, first_hash, last_hash, jws FROM audit_tombstones \
         WHERE last_seq >= $1 AND first_seq <= $2 ORDER BY first_seq";
    /// The hash of the first entry.
    FIRST = "SELECT hash FROM audit WHERE seq = 1";
    /// The same, once the entry is gone.
    FIRST_GONE = "SELECT first_hash FROM audit_tombstones WHERE first_seq = 1";
    /// How far a sink has been told.
    TOLD = "SELECT seq FROM audit_sinks WHERE name = $1";
    /// It has been told more.
    TELL = "INSERT INTO audit_sinks (name, seq) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq";
}

/// Tombstones that are read at once.
const AT_ONCE: i64 = 512;

/// Makes a compact JWS with this `typ` over this JSON.
pub type SignJws = dyn Fn(&str, &serde_json::Value) -> String + Send + Sync;

/// How a statement is signed.
#[derive(Clone)]
pub struct Signer {
    /// The key's name.
    pub kid: String,
    /// Its public half.
    pub jwk: String,
    /// What its private half does.
    pub sign: Arc<SignJws>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

impl Signer {
    /// A signed statement.
    pub fn state<S: Statement>(&self, statement: &S) -> String {
        (self.sign)(S::TYP, &serde_json::to_value(statement).unwrap_or_default())
    }

    /// Keeps the public half, so that what was signed can be verified when the key is gone.
    pub(super) async fn remember(&self, conn: &mut Conn, now: Moment) -> Result<(), StoreError> {
        on_conn!(conn, conn => {
            sqlx::query(ADD_SIGNER).bind(&self.kid).bind(&self.jwk).bind(now.millis()).execute(conn).await?;
        });
        Ok(())
    }
}

row! { LatestRow { seq: i64, time: Number, kid: Said } }
row! { CheckpointRow { seq: i64, hash: Vec<u8>, time: Number, kid: Said, jws: Said } }
row! {
    TombstoneRow { first_seq: i64, last_seq: Number, prev_hash: Vec<u8>, first_hash: Vec<u8>, last_hash: Vec<u8>, jws: Said }
}

/// A checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// The last entry's place.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
    /// When it was signed.
    pub time: Moment,
    /// By which key.
    pub kid: String,
    /// The statement.
    pub jws: String,
}

impl From<LatestRow> for Latest {
    fn from(LatestRow { seq, time, kid }: LatestRow) -> Self {
        Self { seq, time: Moment::from_millis(time.0), kid: kid.0 }
    }
}

impl From<CheckpointRow> for StoredCheckpoint {
    fn from(row: CheckpointRow) -> Self {
        let (hash, time) = (hash_of(&row.hash), Moment::from_millis(row.time.0));
        Self { seq: row.seq, hash, time, kid: row.kid.0, jws: row.jws.0 }
    }
}

impl StoredCheckpoint {
    /// Whether the columns beside the statement say what it says.
    pub fn says(&self, kid: &str, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { seq, hash, time, .. } = checkpoint;
        (self.seq, &self.hash, self.time, self.kid.as_str()) == (*seq, hash, *time, kid)
    }
}

/// A tombstone as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTombstone {
    /// The stretch.
    pub hole: Hole,
    /// The statement.
    pub jws: String,
}

impl From<TombstoneRow> for StoredTombstone {
    fn from(row: TombstoneRow) -> Self {
        let hole = Hole {
            first_seq: row.first_seq,
            last_seq: row.last_seq.0,
            prev_hash: hash_of(&row.prev_hash),
            first_hash: hash_of(&row.first_hash),
            last_hash: hash_of(&row.last_hash),
        };
        Self { hole, jws: row.jws.0 }
    }
}

impl Store {
    /// The last checkpoint.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn latest_checkpoint(&self) -> Result<Option<Latest>, StoreError> {
        let row: Option<LatestRow> = on_db!(&self.db, pool => sqlx::query_as(LATEST).fetch_optional(pool).await?);
        Ok(row.map(Latest::from))
    }

    /// Checkpoints of places behind `after` and not behind `until`, in order.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn checkpoints(&self, after: i64, until: i64) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let rows: Vec<CheckpointRow> =
            on_db!(&self.db, pool => sqlx::query_as(CHECKPOINTS).bind(after).bind(until).fetch_all(pool).await?);
        Ok(rows.into_iter().map(StoredCheckpoint::from).collect())
    }

    /// The first checkpoint that covers a place.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn checkpoint_of(&self, seq: i64) -> Result<Option<StoredCheckpoint>, StoreError> {
        let row: Option<CheckpointRow> =
            on_db!(&self.db, pool => sqlx::query_as(COVERING).bind(seq).fetch_optional(pool).await?);
        Ok(row.map(StoredCheckpoint::from))
    }

    /// Tombstones that reach behind `after` and do not begin behind `until`, in order.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn tombstones(&self, after: i64, until: i64) -> Result<Vec<StoredTombstone>, StoreError> {
        let rows: Vec<TombstoneRow> =
            on_db!(&self.db, pool => sqlx::query_as(TOMBSTONES).bind(after).bind(until).fetch_all(pool).await?);
        Ok(rows.into_iter().map(StoredTombstone::from).collect())
    }

    /// Some tombstones of stretches that begin behind `after`, in order.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn next_tombstones(&self, after: i64) -> Result<Vec<StoredTombstone>, StoreError> {
        let rows: Vec<TombstoneRow> =
            on_db!(&self.db, pool => sqlx::query_as(NEXT_TOMBSTONES).bind(after).bind(AT_ONCE).fetch_all(pool).await?);
        Ok(rows.into_iter().map(StoredTombstone::from).collect())
    }

    /// The first entry between these two that stands there although a tombstone says that it was taken out.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn undead_entry(&self, first: i64, last: i64) -> Result<Option<i64>, StoreError> {
        let sql = past_indexes(self.db.engine(), UNDEAD);
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(sql).bind(first).bind(last).fetch_optional(pool).await?))
    }

    /// Where a tombstone begins within another one: lokid joins those that touch, so somebody put it there.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn nested_tombstone(&self) -> Result<Option<i64>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(NESTED).fetch_optional(pool).await?))
    }

    /// The public keys that signed checkpoints and tombstones, as JWKs. Their names are their thumbprints; nothing
    /// here says that they are ours.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn evidence_keys(&self) -> Result<Vec<serde_json::Value>, StoreError> {
        let rows: Vec<(Said,)> = on_db!(&self.db, pool => sqlx::query_as(SIGNERS).fetch_all(pool).await?);
        Ok(rows.into_iter().filter_map(|(Said(jwk),)| serde_json::from_str(&jwk).ok()).collect())
    }

    /// The log's name: the hash of its first entry. Zeros while it is empty.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_log_id(&self) -> Result<Hash, StoreError> {
        for sql in [FIRST, FIRST_GONE] {
            let row: Option<(Vec<u8>,)> = on_db!(&self.db, pool => sqlx::query_as(sql).fetch_optional(pool).await?);
            if let Some((hash,)) = row {
                return Ok(hash_of(&hash));
            }
        }
        Ok(GENESIS)
    }

    /// How far a sink has been told; `None` for a new one.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn told(&self, sink: &str) -> Result<Option<i64>, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(TOLD).bind(sink).fetch_optional(pool).await?))
    }
}

/// The stretches that are gone and reach into one or touch it.
pub(super) async fn touching(conn: &mut Conn, first: i64, last: i64) -> Result<Vec<Hole>, StoreError> {
    let rows: Vec<TombstoneRow> = on_conn!(conn, conn => sqlx::query_as(TOUCHING).bind(first.saturating_sub(1)).bind(last.saturating_add(1)).fetch_all(conn).await?);
    Ok(rows.into_iter().map(|row| StoredTombstone::from(row).hole).collect())
}

/// The log's name, also when its first entry is in this very batch.
pub(super) async fn log_of(batch: &mut Batch<'_>) -> Result<Hash, StoreError> {
    if let Some(hash) = batch.new_log() {
        return Ok(hash);
    }
    for sql in [FIRST, FIRST_GONE] {
        let conn = batch.conn().await?;
        let row: Option<(Vec<u8>,)> = on_conn!(conn, conn => sqlx::query_as(sql).fetch_optional(conn).await?);
        if let Some((hash,)) = row {
            return Ok(hash_of(&hash));
        }
    }
    Ok(GENESIS)
}

/// Signs the head, if it is due, and records that. Answers the statement, for anchors.
#[derive(Debug)]
pub struct Sign {
    /// With which key.
    pub signer: Signer,
    /// When it is due; `None`: now, if there is anything new.
    pub cadence: Option<Cadence>,
    /// The present moment.
    pub now: Moment,
    /// Which other keys are believed.
    pub vouching: Vouching,
}

impl Act for Sign {
    type Output = Option<(Checkpoint, String)>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let head = batch.head();
        let conn = batch.conn().await?;
        let latest: Option<LatestRow> = on_conn!(conn, conn => sqlx::query_as(LATEST).fetch_optional(conn).await?);
        let latest = latest.map(Latest::from);
        let cadence = self.cadence.unwrap_or(Cadence { every: std::time::Duration::ZERO, entries: 1 });
        if !cadence.is_due(latest.as_ref(), head.seq, &self.signer.kid, self.now) {
            return Ok(None);
        }
        self.signer.remember(conn, self.now).await?;
        let log = log_of(batch).await?;
        let (seq, hash, time) = (head.seq, head.hash, self.now);
        let (node, Vouching { keys, endorsement }) = (batch.node().to_owned(), self.vouching.clone());
        let checkpoint = Checkpoint { log, seq, hash, time, node, keys, endorsement };
        let (kid, jws) = (&self.signer.kid, self.signer.state(&checkpoint));
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(ADD_CHECKPOINT).bind(seq).bind(&hash[..]).bind(time.millis()).bind(kid).bind(&jws).execute(conn).await?;
        });
        let event = NewEvent::new(time, EventName::AuditCheckpointed, Actor::system()).on("key", kid);
        batch.record(event.with("seq", seq).with("jws", jws.as_str()));
        Ok(Some((checkpoint, jws)))
    }
}

/// Signs tombstones with another key. What was changed meanwhile stays as it is.
#[derive(Debug)]
pub struct Restate {
    /// As they are stored, and what the other key says of each.
    pub stones: Vec<(StoredTombstone, String)>,
    /// The other key.
    pub signer: Signer,
    /// The present moment.
    pub now: Moment,
}

impl Act for Restate {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        self.signer.remember(batch.conn().await?, self.now).await?;
        for (stone, jws) in &self.stones {
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(RESTATE).bind(jws).bind(stone.hole.first_seq).bind(&stone.jws).execute(conn).await?;
            });
        }
        Ok(())
    }
}

/// A sink has been told everything up to a place.
#[derive(Debug)]
pub struct Told {
    /// Which.
    pub sink: String,
    /// The place.
    pub seq: i64,
}

impl Act for Told {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(TELL).bind(&self.sink).bind(self.seq).execute(conn).await?;
        });
        Ok(())
    }
}
