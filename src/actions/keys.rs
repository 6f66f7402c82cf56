//! Reading our signing keys, at start and whenever their file changes.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::SystemTime};

use super::App;
use crate::{
    config::server::Signing,
    domain::event::{Actor, EventName, NewEvent},
    keys::{
        keyring::Keyring,
        sign::{KeyRefused, SigningKey},
    },
    store::{StoreError, ledger::Append},
};

/// Signing keys cannot be used as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum KeysRefused {
    /// The file.
    #[error("signing_key_file {0}: {1}")]
    File(String, std::io::Error),
    /// What it holds.
    #[error("signing_key: {0}")]
    Key(#[from] KeyRefused),
}

/// The ring that the settings name.
///
/// # Errors
/// [`KeysRefused`].
pub fn read(signing: &Signing) -> Result<Keyring, KeysRefused> {
    match signing {
        Signing::File(path) => read_file(path),
        Signing::Given(text) => Ok(Keyring::read(text.reveal())?),
        Signing::Ephemeral => Ok(Keyring::ephemeral()),
    }
}

fn read_file(path: &Path) -> Result<Keyring, KeysRefused> {
    let text = std::fs::read_to_string(path).map_err(|e| KeysRefused::File(path.display().to_string(), e))?;
    Ok(Keyring::read(&text)?)
}

/// Looks whether the file of the keys changed.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Option<(SystemTime, u64)>,
}

impl Watch {
    /// Takes a changed file's ring, together with the events that say what changed. A bad file keeps the
    /// old ring.
    ///
    /// # Errors
    /// When the events cannot be stored: the old ring stays then, and the next look tries again.
    pub async fn look(&mut self, app: &App) -> Result<(), StoreError> {
        let Signing::File(path) = &app.settings.signing else { return Ok(()) };
        let state = std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
        if state == self.seen {
            return Ok(());
        }
        match read_file(path) {
            Ok(ring) => {
                let events = differences(app, &app.keys.load(), &ring);
                if !events.is_empty() {
                    app.store.act(Append { events }).await?;
                    app.keys.store(Arc::new(ring));
                }
            }
            Err(e) => tracing::error!(error = %e, "the signing keys stay as they were"),
        }
        self.seen = state;
        Ok(())
    }
}

/// What a change of the ring means for those who verify.
fn differences(app: &App, old: &Keyring, new: &Keyring) -> Vec<NewEvent> {
    let kids = |ring: &Keyring| -> BTreeSet<String> { ring.keys().iter().map(|k| k.kid().to_owned()).collect() };
    let (before, after) = (kids(old), kids(new));
    let event = |name, kid: &str| NewEvent::new(app.now(), name, Actor::system()).on("key", kid);
    let mut events: Vec<NewEvent> = after.difference(&before).map(|kid| event(EventName::KeyAdded, kid)).collect();
    if old.signing().kid() != new.signing().kid() {
        events.push(event(EventName::KeyPromoted, new.signing().kid()).with("alg", SigningKey::alg(new.signing())));
    }
    events.extend(before.difference(&after).map(|kid| event(EventName::KeyRemoved, kid)));
    events
}
