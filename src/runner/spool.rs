//! A run's output on its way to storage: the supervisor appends lines that are harmless already, the server
//! reads on from where it stopped. A record is `MILLISECONDS o|e TEXT\n`; no text holds a line feed.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::private;
use crate::domain::{
    log_line::{LONGEST, clean},
    time::{Clock, Moment},
};

/// Which of its two pipes a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Out => 'o',
            Self::Err => 'e',
        }
    }
}

/// The file, and how much of it may still be written.
#[derive(Clone)]
pub(super) struct Spool(Arc<Mutex<Inner>>);

struct Inner {
    file: File,
    left: u64,
    /// How long the file is, in whole records.
    length: u64,
    /// What came after the file was full.
    dropped: u64,
    /// Set at the end, so that nothing follows the last line.
    closed: bool,
}

impl Spool {
    pub(super) fn create(path: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Inner {
            file: private(path)?,
            left: limit,
            length: 0,
            dropped: 0,
            closed: false,
        }))))
    }

    fn is_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left == 0
    }

    fn drop_bytes(&self, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped += count as u64;
    }

    /// Appends whole records as long as there is room.
    fn append(&self, records: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return;
        }
        let fits = match usize::try_from(inner.left) {
            Ok(left) if left < records.len() => {
                records.as_bytes()[..left].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
            }
            _ => records.len(),
        };
        // A full disk must not stop the run: what cannot be kept counts as cut.
        let written = inner.file.write_all(&records.as_bytes()[..fits]).is_ok();
        if written {
            inner.length += fits as u64;
        } else {
            // Half a record would be glued to the next.
            let _ = inner.file.set_len(inner.length);
        }
        if written && fits == records.len() {
            inner.left -= fits as u64;
        } else {
            inner.left = 0;
            inner.dropped += (records.len() - if written { fits } else { 0 }) as u64;
        }
    }

    /// The marker of what was cut, if anything was.
    pub(super) fn finish(&self, now: Moment) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        if inner.dropped == 0 {
            return Ok(());
        }
        let marker =
            format!("{} e … cut here: {} bytes more were not kept (runs.log_bytes)\n", now.millis(), inner.dropped);
        inner.file.write_all(marker.as_bytes())
    }
}

/// Reads a pipe to its end. Memory stays flat however much comes and however long its lines are.
pub(super) fn gather(mut pipe: impl Read, stream: Stream, spool: &Spool) {
    let mut chunk = vec![0; 64 * 1024];
    let mut line = Line::default();
    loop {
        let read = match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        if spool.is_full() {
            spool.drop_bytes(read);
            continue;
        }
        let mut records = String::new();
        for piece in chunk[..read].split_inclusive(|b| *b == b'\n') {
            line.add(piece);
            if piece.ends_with(b"\n") {
                line.take(stream, &mut records);
            }
        }
        if !records.is_empty() {
            spool.append(&records);
        }
    }
    if line.is_begun() && !spool.is_full() {
        let mut records = String::new();
        line.take(stream, &mut records);
        spool.append(&records);
    }
}

/// The line that is being read, and how much of it is beyond what is kept.
#[derive(Default)]
struct Line {
    kept: Vec<u8>,
    beyond: u64,
}

impl Line {
    fn add(&mut self, piece: &[u8]) {
        let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
        let room = LONGEST.saturating_sub(self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(&piece[..room]);
        self.beyond += (piece.len() - room) as u64;
    }

    const fn is_begun(&self) -> bool {
        !self.kept.is_empty()
    }

    fn take(&mut self, stream: Stream, records: &mut String) {
        let text = clean(&self.kept, self.beyond);
        let _ = writeln!(records, "{} {} {text}", Clock::system().now().millis(), stream.letter());
        self.kept.clear();
        self.beyond = 0;
    }
}

/// A record as the server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was read.
    pub time: Moment,
    /// From which pipe.
    pub stream: Stream,
    /// What it says.
    pub text: String,
}

/// The most that is read at once, in bytes; longer than any record.
const AT_ONCE: usize = 64 * 1024;

/// Reads whole records from byte `from` on. Answers them and where the next one begins.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(path: &Path, from: u64) -> io::Result<(Vec<Record>, u64)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), from)),
        Err(e) => return Err(e),
    };
    let mut bytes = vec![0; AT_ONCE];
    let read = file.read_at(&mut bytes, from)?;
    let whole = bytes[..read].iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[..whole]);
    Ok((text.lines().filter_map(record).collect(), from + whole as u64))
}

fn record(line: &str) -> Option<Record> {
    let mut parts = line.splitn(3, ' ');
    let time = Moment::from_millis(parts.next()?.parse().ok()?);
    let stream = if parts.next()? == "e" { Stream::Err } else { Stream::Out };
    Some(Record { time, stream, text: parts.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spooled(input: &[u8], limit: u64) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let spool = Spool::create(&path, limit).unwrap();
        gather(input, Stream::Out, &spool);
        spool.finish(Moment::from_millis(7)).unwrap();
        let (mut lines, mut from) = (vec![], 0);
        loop {
            let (records, to) = read(&path, from).unwrap();
            if to == from {
                break (dir, lines);
            }
            lines.extend(records.into_iter().map(|r| r.text));
            from = to;
        }
    }

    #[test]
    fn lines_arrive_as_they_were_printed_and_the_last_needs_no_end() {
        let (_dir, lines) = spooled(b"one\n\n two \r\nthree \xff", 1000);
        assert_eq!(lines, ["one", "", " two ", "three \u{fffd}"]);
    }

    #[test]
    fn what_is_beyond_the_cap_is_counted_and_marked() {
        let input: Vec<u8> = (0..1000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let (_dir, lines) = spooled(&input, 500);
        assert_eq!(lines[0], "line 0");
        assert!(lines.len() < 30, "{}", lines.len());
        assert!(lines.last().unwrap().starts_with("… cut here: "), "{lines:?}");
        let (_dir, whole) = spooled(&input, 100_000);
        assert_eq!((whole.len(), whole[999].as_str()), (1000, "line 999"));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let (_dir, lines) = spooled(&vec![b'x'; 10 << 20], 1 << 20);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("bytes more)") && lines[0].len() < LONGEST + 40);
    }
}
