//! `Authorization: Bearer` and a signed token of a configured issuer.
//!
//! The order is: form, issuer, header, signature, claims, rules. The header decides nothing but which of the issuer's
//! keys is tried, and the key's type decides which algorithms can be meant. What was verified is remembered until the
//! token expires, the issuer's keys change or are due to be read again, or a right was taken away here.

pub mod checks;
pub mod explain;
mod jws;
mod refusals;

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::Value;

pub use jws::{LONGEST, UnverifiedJws};
pub use refusals::{Refusal, Refusals};

use super::{
    Authn, CredentialRefused, DigestCache, digest_cache,
    uses::{Arrival, Use},
};
use crate::{
    config::{Settings, workloads::Issuer},
    domain::{
        claim::Claims,
        event::{Actor, ActorKind},
        identity::{Credential, Identity, Workload},
        time::{Clock, Moment},
        workload::{NotGranted, Rule},
    },
    issuers::{
        Source, Unavailable,
        http::CaRefused,
        is_same_issuer,
        jwk::{Algorithm, NotVerified},
    },
};
use checks::{Check, Context, first_failed};

/// A bearer's use is an audit event once in this while.
const EVENT_EVERY: Duration = Duration::from_hours(1);
/// Verified tokens that are kept in memory.
const CACHED: u64 = 10_000;

/// Why a token of an issuer was not accepted. What is displayed is for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadRefused {
    /// It is no compact JWS.
    #[error("the token is not a JWT: {0}")]
    Malformed(&'static str),
    /// Its issuer is none of the configured.
    #[error("the token's issuer (iss) is not one that is trusted here")]
    UnknownIssuer,
    /// It is one of our own assertions.
    #[error("this is an assertion of lokid for another app, and no credential here")]
    OwnAssertion,
    /// A check of its header or claims.
    #[error("{says}")]
    Check {
        /// The audit log's word.
        reason: &'static str,
        /// What the caller is told.
        says: &'static str,
    },
    /// No key of the issuer has the name.
    #[error("no key of the issuer has the name that the token gives (kid)")]
    UnknownKey,
    /// The key is not for the algorithm.
    #[error("the key that the token names is not for its algorithm (alg)")]
    KeyType,
    /// The signature is not that of the key.
    #[error("the token's signature is not that of the issuer")]
    Signature,
    /// It lacks scopes of its issuer.
    #[error("the token lacks scopes that its issuer gives: {}", .0.join(" "))]
    Scopes(Vec<String>),
    /// No rule lets it in.
    #[error("no rule lets the bearer of this token in")]
    NoRule,
    /// The preset refuses it.
    #[error("{0}")]
    Preset(&'static str),
    /// The issuer's keys cannot be read, and none are known.
    #[error("the issuer's keys cannot be read at present; try again in a moment")]
    Unavailable(#[source] Unavailable),
}

impl WorkloadRefused {
    /// A stable word for the audit log and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_jwt",
            Self::UnknownIssuer => "unknown_issuer",
            Self::OwnAssertion => "own_assertion",
            Self::Check { reason, .. } => reason,
            Self::UnknownKey => "unknown_key",
            Self::KeyType => "key_type",
            Self::Signature => "signature",
            Self::Scopes(_) => "missing_scopes",
            Self::NoRule => "no_rule",
            Self::Preset(_) => "denied_by_preset",
            Self::Unavailable(_) => "issuer_unavailable",
        }
    }
}

impl From<&'static Check> for WorkloadRefused {
    fn from(check: &'static Check) -> Self {
        Self::Check { reason: check.reason, says: check.says }
    }
}

impl From<NotVerified> for WorkloadRefused {
    fn from(e: NotVerified) -> Self {
        match e {
            NotVerified::UnknownKey => Self::UnknownKey,
            NotVerified::WrongType => Self::KeyType,
            NotVerified::Signature => Self::Signature,
        }
    }
}

impl From<NotGranted> for WorkloadRefused {
    fn from(e: NotGranted) -> Self {
        match e {
            NotGranted::Scopes(missing) => Self::Scopes(missing),
            NotGranted::NoRule => Self::NoRule,
            NotGranted::Preset(why) => Self::Preset(why),
        }
    }
}

/// An issuer with its keys.
struct Trusted {
    settings: Issuer,
    keys: Arc<Source>,
    /// Clients of ours at the same issuer.
    own_clients: Vec<String>,
}

impl Trusted {
    fn is(&self, iss: &str) -> bool {
        is_same_issuer(&self.settings.issuer, iss) || self.settings.aliases.iter().any(|alias| alias == iss)
    }
}

/// What was verified.
#[derive(Clone)]
struct Kept {
    identity: Arc<Identity>,
    issuer: usize,
    generation: u64,
    epoch: u64,
    good_until: Moment,
}

/// A token that was accepted.
struct Verified {
    identity: Identity,
    issuer: usize,
    generation: u64,
    good_until: Moment,
}

