//! Child processes: started, signalled, observed. What a run *means* (states, queue, events) is not known here.
//!
//! Between lokid and each run's process stands a supervisor: lokid's own binary in a second role
//! ([`supervise`]). It holds the process's pipes and is its parent, so a run neither notices nor suffers when
//! the server is killed, and the next server learns how it ended. Everything that both need lies in one directory for
//! each run, readable by its owner only:
//!
//! | file      | written by | what |
//! |-----------|------------|------|
//! | `prd.md`  | server     | the input |
//! | `control` | server     | a FIFO: one byte for each signal; somebody reads it exactly as long as the supervisor lives |
//! | `began`   | supervisor | the process is about to be started; from then on it is never started again |
//! | `process` | supervisor | its id and when the kernel says that it began |
//! | `output`  | supervisor | its lines, made harmless, up to the cap |
//! | `ended`   | supervisor | how it ended, put in place with one rename |

pub mod prd;
pub mod spool;
pub mod supervise;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::{Pid, Signal, kill_process_group},
};

use crate::domain::run::{Ending, RunId};

/// What a supervisor is told to do to its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// TERM, and KILL after the grace.
    Stop,
    /// KILL at once.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

impl Order {
    const fn byte(self) -> u8 {
        match self {
            Self::Stop => b'T',
            Self::Kill => b'K',
            Self::Pause => b'S',
            Self::Resume => b'C',
        }
    }

    const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            b'T' => Some(Self::Stop),
            b'K' => Some(Self::Kill),
            b'S' => Some(Self::Pause),
            b'C' => Some(Self::Resume),
            _ => None,
        }
    }
}

/// A process to start.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose it is.
    pub id: RunId,
    /// The program and its arguments, placeholders included.
    pub command: Vec<String>,
    /// Where it works.
    pub workspace: PathBuf,
    /// All that it finds in its environment.
    pub environment: BTreeMap<String, String>,
    /// What it works from.
    pub input: String,
    /// How much of its output is kept.
    pub log_bytes: u64,
    /// Between TERM and KILL.
    pub grace: Duration,
}

/// How far a run's process is, as its directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Its supervisor lives.
    Alive,
    /// It ended.
    Ended(Ending),
    /// It was never started, and will not be.
    NeverStarted,
    /// Its supervisor is gone without having seen its end.
    Lost,
}

/// The directory of all runs, and the program that supervises.
#[derive(Debug, Clone)]
pub struct Runner {
    directory: PathBuf,
    supervisor: PathBuf,
}

/// How long the operating system may take to start the supervisor.
const STARTED_WITHIN: Duration = Duration::from_secs(5);

impl Runner {
    /// With its directory and the program that supervises.
    pub const fn new(directory: PathBuf, supervisor: PathBuf) -> Self {
        Self { directory, supervisor }
    }

    fn place(&self, id: &RunId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    /// Starts a supervisor, which starts the process. Whoever holds the answer must wait for it, or it stays a zombie.
    ///
    /// # Errors
    /// When a file or the supervisor cannot be made. (What keeps the *process* from starting is its [`Ending`].)
    pub fn start(&self, job: &Job) -> io::Result<Child> {
        self.remove(&job.id)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let place = fs::canonicalize(&self.directory)?.join(job.id.as_str());
        fs::DirBuilder::new().mode(0o700).create(&place)?;
        let input = place.join("prd.md");
        private(&input)?.write_all(job.input.as_bytes())?;
        let control = place.join("control");
        mknodat(CWD, &control, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Reading and writing: so the supervisor never meets an end of file, and is a reader from the first moment.
        let control = OpenOptions::new().read(true).write(true).open(&control)?;
        let workspace = fs::canonicalize(&job.workspace)?;
        let fill = |text: &String| {
            text.replace("{prd}", &input.to_string_lossy())
                .replace("{run_id}", job.id.as_str())
                .replace("{workspace}", &workspace.to_string_lossy())
        };
        let mut supervisor = Command::new(&self.supervisor);
        supervisor
            .arg("supervise-run")
            .arg(&place)
            .arg("--log-bytes")
            .arg(job.log_bytes.to_string())
            .arg("--grace-ms")
            .arg(job.grace.as_millis().to_string())
            .arg("--")
            .args(job.command.iter().map(fill))
            .env_clear()
            .envs(&job.environment)
            .current_dir(&workspace)
            .stdin(control)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Its own group: Ctrl-C at the server's terminal is not meant for it.
        std::os::unix::process::CommandExt::process_group(&mut supervisor, 0);
        supervisor.spawn()
    }

    /// How far the process is.
    pub fn look(&self, id: &RunId) -> Found {
        let place = self.place(id);
        let alive = || is_read(&place.join("control"));
        // The end is written before the supervisor goes, so it has to be looked for after that.
        let lives = alive();
        match ended(&place) {
            Some(ending) => Found::Ended(ending),
            None if lives => Found::Alive,
            None if place.join("began").exists() => Found::Lost,
            None => Found::NeverStarted,
        }
    }

    /// The process's id, once it is known.
    pub fn pid(&self, id: &RunId) -> Option<i64> {
        supervise::Process::read(&self.place(id)).map(|process| i64::from(process.pid))
    }

    /// Waits until the process was started or could not be.
    pub async fn settled(&self, id: &RunId) {
        let settled = || self.pid(id).is_some() || !matches!(self.look(id), Found::Alive);
        let deadline = tokio::time::Instant::now() + STARTED_WITHIN;
        while !settled() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Tells the supervisor. Answers whether there is one to tell.
    pub fn tell(&self, id: &RunId, order: Order) -> bool {
        open_control(&self.place(id).join("control")).is_ok_and(|mut fifo| fifo.write_all(&[order.byte()]).is_ok())
    }

    /// Kills the process group of a run whose supervisor is gone, if the process still is the one that was started.
    pub fn kill_orphan(&self, id: &RunId) {
        let Some(process) = supervise::Process::read(&self.place(id)) else { return };
        if let (true, Some(pid)) = (process.is_the_same(), Pid::from_raw(process.pid)) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Where its output is gathered.
    pub fn output(&self, id: &RunId) -> PathBuf {
        self.place(id).join("output")
    }

    /// Removes a run's directory.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, id: &RunId) -> io::Result<()> {
        match fs::remove_dir_all(self.place(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The runs that have a directory.
    pub fn known(&self) -> Vec<RunId> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
}

/// Opens a FIFO for writing; fails at once when nobody reads it (`ENXIO`).
fn open_control(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

fn is_read(fifo: &Path) -> bool {
    open_control(fifo).is_ok()
}

/// What the supervisor wrote at the end.
fn ended(place: &Path) -> Option<Ending> {
    serde_json::from_slice(&fs::read(place.join("ended")).ok()?).ok()
}
