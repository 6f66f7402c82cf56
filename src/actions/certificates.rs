//! Certificates from our own authority: handed out for domains that a rule allows, renewed, revoked, listed.
//!
//! A private key is kept sealed, because whoever asks again gets the same certificate, also after a restart and from
//! another node. It is forgotten when another certificate takes its place, when it is revoked and when it expires.
//! The authority itself is two files, read when something is to be signed: one authority for everything, which
//! `lokid certs` works with too, and which an operator can back up, replace or keep away from a node.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use super::{ActError, App};
use crate::{
    config::certificates::Allowance,
    domain::{
        certificate::{CertificateId, IssuedCertificate, Purpose, Reuse, Verdict},
        dns::DomainName,
        event::{EventName, NewEvent, Origin, Outcome},
        identity::{Caller, Credential, Identity, ManageCertificates, TakeCertificates},
        time::Moment,
    },
    keys::seal,
    pki::{
        PkiError,
        ca::{Authority, RevocationList, is_signed_by},
        client::Gate,
        leaf::{KeyKind, Leaf, Usage},
        read::{Facts, chain_of},
    },
    store::{
        StoreError,
        certificates::{Issue, Issued, Revoke, RevokeGiven, StoredCertificate},
    },
};

/// A certificate as its holder gets it.
#[derive(Debug)]
pub struct Delivered {
    /// What is known of it.
    pub record: IssuedCertificate,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
    /// The authority's certificate, PEM.
    pub issuer: String,
    /// Whether it was there before.
    pub cached: bool,
}

/// A certificate for a domain: the one that is there, while enough is left of it, else a new one.
///
/// # Errors
/// [`ActError::DomainNotAllowed`] when no rule gives the domain to the caller.
pub async fn obtain(
    app: &App,
    caller: &Caller<TakeCertificates>,
    domain: DomainName,
    from: &Origin,
) -> Result<Delivered, ActError> {
    let reuse = Reuse::WhileLeft(app.settings.certificates.renew_before);
    deliver(app, caller.identity(), domain, reuse, from).await
}

/// A new certificate for a domain, though the one that is there would still do.
///
/// # Errors
/// [`ActError::DomainNotAllowed`]; [`ActError::RenewTooSoon`] when the last one is very new.
pub async fn renew(
    app: &App,
    caller: &Caller<TakeCertificates>,
    domain: DomainName,
    from: &Origin,
) -> Result<Delivered, ActError> {
    let reuse = Reuse::NotWithin(app.settings.certificates.renew_interval);
    deliver(app, caller.identity(), domain, reuse, from).await
}

/// Whether a rule gives the domain to this caller.
fn may_have(allow: &[Allowance], who: &Identity, domain: &DomainName) -> bool {
    let is_for = |allowance: &&Allowance| match &who.credential {
        // Whoever makes a token chooses its role, so a token is known by its id alone.
        Credential::Token(id) => allowance.tokens.contains(id),
        _ => who.role.as_ref().is_some_and(|role| allowance.roles.contains(role)),
    };
    let fits = |allowance: &Allowance| allowance.domains.iter().any(|pattern| pattern.allows(domain));
    who.may_have(domain) || allow.iter().filter(is_for).any(fits)
}

async fn deliver(
    app: &App,
    who: &Identity,
    domain: DomainName,
    reuse: Reuse,
    from: &Origin,
) -> Result<Delivered, ActError> {
    if !may_have(&app.settings.certificates.allow, who, &domain) {
        let event = NewEvent::new(app.now(), EventName::PermissionDenied, who.actor.clone());
        let event = event.because(Outcome::Denied, "domain_not_allowed").with("domain", domain.as_str());
        app.note(event, from);
        return Err(ActError::DomainNotAllowed(domain));
    }
    let authority = authority(app)?;
    let last = app.store.last_certificate(&domain, &authority.facts.fingerprint).await?;
    let mut distrusts = None;
    if let Some(last) = last
        && let Some(kept) = hand_out(app, who, &authority, last, reuse, from, &mut distrusts)?
    {
        return Ok(kept);
    }
    let (new, key) = make(app, who, &authority, &domain)?;
    let event = NewEvent::new(app.now(), EventName::CertificateIssued, who.actor.clone())
        .from(from)
        .on("certificate", new.record.id.as_str())
        .with("domain", domain.as_str())
        .with("serial", new.record.serial.as_str())
        .with("not_after", new.record.not_after.rfc3339());
    match app.store.act(Issue { new: new.clone(), reuse, distrusts: distrusts.clone(), event }).await? {
        Issued::New => Ok(Delivered { record: new.record, key, issuer: authority.pem, cached: false }),
        // Somebody else was first, perhaps on another node.
        Issued::Kept(other) => hand_out(app, who, &authority, *other, reuse, from, &mut distrusts)?.ok_or_else(|| {
            ActError::Conflict("another node keeps this certificate under another server.secret".into())
        }),
        Issued::TooSoon(until) => Err(ActError::RenewTooSoon { domain, until, wait: until.since(app.now()) }),
    }
}

