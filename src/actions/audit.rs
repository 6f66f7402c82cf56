//! Reading and verifying the audit log.

use super::{ActError, App};
use crate::{
    domain::{
        event::{EventName, NewEvent, Origin, Outcome},
        identity::{Caller, ReadAudit},
        ledger::Entry,
        time::Moment,
    },
    store::ledger::{Count, Filter},
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

/// What a walk along the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Whether every entry is the one that was written, in its place.
    pub valid: bool,
    /// How many entries were checked.
    pub entries: i64,
    /// The hash of the last good entry, as hexadecimal digits.
    pub head: String,
    /// The first bad place, if there is one.
    pub first_bad_seq: Option<i64>,
    /// What is wrong there.
    pub fault: Option<String>,
}

/// Verifies the whole chain and records that it was done.
///
/// # Errors
/// [`ActError`] when the log cannot be read to the end.
pub async fn verify(app: &App, caller: &Caller<ReadAudit>, from: &Origin) -> Result<Verdict, ActError> {
    let verdict = match app.store.walk_audit().await? {
        Ok(head) => Verdict { valid: true, entries: head.seq, head: hex(&head.hash), first_bad_seq: None, fault: None },
        Err((good, fault)) => Verdict {
            valid: false,
            entries: good.seq,
            head: hex(&good.hash),
            first_bad_seq: Some(fault.seq()),
            fault: Some(fault.to_string()),
        },
    };
    let outcome = if verdict.valid { Outcome::Success } else { Outcome::Failure };
    let event = NewEvent::new(app.now(), EventName::AuditVerified, caller.identity().actor.clone());
    let reason = verdict.fault.clone().unwrap_or_default();
    app.note(event.because(outcome, reason).with("entries", verdict.entries).with("head", verdict.head.clone()), from);
    Ok(verdict)
}

fn hex(hash: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(hash)
}
