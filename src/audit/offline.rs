//! Whether an export is what lokid wrote, from the file alone.

use std::io::{self, BufRead};

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;

use super::{
    examiner::Examiner,
    export::Header,
    lines::Line,
    verify::{Flaw, Report},
};
use crate::{
    domain::{
        checkpoint::{ExportSeal, Statement as _, Tombstone},
        ledger::Entry,
    },
    keys::{
        sign::thumbprint,
        verify::{PublicKeys, Signed},
    },
    store::evidence::StoredTombstone,
};

/// No line that lokid writes is longer.
const LONGEST: u64 = 16 << 20;

/// Examines an export. Without `trusted` keys nothing proves who wrote it; the rest is checked all the same.
///
/// # Errors
/// When the file cannot be read.
pub fn export(reader: impl BufRead, trusted: &PublicKeys, anchors: &[String]) -> io::Result<Report> {
    let mut lines = Lines { reader, buffer: Vec::new(), number: 0, digest: Context::new(&SHA256) };
    let none = |flaw| Examiner::new(trusted.clone(), &[], anchors).broken(flaw);
    let header = match lines.next()? {
        Next::Line => match serde_json::from_slice::<Header>(&lines.buffer) {
            Ok(header) if header.lokid_export == 1 => header,
            _ if lines.buffer.starts_with(b"seq,time,event,") => {
                let what = "it is CSV, which cannot be verified; export JSON lines";
                return Ok(none(Flaw::Line { line: 1, what }));
            }
            _ => return Ok(none(Flaw::Line { line: 1, what: "it does not begin as an export of lokid does" })),
        },
        _ => return Ok(none(Flaw::Truncated { seq: 1, what: "there is not even a whole first line".into() })),
    };
    let own = |jwk: &serde_json::Value| thumbprint(jwk).is_some_and(|kid| jwk["kid"] == kid.as_str());
    if !header.keys.iter().all(own) {
        return Ok(none(Flaw::Line { line: 1, what: "a key in it does not have the name that it carries" }));
    }
    let mut known = trusted.clone();
    header.keys.iter().for_each(|jwk| drop(known.add(jwk)));
    let mut examiner = Examiner::new(trusted.clone(), &header.keys, anchors);
    examiner.is_called(header.log);
    let mut reading = Reading { examiner, header, known, trusted, count: 0, held: None };
    match reading.all(&mut lines)? {
        Ok(()) if reading.header.filter.is_empty() => Ok(reading.examiner.end()),
        Ok(()) => Ok(reading.examiner.of_filtered(reading.count)),
        Err(flaw) => Ok(reading.examiner.broken(flaw)),
    }
}

/// What the next line is.
enum Next {
    Line,
    /// Without its line feed: the file breaks off.
    Half,
    End,
}

struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
    /// Over every line before the present one.
    digest: Context,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Next> {
        if self.number > 0 {
            self.digest.update(&self.buffer);
            self.digest.update(b"\n");
        }
        self.buffer.clear();
        self.number += 1;
        let read = io::Read::take(&mut self.reader, LONGEST).read_until(b'\n', &mut self.buffer)?;
        Ok(match self.buffer.pop() {
            None => Next::End,
            Some(b'\n') => Next::Line,
            Some(_) if read == 0 => Next::End,
            Some(_) => Next::Half,
        })
    }
}

struct Reading<'t> {
    examiner: Examiner,
    header: Header,
    known: PublicKeys,
    trusted: &'t PublicKeys,
    count: i64,
    /// The entry before the present line: it is judged when the one behind it is known.
    held: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stone<'l> {
    tombstone: &'l str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    seal: serde_json::Value,
}

