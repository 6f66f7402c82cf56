//! Taking entries out that have grown too old, a step at a time, each stretch with a signed tombstone in its place.
//!
//! Some thousand entries are looked at in a step, so nobody waits for it for long. Refusals and acts grow old at different
//! ages and lie between each other, so no stretch of the table goes as a whole: partitions would have nothing to drop until
//! the last act of one is old, and the steps are needed anyway.

use super::{
    Act, Batch, Store, StoreError,
    dialect::past_indexes,
    evidence::{Signer, log_of, touching},
    ledger_row::EntryRow,
    statements::statements,
};
use crate::domain::{
    chain::Hole,
    checkpoint::Tombstone,
    event::{Actor, EventName, NewEvent, Origin},
    ledger::Entry,
    retention::{Ages, hole_of, is_noise, joined},
    time::Moment,
};

statements! {
    /// Those of a stretch that is gone.
    FORGET_CHECKPOINTS = "DELETE FROM audit_checkpoints WHERE seq < $1";
    /// One more.
    ADD_TOMBSTONE = "INSERT INTO audit_tombstones (first_seq, last_seq, prev_hash, first_hash, last_hash, jws) \
         VALUES ($1, $2, $3, $4, $5, $6)";
    /// One that became part of a larger one.
    DROP_TOMBSTONE = "DELETE FROM audit_tombstones WHERE first_seq = $1";
    /// Entries behind a place and before another, whole.
    BETWEEN = "SELECT seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, outcome, reason, \
         request_id, ip, user_agent, node, details, prev_hash, hash FROM audit WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT $3";
    /// What an index says of entries behind a place.
    GLANCE = "SELECT seq, time, event FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
    /// Entries for which a tombstone stands.
    BURY = "DELETE FROM audit WHERE seq >= $1 AND seq <= $2 AND COALESCE((SELECT last_seq FROM audit_tombstones \
         WHERE first_seq <= audit.seq ORDER BY first_seq DESC LIMIT 1) >= audit.seq, false)";
    /// How much of each event is older than two moments.
    OUTLOOK = "SELECT event, COUNT(*) AS entries, MIN(seq) AS first_seq, MAX(seq) AS last_seq FROM audit \
         WHERE time < $1 GROUP BY event ORDER BY event";
}

/// Entries that one step of retention looks at.
const STEP: i64 = 2_000;

impl Store {
    /// The place before the first entry behind `after` that is too old, and whether there is one.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn first_over(&self, after: i64, ages: &Ages, now: Moment) -> Result<Option<i64>, StoreError> {
        let mut from = after;
        loop {
            let rows: Vec<(i64, i64, String)> =
                on_db!(&self.db, pool => sqlx::query_as(GLANCE).bind(from).bind(STEP).fetch_all(pool).await?);
            let over = |(_, time, event): &&(i64, i64, String)| ages.is_over(event, Moment::from_millis(*time), now);
            if let Some((seq, ..)) = rows.iter().find(over) {
                return Ok(Some(seq.saturating_sub(1)));
            }
            let Some((last, time, _)) = rows.last() else { return Ok(None) };
            // Behind an entry that is younger than every age nothing older is to be expected.
            if ages.before(now).is_none_or(|before| Moment::from_millis(*time) >= before) {
                return Ok(None);
            }
            from = *last;
        }
    }

    /// What retention would take out: for each event how many entries, and the first and last place.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn retention_outlook(&self, ages: &Ages, now: Moment) -> Result<Vec<Outlook>, StoreError> {
        let mut all = Vec::new();
        for (noise, age) in [(false, ages.acts), (true, ages.noise)] {
            let Some(age) = age else { continue };
            let before = now.minus(age).millis();
            let rows: Vec<(String, i64, i64, i64)> =
                on_db!(&self.db, pool => sqlx::query_as(OUTLOOK).bind(before).fetch_all(pool).await?);
            let of_class = rows.into_iter().filter(|(event, ..)| is_noise(event) == noise);
            all.extend(of_class.map(|(event, entries, first_seq, last_seq)| Outlook {
                event,
                entries,
                first_seq,
                last_seq,
            }));
        }
        Ok(all)
    }
}

/// What retention would take out of one event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Outlook {
    /// The event.
    pub event: String,
    /// How many entries.
    pub entries: i64,
    /// The first place.
    pub first_seq: i64,
    /// The last.
    pub last_seq: i64,
}

