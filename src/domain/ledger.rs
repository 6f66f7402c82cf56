//! The audit log's entries: what one holds and what is hashed. ([`super::chain`] walks them.)
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
            // Behind the last place of all is none: the table refuses a second entry there.
            seq: self.seq.saturating_add(1),
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

/// An entry whose texts lie somewhere else: a walk over millions copies none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of an entry")]
pub struct View<'e> {
    pub seq: i64,
    pub time: Moment,
    pub event: &'e str,
    pub level: &'e str,
    pub actor_kind: &'e str,
    pub actor_id: &'e str,
    pub actor_name: &'e str,
    pub resource_kind: &'e str,
    pub resource_id: &'e str,
    pub outcome: &'e str,
    pub reason: &'e str,
    pub request_id: Option<&'e str>,
    pub ip: Option<&'e str>,
    pub user_agent: Option<&'e str>,
    pub node: &'e str,
    pub details: &'e str,
    pub prev_hash: Hash,
    pub hash: Hash,
}

impl Entry {
    /// The hash that the entry should have.
    pub fn computed_hash(&self) -> Hash {
        self.hash_with(&mut Vec::new())
    }

    /// As [`Self::computed_hash`], in memory that a walk uses again for every entry.
    pub fn hash_with(&self, scratch: &mut Vec<u8>) -> Hash {
        self.view().hash_with(scratch)
    }

    /// The entry without copies.
    pub fn view(&self) -> View<'_> {
        View {
            seq: self.seq,
            time: self.time,
            event: &self.event,
            level: &self.level,
            actor_kind: &self.actor_kind,
            actor_id: &self.actor_id,
            actor_name: &self.actor_name,
            resource_kind: &self.resource_kind,
            resource_id: &self.resource_id,
            outcome: &self.outcome,
            reason: &self.reason,
            request_id: self.request_id.as_deref(),
            ip: self.ip.as_deref(),
            user_agent: self.user_agent.as_deref(),
            node: &self.node,
            details: &self.details,
            prev_hash: self.prev_hash,
            hash: self.hash,
        }
    }
}

impl View<'_> {
    /// The entry with texts of its own.
    pub fn to_entry(&self) -> Entry {
        Entry {
            seq: self.seq,
            time: self.time,
            event: self.event.into(),
            level: self.level.into(),
            actor_kind: self.actor_kind.into(),
            actor_id: self.actor_id.into(),
            actor_name: self.actor_name.into(),
            resource_kind: self.resource_kind.into(),
            resource_id: self.resource_id.into(),
            outcome: self.outcome.into(),
            reason: self.reason.into(),
            request_id: self.request_id.map(Into::into),
            ip: self.ip.map(Into::into),
            user_agent: self.user_agent.map(Into::into),
            node: self.node.into(),
            details: self.details.into(),
            prev_hash: self.prev_hash,
            hash: self.hash,
        }
    }

    /// The hash that the entry should have, made in memory that a walk uses again for every entry.
    pub fn hash_with(&self, scratch: &mut Vec<u8>) -> Hash {
        scratch.clear();
        scratch.extend_from_slice(VERSION);
        scratch.extend_from_slice(&self.seq.to_be_bytes());
        scratch.extend_from_slice(&self.time.millis().to_be_bytes());
        for part in [self.event, self.level, self.actor_kind, self.actor_id, self.actor_name] {
            text(scratch, part);
        }
        for part in [self.resource_kind, self.resource_id, self.outcome, self.reason] {
            text(scratch, part);
        }
        for part in [self.request_id, self.ip, self.user_agent] {
            optional(scratch, part);
        }
        text(scratch, self.node);
        text(scratch, self.details);
        scratch.extend_from_slice(&self.prev_hash);
        digest::digest(&digest::SHA256, scratch).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Length (4 bytes, big-endian), then the bytes: no two lists of fields encode alike.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A missing text is not the empty text.
fn optional(out: &mut Vec<u8>, part: Option<&str>) {
    match part {
        Some(part) => text(out, part),
        None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Actor, EventName};

    fn entry() -> Entry {
        let event = NewEvent::new(Moment::from_millis(7), EventName::TokenCreated, Actor::system()).with("n", 1);
        Head::EMPTY.clone().append(event, "node-1")
    }

    /// The format `lokid-audit-1`, as it was when the first entries were written.
    #[test]
    fn the_encoding_does_not_change() {
        let expected = "a43a1187ccaae77f50e7fa8dbc26ff2588df305ffffdfad76ea24d5120f0eae7";
        assert_eq!(data_encoding::HEXLOWER.encode(&entry().hash), expected);
    }

    #[test]
    fn a_missing_text_and_an_empty_text_hash_differently() {
        let mut one = entry();
        let before = one.computed_hash();
        one.ip = Some(String::new());
        assert_ne!(one.computed_hash(), before);
    }
}
