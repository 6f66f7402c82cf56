//! An entry of the log from a row, whatever stands there: one that was tampered with has to be shown and found too, so
//! nothing that a column holds is an error, and nothing that lokid did not write passes for what it wrote.

use std::borrow::Cow;

use sqlx::{
    Row, TypeInfo as _, ValueRef as _,
    postgres::{PgRow, PgValueRef},
    sqlite::{SqliteRow, SqliteValueRef},
};

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
pub(super) const NO_HASH: Hash = [0xFF; 32];

pub(super) fn hash_of(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or(NO_HASH)
}

/// A text of a row that was perhaps tampered with, as [`Cells::text`] reads it.
pub(super) struct Said(pub(super) String);

/// A number of one, as [`Cells::number`] reads it.
pub(super) struct Number(pub(super) i64);

/// Reads whatever stands there.
macro_rules! whatever {
    ($engine:ty, $value:ty, $kind:ty, $to:ident, $read:expr) => {
        impl sqlx::Type<$engine> for $to {
            fn type_info() -> <$engine as sqlx::Database>::TypeInfo {
                <$kind as sqlx::Type<$engine>>::type_info()
            }

            fn compatible(_: &<$engine as sqlx::Database>::TypeInfo) -> bool {
                true
            }
        }

        impl<'r> sqlx::Decode<'r, $engine> for $to {
            fn decode(value: $value) -> Result<Self, sqlx::error::BoxDynError> {
                let read: fn($value) -> $kind = $read;
                Ok(Self(read(value)))
            }
        }
    };
}
whatever!(sqlx::Sqlite, SqliteValueRef<'r>, String, Said, said);
whatever!(sqlx::Sqlite, SqliteValueRef<'r>, i64, Number, number);
whatever!(sqlx::Postgres, PgValueRef<'r>, String, Said, |value| decoded(value).unwrap_or_else(|| "\0".to_owned()));
whatever!(sqlx::Postgres, PgValueRef<'r>, i64, Number, |value| decoded(value).unwrap_or(i64::MIN));

/// What PostgreSQL says is of this type.
fn decoded<'r, T: sqlx::Type<sqlx::Postgres> + sqlx::Decode<'r, sqlx::Postgres>>(value: PgValueRef<'r>) -> Option<T> {
    let fits = !value.is_null() && T::compatible(&value.type_info());
    if fits { T::decode(value).ok() } else { None }
}

/// What is no text has U+0000 at its end, which no text that lokid stores holds: it cannot pass for one.
pub(super) fn shown(bytes: &[u8], is_text: bool) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_text => text.into(),
        _ => format!("{}\0", String::from_utf8_lossy(bytes)).into(),
    }
}

fn said(value: SqliteValueRef<'_>) -> String {
    if value.is_null() {
        return "\0".to_owned();
    }
    let is_text = value.type_info().name() == "TEXT";
    let bytes = <&[u8] as sqlx::Decode<'_, sqlx::Sqlite>>::decode(value).unwrap_or_default();
    shown(bytes, is_text).into_owned()
}

fn number(value: SqliteValueRef<'_>) -> i64 {
    let is_number = !value.is_null() && value.type_info().name() == "INTEGER";
    if is_number { <i64 as sqlx::Decode<'_, sqlx::Sqlite>>::decode(value).unwrap_or(i64::MIN) } else { i64::MIN }
}

/// The columns of an entry, by their places.
trait Cells {
    /// No entry was written at the time that stands for what is no number.
    fn number(&self, at: usize) -> i64;
    /// What is no text, as [`shown`] shows it.
    fn text(&self, at: usize) -> String;
    fn hash(&self, at: usize) -> Hash;
    fn is_missing(&self, at: usize) -> bool;
}

/// SQLite keeps anything in any column, once the table was built anew.
impl Cells for SqliteRow {
    fn number(&self, at: usize) -> i64 {
        self.try_get_raw(at).map_or(i64::MIN, number)
    }

    fn text(&self, at: usize) -> String {
        self.try_get_raw(at).map_or_else(|_| "\0".to_owned(), said)
    }

    fn hash(&self, at: usize) -> Hash {
        let is_blob = |value: SqliteValueRef<'_>| !value.is_null() && value.type_info().name() == "BLOB";
        if self.try_get_raw(at).is_ok_and(is_blob) { self.try_get(at).map_or(NO_HASH, hash_of) } else { NO_HASH }
    }

    fn is_missing(&self, at: usize) -> bool {
        self.try_get_raw(at).is_ok_and(|value| value.is_null())
    }
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
