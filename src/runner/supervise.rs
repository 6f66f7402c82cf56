//! The supervisor's side: one small process for each run, which outlives a killed server.
//!
//! It is the process's parent and does not reap it before nobody can signal it any more, so no signal ever reaches
//! a stranger who got the same id.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{
    Order, private,
    spool::{self, Spool},
};
use crate::domain::{run::Ending, time::Clock};

/// After the process ended, its pipes are read this long: something outside its group may hold them open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two tries to write down how it ended.
const AGAIN: Duration = Duration::from_secs(1);

/// The process that was started: its id, and the kernel's word on when it began, which tells it from a later one
/// with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    began: u64,
}

impl Process {
    fn of(pid: i32) -> Self {
        Self { pid, began: began(pid).unwrap_or_default() }
    }

    pub(super) fn read(place: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(place.join("process")).ok()?).ok()
    }

    /// Whether the process of this id still is this one.
    pub(super) fn is_the_same(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// Clock ticks from boot to the start of a process: field 22 of proc_pid_stat(5), after the name in brackets.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The group of a process, as long as it may be signalled.
#[derive(Clone)]
struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    fn signal(&self, signals: &[Signal]) {
        if let Some(leader) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            for signal in signals {
                let _ = kill_process_group(leader, *signal);
            }
        }
    }

    fn follow(&self, order: Order, grace: Duration) {
        match order {
            // A stopped process hears TERM only when it goes on.
            Order::Stop => {
                self.signal(&[Signal::TERM, Signal::CONT]);
                let group = self.clone();
                thread::spawn(move || {
                    thread::sleep(grace);
                    group.signal(&[Signal::KILL]);
                });
            }
            Order::Kill => self.signal(&[Signal::KILL]),
            Order::Pause => self.signal(&[Signal::STOP]),
            Order::Resume => self.signal(&[Signal::CONT]),
        }
    }

    /// Ends what is left of the group; from now on nothing is signalled.
    fn close(&self) {
        self.signal(&[Signal::KILL]);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Runs the command until it ended and writes down how. Standard input is the run's `control`.
pub fn supervise(place: &Path, log_bytes: u64, grace: Duration, command: &[String]) -> ExitCode {
    let Ok(ending) = run(place, log_bytes, grace, command) else { return ExitCode::FAILURE };
    // A full disk may have room again; without this word the run would count as lost.
    while write_end(place, &ending).is_err() {
        if !place.exists() {
            return ExitCode::FAILURE;
        }
        thread::sleep(AGAIN);
    }
    ExitCode::SUCCESS
}

fn run(place: &Path, log_bytes: u64, grace: Duration, command: &[String]) -> io::Result<Ending> {
    let spool = Spool::create(&place.join("output"), log_bytes)?;
    private(&place.join("began"))?;
    let mut child = match start(command) {
        Ok(child) => child,
        Err(e) => return Ok(Ending::NotStarted(why_not(command, &e))),
    };
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let group = Group(Arc::new(Mutex::new(Pid::from_raw(pid))));
    let known = serde_json::to_vec(&Process::of(pid)).map_err(io::Error::from);
    let attended = known.and_then(|known| put(place, "process", &known)).and_then(|()| obey(group.clone(), grace));
    if let Err(e) = attended {
        // Nobody could follow or stop it: it must not work on.
        group.close();
        let _ = child.wait();
        return Ok(Ending::NotStarted(format!("it could not be supervised: {e}")));
    }
    let read = gather(&mut child, &spool);
    let status = wait(&mut child, &group)?;
    // Whoever still holds a pipe open is not waited for.
    let deadline = std::time::Instant::now() + LAST_WORDS;
    for _ in 0..2 {
        let _ = read.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now()));
    }
    // What of the log cannot be kept says nothing about the run.
    let _ = spool.finish(Clock::system().now());
    Ok(ending(status))
}

fn start(command: &[String]) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program);
    child.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    child.spawn()
}

/// Why a command could not be started, by its program's name, with what may help.
fn why_not(command: &[String], error: &io::Error) -> String {
    let program = command.first().map_or("", String::as_str);
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; is it executable?",
        io::ErrorKind::NotFound => "; is runs.command right, and is it on lokid's PATH?",
        _ => "",
    };
    format!("{program}: {error}{hint}")
}

/// Follows what comes through standard input, in a thread that ends with the program.
fn obey(group: Group, grace: Duration) -> io::Result<()> {
    let mut control = fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    thread::spawn(move || {
        let mut byte = [0];
        while io::Read::read_exact(&mut control, &mut byte).is_ok() {
            if let Some(order) = Order::of_byte(byte[0]) {
                group.follow(order, grace);
            }
        }
    });
    Ok(())
}

/// Reads both pipes to their end, each in a thread; says so through the channel.
fn gather(child: &mut Child, spool: &Spool) -> mpsc::Receiver<()> {
    let (done, read) = mpsc::channel();
    let follow = |pipe: Option<Box<dyn io::Read + Send>>, stream| {
        let (spool, done) = (spool.clone(), done.clone());
        thread::spawn(move || {
            if let Some(pipe) = pipe {
                spool::gather(pipe, stream, &spool);
            }
            let _ = done.send(());
        });
    };
    follow(child.stdout.take().map(|pipe| Box::new(pipe) as _), spool::Stream::Out);
    follow(child.stderr.take().map(|pipe| Box::new(pipe) as _), spool::Stream::Err);
    read
}

/// Waits for the end and reaps only after the group can no longer be signalled.
fn wait(child: &mut Child, group: &Group) -> io::Result<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
    group.close();
    child.wait()
}

fn ending(status: ExitStatus) -> Ending {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or_default()),
    }
}

fn write_end(place: &Path, ending: &Ending) -> io::Result<()> {
    put(place, "ended", &serde_json::to_vec(ending)?)
}

/// A file that is there whole or not at all.
fn put(place: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let aside = place.join(format!("{name}.new"));
    let _ = fs::remove_file(&aside);
    io::Write::write_all(&mut private(&aside)?, content)?;
    fs::rename(aside, place.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_id() {
        let me = Process::of(i32::try_from(std::process::id()).unwrap());
        assert!(me.began > 0 && me.is_the_same());
        assert!(!Process { began: me.began + 1, ..me }.is_the_same());
        assert!(!Process { pid: i32::MAX, ..me }.is_the_same());
    }
}
