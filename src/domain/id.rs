//! Public identifiers: a short prefix that says what it names, and 12 random characters.

/// 32 characters that are not mistaken for one another when read aloud.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// Random bytes → 12 characters of [`ALPHABET`] (60 bits).
pub(crate) fn letters(random: [u8; 12]) -> String {
    random.iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect()
}

/// Whether `text` could have come from [`letters`].
pub(crate) fn are_letters(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| ALPHABET.contains(&b))
}

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $prefix.len() + 12]);

        impl $name {
            /// A new id from random bytes.
            pub fn from_random(random: [u8; 12]) -> Self {
                Self::of_letters(&$crate::domain::id::letters(random))
            }

            fn of_letters(letters: &str) -> Self {
                let mut text = [0; $prefix.len() + 12];
                let (prefix, rest) = text.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                rest.copy_from_slice(letters.as_bytes());
                Self(text)
            }

            /// The id as written.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("made of ASCII")
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::id::NotAnId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text.strip_prefix($prefix) {
                    Some(rest) if $crate::domain::id::are_letters(rest) => Ok(Self::of_letters(rest)),
                    _ => Err($crate::domain::id::NotAnId { prefix: $prefix }),
                }
            }
        }
    };
}
pub(crate) use public_id;

/// The text is not an id of this kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected {prefix} and 12 lower-case letters or digits")]
pub struct NotAnId {
    /// The prefix that such an id begins with.
    pub prefix: &'static str,
}
