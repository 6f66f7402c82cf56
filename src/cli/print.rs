//! Output for people: tables whose columns line up, and nothing that a terminal would act on.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use crate::domain::screen;

/// Text without what a terminal acts on. Line feeds stay when `lines` says so.
pub(super) fn plain(text: &str, lines: bool) -> String {
    let visible = |c: char| if c.is_control() && !(lines && c == '\n') { '\u{fffd}' } else { c };
    // Also marks that reverse the direction of what follows.
    text.chars().map(visible).filter(|c| !screen::reverses(*c)).collect()
}

/// A value of a JSON answer as people read it.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::String(text) => plain(text, false),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} ({})", cell(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// `2026-11-22T19:05:00.123Z` → `2026-11-22 19:05:00`.
pub(super) fn when(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| "–".into(), |text| plain(text, false).chars().take(19).collect::<String>().replace('T', " "))
}

/// Rows under their headings.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([headings[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            let gap = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(gap))
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    if headings.iter().any(|heading| !heading.is_empty()) {
        out(&line(headings));
    }
    for row in rows {
        out(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

/// One line to standard output. A reader that went away (`| head`) ends the program quietly.
pub(super) fn out(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// One line to standard output, for a server: it serves on when nobody reads what it says.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line beside what is printed: programs read only the rest.
pub(super) fn aside(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Pretty JSON to a terminal, compact JSON to a program.
pub(super) fn json(value: &Value) {
    if std::io::stdout().is_terminal() { out(&escaped(&format!("{value:#}"))) } else { json_line(value) }
}

/// JSON on one line.
pub(super) fn json_line(value: &Value) {
    out(&escaped(&value.to_string()));
}

/// JSON that says the same without what a terminal acts on: beside its own blanks such characters stand in texts only,
/// and there each may be written as its number (RFC 8259 §7).
fn escaped(json: &str) -> String {
    let acts = |c: char| (c.is_control() && c != '\n') || screen::reverses(c);
    if !json.contains(acts) {
        return json.to_owned();
    }
    let one = |c: char| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        assert_eq!(plain("a\u{1b}[31mred\r\nb\u{202e}c", false), "a\u{fffd}[31mred\u{fffd}\u{fffd}bc");
        assert_eq!(plain("a\nb", true), "a\nb");
        let value = serde_json::json!({"a": "\u{1b}\u{7f}\u{9b}31m\u{202e}\u{e9}"});
        let text = escaped(&format!("{value:#}"));
        assert!(!text.contains(['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}']) && text.contains('\u{e9}'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
