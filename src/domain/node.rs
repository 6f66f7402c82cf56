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
    /// When it was heard of last, by its own clock.
    pub seen_at: Moment,
    /// How often it was heard of. Whoever sees this stand still for a lease, by their own clock, knows that it is dead
    /// whatever its clock shows.
    pub beats: i64,
}

impl Node {
    /// Whether it may live, for somebody who has not watched it: clocks differ.
    pub fn may_live(&self, lease: Duration, now: Moment) -> bool {
        self.seen_at.plus(lease + SKEW) > now
    }
}
