//! The log as a file: JSON lines that lose nothing and can be verified again, or CSV for a spreadsheet. Written a
//! stretch at a time, so that a log of any length takes the same memory.
//!
//! JSON lines begin with a line about the log and end with a signed one about everything before it. Between them
//! stand the entries and, where retention took some out, the tombstones.

use std::io::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    domain::{
        checkpoint::{ExportSeal, hex},
        ledger::{Entry, Hash, Head, View},
        time::Moment,
    },
    store::{
        Store, StoreError,
        evidence::{Signer, StoredTombstone},
        ledger::Filter,
        ledger_stretch::Ahead,
    },
};

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// RFC 4180.
    Csv,
}

impl std::str::FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            _ => Err(()),
        }
    }
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the format.
    pub lokid_export: u8,
    /// Which log.
    #[serde(with = "hex")]
    pub log: Hash,
    /// The filter; empty for none.
    pub filter: String,
    /// The place of the log's last entry when the export began.
    pub seq: i64,
    /// Public keys that signed anything in it, by their thumbprints.
    pub keys: Vec<Value>,
}

/// An entry as a line. `details` is JSON as it is stored; what is not JSON is text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of an entry")]
pub struct Line<'l> {
    pub seq: i64,
    #[serde(borrow)]
    pub time: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub event: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub level: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub actor_kind: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub actor_id: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub actor_name: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub resource_kind: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub resource_id: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub outcome: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    pub reason: std::borrow::Cow<'l, str>,
    pub request_id: Option<std::borrow::Cow<'l, str>>,
    pub ip: Option<std::borrow::Cow<'l, str>>,
    pub user_agent: Option<std::borrow::Cow<'l, str>>,
    #[serde(borrow)]
    pub node: std::borrow::Cow<'l, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub details: Option<&'l RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details_text: Option<std::borrow::Cow<'l, str>>,
    #[serde(with = "hex")]
    pub prev_hash: Hash,
    #[serde(with = "hex")]
    pub hash: Hash,
}

