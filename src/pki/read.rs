//! What a certificate says, whoever made it.

use std::{net::IpAddr, path::Path};

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer as _, X509Error},
};

use super::PkiError;
use crate::domain::{client_certificate::Names, time::Moment};

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Facts {
    /// 1 or 3, as people count them.
    pub version: u32,
    /// The subject, such as `CN=loki-backend`.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// Whether subject and issuer are the same.
    pub is_self_issued: bool,
    /// Names that can say who shows it.
    pub names: Names,
    /// Addresses among the subject alternative names.
    pub ips: Vec<IpAddr>,
    /// From when.
    pub not_before: Moment,
    /// Until when.
    pub not_after: Moment,
    /// Whether it may sign certificates (RFC 5280 §4.2.1.9, §4.2.1.3).
    pub is_authority: bool,
    /// How many authorities may stand between it and a leaf, if that is limited.
    pub path_length: Option<u32>,
    /// Subject and issuer as they are encoded, for comparing.
    pub(super) encoded: (Vec<u8>, Vec<u8>),
    /// What it is for, where it says so.
    pub usages: Option<Usages>,
    /// In hexadecimal.
    pub serial: String,
    /// SHA-256 over all of it.
    pub fingerprint: [u8; 32],
    /// SHA-256 over what its issuer signed. The signature itself can be changed without a key: of ECDSA (r, s) also (r, −s) is
    /// good. So this, and not the fingerprint, says whether two are the same certificate.
    pub signed: [u8; 32],
}

/// Extended key usages (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usages {
    /// `serverAuth`.
    pub server: bool,
    /// `clientAuth`.
    pub client: bool,
}

/// The bytes are no certificate, or one that says a thing twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a sound X.509 certificate: {0}")]
pub struct NotACertificate(String);

impl Facts {
    /// Reads one certificate.
    ///
    /// # Errors
    /// [`NotACertificate`].
    pub fn read(der: &[u8]) -> Result<Self, NotACertificate> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| NotACertificate(e.to_string()))?;
        if !rest.is_empty() {
            return Err(NotACertificate("something follows it".into()));
        }
        Self::of(der, &cert).map_err(|e| NotACertificate(e.to_string()))
    }

    fn of(der: &[u8], cert: &X509Certificate<'_>) -> Result<Self, X509Error> {
        let mut names = Names { common_name: lone_common_name(cert), ..Names::default() };
        let mut ips = Vec::new();
        for name in cert.subject_alternative_name()?.iter().flat_map(|ext| &ext.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => ips.extend(address(bytes)),
                _ => {}
            }
        }
        let constraints = cert.basic_constraints()?.map(|ext| ext.value);
        let is_ca = constraints.is_some_and(|limits| limits.ca);
        let may_sign = cert.key_usage()?.is_none_or(|ext| ext.value.key_cert_sign());
        let usages = cert.extended_key_usage()?;
        Ok(Self {
            version: cert.version().0 + 1,
            subject: cert.subject().to_string(),
            issuer: cert.issuer().to_string(),
            is_self_issued: cert.subject().as_raw() == cert.issuer().as_raw(),
            names,
            ips,
            not_before: Moment::from_seconds(cert.validity().not_before.timestamp()),
            not_after: Moment::from_seconds(cert.validity().not_after.timestamp()),
            is_authority: is_ca && may_sign,
            path_length: constraints.and_then(|limits| limits.path_len_constraint),
            encoded: (cert.subject().as_raw().to_vec(), cert.issuer().as_raw().to_vec()),
            usages: usages.map(|ext| Usages { server: ext.value.server_auth, client: ext.value.client_auth }),
            serial: data_encoding::HEXLOWER.encode(cert.raw_serial()),
            fingerprint: fingerprint(der),
            signed: fingerprint(cert.tbs_certificate.as_ref()),
        })
    }

    /// Whether its time is now; if not, a sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn check_time(&self, now: Moment) -> Result<(), String> {
        if now < self.not_before {
            return Err(format!("it is not valid before {}; it is {now} here", self.not_before));
        }
        if now > self.not_after {
            return Err(format!("it expired at {}; it is {now} here", self.not_after));
        }
        Ok(())
    }
}

/// SHA-256 over a certificate, or a part of one.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, der).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The common name, when the subject has exactly one and it is text.
fn lone_common_name(cert: &X509Certificate<'_>) -> Option<String> {
    let mut names = cert.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Every certificate of a PEM file, in order; at least one.
///
/// # Errors
/// [`PkiError`].
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let text = std::fs::read(path).map_err(PkiError::file(path))?;
    chain_of(&text, &path.display().to_string())
}

/// Every certificate of a PEM text, in order; at least one. `name` is what errors call it.
///
/// # Errors
/// [`PkiError`].
pub fn chain_of(text: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let unreadable = |e: rustls::pki_types::pem::Error| PkiError::Unreadable(name.to_owned(), e.to_string());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() { Err(PkiError::Nothing(name.to_owned(), "certificate")) } else { Ok(chain) }
}
