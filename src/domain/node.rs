//! The nodes that work on one database.

use std::time::Duration;

use super::{rotation::SKEW, time::Moment};

/// A node, as it said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// lokid's version.
    pub version: String,
    /// The keys that it publishes; the first signs.
    pub keys: Vec<String>,
    /// Since when it runs, by its own clock.
    pub started_at: Moment,
    /// When it was heard of last, by the database's clock.
    pub seen_at: Moment,
    /// Grows each time that it is heard of. Whoever sees this stand still for a lease, by their own clock, knows that it is
    /// dead whatever any clock shows.
    pub beats: i64,
    /// When it said that it ends, by the database's clock. Of no meaning once it was heard of again.
    pub stopped_at: Option<Moment>,
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may live.
    Lives,
    /// It ended in order.
    Stopped,
    /// It is silent.
    Gone,
}

impl State {
    /// For people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lives => "lives",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }
}

impl Node {
    /// What is known of it, for somebody who has not watched it: clocks differ.
    pub fn state(&self, lease: Duration, now: Moment) -> State {
        if self.stopped_at.is_some_and(|at| at >= self.seen_at) {
            State::Stopped
        } else if self.seen_at.plus(lease + SKEW) > now {
            State::Lives
        } else {
            State::Gone
        }
    }

    /// Whether it may live.
    pub fn may_live(&self, lease: Duration, now: Moment) -> bool {
        self.state(lease, now) == State::Lives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_said_that_it_ends_is_stopped_until_it_is_heard_of_again() {
        let at = |seconds: i64| Moment::from_seconds(1000 + seconds);
        let node = |seen_at, stopped_at| Node {
            name: "a".into(),
            version: "1".into(),
            keys: Vec::new(),
            started_at: at(0),
            seen_at,
            beats: 1,
            stopped_at,
        };
        let lease = Duration::from_secs(30);
        assert_eq!(node(at(5), None).state(lease, at(6)), State::Lives);
        assert_eq!(node(at(5), Some(at(5))).state(lease, at(6)), State::Stopped);
        assert_eq!(node(at(6), Some(at(5))).state(lease, at(7)), State::Lives, "a version before did not take it back");
        assert_eq!(node(at(5), None).state(lease, at(5).plus(lease + SKEW)), State::Gone);
    }
}
