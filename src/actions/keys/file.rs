//! Rotating the keys of a file (seeds/001's three steps): a key is appended, moved to the front, taken out.
//! The file is replaced as a whole, so that a server never reads half of it.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    App, Asked, KeysRefused, read_file, read_text,
    steps::change,
    watch::{observe, observe_because},
};
use crate::{
    actions::{ActError, vouching},
    domain::{
        event::Origin,
        identity::{Caller, ManageKeys},
    },
    keys::sign::SigningKey,
    store::signing_keys::By,
};

/// Why the file was not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum FileRefused {
    /// What it holds now.
    #[error(transparent)]
    Keys(#[from] KeysRefused),
    /// The step.
    #[error(transparent)]
    Act(#[from] ActError),
    /// Writing it.
    #[error("{0} cannot be replaced: {1}")]
    Write(String, io::Error),
}

/// Takes a step with the keys of `path`. Answers the name of the key that it was about.
///
/// # Errors
/// [`FileRefused`]; the file is as it was then.
pub async fn rotate(
    app: &App,
    caller: &Caller<ManageKeys>,
    path: &Path,
    asked: &Asked,
    force: bool,
) -> Result<String, FileRefused> {
    let by = By { actor: caller.identity().actor.clone(), origin: Origin::default(), at: app.now() };
    let ring = read_file(path)?;
    // What a server has not seen yet was not published either.
    observe(app, ring.keys(), by.clone()).await.map_err(ActError::from)?;
    let known = app.store.key_records().await.map_err(ActError::from)?;
    app.keys.store(Arc::new(ring));
    let mut keys = SigningKey::read_all(&read_text(path)?).map_err(KeysRefused::from)?;
    vouching::before(app, asked).await?;
    let about = change(&mut keys, &known, asked, force, app.now())?;
    write(path, &keys).map_err(|e| FileRefused::Write(path.display().to_string(), e))?;
    let ring = read_file(path)?;
    observe_because(app, ring.keys(), by, asked.why()).await.map_err(ActError::from)?;
    app.keys.store(Arc::new(ring));
    vouching::after(app).await.map_err(ActError::from)?;
    Ok(about)
}

/// Written aside, synced, renamed; with the mode and the owner that the file had.
fn write(path: &Path, keys: &[SigningKey]) -> io::Result<()> {
    let before = fs::metadata(path)?;
    let mode = before.permissions().mode() & 0o777;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let text = Zeroizing::new(keys.iter().map(|key| key.to_pem().as_str().to_owned()).collect::<String>());
    // A left-over keeps the mode that it has, and may be a link to somewhere else.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    let written = belongs_like(&file, &before)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Whoever rotates may be root; the server that reads the file is not.
fn belongs_like(file: &File, before: &Metadata) -> io::Result<()> {
    let owner = |of: &Metadata| (of.uid(), of.gid());
    if owner(&file.metadata()?) == owner(before) {
        return Ok(());
    }
    fchown(file, Some(before.uid()), Some(before.gid()))
}
