//! Runs: supervised pieces of work, the states that they go through, and what may be done in which.
//!
//! ```text
//! queued ─▶ running ⇄ paused
//!    │         │         │
//!    │         └──▶ stopping ──▶ stopped     (asked for by somebody)
//!    └▶ stopped    completed · failed        (by itself)
//! ```

use std::fmt;

use super::{id::public_id, time::Moment, token::TokenId, words::words};

public_id!(
    /// The public name of a run: `run-` and 12 characters.
    RunId,
    "run-"
);

words! {
    /// How far a run is.
    RunState {
        /// It waits for its turn.
        Queued = "queued",
        /// Its process works.
        Running = "running",
        /// Its process is stopped (SIGSTOP) and can go on.
        Paused = "paused",
        /// It was asked to end and has not ended yet.
        Stopping = "stopping",
        /// Its process ended with exit code 0.
        Completed = "completed",
        /// It ended otherwise, or could not be started.
        Failed = "failed",
        /// It ended because somebody stopped it.
        Stopped = "stopped",
    }
}

words! {
    /// What a caller may ask of a run.
    Wish {
        /// End it: TERM, later KILL.
        Stop = "stop",
        /// Stop its processes where they are.
        Pause = "pause",
        /// Let them go on.
        Resume = "resume",
    }
}

impl RunState {
    /// Those of runs that have not ended.
    pub const ACTIVE: [Self; 4] = [Self::Queued, Self::Running, Self::Paused, Self::Stopping];

    /// Whether nothing more will happen to the run.
    pub fn is_over(self) -> bool {
        !Self::ACTIVE.contains(&self)
    }

    /// Whether the run has a process.
    pub const fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
    }

    /// The state that a wish leads to.
    ///
    /// # Errors
    /// [`NotNow`] says in which state the run is.
    pub const fn after(self, wish: Wish) -> Result<Self, NotNow> {
        match (self, wish) {
            (Self::Queued, Wish::Stop) => Ok(Self::Stopped),
            (Self::Running | Self::Paused, Wish::Stop) => Ok(Self::Stopping),
            (Self::Running, Wish::Pause) => Ok(Self::Paused),
            (Self::Paused, Wish::Resume) => Ok(Self::Running),
            _ => Err(NotNow { state: self, wish }),
        }
    }
}

/// A wish that a run cannot follow in its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNow {
    /// The state.
    pub state: RunState,
    /// The wish.
    pub wish: Wish,
}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = match self.wish {
            Wish::Stop => "a run that has not ended",
            Wish::Pause => "a running run",
            Wish::Resume => "a paused run",
        };
        write!(f, "the run is {}; {} takes {needed}", self.state.as_str(), self.wish.as_str())
    }
}

impl std::error::Error for NotNow {}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started: what the operating system said.
    NotStarted(String),
    /// Nobody saw its end.
    Lost(String),
}

impl Ending {
    /// The final state of a run, which may have been asked to stop.
    pub const fn state(&self, stop_asked: bool) -> RunState {
        match self {
            // What ends while it is asked to was stopped, whatever it says about it.
            Self::Code(_) | Self::Signal(_) if stop_asked => RunState::Stopped,
            Self::Code(0) => RunState::Completed,
            _ => RunState::Failed,
        }
    }

    /// Why the run ended so, for people.
    pub fn reason(&self) -> String {
        match self {
            Self::Code(0) => "ended with exit code 0".to_owned(),
            Self::Code(code) => format!("ended with exit code {code}"),
            Self::Signal(9) => "killed (signal 9)".to_owned(),
            Self::Signal(number) => format!("ended by signal {number}"),
            Self::NotStarted(why) => format!("could not be started: {why}"),
            Self::Lost(why) => why.clone(),
        }
    }

    /// The exit code, if there is one.
    pub const fn code(&self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(*code),
            _ => None,
        }
    }
}

/// What the work says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is at, in its own words.
    pub phase: Option<String>,
    /// The round that it is in.
    pub iteration: Option<i64>,
    /// How hard it finds the work.
    pub complexity: Option<String>,
    /// How it works.
    pub mode: Option<String>,
    /// What it works on now.
    pub current_task: Option<String>,
}

