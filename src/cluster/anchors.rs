//! Statements about the audit log in a NATS JetStream KV bucket of their own: out of reach for whoever puts an old
//! backup of the whole machine back. Each has the key `OWNER.seq.N`, is put there once and never
//! replaced. The owner is whose log it is: nodes that share keys need not share a database.
//!
//! They are read one by one by their numbers in the bucket, so that a user of NATS needs no right to make consumers.

use async_nats::jetstream::stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream as futures};
use tokio::sync::OnceCell;

use super::{
    bucket::{Access, Bucket, BucketError},
    envelope::Place,
};

/// The bucket keeps no more than this many; then the oldest go. Signed every five minutes, they last ten weeks of
/// uninterrupted work.
const MOST: i64 = 20_000;
/// So many are asked for at the same time.
const AT_ONCE: usize = 64;
/// Longer values are no checkpoints.
const LONGEST: usize = 8 * 1024;

/// The anchors of one installation.
#[derive(Debug)]
pub struct Anchors {
    access: Access,
    bucket: String,
    owner: String,
    connected: OnceCell<Bucket>,
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// It is there.
    Kept,
    /// Another one about the same place was there before, and stays.
    Otherwise,
}

impl Anchors {
    /// In this bucket, about the log of this owner. Nobody is spoken to yet.
    pub fn new(access: Access, bucket: &str, owner: &str) -> Self {
        let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '=' };
        let owner = owner.chars().map(fits).collect();
        Self { access, bucket: bucket.to_owned(), owner, connected: OnceCell::new() }
    }

    async fn bucket(&self) -> Result<&Bucket, BucketError> {
        let place = Place { bucket: self.bucket.clone(), key: String::new() };
        let shape = stream::Config {
            description: Some("lokid: what was signed about the audit log".into()),
            max_messages: MOST,
            max_messages_per_subject: 1,
            discard: stream::DiscardPolicy::Old,
            ..stream::Config::default()
        };
        self.connected.get_or_try_init(|| Bucket::connect_as(&self.access, place, shape)).await
    }

    /// Keeps a statement about a place of the log.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn keep(&self, seq: i64, jws: &str) -> Result<Anchored, BucketError> {
        let (bucket, key) = (self.bucket().await?, format!("{}.seq.{seq}", self.owner));
        if bucket.create_at(&key, jws.as_bytes()).await?.is_some() {
            return Ok(Anchored::Kept);
        }
        let found = bucket.get_at(&key).await?;
        let same = found.is_some_and(|found| found.value == jws.as_bytes());
        Ok(if same { Anchored::Kept } else { Anchored::Otherwise })
    }

    /// Every statement about this log, in the order in which they were put there.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn all(&self) -> Result<Vec<String>, BucketError> {
        let bucket = self.bucket().await?;
        let asked = futures::iter(bucket.numbers().await?).map(|number| bucket.value_of(number));
        let found: Vec<Option<(String, Vec<u8>)>> = asked.buffered(AT_ONCE).try_collect().await?;
        let ours = format!("{}.seq.", self.owner);
        let of_us = found.into_iter().flatten().filter(|(key, _)| key.starts_with(&ours));
        // What is no text is no checkpoint either; the verifier says so.
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value[..value.len().min(LONGEST)]).trim().to_owned();
        Ok(of_us.map(|(_, value)| text(value)).collect())
    }
}
