//! What the process says of itself: logs (one line of text or one JSON object an event, to standard error),
//! counts ([`metrics`], [`requests`]) and what it takes of its machine ([`process`]).

pub mod metrics;
pub mod process;
pub mod requests;

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::{EnvFilter, fmt};

use crate::domain::screen;

/// Turns logging on for the whole process, from `level` on. A second call changes nothing.
pub fn start(level: &str, json: bool) {
    // Libraries say little of use below a warning, and some of it could hold what must not be logged.
    let filter = EnvFilter::new(format!("warn,lokid={level}"));
    let colours = !json && io::stderr().is_terminal();
    let lines = fmt().with_env_filter(filter).with_target(false);
    let lines = lines.with_writer(move || Harmless { to: io::stderr(), colours });
    let started = if json { lines.json().flatten_event(true).try_init() } else { lines.with_ansi(colours).try_init() };
    // Only tests start it twice.
    drop(started);
}

/// Keeps each event on one line, and takes out what a screen acts on: the formatter escapes a message and what it shows
/// with `Debug`, but not what it shows with `Display`.
struct Harmless<W> {
    to: W,
    /// Whether the formatter sets colours.
    colours: bool,
}

impl<W: Write> Write for Harmless<W> {
    /// One event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if line.contains(screen::acts) {
            self.to.write_all((harmless(line, self.colours) + "\n").as_bytes())?;
        } else {
            self.to.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The line with a sign (U+FFFD) for each control character, and without marks that turn round what follows.
fn harmless(line: &str, colours: bool) -> String {
    let (mut out, mut rest) = (String::with_capacity(line.len()), line);
    while let Some(at) = rest.find(screen::acts) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let colour = colour(found).filter(|_| colours);
        let first = found.chars().next().unwrap_or_default();
        match colour {
            Some(length) => out.push_str(&found[..length]),
            None if screen::reverses(first) => {}
            None => out.push('\u{fffd}'),
        }
        rest = &found[colour.unwrap_or(first.len_utf8())..];
    }
    out + rest
}

/// How long the sequence is with which a text begins, if it only sets a colour (ECMA-48 §8.3.117, SGR).
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    numbers[end..].starts_with('m').then_some("\u{1b}[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_says_what_happened_and_does_nothing_to_the_screen() {
        let text = "a\u{1b}[31m\r\nb\u{202e}c\u{9b}d";
        for json in [false, true] {
            let kept = Kept::default();
            let writer = kept.clone();
            let lines = fmt().with_ansi(false).with_writer(move || Harmless { to: writer.clone(), colours: false });
            let say = || tracing::warn!(error = %text, quoted = ?text, name = text, "what {text} did");
            if json {
                tracing::subscriber::with_default(lines.json().flatten_event(true).finish(), say);
            } else {
                tracing::subscriber::with_default(lines.finish(), say);
            }
            let said = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let line = said.strip_suffix('\n').expect("one line");
            assert!(line.contains("did") && !line.contains(screen::acts), "{line:?}");
        }
    }

    #[test]
    fn of_what_a_terminal_knows_only_colours_are_left() {
        let line = "\u{1b}[2mwhen\u{1b}[0m a\u{1b}[2Jb\u{1b}]0;title\u{7}\nc\u{202e}";
        let shown = "\u{1b}[2mwhen\u{1b}[0m a\u{fffd}[2Jb\u{fffd}]0;title\u{fffd}\u{fffd}c";
        assert_eq!(harmless(line, true), shown);
        assert!(!harmless(line, false).contains(screen::acts));
    }
}
