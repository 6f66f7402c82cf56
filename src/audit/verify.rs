//! Whether the log is the one that was written: its chain, and what was signed about it.
//!
//! Trust flows backwards. A checkpoint that a trusted key signed covers everything before it, so the keys that
//! covered entries name (`key.add`, `audit.checkpoint`, …) were ours too, and what those signed is believed, also
//! long after they left the key set. What a checkpoint in the table or an anchor outside says of a place is compared
//! with what stands there; which of the two disagrees, and whether the log was signed on afterwards, tells a cut
//! tail, a replaced log and a restored backup apart.

use std::collections::{HashMap, HashSet};

use crate::{
    domain::{
        chain::{Fault, Walk},
        checkpoint::{Checkpoint, Statement as _, Tombstone},
        ledger::{Entry, Hash, Head},
        time::Moment,
    },
    keys::verify::{PublicKeys, Signed},
    store::{
        Store, StoreError,
        evidence::{StoredCheckpoint, StoredTombstone},
        ledger::Filter,
    },
};

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The chain.
    #[error("{0}")]
    Chain(#[from] Fault),
    /// A statement in the log carries no signature that holds.
    #[error("what entry {seq} says is signed was changed or made up: its signature does not hold")]
    Forged {
        /// Where.
        seq: i64,
    },
    /// The end is gone.
    #[error("the tail was cut: entries from {seq} on are gone; a checkpoint of {} vouches for them", .signed.rfc3339())]
    CutTail {
        /// The first place that is gone, or that is not what it was.
        seq: i64,
        /// When it was signed that there was more.
        signed: Moment,
    },
    /// Another log stands in its place.
    #[error("the log was replaced: entry {seq} is not the one that was signed on {}, and nobody with the key signed it since", .signed.rfc3339())]
    Replaced {
        /// The first place that is known to differ.
        seq: i64,
        /// When it was signed.
        signed: Moment,
    },
    /// An older state was put back.
    #[error("an old backup was restored: from entry {seq} on this is not what was anchored outside the database on {}", .signed.rfc3339())]
    OldBackup {
        /// The first place that is gone, or that is known to differ.
        seq: i64,
        /// When it was signed.
        signed: Moment,
    },
    /// Signed by somebody whom nobody trusts.
    #[error("the log is signed with the key {kid}, which is not among the keys that are trusted: {trusted}")]
    WrongKeys {
        /// Where.
        seq: i64,
        /// The key.
        kid: String,
        /// Those that are trusted.
        trusted: String,
    },
    /// Two logs in one.
    #[error("entry {seq} belongs to another log")]
    Mixed {
        /// The first place of the other one.
        seq: i64,
    },
    /// A line of an export is none.
    #[error("line {line} of the export was changed: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An export without its end.
    #[error("the export is truncated: {what}")]
    Truncated {
        /// The first place that is missing, as far as that is known.
        seq: i64,
        /// What shows it.
        what: String,
    },
}

impl Flaw {
    /// One word for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Chain(Fault::Edited { .. }) => "edited",
            Self::Chain(Fault::Inserted { .. }) => "inserted",
            Self::Chain(Fault::Reordered { .. }) => "reordered",
            Self::Chain(Fault::Missing { .. }) => "deleted",
            Self::Chain(Fault::Unlinked { .. }) => "unlinked",
            Self::Forged { .. } => "forged",
            Self::CutTail { .. } => "cut_tail",
            Self::Replaced { .. } => "replaced",
            Self::OldBackup { .. } => "old_backup",
            Self::WrongKeys { .. } => "wrong_keys",
            Self::Mixed { .. } => "mixed",
            Self::Line { .. } => "changed",
            Self::Truncated { .. } => "truncated",
        }
    }

    /// The first place that cannot be believed, where that is known.
    pub const fn seq(&self) -> Option<i64> {
        match self {
            Self::Chain(fault) => Some(fault.seq()),
            Self::Forged { seq }
            | Self::CutTail { seq, .. }
            | Self::Replaced { seq, .. }
            | Self::OldBackup { seq, .. }
            | Self::WrongKeys { seq, .. }
            | Self::Mixed { seq }
            | Self::Truncated { seq, .. } => Some(*seq),
            Self::Line { .. } => None,
        }
    }
}

