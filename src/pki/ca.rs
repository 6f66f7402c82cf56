//! Our certificate authority: two files, `ca.pem` and `ca.key`, read when something is to be signed and not kept.

use std::{path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use super::{
    PkiError, files,
    leaf::{KeyKind, Leaf, Pair, at, generate, serial, subject},
    read::{Facts, chain_of},
};
use crate::domain::{entropy::Entropy, time::Moment};

/// A certificate is valid a little before it is made: clocks differ.
const BEFORE: Duration = Duration::from_mins(5);
/// A list of revoked certificates says that a newer one comes within this while.
const LIST_LIVES: Duration = Duration::from_hours(24 * 7);

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, and those above it that stand in the same file, PEM.
    pub pem: String,
    /// What its certificate says.
    pub facts: Facts,
    /// Its subject key identifier, if it has one.
    key_id: Option<Vec<u8>>,
}

/// A list of revoked certificates (RFC 5280 §5).
#[derive(Debug, Clone)]
pub struct RevocationList {
    /// PEM.
    pub pem: String,
    /// DER.
    pub der: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.facts.subject)
    }
}

impl Authority {
    /// Makes a new authority that signs leaves only (path length 0).
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn create(name: &str, kind: KeyKind, life: Duration, now: Moment) -> Result<Pair, PkiError> {
        let key = generate(kind)?;
        let (number, not_before, not_after) = (serial(Entropy), now.minus(BEFORE), now.plus(life));
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name)?;
        params.serial_number = Some(SerialNumber::from_slice(&number));
        (params.not_before, params.not_after) = (at(not_before)?, at(not_after)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key)?;
        Ok(pair(&made, &key, &number, (not_before, not_after)))
    }

    /// The authority of `ca.pem` and `ca.key` in a directory. `None` when neither is there.
    ///
    /// # Errors
    /// [`PkiError`] for files that do not make one.
    pub fn load(dir: &Path) -> Result<Option<Self>, PkiError> {
        let (cert, key) = (dir.join(files::CA_CERT), dir.join(files::CA_KEY));
        if !cert.exists() && !key.exists() {
            return Ok(None);
        }
        let pem = std::fs::read_to_string(&cert).map_err(PkiError::file(&cert))?;
        let key_pem = std::fs::read_to_string(&key).map(Zeroizing::new).map_err(PkiError::file(&key))?;
        Self::read(&pem, &key_pem, &cert.display().to_string()).map(Some)
    }

    /// The authority of two PEM texts. `name` is what errors call it.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn read(pem: &str, key_pem: &str, name: &str) -> Result<Self, PkiError> {
        let chain = chain_of(pem.as_bytes(), name)?;
        let own: &CertificateDer<'_> = &chain[0];
        let facts = Facts::read(own).map_err(|e| PkiError::Unreadable(name.to_owned(), e.to_string()))?;
        if !facts.is_authority {
            return Err(PkiError::NotAnAuthority(name.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|_| PkiError::Nothing(name.replace(files::CA_CERT, files::CA_KEY), "private key"))?;
        let key = KeyPair::try_from(&key)?;
        let (_, cert) =
            X509Certificate::from_der(own).map_err(|e| PkiError::Unreadable(name.to_owned(), e.to_string()))?;
        if cert.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::Mismatch(name.to_owned()));
        }
        let key_id = cert.iter_extensions().find_map(|ext| match ext.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self { issuer: Issuer::from_ca_cert_der(own, key)?, pem: pem.to_owned(), facts, key_id })
    }

    /// Issues a certificate with a new key. It ends with the authority at the latest.
    ///
    /// # Errors
    /// When the authority's own time is over, or for a value that cannot stand in a certificate.
    pub fn issue(&self, leaf: &Leaf, kind: KeyKind, life: Duration, now: Moment) -> Result<Pair, PkiError> {
        self.facts.check_time(now).map_err(|e| PkiError::Time(self.facts.subject.clone(), e))?;
        let (not_before, not_after) =
            (now.minus(BEFORE).max(self.facts.not_before), now.plus(life).min(self.facts.not_after));
        let (key, number) = (generate(kind)?, serial(Entropy));
        let made = leaf.params(number, (not_before, not_after))?.signed_by(&key, &self.issuer)?;
        Ok(pair(&made, &key, &number, (not_before, not_after)))
    }

    /// Signs the list of these certificates: serials in hexadecimal, and when each was revoked.
    ///
    /// # Errors
    /// When the authority may not sign lists.
    pub fn revocation_list(&self, revoked: &[(String, Moment)], now: Moment) -> Result<RevocationList, PkiError> {
        let entry = |(serial, when): &(String, Moment)| {
            let bytes = data_encoding::HEXLOWER.decode(serial.as_bytes());
            let bytes = bytes.map_err(|_| PkiError::Value(serial.clone()))?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes),
                revocation_time: at(*when)?,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let list = CertificateRevocationListParams {
            this_update: at(now)?,
            next_update: at(now.plus(LIST_LIVES))?,
            // It has to grow, on every node that signs one.
            crl_number: SerialNumber::from(now.millis().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, PkiError>>()?,
            // Else verifiers would not find the authority that signed it.
            key_identifier_method: self.key_id.clone().map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
        };
        let list = list.signed_by(&self.issuer)?;
        Ok(RevocationList { pem: list.pem()?, der: list.der().to_vec() })
    }
}

fn pair(made: &rcgen::Certificate, key: &KeyPair, serial: &[u8], (from, to): (Moment, Moment)) -> Pair {
    // A certificate counts whole seconds.
    let whole = |moment: Moment| Moment::from_seconds(moment.seconds());
    Pair {
        cert: made.pem(),
        key: Zeroizing::new(key.serialize_pem()),
        der: made.der().to_vec(),
        serial: data_encoding::HEXLOWER.encode(serial),
        not_before: whole(from),
        not_after: whole(to),
    }
}

/// Whether a certificate carries this authority's signature.
pub fn is_signed_by(der: &[u8], authority: &Authority) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return false };
    let key = authority.issuer.key().subject_public_key_info();
    let key = x509_parser::x509::SubjectPublicKeyInfo::from_der(&key);
    key.is_ok_and(|(_, key)| cert.verify_signature(Some(&key)).is_ok())
}
