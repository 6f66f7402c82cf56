//! What an examination was told from outside the database: checkpoints in a file, in a log of another machine, in NATS.

use std::collections::{BTreeSet, HashMap};

use super::{
    examiner::{Expected, Witness},
    flaw::Report,
};
use crate::{
    domain::{
        checkpoint::{Checkpoint, Statement as _},
        time::Moment,
    },
    keys::verify::{PublicKeys, Signed},
};

/// Checkpoints from outside, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Those of places that are still to come; the next one is the last.
    pub(super) ahead: Vec<Expected>,
    /// Keys that signed one and are known nowhere.
    pub(super) strangers: BTreeSet<String>,
    /// How many each known key signed.
    of: HashMap<String, u64>,
    /// Lines that no known key signed.
    bad: u64,
    /// Those of places that retention took out.
    pub(super) gone: u64,
    /// Those that are younger than the export.
    younger: u64,
}

impl Outside {
    pub(super) fn read(lines: &[String], known: &PublicKeys) -> Self {
        let mut outside = Self::default();
        for jws in lines {
            match known.check::<Checkpoint>(Checkpoint::TYP, jws) {
                Signed::By(kid, checkpoint) => {
                    *outside.of.entry(kid.clone()).or_default() += 1;
                    outside.ahead.push(Expected { checkpoint, kid, witness: Witness::Anchor });
                }
                Signed::Unknown(kid) => {
                    outside.bad += 1;
                    outside.strangers.insert(kid);
                }
                Signed::Bad => outside.bad += 1,
            }
        }
        outside.ahead.sort_by_key(|e| std::cmp::Reverse(e.checkpoint.seq));
        outside
    }

    /// Forgets what was signed of places behind an end that was the end at that moment.
    pub(super) fn end_at(&mut self, seq: i64, made: Moment) {
        let before = self.ahead.len();
        self.ahead.retain(|anchor| anchor.checkpoint.seq <= seq || anchor.checkpoint.time <= made);
        self.younger = (before - self.ahead.len()) as u64;
    }

    /// How many were compared, and what the others are.
    pub(super) fn tell(&self, report: &mut Report, filtered: bool, is_believed: impl Fn(&str) -> bool) {
        let of_strangers = self.of.iter().filter(|(kid, _)| !is_believed(kid));
        let of_strangers: u64 = of_strangers.map(|(_, anchors)| anchors).sum();
        let all: u64 = self.of.values().sum();
        let compared = all.saturating_sub(of_strangers + self.gone + self.younger);
        report.anchors = if filtered { 0 } else { compared };
        let mut say = |sentence: String| report.unchecked.push(sentence);
        if filtered || compared == 0 {
            say("a restored backup: there is no anchor outside the database to compare with".into());
        }
        if self.gone > 0 {
            say(format!("{} anchors: retention took out what they vouch for", self.gone));
        }
        if self.younger > 0 {
            say(format!("{} anchors: they are younger than this export", self.younger));
        }
        if of_strangers > 0 {
            say(format!("{of_strangers} anchors: nothing vouches for the key that signed them"));
        }
        if self.bad > 0 {
            say(format!("{} lines of the anchor file: no known key signed them", self.bad));
        }
    }
}
