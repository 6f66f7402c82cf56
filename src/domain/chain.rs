//! Walking the audit log's chain: whether each entry is the one that was written, in its place, and, where one
//! is not, what was done to the log.

use super::ledger::{Entry, Hash, Head, View};

/// What is wrong with a log, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An entry's content is not what was hashed.
    #[error("entry {seq} was changed: its content does not have the hash that it carries")]
    Edited {
        /// The first bad place.
        seq: i64,
    },
    /// An entry stands where none was written.
    #[error("an entry was put in at {seq}: what stands there was not written there")]
    Inserted {
        /// The first bad place.
        seq: i64,
    },
    /// Entries changed places.
    #[error("entries were reordered: in place {seq} stands entry {original}")]
    Reordered {
        /// The first bad place.
        seq: i64,
        /// Where the entry that stands there was written.
        original: i64,
    },
    /// Places are missing.
    #[error("entry {seq} is missing")]
    Missing {
        /// The first missing place.
        seq: i64,
    },
    /// An entry is whole in itself but does not follow the one before it.
    #[error("entry {seq} does not follow entry {before}: {before} was written anew, or {seq} comes from another log")]
    Unlinked {
        /// The first bad place.
        seq: i64,
        /// The place before it.
        before: i64,
    },
}

impl Fault {
    /// The first place at which the chain cannot be believed.
    pub const fn seq(&self) -> i64 {
        match self {
            Self::Edited { seq }
            | Self::Inserted { seq }
            | Self::Reordered { seq, .. }
            | Self::Missing { seq }
            | Self::Unlinked { seq, .. } => *seq,
        }
    }
}

/// How far from its place an entry is looked for that was moved.
const FAR: i64 = 65_536;
/// Bytes that are hashed to find that place. A long entry is looked for less far.
const MOST_HASHED: usize = 32 << 20;

/// Walks a chain entry by entry, with memory for one.
#[derive(Debug, Clone)]
pub struct Walk {
    head: Head,
    scratch: Vec<u8>,
}

impl Walk {
    /// From the first entry on.
    pub const fn from_the_start() -> Self {
        Self::from(Head::EMPTY)
    }

    /// From behind an entry that is believed.
    pub const fn from(head: Head) -> Self {
        Self { head, scratch: Vec::new() }
    }

    /// Checks the next entry.
    ///
    /// # Errors
    /// The first thing that is wrong with it; [`Self::named`] looks closer.
    pub fn step(&mut self, entry: &Entry) -> Result<(), Fault> {
        self.pass(&entry.view())
    }

    /// As [`Self::step`].
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn pass(&mut self, entry: &View<'_>) -> Result<(), Fault> {
        let expected = self.head.seq + 1;
        if entry.seq > expected {
            return Err(Fault::Missing { seq: expected });
        }
        if entry.hash_with(&mut self.scratch) != entry.hash {
            return Err(Fault::Edited { seq: entry.seq });
        }
        if entry.seq < expected {
            return Err(Fault::Inserted { seq: entry.seq });
        }
        if entry.prev_hash != self.head.hash {
            return Err(Fault::Unlinked { seq: entry.seq, before: self.head.seq });
        }
        self.head = Head { seq: entry.seq, hash: entry.hash };
        Ok(())
    }

    /// Goes on behind a stretch that is not there any more: `last` is its end.
    pub const fn jump(&mut self, last: Head) {
        self.head = last;
    }

    /// Where the walk has come to.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What was done, as far as the bad entry and the one behind it tell: a hash covers the place too, so an
    /// entry that was moved still tells where it was written.
    pub fn named(&self, fault: Fault, entry: &Entry, next: Option<&Entry>) -> Fault {
        let expected = self.head.seq + 1;
        match fault {
            // Of whole entries in the wrong order: the missing one comes later.
            Fault::Missing { seq } if next.is_some_and(|next| next.seq < entry.seq) => {
                Fault::Reordered { seq, original: entry.seq }
            }
            Fault::Edited { seq } => match written_at(entry) {
                Some(original) if original < expected || seq < expected => Fault::Inserted { seq },
                // Those behind it moved up as far: what stood here is gone, and the rest was numbered anew.
                Some(original) => match next.map(|next| (next.seq, written_at(next))) {
                    Some((_, Some(behind))) if behind < original => Fault::Reordered { seq, original },
                    _ => Fault::Missing { seq },
                },
                None => Fault::Edited { seq },
            },
            other => other,
        }
    }
}

/// The place for which the entry's hash is right: its own, or one near by.
fn written_at(entry: &Entry) -> Option<i64> {
    let mut moved = entry.clone();
    let mut scratch = Vec::new();
    if moved.hash_with(&mut scratch) == entry.hash {
        return Some(entry.seq);
    }
    let far = i64::try_from(MOST_HASHED / scratch.len().max(1)).unwrap_or(FAR).min(FAR);
    (1..=far).flat_map(|by| [entry.seq.saturating_add(by), entry.seq.saturating_sub(by)]).find(|seq| {
        moved.seq = *seq;
        moved.hash_with(&mut scratch) == entry.hash
    })
}

