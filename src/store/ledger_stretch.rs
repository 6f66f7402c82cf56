//! Reading the log from its beginning on, a stretch at a time: memory stays flat and no statement takes long,
//! however long the log is.
//!
//! sqlx copies each column of each row of SQLite from thread to thread, which for eighteen columns takes longer
//! than everything that is done with them. So there a stretch comes as one value: the fields of all its entries,
//! with U+0000 between them. No text that lokid stores holds that character (`domain::ledger::storable`); where a
//! count of the fields says that one does, somebody put it there, and the stretch is read column by column.

use std::{future::poll_fn, pin::Pin, task::Poll};

use data_encoding::HEXUPPER;
use futures_util::future::{MaybeDone, maybe_done};
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

use super::{
    Store, StoreError,
    dialect::Db,
    ledger::{EntryRow, Filter, SELECT, hash_of},
    ledger_filter::bind_filter,
};
use crate::domain::{
    chain::{Fault, Walk},
    ledger::{Entry, Head, View},
    time::Moment,
};

/// Entries of one stretch.
const AT_ONCE: i64 = 512;

/// Fields of an entry.
const FIELDS: usize = 18;

/// All of an entry as one text. A missing text is empty, one that is there begins with a `+`.
const LINE: &str = "SELECT concat_ws(char(0), seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, \
     resource_id, outcome, reason, CASE WHEN request_id IS NULL THEN '' ELSE '+' || request_id END, \
     CASE WHEN ip IS NULL THEN '' ELSE '+' || ip END, CASE WHEN user_agent IS NULL THEN '' ELSE '+' || user_agent END, \
     node, details, hex(prev_hash), hex(hash)) AS line FROM audit";

impl Store {
    /// A stretch of the entries that fit, oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_stretch(&self, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        Ok(self.packed_stretch(filter).await?.into_entries())
    }

    /// As [`Self::audit_stretch`], for whoever needs the entries only in passing.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn packed_stretch(&self, filter: &Filter) -> Result<Stretch, StoreError> {
        let filters = self.by_place(&Filter { oldest_first: true, ..filter.clone() }).await?;
        if let [only] = &filters[..] {
            return self.stretch(only, AT_ONCE).await;
        }
        let mut entries = Vec::new();
        for filter in &filters {
            let missing = AT_ONCE - i64::try_from(entries.len()).unwrap_or(AT_ONCE);
            if missing <= 0 {
                break;
            }
            entries.extend(self.stretch(filter, missing).await?.into_entries());
        }
        Ok(Stretch::Rows(entries))
    }

    /// Lets the database begin to read a stretch, and does not wait for it.
    pub async fn read_ahead(&self, filter: Filter) -> Ahead {
        let store = self.clone();
        let read: Reading = Box::pin(async move { store.packed_stretch(&filter).await });
        let mut ahead = Ahead(Box::pin(maybe_done(read)));
        ahead.push().await;
        ahead
    }

    async fn stretch(&self, filter: &Filter, at_most: i64) -> Result<Stretch, StoreError> {
        if let Db::Sqlite(pool) = &self.db
            && let Some(packed) = packed(pool, filter, at_most).await?
        {
            return Ok(packed);
        }
        let rows: Vec<EntryRow> = on_db!(&self.db, pool => {
            let query = sqlx::query_as(AssertSqlSafe(filter.sql(SELECT)));
            bind_filter!(query, filter).bind(at_most).fetch_all(pool).await?
        });
        Ok(Stretch::Rows(rows.into_iter().map(Entry::from).collect()))
    }

    /// Walks the whole chain, over what retention took out. The inner result is what the walk found. Signatures are
    /// not looked at (`audit::verify` does that).
    ///
    /// # Errors
    /// When the database cannot be read to the end.
    pub async fn walk_audit(&self) -> Result<Result<Head, (Head, Fault)>, StoreError> {
        let mut walk = Walk::from_the_start();
        let mut filter = Filter::default();
        loop {
            let entries = self.audit_stretch(&filter).await?;
            let Some(last) = entries.last() else { return Ok(Ok(walk.head())) };
            let mut stones = self.tombstones(walk.head().seq, last.seq).await?.into_iter().peekable();
            filter.after = Some(last.seq);
            for (at, entry) in entries.iter().enumerate() {
                while let Some(stone) = stones.next_if(|stone| stone.hole.last_seq < entry.seq) {
                    if stone.hole.first_seq == walk.head().seq + 1 && stone.hole.prev_hash == walk.head().hash {
                        walk.jump(Head { seq: stone.hole.last_seq, hash: stone.hole.last_hash });
                    }
                }
                if let Err(fault) = walk.step(entry) {
                    return Ok(Err((walk.head(), walk.named(fault, entry, entries.get(at + 1)))));
                }
            }
        }
    }
}

type Reading = Pin<Box<dyn Future<Output = Result<Stretch, StoreError>> + Send>>;

/// A stretch that is being read.
pub struct Ahead(Pin<Box<MaybeDone<Reading>>>);

