//! Whether the log is the one that was written: its chain, and what was signed about it.
//!
//! A checkpoint that a trusted key signed covers everything before it, and names the keys that signed before: what those
//! say of the log is believed, also long after they left the key set. Which keys entries name does not count: whoever
//! can write to the database can add one between two checkpoints. What a checkpoint in the table or an anchor outside says of a place is compared
//! with what stands there; which of the two disagrees, and whether the log was signed on afterwards, tells a cut
//! tail, a replaced log and a restored backup apart.

pub use super::flaw::{Flaw, Report};
use super::{
    examiner::Examiner,
    look_at,
    places::{Compared, Places},
};
use crate::{
    domain::{chain::Fault, ledger::View},
    keys::verify::PublicKeys,
    store::{
        Store, StoreError,
        evidence::{StoredCheckpoint, StoredTombstone},
        ledger::Filter,
        ledger_stretch::{Reader, Stretch},
    },
};

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
    let mut reader = store.audit_reader();
    let mut read = reader.stretch(Filter::behind(None)).await?;
    let (mut places, mut added) = (Some(Places::default()), None);
    loop {
        let Some(last) = read.last else {
            if let Some(seen) = places.take() {
                let compared = compared(&mut reader, seen, examiner.head().seq).await?;
                match compared {
                    Ok(since) => added = since,
                    Err(flaw) => return Ok(Some(examiner.broken(flaw))),
                }
            }
            match at_the_end(&mut examiner, store, &mut reader, (read.here(), added)).await? {
                Ok(Some(more)) => read = more,
                Ok(None) => {
                    let mut report = examiner.end();
                    if report.flaw.is_none() {
                        report.flaw = store.audit_shape().await?.map(|what| Flaw::Rebuilt { what });
                    }
                    return Ok(Some(report));
                }
                Err(flaw) => return Ok(Some(examiner.broken(flaw))),
            }
            continue;
        };
        let after = examiner.head().seq;
        if !goes_on(after) {
            return Ok(None);
        }
        let (stones, rows) = tokio::try_join!(store.tombstones(after, last), store.checkpoints(after, last))?;
        // What a tombstone stands for went in the same commit, so nothing can be read of it now.
        let undead = if stones.is_empty() { None } else { store.undead_entry(after + 1, last).await? };
        if let Some(seq) = undead {
            return Ok(Some(examiner.broken(Fault::Inserted { seq }.into())));
        }
        let look = move |entries: &[View<'_>]| {
            let looked = stretch(&mut examiner, &mut places, entries, &stones, rows);
            (examiner, places, looked)
        };
        // The database reads the next stretch meanwhile.
        let (looked, next) = tokio::join!(look_at(store, read, look), reader.stretch(Filter::behind(Some(last))));
        let looked = looked?;
        (examiner, places) = (looked.0, looked.1);
        if let Err(flaw) = looked.2 {
            return Ok(Some(examiner.broken(flaw)));
        }
        read = next?;
    }
}

/// The first place and the last of what was added while the log was read.
type Added = Option<(i64, i64)>;

/// Compares all places that stand in the table with those that were seen. What stands behind the head was added since, so
/// it can be read now; or nobody was to see it.
async fn compared(reader: &mut Reader, seen: Places, head: i64) -> Result<Result<Added, Flaw>, StoreError> {
    let (odd, compared) = reader.odd_place(Compared::with(seen, head), Compared::is_odd).await?;
    Ok(match odd {
        Some(seq) => Err(Fault::Inserted { seq }.into()),
        None => Ok(compared.beyond.map(|first| (first, compared.last()))),
    })
}

/// Where nothing is left to be read: what came since, or nothing.
async fn at_the_end(
    examiner: &mut Examiner,
    store: &Store,
    reader: &mut Reader,
    (behind, added): (Filter, Added),
) -> Result<Result<Option<Stretch>, Flaw>, StoreError> {
    let head = examiner.head().seq;
    let unseen = added.filter(|(_, last)| head < *last);
    // A checkpoint commits together with its own entry, so one that is seen now has it, or lost it.
    let beyond = store.checkpoints(head - 1, i64::MAX).await?;
    if unseen.is_some() || !beyond.is_empty() {
        let more = reader.stretch(behind).await?;
        if more.last.is_some() {
            return Ok(Ok(Some(more)));
        }
    }
    if let Some((seq, _)) = unseen {
        return Ok(Err(Fault::Inserted { seq }.into()));
    }
    Ok(tail(examiner, store, beyond).await?.map(|()| None))
}

fn stretch(
    examiner: &mut Examiner,
    places: &mut Option<Places>,
    entries: &[View<'_>],
    stones: &[StoredTombstone],
    rows: Vec<StoredCheckpoint>,
) -> Result<(), Flaw> {
    examiner.expect(rows)?;
    // Within another one it would hide what that stands for.
    if let Some([_, nested]) = stones.array_windows().find(|[outer, next]| next.hole.first_seq <= outer.hole.last_seq) {
        return Err(Flaw::Forged { seq: nested.hole.first_seq });
    }
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
        if let Some(places) = places {
            places.add(entry.seq);
        }
    }
    Ok(())
}

/// What lies behind the last entry: a stretch that is gone, and checkpoints whose entries are.
async fn tail(
    examiner: &mut Examiner,
    store: &Store,
    beyond: Vec<StoredCheckpoint>,
) -> Result<Result<(), Flaw>, StoreError> {
    if let Some(seq) = store.nested_tombstone().await? {
        return Ok(Err(Flaw::Forged { seq }));
    }
    for stone in store.tombstones(examiner.head().seq, i64::MAX).await? {
        if let Err(flaw) = examiner.hole(&stone) {
            return Ok(Err(flaw));
        }
    }
    // The entry of a checkpoint is the one behind what it vouches for.
    Ok(examiner.expect(beyond.into_iter().filter(|row| row.seq >= examiner.head().seq).collect()))
}
