//! An entry of the log from a row, whatever stands there: one that was tampered with has to be shown and found too, so
//! nothing that a column holds is an error, and nothing that lokid did not write passes for what it wrote.

use sqlx::{Row, TypeInfo as _, ValueRef as _, postgres::PgRow, sqlite::SqliteRow};

use crate::domain::{
    ledger::{Entry, Hash},
    time::Moment,
};

/// An entry, read by the columns' places: looking for eighteen names costs more than the rest of a walk.
pub(super) struct EntryRow(Entry);

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        row.0
    }
}

/// A hash of the wrong length cannot be right; this one never verifies. (Zeros would: as the first entry's predecessor.)
const NO_HASH: Hash = [0xFF; 32];

pub(super) fn hash_of(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or(NO_HASH)
}

/// The columns of an entry, by their places.
trait Cells {
    /// No entry was written at the time that stands for what is no number.
    fn number(&self, at: usize) -> i64;
    /// What is no text has U+0000 at its end, which no text that lokid stores holds: it cannot pass for one.
    fn text(&self, at: usize) -> String;
    fn hash(&self, at: usize) -> Hash;
    fn is_missing(&self, at: usize) -> bool;
}

/// SQLite keeps anything in any column, once the table was built anew.
impl Cells for SqliteRow {
    fn number(&self, at: usize) -> i64 {
        if is_a(self, "INTEGER", at) { self.try_get(at).unwrap_or(i64::MIN) } else { i64::MIN }
    }

    fn text(&self, at: usize) -> String {
        let bytes: &[u8] = self.try_get_unchecked(at).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) if is_a(self, "TEXT", at) => text.to_owned(),
            _ => format!("{}\0", String::from_utf8_lossy(bytes)),
        }
    }

    fn hash(&self, at: usize) -> Hash {
        if is_a(self, "BLOB", at) { self.try_get(at).map_or(NO_HASH, hash_of) } else { NO_HASH }
    }

    fn is_missing(&self, at: usize) -> bool {
        self.try_get_raw(at).is_ok_and(|value| value.is_null())
    }
}

/// Whether SQLite calls a value so.
fn is_a(row: &SqliteRow, kind: &str, at: usize) -> bool {
    row.try_get_raw(at).is_ok_and(|value| !value.is_null() && value.type_info().name() == kind)
}

/// PostgreSQL keeps in a column what its type allows; `store::ledger_shape` looks at the types.
impl Cells for PgRow {
    fn number(&self, at: usize) -> i64 {
        self.try_get(at).unwrap_or(i64::MIN)
    }

    fn text(&self, at: usize) -> String {
        self.try_get(at).unwrap_or_else(|_| "\0".to_owned())
    }

    fn hash(&self, at: usize) -> Hash {
        self.try_get(at).map_or(NO_HASH, hash_of)
    }

    fn is_missing(&self, at: usize) -> bool {
        self.try_get_raw(at).is_ok_and(|value| value.is_null())
    }
}

impl<'r, R: Row + Cells> sqlx::FromRow<'r, R> for EntryRow {
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let text = |at| row.text(at);
        let optional = |at| (!row.is_missing(at)).then(|| row.text(at));
        Ok(Self(Entry {
            seq: row.number(0),
            time: Moment::from_millis(row.number(1)),
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
            prev_hash: row.hash(16),
            hash: row.hash(17),
        }))
    }
}
