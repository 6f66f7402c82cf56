//! What a certificate that we issue shall say: X.509 v3, not an authority, for one use.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, SerialNumber,
};
use zeroize::Zeroizing;

use super::PkiError;
use crate::domain::{dns::DomainName, entropy::Entropy, screen, time::Moment};

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// RSA of 4096 bits.
    Rsa4096,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To be a server. It does not pass as a client's.
    Server,
    /// To be a client. It does not pass as a server's.
    Client,
}

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The subject's common name.
    pub common_name: String,
    /// Host names.
    pub dns: Vec<DomainName>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// What it is for.
    pub usage: Usage,
    /// Where the list of revoked certificates is.
    pub revoked_at: Option<String>,
}

/// A certificate with its private key, both PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key, PKCS#8.
    pub key: Zeroizing<String>,
    /// DER of the certificate.
    pub der: Vec<u8>,
    /// In hexadecimal.
    pub serial: String,
    /// From when.
    pub not_before: Moment,
    /// Until when.
    pub not_after: Moment,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// A new key.
///
/// # Errors
/// When the provider cannot make one.
pub fn generate(kind: KeyKind) -> Result<KeyPair, PkiError> {
    Ok(match kind {
        KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
    })
}

/// A new key with its public half, both PEM.
///
/// # Errors
/// When the provider cannot make one.
pub fn generate_pem(kind: KeyKind) -> Result<(Zeroizing<String>, String), PkiError> {
    let key = generate(kind)?;
    Ok((Zeroizing::new(key.serialize_pem()), key.public_key_pem()))
}

/// A positive serial of 16 bytes that nobody can guess (RFC 5280 §4.1.2.2).
pub(super) fn serial(entropy: Entropy) -> [u8; 16] {
    let mut bytes: [u8; 16] = entropy.bytes();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    bytes
}

pub(super) fn at(moment: Moment) -> Result<time::OffsetDateTime, PkiError> {
    time::OffsetDateTime::from_unix_timestamp(moment.seconds()).map_err(|_| PkiError::Value(moment.rfc3339()))
}

pub(super) fn subject(common_name: &str) -> Result<DistinguishedName, PkiError> {
    let mut name = DistinguishedName::new();
    let fits = (1..=64).contains(&common_name.chars().count()) && !common_name.contains(screen::acts);
    if !fits {
        return Err(PkiError::Value(common_name.chars().take(80).collect()));
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

impl Leaf {
    pub(super) fn params(&self, serial: [u8; 16], (from, to): (Moment, Moment)) -> Result<CertificateParams, PkiError> {
        let ia5 = |text: &str| text.to_owned().try_into().map_err(|_| PkiError::Value(text.to_owned()));
        let mut params = CertificateParams::default();
        // A domain may be longer than a common name; the alternative name says it anyway.
        params.distinguished_name = match subject(&self.common_name) {
            Err(_) if !self.dns.is_empty() => DistinguishedName::new(),
            named => named?,
        };
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(ia5(name.as_str())?));
        }
        params.subject_alt_names.extend(self.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(ia5(uri)?));
        }
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        (params.not_before, params.not_after) = (at(from)?, at(to)?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            self.revoked_at.iter().map(|uri| CrlDistributionPoint { uris: vec![uri.clone()] }).collect();
        Ok(params)
    }
}
