//! Certificates that our authority issued, and when another one is due.

use std::time::Duration;

use super::{id::public_id, time::Moment};

public_id! {
    /// The public id of an issued certificate.
    CertificateId, "crt-"
}

/// What an issued certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be the server of a domain.
    Server,
    /// To be a client.
    Client,
}

impl Purpose {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The purpose of this name.
    pub fn find(text: &str) -> Option<Self> {
        [Self::Server, Self::Client].into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// An issued certificate, without its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Public id.
    pub id: CertificateId,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// SHA-256 over it.
    pub fingerprint: [u8; 32],
    /// SHA-256 over the authority's certificate.
    pub issuer: [u8; 32],
    /// What it is for.
    pub purpose: Purpose,
    /// The domain of a server, the names of a client.
    pub subject: String,
    /// The certificate, PEM.
    pub pem: String,
    /// From when it is valid.
    pub not_before: Moment,
    /// Until when.
    pub not_after: Moment,
    /// When it was issued.
    pub issued_at: Moment,
    /// Public id of whoever asked.
    pub issued_to: String,
    /// What they are called.
    pub issued_to_name: String,
    /// When it was revoked.
    pub revoked_at: Option<Moment>,
}

/// Where a certificate is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// It is good.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

impl CertificateState {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl IssuedCertificate {
    /// Where it is at a moment.
    pub fn state(&self, now: Moment) -> CertificateState {
        match self.revoked_at {
            Some(_) => CertificateState::Revoked,
            None if self.not_after < now => CertificateState::Expired,
            None => CertificateState::Valid,
        }
    }
}

/// When a certificate that is there is handed out again instead of a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// While more than this is left of it.
    WhileLeft(Duration),
    /// Never; but a new one is refused within this while of the last.
    NotWithin(Duration),
}

/// What is to be done with the certificate that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Hand it out again.
    Keep,
    /// Make another.
    Replace,
    /// Nothing, before this moment.
    TooSoon(Moment),
}

impl Reuse {
    /// What to do with the last certificate of a domain, which is not revoked.
    pub fn judge(self, last: &IssuedCertificate, now: Moment) -> Verdict {
        match self {
            Self::WhileLeft(left) if now.plus(left) < last.not_after => Verdict::Keep,
            Self::WhileLeft(_) => Verdict::Replace,
            Self::NotWithin(while_) if now < last.issued_at.plus(while_) => {
                Verdict::TooSoon(last.issued_at.plus(while_))
            }
            Self::NotWithin(_) => Verdict::Replace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_until_the_window_and_renewed_not_too_often() {
        let hours = |n: u64| Duration::from_hours(n);
        let start = Moment::from_seconds(1_800_000_000);
        let last = IssuedCertificate {
            id: CertificateId::from_random([0; 12]),
            serial: "40".into(),
            fingerprint: [0; 32],
            issuer: [0; 32],
            purpose: Purpose::Server,
            subject: "a.example".into(),
            pem: String::new(),
            not_before: start,
            not_after: start.plus(hours(100)),
            issued_at: start,
            issued_to: String::new(),
            issued_to_name: String::new(),
            revoked_at: None,
        };
        let kept = |after| Reuse::WhileLeft(hours(10)).judge(&last, start.plus(hours(after)));
        assert_eq!((kept(0), kept(89)), (Verdict::Keep, Verdict::Keep));
        assert_eq!((kept(90), kept(200)), (Verdict::Replace, Verdict::Replace));
        let renewed = |after| Reuse::NotWithin(hours(1)).judge(&last, start.plus(after));
        assert_eq!(renewed(Duration::from_mins(59)), Verdict::TooSoon(start.plus(hours(1))));
        assert_eq!(renewed(hours(1)), Verdict::Replace);
        assert_eq!(last.state(start.plus(hours(101))), CertificateState::Expired);
    }
}
