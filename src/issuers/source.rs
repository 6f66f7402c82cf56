//! The keys of one issuer: found, kept for as long as their headers say, and read again when they are old or when a
//! token names a key that is not among them.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    http::{CaRefused, HttpClient, HttpError},
    jwk::KeySet,
};
use crate::{
    config::server::check_url,
    domain::{
        causes::causes,
        time::{Clock, Moment},
    },
};

/// Keys are kept at least this long, whatever their headers say.
pub const LEAST_KEPT: Duration = Duration::from_mins(15);
/// Keys are kept at most this long, whatever their headers say.
pub const MOST_KEPT: Duration = Duration::from_hours(7 * 24);
/// Keys whose headers say nothing are kept this long.
const KEPT: Duration = Duration::from_hours(1);
/// Where the key set lies is asked again after this long.
const DISCOVERY_KEPT: Duration = Duration::from_hours(24);
/// After a fetch began, the next one of the same reason waits this long, whatever tokens arrive.
pub const COOL_DOWN: Duration = Duration::from_secs(10);
/// A request waits this long for keys; the fetch goes on without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// A fetch is given up after this long more.
const LATE: Duration = Duration::from_secs(8);

/// The keys of an issuer cannot be had at present, and none are known from before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keys of {issuer} cannot be read: {why}")]
pub struct Unavailable {
    /// The issuer as configured.
    pub issuer: String,
    /// What went wrong. For the log and for administrators.
    pub why: String,
}

/// What was read last.
#[derive(Debug)]
pub struct Known {
    /// The keys.
    pub keys: KeySet,
    /// Counts sets that differ: what was verified with an earlier one counts no more.
    pub generation: u64,
    /// When it was read.
    pub read_at: Moment,
    /// Until when it is believed without asking.
    pub fresh_until: Moment,
    /// By how many milliseconds the issuer's clock was ahead of ours, if it told the time.
    pub clock_ahead: Option<i64>,
    /// From when on it is read again beside the requests.
    renew_at: Moment,
    digest: [u8; 32],
}

/// Where the keys of one issuer come from.
pub struct Source {
    issuer: String,
    jwks_url: Option<String>,
    http: HttpClient,
    clock: Clock,
    known: ArcSwapOption<Known>,
    generations: AtomicU64,
    fetches: Mutex<Fetches>,
    /// The address that discovery gave, and when.
    discovered: Mutex<Option<(Moment, String)>>,
}

#[derive(Default)]
struct Fetches {
    begun_at: Option<Moment>,
    /// The last that a token with an unknown key asked for.
    forced_at: Option<Moment>,
    /// What went wrong with the last one that ended.
    failure: Option<Unavailable>,
    /// The one under way; closed when it is over.
    running: Option<watch::Receiver<Progress>>,
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reading,
    /// Nobody waits for it any longer.
    Slow,
    Done,
}