impl<'l> Line<'l> {
    fn of(entry: &View<'l>) -> Self {
        let text = |text: &'l str| std::borrow::Cow::Borrowed(text);
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

const COLUMNS: &str = "seq,time,event,level,actor_kind,actor_id,actor_name,resource_kind,resource_id,outcome,reason,\
     request_id,ip,user_agent,node,details,prev_hash,hash\r\n";

/// An entry as a record of RFC 4180. A cell that a spreadsheet would calculate begins with an apostrophe.
fn csv_record(entry: &View<'_>, out: &mut Vec<u8>) {
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
    if !calculates && !text.contains(['"', ',', '\r', '\n']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    if calculates {
        out.push(b'\'');
    }
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

/// What is exported.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which entries.
    pub filter: Filter,
    /// The filter as it was asked for; empty for none.
    pub asked: String,
    /// How it is written.
    pub format: Format,
}

/// An export under way.
pub struct Export {
    store: Store,
    wanted: Wanted,
    signer: Option<Signer>,
    now: Moment,
    log: Hash,
    until: Head,
    digest: Context,
    count: i64,
    last: i64,
    ahead: Option<Ahead>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Entries,
    Done,
}

impl Export {
    /// Of everything up to the present end of the log.
    ///
    /// # Errors
    /// When the database cannot say where that is.
    pub async fn of(store: Store, wanted: Wanted, signer: Option<Signer>, now: Moment) -> Result<Self, StoreError> {
        let (until, log) = (store.audit_head().await?, store.audit_log_id().await?);
        let digest = Context::new(&SHA256);
        Ok(Self { store, wanted, signer, now, log, until, digest, count: 0, last: 0, ahead: None, state: State::Begin })
    }

    /// The next piece; `None` after the last one.
    ///
    /// # Errors
    /// When the database cannot be read on.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut out = Vec::new();
        match self.state {
            State::Begin => {
                self.begin(&mut out).await?;
                self.state = State::Entries;
            }
            State::Entries => {
                let read = match self.ahead.take() {
                    Some(ahead) => ahead.stretch().await?,
                    None => self.store.packed_stretch(&self.behind(self.last)).await?,
                };
                let entries = read.views();
                if let Some(last) = entries.last() {
                    // The database reads the next stretch while this one is written.
                    self.ahead = Some(self.store.read_ahead(self.behind(last.seq)).await);
                }
                let end = entries.last().map_or(self.until.seq, |last| last.seq);
                let stones = if self.wanted.filter.is_open() && self.wanted.format == Format::Jsonl {
                    self.store.tombstones(self.last, end).await?
                } else {
                    Vec::new()
                };
                self.stretch(&entries, &stones, &mut out);
                self.last = end;
                if entries.is_empty() {
                    self.state = State::Done;
                    self.end(&mut out);
                }
            }
            State::Done => return Ok(None),
        }
        Ok(Some(out))
    }

    /// What is to be exported behind a place.
    fn behind(&self, seq: i64) -> Filter {
        Filter { after: (seq > 0).then_some(seq), before: Some(self.until.seq + 1), ..self.wanted.filter.clone() }
    }

    async fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), StoreError> {
        if self.wanted.format == Format::Csv {
            out.extend_from_slice(COLUMNS.as_bytes());
            return Ok(());
        }
        let mut keys = self.store.evidence_keys().await?;
        if let Some(jwk) = self.signer.as_ref().and_then(|s| serde_json::from_str::<Value>(&s.jwk).ok())
            && !keys.contains(&jwk)
        {
            keys.push(jwk);
        }
        let filter = self.wanted.asked.clone();
        let header = Header { lokid_export: 1, log: self.log, filter, seq: self.until.seq, keys };
        let _ = serde_json::to_writer(&mut *out, &header);
        out.push(b'\n');
        self.digest.update(out);
        Ok(())
    }

    fn stretch(&mut self, entries: &[View<'_>], stones: &[StoredTombstone], out: &mut Vec<u8>) {
        let (mut stones, mut gone) = (stones.iter().peekable(), 0);
        for entry in entries {
            while let Some(stone) = stones.next_if(|stone| stone.hole.first_seq < entry.seq) {
                let _ = writeln!(out, "{}", json!({"tombstone": stone.jws}));
                gone = stone.hole.last_seq;
            }
            // Read before it was taken out: the tombstone, which was read later, stands for it.
            if entry.seq <= gone {
                continue;
            }
            match self.wanted.format {
                Format::Csv => csv_record(entry, out),
                Format::Jsonl => {
                    json_line(entry, out);
                    out.push(b'\n');
                }
            }
            self.count += 1;
        }
        for stone in stones {
            let _ = writeln!(out, "{}", json!({"tombstone": stone.jws}));
        }
        self.digest.update(out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.wanted.format == Format::Csv {
            return;
        }
        let digest = std::mem::replace(&mut self.digest, Context::new(&SHA256)).finish();
        let seal = ExportSeal {
            log: self.log,
            filter: self.wanted.asked.clone(),
            count: self.count,
            digest: digest.as_ref().try_into().expect("SHA-256 has 32 bytes"),
            seq: self.until.seq,
            hash: self.until.hash,
            time: self.now,
        };
        let line = match &self.signer {
            Some(signer) => json!({"seal": signer.state(&seal)}),
            None => json!({"seal": seal}),
        };
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Actor, ActorKind, EventName, NewEvent, Origin};

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
        assert_eq!(cell("a \"b\", c"), "\"a \"\"b\"\", c\"");
        assert_eq!(cell("two\r\nlines"), "\"two\r\nlines\"");
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =1", "\u{a0}+1", "\u{ff1d}1"] {
            assert_eq!(cell(formula), format!("\"'{formula}\""));
        }
    }
}
