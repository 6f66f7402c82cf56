//! A stretch of the log as the database said it, for whoever reads millions of entries: it is taken apart where no
//! request waits for it, and nothing of it is copied.
//!
//! sqlx hands each column of each row of SQLite from thread to thread, which for eighteen of them takes longer than
//! everything that is done with them. So SQLite makes a line of each entry and joins the lines. Before each stands how
//! long it is, so that no entry can be made up to pass for another, or for two. What does not add up was not written by
//! lokid; then the stretch is read column by column.

use sqlx::{AssertSqlSafe, PgExecutor, Row as _, SqliteExecutor, SqlitePool, ValueRef as _, postgres::PgRow};

use super::{
    Store, StoreError,
    dialect::{Conn, Db, in_time},
    ledger::{Filter, SELECT},
    ledger_filter::bind_filter,
};
use crate::domain::{
    ledger::{Entry, Hash, View},
    time::Moment,
};

/// An entry as a line: its texts and its hashes, with U+0000 between them, which no text that lokid stores holds
/// (`domain::ledger::storable`). A text that may be missing is empty then, and begins with a `+` otherwise.
///
/// There is no line where a value is not of the kind that was hashed: NULL would leave out its separator too, so that two
/// could pass for three, and a blob reads as the text of its bytes. A missing text that is neither text nor NULL is two
/// separators more, which no line has. In SQLite's order numbers come before texts, and texts before blobs
/// (<https://sqlite.org/datatype3.html> §4.1); to compare costs less than `typeof`. No index is asked, for the same reason
/// as in `dialect::past_indexes`.
const LINE: &str = "SELECT seq, CASE WHEN octet_length(prev_hash) = 32 AND octet_length(hash) = 32 AND prev_hash >= x'' \
     AND hash >= x'' AND time < '' AND event < x'' AND level < x'' AND actor_kind < x'' AND actor_id < x'' \
     AND actor_name < x'' AND resource_kind < x'' AND resource_id < x'' AND outcome < x'' AND reason < x'' AND node < x'' \
     AND details < x'' THEN concat_ws(x'00', seq, time, event, level, actor_kind, actor_id, actor_name, resource_kind, \
     resource_id, outcome, reason, \
     CASE WHEN request_id < x'' THEN '+' || request_id WHEN request_id IS NULL THEN '' ELSE x'0000' END, \
     CASE WHEN ip < x'' THEN '+' || ip WHEN ip IS NULL THEN '' ELSE x'0000' END, \
     CASE WHEN user_agent < x'' THEN '+' || user_agent WHEN user_agent IS NULL THEN '' ELSE x'0000' END, \
     node, details, prev_hash, hash) END AS line FROM audit NOT INDEXED";
/// Both hashes of a line, and what stands between them.
const HASHES: usize = 2 * size_of::<Hash>() + 1;
/// How SQLite says that a text would be longer than it takes (`SQLITE_TOOBIG`).
const TOO_BIG: &str = "18";

/// On PostgreSQL: what was put off until the commit happens now.
const NOTHING_PUT_OFF: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// Entries of one stretch: memory stays flat and no statement takes long, however long the log is.
const AT_ONCE: i64 = 1_024;

/// Entries that follow each other, oldest first.
#[derive(Debug)]
pub struct Stretch {
    asked: Filter,
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
    /// A stretch of the entries that fit, oldest first, column by column. Whoever reads millions takes
    /// [`Self::read_stretch`].
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_stretch(&self, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        self.audit_page(&Filter { oldest_first: true, in_order: true, ..filter.clone() }, AT_ONCE).await
    }

    /// A stretch of all entries between the filter's places.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn read_stretch(&self, asked: Filter) -> Result<Stretch, StoreError> {
        let asked = Filter { oldest_first: true, ..asked };
        match &self.db {
            Db::Sqlite(pool) => lines(pool, asked).await,
            Db::Postgres(pool) => in_time(async { Ok(rows(pool, asked, AT_ONCE).await?) }).await,
        }
    }
}

/// At most so many entries behind a place, as they would be if this transaction ended now.
pub(super) async fn behind(conn: &mut Conn, place: i64, most: i64) -> Result<Stretch, StoreError> {
    let asked = Filter::behind(Some(place));
    if let Conn::Postgres(_) = conn {
        conn.run(NOTHING_PUT_OFF).await?;
    }
    match conn {
        Conn::Sqlite(conn) => {
            let (last, read) = joined(&mut *conn, &asked, most).await?;
            Ok(Stretch { asked, last, read })
        }
        Conn::Postgres(conn) => Ok(rows(&mut *conn, asked, most).await?),
    }
}

