//! Signing keys that the nodes hand each other through NATS: taken or made at the start, rotated with a compare-and-swap
//! on the bucket, so that of two who take a step at once one is refused. [`super::follow`] has what goes on while a server
//! runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, OnceCell},
    time::Instant,
};

use super::{
    Asked, KeysRefused,
    ring::{ShareRefused, is_newer, keyring, keys_of, published, ring_of, tell},
    steps::change,
    watch::{observe, observe_because},
};
use crate::{
    actions::{ActError, App},
    cluster::{
        bucket::{Access, Bucket, BucketError},
        disk,
        envelope::{self, Place, Ring, Token, Unopened},
    },
    config::{self, psk::random_bytes},
    domain::{
        entropy::Entropy,
        event::{Actor, EventName},
        time::Moment,
    },
    keys::{keyring::Keyring, sign::SigningKey},
    store::{Store, signing_keys::By},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Tries of a step when others change the ring at the same time.
const TRIES: usize = 5;

/// What this node holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) ring: Ring,
    pub(super) sealed: Vec<u8>,
    /// Its number in the bucket, once it was seen there.
    pub(super) number: Option<u64>,
}

/// The way to the keys that the nodes share.
pub struct Share {
    pub(super) settings: config::cluster::Share,
    /// Whether it keeps a copy.
    is_server: bool,
    place: Place,
    tokens: Vec<Token>,
    access: Access,
    bucket: OnceCell<Bucket>,
    pub(super) held: Mutex<Option<Held>>,
    is_away: AtomicBool,
    is_disputed: AtomicBool,
}

/// How the settings say that NATS is reached.
pub fn access(settings: &config::cluster::Share, node: &str) -> Access {
    Access {
        servers: settings.servers.clone(),
        ca_file: settings.ca_file.clone(),
        credentials_file: settings.credentials_file.clone(),
        user: settings.user.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned())),
        replicas: settings.replicas,
        node: node.to_owned(),
    }
}

impl Share {
    /// As the settings say.
    pub fn new(settings: &config::cluster::Share, node: &str, is_server: bool) -> Self {
        let bytes = |token: &config::server::Secret| random_bytes(token.reveal(), 1).unwrap_or_default();
        Self {
            place: Place { bucket: settings.bucket.clone(), key: settings.key.clone() },
            tokens: settings.tokens.iter().map(|token| Token::new(&bytes(token))).collect(),
            access: access(settings, node),
            settings: settings.clone(),
            is_server,
            bucket: OnceCell::new(),
            held: Mutex::new(None),
            is_away: AtomicBool::new(false),
            is_disputed: AtomicBool::new(false),
        }
    }

    /// Whether NATS did not answer when it was asked last.
    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Whether what NATS holds was refused when it was looked at last.
    pub fn is_disputed(&self) -> bool {
        self.is_disputed.load(Ordering::Relaxed)
    }

    pub(super) fn set_disputed(&self, disputed: bool) {
        self.is_disputed.store(disputed, Ordering::Relaxed);
    }

    /// Notes whether NATS answers. Whether that is new.
    pub(super) fn set_away(&self, away: bool) -> bool {
        self.is_away.swap(away, Ordering::Relaxed) != away
    }

    pub(super) async fn bucket(&self) -> Result<&Bucket, BucketError> {
        self.bucket.get_or_try_init(|| Bucket::connect(&self.access, self.place.clone())).await
    }