/// What was looked at, what was found, and what could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, if anything is.
    pub flaw: Option<Flaw>,
    /// The last good entry.
    pub head: Head,
    /// Entries that were read and are good.
    pub entries: i64,
    /// Entries that retention took out and a signed tombstone stands for.
    pub taken: i64,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// Anchors outside the database that were compared.
    pub anchors: u64,
    /// The last entry that a trusted checkpoint covers; 0 for none.
    pub covered_to: i64,
    /// The keys whose statements were believed.
    pub signed_by: Vec<String>,
    /// What could not be checked, in sentences.
    pub unchecked: Vec<String>,
}

/// Where something signed was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Witness {
    Table,
    Anchor,
}

/// What somebody signed about a place.
#[derive(Debug, Clone)]
struct Expected {
    checkpoint: Checkpoint,
    kid: String,
    witness: Witness,
}

/// Looks at a log entry by entry.
pub(super) struct Examiner {
    walk: Walk,
    /// By name, ours or not.
    known: PublicKeys,
    trusted: PublicKeys,
    vouched: HashSet<String>,
    /// Keys that entries name which no trusted checkpoint covers yet.
    named: HashSet<String>,
    log: Option<Hash>,
    anchors: Vec<Expected>,
    table: Vec<Expected>,
    /// Where the log differs from what was signed: the first place for each witness and key.
    differing: Vec<Expected>,
    /// Keys that signed something without being believed then, and where last.
    signers: HashMap<String, i64>,
    tombs: HashMap<String, i64>,
    bad_anchors: u64,
    filtered: bool,
    sealed: bool,
    report: Report,
}

impl Examiner {
    /// `known` are public keys from wherever the log is, `trusted` those that are believed.
    pub(super) fn new(trusted: PublicKeys, known: &[serde_json::Value], anchors: &[String]) -> Self {
        let mut all = PublicKeys::default();
        known.iter().for_each(|jwk| drop(all.add(jwk)));
        all.extend(trusted.clone());
        let report = Report {
            flaw: None,
            head: Head::EMPTY,
            entries: 0,
            taken: 0,
            checkpoints: 0,
            anchors: 0,
            covered_to: 0,
            signed_by: Vec::new(),
            unchecked: Vec::new(),
        };
        let mut examiner = Self {
            walk: Walk::from_the_start(),
            known: all,
            trusted,
            vouched: HashSet::new(),
            named: HashSet::new(),
            log: None,
            anchors: Vec::new(),
            table: Vec::new(),
            differing: Vec::new(),
            signers: HashMap::new(),
            tombs: HashMap::new(),
            bad_anchors: 0,
            filtered: false,
            sealed: true,
            report,
        };
        examiner.read_anchors(anchors);
        examiner
    }

    fn read_anchors(&mut self, anchors: &[String]) {
        for jws in anchors {
            match self.known.check::<Checkpoint>(Checkpoint::TYP, jws) {
                Signed::By(kid, checkpoint) => {
                    self.anchors.push(Expected { checkpoint, kid, witness: Witness::Anchor });
                }
                Signed::Unknown(_) | Signed::Bad => self.bad_anchors += 1,
            }
        }
        // The last one is taken first.
        self.anchors.sort_by_key(|e| std::cmp::Reverse(e.checkpoint.seq));
        self.report.anchors = self.anchors.len() as u64;
    }

    /// What the table of checkpoints says of places that are still to come, in order.
    pub(super) fn expect(&mut self, stored: Vec<StoredCheckpoint>) -> Result<(), Flaw> {
        for row in stored.into_iter().rev() {
            match self.known.check::<Checkpoint>(Checkpoint::TYP, &row.jws) {
                Signed::By(kid, checkpoint) if checkpoint.head() == (Head { seq: row.seq, hash: row.hash }) => {
                    self.table.push(Expected { checkpoint, kid, witness: Witness::Table });
                }
                Signed::Unknown(kid) => drop(self.signers.insert(kid, row.seq)),
                Signed::By(..) | Signed::Bad => return Err(Flaw::Forged { seq: row.seq }),
            }
        }
        self.table.sort_by_key(|e| std::cmp::Reverse(e.checkpoint.seq));
        Ok(())
    }

