//! A stretch of the log as the database said it, for whoever reads millions of entries: it is taken apart where no
//! request waits for it, and nothing of it is copied.
//!
//! sqlx hands each column of each row of SQLite from thread to thread, which for eighteen of them takes longer than
//! everything that is done with them. So SQLite makes a line of each entry and joins the lines. Each says how long it
//! and its hashes are, so that no entry can be made up to pass for another, or for two. A line that does not add up was
//! not written by lokid; then the stretch is read column by column.

use sqlx::{AssertSqlSafe, Row as _, SqlitePool, ValueRef as _, postgres::PgRow};

use super::{
    Store, StoreError,
    dialect::{Db, in_time},
    ledger::{Filter, SELECT},
    ledger_filter::bind_filter,
    ledger_walk::AT_ONCE,
};
use crate::domain::{
    ledger::{Hash, View},
    time::Moment,
};

/// An entry as a line: the lengths of the hashes, the texts, the hashes. Between them stands U+0000, which no text that
/// lokid stores holds (`domain::ledger::storable`). A missing text is empty, and one that is there begins with a `+`.
/// Not `concat_ws`, which leaves out the separator of a text that is NULL, so that two could pass for three.
const LINE: &str = "SELECT seq, concat(octet_length(prev_hash), x'00', octet_length(hash), x'00', seq, x'00', time, x'00', \
     event, x'00', level, x'00', actor_kind, x'00', actor_id, x'00', actor_name, x'00', resource_kind, x'00', \
     resource_id, x'00', outcome, x'00', reason, x'00', '+' || request_id, x'00', '+' || ip, x'00', \
     '+' || user_agent, x'00', node, x'00', details, x'00', prev_hash, x'00', hash) AS line FROM audit";
/// How such a line begins when its hashes have the right lengths.
const WHOLE: &[u8] = b"32\x0032\0";

/// Entries that follow each other, oldest first.
#[derive(Debug)]
pub struct Stretch {
    /// What was asked for.
    pub asked: Filter,
    /// The place of the last one.
    pub last: Option<i64>,
    read: Read,
}

#[derive(Debug)]
enum Read {
    Lines { entries: usize, lines: Vec<u8> },
    Rows(Vec<PgRow>),
}

impl Store {
    /// A stretch of all entries between the filter's places.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn read_stretch(&self, asked: Filter) -> Result<Stretch, StoreError> {
        let asked = Filter { oldest_first: true, ..asked };
        match &self.db {
            Db::Sqlite(pool) => lines(pool, asked).await,
            Db::Postgres(pool) => {
                let query = sqlx::query(AssertSqlSafe(asked.sql(SELECT)));
                let query = bind_filter!(query, asked).bind(AT_ONCE);
                let rows = in_time(async { Ok::<_, StoreError>(query.fetch_all(pool).await?) }).await?;
                let last = rows.last().map(|row| row.try_get(0)).transpose()?;
                Ok(Stretch { asked, last, read: Read::Rows(rows) })
            }
        }
    }
}

async fn lines(pool: &SqlitePool, asked: Filter) -> Result<Stretch, StoreError> {
    let joined = "SELECT COUNT(*), MAX(seq), string_agg(octet_length(line) || ':' || line, '')";
    let query = sqlx::query(AssertSqlSafe(format!("{joined} FROM ({}) lines", asked.sql(LINE))));
    let row = bind_filter!(query, asked).bind(AT_ONCE).fetch_one(pool).await?;
    // The bytes of what SQLite calls a text.
    let (entries, lines): (i64, Option<Vec<u8>>) = (row.try_get(0)?, row.try_get_unchecked(2)?);
    let read = Read::Lines { entries: usize::try_from(entries).unwrap_or(0), lines: lines.unwrap_or_default() };
    Ok(Stretch { asked, last: row.try_get(1)?, read })
}

impl Stretch {
    /// The entries; `None` when something of them does not add up.
    pub fn views(&self) -> Option<Vec<View<'_>>> {
        let views = match &self.read {
            Read::Rows(rows) => rows.iter().map(|row| view(&mut Columns { row, at: 0 })).collect::<Option<Vec<_>>>()?,
            Read::Lines { entries, lines } => {
                let (mut views, mut lines) = (Vec::with_capacity(*entries), &lines[..]);
                while !lines.is_empty() {
                    views.push(next_line(&mut lines)?);
                }
                (views.len() == *entries).then_some(views)?
            }
        };
        (views.last().map(|view| view.seq) == self.last).then_some(views)
    }
}

/// The next so many bytes.
fn take<'l>(bytes: &mut &'l [u8], length: usize) -> Option<&'l [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// What does not add up.
struct Odd;

/// The fields of an entry one after another, in the order of the table.
trait Fields<'l> {
    fn number(&mut self) -> Option<i64>;
    fn text(&mut self) -> Option<&'l str>;
    fn optional(&mut self) -> Result<Option<&'l str>, Odd>;
    fn hash(&mut self) -> Option<Hash>;
}

fn view<'l>(fields: &mut impl Fields<'l>) -> Option<View<'l>> {
    Some(View {
        seq: fields.number()?,
        time: Moment::from_millis(fields.number()?),
        event: fields.text()?,
        level: fields.text()?,
        actor_kind: fields.text()?,
        actor_id: fields.text()?,
        actor_name: fields.text()?,
        resource_kind: fields.text()?,
        resource_id: fields.text()?,
        outcome: fields.text()?,
        reason: fields.text()?,
        request_id: fields.optional().ok()?,
        ip: fields.optional().ok()?,
        user_agent: fields.optional().ok()?,
        node: fields.text()?,
        details: fields.text()?,
        prev_hash: fields.hash()?,
        hash: fields.hash()?,
    })
}

