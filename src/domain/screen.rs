//! Characters that a terminal, a log viewer or a browser acts on instead of showing them.

use std::borrow::Cow;

/// Whether a mark turns round the direction of what follows (the bidirectional controls of Unicode): with one of them
/// a name can look like another.
pub const fn reverses(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether it is not to be shown as it is: a control character, or one that [`reverses`].
pub fn acts(c: char) -> bool {
    c.is_control() || reverses(c)
}

/// The text without them, at most so many characters.
pub fn harmless(text: &str, most: usize) -> String {
    text.chars().filter(|c| !acts(*c)).take(most).collect()
}

/// A page with a sign (U+FFFD) in the place of each of them.
pub fn page(text: &str) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && !matches!(c, '\n' | '\t');
    if text.contains(acts) { Cow::Owned(text.replace(acts, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_can_only_be_looked_at() {
        assert_eq!(harmless("a\u{1b}[31m\u{9b}b\u{202e}c\u{2066}d\r\n\u{200f}é", 20), "a[31mbcdé");
        assert_eq!(harmless("abc", 2), "ab");
        assert_eq!(page("<p>\n\ta\u{1b}b\u{202e}c</p>"), "<p>\n\ta\u{fffd}b\u{fffd}c</p>");
        assert!(matches!(page("<p>é</p>\n"), Cow::Borrowed(_)));
    }
}