/// All issuers of workload tokens.
pub struct Workloads {
    issuers: Vec<Trusted>,
    /// The issuer of our own assertions.
    own: String,
    clock: Clock,
    kept: DigestCache<[u8; 32], Kept>,
    told: moka::sync::Cache<String, ()>,
    /// The last refused tokens.
    pub refusals: Refusals,
}

impl Workloads {
    /// Speaks to no issuer yet.
    ///
    /// # Errors
    /// The short name of an issuer whose `ca_file` cannot be used.
    pub fn new(settings: &Settings, clock: &Clock) -> Result<Self, (String, CaRefused)> {
        let trusted = |issuer: &Issuer| {
            let keys =
                Source::new(&issuer.issuer, issuer.jwks_url.as_deref(), issuer.ca_file.as_deref(), clock.clone());
            let speaks = |provider: &str| issuer.names().any(|name| is_same_issuer(provider, name));
            let same = settings.auth.providers.iter().filter(|p| speaks(&p.issuer));
            let own_clients = same.map(|p| p.client_id.clone()).collect();
            let keys = keys.map_err(|e| (issuer.id.clone(), e))?;
            Ok(Trusted { settings: issuer.clone(), keys, own_clients })
        };
        Ok(Self {
            issuers: settings.auth.issuers.iter().map(trusted).collect::<Result<_, _>>()?,
            own: settings.server.public_url.as_str().trim_end_matches('/').to_owned(),
            clock: clock.clone(),
            kept: digest_cache(CACHED),
            told: moka::sync::Cache::builder().max_capacity(CACHED).time_to_live(EVENT_EVERY).build(),
            refusals: Refusals::default(),
        })
    }

