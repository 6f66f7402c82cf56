//! A node's own copy of the sealed ring, so that it starts while NATS is away.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};

use super::envelope::LONGEST;

/// The copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Others could read it, or put another in its place.
    #[error(
        "cluster.key_file: {path} has the mode {mode:o}; expected {expected:o} or stricter: chmod {expected:o} {path}"
    )]
    Mode {
        /// The file or its directory.
        path: String,
        /// What it has.
        mode: u32,
        /// What it may have.
        expected: u32,
    },
    /// A link, a pipe, a device, or somebody else's.
    #[error(
        "cluster.key_file: {0} is not a file of this node's own; move it away, and the node takes the keys from NATS again"
    )]
    Strange(String),
    /// The file system.
    #[error("cluster.key_file: {0}: {1}")]
    File(String, io::Error),
}

fn check_mode(path: &Path, file: &File, expected: u32) -> Result<(), DiskError> {
    let named = |e| DiskError::File(path.display().to_string(), e);
    let mode = file.metadata().map_err(named)?.permissions().mode() & 0o777;
    if mode & !expected == 0 {
        return Ok(());
    }
    Err(DiskError::Mode { path: path.display().to_string(), mode, expected })
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The copy; `None` where there is none yet.
///
/// # Errors
/// [`DiskError`], also when others than its owner may read the file or write into its directory.
pub fn load(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let named = |path: &Path, e| DiskError::File(path.display().to_string(), e);
    // Judged by what was opened, not by what the name means a moment later.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let strange = || DiskError::Strange(path.display().to_string());
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Err(strange()),
        Err(e) => return Err(named(path, e)),
    };
    let about = file.metadata().map_err(|e| named(path, e))?;
    let (us, root) = (geteuid().as_raw(), geteuid().is_root());
    if !about.is_file() || (about.uid() != us && !root) {
        return Err(strange());
    }
    check_mode(path, &file, 0o600)?;
    let dir = directory(path);
    check_mode(dir, &File::open(dir).map_err(|e| named(dir, e))?, 0o700)?;
    let mut bytes = Vec::new();
    let longest = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    io::Read::by_ref(&mut file).take(longest + 1).read_to_end(&mut bytes).map_err(|e| named(path, e))?;
    Ok(Some(bytes))
}

/// Replaces the copy as a whole: written aside, synced, renamed.
///
/// # Errors
/// [`DiskError`]; the old copy is there then.
pub fn save(path: &Path, sealed: &[u8]) -> Result<(), DiskError> {
    let dir = directory(path);
    let written = DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| replace(path, dir, sealed));
    written.map_err(|e| DiskError::File(path.display().to_string(), e))?;
    check_mode(dir, &File::open(dir).map_err(|e| DiskError::File(dir.display().to_string(), e))?, 0o700)
}

fn replace(path: &Path, dir: &Path, sealed: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    // A left-over keeps the mode that it has, and may be a link to somewhere else.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let written = file.write_all(sealed).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
        return written;
    }
    // The new name has to survive a power loss too.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_its_owners_alone_and_one_that_is_not_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cluster/ring");
        assert!(load(&path).unwrap().is_none());
        save(&path, b"one").unwrap();
        save(&path, b"two").unwrap();
        assert_eq!(load(&path).unwrap().unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let link = home.path().join("cluster/link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let pipe = home.path().join("cluster/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for strange in [&link, &pipe] {
            assert!(matches!(load(strange), Err(DiskError::Strange(_))), "{strange:?}");
        }
        for (loose, to, tight) in [(path.as_path(), 0o640, 0o600), (path.parent().unwrap(), 0o750, 0o700)] {
            fs::set_permissions(loose, fs::Permissions::from_mode(to)).unwrap();
            let refused = load(&path).unwrap_err().to_string();
            assert!(refused.contains(&format!("has the mode {to:o}")), "{refused}");
            fs::set_permissions(loose, fs::Permissions::from_mode(tight)).unwrap();
            assert_eq!(load(&path).unwrap().unwrap(), b"two");
        }
    }
}
