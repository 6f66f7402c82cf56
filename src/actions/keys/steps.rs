//! Which key a step is about, and what the step does to a ring whose order is its state: the first signs.

use super::Asked;
use crate::{
    actions::ActError,
    domain::{
        rotation::{KeyRecord, KeyState, check_add, promotable, published, removable},
        time::Moment,
    },
    keys::sign::SigningKey,
    store::signing_keys::StepRefused,
};

/// Takes a step with these keys, of which the database knows so much. Answers the name of the key that it was about.
pub(super) fn change(
    keys: &mut Vec<SigningKey>,
    known: &[KeyRecord],
    asked: &Asked,
    force: bool,
    now: Moment,
) -> Result<String, ActError> {
    match asked {
        Asked::Add => {
            check_add(known)?;
            keys.push(SigningKey::generate());
        }
        Asked::Promote(kid) => {
            let kid = chosen(known, kid.clone(), KeyState::Next)?;
            promotable(known, &kid, force, now)?;
            // The order of the file is the ring: the first signs.
            keys.sort_by_key(|key| key.kid() != kid);
            return Ok(kid);
        }
        Asked::Remove(kid) => {
            let kid = chosen(known, kid.clone(), KeyState::Retiring)?;
            removable(known, &kid, force, now)?;
            keys.retain(|key| key.kid() != kid);
            return Ok(kid);
        }
        Asked::Revoke(kid) => {
            let kid = full(known, kid)?;
            keys.retain(|key| key.kid() != kid);
            if keys.is_empty() {
                keys.push(SigningKey::generate());
            }
            // Where the signing one goes, the next one takes its place, not one that is on its way out.
            let is = |kid: &str, state| published(known, kid).is_ok_and(|k| k.state() == state);
            if is(&kid, KeyState::Active) {
                keys.sort_by_key(|key| !is(key.kid(), KeyState::Next));
            }
            return Ok(kid);
        }
    }
    Ok(keys.last().map(|key| key.kid().to_owned()).unwrap_or_default())
}

/// The key that is meant: by its name, or the only one in `state`.
pub(super) fn chosen(known: &[KeyRecord], kid: Option<String>, state: KeyState) -> Result<String, ActError> {
    if let Some(kid) = kid {
        return full(known, &kid);
    }
    let mut candidates = known.iter().filter(|k| k.state() == state);
    match (candidates.next(), candidates.next()) {
        (Some(one), None) => Ok(one.kid.clone()),
        (None, _) if state == KeyState::Next => {
            Err(ActError::Conflict("no key is next; lokid keys rotate add publishes one".into()))
        }
        (None, _) => {
            Err(ActError::Conflict(format!("no key is {}; a key retires when another is promoted", state.as_str())))
        }
        (Some(_), Some(_)) => Err(ActError::Conflict(format!("several keys are {}; say which", state.as_str()))),
    }
}

/// Whether a key is meant by this name, or by this beginning of one.
pub(in crate::actions) fn is_called(kid: &str, name: &str) -> bool {
    kid == name || (name.len() >= 8 && kid.starts_with(name))
}

/// A published key by its name or the beginning of it, of at least eight digits.
pub(super) fn full(known: &[KeyRecord], kid: &str) -> Result<String, ActError> {
    let fits = |k: &&KeyRecord| k.state() != KeyState::Gone && is_called(&k.kid, kid);
    let mut found = known.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.kid.clone()),
        _ => Err(StepRefused::Unknown(kid.chars().take(80).collect()).into()),
    }
}
