//! What an operator does by hand with the ring that the nodes share: look at it, put it into NATS, take it from there.

use std::path::Path;

use super::{
    read_text,
    ring::{ShareRefused, published, ring_of, tell},
    share::Share,
    watch::observe,
};
use crate::{
    actions::{ActError, App},
    cluster::{
        disk,
        envelope::{self, Ring},
    },
    domain::{
        event::{EventName, Origin},
        identity::{Caller, ManageKeys},
    },
    keys::sign::SigningKey,
    store::signing_keys::By,
};

/// A ring somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its revision.
    pub revision: u64,
    /// Its keys; the first signs.
    pub keys: Vec<String>,
    /// The fingerprint of the bootstrap token that sealed it.
    pub sealed_under: String,
}

/// A ring that was put into NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// As it is there now.
    pub seen: Seen,
    /// The fingerprint of the token that sealed what was there before, if anything was.
    pub before: Option<String>,
}

/// What there is.
#[derive(Debug)]
pub struct Overview {
    /// The ring in NATS; `None` for none.
    pub nats: Result<Option<Seen>, ShareRefused>,
    /// This node's copy; `None` for none.
    pub copy: Result<Option<Seen>, ShareRefused>,
    /// Fingerprints of this node's bootstrap tokens; the first seals.
    pub tokens: Vec<String>,
}

fn seen(ring: &Ring, keys: &[SigningKey], sealed: &[u8]) -> Seen {
    let sealed_under = envelope::sealed_under(sealed).unwrap_or_default();
    Seen { revision: ring.revision, keys: keys.iter().map(|key| key.kid().to_owned()).collect(), sealed_under }
}

fn shares(app: &App) -> Result<&Share, ActError> {
    app.share.as_ref().ok_or_else(|| ActError::Conflict("the nodes share no keys; set cluster.nats_url".into()))
}

fn refused(e: impl Into<ShareRefused>) -> ActError {
    ActError::Conflict(e.into().to_string())
}

/// What NATS holds, and what this node's copy.
///
/// # Errors
/// [`ActError::Conflict`] when nothing is shared.
pub async fn overview(app: &App, _: &Caller<ManageKeys>) -> Result<Overview, ActError> {
    let share = shares(app)?;
    let nats = async {
        let Some(found) = share.bucket().await?.get().await? else { return Ok(None) };
        share.open(&found.value, &share.in_nats()).map(|(ring, keys)| Some(seen(&ring, &keys, &found.value)))
    };
    let copy = || {
        let Some(held) = share.copy()? else { return Ok(None) };
        let (ring, keys) = share.open(&held.sealed, "")?;
        Ok(Some(seen(&ring, &keys, &held.sealed)))
    };
    Ok(Overview { nats: nats.await, copy: copy(), tokens: share.fingerprints() })
}

/// Takes the ring from NATS into this node's copy.
///
/// # Errors
/// [`ActError::Conflict`] says what is in the way; the copy is as it was then.
pub async fn fetch(app: &App, _: &Caller<ManageKeys>) -> Result<Seen, ActError> {
    let share = shares(app)?;
    let found = share.bucket().await.map_err(refused)?.get().await.map_err(refused)?;
    let found = found.ok_or_else(|| refused(share.no_leader(std::time::Duration::ZERO)))?;
    let (ring, keys) = share.open(&found.value, &share.in_nats()).map_err(refused)?;
    if let Some(copy) = share.copy().map_err(refused)?
        && copy.ring.revision > ring.revision
    {
        return Err(ActError::Conflict(format!(
            "this node's copy has revision {}, which is newer than {} {}; put it there with: lokid cluster key publish",
            copy.ring.revision,
            ring.revision,
            share.in_nats()
        )));
    }
    disk::save(&share.settings.file, &found.value).map_err(refused)?;
    Ok(seen(&ring, &keys, &found.value))
}

/// Puts a ring into NATS: where there is none, the keys of a file, this node's copy, or a new key; where there is one, the same
/// sealed anew under the first bootstrap token, or this node's copy when that is newer.
///
/// # Errors
/// [`ActError::Conflict`] says what is in the way; NATS holds what it held then.
pub async fn publish(app: &App, who: &Caller<ManageKeys>, file: Option<&Path>) -> Result<Published, ActError> {
    let (share, now) = (shares(app)?, app.now());
    let by = By { actor: who.identity().actor.clone(), origin: Origin::default(), at: now };
    let bucket = share.bucket().await.map_err(refused)?;
    let found = bucket.get().await.map_err(refused)?;
    let copy = share.copy().map_err(refused)?;
    let before = found.as_ref().and_then(|found| envelope::sealed_under(&found.value));
    let there = found.as_ref().map(|found| share.open(&found.value, &share.in_nats()));
    let (ring, why) = match (there, copy, file) {
        (Some(_), _, Some(_)) => {
            return Err(ActError::Conflict(
                "NATS holds signing keys already; change them with: lokid keys rotate add, promote, remove".into(),
            ));
        }
        (Some(Ok((ring, _))), Some(copy), None) if copy.ring.revision > ring.revision => {
            (copy.ring, "a node's were newer")
        }
        (Some(Ok((ring, _))), _, None) => (ring, "sealed anew"),
        (Some(Err(_)), Some(copy), None) => (copy.ring, "those that were there could not be opened"),
        (Some(Err(e)), None, None) => return Err(refused(e)),
        (None, _, Some(file)) => {
            let text = read_text(file).map_err(|e| ActError::Conflict(e.to_string()))?;
            let keys =
                SigningKey::read_all(&text).map_err(|e| ActError::Conflict(format!("{}: {e}", file.display())))?;
            let keys = published(&app.store, keys, String::new()).await.map_err(|e| match e {
                ShareRefused::Gone(_, kid) => {
                    ActError::Conflict(format!("{}: {kid} signed here before and was taken out", file.display()))
                }
                ShareRefused::Store(e) => e.into(),
                e => refused(e),
            })?;
            (ring_of(&keys, 1), "published")
        }
        (None, Some(copy), None) => (copy.ring, "published"),
        (None, None, None) => (ring_of(&[SigningKey::generate()], 1), "published"),
    };
    let held = share.seal(ring);
    let put = match found {
        Some(found) => bucket.replace(&held.sealed, found.number).await,
        None => bucket.create(&held.sealed).await,
    };
    if put.map_err(refused)?.is_none() {
        return Err(ActError::Conflict("another node changed the signing keys at the same time; look again".into()));
    }
    let (ring, keys) = share.open(&held.sealed, &share.in_nats()).map_err(refused)?;
    let shown = seen(&ring, &keys, &held.sealed);
    let actor = by.actor.clone();
    observe(app, &keys, by).await?;
    tell(&app.store, (now, actor), EventName::KeysSynced, &ring, why).await?;
    Ok(Published { seen: shown, before })
}
