//! The audit log's chain: what an entry holds, what is hashed, and what a verifier checks.
//!
//! Entry `n` holds the hash of entry `n-1`; its own hash is SHA-256 over a canonical encoding of
//! everything else in it. The encoding is part of the format: changing it needs a new `VERSION`.

use aws_lc_rs::digest;

use super::{event::NewEvent, time::Moment};

/// The first bytes of what is hashed, so that another encoding can never collide with this one.
const VERSION: &[u8] = b"lokid-audit-1\n";

/// A link's hash.
pub type Hash = [u8; 32];

/// What the first entry names as the one before it.
pub const GENESIS: Hash = [0; 32];

/// An entry as it stands in the log: plain text, so that one that was tampered with can be read too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub seq: i64,
    /// When it happened.
    pub time: Moment,
    /// The event's name.
    pub event: String,
    /// `info` or `warning`.
    pub level: String,
    /// What kind of somebody acted.
    pub actor_kind: String,
    /// Their public id.
    pub actor_id: String,
    /// What to call them.
    pub actor_name: String,
    /// What kind of thing it was done to.
    pub resource_kind: String,
    /// That thing's public id.
    pub resource_id: String,
    /// `success`, `failure` or `denied`.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The true client's address.
    pub ip: Option<String>,
    /// The caller's program.
    pub user_agent: Option<String>,
    /// The node that wrote it.
    pub node: String,
    /// A JSON object, exactly as it is stored.
    pub details: String,
    /// The hash of the entry before.
    pub prev_hash: Hash,
    /// The hash of this one.
    pub hash: Hash,
}

/// U+0000 is the one character that PostgreSQL cannot store; it becomes U+FFFD, on both engines.
pub fn storable(mut text: String) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    text
}

/// The end of the chain: what the next entry builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last entry's place; 0 when the log is empty.
    pub seq: i64,
    /// The last entry's hash.
    pub hash: Hash,
}

impl Head {
    /// Of an empty log.
    pub const EMPTY: Self = Self { seq: 0, hash: GENESIS };

    /// Turns an event into the entry that follows this head, and moves the head on.
    pub fn append(&mut self, event: NewEvent, node: &str) -> Entry {
        let mut entry = Entry {
            seq: self.seq + 1,
            time: event.time,
            event: event.name.as_str().to_owned(),
            level: event.name.level().as_str().to_owned(),
            actor_kind: event.actor.kind.as_str().to_owned(),
            actor_id: storable(event.actor.id),
            actor_name: storable(event.actor.name),
            resource_kind: event.resource_kind.to_owned(),
            resource_id: storable(event.resource_id),
            outcome: event.outcome.as_str().to_owned(),
            reason: storable(event.reason),
            request_id: event.origin.request_id.map(storable),
            ip: event.origin.ip.map(storable),
            user_agent: event.origin.user_agent.map(storable),
            node: storable(node.to_owned()),
            details: if event.details.is_empty() {
                "{}".to_owned()
            } else {
                serde_json::Value::Object(event.details).to_string()
            },
            prev_hash: self.hash,
            hash: GENESIS,
        };
        entry.hash = entry.computed_hash();
        *self = Self { seq: entry.seq, hash: entry.hash };
        entry
    }
}