/// The certificate that is there, if it is to be handed out again. One whose key does not open (another
/// `server.secret`) is as good as none, and its id is left in `distrusts`.
fn hand_out(
    app: &App,
    who: &Identity,
    authority: &Authority,
    last: StoredCertificate,
    reuse: Reuse,
    from: &Origin,
    distrusts: &mut Option<CertificateId>,
) -> Result<Option<Delivered>, ActError> {
    let opened = last.sealed.as_deref().map(|sealed| app.sealer.open(seal::Purpose::CertificateKey, sealed));
    let Some(Ok(key)) = opened else {
        *distrusts = Some(last.record.id);
        return Ok(None);
    };
    match reuse.judge(&last.record, app.now()) {
        Verdict::Keep => {}
        Verdict::Replace => return Ok(None),
        Verdict::TooSoon(until) => {
            let domain = last.record.subject.parse().map_err(|_| StoreError::Damaged("a certificate's domain"))?;
            return Err(ActError::RenewTooSoon { domain, until, wait: until.since(app.now()) });
        }
    }
    let key = String::from_utf8(key.to_vec()).map_err(|_| StoreError::Damaged("a certificate's key"))?;
    let event = NewEvent::new(app.now(), EventName::CertificateFetched, who.actor.clone())
        .on("certificate", last.record.id.as_str())
        .with("domain", last.record.subject.as_str());
    app.note(event, from);
    Ok(Some(Delivered { record: last.record, key: Zeroizing::new(key), issuer: authority.pem.clone(), cached: true }))
}

fn make(
    app: &App,
    who: &Identity,
    authority: &Authority,
    domain: &DomainName,
) -> Result<(StoredCertificate, Zeroizing<String>), ActError> {
    let leaf = Leaf {
        common_name: domain.as_str().to_owned(),
        dns: vec![domain.clone()],
        ips: Vec::new(),
        uris: Vec::new(),
        // A server's only: else whoever may be a host could also be a client of that name.
        usage: Usage::Server,
        revoked_at: app.settings.server.public_url.join(REVOCATION_LIST).ok().map(String::from),
    };
    let (now, settings) = (app.now(), &app.settings.certificates);
    let pair = authority.issue(&leaf, KeyKind::P256, settings.lifetime, now).map_err(unusable)?;
    let record = IssuedCertificate {
        id: CertificateId::from_random(app.entropy.bytes()),
        fingerprint: crate::pki::read::fingerprint(&pair.der),
        issuer: authority.facts.fingerprint,
        serial: pair.serial,
        purpose: Purpose::Server,
        subject: domain.as_str().to_owned(),
        pem: pair.cert,
        not_before: pair.not_before,
        not_after: pair.not_after,
        issued_at: now,
        issued_to: who.actor.id.clone(),
        issued_to_name: who.actor.name.clone(),
        revoked_at: None,
    };
    let sealed = app.sealer.seal(seal::Purpose::CertificateKey, pair.key.as_bytes(), app.entropy);
    Ok((StoredCertificate { record, sealed: Some(sealed) }, pair.key))
}

/// Where the list of revoked certificates is served, as DER.
pub const REVOCATION_LIST: &str = "/.well-known/crl.der";

/// Whether there is an authority on this machine.
pub fn has_authority(app: &App) -> bool {
    app.settings.certificates.dir.as_deref().is_some_and(|dir| dir.join(crate::pki::files::CA_CERT).exists())
}

fn authority(app: &App) -> Result<Authority, ActError> {
    let none =
        || ActError::Conflict("this server has no certificate authority: set certs_dir and run lokid certs ca".into());
    let dir = app.settings.certificates.dir.as_deref().ok_or_else(none)?;
    Authority::load(dir).map_err(unusable)?.ok_or_else(none)
}

/// The log gets the whole reason, the caller none of the paths.
fn unusable(e: PkiError) -> ActError {
    tracing::error!(error = %e, "the certificate authority cannot be used");
    ActError::Conflict("the certificate authority of this server cannot be used; its log says why".into())
}

/// A page of issued certificates, the newest first.
///
/// # Errors
/// When the database cannot say.
pub async fn list(
    app: &App,
    _: &Caller<ManageCertificates>,
    before: Option<(Moment, CertificateId)>,
    limit: i64,
) -> Result<Vec<IssuedCertificate>, ActError> {
    Ok(app.store.certificates(before, limit).await?)
}

