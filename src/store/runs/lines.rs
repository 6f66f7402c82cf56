//! Logs of runs: taken over in stretches, each exactly once, and read from their end or from a place on.

use crate::{
    domain::{
        ledger::storable,
        run::{RunId, RunState},
        time::Moment,
    },
    store::{
        Act, Batch, Store, StoreError,
        dialect::{Texts, insert_many, pieces},
        statements::statements,
    },
};

statements! {
    /// How much of a run's output was taken over, and as how many lines.
    TAKEN = "SELECT log_bytes, log_lines FROM runs WHERE id = $1";
    /// The same, and what is wanted of the run.
    WANTED = "SELECT log_bytes, state, stop_asked_at FROM runs WHERE id = $1";
    /// The last place of all.
    LAST_POS = "SELECT MAX(pos) FROM run_lines";
    /// So much was taken over.
    SET_TAKEN = "UPDATE runs SET log_bytes = $1, log_lines = $2 WHERE id = $3";
    /// Lines of one run from a number on.
    OF_RUN = "SELECT pos, run, n, time, stream, text FROM (SELECT pos, run, n, time, stream, text, \
         SUM(LENGTH(text)) OVER (ORDER BY n) AS size FROM run_lines WHERE run = $1 AND n > $2 AND n <= $2 + $3) l \
         WHERE size <= 4194304 ORDER BY n";
    /// The last lines of all runs, newest first.
    LATEST = "SELECT pos, run, n, time, stream, text FROM (SELECT pos, run, n, time, stream, text, \
         SUM(LENGTH(text)) OVER (ORDER BY pos DESC) AS size FROM (SELECT * FROM run_lines ORDER BY pos DESC LIMIT $1) m) l \
         WHERE size <= 4194304 ORDER BY pos DESC";
    /// The last lines of one run up to a number, newest first.
    LAST_OF_RUN = "SELECT pos, run, n, time, stream, text FROM (SELECT pos, run, n, time, stream, text, \
         SUM(LENGTH(text)) OVER (ORDER BY n DESC) AS size FROM run_lines WHERE run = $1 AND n > $2 AND n <= $2 + $3) l \
         WHERE size <= 4194304 ORDER BY n DESC";
    /// Lines of all runs behind a place.
    BEHIND = "SELECT pos, run, n, time, stream, text FROM run_lines WHERE pos > $1 ORDER BY pos LIMIT $2";
}

static INSERT: Texts =
    Texts::new(|rows| insert_many("run_lines", &["pos", "run", "n", "time", "stream", "text"], rows));

/// A line that a process printed, made harmless already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// When it was read.
    pub time: Moment,
    /// `out` or `err`.
    pub stream: &'static str,
    /// What it says.
    pub text: String,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its place among all lines of all runs.
    pub pos: i64,
    /// Whose it is.
    pub run: String,
    /// Its number in that run's log, from 1.
    pub n: i64,
    /// When it was read.
    pub time: Moment,
    /// `out` or `err`.
    pub stream: String,
    /// What it says.
    pub text: String,
}

type Row = (i64, String, i64, i64, String, String);

fn read((pos, run, n, time, stream, text): Row) -> Line {
    Line { pos, run, n, time: Moment::from_millis(time), stream, text }
}

/// Takes over lines of a run's output, if it was taken over up to `from` before.
#[derive(Debug)]
pub struct TakeLines {
    /// The run.
    pub id: RunId,
    /// How many bytes were taken over before these lines.
    pub from: i64,
    /// How many are with them.
    pub to: i64,
    /// The lines.
    pub lines: Vec<NewLine>,
}

