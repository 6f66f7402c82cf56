//! Looks at a log entry by entry, wherever it lies, and compares it with what was signed about it.

use std::collections::{HashMap, HashSet};

use super::{
    flaw::{Flaw, Report},
    outside::Outside,
};
use crate::{
    domain::{
        chain::{Fault, Walk},
        checkpoint::{Checkpoint, Statement as _, Tombstone},
        ledger::{Hash, Head, View},
        time::Moment,
    },
    keys::verify::{PublicKeys, Signed},
    store::{
        evidence::{StoredCheckpoint, StoredTombstone},
        signing_keys::REVOKED,
    },
};

/// Where something signed was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witness {
    Table,
    Anchor,
}

/// What somebody signed about a place.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) checkpoint: Checkpoint,
    pub(super) kid: String,
    pub(super) witness: Witness,
}

/// Looks at a log entry by entry.
pub(super) struct Examiner {
    walk: Walk,
    /// By name, ours or not.
    known: PublicKeys,
    trusted: PublicKeys,
    /// Keys that the last checkpoint of a trusted one names.
    vouched: HashSet<String>,
    /// Of each key that signed checkpoints how far they reach, in the order of the first ones.
    covers: Vec<(String, i64)>,
    log: Option<Hash>,
    outside: Outside,
    table: Vec<Expected>,
    /// Where the log differs from what was signed: the first place for each witness and key.
    differing: Vec<Expected>,
    /// Keys that signed something without being believed then, and where last.
    signers: HashMap<String, i64>,
    tombs: HashMap<String, i64>,
    /// Keys that the log itself says leaked.
    revoked: HashSet<String>,
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
            sealed_by: None,
            unchecked: Vec::new(),
        };
        Self {
            walk: Walk::from_the_start(),
            outside: Outside::read(anchors, &all),
            known: all,
            trusted,
            vouched: HashSet::new(),
            covers: Vec::new(),
            log: None,
            table: Vec::new(),
            differing: Vec::new(),
            signers: HashMap::new(),
            tombs: HashMap::new(),
            revoked: HashSet::new(),
            filtered: false,
            sealed: true,
            report,
        }
    }

    /// What the table of checkpoints says of places that are still to come, in order.
    pub(super) fn expect(&mut self, stored: Vec<StoredCheckpoint>) -> Result<(), Flaw> {
        for row in stored.into_iter().rev() {
            match self.known.check::<Checkpoint>(Checkpoint::TYP, &row.jws) {
                Signed::By(kid, checkpoint) if row.says(&kid, &checkpoint) => {
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
        // The place behind it has to be one.
        if hole.last_seq == i64::MAX {
            return Err(Flaw::Forged { seq });
        }
        let kid = match self.known.check::<Tombstone>(Tombstone::TYP, &stone.jws) {
            Signed::By(kid, said) if said.hole() == Some(hole) => {
                self.belongs(&said.log, seq)?;
                kid
            }
            Signed::Unknown(kid) => kid,
            Signed::By(..) | Signed::Bad => return Err(Flaw::Forged { seq }),
        };
        if !(seq..=hole.last_seq).contains(&(head.seq + 1)) {
            return Ok(());
        }
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
    pub(super) fn entry(&mut self, entry: &View<'_>, next: Option<&View<'_>>) -> Result<(), Flaw> {
        let named = |walk: &Walk, fault| walk.named(fault, &entry.to_entry(), next.map(View::to_entry).as_ref());
        self.walk.pass(entry).map_err(|fault| named(&self.walk, fault))?;
        self.report.entries += 1;
        if entry.seq == 1 {
            self.belongs(&entry.hash, 1)?;
        }
        if entry.event == "audit.checkpoint" {
            self.checkpoint(entry)?;
        }
        if entry.event == "key.remove" && entry.reason == REVOKED {
            self.revoked.insert(entry.resource_id.to_owned());
        }
        self.compare();
        Ok(())
    }

    /// Everything that is said of one log names the same one.
    fn belongs(&mut self, log: &Hash, seq: i64) -> Result<(), Flaw> {
        if self.log.get_or_insert(*log) == log { Ok(()) } else { Err(Flaw::Mixed { seq }) }
    }

    fn checkpoint(&mut self, entry: &View<'_>) -> Result<(), Flaw> {
        #[derive(serde::Deserialize)]
        struct Details {
            jws: String,
        }
        let forged = Flaw::Forged { seq: entry.seq };
        let details: Details = serde_json::from_str(entry.details).map_err(|_| forged.clone())?;
        match self.known.check::<Checkpoint>(Checkpoint::TYP, &details.jws) {
            Signed::By(kid, said) => {
                if said.head() != (Head { seq: entry.seq.saturating_sub(1), hash: entry.prev_hash }) {
                    // A genuine statement about another log: this one was made from it.
                    return Err(Flaw::Replaced { seq: said.seq.min(entry.seq), signed: said.time });
                }
                self.belongs(&said.log, entry.seq)?;
                self.report.checkpoints += 1;
                if self.trusted.contains(&kid) && !self.revoked.contains(&kid) {
                    self.vouched = said.keys.into_iter().collect();
                } else {
                    self.signers.insert(kid.clone(), entry.seq);
                }
                match self.covers.iter_mut().find(|(name, _)| *name == kid) {
                    Some((_, to)) => *to = said.seq,
                    None => self.covers.push((kid, said.seq)),
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
        (self.trusted.contains(kid) || self.vouched.contains(kid)) && !self.revoked.contains(kid)
    }

    /// Compares the place that was just passed with what was signed about it.
    fn compare(&mut self) {
        let head = self.walk.head();
        for list in [&mut self.outside.ahead, &mut self.table] {
            while let Some(expected) = list.pop_if(|e| e.checkpoint.seq <= head.seq) {
                // Of places within a stretch that is gone nothing can be said.
                if expected.checkpoint.seq < head.seq && expected.witness == Witness::Anchor {
                    self.outside.gone += 1;
                }
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

    /// An export that a key sealed.
    pub(super) fn sealed(&mut self, kid: String) {
        self.report.sealed_by = self.trusted.contains(&kid).then_some(kid);
    }

    /// An export that was made at a moment, of a log that ended there: what was anchored later says nothing of it.
    pub(super) fn ends_at(&mut self, seq: i64, made: Moment) {
        self.outside.end_at(seq, made);
    }

    /// An export without a signature.
    pub(super) const fn unsealed(&mut self) {
        self.sealed = false;
    }

    /// How far the statements of believed keys reach.
    fn covered_to(&self) -> i64 {
        self.covers.iter().filter(|(kid, _)| self.is_believed(kid)).map(|(_, to)| *to).max().unwrap_or(0)
    }

    fn conclusion(&self) -> Option<Flaw> {
        let believed = |e: &&Expected| self.is_believed(&e.kid);
        let covered_to = self.covered_to();
        let went_on = |e: &Expected| covered_to > e.checkpoint.seq;
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
        if let Some(signed) = beyond(&self.outside.ahead) {
            return Some(Flaw::OldBackup { seq, signed });
        }
        if self.trusted.names().is_empty() {
            return None;
        }
        let stranger = |(kid, seq): &(&String, &i64)| !self.is_believed(kid) && **seq > covered_to;
        // A name that is vouched for is not enough without the key that checks the signature.
        // Nothing in the log vouches for it either: the log that was anchored is not this one.
        if let Some(kid) = self.outside.strangers.iter().find(|kid| !self.is_believed(kid)) {
            return Some(Flaw::WrongKeys { seq: 1, kid: kid.clone(), trusted: self.trusted.names().join(", ") });
        }
        let of_tombs = self.tombs.iter().find(|(kid, _)| !(self.is_believed(kid) && self.known.contains(kid)));
        let (kid, seq) = self.signers.iter().filter(stranger).min_by_key(|(_, seq)| **seq).or(of_tombs)?;
        Some(Flaw::WrongKeys { seq: *seq, kid: kid.clone(), trusted: self.trusted.names().join(", ") })
    }

    fn report(&self) -> Report {
        let covered_to = self.covered_to();
        let believed = self.covers.iter().filter(|(kid, _)| self.is_believed(kid));
        let signed_by = believed.map(|(kid, _)| kid.clone()).collect();
        let mut report = Report { covered_to, signed_by, head: self.walk.head(), ..self.report.clone() };
        let mut say = |sentence: String| report.unchecked.push(sentence);
        if !self.sealed {
            say("the export's seal: it is not signed, because no key was kept when it was made".into());
        }
        if self.filtered {
            say("the chain: a filter chose these entries, so what lies between them is not here".into());
        } else if self.trusted.names().is_empty() {
            say("signatures: no key is trusted here, so nothing proves who wrote this log".into());
        } else if report.sealed_by.is_some() {
            // The seal vouches for the end as a checkpoint would.
        } else if report.covered_to == 0 && report.head.seq > 0 {
            say("what was written: no checkpoint is in it yet, so a tail that was cut or a log that was made anew before \
                 would not be noticed"
                .into());
        } else if report.head.seq > report.covered_to + 1 {
            let open = report.head.seq - report.covered_to;
            say(format!(
                "the last {open} entries: no checkpoint covers them yet, so cutting them would not be noticed"
            ));
        }
        for kid in self.revoked.iter().filter(|kid| self.trusted.contains(kid)) {
            say(format!(
                "what the key {kid} signed: the log says that it leaked, so it is not believed, though it is trusted here"
            ));
        }
        self.outside.tell(&mut report, self.filtered, |kid| self.is_believed(kid));
        report
    }
}