    /// Whether a token that nobody has verified says that it is for us: from a configured issuer, for its audience.
    pub fn claims_to_be_ours(&self, text: &str) -> bool {
        let Ok(jws) = UnverifiedJws::read(text) else { return false };
        let Some(issuer) = self.issuer_of(&jws.claims) else { return false };
        let is_ours = |aud: &Value| {
            aud.as_str().is_some_and(|aud| self.issuers[issuer].settings.audiences.iter().any(|a| a == aud))
        };
        match jws.claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(is_ours),
            Some(aud) => is_ours(aud),
            None => false,
        }
    }

    fn issuer_of(&self, claims: &Claims) -> Option<usize> {
        let iss = claims.get("iss")?.as_str()?;
        self.issuers.iter().position(|trusted| trusted.is(iss))
    }

    fn context<'a>(&'a self, trusted: &'a Trusted, header: &'a Claims, claims: &'a Claims) -> Context<'a> {
        let now = self.clock.now().seconds();
        Context { header, claims, issuer: &trusted.settings, own_clients: &trusted.own_clients, now }
    }

    /// Verifies a token, and keeps the reason if it is refused.
    async fn verify(&self, text: &str) -> Result<Verified, WorkloadRefused> {
        let jws = UnverifiedJws::read(text)?;
        let Some(at) = self.issuer_of(&jws.claims) else {
            let is_own = jws.claims.get("iss").and_then(Value::as_str) == Some(&self.own);
            return Err(if is_own { WorkloadRefused::OwnAssertion } else { WorkloadRefused::UnknownIssuer });
        };
        let mut is_signed = false;
        let verified = self.verify_for(at, &jws, &mut is_signed).await;
        if let Err(e) = &verified {
            self.refusals.add(Refusal {
                id: 0,
                at: self.clock.now(),
                times: 1,
                issuer: self.issuers[at].settings.id.clone(),
                reason: e.reason(),
                is_signed,
                header: jws.header,
                claims: jws.claims,
            });
        }
        verified
    }

    async fn verify_for(
        &self,
        at: usize,
        jws: &UnverifiedJws<'_>,
        is_signed: &mut bool,
    ) -> Result<Verified, WorkloadRefused> {
        let trusted = &self.issuers[at];
        let context = self.context(trusted, &jws.header, &jws.claims);
        if let Some(failed) = first_failed(&checks::HEADER, &context) {
            return Err(failed.into());
        }
        let generation = self.verify_signature(trusted, jws).await?;
        *is_signed = true;
        if let Some(failed) = first_failed(&checks::CLAIMS, &context) {
            return Err(failed.into());
        }
        let rule = trusted.settings.policy.decide(&jws.claims)?;
        let exp = Moment::from_seconds(checks::seconds(&jws.claims, "exp").unwrap_or_default());
        Ok(Verified {
            identity: identity(&trusted.settings, rule, jws, exp),
            issuer: at,
            generation,
            good_until: exp.plus(Duration::from_secs(checks::SKEW.unsigned_abs())),
        })
    }

    /// The generation of the keys that verified it. An unknown key makes them be read again, within the cool-down.
    async fn verify_signature(&self, trusted: &Trusted, jws: &UnverifiedJws<'_>) -> Result<u64, WorkloadRefused> {
        let text = |name: &str| jws.header.get(name).and_then(Value::as_str);
        let Some(algorithm) = text("alg").and_then(Algorithm::named) else { return Err(WorkloadRefused::KeyType) };
        let known = trusted.keys.keys().await.map_err(WorkloadRefused::Unavailable)?;
        match known.keys.verify(algorithm, text("kid"), jws.signed, &jws.signature) {
            Ok(()) => return Ok(known.generation),
            Err(NotVerified::UnknownKey) => {}
            Err(e) => return Err(e.into()),
        }
        let newer = trusted.keys.newer_than(&known).await.ok_or(WorkloadRefused::UnknownKey)?;
        newer.keys.verify(algorithm, text("kid"), jws.signed, &jws.signature)?;
        Ok(newer.generation)
    }

    /// Reads every issuer's keys: its short name, and how many there are.
    pub async fn look(&self) -> Vec<(String, Result<usize, Unavailable>)> {
        let look = async |trusted: &Trusted| {
            (trusted.settings.id.clone(), trusted.keys.keys().await.map(|known| known.keys.len()))
        };
        futures_util::future::join_all(self.issuers.iter().map(look)).await
    }

    /// Who a remembered token belongs to, while that is still so.
    fn remembered(&self, digest: &[u8; 32], epoch: Option<u64>) -> Option<Arc<Identity>> {
        let kept = self.kept.get(digest)?;
        let is_good = Some(kept.epoch) == epoch
            && self.clock.now() < kept.good_until
            && self.issuers[kept.issuer].keys.generation() == Some(kept.generation);
        is_good.then_some(kept.identity)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn identity(issuer: &Issuer, rule: &Rule, jws: &UnverifiedJws<'_>, exp: Moment) -> Identity {
    let claims = &jws.claims;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // What is signed, not the signature: that of ECDSA can be written in two ways.
    let digest = sha256(jws.signed);
    let once = text("jti")
        .filter(|jti| !jti.is_empty())
        .map_or(digest, |jti| sha256(format!("{}\0{jti}", issuer.id).as_bytes()));
    let workload = Workload {
        id: format!("jwt-{}", HEXLOWER.encode(&digest[..12])),
        issuer: issuer.id.clone(),
        rule: rule.name.clone(),
        once: HEXLOWER.encode(&once),
        exchange_life: rule.exchange_life,
        provenance: issuer.policy.provenance(claims),
    };
    let id = format!("{}:{}", issuer.id, text("sub").unwrap_or_default());
    let actor = Actor::new(ActorKind::Workload, &id, &issuer.policy.name_of(claims));
    let credential = Credential::Workload(Arc::new(workload));
    let mut identity = Identity::of_automation(actor, credential, rule.role.clone(), rule.scopes);
    identity.expires_at = Some(exp);
    identity.domains = rule.domains.of(claims);
    identity
}

impl Authn {
    /// Who bears this token of a configured issuer. `from` is the true client's address.
    ///
    /// # Errors
    /// [`CredentialRefused`] says why nobody does.
    pub async fn by_jwt(&self, presented: &str, from: IpAddr) -> Result<Arc<Identity>, CredentialRefused> {
        // The epoch is read before anything is looked up: what changes meanwhile makes the entry stale at once.
        let epoch = self.store.rights().epoch();
        let digest = sha256(presented.as_bytes());
        if let Some(identity) = self.workloads.remembered(&digest, epoch) {
            return Ok(identity);
        }
        let verified = self.workloads.verify(presented).await?;
        let identity = Arc::new(verified.identity);
        if let Some(epoch) = epoch {
            let Verified { issuer, generation, good_until, .. } = verified;
            let kept = Kept { identity: Arc::clone(&identity), issuer, generation, epoch, good_until };
            self.workloads.kept.insert(digest, kept);
        }
        self.tell(&self.workloads.told, &identity, from);
        Ok(identity)
    }

    /// Who bears this token, if it was verified before and nothing has changed since. `None` says nothing:
    /// [`Self::by_jwt`] knows.
    pub fn by_known_jwt(&self, presented: &str) -> Option<Arc<Identity>> {
        self.workloads.remembered(&sha256(presented.as_bytes()), self.store.rights().epoch())
    }

    /// Notes the first use of a credential in a while.
    pub(super) fn tell(&self, told: &moka::sync::Cache<String, ()>, identity: &Identity, from: IpAddr) {
        if !told.contains_key(&identity.actor.id) {
            told.insert(identity.actor.id.clone(), ());
            let rule = match &identity.credential {
                Credential::Workload(workload) => workload.rule.clone(),
                _ => String::new(),
            };
            let (actor, at) = (identity.actor.clone(), self.clock.now());
            self.uses.add(Use::FirstOfAutomation(Arrival { actor, rule, at, from: from.to_string() }));
        }
    }
}
