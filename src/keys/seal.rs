//! Sealing: AES-256-GCM under keys derived by HKDF-SHA-256 from one secret, one key for each purpose.
//!
//! A sealed value is `version (1) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`; the purpose is authenticated too,
//! so that a value sealed for one purpose opens for no other.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{self, HKDF_SHA256, KeyType, Salt},
    hmac,
};
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use crate::domain::entropy::Entropy;

const VERSION: u8 = 1;

/// What a value is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The state of an unfinished sign-in, which travels through the browser.
    SignIn,
    /// A provider's refresh and ID tokens, kept in the database.
    ProviderTokens,
    /// A private key that signs assertions, kept in the database.
    SigningKey,
    /// The private key of an issued certificate, kept in the database.
    CertificateKey,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::SignIn => b"lokid sign-in state v1",
            Self::ProviderTokens => b"lokid provider tokens v1",
            Self::SigningKey => b"lokid signing key v1",
            Self::CertificateKey => b"lokid certificate key v1",
        }
    }
}

/// The installation's secret, from which every other key is derived.
pub struct Sealer {
    root: hkdf::Prk,
}

/// Numbers for texts that nobody can guess who does not hold the secret.
pub struct KeyedHash(hmac::Key);

impl KeyedHash {
    /// The number of some bytes.
    pub fn number(&self, of: &[u8]) -> u64 {
        let tag = hmac::sign(&self.0, of);
        tag.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(…)")
    }
}

/// The sealed value was not made by this installation for this purpose, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct Unopened;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Sealer {
    /// From at least 32 characters or bytes that nobody can guess.
    pub fn new(secret: &[u8]) -> Self {
        Self { root: Salt::new(HKDF_SHA256, b"lokid installation secret v1").extract(secret) }
    }

    /// From the file beside the database; made with fresh randomness at the first start.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or holds too little.
    pub fn from_file(path: &Path, entropy: Entropy) -> std::io::Result<Self> {
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(mut file) => {
                let text = Zeroizing::new(BASE64URL_NOPAD.encode(&entropy.bytes::<32>()));
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        let text = Zeroizing::new(fs::read_to_string(path)?);
        if text.trim().len() < 32 {
            return Err(std::io::Error::other("holds fewer than 32 characters"));
        }
        Ok(Self::new(text.trim().as_bytes()))
    }

    /// `N` bytes of key for something that has its own library (the cookie's signature, CSRF).
    pub fn derive<const N: usize>(&self, label: &[u8]) -> Zeroizing<[u8; N]> {
        let mut key = Zeroizing::new([0; N]);
        let info = [label];
        let okm = self.root.expand(&info, Length(N)).expect("HKDF gives 8160 bytes");
        okm.fill(&mut key[..]).expect("the length was asked for");
        key
    }

    fn key(&self, purpose: Purpose) -> LessSafeKey {
        let bytes = self.derive::<32>(purpose.label());
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes[..]).expect("32 bytes are an AES-256 key"))
    }

    /// Seals `plain`.
    pub fn seal(&self, purpose: Purpose, plain: &[u8], entropy: Entropy) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = entropy.bytes();
        let mut body = plain.to_vec();
        let aad = Aad::from(purpose.label());
        let sealed = self.key(purpose).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body);
        sealed.expect("a short text can be sealed");
        [&[VERSION], &nonce[..], &body].concat()
    }

    /// Opens what [`Self::seal`] made for the same purpose.
    ///
    /// # Errors
    /// [`Unopened`] for anything else.
    pub fn open(&self, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (head, body) = sealed.split_at_checked(1 + NONCE_LEN).ok_or(Unopened)?;
        if head[0] != VERSION {
            return Err(Unopened);
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).map_err(|_| Unopened)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.key(purpose).open_in_place(nonce, Aad::from(purpose.label()), &mut body);
        let length = plain.map_err(|_| Unopened)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// A keyed hash that every holder of the secret computes alike.
    pub fn keyed_hash(&self, label: &[u8]) -> KeyedHash {
        KeyedHash(hmac::Key::new(hmac::HMAC_SHA256, &self.derive::<32>(label)[..]))
    }

    /// A token that only this installation can make for `subject`, as 43 characters.
    pub fn tag(&self, label: &[u8], subject: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.derive::<32>(label)[..]);
        BASE64URL_NOPAD.encode(hmac::sign(&key, subject.as_bytes()).as_ref())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_purpose_and_installation_only() {
        let ours = Sealer::new(&[1; 32]);
        let sealed = ours.seal(Purpose::SignIn, b"state", Entropy);
        assert_eq!(ours.open(Purpose::SignIn, &sealed).unwrap().as_slice(), b"state");
        assert_eq!(ours.open(Purpose::ProviderTokens, &sealed), Err(Unopened));
        assert_eq!(Sealer::new(&[2; 32]).open(Purpose::SignIn, &sealed), Err(Unopened));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(ours.open(Purpose::SignIn, &changed), Err(Unopened), "byte {at}");
        }
        assert_eq!(ours.open(Purpose::SignIn, &[]), Err(Unopened));
    }

    #[test]
    fn the_file_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let sealed = Sealer::from_file(&path, Entropy).unwrap().seal(Purpose::SignIn, b"x", Entropy);
        assert!(Sealer::from_file(&path, Entropy).unwrap().open(Purpose::SignIn, &sealed).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(Sealer::from_file(&path, Entropy).is_err());
    }
}
