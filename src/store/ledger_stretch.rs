//! A stretch of the log as the database said it, for whoever reads millions of entries: it is taken apart where no
//! request waits for it, and nothing of it is copied. What does not add up was not written by lokid; then the stretch is
//! read column by column.

use std::path::PathBuf;

use rusqlite::Connection;
use sqlx::{AssertSqlSafe, PgPool, Row as _, ValueRef as _, postgres::PgRow};

use super::{
    Store, StoreError,
    dialect::{Db, in_time},
    ledger::{Filter, SELECT},
    ledger_file::{self, Lines},
    ledger_filter::bind_filter,
};
use crate::domain::{
    ledger::{Entry, Hash, View},
    time::Moment,
};

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
    Lines(Lines),
    Rows(Vec<PgRow>),
}

/// Reads the log from one end to the other.
pub struct Reader(Source);

enum Source {
    File(File),
    Server(PgPool),
}

struct File {
    path: PathBuf,
    /// Elsewhere while it is used; one that did not come back is opened anew.
    conn: Option<Connection>,
}

impl Store {
    /// A stretch of the entries that fit, oldest first, column by column. Whoever reads millions takes a [`Reader`].
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_stretch(&self, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        self.audit_page(&Filter { oldest_first: true, in_order: true, ..filter.clone() }, AT_ONCE).await
    }

    /// For whoever reads the whole log.
    pub fn audit_reader(&self) -> Reader {
        Reader(match &self.db {
            Db::Sqlite(pool) => {
                Source::File(File { path: pool.connect_options().get_filename().to_owned(), conn: None })
            }
            Db::Postgres(pool) => Source::Server(pool.clone()),
        })
    }
}

impl Reader {
    /// A stretch of all entries between the filter's places.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn stretch(&mut self, asked: Filter) -> Result<Stretch, StoreError> {
        let asked = Filter { oldest_first: true, ..asked };
        match &mut self.0 {
            Source::File(file) => {
                let read = move |conn: &Connection| {
                    let lines = Lines::read(conn, &asked, AT_ONCE)?;
                    Ok(Stretch { asked, last: lines.last(), read: Read::Lines(lines) })
                };
                file.look(read).await
            }
            Source::Server(pool) => in_time(rows(pool, asked)).await,
        }
    }

    /// On SQLite, shows `is_odd` every place that stands in the table, in the order in which it stands there, until one is
    /// odd; that one, and the state as it is then. A stretch is looked for by its first place, and whoever writes to the
    /// file can make SQLite look past entries that it shows at other times. Of PostgreSQL nothing is shown.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn odd_place<S>(
        &mut self,
        state: S,
        is_odd: fn(&mut S, i64) -> bool,
    ) -> Result<(Option<i64>, S), StoreError>
    where
        S: Send + 'static,
    {
        let Source::File(file) = &mut self.0 else { return Ok((None, state)) };
        let mut state = state;
        file.look(move |conn| {
            let odd = ledger_file::odd_place(conn, |place| is_odd(&mut state, place))?;
            Ok((odd, state))
        })
        .await
    }
}

impl File {
    /// Looks into it where no request waits.
    async fn look<T, L>(&mut self, look: L) -> Result<T, StoreError>
    where
        T: Send + 'static,
        L: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (path, ready) = (self.path.clone(), self.conn.take());
        let looked = aside(move || {
            let conn = ready.map_or_else(|| ledger_file::open(&path), Ok)?;
            let found = look(&conn)?;
            Ok::<_, StoreError>((conn, found))
        });
        let (conn, found) = looked.await?;
        self.conn = Some(conn);
        Ok(found)
    }
}

async fn rows(pool: &PgPool, asked: Filter) -> Result<Stretch, StoreError> {
    let query = sqlx::query(AssertSqlSafe(asked.sql(SELECT)));
    let rows = bind_filter!(query, asked).bind(AT_ONCE).fetch_all(pool).await?;
    let last = rows.last().map(|row| row.try_get(0)).transpose()?;
    Ok(Stretch { asked, last, read: Read::Rows(rows) })
}

/// Does what keeps a thread busy for a moment where no request waits for it.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

impl Stretch {
    /// What was asked for and is here: no entry behind the last one.
    pub fn here(&self) -> Filter {
        self.last.map_or_else(|| self.asked.clone(), |last| self.asked.clone().up_to(last))
    }

    /// The entries; `None` when something of them does not add up.
    pub fn views(&self) -> Option<Vec<View<'_>>> {
        match &self.read {
            Read::Lines(lines) => lines.views(),
            Read::Rows(rows) => rows.iter().map(|row| view(&mut Columns { row, at: 0 })).collect(),
        }
    }
}

/// What does not add up.
pub(super) struct Odd;

/// The fields of an entry one after another, in the order of the table.
pub(super) trait Fields<'l> {
    fn number(&mut self) -> Option<i64>;
    fn text(&mut self) -> Option<&'l str>;
    fn optional(&mut self) -> Result<Option<&'l str>, Odd>;
    fn hash(&mut self) -> Option<Hash>;
}

/// The entry of these fields.
pub(super) fn view<'l>(fields: &mut impl Fields<'l>) -> Option<View<'l>> {
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
