//! The key in a NATS JetStream KV bucket through which nodes hand each other the sealed ring.
//!
//! It is asked for, not watched: one small read every few seconds leaves nothing behind on the server when a node or a
//! connection goes, and finds the way back by itself when the server does.

use std::{ops::Range, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event,
    jetstream::{
        self, Context,
        kv::{self, CreateErrorKind, Operation, UpdateErrorKind},
        stream,
    },
};
use tokio::sync::OnceCell;

use super::envelope::Place;
use crate::domain::causes::causes;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The longest wait between two tries to reach a server again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Values that the bucket remembers, for whoever has to look what happened.
const HISTORY: i64 = 16;

/// How NATS is reached.
#[derive(Clone)]
pub struct Access {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// More certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// A file of `nsc generate creds`.
    pub credentials_file: Option<PathBuf>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Copies of the bucket, where it is made.
    pub replicas: usize,
    /// What this node is called.
    pub node: String,
}

/// NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Not reached.
    #[error("NATS at {0} (cluster.nats_url) cannot be reached: {1}")]
    Unreachable(String, String),
    /// Reached, and refused.
    #[error("NATS at {0} (cluster.nats_url) refuses: {1}; look at cluster.nats_credentials_file or cluster.nats_user")]
    Unauthorized(String, String),
    /// The credentials' file.
    #[error("cluster.nats_credentials_file {0}: {1}")]
    Credentials(String, std::io::Error),
    /// It does not do what it is asked.
    #[error("NATS (cluster.nats_url) did not {what} bucket {bucket}: {why}")]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// The bucket.
        bucket: String,
        /// What it says.
        why: String,
    },
}

/// A value and its number in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Vec<u8>,
    /// Its number: a change has to name the number that it replaces.
    pub number: u64,
}

/// The key of one bucket.
pub struct Bucket {
    context: Context,
    place: Place,
    /// As it is made where there is none.
    shape: stream::Config,
    /// Looked up once it is there.
    store: OnceCell<kv::Store>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({:?})", self.servers)
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({:?})", self.place)
    }
}

impl Bucket {
    /// Connects. A connection that is lost later is made again by itself.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn connect(access: &Access, place: Place) -> Result<Self, BucketError> {
        Self::connect_as(access, place, of_keys()).await
    }

    /// As [`Self::connect`], for a bucket of another shape.
    pub(super) async fn connect_as(access: &Access, place: Place, shape: stream::Config) -> Result<Self, BucketError> {
        let servers = access.servers.join(",");
        let options = options(access)?;
        let client: Client = match tokio::time::timeout(CONNECT_WITHIN, options.connect(&access.servers)).await {
            Ok(Ok(client)) => client,
            Ok(Err(e)) => {
                let refused =
                    matches!(e.kind(), ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication);
                let as_error = if refused { BucketError::Unauthorized } else { BucketError::Unreachable };
                return Err(as_error(servers, causes(&e)));
            }
            Err(_too_slow) => return Err(BucketError::Unreachable(servers, "it does not answer".into())),
        };
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_WITHIN);
        let shape = stream(&place.bucket, access.replicas, shape);
        Ok(Self { context, place, shape, store: OnceCell::new() })
    }

    fn refused(&self, what: &'static str, error: &dyn std::error::Error) -> BucketError {
        let mut why = causes(error);
        // Nobody listens where JetStream would.
        if why.contains("no responders") || why.contains("JetStream resource does not exist") {
            why = format!(
                "its JetStream does not answer ({why}); is it on? (nats-server -js, or jetstream {{}} in its file)"
            );
        }
        BucketError::Refused { what, bucket: self.place.bucket.clone(), why }
    }

    /// The bucket; `None` where there is none yet.
    async fn store(&self) -> Result<Option<&kv::Store>, BucketError> {
        let looked_up = self.store.get_or_try_init(|| self.context.get_key_value(&self.place.bucket)).await;
        match looked_up {
            Ok(store) => Ok(Some(store)),
            Err(e) => {
                // "Stream not found" is an answer; anything else is none.
                let text = causes(&e);
                if text.contains("10059") || text.contains("stream not found") {
                    return Ok(None);
                }
                Err(self.refused("show", &e))
            }
        }
    }

    async fn store_or_new(&self) -> Result<&kv::Store, BucketError> {
        if let Some(store) = self.store().await? {
            return Ok(store);
        }
        let made = self.context.create_stream(self.shape.clone()).await;
        match (self.store().await?, made) {
            (Some(store), _) => Ok(store),
            (None, Err(e)) => Err(self.refused("make", &e)),
            (None, Ok(_)) => Err(self.refused("show", &std::io::Error::other("it was made and is not there"))),
        }
    }

    /// What the key holds; `None` for nothing.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn get(&self) -> Result<Option<Found>, BucketError> {
        self.get_at(&self.place.key).await
    }

    /// What another key holds.
    pub(super) async fn get_at(&self, key: &str) -> Result<Option<Found>, BucketError> {
        let Some(store) = self.store().await? else { return Ok(None) };
        let entry = store.entry(key).await.map_err(|e| self.refused("read", &e))?;
        let entry = entry.filter(|entry| entry.operation == Operation::Put);
        Ok(entry.map(|entry| Found { value: entry.value.to_vec(), number: entry.revision }))
    }

    /// Puts a value where there is none; makes the bucket where there is none. The first wins: `None` when
    /// another was first.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn create(&self, value: &[u8]) -> Result<Option<u64>, BucketError> {
        self.create_at(&self.place.key, value).await
    }

    /// The same at another key.
    pub(super) async fn create_at(&self, key: &str, value: &[u8]) -> Result<Option<u64>, BucketError> {
        let store = self.store_or_new().await?;
        match store.create(key, value.to_vec().into()).await {
            Ok(number) => Ok(Some(number)),
            Err(e) if e.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(self.refused("write to", &e)),
        }
    }

    /// The numbers that values of the bucket may have, in order; none where there is no bucket.
    pub(super) async fn numbers(&self) -> Result<Range<u64>, BucketError> {
        if self.store().await?.is_none() {
            return Ok(Range::default());
        }
        let name = &self.shape.name;
        let stream = self.context.get_stream(name).await.map_err(|e| self.refused("show", &e))?;
        let state = &stream.cached_info().state;
        Ok(if state.messages == 0 { Range::default() } else { state.first_sequence..state.last_sequence + 1 })
    }

    /// The key and the value of a number; `None` when it is gone, or was never one.
    pub(super) async fn value_of(&self, number: u64) -> Result<Option<(String, Vec<u8>)>, BucketError> {
        let Some(store) = self.store().await? else { return Ok(None) };
        match store.stream.direct_get(number).await {
            Ok(message) => {
                let before = format!("$KV.{}.", self.place.bucket);
                let key = message.subject.strip_prefix(&before).filter(|_| !message.payload.is_empty());
                Ok(key.map(|key| (key.to_owned(), message.payload.to_vec())))
            }
            Err(e) if e.kind() == stream::DirectGetErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.refused("read", &e)),
        }
    }

    /// Replaces the value of this number; `None` when another did so before.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn replace(&self, value: &[u8], number: u64) -> Result<Option<u64>, BucketError> {
        let store = self.store_or_new().await?;
        match store.update(self.place.key.as_str(), value.to_vec().into(), number).await {
            Ok(number) => Ok(Some(number)),
            Err(e) if e.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(e) => Err(self.refused("write to", &e)),
        }
    }
}