/// Why keys are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There are none, or they are old.
    Old,
    /// A token names a key that is not among them.
    UnknownKey,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here can leave the values half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// Speaks to nobody yet. Without `jwks_url`, discovery says where the keys are.
    ///
    /// # Errors
    /// When `ca_file` holds no certificate.
    pub fn new(
        issuer: &str,
        jwks_url: Option<&str>,
        ca_file: Option<&Path>,
        clock: Clock,
    ) -> Result<Arc<Self>, CaRefused> {
        Ok(Arc::new(Self {
            issuer: issuer.to_owned(),
            jwks_url: jwks_url.map(str::to_owned),
            http: HttpClient::new(ca_file)?,
            clock,
            known: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            fetches: Mutex::default(),
            discovered: Mutex::new(None),
        }))
    }

    /// The generation of the present keys, if they need not be read again now. For what was verified before.
    pub fn generation(&self) -> Option<u64> {
        let known = self.known.load();
        let known = known.as_ref()?;
        (self.clock.now() < known.renew_at).then_some(known.generation)
    }

    /// The keys, read if there are none or they are old. Old ones are better than none.
    ///
    /// # Errors
    /// [`Unavailable`] when there never were any.
    pub async fn keys(self: &Arc<Self>) -> Result<Arc<Known>, Unavailable> {
        let now = self.clock.now();
        let known = self.known.load_full();
        if let Some(known) = &known
            && now < known.fresh_until
        {
            if now >= known.renew_at {
                self.begin(Why::Old, now);
            }
            return Ok(Arc::clone(known));
        }
        let (running, had_failed) = self.begin(Why::Old, now);
        if let Some(mut running) = running
            && (known.is_none() || !had_failed)
        {
            let _ = running.wait_for(|progress| *progress != Progress::Reading).await;
        }
        self.known.load_full().ok_or_else(|| {
            let failure = lock(&self.fetches).failure.clone();
            failure.unwrap_or_else(|| self.unavailable("it has not answered yet"))
        })
    }

    /// Other keys than `seen`, because a token names one that is not among those; `None` when there are none, or when
    /// it is too early to ask again.
    pub async fn newer_than(self: &Arc<Self>, seen: &Known) -> Option<Arc<Known>> {
        let is_newer = |known: &Arc<Known>| known.generation != seen.generation;
        if let Some(known) = self.known.load_full().filter(is_newer) {
            return Some(known);
        }
        let (running, _) = self.begin(Why::UnknownKey, self.clock.now());
        if let Some(mut running) = running {
            let _ = running.wait_for(|progress| *progress != Progress::Reading).await;
        }
        self.known.load_full().filter(is_newer)
    }

    /// The fetch under way, begun now unless that is too early; and whether the one before it failed.
    fn begin(self: &Arc<Self>, why: Why, now: Moment) -> (Option<watch::Receiver<Progress>>, bool) {
        let mut fetches = lock(&self.fetches);
        let had_failed = fetches.failure.is_some();
        if let Some(running) = fetches.running.clone().filter(|running| running.has_changed().is_ok()) {
            return (Some(running), had_failed);
        }
        let is_early = |at: Option<Moment>| at.is_some_and(|at| now.since(at) < COOL_DOWN);
        let may_force = why == Why::UnknownKey && !is_early(fetches.forced_at);
        if is_early(fetches.begun_at) && !may_force {
            return (None, had_failed);
        }
        fetches.begun_at = Some(now);
        if why == Why::UnknownKey {
            fetches.forced_at = Some(now);
        }
        let (progress, running) = watch::channel(Progress::Reading);
        fetches.running = Some(running.clone());
        drop(fetches);
        // A task of its own: whoever asked may hang up, and the keys are for everybody.
        tokio::spawn(Arc::clone(self).fetch(progress));
        (Some(running), had_failed)
    }

    async fn fetch(self: Arc<Self>, progress: watch::Sender<Progress>) {
        let reading = self.read();
        tokio::pin!(reading);
        let read = match tokio::time::timeout(PATIENCE, &mut reading).await {
            Ok(read) => read,
            Err(_slow) => {
                let _ = progress.send(Progress::Slow);
                let late = |_| Err("it does not answer in time".to_owned());
                tokio::time::timeout(LATE, reading).await.unwrap_or_else(late)
            }
        };
        let failure = match read {
            Ok(known) => {
                self.known.store(Some(Arc::new(known)));
                None
            }
            Err(why) => {
                *lock(&self.discovered) = None;
                let failure = self.unavailable(&why);
                tracing::warn!(issuer = %self.issuer, error = why, "cannot read an issuer's keys");
                Some(failure)
            }
        };
        lock(&self.fetches).failure = failure;
        let _ = progress.send(Progress::Done);
    }

    fn unavailable(&self, why: &str) -> Unavailable {
        Unavailable { issuer: self.issuer.clone(), why: why.to_owned() }
    }

    async fn read(&self) -> Result<Known, String> {
        let url = self.key_set_address().await?;
        let document = self.http.document(&url).await.map_err(|e| said(&e))?;
        let keys = KeySet::read(&document.value).ok_or("the key set is not one (RFC 7517 §5)")?;
        if keys.is_empty() {
            return Err("the key set holds no key that can be used".to_owned());
        }
        let now = self.clock.now();
        let text = document.value.to_string();
        let digest =
            digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes");
        let same = self.known.load_full().filter(|known| known.digest == digest).map(|known| known.generation);
        let keep = document.keep.unwrap_or(KEPT).clamp(LEAST_KEPT, MOST_KEPT);
        Ok(Known {
            keys,
            generation: same.unwrap_or_else(|| self.generations.fetch_add(1, Ordering::Relaxed)),
            read_at: now,
            renew_at: now.plus(keep * 4 / 5),
            fresh_until: now.plus(keep),
            clock_ahead: document.date.map(|date| date.millis() - now.millis()),
            digest,
        })
    }

    async fn key_set_address(&self) -> Result<String, String> {
        if let Some(url) = &self.jwks_url {
            return Ok(url.clone());
        }
        let now = self.clock.now();
        if let Some((at, url)) = &*lock(&self.discovered)
            && now.since(*at) < DISCOVERY_KEPT
        {
            return Ok(url.clone());
        }
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let document = self.http.json(&address).await.map_err(|e| format!("discovery: {}", said(&e)))?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let named = text("issuer").unwrap_or_default();
        if !is_same_issuer(named, &self.issuer) {
            return Err(format!(
                "the discovery document names the issuer {named:?}, the configuration {:?}",
                self.issuer
            ));
        }
        let url = text("jwks_uri").ok_or("the discovery document has no jwks_uri")?;
        check_url(url).map_err(|expected| format!("jwks_uri is {url:?}; expected {expected}"))?;
        // What is on loopback here is nothing for somebody else's document to name.
        if self.issuer.starts_with("https:") && !url.starts_with("https:") {
            return Err(format!("jwks_uri is {url:?}; expected https://, as the issuer is"));
        }
        *lock(&self.discovered) = Some((now, url.to_owned()));
        Ok(url.to_owned())
    }
}

/// An error with what is below it: "connection refused" is what an administrator can act upon.
fn said(e: &HttpError) -> String {
    let HttpError::Transport(transport) = e else { return e.to_string() };
    causes(&**transport)
}

/// Whether two texts name one issuer: exactly, or but for one slash at the end.
pub fn is_same_issuer(a: &str, b: &str) -> bool {
    a == b || a.strip_suffix('/') == Some(b) || b.strip_suffix('/') == Some(a)
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_is_all_that_may_differ() {
        assert!(is_same_issuer("https://a", "https://a") && is_same_issuer("https://a/", "https://a"));
        for (a, b) in
            [("https://a//", "https://a"), ("https://A", "https://a"), ("https://a/b", "https://a"), ("", "/x")]
        {
            assert!(!is_same_issuer(a, b), "{a} {b}");
        }
    }
}
