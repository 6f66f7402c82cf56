//! The ring of our signing keys: the first signs, all are published. A ring that the process made for itself
//! is not published, because it would be another one after a restart and on every node (seeds/001).

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::sign::{KeyRefused, SigningKey};

/// Our signing keys. Never changed, only replaced as a whole.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<SigningKey>,
    ephemeral: bool,
    jwks: String,
    etag: String,
}

impl Keyring {
    /// The keys of a PEM text, or of the base64 of one.
    ///
    /// # Errors
    /// [`KeyRefused`] with the number of the block.
    pub fn read(text: &str) -> Result<Self, KeyRefused> {
        SigningKey::read_all(text).map(|keys| Self::of(keys, false))
    }

    /// One key that lasts as long as the process.
    pub fn ephemeral() -> Self {
        Self::of(vec![SigningKey::generate()], true)
    }

    /// Of keys that were read already; the first signs. `None` without one.
    pub fn of_keys(keys: Vec<SigningKey>) -> Option<Self> {
        (!keys.is_empty()).then(|| Self::of(keys, false))
    }

    fn of(keys: Vec<SigningKey>, ephemeral: bool) -> Self {
        let published: Vec<Value> = if ephemeral { Vec::new() } else { keys.iter().map(SigningKey::jwk).collect() };
        let jwks = json!({"keys": published}).to_string();
        let hash = digest::digest(&digest::SHA256, jwks.as_bytes());
        let etag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&hash.as_ref()[..12]));
        Self { keys, ephemeral, jwks, etag }
    }

    /// The key that signs.
    pub fn signing(&self) -> &SigningKey {
        &self.keys[0]
    }

    /// All keys, the signing one first.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// Whether it lasts only as long as the process.
    pub const fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// The published key set (RFC 7517 §5).
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Changes with the published key set.
    pub fn etag(&self) -> &str {
        &self.etag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signs_and_all_are_published_without_private_members() {
        let (a, b) = (SigningKey::generate(), SigningKey::generate());
        let ring = Keyring::read(&format!("{}{}", *a.to_pem(), *b.to_pem())).unwrap();
        assert_eq!(ring.signing().kid(), a.kid());
        let set: Value = serde_json::from_str(ring.jwks()).unwrap();
        assert_eq!(set["keys"], json!([a.jwk(), b.jwk()]));
        assert!(set["keys"][0].get("d").is_none());
    }

    #[test]
    fn a_ring_of_the_process_itself_is_not_published() {
        let ring = Keyring::ephemeral();
        assert!(ring.is_ephemeral());
        assert_eq!(ring.jwks(), r#"{"keys":[]}"#);
    }
}
