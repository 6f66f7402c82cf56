//! Our signing keys: where they come from, how they are rotated, and noticing that they changed.
//!
//! A ring has one of four sources. Keys that lokid keeps itself are rotated here; those of a file by the
//! command line, which rewrites the file under the same rules; those of the environment by whoever sets it.
//! The database knows of every published key when it took which step.

pub mod file;
pub mod follow;
pub mod ring;
pub mod share;
pub mod shared;
pub(super) mod steps;
pub mod watch;

use std::{path::Path, sync::Arc};

use zeroize::Zeroizing;

use self::{
    ring::ShareRefused,
    share::Share,
    steps::{chosen, full},
};
use super::{ActError, App, nodes, vouching};
use crate::{
    config::{Settings, server::Signing},
    domain::{
        entropy::Entropy,
        event::{Actor, Origin},
        identity::{Caller, ManageKeys},
        rotation::{KeyRecord, KeyState, StepRefused, confirmed, promotable},
        time::Moment,
    },
    keys::{
        keyring::Keyring,
        seal::{Purpose, Sealer},
        sign::{KeyRefused, SigningKey},
    },
    store::{
        Store, StoreError,
        signing_keys::{By, REVOKED, Rotate, Step, StoredKey},
    },
};

/// Signing keys cannot be used as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum KeysRefused {
    /// The file.
    #[error("signing_key_file {0}: {1}")]
    File(String, std::io::Error),
    /// What it holds.
    #[error("signing_key: {0}")]
    Key(#[from] KeyRefused),
    /// A kept key was sealed under another secret.
    #[error(
        "the signing key {0} in the database was sealed under another server.secret; set that one again, or \
         take the key out: lokid keys revoke {0}"
    )]
    Sealed(String),
    /// The way between the nodes.
    #[error(transparent)]
    Share(#[from] ShareRefused),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ring that the settings name. A server whose database keeps the keys makes the first one.
///
/// # Errors
/// [`KeysRefused`].
pub(super) async fn ring(
    settings: &Settings,
    store: &Store,
    sealer: &Sealer,
    share: Option<&Share>,
    now: Moment,
    is_server: bool,
) -> Result<Keyring, KeysRefused> {
    if let Some(share) = share {
        // Much of it is the NATS client's, and every start would carry that.
        return Box::pin(share.begin(store, now)).await;
    }
    match &settings.signing {
        Signing::File(path) => read_file(path),
        Signing::Given(text) => Ok(Keyring::read(text.reveal())?),
        Signing::Ephemeral | Signing::Shared(_) => Ok(Keyring::ephemeral()),
        Signing::Kept(_) => {
            if is_server {
                make_first(store, sealer, now).await?;
            }
            match of_stored(&store.signing_keys().await?, sealer) {
                // Else the command that the refusal names could not be run either.
                Err(e @ KeysRefused::Sealed(_)) if !is_server => {
                    tracing::warn!(error = %e, "this command goes on without the signing keys");
                    Ok(Keyring::ephemeral())
                }
                read => Ok(read?.unwrap_or_else(Keyring::ephemeral)),
            }
        }
    }
}

/// The ring of a file.
///
/// # Errors
/// [`KeysRefused`].
pub fn read_file(path: &Path) -> Result<Keyring, KeysRefused> {
    Ok(Keyring::read(&read_text(path)?)?)
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, KeysRefused> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|e| KeysRefused::File(path.display().to_string(), e))
}

async fn make_first(store: &Store, sealer: &Sealer, now: Moment) -> Result<(), KeysRefused> {
    let key = SigningKey::generate();
    let by = By { actor: Actor::system(), origin: Origin::default(), at: now };
    // Refused when another node, or an earlier start, was first.
    if store.act(Rotate { step: add(&key, sealer, true), force: false, by }).await?.is_ok() {
        tracing::info!(kid = key.kid(), "a signing key was made and is kept in the database");
    }
    Ok(())
}

fn add(key: &SigningKey, sealer: &Sealer, only_first: bool) -> Step {
    let (kid, alg, sealed) = sealed(key, sealer);
    Step::Add { kid, alg, sealed, only_first }
}

fn sealed(key: &SigningKey, sealer: &Sealer) -> (String, String, Vec<u8>) {
    let sealed = sealer.seal(Purpose::SigningKey, key.to_pem().as_bytes(), Entropy);
    (key.kid().to_owned(), key.alg().to_owned(), sealed)
}

/// The ring of the keys that the database keeps: the active one first. `None` without any.
fn of_stored(stored: &[StoredKey], sealer: &Sealer) -> Result<Option<Keyring>, KeysRefused> {
    let mut published: Vec<_> = stored.iter().filter(|k| k.record.state() != KeyState::Gone).collect();
    published.sort_by_key(|k| k.record.state() != KeyState::Active);
    let open = |key: &&StoredKey| {
        let refused = || KeysRefused::Sealed(key.record.kid.clone());
        let pem = sealer.open(Purpose::SigningKey, key.sealed.as_deref()?).map_err(|_| refused());
        let read = |pem: &[u8]| SigningKey::read_one(std::str::from_utf8(pem).unwrap_or_default());
        Some(pem.and_then(|pem| read(&pem).map_err(|_| refused())))
    };
    // A row without a private half belongs to a ring of another source that was used before.
    let keys = published.iter().filter_map(open).collect::<Result<Vec<_>, _>>()?;
    Ok(Keyring::of_keys(keys))
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, rotated with `lokid keys rotate`.
    File(String),
    /// The environment or the configuration.
    Given,
    /// The database.
    Kept,
    /// NATS.
    Shared,
    /// The process itself.
    Ephemeral,
}