/// Revokes an issued certificate. Answers whether it was this call that did.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn revoke(
    app: &App,
    caller: &Caller<ManageCertificates>,
    which: &str,
    from: &Origin,
) -> Result<bool, ActError> {
    let not_found = || ActError::NotFound { what: "certificate", which: which.chars().take(80).collect() };
    let id: CertificateId = which.parse().map_err(|_| not_found())?;
    let event = NewEvent::new(app.now(), EventName::CertificateRevoked, caller.identity().actor.clone())
        .from(from)
        .on("certificate", id.as_str());
    let done = app.store.act(Revoke { id, event }).await?.ok_or_else(not_found)?;
    heed_revocations(app).await?;
    Ok(done)
}

/// Revokes a certificate that this authority signed, such as a client's, by its PEM text. Answers whether it was
/// this call that did.
///
/// # Errors
/// [`ActError::Invalid`] for a certificate of another authority.
pub async fn revoke_given(
    app: &App,
    caller: &Caller<ManageCertificates>,
    pem: &str,
    from: &Origin,
) -> Result<bool, ActError> {
    let invalid = |message: String| ActError::Invalid { field: "certificate", message };
    let authority = authority(app)?;
    let chain = chain_of(pem.as_bytes(), "the file").map_err(|e| invalid(e.to_string()))?;
    let facts = Facts::read(&chain[0]).map_err(|e| invalid(e.to_string()))?;
    if !is_signed_by(&chain[0], &authority) {
        return Err(invalid("it was not signed by the authority in certs_dir".into()));
    }
    let (who, now) = (&caller.identity().actor, app.now());
    let is_client = facts.usages.is_some_and(|usages| usages.client);
    let names = facts.names.listing();
    let record = IssuedCertificate {
        id: CertificateId::from_random(app.entropy.bytes()),
        serial: facts.serial.clone(),
        fingerprint: facts.fingerprint,
        issuer: authority.facts.fingerprint,
        purpose: if is_client { Purpose::Client } else { Purpose::Server },
        subject: if names.is_empty() { facts.subject.clone() } else { names },
        pem: pem.to_owned(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        issued_at: facts.not_before,
        issued_to: who.id.clone(),
        issued_to_name: who.name.clone(),
        revoked_at: None,
    };
    let event = NewEvent::new(now, EventName::CertificateRevoked, who.clone()).from(from);
    let event = event.with("subject", record.subject.as_str()).with("serial", record.serial.as_str());
    let done = app.store.act(RevokeGiven { record, event }).await?;
    heed_revocations(app).await?;
    Ok(done)
}

/// Lets the listener refuse what was just revoked.
pub(super) async fn heed_revocations(app: &App) -> Result<(), StoreError> {
    match app.listener.as_ref().and_then(|listener| listener.gate.as_ref()) {
        Some(gate) => tell_revoked(app, gate).await,
        None => Ok(()),
    }
}

/// Tells the listener which certificates are revoked.
///
/// # Errors
/// When the database cannot say: then the listener goes on with what it knew.
pub(super) async fn tell_revoked(app: &App, gate: &Gate) -> Result<(), StoreError> {
    gate.revoke(&app.store.revoked_pems(app.now()).await?);
    Ok(())
}

/// A list is signed anew after this while.
const LIST_FRESH: Duration = Duration::from_hours(1);

/// The list of revoked certificates that was signed last.
#[derive(Debug, Default)]
pub struct LastList(ArcSwapOption<Signed>);

#[derive(Debug)]
struct Signed {
    list: Arc<RevocationList>,
    issuer: [u8; 32],
    serials: Vec<String>,
    at: Moment,
}

/// The list of revoked certificates; signed anew when it changed, and every hour.
///
/// # Errors
/// [`ActError::Conflict`] without an authority.
pub async fn revocation_list(app: &App) -> Result<Arc<RevocationList>, ActError> {
    let dir = app.settings.certificates.dir.as_deref();
    let issuer = dir
        .and_then(own_fingerprint)
        .ok_or_else(|| ActError::NotFound { what: "certificate authority", which: "ca.pem".into() })?;
    let now = app.now();
    let revoked = app.store.revoked_certificates(&issuer, now).await?;
    let serials: Vec<String> = revoked.iter().map(|c| c.serial.clone()).collect();
    if let Some(last) = app.revocation_list.0.load().as_ref()
        && last.issuer == issuer
        && last.serials == serials
        && now < last.at.plus(LIST_FRESH)
    {
        return Ok(Arc::clone(&last.list));
    }
    let entries: Vec<_> = revoked.into_iter().map(|c| (c.serial, c.revoked_at.unwrap_or(now))).collect();
    let list = Arc::new(authority(app)?.revocation_list(&entries, now).map_err(unusable)?);
    app.revocation_list.0.store(Some(Arc::new(Signed { list: Arc::clone(&list), issuer, serials, at: now })));
    Ok(list)
}

fn own_fingerprint(dir: &Path) -> Option<[u8; 32]> {
    let chain = crate::pki::read::chain(&dir.join(crate::pki::files::CA_CERT)).ok()?;
    Some(crate::pki::read::fingerprint(&chain[0]))
}