impl Reading<'_> {
    fn all<R: BufRead>(&mut self, lines: &mut Lines<R>) -> io::Result<Result<(), Flaw>> {
        loop {
            let next = lines.next()?;
            let step = match next {
                Next::Line if lines.buffer.starts_with(b"{\"seal\":") => {
                    let sealed = self.judge(None).and_then(|()| self.seal(lines));
                    let more = matches!(lines.next()?, Next::Line | Next::Half);
                    let line = lines.number;
                    return Ok(sealed.and(if more && lines.buffer.starts_with(b"{\"lokid_export\":") {
                        Err(Flaw::Mixed { seq: self.examiner.head().seq + 1 })
                    } else if more {
                        Err(Flaw::Line { line, what: "it stands behind the end" })
                    } else {
                        Ok(())
                    }));
                }
                Next::Line => self.line(lines),
                Next::Half => return Ok(self.judge(None).and(Err(self.truncated("its last line breaks off")))),
                Next::End => {
                    return Ok(self.judge(None).and(Err(self.truncated("its last line, the seal, is missing"))));
                }
            };
            if let Err(flaw) = step {
                return Ok(Err(flaw));
            }
        }
    }

    fn truncated(&self, what: &str) -> Flaw {
        let (head, end) = (self.examiner.head().seq, self.header.seq);
        let all =
            if self.header.filter.is_empty() { format!(" (entry {head} of {end} was reached)") } else { String::new() };
        Flaw::Truncated { seq: head + 1, what: format!("{what}{all}") }
    }

    fn line<R>(&mut self, lines: &Lines<R>) -> Result<(), Flaw> {
        let wrong = |what| Flaw::Line { line: lines.number, what };
        if lines.buffer.starts_with(b"{\"tombstone\":") {
            self.judge(None)?;
            let stone: Stone<'_> =
                serde_json::from_slice(&lines.buffer).map_err(|_| wrong("it is not a tombstone any more"))?;
            return self.stone(stone.tombstone, lines.number);
        }
        if lines.buffer.starts_with(b"{\"lokid_export\":") {
            return Err(Flaw::Mixed { seq: self.examiner.head().seq + 1 });
        }
        let read = serde_json::from_slice::<Line<'_>>(&lines.buffer).ok().and_then(Line::entry);
        let Some(entry) = read else {
            self.judge(None)?;
            return Err(wrong("it is not an entry any more"));
        };
        self.count += 1;
        self.judge(Some(&entry))?;
        self.held = Some(entry);
        Ok(())
    }

    /// Judges the entry that is held.
    fn judge(&mut self, next: Option<&Entry>) -> Result<(), Flaw> {
        let Some(entry) = self.held.take() else { return Ok(()) };
        if self.header.filter.is_empty() {
            return self.examiner.entry(&entry.view(), next.map(Entry::view).as_ref());
        }
        // Between entries that a filter chose others are missing: each is judged alone, and the seal judges all.
        let whole = entry.computed_hash() == entry.hash;
        if whole { Ok(()) } else { Err(crate::domain::chain::Fault::Edited { seq: entry.seq }.into()) }
    }

    fn stone(&mut self, jws: &str, line: u64) -> Result<(), Flaw> {
        let hole = match self.known.check::<Tombstone>(Tombstone::TYP, jws) {
            Signed::By(_, said) => said.hole(),
            Signed::Unknown(_) | Signed::Bad => None,
        };
        let hole = hole.ok_or(Flaw::Line { line, what: "the tombstone's signature does not hold" })?;
        self.examiner.hole(&StoredTombstone { hole, jws: jws.to_owned() })
    }

    fn seal<R>(&mut self, lines: &Lines<R>) -> Result<(), Flaw> {
        let wrong = |what| Flaw::Line { line: lines.number, what };
        let sealed = serde_json::from_slice::<Seal>(&lines.buffer).map_err(|_| wrong("it is not a seal any more"))?;
        // The digest is over the lines before it; this one has to be as lokid writes it.
        if serde_json::json!({"seal": sealed.seal}).to_string().as_bytes() != lines.buffer {
            return Err(wrong("it is not as it was written"));
        }
        let says: ExportSeal = match &sealed.seal {
            serde_json::Value::String(jws) => match self.known.check::<ExportSeal>(ExportSeal::TYP, jws) {
                Signed::By(kid, says) => {
                    self.believe(&kid)?;
                    self.examiner.sealed(kid);
                    says
                }
                Signed::Unknown(kid) => return Err(self.stranger(kid)),
                Signed::Bad => return Err(wrong("the seal's signature does not hold")),
            },
            // Whoever has the keys of the installation can tell, and a signature could have been taken off.
            _ if !self.trusted.names().is_empty() => return Err(wrong("its seal is not signed, and keys are given")),
            unsigned => {
                let says = serde_json::from_value(unsigned.clone()).map_err(|_| wrong("it is not a seal any more"))?;
                self.examiner.unsealed();
                says
            }
        };
        let (head, header) = (self.examiner.head(), &self.header);
        if says.log != header.log {
            return Err(Flaw::Mixed { seq: head.seq + 1 });
        }
        if header.filter.is_empty() && head.seq < says.seq {
            return Err(self.truncated("entries before its end are missing"));
        }
        if self.count < says.count {
            return Err(self.truncated(&format!(
                "{} of its {} entries are missing",
                says.count - self.count,
                says.count
            )));
        }
        let digest = lines.digest.clone().finish();
        if says.digest[..] != *digest.as_ref() || says.filter != header.filter || says.seq != header.seq {
            return Err(wrong("what stands before it is not what was sealed"));
        }
        self.examiner.ends_at(says.seq, says.time);
        Ok(())
    }

    /// The seal is the newest statement: who signed it has to be trusted, if anybody is.
    fn believe(&self, kid: &str) -> Result<(), Flaw> {
        let fits = self.trusted.names().is_empty() || self.trusted.contains(kid);
        if fits { Ok(()) } else { Err(self.stranger(kid.to_owned())) }
    }

    fn stranger(&self, kid: String) -> Flaw {
        Flaw::WrongKeys { seq: self.examiner.head().seq, kid, trusted: self.trusted.names().join(", ") }
    }
}
