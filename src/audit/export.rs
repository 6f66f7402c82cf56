//! The log as a file: JSON lines that lose nothing and can be verified again, or CSV for a spreadsheet. Written a
//! stretch at a time, so that a log of any length takes the same memory.
//!
//! JSON lines begin with a line about the log and end with a signed one about everything before it. Between them
//! stand the entries and, where retention took some out, the tombstones.

use std::io::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    lines::{COLUMNS, csv_record, json_line},
    look_at,
};
use crate::{
    domain::{
        checkpoint::{ExportSeal, hex},
        ledger::{Hash, Head, View},
        time::Moment,
    },
    store::{
        Store, StoreError,
        evidence::{Signer, StoredTombstone},
        ledger::Filter,
        ledger_stretch::{Reader, Stretch},
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
    /// The place that it has come to.
    last: Option<i64>,
    /// Up to where tombstones stand in it.
    gone_to: i64,
    reader: Reader,
    ahead: Option<Stretch>,
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
        let reader = store.audit_reader();
        Ok(Self {
            store,
            wanted,
            signer,
            now,
            log,
            until,
            digest: Context::new(&SHA256),
            count: 0,
            last: None,
            gone_to: 0,
            reader,
            ahead: None,
            state: State::Begin,
        })
    }

    /// The next piece; `None` after the last one.
    ///
    /// # Errors
    /// When the database cannot be read on.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut out = Vec::new();
        // Of a stretch in which nothing fits nothing is to be said.
        while out.is_empty() && self.state != State::Done {
            self.step(&mut out).await?;
        }
        Ok((!out.is_empty()).then_some(out))
    }

    async fn step(&mut self, out: &mut Vec<u8>) -> Result<(), StoreError> {
        match self.state {
            State::Begin => {
                self.begin(out).await?;
                self.state = State::Entries;
            }
            State::Entries => {
                let read = match self.ahead.take() {
                    Some(read) => read,
                    None => {
                        let next = self.next();
                        self.reader.stretch(next).await?
                    }
                };
                let (before, last) = (self.last, read.last);
                let end = last.unwrap_or(self.until.seq);
                let gone = self.gone(before.unwrap_or(0), end).await?;
                self.last = Some(end);
                self.write(read, gone, out).await?;
                if last.is_none() {
                    self.state = State::Done;
                    self.end(out);
                }
            }
            State::Done => {}
        }
        Ok(())
    }

    /// What is to be read: everything. Whoever can write to the database can make an index lie, and what is signed has
    /// to hold all that fits.
    fn next(&self) -> Filter {
        Filter::behind(self.last).up_to(self.until.seq)
    }

    /// What stands for entries that are gone, in this stretch and not in one before.
    async fn gone(&mut self, after: i64, end: i64) -> Result<Gone, StoreError> {
        if !self.wanted.filter.is_open() || self.wanted.format == Format::Csv {
            return Ok(Gone::default());
        }
        let mut stones = self.store.tombstones(after, end).await?;
        stones.retain(|stone| stone.hole.last_seq > self.gone_to);
        let Some(last) = stones.iter().map(|stone| stone.hole.last_seq).max() else { return Ok(Gone::default()) };
        self.gone_to = last;
        // Lokid takes out what it makes a tombstone for in the same commit. One that somebody made up hides nothing.
        let is_true = self.store.undead_entry(after.saturating_add(1), end).await?.is_none();
        Ok(Gone { stones, is_true })
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

    /// Writes a stretch, while the database reads the next one.
    async fn write(&mut self, read: Stretch, gone: Gone, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let (wanted, mut digest) = (self.wanted.clone(), self.digest.clone());
        let is_last = read.last.is_none();
        let write = move |entries: &[View<'_>]| {
            let mut text = Vec::new();
            let count = written(entries, &gone, &wanted, &mut text);
            digest.update(&text);
            (text, count, digest)
        };
        let next = self.next();
        let next = async { if is_last { Ok(None) } else { self.reader.stretch(next).await.map(Some) } };
        let (written, next) = tokio::join!(look_at(&self.store, read, write), next);
        let (text, count, digest) = written?;
        (self.ahead, self.digest) = (next?, digest);
        self.count += count;
        *out = text;
        Ok(())
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

/// Tombstones of a stretch.
#[derive(Default)]
struct Gone {
    stones: Vec<StoredTombstone>,
    /// Whether nothing stands there any more.
    is_true: bool,
}

/// Entries, and the tombstones between them; how many entries were written.
fn written(entries: &[View<'_>], gone: &Gone, wanted: &Wanted, out: &mut Vec<u8>) -> i64 {
    let (mut stones, mut gone_to, mut count) = (gone.stones.iter().peekable(), None, 0);
    let stand_in = |stone: &StoredTombstone, out: &mut Vec<u8>| {
        let _ = writeln!(out, "{}", json!({"tombstone": stone.jws}));
    };
    for entry in entries {
        while let Some(stone) = stones.next_if(|stone| stone.hole.first_seq < entry.seq) {
            stand_in(stone, out);
            gone_to = gone.is_true.then_some(stone.hole.last_seq).max(gone_to);
        }
        // Read before it was taken out: the tombstone, which was read later, stands for it.
        let is_gone = gone_to.is_some_and(|gone_to| entry.seq <= gone_to);
        if is_gone || !wanted.filter.fits(entry) {
            continue;
        }
        match wanted.format {
            Format::Csv => csv_record(entry, out),
            Format::Jsonl => {
                json_line(entry, out);
                out.push(b'\n');
            }
        }
        count += 1;
    }
    stones.for_each(|stone| stand_in(stone, out));
    count
}