/// Every key that is or was published, and where they come from.
#[derive(Debug)]
pub struct Ring {
    /// Where they come from.
    pub source: Source,
    /// The oldest first.
    pub keys: Vec<KeyRecord>,
}

/// Where the keys of these settings come from.
pub fn source(settings: &Settings) -> Source {
    match &settings.signing {
        Signing::File(path) => Source::File(path.display().to_string()),
        Signing::Given(_) => Source::Given,
        Signing::Kept(_) => Source::Kept,
        Signing::Shared(_) => Source::Shared,
        Signing::Ephemeral => Source::Ephemeral,
    }
}

/// The keys and where each is on its way.
///
/// # Errors
/// When the database cannot say.
pub async fn list(app: &App, _: &Caller<ManageKeys>) -> Result<Ring, ActError> {
    Ok(Ring { source: source(&app.settings), keys: app.store.key_records().await? })
}

/// A step, as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Publish a new key.
    Add,
    /// Let the next key sign; by its name or the only one.
    Promote(Option<String>),
    /// Take a key out of the set; by its name or the only one that may go.
    Remove(Option<String>),
    /// Take a key out at once.
    Revoke(String),
}

impl Asked {
    /// Why the key that the step takes out is gone.
    const fn why(&self) -> &'static str {
        match self {
            Self::Revoke(_) => REVOKED,
            Self::Add | Self::Promote(_) | Self::Remove(_) => "",
        }
    }
}

/// Takes a step with the keys that lokid keeps.
///
/// # Errors
/// [`ActError::Step`] when it is too early or does not lead on; [`ActError::Conflict`] for other sources.
pub async fn rotate(
    app: &App,
    caller: &Caller<ManageKeys>,
    asked: Asked,
    force: bool,
    from: &Origin,
) -> Result<(), ActError> {
    let by = By { actor: caller.identity().actor.clone(), origin: from.clone(), at: app.now() };
    match source(&app.settings) {
        Source::Kept | Source::Shared => step(app, asked, force, by).await,
        Source::File(_) => Err(ActError::Conflict(
            "the keys come from signing_key_file: rotate them with lokid keys rotate where that file is".into(),
        )),
        Source::Given => Err(ActError::Conflict(
            "the keys come from signing_key: change that value, the order of its keys is what rotates them".into(),
        )),
        Source::Ephemeral => Err(ActError::Conflict(
            "the key lasts only as long as this process; set server.secret, or a signing_key_file, to have keys to rotate"
                .into(),
        )),
    }
}

/// Takes a step with keys that are kept in the database or shared through NATS.
async fn step(app: &App, asked: Asked, force: bool, by: By) -> Result<(), ActError> {
    let known = app.store.key_records().await?;
    if let (Asked::Promote(kid), false) = (&asked, force) {
        let kid = chosen(&known, kid.clone(), KeyState::Next)?;
        let key = promotable(&known, &kid, false, by.at)?;
        confirmed(key, &nodes::living(app).await?, by.at).map_err(StepRefused::from)?;
    }
    vouching::before(app, &asked).await?;
    match &app.share {
        Some(share) => share.rotate(app, &asked, force, by).await?,
        None => step_of_kept(app, &known, asked, force, by).await?,
    }
    Ok(vouching::after(app).await?)
}

async fn step_of_kept(app: &App, known: &[KeyRecord], asked: Asked, force: bool, by: By) -> Result<(), ActError> {
    let step = match asked {
        Asked::Add => add(&SigningKey::generate(), &app.sealer, false),
        Asked::Promote(kid) => Step::Promote { kid: chosen(known, kid, KeyState::Next)? },
        Asked::Remove(kid) => Step::Remove { kid: chosen(known, kid, KeyState::Retiring)? },
        Asked::Revoke(kid) => {
            Step::Revoke { kid: full(known, &kid)?, instead: sealed(&SigningKey::generate(), &app.sealer) }
        }
    };
    app.store.act(Rotate { step, force, by }).await??;
    adopt(app, &app.store.signing_keys().await?);
    Ok(())
}

/// Takes the ring that the database keeps now; one that cannot be used keeps the old.
fn adopt(app: &App, stored: &[StoredKey]) {
    match of_stored(stored, &app.sealer) {
        Ok(Some(ring)) => app.keys.store(Arc::new(ring)),
        Ok(None) => tracing::error!("the database keeps no signing key; the ring stays as it was"),
        Err(e) => tracing::error!(error = %e, "the signing keys stay as they were"),
    }
}
