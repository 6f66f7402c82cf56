//! A hasher for keys that are spread evenly already: digests, and numbers that a keyed hash made.
//!
//! Only for keys whose bits nobody outside can choose, such as the digest of a secret made here: whoever
//! could choose them could make a table slow.

use std::hash::{BuildHasherDefault, Hasher};

/// Takes the key's own first eight bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstBytes(u64);

/// Builds [`FirstBytes`].
pub type Spread = BuildHasherDefault<FirstBytes>;

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// The length that slices write before their bytes says nothing.
    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn digests_that_differ_early_hash_apart() {
        let hash = |first: u8| {
            let mut digest = [7_u8; 32];
            digest[0] = first;
            Spread::default().hash_one(digest)
        };
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
        assert_eq!(Spread::default().hash_one(9_u64), 9);
    }
}
