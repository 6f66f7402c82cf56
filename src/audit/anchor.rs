//! Checkpoints outside the database: a file with one signed statement a line. It remembers what somebody who can
//! write to the database would like to be forgotten.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Longer lines are no checkpoints: one that names as many keys as it may has 9 KiB.
const LONGEST: usize = 64 * 1024;

/// Adds a statement, so that it survives a power loss.
///
/// # Errors
/// When the file cannot be written.
pub fn append(path: &Path, jws: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    // A line that a power loss tore must not take this one with it.
    let is_torn = file.metadata()?.len() > 0 && {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    let begin = if is_torn { "\n" } else { "" };
    file.write_all(format!("{begin}{jws}\n").as_bytes())?;
    file.sync_data()
}

/// Every statement, oldest first; none when there is no file yet.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut lines = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        // What is no text is no checkpoint either; the verifier says so.
        let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST)]).trim().to_owned();
        if !line.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_anchored_reads_back_in_order_and_no_file_is_no_anchor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        assert!(read(&path).unwrap().is_empty());
        for jws in ["a.b.c", "d.e.f"] {
            append(&path, jws).unwrap();
        }
        assert_eq!(read(&path).unwrap(), ["a.b.c", "d.e.f"]);
        assert!(append(&dir.path().join("missing/anchor"), "x").is_err());
        std::fs::write(&path, "a.b.c\nd.e").unwrap();
        let long = "x".repeat(9 * 1024);
        append(&path, &long).unwrap();
        assert_eq!(read(&path).unwrap(), ["a.b.c", "d.e", &long]);
    }
}
