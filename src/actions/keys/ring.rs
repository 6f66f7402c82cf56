//! What a ring that the nodes share is, and why one is no good.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::{
    cluster::{
        bucket::BucketError,
        disk::DiskError,
        envelope::{Ring, Unopened},
    },
    domain::{
        event::{Actor, EventName, NewEvent, Outcome},
        rotation::KeyState,
        time::Moment,
    },
    keys::{
        keyring::Keyring,
        sign::{KeyRefused, SigningKey},
    },
    store::{Store, StoreError, ledger::Append},
};

/// The keys that the nodes share cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ShareRefused {
    /// NATS.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// This node's copy.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Nobody has published a key.
    #[error(
        "no signing key is in NATS (bucket {bucket}, key {key}) after {waited:?}; start one node with cluster.leader: true, \
         or run: lokid cluster key publish"
    )]
    NoLeader {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// For how long it was looked for.
        waited: Duration,
    },
    /// A ring under another bootstrap token.
    #[error("the signing keys {0} cannot be opened with cluster.bootstrap_token_file: {1}")]
    WrongToken(String, Unopened),
    /// No ring at all.
    #[error("the signing keys {0} cannot be used: {1}")]
    Unopened(String, Unopened),
    /// A ring that signs with a key that was taken out.
    #[error(
        "the signing keys {0} are an old state: {1} was taken out; put good ones there on a node that has them: \
         lokid cluster key publish"
    )]
    Gone(String, String),
    /// The database, which knows what was taken out.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ring of something else than keys.
    #[error("the signing keys {0} cannot be used: {1}")]
    Keys(String, KeyRefused),
}

impl ShareRefused {
    /// Whether this node may be the one that is late: another bootstrap token, or a ring of the next version. Nothing
    /// of theirs is overwritten.
    pub(super) const fn may_be_right(&self) -> bool {
        matches!(self, Self::WrongToken(..) | Self::Unopened(_, Unopened::Version(_)))
    }
}

/// Whether a ring counts more than another. The bodies decide only where two were made apart from each other, the same
/// way on every node.
pub(super) fn is_newer(a: &Ring, b: &Ring) -> bool {
    (a.revision, &a.body[..]) > (b.revision, &b.body[..])
}

pub(super) fn ring_of(keys: &[SigningKey], revision: u64) -> Ring {
    let text: String = keys.iter().map(|key| key.to_pem().as_str().to_owned()).collect();
    let kid = keys.first().map(|key| key.kid().to_owned()).unwrap_or_default();
    Ring { revision, kid, body: Zeroizing::new(text.into_bytes()) }
}

pub(super) fn keys_of(ring: &Ring) -> Result<Vec<SigningKey>, KeyRefused> {
    let keys = SigningKey::read_all(std::str::from_utf8(&ring.body).map_err(|_| KeyRefused::Nothing)?)?;
    if keys[0].kid() == ring.kid { Ok(keys) } else { Err(KeyRefused::Nothing) }
}

/// Those keys of a ring that were not taken out before; a ring that was put back may still hold them. `whence` says where
/// the ring is.
///
/// # Errors
/// [`ShareRefused::Gone`] when the key that signs was; [`ShareRefused::Store`] when the database cannot say.
pub(super) async fn published(
    store: &Store,
    mut keys: Vec<SigningKey>,
    whence: String,
) -> Result<Vec<SigningKey>, ShareRefused> {
    let known = store.key_records().await?;
    let is_gone = |key: &SigningKey| known.iter().any(|k| k.kid == key.kid() && k.state() == KeyState::Gone);
    if let Some(first) = keys.first().filter(|key| is_gone(key)) {
        return Err(ShareRefused::Gone(whence, first.kid().to_owned()));
    }
    keys.retain(|key| !is_gone(key));
    Ok(keys)
}

pub(super) fn keyring(keys: Vec<SigningKey>) -> Keyring {
    Keyring::of_keys(keys).unwrap_or_else(Keyring::ephemeral)
}

pub(super) async fn tell(
    store: &Store,
    (now, actor): (Moment, Actor),
    name: EventName,
    ring: &Ring,
    why: &str,
) -> Result<(), StoreError> {
    let event = NewEvent::new(now, name, actor).on("key", ring.kid.as_str());
    let outcome = if name == EventName::KeysRefused { Outcome::Denied } else { Outcome::Success };
    let event = event.because(outcome, why).with("revision", i64::try_from(ring.revision).unwrap_or(i64::MAX));
    store.act(Append { events: vec![event] }).await
}
