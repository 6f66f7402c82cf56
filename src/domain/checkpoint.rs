//! What is signed about the audit log, and when: its head, a stretch that retention took out, and an export.
//!
//! Each statement names the log (the hash of its first entry) and has a `typ` of its own, so that none can be
//! shown as another (RFC 8725 §3.11).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    chain::Hole,
    ledger::{Hash, Head},
    time::Moment,
};

/// Something about the log that can be signed.
pub trait Statement: Serialize + for<'d> Deserialize<'d> {
    /// The `typ` of the JWS that carries it.
    const TYP: &str;
}

/// The head of the chain at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Which log: the hash of its first entry.
    #[serde(with = "hex")]
    pub log: Hash,
    /// The last entry's place.
    pub seq: i64,
    /// The last entry's hash.
    #[serde(with = "hex")]
    pub hash: Hash,
    /// When it was signed, in milliseconds.
    pub time: Moment,
    /// The node that signed it.
    pub node: String,
    /// The names of the other keys whose statements about this log are believed, also of those that left the key set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// An [`Endorsement`] of the key that signed this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
}

impl Statement for Checkpoint {
    const TYP: &str = "lokid-checkpoint+jwt";
}

impl Checkpoint {
    /// The head that it vouches for.
    pub const fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }
}

/// What the key that belongs to the installation's secret says of a signing key: it is the installation's. So a server that
/// is given keys from somewhere else can still vouch for the one that signed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endorsement {
    /// The name of the key.
    pub kid: String,
}

impl Statement for Endorsement {
    const TYP: &str = "lokid-endorsement+jwt";
}

/// What a checkpoint says beside the head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouching {
    /// As [`Checkpoint::keys`].
    pub keys: Vec<String>,
    /// As [`Checkpoint::endorsement`].
    pub endorsement: Option<String>,
}

/// A stretch that retention took out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Which log.
    #[serde(with = "hex")]
    pub log: Hash,
    /// The first place that is gone.
    pub first_seq: i64,
    /// The last.
    pub last_seq: i64,
    /// How many entries are gone.
    pub count: i64,
    /// What the first one named as the hash before it.
    #[serde(with = "hex")]
    pub prev_hash: Hash,
    /// The hash of the first one.
    #[serde(with = "hex")]
    pub first_hash: Hash,
    /// The hash of the last one.
    #[serde(with = "hex")]
    pub last_hash: Hash,
    /// When they were taken out, in milliseconds.
    pub time: Moment,
}

impl Statement for Tombstone {
    const TYP: &str = "lokid-tombstone+jwt";
}

impl Tombstone {
    /// For a stretch.
    pub const fn of(log: Hash, hole: &Hole, time: Moment) -> Self {
        let Hole { first_seq, last_seq, prev_hash, first_hash, last_hash } = *hole;
        Self { log, first_seq, last_seq, count: hole.count(), prev_hash, first_hash, last_hash, time }
    }

    /// The stretch; `None` when the numbers contradict each other.
    pub fn hole(&self) -> Option<Hole> {
        let Self { first_seq, last_seq, prev_hash, first_hash, last_hash, .. } = *self;
        let hole = Hole { first_seq, last_seq, prev_hash, first_hash, last_hash };
        (first_seq >= 1 && last_seq >= first_seq && hole.count() == self.count).then_some(hole)
    }
}

/// What an export holds: its last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportSeal {
    /// Which log.
    #[serde(with = "hex")]
    pub log: Hash,
    /// The filter, as it was asked for; empty for none.
    pub filter: String,
    /// Entries that it holds.
    pub count: i64,
    /// SHA-256 over their hashes, one after another.
    #[serde(with = "hex")]
    pub digest: Hash,
    /// The place of the log's last entry when the export began.
    pub seq: i64,
    /// That entry's hash.
    #[serde(with = "hex")]
    pub hash: Hash,
    /// When it was made, in milliseconds.
    pub time: Moment,
}

impl Statement for ExportSeal {
    const TYP: &str = "lokid-export+jwt";
}

/// What a webhook is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The first entry's place.
    pub first: i64,
    /// The last one's.
    pub last: i64,
    /// SHA-256 of the body.
    #[serde(with = "hex")]
    pub digest: Hash,
    /// When it was sent, in milliseconds.
    pub time: Moment,
}

impl Statement for Delivery {
    const TYP: &str = "lokid-delivery+jwt";
}

/// How often the head is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// At the latest so long after an entry.
    pub every: Duration,
    /// At the latest after so many entries.
    pub entries: i64,
}

/// The last checkpoint, as far as the next one depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The place that it vouches for; its own entry is the next one.
    pub seq: i64,
    /// When it was signed.
    pub time: Moment,
    /// By which key.
    pub kid: String,
}

impl Cadence {
    /// Whether a log that ends at `head` is to be signed with the key `kid` now. What only the last checkpoint
    /// itself added is no reason; another key is one, so that it vouches for what the old one signed.
    pub fn is_due(&self, latest: Option<&Latest>, head: i64, kid: &str, now: Moment) -> bool {
        let Some(latest) = latest else { return head > 0 };
        let new = head.saturating_sub(latest.seq.saturating_add(1));
        // A clock that was set back, or a time that somebody wrote there, must not hold it up.
        let is_old = now.since(latest.time) >= self.every || latest.time > now;
        new > 0 && (new >= self.entries || is_old || latest.kid != kid)
    }
}

/// A hash as lower-case hexadecimal digits.
pub mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Hash;

    /// As text.
    pub fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 64];
        HEXLOWER.encode_mut(hash, &mut digits);
        serializer.serialize_str(std::str::from_utf8(&digits).unwrap_or_default())
    }

    /// From text.
    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        read(&text).ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))
    }

    /// 64 lower-case digits.
    pub fn read(text: &str) -> Option<Hash> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_signed_in_time_but_not_for_the_sake_of_its_own_checkpoint() {
        let cadence = Cadence { every: Duration::from_mins(5), entries: 100 };
        let at = |minutes: u64| Moment::from_seconds(0).plus(Duration::from_mins(minutes));
        let latest = Latest { seq: 10, time: at(0), kid: "a".into() };
        let due = |head, kid, now| cadence.is_due(Some(&latest), head, kid, now);
        assert!(!cadence.is_due(None, 0, "a", at(0)) && cadence.is_due(None, 1, "a", at(0)));
        assert!(!due(11, "a", at(999)), "only the checkpoint itself is new");
        assert!(!due(12, "a", at(4)) && due(12, "a", at(5)));
        assert!(!due(110, "a", at(1)) && due(111, "a", at(1)));
        assert!(due(12, "b", at(0)) && !due(11, "b", at(0)));
    }

    #[test]
    fn a_statement_reads_back_and_refuses_what_it_does_not_know() {
        let hole = Hole { first_seq: 3, last_seq: 9, prev_hash: [1; 32], first_hash: [2; 32], last_hash: [3; 32] };
        let stone = Tombstone::of([7; 32], &hole, Moment::from_millis(5));
        let text = serde_json::to_string(&stone).unwrap();
        assert_eq!(serde_json::from_str::<Tombstone>(&text).unwrap(), stone);
        assert_eq!(stone.hole(), Some(hole));
        assert_eq!(Tombstone { count: 8, ..stone.clone() }.hole(), None);
        assert!(serde_json::from_str::<Tombstone>(&text.replace("\"count\":7", "\"count\":7,\"x\":1")).is_err());
        assert!(serde_json::from_str::<Tombstone>(&text.replace("0303", "03zz")).is_err());
    }
}
