//! Why a client's certificate is refused: a sentence for people, a word for the audit log, an alert for the client.

use rustls::{CertificateError, Error as TlsError};

use super::read::Facts;

/// Why a client's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// It is of a version that TLS does not take.
    #[error(
        "it is X.509 version {version}, as openssl x509 -req makes one without -extfile; TLS takes version 3 only. \
         Re-issue it: {again}"
    )]
    Version {
        /// 1 or 2.
        version: u32,
        /// The command that does.
        again: String,
    },
    /// Its time is over.
    #[error("it expired")]
    Expired,
    /// Its time is not yet there.
    #[error("it is not valid yet")]
    NotYet,
    /// It, or one above it, was revoked.
    #[error("it was revoked")]
    Revoked,
    /// No list of revoked certificates says anything of its issuer.
    #[error("no list in server.tls.client_crl is of its issuer")]
    NoList,
    /// The list of revoked certificates is out of date.
    #[error("the list in server.tls.client_crl is out of date")]
    ListExpired,
    /// It vouches for itself.
    #[error("it is signed by itself and stands not in server.tls.client_ca")]
    SelfSigned,
    /// Nobody in `client_ca` signed it.
    #[error("no authority in server.tls.client_ca signed it")]
    UnknownIssuer,
    /// The signature of its issuer is not.
    #[error("the signature on it is not its issuer's")]
    BadSignature,
    /// More authorities stand above it than the chain allows.
    #[error("there are more authorities between it and server.tls.client_ca than are allowed")]
    TooDeep,
    /// Something above it may not sign certificates.
    #[error("what stands above it is no authority: basicConstraints or the key usage keyCertSign is missing")]
    NoAuthority,
    /// The authority's own time is over.
    #[error("the authority in server.tls.client_ca that it leads to expired, or is not valid yet")]
    AuthorityExpired,
    /// An authority shows itself as a client.
    #[error("it is the certificate of an authority, not of a client")]
    Authority,
    /// It is not made for clients.
    #[error("it is not made for clients: the extended key usage clientAuth is missing")]
    NotForClients,
    /// The handshake is not signed with its key.
    #[error("whoever shows it did not sign the handshake with its private key, or the key is too weak")]
    NotProven,
    /// Something else that webpki names.
    #[error("{0}")]
    Other(String),
}

impl Refused {
    /// A stable word for the audit log.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "certificate_malformed",
            Self::Version { .. } => "certificate_version",
            Self::Expired => "certificate_expired",
            Self::NotYet => "certificate_not_yet_valid",
            Self::Revoked => "certificate_revoked",
            Self::NoList => "certificate_revocation_unknown",
            Self::ListExpired => "certificate_revocation_list_expired",
            Self::SelfSigned => "certificate_self_signed",
            Self::UnknownIssuer => "certificate_unknown_issuer",
            Self::BadSignature => "certificate_bad_signature",
            Self::TooDeep => "certificate_chain_too_deep",
            Self::NoAuthority => "certificate_issuer_may_not_sign",
            Self::AuthorityExpired => "certificate_authority_expired",
            Self::Authority => "certificate_of_an_authority",
            Self::NotForClients => "certificate_not_for_clients",
            Self::NotProven => "certificate_not_proven",
            Self::Other(_) => "certificate_refused",
        }
    }

    /// What the client hears of it: an alert.
    pub(super) fn alert(&self) -> CertificateError {
        match self {
            Self::Malformed(_) => CertificateError::BadEncoding,
            Self::Expired | Self::AuthorityExpired => CertificateError::Expired,
            Self::NotYet => CertificateError::NotValidYet,
            Self::Revoked => CertificateError::Revoked,
            Self::NoList => CertificateError::UnknownRevocationStatus,
            Self::ListExpired => CertificateError::ExpiredRevocationList,
            Self::SelfSigned | Self::UnknownIssuer | Self::TooDeep | Self::NoAuthority => {
                CertificateError::UnknownIssuer
            }
            Self::BadSignature | Self::NotProven => CertificateError::BadSignature,
            Self::NotForClients | Self::Authority | Self::Version { .. } => CertificateError::InvalidPurpose,
            Self::Other(_) => CertificateError::ApplicationVerificationFailure,
        }
    }

    pub(super) fn of(error: &TlsError, facts: &Facts) -> Self {
        use CertificateError as E;
        let TlsError::InvalidCertificate(e) = error else {
            return Self::Other(error.to_string());
        };
        match e {
            _ if facts.version != 3 => Self::Version { version: facts.version, again: again(facts) },
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYet,
            E::Revoked => Self::Revoked,
            E::UnknownRevocationStatus => Self::NoList,
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => Self::ListExpired,
            E::UnknownIssuer if facts.is_self_issued => Self::SelfSigned,
            E::UnknownIssuer => Self::UnknownIssuer,
            E::BadSignature if facts.is_self_issued => Self::SelfSigned,
            E::BadSignature => Self::BadSignature,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::NotForClients,
            E::BadEncoding => Self::Malformed(e.to_string()),
            E::Other(other) => match format!("{:?}", other.0).as_str() {
                "PathLenConstraintViolated" | "MaximumPathDepthExceeded" => Self::TooDeep,
                "CaUsedAsEndEntity" if facts.is_self_issued => Self::SelfSigned,
                "CaUsedAsEndEntity" => Self::Authority,
                other => Self::Other(other.to_owned()),
            },
            other => Self::Other(other.to_string()),
        }
    }
}

/// The command that makes a certificate of this name anew.
pub fn again(facts: &Facts) -> String {
    let plain = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let name = facts.names.common_name.as_ref().filter(plain).map_or("NAME", String::as_str);
    format!("lokid certs client --name {name} --force")
}
