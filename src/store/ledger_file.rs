//! A stretch of the log out of SQLite's file, over a connection of its own.
//!
//! sqlx copies each column of each row and hands it from thread to thread, which for eighteen of them takes longer than
//! everything that is done with them. Here a value is looked at where SQLite keeps it, together with its kind: a table that
//! was built anew holds anything in any column, and nothing but what was hashed may pass for it
//! ([`super::ledger_row::shown`]).

use std::path::Path;

use rusqlite::{
    Connection, OpenFlags, Row,
    types::ValueRef::{self, Blob, Integer, Null, Real, Text},
};

use super::{
    StoreError,
    dialect::{Engine, past_indexes},
    ledger::{Filter, SELECT},
    ledger_row::{NO_HASH, hash_of, shown},
    ledger_stretch::{Fields, Odd, view},
    sqlite::PATIENCE,
};
use crate::domain::ledger::{Hash, View};

/// The texts of an entry: the columns between the time and the hashes.
const TEXTS: usize = 14;
/// Those of them that may be missing.
const MAY_BE_MISSING: std::ops::Range<usize> = 9..12;
/// Bytes of texts behind which a stretch ends: a few long entries take no more memory than many short ones.
const ENOUGH: usize = 1 << 20;

const NO_NUMBER: StoreError = StoreError::Damaged("the audit log, in which a place is no number");
/// What SQLite keeps of the file for it, as `PRAGMA cache_size` counts: half a mebibyte.
const CACHE: i64 = -512;

/// A connection that changes nothing. It is opened for writing all the same, as sqlx's are: whoever comes first has to make
/// the index of SQLite's log.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(PATIENCE)?;
    conn.pragma_update(None, "query_only", true)?;
    // Each page is read once.
    conn.pragma_update(None, "cache_size", CACHE)?;
    Ok(conn)
}

/// Every place of the table, one leaf after another, without looking for any.
const PLACES: &str = "SELECT seq FROM audit NOT INDEXED";

/// Shows each place that stands in the file, in the order in which it stands there, until one is odd; that one.
pub(super) fn odd_place(conn: &Connection, mut is_odd: impl FnMut(i64) -> bool) -> Result<Option<i64>, StoreError> {
    let mut statement = conn.prepare(PLACES)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Integer(seq) = row.get_ref(0)? else { return Err(NO_NUMBER) };
        if is_odd(seq) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

/// Entries as they stand in the file. Their texts follow one another.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    texts: String,
}

#[derive(Debug)]
struct Line {
    seq: i64,
    time: i64,
    /// Bytes.
    lengths: [Option<usize>; TEXTS],
    hashes: [Hash; 2],
}

impl Lines {
    /// At most so many entries between the filter's places, oldest first, past every index.
    pub(super) fn read(conn: &Connection, asked: &Filter, most: i64) -> Result<Self, StoreError> {
        let mut statement = conn.prepare(&past_indexes(Engine::Sqlite, &asked.sql(SELECT)).0)?;
        let places = [asked.before, asked.after].into_iter().flatten().chain([most]);
        let mut rows = statement.query(rusqlite::params_from_iter(places))?;
        let mut read = Self::default();
        while read.texts.len() < ENOUGH
            && let Some(row) = rows.next()?
        {
            read.take(row)?;
        }
        Ok(read)
    }

    fn take(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        let Integer(seq) = row.get_ref(0)? else { return Err(NO_NUMBER) };
        // No entry was written at the time that stands for what is none.
        let time = if let Integer(time) = row.get_ref(1)? { time } else { i64::MIN };
        let mut lengths = [None; TEXTS];
        for (at, length) in lengths.iter_mut().enumerate() {
            let value = row.get_ref(2 + at)?;
            if value != Null || !MAY_BE_MISSING.contains(&at) {
                *length = Some(self.keep(value));
            }
        }
        let hash = |at| row.get_ref(at).map(|value| if let Blob(hash) = value { hash_of(hash) } else { NO_HASH });
        self.lines.push(Line { seq, time, lengths, hashes: [hash(2 + TEXTS)?, hash(3 + TEXTS)?] });
        Ok(())
    }

    /// Adds a text; how long it is.
    fn keep(&mut self, value: ValueRef<'_>) -> usize {
        let before = self.texts.len();
        self.texts.push_str(&match value {
            Text(bytes) => shown(bytes, true),
            Blob(bytes) => shown(bytes, false),
            Integer(number) => shown(number.to_string().as_bytes(), false).into_owned().into(),
            Real(number) => shown(number.to_string().as_bytes(), false).into_owned().into(),
            Null => shown(b"", false),
        });
        self.texts.len() - before
    }

    /// The place of the last one.
    pub(super) fn last(&self) -> Option<i64> {
        self.lines.last().map(|line| line.seq)
    }

    /// The entries, without copies of their texts.
    pub(super) fn views(&self) -> Option<Vec<View<'_>>> {
        let mut texts = &self.texts[..];
        self.lines.iter().map(|line| line.view(&mut texts)).collect()
    }
}

impl Line {
    /// The entry, whose texts are the next ones.
    fn view<'l>(&'l self, texts: &mut &'l str) -> Option<View<'l>> {
        let numbers = [self.seq, self.time].into_iter();
        view(&mut Left { numbers, lengths: self.lengths.iter(), hashes: self.hashes.iter(), texts })
    }
}

/// What is left of an entry to be taken.
struct Left<'l, 't> {
    numbers: std::array::IntoIter<i64, 2>,
    lengths: std::slice::Iter<'l, Option<usize>>,
    hashes: std::slice::Iter<'l, Hash>,
    texts: &'t mut &'l str,
}

impl<'l> Fields<'l> for Left<'l, '_> {
    fn number(&mut self) -> Option<i64> {
        self.numbers.next()
    }

    fn text(&mut self) -> Option<&'l str> {
        self.optional().ok()?
    }

    fn optional(&mut self) -> Result<Option<&'l str>, Odd> {
        let Some(length) = *self.lengths.next().ok_or(Odd)? else { return Ok(None) };
        let (text, rest) = self.texts.split_at_checked(length).ok_or(Odd)?;
        *self.texts = rest;
        Ok(Some(text))
    }

    fn hash(&mut self) -> Option<Hash> {
        self.hashes.next().copied()
    }
}
