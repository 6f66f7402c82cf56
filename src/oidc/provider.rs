//! One configured provider: its metadata and keys, read when first needed and again when they change.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use openidconnect::core::CoreProviderMetadata;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::{OidcError, keyset::KeySet};
use crate::{
    config::auth::{ClientAuth, Provider as Configured},
    domain::time::{Clock, Moment},
    issuers::http::{CaRefused, HttpClient, HttpError},
    keys::sign::{KeyRefused, SigningKey},
};

/// Metadata are read again after this long.
const FRESH: Duration = Duration::from_hours(6);
/// After a fetch, the next one waits at least this long, whatever tokens arrive.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long a sign of life may take.
const PROBE_WITHIN: Duration = Duration::from_secs(3);
/// A person who wants to sign in is worth a question, but not more than one in this while.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// What a provider publishes about itself (OpenID Connect Discovery §3).
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) typed: CoreProviderMetadata,
    /// RFC 9207: answers carry `iss`.
    pub(super) answers_carry_iss: bool,
    pub(super) end_session: Option<Url>,
    pub(super) keys: KeySet,
    pub(super) read_at: Moment,
}

/// A provider that people can sign in with.
pub struct Provider {
    pub(super) settings: Configured,
    pub(super) http: HttpClient,
    pub(super) signer: Option<SigningKey>,
    pub(super) clock: Clock,
    /// Where the provider sends people back to.
    pub(super) redirect_uri: Url,
    metadata: ArcSwapOption<Metadata>,
    /// When a fetch was last tried; holding it makes fetches one at a time.
    fetching: Mutex<Fetching>,
    /// When a sign of life was last asked for, and what came.
    probed: Mutex<Option<(Moment, Result<(), OidcError>)>>,
}

/// What is remembered of fetches.
#[derive(Default)]
struct Fetching {
    /// The last one, and what went wrong with it.
    last: Option<(Moment, Option<OidcError>)>,
    /// The last one that a token which fits no key asked for.
    forced_at: Option<Moment>,
}

/// Why metadata are fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There are none, or they are old.
    Old,
    /// A token fits none of their keys.
    Unfitting,
}

/// All configured providers.
#[derive(Clone, Default)]
pub struct Providers(Vec<Arc<Provider>>);

/// A provider cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ProviderRefused {
    /// Its CA file.
    #[error("enterprise.auth.oidc ({0}): ca_file: {1}")]
    Ca(String, CaRefused),
    /// Our private key's file.
    #[error("enterprise.auth.oidc ({0}): private_key_file: {1}")]
    KeyFile(String, std::io::Error),
    /// Our private key.
    #[error("enterprise.auth.oidc ({0}): private_key_file: {1}")]
    Key(String, KeyRefused),
}

impl Providers {
    /// Builds clients for all; speaks to none of them yet.
    ///
    /// # Errors
    /// When a file that the configuration names cannot be used.
    pub fn new(configured: &[Configured], public_url: &Url, clock: &Clock) -> Result<Self, ProviderRefused> {
        let build = |c: &Configured| Provider::new(c.clone(), public_url, clock.clone()).map(Arc::new);
        configured.iter().map(build).collect::<Result<_, _>>().map(Self)
    }

    /// The provider of this id.
    pub fn find(&self, id: &str) -> Option<&Arc<Provider>> {
        self.0.iter().find(|p| p.settings.id == id)
    }

    /// The provider of this issuer.
    pub fn by_issuer(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.0.iter().find(|p| p.settings.issuer == issuer)
    }

    /// In the order of their buttons.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Provider {
    fn new(settings: Configured, public_url: &Url, clock: Clock) -> Result<Self, ProviderRefused> {
        let id = || settings.id.clone();
        let http = HttpClient::new(settings.ca_file.as_deref()).map_err(|e| ProviderRefused::Ca(id(), e))?;
        let signer = match &settings.client_auth {
            ClientAuth::PrivateKey { file, kid } => {
                let pem = std::fs::read_to_string(file).map_err(|e| ProviderRefused::KeyFile(id(), e))?;
                Some(
                    SigningKey::read_one(&pem)
                        .map(|key| key.presented_as(kid.clone()))
                        .map_err(|e| ProviderRefused::Key(id(), e))?,
                )
            }
            _ => None,
        };
        let redirect_uri = public_url.join("/auth/oidc/callback").expect("a fixed path");
        Ok(Self {
            settings,
            http,
            signer,
            clock,
            redirect_uri,
            metadata: ArcSwapOption::empty(),
            fetching: Mutex::default(),
            probed: Mutex::new(None),
        })
    }

    /// Short name in addresses and rules.
    pub fn id(&self) -> &str {
        &self.settings.id
    }

    /// What the button says.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Addresses that a browser is sent to: the issuer's and, once known, that of the end of sessions.
    pub fn origins(&self) -> Vec<String> {
        let end = self.metadata.load().as_ref().and_then(|m| m.end_session.as_ref().map(Url::to_string));
        std::iter::once(self.settings.issuer.clone()).chain(end).collect()
    }