impl Ahead {
    /// Lets it go on as far as it can without the database: nobody else does while the caller is busy. A connection that
    /// was used a moment ago is free again only when the runtime had its turn.
    pub async fn push(&mut self) {
        for _ in 0..3 {
            if poll_fn(|context| Poll::Ready(self.0.as_mut().poll(context).is_ready())).await {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The stretch, once it is there.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn stretch(mut self) -> Result<Stretch, StoreError> {
        self.0.as_mut().await;
        self.0.as_mut().take_output().expect("it is taken once")
    }
}

/// Entries that follow each other.
#[derive(Debug)]
pub enum Stretch {
    /// As one text.
    Packed(Packed),
    /// Each for itself.
    Rows(Vec<Entry>),
}

/// The fields of so many entries, with U+0000 between them.
#[derive(Debug)]
pub struct Packed {
    count: usize,
    fields: String,
}

impl Stretch {
    /// The entries with texts of their own.
    fn into_entries(self) -> Vec<Entry> {
        match self {
            Self::Packed(_) => self.views().iter().map(View::to_entry).collect(),
            Self::Rows(entries) => entries,
        }
    }

    /// The entries.
    pub fn views(&self) -> Vec<View<'_>> {
        match self {
            Self::Packed(Packed { count, fields }) => {
                let mut fields = fields.split('\0');
                (0..*count).map(|_| one(&mut fields)).collect()
            }
            Self::Rows(entries) => entries.iter().map(Entry::view).collect(),
        }
    }
}

/// A stretch as one value; `None` when its fields cannot be told apart.
async fn packed(pool: &SqlitePool, filter: &Filter, at_most: i64) -> Result<Option<Stretch>, StoreError> {
    let sql = format!("SELECT COUNT(*), string_agg(line, char(0)) FROM ({})", filter.sql(LINE));
    let row = bind_filter!(sqlx::query(AssertSqlSafe(sql)), filter).bind(at_most).fetch_one(pool).await?;
    let (count, lines): (i64, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(pack(usize::try_from(count).unwrap_or(0), lines.unwrap_or_default()).map(Stretch::Packed))
}

fn pack(count: usize, lines: &[u8]) -> Option<Packed> {
    let fields = if lines.is_empty() && count == 0 { 0 } else { lines.split(|byte| *byte == 0).count() };
    if fields != count * FIELDS {
        return None;
    }
    // What is no text was not written by lokid; with the character that marks it, its hash cannot be right.
    Some(Packed { count, fields: String::from_utf8_lossy(lines).into_owned() })
}

fn one<'f>(fields: &mut impl Iterator<Item = &'f str>) -> View<'f> {
    let mut all = [""; FIELDS];
    for place in &mut all {
        *place = fields.next().unwrap_or_default();
    }
    // A place or a time that is no number cannot have been hashed.
    let number = |at: usize| all[at].parse().unwrap_or(i64::MIN);
    let optional = |at: usize| all[at].strip_prefix('+');
    let hash = |at: usize| {
        let mut bytes = [0; 32];
        let fits = all[at].len() == 64;
        let read = fits && HEXUPPER.decode_mut(all[at].as_bytes(), &mut bytes).is_ok();
        hash_of(if read { &bytes } else { &[] })
    };
    View {
        seq: number(0),
        time: Moment::from_millis(number(1)),
        event: all[2],
        level: all[3],
        actor_kind: all[4],
        actor_id: all[5],
        actor_name: all[6],
        resource_kind: all[7],
        resource_id: all[8],
        outcome: all[9],
        reason: all[10],
        request_id: optional(11),
        ip: optional(12),
        user_agent: optional(13),
        node: all[14],
        details: all[15],
        prev_hash: hash(16),
        hash: hash(17),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00000000000000000000000000000000000000000000000000000000000000FF";

    fn line(reason: &str) -> String {
        format!("7\0009\0a\0b\0c\0d\0e\0f\0g\0h\0{reason}\0\0+\0+x\0n\0{{}}\0{HASH}\0{HASH}")
    }

    #[test]
    fn fields_are_told_apart_or_the_stretch_is_not_believed() {
        let two = format!("{}\0{}", line("r"), line(""));
        let stretch = Stretch::Packed(pack(2, two.as_bytes()).unwrap());
        let read = stretch.views();
        assert_eq!((read[0].seq, read[0].time.millis(), read[0].reason), (7, 9, "r"));
        assert_eq!([read[0].request_id, read[0].ip, read[0].user_agent], [None, Some(""), Some("x")]);
        assert_eq!((read[0].hash[31], read[1].reason), (0xFF, ""));
        assert!(Stretch::Packed(pack(0, b"").unwrap()).views().is_empty());
        // One row that pretends to be two, and a text with the separator in it.
        assert!(pack(1, two.as_bytes()).is_none());
        assert!(pack(1, line("a\0b").as_bytes()).is_none());
        assert!(pack(2, line("r").as_bytes()).is_none());
    }
}
