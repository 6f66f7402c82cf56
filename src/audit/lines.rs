//! An entry as a line of JSON, which reads back as the same entry, and as a record of CSV.

use std::{borrow::Cow, io::Write as _};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::domain::{
    checkpoint::hex,
    ledger::{Entry, Hash, View},
};

/// An entry as a line. `details` is JSON as it is stored; what is not JSON is text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of an entry")]
pub struct Line<'l> {
    pub seq: i64,
    #[serde(borrow)]
    pub time: Cow<'l, str>,
    #[serde(borrow)]
    pub event: Cow<'l, str>,
    #[serde(borrow)]
    pub level: Cow<'l, str>,
    #[serde(borrow)]
    pub actor_kind: Cow<'l, str>,
    #[serde(borrow)]
    pub actor_id: Cow<'l, str>,
    #[serde(borrow)]
    pub actor_name: Cow<'l, str>,
    #[serde(borrow)]
    pub resource_kind: Cow<'l, str>,
    #[serde(borrow)]
    pub resource_id: Cow<'l, str>,
    #[serde(borrow)]
    pub outcome: Cow<'l, str>,
    #[serde(borrow)]
    pub reason: Cow<'l, str>,
    pub request_id: Option<Cow<'l, str>>,
    pub ip: Option<Cow<'l, str>>,
    pub user_agent: Option<Cow<'l, str>>,
    #[serde(borrow)]
    pub node: Cow<'l, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub details: Option<&'l RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details_text: Option<Cow<'l, str>>,
    #[serde(with = "hex")]
    pub prev_hash: Hash,
    #[serde(with = "hex")]
    pub hash: Hash,
}

impl<'l> Line<'l> {
    fn of(entry: &View<'l>) -> Self {
        let text = |text: &'l str| Cow::Borrowed(text);
        // A line feed in it would be a second line; and what is read back has to be the same bytes.
        let raw = serde_json::from_str::<&RawValue>(entry.details).ok();
        let raw = raw.filter(|raw| raw.get() == entry.details && !entry.details.contains(char::is_control));
        Self {
            seq: entry.seq,
            time: entry.time.rfc3339().into(),
            event: text(entry.event),
            level: text(entry.level),
            actor_kind: text(entry.actor_kind),
            actor_id: text(entry.actor_id),
            actor_name: text(entry.actor_name),
            resource_kind: text(entry.resource_kind),
            resource_id: text(entry.resource_id),
            outcome: text(entry.outcome),
            reason: text(entry.reason),
            request_id: entry.request_id.map(text),
            ip: entry.ip.map(text),
            user_agent: entry.user_agent.map(text),
            node: text(entry.node),
            details_text: raw.is_none().then(|| text(entry.details)),
            details: raw,
            prev_hash: entry.prev_hash,
            hash: entry.hash,
        }
    }

    /// The entry again; `None` when the moment is none.
    pub fn entry(self) -> Option<Entry> {
        Some(Entry {
            seq: self.seq,
            time: self.time.parse().ok()?,
            event: self.event.into_owned(),
            level: self.level.into_owned(),
            actor_kind: self.actor_kind.into_owned(),
            actor_id: self.actor_id.into_owned(),
            actor_name: self.actor_name.into_owned(),
            resource_kind: self.resource_kind.into_owned(),
            resource_id: self.resource_id.into_owned(),
            outcome: self.outcome.into_owned(),
            reason: self.reason.into_owned(),
            request_id: self.request_id.map(Into::into),
            ip: self.ip.map(Into::into),
            user_agent: self.user_agent.map(Into::into),
            node: self.node.into_owned(),
            details: match (self.details, self.details_text) {
                (Some(raw), None) => raw.get().to_owned(),
                (None, Some(text)) => text.into_owned(),
                _ => return None,
            },
            prev_hash: self.prev_hash,
            hash: self.hash,
        })
    }
}

