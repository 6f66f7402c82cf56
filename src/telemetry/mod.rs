//! What the process says of itself: logs (one line of text or one JSON object an event, to standard error),
//! counts ([`metrics`], [`requests`]) and what it takes of its machine ([`process`]).

pub mod metrics;
pub mod process;
pub mod requests;

use tracing_subscriber::{EnvFilter, fmt};

/// Turns logging on for the whole process, from `level` on. A second call changes nothing.
pub fn start(level: &str, json: bool) {
    // Libraries say little of use below a warning, and some of it could hold what must not be logged.
    let filter = EnvFilter::new(format!("warn,lokid={level}"));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    // Only tests start it twice.
    drop(started);
}
