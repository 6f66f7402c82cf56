//! Finding a stretch of time in a log that is ordered by place.
//!
//! An index over the time finds the entries of an hour, but in the order of their times: to show the last fifty of them
//! by place, all have to be read and sorted. Places and times run almost in parallel, though; clocks that are set, and
//! nodes that write at once, are all that disturbs it. So of each block of places the earliest and the latest time are
//! kept, and only places between the first and the last block that may fit are looked at, in the order of places. Places
//! that no block counts yet are looked at apart. What is kept here is no evidence, and nobody waits for it to be written.

use super::{Act, Batch, Store, StoreError, ledger::Filter, statements::statements};
use crate::domain::time::Moment;

statements! {
    /// How far it is written.
    LAST = "SELECT MAX(block) FROM audit_times";
    /// The first place that there is.
    FIRST_PLACE = "SELECT MIN(seq) FROM audit";
    /// The times of some blocks.
    OF_BLOCKS = "SELECT seq / 1024 AS block, MIN(time), MAX(time) FROM audit WHERE seq >= $1 AND seq < $2 GROUP BY seq / 1024";
    /// One more.
    ADD = "INSERT INTO audit_times (block, earliest, latest) VALUES ($1, $2, $3) ON CONFLICT (block) DO NOTHING";
    /// Blocks that may hold something between two moments, as stretches of neighbours.
    BETWEEN_TIMES = "SELECT MIN(block) AS first, MAX(block) FROM (SELECT block, block - ROW_NUMBER() OVER (ORDER BY block) AS stretch \
         FROM audit_times WHERE latest >= $1 AND earliest < $2 AND block <= $4) fitting GROUP BY stretch ORDER BY first LIMIT $3";
}

/// Places in a block, as `OF_BLOCKS` says it too.
const BLOCK: i64 = 1024;
/// Blocks that one step looks at.
const STEP: i64 = 64;
/// Stretches that are looked at one by one; of more, everything between the first and the last is.
const STRETCHES: i64 = 32;

impl Store {
    /// Writes down the times of some blocks that are full. Answers whether there were any.
    ///
    /// # Errors
    /// When the database cannot say, or take it.
    pub async fn note_times(&self) -> Result<bool, StoreError> {
        let last: (Option<i64>,) = on_db!(&self.db, pool => sqlx::query_as(LAST).fetch_one(pool).await?);
        let full = self.audit_head().await?.seq.saturating_add(1) / BLOCK;
        let first = match last {
            (Some(last),) => last.saturating_add(1),
            (None,) => {
                let place: (Option<i64>,) =
                    on_db!(&self.db, pool => sqlx::query_as(FIRST_PLACE).fetch_one(pool).await?);
                place.0.unwrap_or(0) / BLOCK
            }
        };
        let end = full.min(first.saturating_add(STEP));
        if first >= end {
            return Ok(false);
        }
        let found: Vec<(i64, i64, i64)> = on_db!(&self.db, pool =>
            sqlx::query_as(OF_BLOCKS).bind(first * BLOCK).bind(end * BLOCK).fetch_all(pool).await?);
        // Of one that retention emptied: no time fits.
        let of = |block| {
            let times = found.iter().find(|(found, ..)| *found == block);
            times.map_or((block, i64::MAX, i64::MIN), |times| *times)
        };
        self.act(NoteTimes { blocks: (first..end).map(of).collect() }).await?;
        Ok(true)
    }

    /// The filters to ask one after another, in the order of the page, for what this one asks for.
    pub(super) async fn by_place(&self, filter: &Filter) -> Result<Vec<Filter>, StoreError> {
        if filter.start.is_none() && filter.end.is_none() {
            return Ok(vec![filter.clone()]);
        }
        let start = filter.start.map_or(i64::MIN, Moment::millis);
        let end = filter.end.map_or(i64::MAX, Moment::millis);
        let last: (Option<i64>,) = on_db!(&self.db, pool => sqlx::query_as(LAST).fetch_one(pool).await?);
        // Of those that are noted meanwhile the places are looked at as newer ones.
        let known = last.0.unwrap_or(i64::MIN);
        let mut fitting: Vec<(i64, i64)> = on_db!(&self.db, pool => sqlx::query_as(BETWEEN_TIMES).bind(start).bind(end)
            .bind(STRETCHES + 1).bind(known).fetch_all(pool).await?);
        if i64::try_from(fitting.len()).unwrap_or(i64::MAX) > STRETCHES {
            fitting = vec![(fitting[0].0, known)];
        }
        // Whatever somebody wrote there.
        let begin = |block: i64| block.saturating_mul(BLOCK);
        let newer = (last.0.map_or(0, |last| begin(last.saturating_add(1))), i64::MAX);
        let counted = fitting.into_iter().map(|(first, last)| (begin(first), begin(last.saturating_add(1)) - 1));
        let mut places: Vec<(i64, i64)> = counted.chain([newer]).collect();
        if !(filter.oldest_first || filter.after.is_some()) {
            places.reverse();
        }
        Ok(places.into_iter().map(|places| Filter { places: Some(places), ..filter.clone() }).collect())
    }
}

/// The times of blocks, each its number, the earliest and the latest.
#[derive(Debug)]
struct NoteTimes {
    blocks: Vec<(i64, i64, i64)>,
}

impl Act for NoteTimes {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        for (block, earliest, latest) in &self.blocks {
            on_conn!(batch.conn().await?, conn => {
                sqlx::query(ADD).bind(block).bind(earliest).bind(latest).execute(conn).await?;
            });
        }
        Ok(())
    }
}