    /// Names the log before anything of it is seen.
    pub(super) fn is_called(&mut self, log: Hash) {
        self.log = Some(log);
    }

    /// Where it has come to.
    pub(super) const fn head(&self) -> Head {
        self.walk.head()
    }

    /// A stretch that is not there. It may begin before the present place, when more was taken out meanwhile; one
    /// that does not reach to the next place is of no use.
    pub(super) fn hole(&mut self, stone: &StoredTombstone) -> Result<(), Flaw> {
        let (hole, head) = (stone.hole, self.walk.head());
        let seq = hole.first_seq;
        if !(seq..=hole.last_seq).contains(&(head.seq + 1)) {
            return Ok(());
        }
        let kid = match self.known.check::<Tombstone>(Tombstone::TYP, &stone.jws) {
            Signed::By(kid, said) if said.hole() == Some(hole) => {
                self.belongs(&said.log, seq)?;
                kid
            }
            Signed::Unknown(kid) => kid,
            Signed::By(..) | Signed::Bad => return Err(Flaw::Forged { seq }),
        };
        if seq == head.seq + 1 && hole.prev_hash != head.hash {
            return Err(Fault::Unlinked { seq, before: head.seq }.into());
        }
        self.tombs.entry(kid).or_insert(seq);
        if seq == 1 {
            self.belongs(&hole.first_hash, 1)?;
        }
        self.report.taken += hole.last_seq - head.seq;
        self.walk.jump(Head { seq: hole.last_seq, hash: hole.last_hash });
        self.compare();
        Ok(())
    }

    /// The next entry.
    pub(super) fn entry(&mut self, entry: &Entry, next: Option<&Entry>) -> Result<(), Flaw> {
        self.walk.step(entry).map_err(|fault| self.walk.named(fault, entry, next))?;
        self.report.entries += 1;
        if entry.seq == 1 {
            self.belongs(&entry.hash, 1)?;
        }
        if entry.resource_kind == "key" {
            self.named.insert(entry.resource_id.clone());
            if entry.event == "audit.checkpoint" {
                self.checkpoint(entry)?;
            }
        }
        self.compare();
        Ok(())
    }

    /// Everything that is said of one log names the same one.
    fn belongs(&mut self, log: &Hash, seq: i64) -> Result<(), Flaw> {
        if self.log.get_or_insert(*log) == log { Ok(()) } else { Err(Flaw::Mixed { seq }) }
    }

    fn checkpoint(&mut self, entry: &Entry) -> Result<(), Flaw> {
        #[derive(serde::Deserialize)]
        struct Details {
            jws: String,
        }
        let forged = Flaw::Forged { seq: entry.seq };
        let details: Details = serde_json::from_str(&entry.details).map_err(|_| forged.clone())?;
        match self.known.check::<Checkpoint>(Checkpoint::TYP, &details.jws) {
            Signed::By(kid, said) => {
                if said.head() != (Head { seq: entry.seq - 1, hash: entry.prev_hash }) {
                    // A genuine statement about another log: this one was made from it.
                    return Err(Flaw::Replaced { seq: said.seq.min(entry.seq), signed: said.time });
                }
                self.belongs(&said.log, entry.seq)?;
                self.report.checkpoints += 1;
                if self.is_believed(&kid) {
                    self.report.covered_to = said.seq;
                    self.vouched.extend(self.named.drain());
                    if !self.report.signed_by.contains(&kid) {
                        self.report.signed_by.push(kid);
                    }
                } else {
                    self.signers.insert(kid, entry.seq);
                }
                Ok(())
            }
            Signed::Unknown(kid) => {
                self.signers.insert(kid, entry.seq);
                Ok(())
            }
            Signed::Bad => Err(forged),
        }
    }

    fn is_believed(&self, kid: &str) -> bool {
        self.trusted.contains(kid) || self.vouched.contains(kid)
    }

