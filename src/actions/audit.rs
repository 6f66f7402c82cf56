//! Reading and verifying the audit log.

use super::{ActError, App, evidence::examine, vouching};
use crate::{
    audit::verify::{Flaw, Report},
    domain::{
        chain::Hole,
        checkpoint::Checkpoint,
        event::{EventName, NewEvent, Origin, Outcome},
        identity::{Caller, ReadAudit},
        ledger::{Entry, GENESIS},
        time::Moment,
    },
    store::ledger::{Count, Filter, Tally},
};

/// A page of entries.
///
/// # Errors
/// [`ActError`].
pub async fn page(app: &App, _: &Caller<ReadAudit>, filter: &Filter, limit: i64) -> Result<Vec<Entry>, ActError> {
    Ok(app.store.audit_page(filter, limit).await?)
}

/// How often each event came since a moment.
///
/// # Errors
/// [`ActError`].
pub async fn summary(app: &App, _: &Caller<ReadAudit>, since: Moment) -> Result<Vec<Count>, ActError> {
    Ok(app.store.audit_summary(since).await?)
}

/// How often each event came in each hour since a moment: the hour from 0, the event, how often.
///
/// # Errors
/// [`ActError`].
pub async fn by_hour(app: &App, _: &Caller<ReadAudit>, since: Moment) -> Result<Vec<(i64, String, i64)>, ActError> {
    Ok(app.store.audit_by_hour(since).await?)
}

/// How much happened when, of the latest `most` entries that fit.
///
/// # Errors
/// [`ActError`].
pub async fn timeline(
    app: &App,
    _: &Caller<ReadAudit>,
    filter: &Filter,
    from: Moment,
    width: i64,
    most: i64,
) -> Result<Vec<Tally>, ActError> {
    Ok(app.store.audit_timeline(filter, from, width, most).await?)
}

/// What an examination of the whole log found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Whether every entry is the one that was written, in its place, and nothing that was signed contradicts it.
    pub valid: bool,
    /// How many entries were checked.
    pub entries: i64,
    /// The hash of the last good entry, as hexadecimal digits.
    pub head: String,
    /// The last good entry's place.
    pub head_seq: i64,
    /// The first bad place, if there is one.
    pub first_bad_seq: Option<i64>,
    /// What was done to the log: `edited`, `inserted`, `reordered`, `deleted`, `unlinked`, `forged`, `cut_tail`,
    /// `replaced`, `old_backup`, `wrong_keys`, `rebuilt`; of exports also `changed`, `truncated`, `mixed`.
    pub kind: Option<String>,
    /// The same in a sentence.
    pub fault: Option<String>,
    /// Entries that retention took out; signed tombstones stand for them.
    pub taken_out: i64,
    /// Signed checkpoints that fit.
    pub checkpoints: u64,
    /// The last entry that a checkpoint covers; 0 for none.
    pub covered_to: i64,
    /// Anchors outside the database that were compared.
    pub anchors: u64,
    /// The keys that signed.
    pub signed_by: Vec<String>,
    /// The trusted key that sealed the export; of a database none.
    pub sealed_by: Option<String>,
    /// What could not be checked, and why.
    pub not_checked: Vec<String>,
}

impl Verdict {
    /// Of a report.
    pub fn of(report: Report) -> Self {
        Self {
            valid: report.flaw.is_none(),
            entries: report.entries,
            head: hex(&report.head.hash),
            head_seq: report.head.seq,
            first_bad_seq: report.flaw.as_ref().and_then(Flaw::seq),
            kind: report.flaw.as_ref().map(|flaw| flaw.kind().to_owned()),
            fault: report.flaw.map(|flaw| flaw.to_string()),
            taken_out: report.taken,
            checkpoints: report.checkpoints,
            covered_to: report.covered_to,
            anchors: report.anchors,
            signed_by: report.signed_by,
            sealed_by: report.sealed_by,
            not_checked: report.unchecked,
        }
    }

    /// The event, with what was found.
    pub(super) fn recorded_in(&self, event: NewEvent) -> NewEvent {
        let outcome = if self.valid { Outcome::Success } else { Outcome::Failure };
        let event = event.because(outcome, self.fault.clone().unwrap_or_default());
        event.with("entries", self.entries).with("head", self.head.clone())
    }
}

/// Examines the whole log at once and records that it was done. A server shares one examination among those who ask
/// ([`super::examination`]).
///
/// # Errors
/// [`ActError`] when the log cannot be read to the end.
pub async fn verify(app: &App, caller: &Caller<ReadAudit>, from: &Origin) -> Result<Verdict, ActError> {
    let verdict = Verdict::of(examine(app, caller).await?);
    let event = NewEvent::new(app.now(), EventName::AuditVerified, caller.identity().actor.clone());
    app.note(verdict.recorded_in(event), from);
    Ok(verdict)
}

/// An entry with those right before and behind it.
#[derive(Debug)]
pub struct Neighbourhood {
    /// The entry.
    pub entry: Entry,
    /// Whether its content has its hash, and that hash is the one that the next entry names.
    pub whole: bool,
    /// The one before.
    pub before: Option<Entry>,
    /// The one behind.
    pub behind: Option<Entry>,
    /// The first checkpoint at or behind it.
    pub covered_by: Option<(String, Checkpoint)>,
}

/// One entry and its neighbours.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn entry(app: &App, _: &Caller<ReadAudit>, seq: i64) -> Result<Neighbourhood, ActError> {
    let store = &app.store;
    let found = store.audit_entry(seq).await?;
    let entry = found.ok_or_else(|| ActError::NotFound { what: "entry", which: seq.to_string() })?;
    let (last, next) = (seq.saturating_sub(1), seq.saturating_add(1));
    let (before, behind) = (store.audit_entry(last).await?, store.audit_entry(next).await?);
    // Where no neighbour stands, a tombstone does, or the log ends.
    let stones = match (&before, &behind) {
        (Some(_), Some(_)) => Vec::new(),
        _ => store.tombstones(seq.saturating_sub(2), next).await?,
    };
    let stone = |fits: &dyn Fn(&Hole) -> bool| stones.iter().any(|stone| fits(&stone.hole));
    let follows = match &before {
        Some(before) => before.hash == entry.prev_hash,
        None if seq == 1 => entry.prev_hash == GENESIS,
        None => stone(&|hole| hole.last_seq == last && hole.last_hash == entry.prev_hash),
    };
    let is_followed = match &behind {
        Some(behind) => behind.prev_hash == entry.hash,
        None => {
            stone(&|hole| hole.first_seq == next && hole.prev_hash == entry.hash)
                || store.audit_head().await?.seq == seq
        }
    };
    let whole = entry.computed_hash() == entry.hash && follows && is_followed;
    let covered_by = vouching::covering(app, seq).await?;
    Ok(Neighbourhood { entry, whole, before, behind, covered_by })
}

fn hex(hash: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(hash)
}