/// A KV bucket as NATS defines it (ADR-8). The library's own way to make one asks for the account first, and cannot read what
/// a server before 2.10 answers.
fn stream(bucket: &str, replicas: usize, shape: stream::Config) -> stream::Config {
    stream::Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        storage: stream::StorageType::File,
        num_replicas: replicas,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..shape
    }
}

/// What the bucket of the keys has of its own.
fn of_keys() -> stream::Config {
    stream::Config {
        description: Some("lokid: the sealed signing keys".into()),
        max_messages_per_subject: HISTORY,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    }
}

fn options(access: &Access) -> Result<ConnectOptions, BucketError> {
    let mut options = ConnectOptions::new()
        .name(format!("lokid {}", access.node))
        .connection_timeout(CONNECT_WITHIN)
        .request_timeout(Some(ANSWER_WITHIN))
        .require_tls(access.servers.iter().any(|server| server.starts_with("tls://")))
        .reconnect_delay_callback(pause)
        .event_callback(async |event| match event {
            Event::Connected => tracing::info!("NATS is connected"),
            Event::Disconnected => tracing::warn!("NATS is away; the signing keys stay as they are until it is back"),
            other => tracing::debug!(event = %other, "NATS"),
        });
    if let Some(file) = &access.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some(file) = &access.credentials_file {
        let named = |e| BucketError::Credentials(file.display().to_string(), e);
        let text = std::fs::read_to_string(file).map_err(named)?;
        options = options.credentials(&text).map_err(named)?;
    }
    if let Some((user, password)) = &access.user {
        options = options.user_and_password(user.clone(), password.clone());
    }
    Ok(options)
}

/// Twice as long after each try that failed, and never nothing, so that a server that comes and goes keeps no core busy.
fn pause(attempt: usize) -> Duration {
    let doubled = u32::try_from(attempt.min(10)).unwrap_or(10);
    Duration::from_millis(50).saturating_mul(1 << doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert!(pause(0) >= Duration::from_millis(50) && pause(1) > pause(0));
        assert_eq!((pause(10), pause(usize::MAX)), (LONGEST_PAUSE, LONGEST_PAUSE));
    }
}