/// An entry as one JSON line, without the line feed.
pub fn json_line(entry: &View<'_>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and every field is JSON.
    let _ = serde_json::to_writer(out, &Line::of(entry));
}

/// The first record of a log as CSV.
pub(super) const COLUMNS: &str = "seq,time,event,level,actor_kind,actor_id,actor_name,resource_kind,resource_id,outcome,reason,\
     request_id,ip,user_agent,node,details,prev_hash,hash\r\n";

/// An entry as a record of RFC 4180. A cell that a spreadsheet would calculate begins with an apostrophe.
pub(super) fn csv_record(entry: &View<'_>, out: &mut Vec<u8>) {
    let _ = write!(out, "{},{}", entry.seq, entry.time.rfc3339());
    let cells = [
        entry.event,
        entry.level,
        entry.actor_kind,
        entry.actor_id,
        entry.actor_name,
        entry.resource_kind,
        entry.resource_id,
        entry.outcome,
        entry.reason,
        entry.request_id.unwrap_or_default(),
        entry.ip.unwrap_or_default(),
        entry.user_agent.unwrap_or_default(),
        entry.node,
        entry.details,
    ];
    for cell in cells {
        out.push(b',');
        csv_cell(cell, out);
    }
    let (prev, hash) = (HEXLOWER.encode(&entry.prev_hash), HEXLOWER.encode(&entry.hash));
    let _ = write!(out, ",{prev},{hash}\r\n");
}

/// A table as CSV (RFC 4180): objects of which each column is a text, a number, or a list of texts. What a spreadsheet
/// would calculate is text.
pub fn csv(columns: &[&str], rows: &[Value]) -> Vec<u8> {
    let mut out = columns.join(",").into_bytes();
    out.extend_from_slice(b"\r\n");
    for row in rows {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            csv_cell(&in_words(&row[*column]), &mut out);
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn csv_cell(text: &str, out: &mut Vec<u8>) {
    // Also behind blanks, and in the wide forms that some spreadsheets take for the others.
    let calculates = text.starts_with(['\t', '\r', '\n'])
        || text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if !calculates && !text.contains(['"', ',', ';', '\r', '\n']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    if calculates {
        out.push(b'\'');
    }
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Actor, ActorKind, EventName, NewEvent, Origin},
        ledger::Head,
        time::Moment,
    };

    fn entry(text: &str) -> Entry {
        let actor = Actor::new(ActorKind::Person, "usr-1", text);
        let mut event = NewEvent::new(Moment::from_millis(1_234), EventName::TokenCreated, actor).with("n", text);
        event.origin = Origin { ip: Some(String::new()), ..Origin::default() };
        Head::EMPTY.clone().append(event, "node")
    }

    #[test]
    fn a_json_line_reads_back_as_the_same_entry() {
        for text in ["ann", "", "\"\\\n\r\t\u{1b}[31m", "\u{1f980}\u{202e}", "=1+1"] {
            let mut entry = entry(text);
            for details in
                [entry.details.clone(), "{ \"a\": 1 }".into(), "not JSON\n".into(), " {}".into(), String::new()]
            {
                entry.details = details;
                let mut line = Vec::new();
                json_line(&entry.view(), &mut line);
                assert!(!line.contains(&b'\n'));
                assert_eq!(serde_json::from_slice::<Line<'_>>(&line).unwrap().entry().as_ref(), Some(&entry));
            }
        }
    }

    #[test]
    fn a_cell_that_would_be_calculated_is_text_and_quotes_are_doubled() {
        let cell = |text: &str| {
            let mut out = Vec::new();
            csv_cell(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(cell("plain text"), "plain text");
        // Where a comma is a decimal point, a semicolon is what divides.
        assert_eq!(cell("a;=1+1"), "\"a;=1+1\"");
        assert_eq!(cell("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(cell("two\r\nlines"), "\"two\r\nlines\"");
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\u{a0}+1", "\u{ff1d}1"] {
            assert_eq!(cell(formula), format!("\"'{formula}\""));
        }
    }
}