    /// Compares the place that was just passed with what was signed about it.
    fn compare(&mut self) {
        let head = self.walk.head();
        for list in [&mut self.anchors, &mut self.table] {
            while let Some(expected) = list.pop_if(|e| e.checkpoint.seq <= head.seq) {
                // Of places within a stretch that is gone nothing can be said.
                let differs = expected.checkpoint.seq == head.seq && expected.checkpoint.hash != head.hash;
                let is_first = !self.differing.iter().any(|d| d.witness == expected.witness && d.kid == expected.kid);
                if differs && is_first {
                    self.differing.push(expected);
                }
            }
        }
    }

    /// What the places that never came, and those that differ, say.
    pub(super) fn end(mut self) -> Report {
        let flaw = self.conclusion();
        self.report.flaw = flaw;
        self.report()
    }

    /// Ends early.
    pub(super) fn broken(mut self, flaw: Flaw) -> Report {
        self.report.flaw = Some(flaw);
        self.report()
    }

    /// Of an export that a filter made smaller.
    pub(super) fn of_filtered(mut self, entries: i64) -> Report {
        self.report.entries = entries;
        self.filtered = true;
        self.report()
    }

    /// An export without a signature.
    pub(super) const fn unsealed(&mut self) {
        self.sealed = false;
    }

    fn conclusion(&self) -> Option<Flaw> {
        let believed = |e: &&Expected| self.is_believed(&e.kid);
        let went_on = |e: &Expected| self.report.covered_to > e.checkpoint.seq;
        let mut differing: Vec<&Expected> = self.differing.iter().filter(believed).collect();
        differing.sort_by_key(|e| (e.witness == Witness::Anchor, e.checkpoint.seq));
        if let Some(first) = differing.first() {
            let (seq, signed) = (first.checkpoint.seq, first.checkpoint.time);
            return Some(match first.witness {
                _ if !went_on(first) => Flaw::Replaced { seq, signed },
                Witness::Table => Flaw::CutTail { seq, signed },
                Witness::Anchor => Flaw::OldBackup { seq, signed },
            });
        }
        let seq = self.walk.head().seq + 1;
        let beyond = |list: &[Expected]| list.iter().find(|e| self.is_believed(&e.kid)).map(|e| e.checkpoint.time);
        if let Some(signed) = beyond(&self.table) {
            return Some(Flaw::CutTail { seq, signed });
        }
        if let Some(signed) = beyond(&self.anchors) {
            return Some(Flaw::OldBackup { seq, signed });
        }
        if self.trusted.names().is_empty() {
            return None;
        }
        let stranger = |(kid, seq): &(&String, &i64)| !self.is_believed(kid) && **seq > self.report.covered_to;
        // A name that is vouched for is not enough without the key that checks the signature.
        let of_tombs = self.tombs.iter().find(|(kid, _)| !(self.is_believed(kid) && self.known.contains(kid)));
        let (kid, seq) = self.signers.iter().filter(stranger).min_by_key(|(_, seq)| **seq).or(of_tombs)?;
        Some(Flaw::WrongKeys { seq: *seq, kid: kid.clone(), trusted: self.trusted.names().join(", ") })
    }

    fn report(self) -> Report {
        let mut report = self.report;
        report.head = self.walk.head();
        let mut say = |sentence: String| report.unchecked.push(sentence);
        if !self.sealed {
            say("the export's seal: it is not signed, because no key was kept when it was made".into());
        }
        if self.filtered {
            say("the chain: a filter chose these entries, so what lies between them is not here".into());
        } else if self.trusted.names().is_empty() {
            say("signatures: no key is trusted here, so nothing proves who wrote this log".into());
        } else if report.covered_to == 0 && report.head.seq > 0 {
            say("signatures: nothing is signed yet, so a cut tail or a log made anew would not be noticed".into());
        } else if report.head.seq > report.covered_to + 1 {
            let open = report.head.seq - report.covered_to;
            say(format!(
                "the last {open} entries: no checkpoint covers them yet, so cutting them would not be noticed"
            ));
        }
        if report.anchors == 0 {
            say("a restored backup: there is no anchor outside the database to compare with".into());
        }
        if self.bad_anchors > 0 {
            say(format!("{} lines of the anchor file: no known key signed them", self.bad_anchors));
        }
        report
    }
}

