//! Signing the audit log's head, anchoring it outside, exporting the log, and taking out what grew too old.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{ActError, App, vouching};
use crate::{
    audit::{
        anchor,
        export::{Export, Wanted},
        sink,
        verify::{self, Report},
    },
    cluster::anchors::{Anchored, Anchors},
    config::server::Database,
    domain::{
        checkpoint::Checkpoint,
        event::{EventName, NewEvent, Origin, Outcome},
        identity::{Caller, ManageAudit, ReadAudit},
    },
    keys::{sign::SigningKey, verify::PublicKeys},
    store::{
        StoreError,
        evidence::{Sign, Signer},
        ledger::Append,
        retention::{Outlook, Retain},
    },
};

/// Between two steps of retention the writer serves others.
const BREATH: Duration = Duration::from_millis(20);

/// The key that belongs to the installation's secret: it signs while no signing key is kept. `None` where the secret
/// itself lasts only as long as the process.
pub(super) fn fallback(app: &App) -> Option<SigningKey> {
    let lasts = app.settings.server.secret.is_some() || matches!(app.settings.database, Database::Sqlite(_));
    lasts.then(|| SigningKey::of_seed(&app.sealer.derive::<32>(b"lokid audit evidence v1")))
}

/// Who signs what is said about the log. `None` when no key outlasts the process.
pub fn signer(app: &App) -> Option<Signer> {
    let ring = app.keys.load_full();
    if !ring.is_ephemeral() {
        let (kid, jwk) = (ring.signing().kid().to_owned(), ring.signing().jwk().to_string());
        return Some(Signer { kid, jwk, sign: Arc::new(move |typ, says| ring.signing().sign(typ, says)) });
    }
    fallback(app).map(signer_with)
}

/// A key that signs statements.
pub(super) fn signer_with(key: SigningKey) -> Signer {
    let (kid, jwk) = (key.kid().to_owned(), key.jwk().to_string());
    Signer { kid, jwk, sign: Arc::new(move |typ, says| key.sign(typ, says)) }
}

/// The keys whose statements this installation believes.
pub fn trusted(app: &App) -> PublicKeys {
    let ring = app.keys.load();
    let fallback = fallback(app);
    let published = ring.keys().iter().filter(|_| !ring.is_ephemeral());
    PublicKeys::of(published.chain(fallback.as_ref()))
}

/// Signs the head of the log: when that is due, or `now` if anything is new. What was signed is anchored.
///
/// # Errors
/// When it cannot be stored. That it cannot be anchored is logged.
pub async fn sign(app: &App, now: bool) -> Result<Option<Checkpoint>, StoreError> {
    let Some(signer) = signer(app) else { return Ok(None) };
    let cadence = app.settings.audit.cadence;
    if !now {
        let (latest, head) = (app.store.latest_checkpoint().await?, app.store.audit_head().await?);
        if !cadence.is_due(latest.as_ref(), head.seq, &signer.kid, app.now()) {
            return Ok(None);
        }
    }
    let vouching = vouching::of(app, &signer).await?;
    let act = Sign { signer, cadence: (!now).then_some(cadence), now: app.now(), vouching };
    let Some((checkpoint, jws)) = app.store.act(act).await? else { return Ok(None) };
    if let Some(path) = &app.settings.audit.anchor_file
        && let Err(e) = anchor::append(path, &jws)
    {
        tracing::error!(error = %e, file = %path.display(), seq = checkpoint.seq, "a checkpoint could not be anchored");
    }
    if let Some(bucket) = &app.anchors {
        // Beside the rest: NATS may be away. A process that ends waits for it, as long as an answer may take.
        let kept = tokio::spawn(keep(Arc::clone(bucket), checkpoint.seq, jws));
        if now {
            let _panicked = kept.await;
        }
    }
    Ok(Some(checkpoint))
}

async fn keep(bucket: Arc<Anchors>, seq: i64, jws: String) {
    match bucket.keep(seq, &jws).await {
        Ok(Anchored::Kept) => {}
        Ok(Anchored::Otherwise) => {
            tracing::error!(
                seq,
                "NATS holds another checkpoint of this place: the log was cut or replaced, or an old backup was restored; see audit verify"
            );
        }
        Err(e) => tracing::error!(error = %e, seq, "a checkpoint could not be anchored in NATS"),
    }
}

/// What was signed and is kept outside the database.
#[derive(Debug, Default)]
pub struct Outside {
    /// In the file, oldest first.
    pub file: Vec<String>,
    /// In NATS, oldest first.
    pub nats: Vec<String>,
    /// What could not be read, in sentences.
    pub unread: Vec<String>,
}

impl Outside {
    /// All of it.
    pub fn all(&self) -> Vec<String> {
        let known: HashSet<&String> = self.file.iter().collect();
        let unknown = self.nats.iter().filter(|jws| !known.contains(jws));
        self.file.iter().chain(unknown).cloned().collect()
    }

    /// A report with what could not be compared.
    pub(super) fn beside(self, mut report: Report) -> Report {
        report.unchecked.extend(self.unread);
        report
    }
}

/// The statements that are anchored outside the database.
pub async fn anchors(app: &App) -> Outside {
    let mut outside = Outside::default();
    if let Some(path) = &app.settings.audit.anchor_file {
        outside.file = anchor::read(path).unwrap_or_else(|e| {
            tracing::error!(error = %e, file = %path.display(), "the anchors cannot be read");
            outside.unread.push(format!("the anchors in the file: {e}"));
            Vec::new()
        });
    }
    if let Some(bucket) = &app.anchors {
        outside.nats = bucket.all().await.unwrap_or_else(|e| {
            tracing::error!(error = %e, "the anchors in NATS cannot be read");
            outside.unread.push(format!("the anchors in NATS: {e}"));
            Vec::new()
        });
    }
    outside
}