/// A line of SQLite: texts, each with U+0000 behind it, and then the hashes.
struct Line<'l> {
    texts: &'l str,
    ends: memchr::Memchr<'l>,
    begin: usize,
    hashes: [&'l [u8]; 2],
}

fn next_line<'l>(lines: &mut &'l [u8]) -> Option<View<'l>> {
    let digits = lines.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = std::str::from_utf8(take(lines, digits)?).ok()?.parse().ok()?;
    take(lines, 1).filter(|colon| *colon == b":")?;
    let line = take(lines, length)?.strip_prefix(WHOLE)?;
    let (line, hash) = line.split_at_checked(line.len().checked_sub(size_of::<Hash>())?)?;
    let line = line.strip_suffix(b"\0")?;
    let (texts, prev_hash) = line.split_at_checked(line.len().checked_sub(size_of::<Hash>())?)?;
    let texts = std::str::from_utf8(texts).ok()?;
    let ends = memchr::memchr_iter(0, texts.as_bytes());
    let mut line = Line { texts, ends, begin: 0, hashes: [prev_hash, hash] };
    let view = view(&mut line)?;
    (line.begin == texts.len()).then_some(view)
}

impl<'l> Fields<'l> for Line<'l> {
    fn number(&mut self) -> Option<i64> {
        // A place or a time that is no number cannot have been hashed.
        Some(self.text()?.parse().unwrap_or(i64::MIN))
    }

    fn text(&mut self) -> Option<&'l str> {
        let end = self.ends.next()?;
        let text = self.texts.get(self.begin..end);
        self.begin = end + 1;
        text
    }

    fn optional(&mut self) -> Result<Option<&'l str>, Odd> {
        self.text().map(|text| text.strip_prefix('+')).ok_or(Odd)
    }

    fn hash(&mut self) -> Option<Hash> {
        let [next, behind] = self.hashes;
        self.hashes = [behind, next];
        next.try_into().ok()
    }
}

/// A row of PostgreSQL.
struct Columns<'l> {
    row: &'l PgRow,
    at: usize,
}

impl<'l> Columns<'l> {
    /// The next value, where there is one.
    fn value(&mut self) -> Result<Option<&'l [u8]>, Odd> {
        let value = self.row.try_get_raw(self.at).map_err(|_| Odd)?;
        self.at += 1;
        if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(|_| Odd) }
    }

    fn some(&mut self) -> Option<&'l [u8]> {
        self.value().ok()?
    }
}

impl<'l> Fields<'l> for Columns<'l> {
    fn number(&mut self) -> Option<i64> {
        self.some()?.try_into().ok().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'l str> {
        std::str::from_utf8(self.some()?).ok()
    }

    fn optional(&mut self) -> Result<Option<&'l str>, Odd> {
        self.value()?.map(std::str::from_utf8).transpose().map_err(|_| Odd)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.some()?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reason: &str) -> Vec<u8> {
        let texts = format!("32\x0032\x007\x009\0a\0b\0c\0d\0e\0f\0g\0h\0{reason}\0\0+\0+x\0n\0{{}}\0");
        // Hashes are bytes like any other.
        [texts.as_bytes(), &[0; 64], &[0xFF]].concat()
    }

    fn stretch(entries: usize, all: &[Vec<u8>]) -> Stretch {
        let lines =
            all.iter().flat_map(|line| [format!("{}:", line.len()).into_bytes(), line.clone()].concat()).collect();
        Stretch { asked: Filter::default(), last: (entries > 0).then_some(7), read: Read::Lines { entries, lines } }
    }

    #[test]
    fn texts_are_told_apart_or_the_stretch_is_not_believed() {
        let two = [line("r"), line("")];
        let read = stretch(2, &two);
        let read = read.views().unwrap();
        assert_eq!((read[0].seq, read[0].time.millis(), read[0].event, read[0].reason), (7, 9, "a", "r"));
        assert_eq!([read[0].request_id, read[0].ip, read[0].user_agent], [None, Some(""), Some("x")]);
        assert_eq!((read[0].node, read[0].details, read[0].hash[31], read[1].reason), ("n", "{}", 0xFF, ""));
        assert_eq!(stretch(0, &[]).views().unwrap(), []);
        // One row that pretends to be two, one that is not the last.
        assert!(stretch(1, &two).views().is_none());
        assert!(Stretch { last: Some(8), ..stretch(2, &two) }.views().is_none());

        let is_believed = |line: &[u8]| stretch(1, &[line.to_vec()]).views().is_some();
        let whole = line("r");
        assert!(is_believed(&whole));
        // A text with the separator in it, bytes that are no text.
        assert!(!is_believed(&line("a\0b")));
        assert!(!is_believed(&[&whole[..12], &[0xFF], &whole[13..]].concat()));
        // A hash of another length, though the line is as long as it should be; a line that ends early.
        assert!(!is_believed(&[b"31\x0033\0", &whole[6..]].concat()));
        assert!(!is_believed(&whole[..100]));
        assert!(!is_believed(&whole[..20]));
    }
}
