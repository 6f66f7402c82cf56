//! Reading the log from its beginning on, a stretch at a time: memory stays flat and no statement takes long,
//! however long the log is.
//!
//! sqlx copies each column of each row of SQLite from thread to thread, which for eighteen columns takes longer
//! than everything that is done with them. So there a stretch comes as one value. Of each line SQLite says how long it
//! and its hashes are, and within it U+0000 stands between the texts, which no text that lokid stores holds
//! (`domain::ledger::storable`). Where a line does not add up, somebody changed it, and the stretch is read column by
//! column: no row can pass for another one.

use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

use super::{
    Store, StoreError,
    dialect::Db,
    ledger::{EntryRow, Filter, SELECT},
    ledger_filter::bind_filter,
};
use crate::domain::{
    chain::{Fault, Walk},
    ledger::{Entry, Hash, Head, View},
    time::Moment,
};

/// Entries of one stretch.
const AT_ONCE: i64 = 1_024;

/// An entry as one text: the lengths of its hashes, its texts, its hashes. A missing text is empty, one that is there
/// begins with a `+`.
const LINE: &str = "SELECT concat(octet_length(prev_hash), '/', octet_length(hash), '/', seq, x'00', time, x'00', \
     event, x'00', level, x'00', actor_kind, x'00', actor_id, x'00', actor_name, x'00', resource_kind, x'00', \
     resource_id, x'00', outcome, x'00', reason, x'00', '+' || request_id, x'00', '+' || ip, x'00', \
     '+' || user_agent, x'00', node, x'00', details, prev_hash, hash) AS line FROM audit";

/// How a line begins whose hashes have the right lengths.
const WHOLE: &[u8] = b"32/32/";

/// Texts of a line.
const TEXTS: usize = 16;

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

/// Entries that follow each other.
#[derive(Debug)]
pub enum Stretch {
    /// As one text.
    Packed(Packed),
    /// Each for itself.
    Rows(Vec<Entry>),
}

/// The texts of many entries as one.
#[derive(Debug, Default)]
pub struct Packed {
    texts: String,
    /// Where each text ends.
    ends: Vec<usize>,
    /// Of each entry the hash before it and its own.
    hashes: Vec<[Hash; 2]>,
}

impl Stretch {
    /// The entries with texts of their own.
    fn into_entries(self) -> Vec<Entry> {
        match self {
            Self::Packed(packed) => packed.views().map(|view| view.to_entry()).collect(),
            Self::Rows(entries) => entries,
        }
    }

    /// The entries.
    pub fn views(&self) -> Vec<View<'_>> {
        match self {
            Self::Packed(packed) => packed.views().collect(),
            Self::Rows(entries) => entries.iter().map(Entry::view).collect(),
        }
    }

    /// The place of the last entry.
    pub fn last_seq(&self) -> Option<i64> {
        match self {
            Self::Packed(packed) => packed.hashes.len().checked_sub(1).map(|last| packed.view(last).seq),
            Self::Rows(entries) => entries.last().map(|entry| entry.seq),
        }
    }
}

/// A stretch as one value; `None` when a line of it does not add up.
async fn packed(pool: &SqlitePool, filter: &Filter, at_most: i64) -> Result<Option<Stretch>, StoreError> {
    let sql = format!("SELECT COUNT(*), string_agg(octet_length(line) || ':' || line, '') FROM ({})", filter.sql(LINE));
    let row = bind_filter!(sqlx::query(AssertSqlSafe(sql)), filter).bind(at_most).fetch_one(pool).await?;
    let (count, lines): (i64, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Packed::of(usize::try_from(count).unwrap_or(0), lines.unwrap_or_default()).map(Stretch::Packed))
}

