//! TLS with a certificate that can be swapped while the server runs. TLS 1.3, and 1.2 with AEAD suites only:
//! rustls knows no others.

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};

use super::{
    PkiError,
    client::Gate,
    read::{Facts, chain},
};
use crate::domain::time::Clock;

/// A certificate with its key, ready to be shown.
#[derive(Debug)]
pub struct Shown {
    key: Arc<CertifiedKey>,
    /// What the certificate says.
    pub facts: Facts,
}

impl Shown {
    /// Reads a pair. Whether its time is now is for the caller to judge.
    ///
    /// # Errors
    /// [`PkiError`] for files that are no pair.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, PkiError> {
        let (cert_name, key_name) = (cert.display().to_string(), key.display().to_string());
        let chain = chain(cert)?;
        let facts = Facts::read(&chain[0]).map_err(|e| PkiError::Unreadable(cert_name.clone(), e.to_string()))?;
        if facts.version != 3 {
            let message = "it is X.509 version 1, which TLS does not take; re-issue it: lokid certs server --force";
            return Err(PkiError::Unreadable(cert_name, message.into()));
        }
        let text = std::fs::read(key).map(zeroize::Zeroizing::new).map_err(PkiError::file(key))?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|_| PkiError::Nothing(key_name, "private key"))?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => PkiError::Mismatch(cert_name),
            other => PkiError::Unreadable(cert_name, other.to_string()),
        })?;
        Ok(Self { key: Arc::new(certified), facts })
    }
}

/// What a listener shows at present.
#[derive(Debug)]
pub struct Display(ArcSwap<CertifiedKey>);

impl Display {
    /// Begins with this.
    pub fn new(shown: &Shown) -> Self {
        Self(ArcSwap::new(Arc::clone(&shown.key)))
    }

    /// Shows another one to whoever connects from now on.
    pub fn swap(&self, shown: &Shown) {
        self.0.store(Arc::clone(&shown.key));
    }
}

impl ResolvesServerCert for Display {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The clock by which certificates are judged.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&self.0))
    }
}

pub(super) fn unix_time(clock: &Clock) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(clock.now().seconds().unsigned_abs()))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// What the listener does. With a gate, clients are asked for a certificate.
///
/// # Errors
/// When the crypto provider lacks what TLS needs.
pub fn server_config(
    display: Arc<Display>,
    gate: Option<Arc<Gate>>,
    clock: &Clock,
) -> Result<ServerConfig, rustls::Error> {
    let versions = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock.clone())))
        .with_safe_default_protocol_versions()?;
    let Some(gate) = gate else {
        return Ok(versions.with_no_client_auth().with_cert_resolver(display));
    };
    let mut config = versions.with_client_cert_verifier(gate).with_cert_resolver(display);
    // A resumed session is not verified again: a certificate that was revoked meanwhile would come back with it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Verifies a server's chain, the server's own certificate first, as a client that trusts these authorities does.
///
/// # Errors
/// What is wrong with it.
pub fn verify_server(
    authorities: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    facts: &Facts,
    clock: &Clock,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|e| e.to_string())?;
    }
    let name = facts.names.dns.first().cloned().or_else(|| facts.ips.first().map(ToString::to_string));
    let name =
        name.ok_or("it names no host (subject alternative name), and programs no longer look at the common name")?;
    let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(|e| e.to_string())?;
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], unix_time(clock))
        .map(drop)
        .map_err(|e| e.to_string())
}
