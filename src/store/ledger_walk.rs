//! Reading the log from its beginning on, a stretch at a time: memory stays flat and no statement takes long,
//! however long the log is.

use super::{Store, StoreError, ledger::Filter};
use crate::domain::{
    chain::{Fault, Walk},
    ledger::{Entry, Head},
};

/// Entries of one stretch.
pub(super) const AT_ONCE: i64 = 1_024;

impl Store {
    /// A stretch of the entries that fit, oldest first. Whoever reads millions takes `store::ledger_stretch`.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn audit_stretch(&self, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        self.audit_page(&Filter { oldest_first: true, ..filter.clone() }, AT_ONCE).await
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