impl Packed {
    /// So many lines, each with its length before it.
    fn of(count: usize, mut lines: &[u8]) -> Option<Self> {
        let mut ends = Vec::with_capacity(count * TEXTS);
        let mut hashes = Vec::with_capacity(count);
        let mut texts = Vec::with_capacity(lines.len());
        while !lines.is_empty() {
            let digits = lines.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (length, rest) = lines.split_at(digits);
            let length = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (line, rest) = rest.strip_prefix(b":")?.split_at_checked(length)?;
            hashes.push(texts_of(line.strip_prefix(WHOLE)?, &mut texts, &mut ends)?);
            lines = rest;
        }
        // Bytes that are no text are shown as well as can be when they are read one by one.
        let texts = String::from_utf8(texts).ok()?;
        (hashes.len() == count).then_some(Self { texts, ends, hashes })
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        (0..self.hashes.len()).map(|at| self.view(at))
    }

    fn view(&self, at: usize) -> View<'_> {
        let ends = &self.ends[at * TEXTS..(at + 1) * TEXTS];
        let begin = if at == 0 { 0 } else { self.ends[at * TEXTS - 1] };
        let text = |at: usize| &self.texts[if at == 0 { begin } else { ends[at - 1] }..ends[at]];
        // A place or a time that is no number cannot have been hashed.
        let number = |at: usize| text(at).parse().unwrap_or(i64::MIN);
        let optional = |at: usize| text(at).strip_prefix('+');
        View {
            seq: number(0),
            time: Moment::from_millis(number(1)),
            event: text(2),
            level: text(3),
            actor_kind: text(4),
            actor_id: text(5),
            actor_name: text(6),
            resource_kind: text(7),
            resource_id: text(8),
            outcome: text(9),
            reason: text(10),
            request_id: optional(11),
            ip: optional(12),
            user_agent: optional(13),
            node: text(14),
            details: text(15),
            prev_hash: self.hashes[at][0],
            hash: self.hashes[at][1],
        }
    }
}

/// Adds the texts of a line and where they end, and answers its two hashes; `None` when it has more texts or fewer.
fn texts_of(line: &[u8], texts: &mut Vec<u8>, ends: &mut Vec<usize>) -> Option<[Hash; 2]> {
    let (line, hash) = line.split_last_chunk::<32>()?;
    let (line, prev_hash) = line.split_last_chunk::<32>()?;
    let before = ends.len();
    for text in line.split(|byte| *byte == 0) {
        texts.extend_from_slice(text);
        ends.push(texts.len());
    }
    (ends.len() == before + TEXTS).then_some([*prev_hash, *hash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reason: &str) -> Vec<u8> {
        let mut line = format!("32/32/7\09\0a\0b\0c\0d\0e\0f\0g\0h\0{reason}\0\0+\0+x\0n\0{{}}").into_bytes();
        // Hashes are bytes like any other.
        line.extend([0; 63]);
        line.push(0xFF);
        line
    }

    fn lines(all: &[Vec<u8>]) -> Vec<u8> {
        all.iter().flat_map(|line| [format!("{}:", line.len()).into_bytes(), line.clone()].concat()).collect()
    }

    #[test]
    fn texts_are_told_apart_or_the_stretch_is_not_believed() {
        let two = lines(&[line("r"), line("")]);
        let stretch = Stretch::Packed(Packed::of(2, &two).unwrap());
        let read = stretch.views();
        assert_eq!((read[0].seq, read[0].time.millis(), read[0].reason), (7, 9, "r"));
        assert_eq!([read[0].request_id, read[0].ip, read[0].user_agent], [None, Some(""), Some("x")]);
        assert_eq!((read[0].details, read[0].hash[31], read[1].reason), ("{}", 0xFF, ""));
        assert_eq!(stretch.last_seq(), Some(7));
        assert_eq!(Stretch::Packed(Packed::of(0, b"").unwrap()).last_seq(), None);
        // One row that pretends to be two, a text with the separator in it, bytes that are no text.
        assert!(Packed::of(1, &two).is_none());
        assert!(Packed::of(1, &lines(&[line("a\0b")])).is_none());
        let mut no_text = line("a");
        no_text[6] = 0xFF;
        assert!(Packed::of(1, &lines(&[no_text])).is_none());
        // A hash of another length, though the line is as long as it should be.
        let longer = [b"31/33/", &line("r")[6..]].concat();
        assert!(Packed::of(1, &lines(&[longer])).is_none());
        // A line that ends early.
        assert!(Packed::of(1, &two[..100]).is_none());
    }
}
