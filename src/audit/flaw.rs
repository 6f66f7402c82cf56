//! What can be wrong with a log, and what an examination of it says.

use crate::domain::{chain::Fault, ledger::Head, time::Moment};

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
    /// The tables are not as lokid makes them: what was read of them may not be all.
    #[error("its tables are not as lokid made them: {what}")]
    Rebuilt {
        /// What differs.
        what: String,
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
            Self::Rebuilt { .. } => "rebuilt",
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
            Self::Line { .. } | Self::Rebuilt { .. } => None,
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
    /// The trusted key that sealed the export.
    pub sealed_by: Option<String>,
    /// What could not be checked, in sentences.
    pub unchecked: Vec<String>,
}