/// A run as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its public id.
    pub id: RunId,
    /// Its place in the order in which runs were asked for; set when it is stored.
    pub turn: i64,
    /// How far it is.
    pub state: RunState,
    /// The node that it belongs to.
    pub node: String,
    /// The file that its PRD came from, as it was asked for; `None` when the text was sent.
    pub source: Option<String>,
    /// The provider that was asked for.
    pub provider: Option<String>,
    /// The configuration that was asked for.
    pub config: Option<String>,
    /// By which the caller recognises the request that started it.
    pub request_id: Option<String>,
    /// The run whose input it repeats.
    pub replay_of: Option<RunId>,
    /// Public id of who started it.
    pub created_by: String,
    /// What they are called.
    pub created_by_name: String,
    /// When it was asked for.
    pub created_at: Moment,
    /// When its process was started.
    pub started_at: Option<Moment>,
    /// When somebody asked it to stop.
    pub stop_asked_at: Option<Moment>,
    /// When it ended.
    pub ended_at: Option<Moment>,
    /// The process and its group.
    pub pid: Option<i64>,
    /// What the process ended with.
    pub exit_code: Option<i64>,
    /// Why it is in this state; empty when that goes without saying.
    pub reason: String,
    /// The token that its process holds.
    pub token: Option<TokenId>,
    /// Lines of its log.
    pub log_lines: i64,
    /// What it says of itself.
    pub progress: Progress,
}

/// The longest PRD, in bytes.
pub const LONGEST_PRD: usize = 1 << 20;

/// A provider's or configuration's name: short, and nothing that a program could take for an option.
///
/// # Errors
/// What would be right.
pub fn check_name(text: &str) -> Result<String, &'static str> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
    let fits = (1..=64).contains(&text.len()) && text.chars().all(sound);
    if fits && !text.starts_with(['-', '/']) && !text.contains("..") {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 letters, digits, or . _ : / -, not beginning with - or /")
    }
}

/// A UUID in its usual form (RFC 9562 §4), in lower case.
///
/// # Errors
/// What would be right.
pub fn check_request_id(text: &str) -> Result<String, &'static str> {
    let at = |(i, b): (usize, u8)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() };
    if text.len() == 36 && text.bytes().enumerate().all(at) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected a UUID such as 0190a6c4-1c4f-7bbd-9d55-0f5d3f0ce1a2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_followed_only_in_a_state_that_knows_it() {
        use RunState::{Paused, Queued, Running, Stopped, Stopping};
        let table = [
            (Queued, [Some(Stopped), None, None]),
            (Running, [Some(Stopping), Some(Paused), None]),
            (Paused, [Some(Stopping), None, Some(Running)]),
            (Stopping, [None; 3]),
            (Stopped, [None; 3]),
            (RunState::Failed, [None; 3]),
            (RunState::Completed, [None; 3]),
        ];
        for (state, next) in table {
            for (wish, expected) in Wish::EVERY.iter().zip(next) {
                assert_eq!(state.after(*wish).ok(), expected, "{} {}", state.as_str(), wish.as_str());
            }
        }
        let refused = Stopped.after(Wish::Pause).unwrap_err();
        assert_eq!(refused.to_string(), "the run is stopped; pause takes a running run");
    }

    #[test]
    fn an_ending_says_how_the_run_went() {
        assert_eq!(Ending::Code(0).state(false), RunState::Completed);
        assert_eq!(Ending::Code(3).state(false), RunState::Failed);
        assert_eq!(Ending::Signal(15).state(true), RunState::Stopped);
        assert_eq!(Ending::Code(0).state(true), RunState::Stopped);
        assert_eq!(Ending::Lost("gone".into()).state(true), RunState::Failed);
        assert_eq!(Ending::Code(3).reason(), "ended with exit code 3");
    }

    #[test]
    fn names_and_request_ids_are_strict() {
        assert!(check_name("gpt-5/fast").is_ok());
        for wrong in ["", "--x", "a b", "../x", "/etc", "a\n", &"x".repeat(65)] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        let id = "0190A6C4-1C4F-7BBD-9D55-0F5D3F0CE1A2";
        assert_eq!(check_request_id(id), Ok(id.to_ascii_lowercase()));
        assert!(check_request_id(&id[1..]).is_err() && check_request_id(&id.replace('-', "0")).is_err());
    }
}
