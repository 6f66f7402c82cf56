//! Which places an examination has seen entries at, to compare them with all that stand in the table.

/// Places of one block.
const BLOCK: i64 = 1_024;

/// A set of places that only grows upwards: a bit each, in the blocks that hold any.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(i64, [u64; 16])>);

impl Places {
    /// Adds one that is above all before.
    pub(super) fn add(&mut self, place: i64) {
        let (block, (word, bit)) = (place.div_euclid(BLOCK), at(place));
        if self.0.last().is_none_or(|(last, _)| *last != block) {
            self.0.push((block, [0; 16]));
        }
        if let Some((_, bits)) = self.0.last_mut() {
            bits[word] |= bit;
        }
    }

    pub(super) fn has(&self, place: i64) -> bool {
        let (block, (word, bit)) = (place.div_euclid(BLOCK), at(place));
        self.0.binary_search_by_key(&block, |(block, _)| *block).is_ok_and(|found| self.0[found].1[word] & bit != 0)
    }
}

/// All that stand in a table, compared with those that were seen.
#[derive(Debug)]
pub(super) struct Compared {
    seen: Places,
    /// Up to where the examination came; what lies behind may have been added since.
    head: i64,
    last: Option<i64>,
    /// The first one behind.
    pub(super) beyond: Option<i64>,
}

impl Compared {
    pub(super) fn with(seen: Places, head: i64) -> Self {
        Self { seen, head, last: None, beyond: None }
    }

    /// Whether this one cannot stand here: behind one that is not below it, or where none was seen.
    pub(super) fn is_odd(&mut self, place: i64) -> bool {
        let grows = self.last.is_none_or(|last| last < place);
        self.last = Some(place);
        if place > self.head {
            self.beyond.get_or_insert(place);
        }
        !grows || (place <= self.head && !self.seen.has(place))
    }

    /// The last one that stands there.
    pub(super) fn last(&self) -> i64 {
        self.last.unwrap_or(self.head)
    }
}

/// The word of a place in its block, and its bit there.
fn at(place: i64) -> (usize, u64) {
    let within = place.rem_euclid(BLOCK);
    (usize::try_from(within / 64).unwrap_or(0), 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_nothing_else() {
        let mut places = Places::default();
        let added = [i64::MIN, -1, 0, 1, 63, 64, 1023, 1024, 5000, i64::MAX];
        added.iter().for_each(|place| places.add(*place));
        assert!(added.iter().all(|place| places.has(*place)));
        assert!(![-2, 2, 62, 65, 1022, 1025, 4999, i64::MAX - 1].iter().any(|place| places.has(*place)));
    }

    #[test]
    fn a_place_is_odd_that_was_not_seen_or_stands_twice_or_too_late() {
        let odd = |table: &[i64]| {
            let mut seen = Places::default();
            [1, 2, 3, 7].iter().for_each(|place| seen.add(*place));
            let mut compared = Compared::with(seen, 7);
            let odd = table.iter().copied().find(|place| compared.is_odd(*place));
            (odd, compared.beyond, compared.last())
        };
        assert_eq!(odd(&[1, 2, 3, 7]), (None, None, 7));
        // What retention took out meanwhile, and what came since.
        assert_eq!(odd(&[3, 7, 8, 9]), (None, Some(8), 9));
        assert_eq!(odd(&[]), (None, None, 7));
        assert_eq!(odd(&[1, 2, 3, 5, 7]).0, Some(5));
        assert_eq!(odd(&[0, 1, 2]).0, Some(0));
        assert_eq!(odd(&[1, 2, 2, 3]).0, Some(2));
        assert_eq!(odd(&[1, 3, 2, 7]).0, Some(2));
        assert_eq!(odd(&[1, 8, 9, 9]).0, Some(9));
    }
}