async fn rows(from: impl PgExecutor<'_>, asked: Filter, most: i64) -> sqlx::Result<Stretch> {
    let query = sqlx::query(AssertSqlSafe(asked.sql(SELECT)));
    let rows = bind_filter!(query, asked).bind(most).fetch_all(from).await?;
    let last = rows.last().map(|row| row.try_get(0)).transpose()?;
    Ok(Stretch { asked, last, read: Read::Rows(rows) })
}

async fn lines(pool: &SqlitePool, asked: Filter) -> Result<Stretch, StoreError> {
    let mut at_once = AT_ONCE;
    loop {
        match joined(pool, &asked, at_once).await {
            // Somebody put in what no request can say. It is looked at all the same, in smaller pieces.
            Err(e) if is_too_big(&e) && at_once > 1 => at_once /= 32,
            Err(e) if is_too_big(&e) => {
                let next = sqlx::query_scalar(AssertSqlSafe(asked.sql("SELECT seq FROM audit NOT INDEXED")));
                let last = bind_filter!(next, asked).bind(at_once).fetch_optional(pool).await?;
                return Ok(Stretch { asked, last, read: Read::Lines { entries: 1, lines: Vec::new() } });
            }
            read => {
                let (last, read) = read?;
                return Ok(Stretch { asked, last, read });
            }
        }
    }
}

fn is_too_big(e: &sqlx::Error) -> bool {
    e.as_database_error().is_some_and(|e| e.code().as_deref() == Some(TOO_BIG))
}

async fn joined(from: impl SqliteExecutor<'_>, asked: &Filter, most: i64) -> sqlx::Result<(Option<i64>, Read)> {
    let joined = "SELECT COUNT(*), MAX(seq), string_agg(octet_length(line) || ':' || line, '')";
    let query = sqlx::query(AssertSqlSafe(format!("{joined} FROM ({}) lines", asked.sql(LINE))));
    let row = bind_filter!(query, asked).bind(most).fetch_one(from).await?;
    // The bytes of what SQLite calls a text.
    let (entries, lines): (i64, Option<Vec<u8>>) = (row.try_get(0)?, row.try_get_unchecked(2)?);
    let entries = usize::try_from(entries).unwrap_or(0);
    Ok((row.try_get(1)?, Read::Lines { entries, lines: lines.unwrap_or_default() }))
}

impl Stretch {
    /// What was asked for and is here: no entry behind the last one.
    pub fn here(&self) -> Filter {
        self.last.map_or_else(|| self.asked.clone(), |last| self.asked.clone().up_to(last))
    }

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
    let line = take(lines, length)?;
    let (texts, hashes) = line.split_at_checked(line.len().checked_sub(HASHES)?)?;
    let (prev_hash, hash) = hashes.split_at_checked(size_of::<Hash>())?;
    let texts = std::str::from_utf8(texts).ok()?;
    let ends = memchr::memchr_iter(0, texts.as_bytes());
    let mut line = Line { texts, ends, begin: 0, hashes: [prev_hash, hash.strip_prefix(b"\0")?] };
    let view = view(&mut line)?;
    (line.begin == texts.len()).then_some(view)
}

impl<'l> Fields<'l> for Line<'l> {
    fn number(&mut self) -> Option<i64> {
        // A place or a time that is no whole number cannot have been hashed.
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
        let texts = format!("7\x009\0a\0b\0c\0d\0e\0f\0g\0h\0{reason}\0\0+\0+x\0n\0{{}}\0");
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
        assert_eq!(stretch(2, &two).here(), Filter { before: Some(8), ..Filter::default() });
        // One row that pretends to be two, one that is not the last.
        assert!(stretch(1, &two).views().is_none());
        assert!(Stretch { last: Some(8), ..stretch(2, &two) }.views().is_none());

        let is_believed = |line: &[u8]| stretch(1, &[line.to_vec()]).views().is_some();
        let whole = line("r");
        assert!(is_believed(&whole));
        // A text with the separator in it, bytes that are no text.
        assert!(!is_believed(&line("a\0b")));
        assert!(!is_believed(&[&whole[..12], &[0xFF], &whole[13..]].concat()));
        // A line that ends early.
        assert!(!is_believed(&whole[..whole.len() - 1]));
        assert!(!is_believed(&whole[..20]));
    }
}