    /// What else was configured.
    pub fn settings(&self) -> &Configured {
        &self.settings
    }

    /// When its keys were read last; `None` while they were not.
    pub fn keys_read_at(&self) -> Option<Moment> {
        self.metadata.load().as_ref().map(|known| known.read_at)
    }

    /// Metadata and keys, fetched if they are not there or old. Old ones are better than none.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, OidcError> {
        let known = self.metadata.load_full();
        match &known {
            Some(m) if self.clock.now().since(m.read_at) < FRESH => return Ok(Arc::clone(m)),
            _ => {}
        }
        match self.fetch(Why::Old).await {
            Ok(fetched) => Ok(fetched),
            Err(e) => known.ok_or(e),
        }
    }

    /// Metadata newer than `seen`, because a token did not fit its keys; the same when it is too early
    /// to ask again.
    pub(super) async fn newer_than(&self, seen: &Metadata) -> Option<Arc<Metadata>> {
        let fetched = self.fetch(Why::Unfitting).await.ok()?;
        (!std::ptr::eq(&raw const *fetched, seen)).then_some(fetched)
    }

    /// Asks the provider for a sign of life, at most twice a second, so that a person is not sent to one
    /// that is not there. Keys and metadata stay as they are.
    ///
    /// # Errors
    /// What went wrong when it was last asked.
    pub async fn probe(&self) -> Result<(), OidcError> {
        if self.metadata.load().is_none() {
            return self.metadata().await.map(drop);
        }
        let mut last = self.probed.lock().await;
        let now = self.clock.now();
        if let Some((at, result)) = &*last
            && now.since(*at) < PROBE_EVERY
        {
            return result.clone();
        }
        let silent = || OidcError::Unreachable("it does not answer".into());
        // Noted before the answer is there: who asks may give up while it is under way.
        *last = Some((now, Err(silent())));
        let asked = tokio::time::timeout(PROBE_WITHIN, self.http.json(&self.discovery_address())).await;
        let result = match asked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(OidcError::Unreachable(format!("discovery: {e}"))),
            Err(_) => Err(silent()),
        };
        *last = Some((now, result.clone()));
        result
    }

    fn discovery_address(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'))
    }

    /// One fetch at a time, and of each reason not more than one per cool-down: who comes later gets the same
    /// answer. (Of each: a provider may change its keys right after they were read for the first time.)
    async fn fetch(&self, why: Why) -> Result<Arc<Metadata>, OidcError> {
        let mut fetching = self.fetching.lock().await;
        let now = self.clock.now();
        let is_early = |at: &Moment| now.since(*at) < COOL_DOWN;
        let may_force = why == Why::Unfitting && !fetching.forced_at.as_ref().is_some_and(is_early);
        if may_force {
            fetching.forced_at = Some(now);
        }
        let last = &mut fetching.last;
        if let Some((at, failure)) = &*last
            && is_early(at)
            && !may_force
        {
            return match (failure, self.metadata.load_full()) {
                (None, Some(metadata)) => Ok(metadata),
                (Some(e), _) => Err(e.clone()),
                (None, None) => Err(OidcError::Unreachable("no metadata yet".into())),
            };
        }
        // Noted before the answer: whoever waits no longer (the sign-in page) drops this future on the way.
        *last = Some((now, Some(OidcError::Unreachable("it has not answered yet".into()))));
        let fetched = self.read(now).await;
        *last = Some((now, fetched.as_ref().err().cloned()));
        if let Err(e) = &fetched {
            tracing::warn!(provider = %self.settings.id, error = %e, "cannot read the provider's metadata");
        }
        let metadata = Arc::new(fetched?);
        self.metadata.store(Some(Arc::clone(&metadata)));
        Ok(metadata)
    }

    async fn read(&self, now: Moment) -> Result<Metadata, OidcError> {
        let unreachable = |what: &str| {
            let what = what.to_owned();
            move |e: HttpError| OidcError::Unreachable(format!("{what}: {e}"))
        };
        let issuer = &self.settings.issuer;
        let document = self.http.json(&self.discovery_address()).await.map_err(unreachable("discovery"))?;
        // Compared exactly: https://a/ and https://a are two issuers (Discovery §4.3).
        let named = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if named != issuer {
            return Err(OidcError::Unreachable(format!(
                "the discovery document names the issuer {named:?}, the configuration {issuer:?}"
            )));
        }
        let typed: CoreProviderMetadata = serde_json::from_value(document.clone())
            .map_err(|e| OidcError::Unreachable(format!("the discovery document is not complete: {e}")))?;
        let jwks = self.http.json(typed.jwks_uri().as_str()).await.map_err(unreachable("key set"))?;
        let keys = KeySet::read(&jwks).filter(|k| !k.is_empty());
        let url = |name: &str| document.get(name).and_then(Value::as_str).and_then(|u| Url::parse(u).ok());
        Ok(Metadata {
            answers_carry_iss: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
            end_session: url("end_session_endpoint"),
            keys: keys.ok_or_else(|| OidcError::Unreachable("the key set holds no usable key".into()))?,
            typed,
            read_at: now,
        })
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.settings.id)
    }
}
