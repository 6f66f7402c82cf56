//! Reading the log from its beginning on, a stretch at a time: memory stays flat and no statement takes long,
//! however long the log is.
//!
//! sqlx copies each column of each row of SQLite from thread to thread, which for eighteen columns takes longer
//! than everything that is done with them. So there a stretch comes as one value: the fields of all its entries,
//! with U+0000 between them. No text that lokid stores holds that character (`domain::ledger::storable`); where a
//! count of the fields says that one does, somebody put it there, and the stretch is read column by column.

use std::borrow::Cow;

use data_encoding::HEXUPPER;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool};

use super::{
    Store, StoreError,
    dialect::Db,
    ledger::{EntryRow, Filter, SELECT, bind_filter, hash_of},
};
use crate::domain::{
    chain::{Fault, Walk},
    ledger::{Entry, Head},
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
        let filter = &Filter { oldest_first: true, ..filter.clone() };
        let mut entries = Vec::new();
        for filter in self.by_place(filter).await? {
            let missing = AT_ONCE - i64::try_from(entries.len()).unwrap_or(AT_ONCE);
            if missing <= 0 {
                break;
            }
            entries.extend(self.stretch(&filter, missing).await?);
        }
        Ok(entries)
    }

    async fn stretch(&self, filter: &Filter, at_most: i64) -> Result<Vec<Entry>, StoreError> {
        if let Db::Sqlite(pool) = &self.db
            && let Some(entries) = packed(pool, filter, at_most).await?
        {
            return Ok(entries);
        }
        let rows: Vec<EntryRow> = on_db!(&self.db, pool => {
            let query = sqlx::query_as(AssertSqlSafe(filter.sql(SELECT)));
            bind_filter!(query, filter).bind(at_most).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(Entry::from).collect())
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

/// A stretch as one value; `None` when its fields cannot be told apart.
async fn packed(pool: &SqlitePool, filter: &Filter, at_most: i64) -> Result<Option<Vec<Entry>>, StoreError> {
    let sql = format!("SELECT COUNT(*), string_agg(line, char(0)) FROM ({})", filter.sql(LINE));
    let row = bind_filter!(sqlx::query(AssertSqlSafe(sql)), filter).bind(at_most).fetch_one(pool).await?;
    let (count, lines): (i64, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(unpack(usize::try_from(count).unwrap_or(0), lines.unwrap_or_default()))
}

fn unpack(count: usize, lines: &[u8]) -> Option<Vec<Entry>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let mut fields = lines.split(|byte| *byte == 0);
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(one(&mut fields)?);
    }
    fields.next().is_none().then_some(entries)
}

fn one<'f>(fields: &mut impl Iterator<Item = &'f [u8]>) -> Option<Entry> {
    let mut all = [&[][..]; FIELDS];
    for place in &mut all {
        *place = fields.next()?;
    }
    // What is no text was not written by lokid; with the character that marks it, its hash cannot be right.
    let text = |at: usize| String::from_utf8_lossy(all[at]);
    let owned = |at: usize| text(at).into_owned();
    let optional = |at: usize| match text(at) {
        Cow::Borrowed(text) => text.strip_prefix('+').map(str::to_owned),
        Cow::Owned(text) => text.strip_prefix('+').map(str::to_owned),
    };
    let hash = |at: usize| {
        let mut bytes = [0; 32];
        let fits = HEXUPPER.decode_len(all[at].len()) == Ok(32);
        let read = fits && HEXUPPER.decode_mut(all[at], &mut bytes).is_ok();
        hash_of(if read { &bytes } else { &[] })
    };
    Some(Entry {
        seq: text(0).parse().ok()?,
        time: Moment::from_millis(text(1).parse().ok()?),
        event: owned(2),
        level: owned(3),
        actor_kind: owned(4),
        actor_id: owned(5),
        actor_name: owned(6),
        resource_kind: owned(7),
        resource_id: owned(8),
        outcome: owned(9),
        reason: owned(10),
        request_id: optional(11),
        ip: optional(12),
        user_agent: optional(13),
        node: owned(14),
        details: owned(15),
        prev_hash: hash(16),
        hash: hash(17),
    })
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
        let read = unpack(2, two.as_bytes()).unwrap();
        assert_eq!((read[0].seq, read[0].time.millis(), read[0].reason.as_str()), (7, 9, "r"));
        let optional = [&read[0].request_id, &read[0].ip, &read[0].user_agent];
        assert_eq!(optional.map(Option::as_deref), [None, Some(""), Some("x")]);
        assert_eq!((read[0].hash[31], read[1].reason.as_str()), (0xFF, ""));
        assert_eq!(unpack(0, b""), Some(vec![]));
        // One row that pretends to be two, and a text with the separator in it.
        assert_eq!(unpack(1, two.as_bytes()), None);
        assert_eq!(unpack(1, line("a\0b").as_bytes()), None);
        assert_eq!(unpack(2, line("r").as_bytes()), None);
    }
}
