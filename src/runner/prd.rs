//! Reading a PRD file: a regular file inside the workspace after all links, judged by what was opened and not
//! by its name, so that nobody can exchange it in between.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::domain::{run::LONGEST_PRD, screen};

/// Why a PRD was not taken. The texts name nothing but what the caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum PrdRefused {
    /// The name could be taken for an option, or climbs.
    #[error("expected the path of a file inside the workspace, without .. and not beginning with -")]
    Name,
    /// There is no such file.
    #[error("there is no such file in the workspace")]
    Missing,
    /// It lies elsewhere, by itself or by a link.
    #[error("the file does not lie inside the workspace")]
    Outside,
    /// It is hidden, or lies in a hidden directory.
    #[error("hidden files and what lies in hidden directories is not taken")]
    Hidden,
    /// A directory, FIFO, device or socket.
    #[error("expected a regular file")]
    NotAFile,
    /// It is too large.
    #[error("a PRD has at most {LONGEST_PRD} bytes")]
    TooLong,
    /// It is no text.
    #[error("a PRD is UTF-8 text")]
    NotText,
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// The workspace is not there.
    #[error("the workspace (runs.workspace) cannot be used: {0}")]
    Workspace(io::ErrorKind),
}

/// Reads the file of this name below `workspace`.
///
/// # Errors
/// [`PrdRefused`].
pub fn read(workspace: &Path, name: &str) -> Result<String, PrdRefused> {
    let workspace = fs::canonicalize(workspace).map_err(|e| PrdRefused::Workspace(e.kind()))?;
    let path = Path::new(name);
    let climbs = path.components().any(|c| matches!(c, Component::ParentDir));
    if name.is_empty() || name.starts_with('-') || name.len() > 1024 || name.contains(screen::acts) || climbs {
        return Err(PrdRefused::Name);
    }
    // O_PATH opens nothing that could block or act: no FIFO waits, no device is touched.
    let found = openat(CWD, workspace.join(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let found = File::from(found.map_err(|e| refused(io::Error::from(e)))?);
    let this = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let real = fs::read_link(&this).map_err(refused)?;
    let below = real.strip_prefix(&workspace).map_err(|_| PrdRefused::Outside)?;
    // Among them lokid's own directory, where the workspace is the one that it was started in.
    if below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".")) {
        return Err(PrdRefused::Hidden);
    }
    if !found.metadata().map_err(refused)?.is_file() {
        return Err(PrdRefused::NotAFile);
    }
    let mut bytes = Vec::new();
    // One byte more than allowed: a file that grows meanwhile is noticed too.
    let limit = LONGEST_PRD as u64 + 1;
    File::open(&this).map_err(refused)?.take(limit).read_to_end(&mut bytes).map_err(refused)?;
    check_text(bytes)
}

/// A PRD that was sent as text or read from a file.
///
/// # Errors
/// When it is too long or no text.
pub fn check_text(bytes: Vec<u8>) -> Result<String, PrdRefused> {
    if bytes.len() > LONGEST_PRD {
        return Err(PrdRefused::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| PrdRefused::NotText)?;
    // PostgreSQL cannot keep it, and no program expects it.
    if text.contains('\0') { Err(PrdRefused::NotText) } else { Ok(text) }
}

fn refused(e: io::Error) -> PrdRefused {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => PrdRefused::Missing,
        kind => PrdRefused::Unreadable(kind),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_regular_file_inside_the_workspace_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("work");
        fs::create_dir_all(workspace.join("docs")).unwrap();
        fs::write(workspace.join("docs/prd.md"), "- a thing").unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::create_dir(dir.path().join("work-too")).unwrap();
        fs::write(dir.path().join("work-too/prd.md"), "s").unwrap();
        symlink("docs/prd.md", workspace.join("inside")).unwrap();
        symlink(workspace.join("docs"), workspace.join("absolute")).unwrap();
        symlink("../secret", workspace.join("out")).unwrap();
        symlink(dir.path(), workspace.join("up")).unwrap();
        symlink("loop", workspace.join("loop")).unwrap();
        rustix::fs::mknodat(CWD, workspace.join("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::write(workspace.join("latin"), b"caf\xe9").unwrap();
        fs::write(workspace.join("-x"), "x").unwrap();
        fs::create_dir(workspace.join(".loki")).unwrap();
        fs::write(workspace.join(".loki/secret.key"), "s").unwrap();
        symlink(".loki/secret.key", workspace.join("seen")).unwrap();
        fs::write(workspace.join("exact"), vec![b'x'; LONGEST_PRD]).unwrap();
        fs::write(workspace.join("large"), vec![b'x'; LONGEST_PRD + 1]).unwrap();

        let full = workspace.join("docs/prd.md").display().to_string();
        for good in ["docs/prd.md", "./docs/prd.md", "inside", "absolute/prd.md", &full] {
            assert_eq!(read(&workspace, good).unwrap(), "- a thing", "{good}");
        }
        assert_eq!(read(&workspace, "exact").unwrap().len(), LONGEST_PRD);
        let beside = dir.path().join("work-too/prd.md").display().to_string();
        for wrong in [
            "",
            "-x",
            "--x",
            "../secret",
            "docs/../../secret",
            ".loki/secret.key",
            "seen",
            "out",
            "up/secret",
            "loop",
            "fifo",
            "docs",
            "latin",
            "large",
            "nothing",
            "docs/prd.md/x",
            "/dev/null",
            "/dev/zero",
            "/etc/passwd",
            "a\0b",
            &beside,
        ] {
            assert!(read(&workspace, wrong).is_err(), "{wrong:?}");
        }
        assert!(matches!(read(&workspace, "out"), Err(PrdRefused::Outside)));
        assert!(matches!(read(&workspace, "fifo"), Err(PrdRefused::NotAFile)));
    }
}
