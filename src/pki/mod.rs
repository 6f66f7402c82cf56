//! Certificates: our own authority, what it issues, what a certificate says, and TLS with them.
//!
//! [`ca`] signs, [`leaf`] says what is signed, [`read`] reads certificates of anybody, [`files`] keeps the files of
//! `lokid certs`, [`tls`] serves with a pair that can be swapped, [`client`] judges certificates of clients, and
//! [`refused`] says why one is not taken. Nothing here records an event; whoever is told of a refusal does.

pub mod ca;
pub mod client;
pub mod files;
pub mod leaf;
pub mod read;
pub mod refused;
pub mod tls;

use std::path::Path;

/// A certificate or key cannot be used, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// No PEM block of this kind.
    #[error("{0}: there is no {1} in it (PEM)")]
    Nothing(String, &'static str),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, String),
    /// The key belongs to another certificate.
    #[error("{0}: the private key does not belong to the certificate")]
    Mismatch(String),
    /// It may not sign certificates.
    #[error("{0}: this is not the certificate of an authority (CA:TRUE and keyCertSign); make one: lokid certs ca")]
    NotAnAuthority(String),
    /// Its time is over, or not yet there.
    #[error("{0}: {1}")]
    Time(String, String),
    /// A value that a certificate cannot hold.
    #[error("{0:?} cannot stand in a certificate")]
    Value(String),
    /// Making it failed.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

impl PkiError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let name = path.display().to_string();
        move |e| Self::File(name, e)
    }
}
