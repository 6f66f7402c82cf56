//! Noticing that the signing keys changed: their file, or the database where another node rotated them. On
//! a timer, rotating those that lokid keeps.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{ActError, App, Asked, adopt, read_file, step};
use crate::{
    config::server::Signing,
    domain::{
        event::{Actor, Origin},
        rotation::{KeyRecord, KeyState},
        time::Moment,
    },
    keys::sign::SigningKey,
    store::{
        StoreError,
        signing_keys::{By, GivenKey, Observe, StoredKey},
    },
};

/// What was seen last.
#[derive(Debug, Default)]
pub struct Watch {
    file: Option<(SystemTime, u64)>,
    stored: Vec<StoredKey>,
    given: bool,
}

impl Watch {
    /// Takes a ring that changed, together with the events that say what changed. A bad one keeps the old.
    ///
    /// # Errors
    /// When the events cannot be stored: the old ring stays then, and the next look tries again.
    pub async fn look(&mut self, app: &App) -> Result<(), StoreError> {
        match &app.settings.signing {
            Signing::File(path) => {
                let state = std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
                if state == self.file {
                    return Ok(());
                }
                match read_file(path) {
                    Ok(ring) => {
                        observe(app, ring.keys(), by_system(app)).await?;
                        app.keys.store(Arc::new(ring));
                    }
                    Err(e) => tracing::error!(error = %e, "the signing keys stay as they were"),
                }
                self.file = state;
            }
            Signing::Given(_) if !self.given => {
                observe(app, app.keys.load_full().keys(), by_system(app)).await?;
                self.given = true;
            }
            Signing::Kept(every) => {
                if let Some(every) = every {
                    rotate_when_due(app, *every).await?;
                }
                self.look_at_stored(app).await?;
            }
            // `follow::follow` looks there, apart from what waits for the database only.
            Signing::Given(_) | Signing::Ephemeral | Signing::Shared(_) => {}
        }
        Ok(())
    }

    async fn look_at_stored(&mut self, app: &App) -> Result<(), StoreError> {
        let stored = app.store.signing_keys().await?;
        if stored == self.stored {
            return Ok(());
        }
        adopt(app, &stored);
        self.stored = stored;
        Ok(())
    }
}

/// lokid itself, now.
pub(super) fn by_system(app: &App) -> By {
    By { actor: Actor::system(), origin: Origin::default(), at: app.now() }
}

/// Writes down what a ring of another source holds now.
///
/// # Errors
/// When that cannot be stored.
pub(super) async fn observe(app: &App, keys: &[SigningKey], by: By) -> Result<(), StoreError> {
    observe_because(app, keys, by, "").await
}

/// The same, and why keys are gone from it.
///
/// # Errors
/// When that cannot be stored.
pub(super) async fn observe_because(
    app: &App,
    keys: &[SigningKey],
    by: By,
    why: &'static str,
) -> Result<(), StoreError> {
    let given = |key: &SigningKey| GivenKey { kid: key.kid().to_owned(), alg: key.alg().to_owned() };
    app.store.act(Observe { ring: keys.iter().map(given).collect(), by, why }).await?;
    Ok(())
}

/// The step that the timer takes next, if it is time for one.
fn due(keys: &[KeyRecord], every: Duration, now: Moment) -> Option<Asked> {
    let at = |state: KeyState| keys.iter().find(|k| k.state() == state);
    if let Some(old) = keys.iter().find(|k| k.state() == KeyState::Retiring && k.check_remove(now).is_ok()) {
        return Some(Asked::Remove(Some(old.kid.clone())));
    }
    let active = at(KeyState::Active)?;
    if now.since(active.since()) < every {
        return None;
    }
    match at(KeyState::Next) {
        None => Some(Asked::Add),
        Some(next) => next.check_promote(now).is_ok().then(|| Asked::Promote(Some(next.kid.clone()))),
    }
}

/// Takes the timer's next step, if it is time for one.
///
/// # Errors
/// When the database cannot say.
pub(super) async fn rotate_when_due(app: &App, every: Duration) -> Result<(), StoreError> {
    let keys = app.store.key_records().await?;
    let Some(asked) = due(&keys, every, app.now()) else { return Ok(()) };
    match step(app, asked, false, by_system(app)).await {
        Ok(()) => Ok(()),
        Err(ActError::Store(e)) => Err(e),
        // Another node took the step at the same moment, or one does not publish the key yet.
        Err(e) => {
            tracing::debug!(error = %e, "the timer's step was not taken");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_adds_waits_promotes_waits_and_removes() {
        let at = |minutes: u64| Moment::from_seconds(0).plus(Duration::from_mins(minutes));
        let key = |kid: &str, added, active: Option<Moment>| KeyRecord {
            kid: kid.into(),
            alg: "ES256".into(),
            added_at: added,
            active_at: active,
            retired_at: None,
            gone_at: None,
            revoked: false,
        };
        let every = Duration::from_hours(1);
        let step = |keys: &[KeyRecord], now| due(keys, every, now).map(|step| format!("{step:?}"));
        let mut keys = vec![key("a", at(0), Some(at(0)))];
        assert_eq!(step(&keys, at(59)), None);
        assert!(step(&keys, at(60)).unwrap().starts_with("Add"));
        keys.push(key("b", at(60), None));
        assert_eq!(step(&keys, at(61)), None);
        assert!(step(&keys, at(62)).unwrap().starts_with("Promote"));
        (keys[0].retired_at, keys[1].active_at) = (Some(at(62)), Some(at(62)));
        assert_eq!(step(&keys, at(67)), None);
        assert!(step(&keys, at(68)).unwrap().starts_with("Remove"));
        keys[0].gone_at = Some(at(68));
        assert_eq!(step(&keys, at(100)), None);
    }
}
