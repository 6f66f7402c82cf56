//! Whose statements about the audit log are believed, besides those of the keys that we have now.
//!
//! Each checkpoint names the keys that signed before it. The list goes from one checkpoint to the next: a server takes it
//! from the last one that a key of its own signed, or one for which the installation's secret vouches. So nobody gets
//! into it by writing to the database, and a key that was revoked is not on it any more.

use super::{
    ActError, App, evidence,
    keys::{Asked, steps::is_called},
};
use crate::{
    domain::{
        checkpoint::{Checkpoint, Endorsement, Statement as _, Tombstone, Vouching},
        identity::{Caller, ReadAudit},
        ledger::Head,
    },
    keys::{
        sign::SigningKey,
        verify::{PublicKeys, Signed},
    },
    store::{
        StoreError,
        evidence::{Restate, Signer, StoredTombstone},
        ledger::Filter,
    },
};

/// Names on the list: the newest stay.
const MOST: usize = 100;

/// What the next checkpoint of this signer says of the other keys.
///
/// # Errors
/// When the database cannot say.
pub(super) async fn of(app: &App, signer: &Signer) -> Result<Vouching, StoreError> {
    let mut keys = believed(app).await?;
    keys.retain(|kid| *kid != signer.kid);
    keys.truncate(MOST);
    let endorse = |key: SigningKey| key.sign(Endorsement::TYP, &Endorsement { kid: signer.kid.clone() });
    let endorsement = evidence::fallback(app).filter(|key| key.kid() != signer.kid).map(endorse);
    Ok(Vouching { keys, endorsement })
}

/// The names of all keys whose statements about the log are believed, the newest first.
async fn believed(app: &App) -> Result<Vec<String>, StoreError> {
    let mut keys: Vec<String> = Vec::new();
    let ring = app.keys.load_full();
    if !ring.is_ephemeral() {
        keys.extend(ring.keys().iter().map(|key| key.kid().to_owned()));
    }
    keys.extend(evidence::fallback(app).map(|key| key.kid().to_owned()));
    keys.extend(handed_down(app).await?);
    let revoked = app.store.revoked_keys().await?;
    let mut seen = std::collections::HashSet::new();
    keys.retain(|kid| !revoked.contains(kid) && seen.insert(kid.clone()));
    Ok(keys)
}

/// The signer of the last checkpoint and the keys that it names, if it is one of ours.
async fn handed_down(app: &App) -> Result<Vec<String>, StoreError> {
    // Found by its place, and where it stands in the chain it was written: an older one cannot be shown as the last.
    let checkpoints = Filter { event: Some("audit.checkpoint".into()), in_order: true, ..Filter::default() };
    let Some(entry) = app.store.audit_page(&checkpoints, 1).await?.into_iter().next() else { return Ok(Vec::new()) };
    let details: serde_json::Value = serde_json::from_str(&entry.details).unwrap_or_default();
    let jws = details["jws"].as_str().unwrap_or_default();
    let Signed::By(kid, said) = by_name(app).await?.check::<Checkpoint>(Checkpoint::TYP, jws) else {
        return Ok(Vec::new());
    };
    let in_its_place = said.head() == Head { seq: entry.seq.saturating_sub(1), hash: entry.prev_hash };
    let is_ours = evidence::trusted(app).contains(&kid) || is_endorsed(app, &kid, said.endorsement.as_deref());
    if in_its_place && is_ours {
        return Ok(std::iter::once(kid).chain(said.keys).collect());
    }
    tracing::warn!(
        seq = entry.seq,
        kid,
        "nothing vouches for the key that signed the last checkpoint; what it signed is not believed"
    );
    Ok(Vec::new())
}

fn is_endorsed(app: &App, kid: &str, endorsement: Option<&str>) -> bool {
    let (Some(root), Some(jws)) = (evidence::fallback(app), endorsement) else { return false };
    let said = PublicKeys::of([&root]).check::<Endorsement>(Endorsement::TYP, jws);
    matches!(said, Signed::By(_, endorsed) if endorsed.kid == kid)
}

/// The first checkpoint that covers a place and whose signature holds, and who signed it.
///
/// # Errors
/// When the database cannot say.
pub(super) async fn covering(app: &App, seq: i64) -> Result<Option<(String, Checkpoint)>, StoreError> {
    let Some(stored) = app.store.checkpoint_of(seq).await? else { return Ok(None) };
    let said = by_name(app).await?.check::<Checkpoint>(Checkpoint::TYP, &stored.jws);
    Ok(match said {
        Signed::By(kid, checkpoint) if stored.says(&kid, &checkpoint) => Some((kid, checkpoint)),
        _ => None,
    })
}

/// Every public key that is known, also those for which nothing vouches.
///
/// # Errors
/// When the database cannot say.
pub(super) async fn by_name(app: &App) -> Result<PublicKeys, StoreError> {
    let mut keys = evidence::trusted(app);
    app.store.evidence_keys().await?.iter().for_each(|jwk| drop(keys.add(jwk)));
    Ok(keys)
}

/// Public keys whose statements about the log are believed, also those that left the key set. The database may hold more:
/// nothing vouches for them.
///
/// # Errors
/// [`ActError`].
pub async fn keys(app: &App, _: &Caller<ReadAudit>) -> Result<PublicKeys, ActError> {
    let believed = believed(app).await?;
    Ok(by_name(app).await?.only(&believed))
}

/// Before a key is revoked, the tombstones that it signed are signed by another one: nothing that it says is believed
/// afterwards.
///
/// # Errors
/// [`ActError`]: then it must not be revoked yet.
pub(super) async fn before(app: &App, asked: &Asked) -> Result<(), ActError> {
    let Asked::Revoke(kid) = asked else { return Ok(()) };
    let ring = app.keys.load_full();
    // The step itself says what is wrong with the name, once everybody's keys are written down.
    let Some(leaked) = ring.keys().iter().find(|key| is_called(key.kid(), kid)) else { return Ok(()) };
    let Some(signer) = evidence::fallback(app).map(evidence::signer_with) else {
        tracing::warn!(kid, "no server.secret is set, so tombstones that the key signed lose their signature with it");
        return Ok(());
    };
    let leaked = PublicKeys::of([leaked]);
    let mut after = 0;
    loop {
        let stones = app.store.next_tombstones(after).await?;
        let Some(last) = stones.last() else { return Ok(()) };
        after = last.hole.first_seq;
        let stones: Vec<_> = stones.into_iter().filter_map(|stone| restated(stone, &leaked, &signer)).collect();
        if !stones.is_empty() {
            app.store.act(Restate { stones, signer: signer.clone(), now: app.now() }).await?;
        }
    }
}

/// What another key says of a tombstone that this one signed.
fn restated(stone: StoredTombstone, leaked: &PublicKeys, signer: &Signer) -> Option<(StoredTombstone, String)> {
    match leaked.check::<Tombstone>(Tombstone::TYP, &stone.jws) {
        Signed::By(_, said) if said.hole() == Some(stone.hole) => {
            let jws = signer.state(&said);
            Some((stone, jws))
        }
        _ => None,
    }
}

/// After a step the key that signs now says which it believes.
///
/// # Errors
/// When that cannot be stored.
pub(super) async fn after(app: &App) -> Result<(), StoreError> {
    evidence::sign(app, true).await.map(drop)
}
