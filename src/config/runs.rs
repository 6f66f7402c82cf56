//! What a run is here: the command, where it works, and how many there may be.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    server::{Database, Server},
    values::Place,
};

/// How runs are started and kept.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The program and its arguments, with `{prd}`, `{run_id}` and `{workspace}` to be filled in; empty when there is none.
    pub command: Vec<String>,
    /// Where PRD files lie and the command works.
    pub workspace: PathBuf,
    /// Where a run's input and output are kept while it works.
    pub directory: PathBuf,
    /// What the command finds in its environment, beside what tells of the run.
    pub environment: BTreeMap<String, String>,
    /// The address of this server, for the command.
    pub url: String,
    /// How many may work at once.
    pub max_parallel: i64,
    /// How many may wait.
    pub max_queued: i64,
    /// How long one that was asked to stop may take.
    pub stop_grace: Duration,
    /// How much of its output is kept.
    pub log_bytes: u64,
    /// How long one that is over is kept.
    pub keep: Duration,
    /// The program that supervises: lokid itself. Tests, which are another program, set it.
    pub supervisor: PathBuf,
}

impl Runs {
    /// What is doubtful about the command: it may come later, so that lokid starts all the same.
    pub(super) fn warnings(&self, env: &BTreeMap<String, String>) -> Option<String> {
        let program = self.command.first()?;
        let dirs = env.get("PATH").map(String::as_str).unwrap_or_default();
        // As exec looks for it: in the workspace where it names a directory, else along PATH.
        let places: Vec<PathBuf> = if program.contains('/') {
            vec![self.workspace.join(program)]
        } else {
            std::env::split_paths(dirs).map(|dir| dir.join(program)).collect()
        };
        let runs = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if places.iter().any(runs) {
            return None;
        }
        let why = match places.iter().find(|path| path.exists()) {
            Some(path) => format!("{} is no program: chmod +x {}", path.display(), path.display()),
            None => format!("{program} is not there; every run would fail"),
        };
        Some(format!("runs.command: {why}"))
    }
}

/// What a command inherits from the server where it is set. Nothing else: no secret of lokid's lies there.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

pub(super) fn read(place: Place<'_>, server: &Server, database: &Database, env: &BTreeMap<String, String>) -> Runs {
    let command = place.list("runs.command");
    if command.first().is_some_and(|program| program.contains('{')) {
        place.fault("runs.command", "the program itself cannot be a placeholder; write it out");
    }
    let own = place.pairs("runs.environment");
    if let Some((name, _)) = own.iter().find(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
        place.fault("runs.environment", format!("{name:?} is not the name of a variable"));
    }
    if let Some((name, _)) = own.iter().find(|(name, _)| name.starts_with("LOKI_")) {
        place.fault("runs.environment", format!("{name} is lokid's to set; choose another name"));
    }
    let inherited = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), env.get(*name)?.clone())));
    let beside = match database {
        Database::Sqlite(file) => file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        Database::Postgres(_) => Path::new(".loki"),
    };
    Runs {
        command,
        workspace: PathBuf::from(place.required("runs.workspace")),
        directory: place.text("runs.directory").map_or_else(|| beside.join("runs"), PathBuf::from),
        environment: inherited.chain(own).collect(),
        url: place.text("runs.url").unwrap_or_else(|| server.public_url.to_string()).trim_end_matches('/').to_owned(),
        max_parallel: place.number("runs.max_parallel").unwrap_or(1),
        max_queued: place.number("runs.max_queued").unwrap_or(16),
        stop_grace: place.duration("runs.stop_grace").unwrap_or(Duration::from_secs(10)),
        log_bytes: place.number("runs.log_bytes").unwrap_or(16 << 20),
        keep: place.duration("runs.keep").unwrap_or(Duration::from_hours(24 * 90)),
        supervisor: PathBuf::from("/proc/self/exe"),
    }
}