impl Act for TakeLines {
    /// How many bytes are taken over now; `None` when there is no such run.
    type Output = Option<i64>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let (conn, id) = (batch.conn().await?, self.id.as_str());
        let taken: Option<(i64, i64)> =
            on_conn!(conn, conn => sqlx::query_as(TAKEN).bind(id).fetch_optional(conn).await?);
        let Some((bytes, lines)) = taken else { return Ok(None) };
        if bytes != self.from {
            return Ok(Some(bytes));
        }
        let last: Option<i64> = on_conn!(conn, conn => sqlx::query_scalar(LAST_POS).fetch_one(conn).await?);
        let (mut pos, mut n) = (last.unwrap_or(0), lines);
        for piece in pieces(&self.lines) {
            let sql = INSERT.rows(conn.engine(), piece.len());
            on_conn!(conn, conn => {
                let mut query = sqlx::query(sql);
                for line in piece {
                    (pos, n) = (pos + 1, n + 1);
                    let text = storable(line.text.clone());
                    query = query.bind(pos).bind(id).bind(n).bind(line.time.millis()).bind(line.stream).bind(text);
                }
                query.execute(conn).await?;
            });
        }
        on_conn!(conn, conn => { sqlx::query(SET_TAKEN).bind(self.to).bind(n).bind(id).execute(conn).await?; });
        Ok(Some(self.to))
    }
}

impl Store {
    /// How many bytes of a run's output were taken over, what state is wanted of it, and when it was asked to stop; `None`
    /// when there is no such run.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn run_wanted(&self, id: &RunId) -> Result<Option<(i64, RunState, Option<Moment>)>, StoreError> {
        let row: Option<(i64, String, Option<i64>)> =
            on_db!(&self.db, pool => sqlx::query_as(WANTED).bind(id.as_str()).fetch_optional(pool).await?);
        let read = |(bytes, state, asked): (i64, String, Option<i64>)| {
            let state = state.parse().map_err(|_| StoreError::Damaged("a run's state"))?;
            Ok((bytes, state, asked.map(Moment::from_millis)))
        };
        row.map(read).transpose()
    }

    /// The last of the lines of a run's log whose number is above `after`, in order: as many as there are, but not more than
    /// 4 MiB of text.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn last_run_lines(&self, id: &RunId, after: i64, limit: i64) -> Result<Vec<Line>, StoreError> {
        let rows: Vec<Row> = on_db!(&self.db, pool =>
            sqlx::query_as(LAST_OF_RUN).bind(id.as_str()).bind(after).bind(limit).fetch_all(pool).await?);
        Ok(rows.into_iter().rev().map(read).collect())
    }

    /// Lines of a run's log whose number is above `after`, in order; not more than 4 MiB of text.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn run_lines(&self, id: &RunId, after: i64, limit: i64) -> Result<Vec<Line>, StoreError> {
        let rows: Vec<Row> = on_db!(&self.db, pool =>
            sqlx::query_as(OF_RUN).bind(id.as_str()).bind(after).bind(limit).fetch_all(pool).await?);
        Ok(rows.into_iter().map(read).collect())
    }

    /// The last lines of all runs, in order; not more than 4 MiB of text.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn latest_lines(&self, limit: i64) -> Result<Vec<Line>, StoreError> {
        let rows: Vec<Row> = on_db!(&self.db, pool => sqlx::query_as(LATEST).bind(limit).fetch_all(pool).await?);
        Ok(rows.into_iter().rev().map(read).collect())
    }

    /// Lines of all runs behind a place, in order.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn lines_behind(&self, pos: i64, limit: i64) -> Result<Vec<Line>, StoreError> {
        let rows: Vec<Row> =
            on_db!(&self.db, pool => sqlx::query_as(BEHIND).bind(pos).bind(limit).fetch_all(pool).await?);
        Ok(rows.into_iter().map(read).collect())
    }

    /// The place of the last line of all; 0 when there is none.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn last_line(&self) -> Result<i64, StoreError> {
        let last: Option<i64> = on_db!(&self.db, pool => sqlx::query_scalar(LAST_POS).fetch_one(pool).await?);
        Ok(last.unwrap_or(0))
    }
}