/// One step of retention.
#[derive(Debug)]
pub struct Retain {
    /// Places up to this one were looked at before.
    pub after: i64,
    /// How old entries become.
    pub ages: Ages,
    /// The present moment.
    pub now: Moment,
    /// Who signs the tombstones.
    pub signer: Signer,
    /// Who asked for it.
    pub by: (Actor, Origin),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Entries that it took out.
    pub taken: i64,
    /// Places up to this one were looked at.
    pub looked_to: i64,
}

/// A step was refused, and took nothing out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetainRefused {
    /// Taking out what was tampered with would hide that it was.
    #[error("entry {0} is not the one that was written; nothing is taken out before audit verify was looked at")]
    Tampered(i64),
}

impl Act for Retain {
    type Output = Result<Retained, RetainRefused>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        // Never the last entry: the next one builds on it.
        let end = batch.head().seq;
        let conn = batch.conn().await?;
        let sql = past_indexes(conn.engine(), BETWEEN);
        let rows: Vec<EntryRow> = on_conn!(conn, conn =>
            sqlx::query_as(sql).bind(self.after).bind(end).bind(STEP).fetch_all(conn).await?);
        let entries: Vec<Entry> = rows.into_iter().map(Entry::from).collect();
        let looked_to = entries.last().map_or(end, |last| last.seq);
        let over = |e: &&Entry| self.ages.is_over(&e.event, e.time, self.now);
        let gone: Vec<&Entry> = entries.iter().filter(over).collect();
        let (Some(first), Some(last)) = (gone.first(), gone.last()) else {
            return Ok(Ok(Retained { taken: 0, looked_to }));
        };
        if let Some(bad) = gone.iter().find(|e| e.computed_hash() != e.hash) {
            return Ok(Err(RetainRefused::Tampered(bad.seq)));
        }
        let (first, last) = (first.seq, last.seq);
        // What a tombstone stands for is gone already: somebody put these in.
        let holes = touching(batch.conn().await?, first, last).await?;
        let stands_in = |seq: i64| holes.iter().any(|hole| (hole.first_seq..=hole.last_seq).contains(&seq));
        if let Some(bad) = gone.iter().find(|e| stands_in(e.seq)) {
            return Ok(Err(RetainRefused::Tampered(bad.seq)));
        }
        self.signer.remember(batch.conn().await?, self.now).await?;
        self.set_tombstones(batch, &gone, (first, last)).await?;
        let conn = batch.conn().await?;
        let sql = past_indexes(conn.engine(), BURY);
        let buried =
            on_conn!(conn, conn => sqlx::query(sql).bind(first).bind(last).execute(conn).await?.rows_affected());
        if buried != gone.len() as u64 {
            return Err(StoreError::Damaged("the entries that a tombstone stands for"));
        }
        let taken = i64::try_from(buried).unwrap_or(i64::MAX);
        let event = NewEvent::new(self.now, EventName::AuditRetained, self.by.0.clone()).from(&self.by.1);
        let event = event.on("key", &self.signer.kid).with("taken", taken);
        batch.record(event.with("first_seq", first).with("last_seq", last));
        Ok(Ok(Retained { taken, looked_to }))
    }
}

impl Retain {
    /// A tombstone for each stretch without entries, new ones joined with those that they touch.
    async fn set_tombstones(
        &self,
        batch: &mut Batch<'_>,
        gone: &[&Entry],
        (first, last): (i64, i64),
    ) -> Result<(), StoreError> {
        let log = log_of(batch).await?;
        let before = touching(batch.conn().await?, first, last).await?;
        let mut holes: Vec<Hole> = before.iter().copied().chain(gone.iter().map(|e| hole_of(e))).collect();
        holes.sort_by_key(|hole| hole.first_seq);
        let after = joined(holes);
        for old in before.iter().filter(|hole| !after.contains(hole)) {
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(DROP_TOMBSTONE).bind(old.first_seq).execute(conn).await?;
            });
        }
        for hole in after.iter().filter(|hole| !before.contains(hole)) {
            let jws = self.signer.state(&Tombstone::of(log, hole, self.now));
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(ADD_TOMBSTONE).bind(hole.first_seq).bind(hole.last_seq).bind(&hole.prev_hash[..])
                    .bind(&hole.first_hash[..]).bind(&hole.last_hash[..]).bind(jws).execute(conn).await?;
            });
        }
        if let Some(begin) = after.first().filter(|hole| hole.first_seq == 1) {
            // What they vouch for is gone; the tombstone tells its hash.
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(FORGET_CHECKPOINTS).bind(begin.last_seq).execute(conn).await?;
            });
        }
        Ok(())
    }
}
