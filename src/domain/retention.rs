//! How long entries are kept: refusals and uses for one while, acts for another.

use std::time::Duration;

use super::{
    chain::Hole,
    event::{Durability, EventName},
    ledger::Entry,
    time::Moment,
};

/// How old entries become. `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    /// What somebody did.
    pub acts: Option<Duration>,
    /// Refusals and uses: events that are recorded or counted.
    pub noise: Option<Duration>,
}

impl Ages {
    /// Whether nothing is ever taken out.
    pub const fn keep_all(&self) -> bool {
        self.acts.is_none() && self.noise.is_none()
    }

    /// Whether an entry of this event and time is too old. An event that this version does not know is an act.
    pub fn is_over(&self, event: &str, time: Moment, now: Moment) -> bool {
        let age = if is_noise(event) { self.noise } else { self.acts };
        age.is_some_and(|age| time < now.minus(age))
    }

    /// Entries that are younger than this are all kept.
    pub fn before(&self, now: Moment) -> Option<Moment> {
        let shortest = [self.acts, self.noise].into_iter().flatten().min()?;
        Some(now.minus(shortest))
    }
}

/// Whether events of this name are of the record-or-count class.
pub fn is_noise(event: &str) -> bool {
    EventName::find(event).is_some_and(|name| name.durability() == Durability::RecordOrCount)
}

/// The hole that an entry leaves.
pub const fn hole_of(entry: &Entry) -> Hole {
    let (seq, hash) = (entry.seq, entry.hash);
    Hole { first_seq: seq, last_seq: seq, prev_hash: entry.prev_hash, first_hash: hash, last_hash: hash }
}

/// Holes in the order of their places, those that touch as one.
pub fn joined(holes: impl IntoIterator<Item = Hole>) -> Vec<Hole> {
    let mut out: Vec<Hole> = Vec::new();
    for hole in holes {
        match out.last_mut() {
            Some(last) => match last.joined(&hole) {
                Some(both) => *last = both,
                None => out.push(hole),
            },
            None => out.push(hole),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn refusals_and_uses_go_earlier_than_acts_and_the_unknown_is_an_act() {
        let ages = Ages { acts: Some(365 * DAY), noise: Some(90 * DAY) };
        let now = Moment::from_seconds(0).plus(1000 * DAY);
        let over = |event, days: u32| ages.is_over(event, now.minus(days * DAY), now);
        assert!(!over("auth.fail", 90) && over("auth.fail", 91));
        for act in ["auth.token.create", "key.add", "audit.gap", "an.event.of.later"] {
            assert!(!over(act, 365) && over(act, 366), "{act}");
        }
        assert!(!Ages::default().is_over("auth.fail", Moment::from_seconds(0), now));
        assert_eq!(ages.before(now), Some(now.minus(90 * DAY)));
        assert_eq!(Ages::default().before(now), None);
    }

    #[test]
    fn holes_that_touch_become_one_and_others_stay() {
        let hash = |n: i64| [u8::try_from(n).unwrap(); 32];
        let hole = |first: i64, last: i64| Hole {
            first_seq: first,
            last_seq: last,
            prev_hash: hash(first - 1),
            first_hash: hash(first),
            last_hash: hash(last),
        };
        assert_eq!(joined([hole(1, 2), hole(3, 3), hole(5, 6), hole(7, 7)]), [hole(1, 3), hole(5, 7)]);
        assert_eq!(joined([]), []);
    }
}
