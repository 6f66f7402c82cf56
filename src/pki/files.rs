//! The files of `lokid certs`, by the names that other tools expect too.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::PkiError;

/// The authority's certificate.
pub const CA_CERT: &str = "ca.pem";
/// The authority's key.
pub const CA_KEY: &str = "ca.key";
/// The server's certificate.
pub const SERVER_CERT: &str = "server.pem";
/// The server's key.
pub const SERVER_KEY: &str = "server.key";
/// A client's certificate.
pub const CLIENT_CERT: &str = "client.pem";
/// A client's key.
pub const CLIENT_KEY: &str = "client.key";
/// The key that signs assertions.
pub const JWT_PRIVATE: &str = "jwt/private.key";
/// Its public half.
pub const JWT_PUBLIC: &str = "jwt/public.key";

/// A file to write.
#[derive(Clone, Copy)]
pub struct File<'a> {
    /// Its name below the directory.
    pub name: &'a str,
    /// What it shall hold.
    pub text: &'a str,
    /// Whether its owner alone may read it.
    pub secret: bool,
}

/// Files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// One of them is there already.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// The disk.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Writes files that belong together: all of them, or none when one is there already and `replace` is not said.
///
/// # Errors
/// [`NotWritten`].
pub fn write(dir: &Path, set: &[File<'_>], replace: bool) -> Result<Vec<PathBuf>, NotWritten> {
    let paths: Vec<PathBuf> = set.iter().map(|file| dir.join(file.name)).collect();
    if let Some(there) = paths.iter().find(|path| !replace && path.symlink_metadata().is_ok()) {
        return Err(NotWritten::Exists(there.clone()));
    }
    // All are written aside before the first takes its place, so that a server finds a whole pair.
    let mut aside = Vec::new();
    for (file, path) in set.iter().zip(&paths) {
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(PkiError::file(parent))?;
        let new = path.with_file_name(format!("{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        write_one(&new, file).map_err(PkiError::file(&new))?;
        aside.push(new);
    }
    for (new, path) in aside.iter().zip(&paths) {
        fs::rename(new, path).map_err(PkiError::file(path))?;
    }
    Ok(paths)
}

fn write_one(path: &Path, file: &File<'_>) -> std::io::Result<()> {
    // Left over by an attempt that was cut off, perhaps with other permissions.
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mode = if file.secret { 0o600 } else { 0o644 };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    out.write_all(file.text.as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_set_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let set = |text| [File { name: "a.pem", text, secret: false }, File { name: "jwt/a.key", text, secret: true }];
        write(dir.path(), &set("one"), false).unwrap();
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a.pem"), mode("jwt/a.key")), (0o644, 0o600));
        fs::remove_file(dir.path().join("a.pem")).unwrap();
        assert!(
            matches!(write(dir.path(), &set("two"), false), Err(NotWritten::Exists(path)) if path.ends_with("a.key"))
        );
        assert!(!dir.path().join("a.pem").exists());
        write(dir.path(), &set("two"), true).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("jwt/a.key")).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left aside");
    }
}
