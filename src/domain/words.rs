//! Closed sets of words: an enum whose values are written one way in JSON, in the database and on pages.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant),+ }

        impl $name {
            /// Every one, in order.
            pub const EVERY: &[Self] = &[$(Self::$variant),+];

            /// As written in JSON and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::EVERY.iter().copied().find(|known| known.as_str() == text);
                found.ok_or_else(|| format!("expected one of {}", [$($word),+].join(", ")))
            }
        }
    };
}
pub(crate) use words;