/// Examines the log of a database. `trusted` are keys that are believed, `anchors` statements from outside.
///
/// # Errors
/// When the database cannot be read to the end.
pub async fn database(store: &Store, trusted: PublicKeys, anchors: &[String]) -> Result<Report, StoreError> {
    let watched = watched(store, trusted, anchors, |_| true).await?;
    Ok(watched.expect("nobody ends it early"))
}

/// As [`database`]; now and then `goes_on` hears the place that was come to, and answers whether to go on. `None`
/// where it did not.
///
/// # Errors
/// When the database cannot be read to the end.
pub async fn watched(
    store: &Store,
    trusted: PublicKeys,
    anchors: &[String],
    mut goes_on: impl FnMut(i64) -> bool,
) -> Result<Option<Report>, StoreError> {
    let mut examiner = Examiner::new(trusted, &store.evidence_keys().await?, anchors);
    let mut filter = Filter::default();
    loop {
        let entries = store.audit_stretch(&filter).await?;
        let Some(last) = entries.last() else {
            // A checkpoint commits together with its own entry, so one that is seen now has it, or lost it.
            let head = examiner.head().seq;
            let beyond = store.checkpoints(head - 1, i64::MAX).await?;
            if !beyond.is_empty() && !store.audit_stretch(&filter).await?.is_empty() {
                continue;
            }
            let Err(flaw) = tail(&mut examiner, store, beyond).await? else { return Ok(Some(examiner.end())) };
            return Ok(Some(examiner.broken(flaw)));
        };
        let after = examiner.head().seq;
        if !goes_on(after) {
            return Ok(None);
        }
        let stones = store.tombstones(after, last.seq).await?;
        // What a tombstone stands for went in the same commit, so nothing can be read of it now.
        let undead = if stones.is_empty() { None } else { store.undead_entry(after + 1, last.seq).await? };
        if let Some(seq) = undead {
            return Ok(Some(examiner.broken(Fault::Inserted { seq }.into())));
        }
        let rows = store.checkpoints(after, last.seq).await?;
        filter.after = Some(last.seq);
        if let Err(flaw) = stretch(&mut examiner, &entries, &stones, rows) {
            return Ok(Some(examiner.broken(flaw)));
        }
    }
}

fn stretch(
    examiner: &mut Examiner,
    entries: &[Entry],
    stones: &[StoredTombstone],
    rows: Vec<StoredCheckpoint>,
) -> Result<(), Flaw> {
    examiner.expect(rows)?;
    let mut gone = 0..=0;
    let mut stones = stones.iter().peekable();
    for (at, entry) in entries.iter().enumerate() {
        while entry.seq > examiner.head().seq + 1
            && let Some(stone) = stones.next_if(|stone| stone.hole.first_seq < entry.seq)
        {
            let before = examiner.head().seq;
            examiner.hole(stone)?;
            gone = before + 1..=examiner.head().seq;
        }
        // Read before it was taken out, and passed together with the rest of its stretch.
        if gone.contains(&entry.seq) && entry.seq > 0 {
            continue;
        }
        examiner.entry(entry, entries.get(at + 1))?;
    }
    Ok(())
}

/// What lies behind the last entry: a stretch that is gone, and checkpoints whose entries are.
async fn tail(
    examiner: &mut Examiner,
    store: &Store,
    beyond: Vec<StoredCheckpoint>,
) -> Result<Result<(), Flaw>, StoreError> {
    for stone in store.tombstones(examiner.head().seq, i64::MAX).await? {
        if let Err(flaw) = examiner.hole(&stone) {
            return Ok(Err(flaw));
        }
    }
    // The entry of a checkpoint is the one behind what it vouches for.
    Ok(examiner.expect(beyond.into_iter().filter(|row| row.seq >= examiner.head().seq).collect()))
}