    /// Fingerprints of this node's bootstrap tokens; the first seals.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        self.tokens.iter().map(|token| token.fingerprint().to_owned()).collect()
    }

    pub(super) fn in_nats(&self) -> String {
        format!("in NATS (bucket {}, key {})", self.place.bucket, self.place.key)
    }

    pub(super) fn open(&self, sealed: &[u8], whence: &str) -> Result<(Ring, Vec<SigningKey>), ShareRefused> {
        let ring = envelope::open(sealed, &self.place, &self.tokens).map_err(|e| match e {
            Unopened::Token { .. } => ShareRefused::WrongToken(whence.to_owned(), e),
            e => ShareRefused::Unopened(whence.to_owned(), e),
        })?;
        let keys = keys_of(&ring).map_err(|e| ShareRefused::Keys(whence.to_owned(), e))?;
        Ok((ring, keys))
    }

    pub(super) fn seal(&self, ring: Ring) -> Held {
        let sealed = envelope::seal(&ring, &self.place, &self.tokens[0], Entropy);
        Held { ring, sealed, number: None }
    }

    /// This node's copy.
    ///
    /// # Errors
    /// [`ShareRefused`] when there is one that cannot be used.
    pub(super) fn copy(&self) -> Result<Option<Held>, ShareRefused> {
        let Some(sealed) = disk::load(&self.settings.file)? else { return Ok(None) };
        let (ring, _) = self.open(&sealed, &format!("in {}", self.settings.file.display()))?;
        Ok(Some(Held { ring, sealed, number: None }))
    }

    /// The ring to start with. A server waits for one, and keeps a copy; a command takes what is there.
    ///
    /// # Errors
    /// [`KeysRefused`]: at once when the bootstrap token is wrong, else after `cluster.wait`.
    pub(super) async fn begin(&self, store: &Store, now: Moment) -> Result<Keyring, KeysRefused> {
        let begun = if self.is_server { self.wait_for_ring(store).await } else { self.look_up().await };
        let (held, differed) = match begun {
            Ok(begun) => begun,
            Err(e) if !self.is_server => {
                tracing::warn!(error = %e, "this command goes on without the signing keys");
                return Ok(Keyring::ephemeral());
            }
            Err(e) => return Err(e.into()),
        };
        if let Some(why) = differed {
            tell(store, (now, Actor::system()), EventName::KeysSynced, &held.ring, why).await?;
        }
        let keys = keys_of(&held.ring).map_err(|e| ShareRefused::Keys(self.in_nats(), e))?;
        let keys = published(store, keys, self.in_nats()).await?;
        *self.held.lock().await = Some(held);
        Ok(Keyring::of_keys(keys).unwrap_or_else(Keyring::ephemeral))
    }

    /// What a command goes by: this node's copy, which a server keeps up to date, else NATS.
    async fn look_up(&self) -> Result<(Held, Option<&'static str>), ShareRefused> {
        if let Ok(Some(held)) = self.copy() {
            return Ok((held, None));
        }
        let found = self.bucket().await?.get().await?.ok_or_else(|| self.no_leader(Duration::ZERO))?;
        let (ring, _) = self.open(&found.value, &self.in_nats())?;
        Ok((Held { ring, sealed: found.value, number: Some(found.number) }, None))
    }

    pub(super) fn no_leader(&self, waited: Duration) -> ShareRefused {
        ShareRefused::NoLeader { bucket: self.place.bucket.clone(), key: self.place.key.clone(), waited }
    }

    async fn wait_for_ring(&self, store: &Store) -> Result<(Held, Option<&'static str>), ShareRefused> {
        let copy = self.copy()?;
        let deadline = Instant::now() + self.settings.wait;
        let (mut pause, mut why) = (FIRST_PAUSE, self.no_leader(self.settings.wait));
        loop {
            match tokio::time::timeout_at(deadline, self.try_to_begin(store, copy.as_ref())).await {
                Ok(Ok(Some(begun))) => return Ok(begun),
                Ok(Ok(None)) => why = self.no_leader(self.settings.wait),
                Ok(Err(ShareRefused::Bucket(e @ (BucketError::Unreachable(..) | BucketError::Refused { .. })))) => {
                    if let Some(copy) = copy {
                        self.set_away(true);
                        tracing::warn!(error = %e, kid = %copy.ring.kid, "started from this node's copy of the signing keys");
                        return Ok((copy, None));
                    }
                    why = e.into();
                }
                // A node that has a good one puts it there again within seconds.
                Ok(Err(e @ (ShareRefused::Unopened(..) | ShareRefused::Gone(..) | ShareRefused::Keys(..)))) => why = e,
                Ok(Err(e)) => return Err(e),
                Err(_too_late) => return Err(why),
            }
            // Nodes that start together do not ask together.
            let [jitter] = Entropy.bytes::<1>();
            let jittered = pause.mul_f64(0.75 + f64::from(jitter) / 512.0);
            if Instant::now() + jittered >= deadline {
                tokio::time::sleep_until(deadline).await;
                return Err(why);
            }
            tokio::time::sleep(jittered).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The ring that counts most of this node's copy and NATS; a leader's first one where there is none. `None`: not yet.
    async fn try_to_begin(
        &self,
        store: &Store,
        copy: Option<&Held>,
    ) -> Result<Option<(Held, Option<&'static str>)>, ShareRefused> {
        let bucket = self.bucket().await?;
        let Some(found) = bucket.get().await? else {
            let first = match copy {
                Some(copy) => copy.clone(),
                None if self.settings.leader => self.seal(ring_of(&[SigningKey::generate()], 1)),
                None => return Ok(None),
            };
            let Some(number) = bucket.create(&first.sealed).await? else { return Ok(None) };
            disk::save(&self.settings.file, &first.sealed)?;
            tracing::info!(kid = %first.ring.kid, "the signing keys were put into NATS");
            let why = copy.map(|_| "the bucket held none");
            return Ok(Some((Held { number: Some(number), ..first }, why)));
        };
        let opened = match self.open(&found.value, &self.in_nats()) {
            // Whoever can write there can put back a ring that was good once.
            Ok((ring, keys)) => match published(store, keys, self.in_nats()).await {
                Err(e @ ShareRefused::Store(_)) => return Err(e),
                published => published.map(|keys| (ring, keys)),
            },
            Err(e) => Err(e),
        };
        let (ring, why) = match (opened, copy) {
            (Ok((ring, _)), None) => (ring, None),
            (Ok((ring, _)), Some(copy)) if is_newer(&ring, &copy.ring) => (ring, Some("the bucket's were newer")),
            (Ok((ring, _)), Some(copy)) if !is_newer(&copy.ring, &ring) => (ring, None),
            (Err(e), None) => return Err(e),
            // It may be this node that is late, and anybody who can write there can name a token that nobody has: what
            // is there stays, and this node goes on with what it has.
            (Err(e), Some(copy)) if e.may_be_right() => {
                tracing::error!(error = %e, "started from this node's copy of the signing keys");
                self.set_disputed(true);
                return Ok(Some((copy.clone(), None)));
            }
            (Ok(_) | Err(_), Some(copy)) => {
                let Some(number) = bucket.replace(&copy.sealed, found.number).await? else { return Ok(None) };
                let held = Held { number: Some(number), ..copy.clone() };
                return Ok(Some((held, Some("this node's were newer, or the only good ones"))));
            }
        };
        disk::save(&self.settings.file, &found.value)?;
        Ok(Some((Held { ring, sealed: found.value, number: Some(found.number) }, why)))
    }

    /// Replaces this node's copy. Where that fails the node takes the ring from NATS again after its next start.
    pub(super) fn keep(&self, sealed: &[u8]) {
        if self.is_server
            && let Err(e) = disk::save(&self.settings.file, sealed)
        {
            tracing::error!(error = %e, "this node's copy of the signing keys is not up to date");
        }
    }

    /// Takes a step with the ring that NATS holds.
    ///
    /// # Errors
    /// [`ActError::Step`] when it is too early or does not lead on; [`ActError::Conflict`] when NATS is in the way.
    pub(super) async fn rotate(&self, app: &App, asked: &Asked, force: bool, by: By) -> Result<(), ActError> {
        let in_the_way = |e: ShareRefused| match e {
            ShareRefused::Store(e) => e.into(),
            e => ActError::Conflict(format!("{e}. The keys are as they were")),
        };
        for _ in 0..TRIES {
            let bucket = self.bucket().await.map_err(|e| in_the_way(e.into()))?;
            let found = bucket.get().await.map_err(|e| in_the_way(e.into()))?;
            let found = found.ok_or_else(|| in_the_way(self.no_leader(Duration::ZERO)))?;
            let mut held = self.held.lock().await;
            let opened = match (self.open(&found.value, &self.in_nats()), &*held) {
                // A key that leaked has to go whatever stands there.
                (Err(e), Some(held)) if matches!(asked, Asked::Revoke(_)) => {
                    let why = e.to_string();
                    tell(&app.store, (by.at, by.actor.clone()), EventName::KeysRefused, &held.ring, &why).await?;
                    keys_of(&held.ring).map(|keys| (held.ring.clone(), keys)).map_err(|_| e)
                }
                (opened, _) => opened,
            };
            let (ring, keys) = opened.map_err(in_the_way)?;
            let mut keys = published(&app.store, keys, self.in_nats()).await.map_err(in_the_way)?;
            if held.as_ref().is_some_and(|held| is_newer(&held.ring, &ring)) {
                return Err(ActError::Conflict(format!(
                    "the signing keys {} are older than those of this node; a server puts them right within seconds",
                    self.in_nats()
                )));
            }
            // What no server has seen yet was not published either.
            observe(app, &keys, by.clone()).await?;
            let known = app.store.key_records().await?;
            change(&mut keys, &known, asked, force, by.at)?;
            let mut next = self.seal(ring_of(&keys, ring.revision + 1));
            let replaced = bucket.replace(&next.sealed, found.number).await.map_err(|e| in_the_way(e.into()))?;
            let Some(number) = replaced else { continue };
            next.number = Some(number);
            let new = keyring(keys);
            observe_because(app, new.keys(), by, asked.why()).await?;
            self.keep(&next.sealed);
            *held = Some(next);
            app.keys.store(Arc::new(new));
            return Ok(());
        }
        Err(ActError::Conflict("the signing keys were changed by others at the same time; try again".into()))
    }
}
