//! The chain read entry by entry, in another way than `audit::verify` reads it.

use lokid::{
    domain::{
        chain::{Fault, Walk},
        ledger::Head,
    },
    store::{Store, ledger::Filter},
};

/// Walks the whole chain, over what retention took out; or how far it came, and what is wrong there. Signatures are not
/// looked at.
pub(crate) async fn walk(store: &Store) -> Result<Head, (Head, Fault)> {
    let mut walk = Walk::from_the_start();
    let mut filter = Filter::default();
    loop {
        let entries = store.audit_stretch(&filter).await.unwrap();
        let Some(last) = entries.last() else { return Ok(walk.head()) };
        let mut stones = store.tombstones(walk.head().seq, last.seq).await.unwrap().into_iter().peekable();
        filter.after = Some(last.seq);
        for (at, entry) in entries.iter().enumerate() {
            while let Some(stone) = stones.next_if(|stone| stone.hole.last_seq < entry.seq) {
                if stone.hole.first_seq == walk.head().seq + 1 && stone.hole.prev_hash == walk.head().hash {
                    walk.jump(Head { seq: stone.hole.last_seq, hash: stone.hole.last_hash });
                }
            }
            if let Err(fault) = walk.step(entry) {
                return Err((walk.head(), walk.named(fault, entry, entries.get(at + 1))));
            }
        }
    }
}