/// Compares the last anchor with what stands in the log now. A log that is not the one that was anchored is said
/// loudly, and written into it; the server serves all the same.
///
/// # Errors
/// When the database cannot say.
pub async fn compare_with_last_anchor(app: &App) -> Result<bool, StoreError> {
    use crate::{domain::checkpoint::Statement as _, keys::verify::Signed};
    let known = vouching::by_name(app).await?;
    let outside = anchors(app).await;
    let mut all_fit = true;
    for last in [outside.file.last(), outside.nats.last()].into_iter().flatten() {
        let fault = match known.check::<Checkpoint>(Checkpoint::TYP, last) {
            Signed::By(_, said) => {
                let fits = match app.store.audit_entry(said.seq).await? {
                    Some(entry) => entry.hash == said.hash,
                    // Taken out since, or not there yet.
                    None => app.store.audit_head().await?.seq > said.seq,
                };
                if fits {
                    continue;
                }
                format!("entry {} is not what was anchored on {}", said.seq, said.time.rfc3339())
            }
            Signed::Unknown(kid) => {
                format!("the last anchor is signed with the key {kid}, which this database does not know")
            }
            Signed::Bad => continue,
        };
        if !all_fit {
            continue;
        }
        all_fit = false;
        tracing::error!("{fault}: the log was cut or replaced, or an old backup was restored; see audit verify");
        let event = NewEvent::new(app.now(), EventName::AuditVerified, crate::domain::event::Actor::system());
        app.store.act(Append { events: vec![event.because(Outcome::Failure, fault)] }).await?;
    }
    Ok(all_fit)
}

/// Examines the whole log with everything that is known about it.
///
/// # Errors
/// When the log cannot be read to the end.
pub async fn examine(app: &App, _: &Caller<ReadAudit>) -> Result<Report, ActError> {
    let outside = anchors(app).await;
    let report = verify::database(&app.store, believed(app), &outside.all()).await?;
    Ok(outside.beside(report))
}

/// The keys that are believed of this installation's log: none, where no key outlasts the process.
pub(super) fn believed(app: &App) -> PublicKeys {
    match signer(app) {
        Some(_) => trusted(app),
        None => PublicKeys::default(),
    }
}

/// Begins an export, once it is recorded who asked for what.
///
/// # Errors
/// [`ActError`]: then nothing was exported.
pub async fn export(app: &App, caller: &Caller<ReadAudit>, wanted: Wanted, from: &Origin) -> Result<Export, ActError> {
    let event = NewEvent::new(app.now(), EventName::AuditExported, caller.identity().actor.clone()).from(from);
    let format = format!("{:?}", wanted.format).to_lowercase();
    let event = event.with("format", format).with("filter", wanted.asked.as_str());
    app.store.act(Append { events: vec![event] }).await?;
    Ok(Export::of(app.store.clone(), wanted, signer(app), app.now()).await?)
}

/// Tells syslog and webhook of every entry, until the task is dropped.
pub(super) async fn tell_sinks(app: &Arc<App>) {
    let asked = Arc::clone(app);
    let context = sink::Context {
        store: app.store.clone(),
        clock: app.clock.clone(),
        lags: app.sinks.clone(),
        signer: Arc::new(move || signer(&asked)),
    };
    sink::run(context, &app.settings.audit).await;
}

/// What retention would take out now.
///
/// # Errors
/// [`ActError`].
pub async fn outlook(app: &App, _: &Caller<ManageAudit>) -> Result<Vec<Outlook>, ActError> {
    Ok(app.store.retention_outlook(&app.settings.audit.ages, app.now()).await?)
}

/// Takes out what is too old, step by step. Answers how many entries went.
///
/// # Errors
/// [`ActError::Conflict`] when no key outlasts the process, or the log was tampered with. Steps that were done stay.
pub async fn retain(app: &App, caller: &Caller<ManageAudit>, from: &Origin) -> Result<i64, ActError> {
    retain_by(app, (caller.identity().actor.clone(), from.clone())).await
}

/// As [`retain`], by whoever.
///
/// # Errors
/// As [`retain`].
pub(super) async fn retain_by(app: &App, by: (crate::domain::event::Actor, Origin)) -> Result<i64, ActError> {
    let (ages, now) = (app.settings.audit.ages, app.now());
    if ages.keep_all() {
        return Ok(0);
    }
    let Some(signer) = signer(app) else {
        let why =
            "no signing key outlasts this process, so nothing could vouch for what is taken out; set server.secret";
        return Err(ActError::Conflict(why.into()));
    };
    let mut next = app.store.first_over(0, &ages, now).await?;
    if next.is_none() {
        return Ok(0);
    }
    // A tombstone vouches for what is gone. So it must have been what was written, by everything that is known.
    let outside = anchors(app).await;
    if let Some(unread) = outside.unread.first() {
        return Err(ActError::Conflict(format!("nothing is taken out while the log cannot be compared with {unread}")));
    }
    if let Some(flaw) = verify::database(&app.store, believed(app), &outside.all()).await?.flaw {
        let why = format!("the log is not whole, so nothing is taken out before audit verify was looked at: {flaw}");
        return Err(ActError::Conflict(why));
    }
    let mut taken = 0;
    while let Some(first) = next {
        let step = Retain { after: first, ages, now, signer: signer.clone(), by: by.clone() };
        let done = app.store.act(step).await?.map_err(|e| ActError::Conflict(e.to_string()))?;
        // The last entry stays, however old it is.
        if done.taken == 0 && done.looked_to <= first + 1 {
            break;
        }
        taken += done.taken;
        tokio::time::sleep(BREATH).await;
        next = app.store.first_over(done.looked_to, &ages, now).await?;
    }
    Ok(taken)
}