/// A stretch that retention took out: the chain goes on from `last_hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first place that is gone.
    pub first_seq: i64,
    /// The last.
    pub last_seq: i64,
    /// What the first one named as the hash before it.
    pub prev_hash: Hash,
    /// The hash of the first one.
    pub first_hash: Hash,
    /// The hash of the last one.
    pub last_hash: Hash,
}

impl Hole {
    /// How many entries are gone.
    pub const fn count(&self) -> i64 {
        self.last_seq - self.first_seq + 1
    }

    /// This and the one right behind it as one; `None` when something stands between them.
    pub fn joined(&self, behind: &Self) -> Option<Self> {
        let touches = behind.first_seq == self.last_seq + 1 && behind.prev_hash == self.last_hash;
        touches.then_some(Self { last_seq: behind.last_seq, last_hash: behind.last_hash, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Actor, EventName, NewEvent},
        time::Moment,
    };

    fn chain(length: i64) -> Vec<Entry> {
        let mut head = Head::EMPTY;
        let event = |n| NewEvent::new(Moment::from_millis(n), EventName::TokenCreated, Actor::system()).with("n", n);
        (1..=length).map(|n| head.append(event(n), "node-1")).collect()
    }

    fn walk(entries: &[Entry]) -> Result<Head, Fault> {
        let mut walk = Walk::from_the_start();
        for (at, entry) in entries.iter().enumerate() {
            walk.step(entry).map_err(|fault| walk.named(fault, entry, entries.get(at + 1)))?;
        }
        Ok(walk.head())
    }

    fn numbered_anew(mut entries: Vec<Entry>) -> Vec<Entry> {
        (1..).zip(&mut entries).for_each(|(seq, entry)| entry.seq = seq);
        entries
    }

    #[test]
    fn a_chain_that_nobody_touched_is_valid() {
        let entries = chain(5);
        assert_eq!(walk(&entries), Ok(Head { seq: 5, hash: entries[4].hash }));
    }

    #[test]
    fn each_tampering_has_its_own_name_and_is_found_where_it_begins() {
        let good = chain(9);
        let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = good.clone();
            change(&mut entries);
            entries
        };
        let edit = |e: &mut Vec<Entry>| e[2].reason = "nothing happened".into();
        assert_eq!(walk(&changed(&edit)), Err(Fault::Edited { seq: 3 }));
        let rehash = |e: &mut Vec<Entry>| {
            edit(e);
            e[2].hash = e[2].computed_hash();
        };
        assert_eq!(walk(&changed(&rehash)), Err(Fault::Unlinked { seq: 4, before: 3 }));

        let delete = |e: &mut Vec<Entry>| drop(e.remove(2));
        assert_eq!(walk(&changed(&delete)), Err(Fault::Missing { seq: 3 }));
        assert_eq!(walk(&numbered_anew(changed(&delete))), Err(Fault::Missing { seq: 3 }));

        let swap = |e: &mut Vec<Entry>| e.swap(1, 3);
        assert_eq!(walk(&changed(&swap)), Err(Fault::Reordered { seq: 2, original: 4 }));
        assert_eq!(walk(&numbered_anew(changed(&swap))), Err(Fault::Reordered { seq: 2, original: 4 }));

        let insert = |e: &mut Vec<Entry>| e.insert(3, e[2].clone());
        assert_eq!(walk(&changed(&insert)), Err(Fault::Inserted { seq: 3 }));
        assert_eq!(walk(&numbered_anew(changed(&insert))), Err(Fault::Inserted { seq: 4 }));
    }

    #[test]
    fn an_entry_that_was_made_up_and_hashed_is_found_by_what_it_pushed_back() {
        let good = chain(5);
        let mut head = Head { seq: 3, hash: good[2].hash };
        let event = NewEvent::new(Moment::from_millis(9), EventName::TokenRevoked, Actor::system());
        let made_up = head.append(event, "node-1");
        let mut entries = good;
        entries.insert(3, made_up);
        assert_eq!(walk(&numbered_anew(entries)), Err(Fault::Inserted { seq: 5 }));
    }

    #[test]
    fn a_walk_goes_on_behind_a_hole_and_holes_that_touch_become_one() {
        let entries = chain(6);
        let hole = |first: usize, last: usize| Hole {
            first_seq: entries[first - 1].seq,
            last_seq: entries[last - 1].seq,
            prev_hash: entries[first - 1].prev_hash,
            first_hash: entries[first - 1].hash,
            last_hash: entries[last - 1].hash,
        };
        let joined = hole(2, 3).joined(&hole(4, 4)).unwrap();
        assert_eq!((joined, joined.count()), (hole(2, 4), 3));
        assert_eq!(hole(2, 3).joined(&hole(5, 5)), None);
        let mut walk = Walk::from_the_start();
        walk.step(&entries[0]).unwrap();
        assert_eq!(walk.clone().step(&entries[4]), Err(Fault::Missing { seq: 2 }));
        walk.jump(Head { seq: joined.last_seq, hash: joined.last_hash });
        assert_eq!((walk.step(&entries[4]), walk.step(&entries[5])), (Ok(()), Ok(())));
    }
}