impl Entry {
    /// The hash that the entry should have.
    pub fn computed_hash(&self) -> Hash {
        let mut hasher = Hasher(digest::Context::new(&digest::SHA256));
        hasher.0.update(VERSION);
        hasher.0.update(&self.seq.to_be_bytes());
        hasher.0.update(&self.time.millis().to_be_bytes());
        for text in [&self.event, &self.level, &self.actor_kind, &self.actor_id, &self.actor_name] {
            hasher.text(text);
        }
        for text in [&self.resource_kind, &self.resource_id, &self.outcome, &self.reason] {
            hasher.text(text);
        }
        for text in [&self.request_id, &self.ip, &self.user_agent] {
            hasher.optional(text.as_deref());
        }
        hasher.text(&self.node);
        hasher.text(&self.details);
        hasher.0.update(&self.prev_hash);
        hasher.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

struct Hasher(digest::Context);

impl Hasher {
    /// Length (4 bytes, big-endian), then the bytes: no two lists of fields encode alike.
    fn text(&mut self, text: &str) {
        self.0.update(&u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    /// A missing text is not the empty text.
    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.0.update(&u32::MAX.to_be_bytes()),
        }
    }
}

/// What is wrong with a chain, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An entry's content is not what was hashed.
    #[error("entry {seq} was changed: its content does not have the hash that it carries")]
    Edited {
        /// The first bad place.
        seq: i64,
    },
    /// An entry does not follow the one before it.
    #[error("entry {seq} does not follow entry {before}: it names another predecessor")]
    Unlinked {
        /// The first bad place.
        seq: i64,
        /// The place before it.
        before: i64,
    },
    /// Places are missing.
    #[error("entry {seq} is missing")]
    Missing {
        /// The first missing place.
        seq: i64,
    },
}

impl Fault {
    /// The first place at which the chain cannot be believed.
    pub const fn seq(&self) -> i64 {
        match self {
            Self::Edited { seq } | Self::Unlinked { seq, .. } | Self::Missing { seq } => *seq,
        }
    }
}

/// Walks a chain entry by entry, with memory for one.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    head: Head,
}

impl Walk {
    /// From the first entry on.
    pub const fn from_the_start() -> Self {
        Self { head: Head::EMPTY }
    }

    /// Checks the next entry.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn step(&mut self, entry: &Entry) -> Result<(), Fault> {
        let expected = self.head.seq + 1;
        if entry.seq > expected {
            return Err(Fault::Missing { seq: expected });
        }
        if entry.computed_hash() != entry.hash {
            return Err(Fault::Edited { seq: entry.seq });
        }
        if entry.seq < expected || entry.prev_hash != self.head.hash {
            return Err(Fault::Unlinked { seq: entry.seq, before: self.head.seq });
        }
        self.head = Head { seq: entry.seq, hash: entry.hash };
        Ok(())
    }

    /// Where the walk has come to.
    pub const fn head(&self) -> Head {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Actor, EventName};

    fn chain(length: i64) -> Vec<Entry> {
        let mut head = Head::EMPTY;
        let event = |n| NewEvent::new(Moment::from_millis(n), EventName::TokenCreated, Actor::system()).with("n", n);
        (1..=length).map(|n| head.append(event(n), "node-1")).collect()
    }

    fn walk(entries: &[Entry]) -> Result<Head, Fault> {
        let mut walk = Walk::from_the_start();
        entries.iter().try_for_each(|e| walk.step(e)).map(|()| walk.head())
    }

    #[test]
    fn a_chain_that_nobody_touched_is_valid() {
        let entries = chain(5);
        assert_eq!(walk(&entries), Ok(Head { seq: 5, hash: entries[4].hash }));
    }

    #[test]
    fn editing_inserting_reordering_and_deleting_are_each_found_where_they_begin() {
        let good = chain(5);

        let mut edited = good.clone();
        edited[2].reason = "nothing happened".into();
        assert_eq!(walk(&edited), Err(Fault::Edited { seq: 3 }));

        let mut rehashed = edited;
        rehashed[2].hash = rehashed[2].computed_hash();
        assert_eq!(walk(&rehashed), Err(Fault::Unlinked { seq: 4, before: 3 }));

        let mut deleted = good.clone();
        deleted.remove(2);
        assert_eq!(walk(&deleted), Err(Fault::Missing { seq: 3 }));

        let mut reordered = good.clone();
        reordered.swap(1, 2);
        assert_eq!(walk(&reordered), Err(Fault::Missing { seq: 2 }));

        let mut inserted = good;
        inserted.insert(3, inserted[2].clone());
        assert_eq!(walk(&inserted).unwrap_err().seq(), 3);
    }

    #[test]
    fn a_missing_text_and_an_empty_text_hash_differently() {
        let mut one = chain(1).remove(0);
        let before = one.computed_hash();
        one.ip = Some(String::new());
        assert_ne!(one.computed_hash(), before);
    }
}
