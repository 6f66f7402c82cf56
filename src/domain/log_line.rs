//! A line that a child process printed, made harmless before it is stored: valid text, without what a
//! terminal or a browser would act on, without secrets of lokid's own format, and of bounded length.

use std::fmt::Write as _;

use super::screen;

/// The longest line that is kept, in bytes. What stands beyond it is dropped, never carried over: a second
/// piece could begin in the midst of a secret.
pub const LONGEST: usize = 8 * 1024;

/// What a secret is replaced by.
const MASK: &str = "loki_[masked]";
const PREFIX: &str = "loki_";
/// Fewer characters than this behind the prefix are a name, not a secret.
const SHORTEST_SECRET: usize = 16;

/// The line as it is kept. `beyond` says how many more bytes the line had than were read.
pub fn clean(bytes: &[u8], beyond: u64) -> String {
    let cut = beyond + (bytes.len().saturating_sub(LONGEST)) as u64;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let mut text = mask(&plain(&text), cut > 0);
    if cut > 0 {
        let _ = write!(text, " … ({cut} bytes more)");
    }
    text
}

/// Without escape sequences (ECMA-48: CSI, OSC and the short ones); other control characters become U+FFFD.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim_end_matches(['\r', '\n']).chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_to_final(&mut rest),
            '\t' => out.push(c),
            // Also marks that reverse the direction of what follows.
            c if screen::reverses(c) => {}
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => skip_to_final(rest),
        // A string that ends with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.as_str().starts_with('\\')) {
                    if c == '\u{1b}' {
                        rest.next();
                    }
                    return;
                }
            }
        }
        // Two-character sequences with an intermediate byte, such as ESC ( B.
        Some(' '..='/') => drop(rest.next()),
        _ => {}
    }
}

/// Past the final byte of a control sequence.
fn skip_to_final(rest: &mut std::str::Chars<'_>) {
    for c in rest.by_ref() {
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

/// A text of somebody who may have put a token into it, with that replaced.
pub fn without_secrets(text: &str) -> String {
    mask(text, false)
}

/// Replaces what has the form of one of lokid's tokens, and at the end of a line that was cut also the beginning of one.
fn mask(text: &str, was_cut: bool) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PREFIX) {
        let after = &rest[at + PREFIX.len()..];
        let length = after.find(|c| !is_part(c)).unwrap_or(after.len());
        out.push_str(&rest[..at]);
        let at_the_cut = was_cut && length == after.len();
        out.push_str(if length >= SHORTEST_SECRET || at_the_cut {
            MASK
        } else {
            &rest[at..at + PREFIX.len() + length]
        });
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::TokenSecret;

    #[test]
    fn what_a_terminal_acts_on_is_taken_out() {
        let line = |text: &str| clean(text.as_bytes(), 0);
        assert_eq!(line("\u{1b}[31mred\u{1b}[0m\r\n"), "red");
        assert_eq!(line("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\y"), "xy");
        assert_eq!(line("\u{1b}(Ba\u{9b}2Jb\tc"), "ab\tc");
        assert_eq!(line("bell\u{7}\u{0} back\u{8}"), "bell\u{fffd}\u{fffd} back\u{fffd}");
        assert_eq!(line("a\u{202e}b"), "ab");
        assert_eq!(clean(b"caf\xe9 \xff", 0), "caf\u{fffd} \u{fffd}");
        assert_eq!(line("\u{1b}[31"), "", "an unfinished sequence ends with its line");
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand_even_cut_in_two() {
        let secret = TokenSecret::from_random([7; 32]);
        let line = clean(format!("a={} b", secret.reveal()).as_bytes(), 0);
        assert_eq!(line, "a=loki_[masked] b");
        assert_eq!(clean(b"loki_enterprise is no secret", 0), "loki_enterprise is no secret");
        for kept in 0..secret.reveal().len() - 5 {
            let before = "x".repeat(LONGEST - 5 - kept);
            let cut = clean(format!("{before}{} tail", secret.reveal()).as_bytes(), 3);
            assert!(!cut.contains(&secret.reveal()[5..5 + kept.max(1)]) || kept == 0, "{kept}");
            assert!(cut.contains(MASK) && cut.ends_with("bytes more)"), "{kept}");
        }
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let line = clean(&vec![b'x'; LONGEST + 7], 5);
        assert!(line.ends_with("x … (12 bytes more)") && line.len() < LONGEST + 40);
    }
}
