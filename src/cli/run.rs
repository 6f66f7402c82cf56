//! `lokid run`: the runs of a server, with the token in `LOKI_TOKEN`.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{
    Common, Done, Failure,
    backend::{Backend, Target},
    print, sources,
};
use crate::domain::run::RunState;

#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// The server [default: LOKI_URL, else http://localhost:57374]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start a run from a PRD file of this machine, or from standard input (-)
    Start {
        /// The file
        prd: PathBuf,
        /// Which provider the command shall use
        #[arg(long)]
        provider: Option<String>,
        /// Show its log until it ends; then end as it did
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Stop a run; without an id the only one that has not ended
    Stop {
        /// Its id
        run: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// List runs, newest first
    List {
        /// Only those in this state: queued, running, paused, stopping, completed, failed, stopped
        #[arg(long)]
        status: Option<String>,
        /// How many
        #[arg(long, short = 'n', allow_negative_numbers = true, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=500))]
        limit: i64,
        #[command(flatten)]
        server: Server,
    },
    /// Show a run's log
    Logs {
        /// Its id; without one the newest run
        run: Option<String>,
        /// Go on until it ends; then end as it did
        #[arg(long, short)]
        follow: bool,
        /// How many lines
        #[arg(long, short = 'n', allow_negative_numbers = true, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        lines: i64,
        #[command(flatten)]
        server: Server,
    },
}

const DEFAULT_SERVER: &str = "http://localhost:57374";

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        let (Self::Start { server, .. }
        | Self::Stop { server, .. }
        | Self::List { server, .. }
        | Self::Logs { server, .. }) = &self;
        let url = server.server.clone().or_else(|| sources(common).env.get("LOKI_URL").cloned());
        let target = Target { server: Some(url.unwrap_or_else(|| DEFAULT_SERVER.to_owned())) };
        let backend = Backend::open(common, &target).await?;
        match self {
            Self::Start { prd, provider, follow, .. } => start(common, &backend, prd, provider, follow).await,
            Self::Stop { run, .. } => {
                let body = run.map_or_else(|| json!({}), |run| json!({"run_id": run}));
                let done = backend.call("POST", "/api/control/stop", Some(body)).await?;
                say(
                    common,
                    &done,
                    &format!("Run {} is {}.", print::cell(&done["run_id"]), print::cell(&done["status"])),
                );
                Ok(())
            }
            Self::List { status, limit, .. } => list(common, &backend, status.as_deref(), limit).await,
            Self::Logs { run, follow, lines, .. } => {
                let id = match run {
                    Some(id) => id,
                    None => newest(&backend).await?,
                };
                if follow {
                    Follower::new(common, &backend, id, lines).run().await
                } else {
                    logs(common, &backend, &id, lines).await
                }
            }
        }
    }
}

fn say(common: &Common, value: &Value, text: &str) {
    if common.json { print::json(value) } else { print::out(text) }
}

async fn start(common: &Common, backend: &Backend, prd: PathBuf, provider: Option<String>, follow: bool) -> Done {
    let wrong = |e: std::io::Error| Failure::new(format!("{}: {e}", prd.display()));
    let mut text = String::new();
    if prd.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(wrong)?;
    } else {
        text = std::fs::read_to_string(&prd).map_err(wrong)?;
    }
    let mut body = json!({"prd_text": text});
    if let Some(provider) = provider {
        body["provider"] = provider.into();
    }
    let started = backend.call("POST", "/api/v2/runs", Some(body)).await?;
    let id = print::cell(&started["id"]);
    let place = started["position"].as_u64().map(|n| format!(" at place {n}")).unwrap_or_default();
    if !(common.json && follow) {
        say(common, &started, &format!("Run {id} is {}{place}.", print::cell(&started["status"])));
    }
    if follow { Follower::new(common, backend, id, 10_000).run().await } else { Ok(()) }
}

async fn newest(backend: &Backend) -> Result<String, Failure> {
    let page = backend.call("GET", "/api/v2/runs?limit=1", None).await?;
    let id = page["runs"][0]["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::new("there is no run yet").hint("start one: lokid run start PRD"))
}

async fn list(common: &Common, backend: &Backend, status: Option<&str>, limit: i64) -> Done {
    if let Some(status) = status {
        status.parse::<RunState>().map_err(|e| Failure::new(format!("--status {status:?}: {e}")))?;
    }
    let only = status.map(|s| format!("&status={s}")).unwrap_or_default();
    let page = backend.call("GET", &format!("/api/v2/runs?limit={limit}{only}"), None).await?;
    if common.json {
        print::json(&page["runs"]);
        return Ok(());
    }
    let row = |run: &Value| {
        let state = match run["position"].as_u64() {
            Some(place) => format!("queued ({place})"),
            None => print::cell(&run["status"]),
        };
        vec![
            print::cell(&run["id"]),
            state,
            print::when(&run["created_at"]),
            print::when(&run["ended_at"]),
            print::cell(&run["created_by_name"]),
            if run["prd"].is_null() { "(text)".into() } else { print::cell(&run["prd"]) },
            print::cell(&run["reason"]),
        ]
    };
    let rows: Vec<_> = page["runs"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        print::out(&status.map_or("There are no runs yet.".to_owned(), |status| format!("No run is {status}.")));
    } else {
        print::table(&["ID", "STATE", "ASKED FOR (UTC)", "ENDED (UTC)", "BY", "PRD", "REASON"], &rows);
    }
    Ok(())
}

/// `2026-11-22 19:05:00  what it says`; what came from standard error is marked.
fn line(common: &Common, line: &Value) -> String {
    if common.json {
        return line.to_string();
    }
    let mark = if line["level"] == "warning" { "! " } else { "  " };
    format!(
        "{} {mark}{}",
        print::when(&line["timestamp"]),
        print::plain(line["message"].as_str().unwrap_or_default(), false)
    )
}

async fn logs(common: &Common, backend: &Backend, id: &str, lines: i64) -> Done {
    let found = backend.call("GET", &format!("/api/logs?run_id={id}&lines={lines}"), None).await?;
    found.as_array().into_iter().flatten().for_each(|l| print::out(&line(common, l)));
    Ok(())
}

/// Somebody who reads a log until the run has ended.
struct Follower<'b> {
    common: &'b Common,
    backend: &'b Backend,
    id: String,
    lines: i64,
    /// The number of the last line that was shown.
    shown: i64,
    /// The id of the last event, to resume from.
    last: Option<String>,
    /// Whether a line below the log shows how it goes.
    progress: bool,
}

/// Whether a run, or a change of one, says that it has ended.
fn is_over(run: &Value) -> bool {
    run["status"].as_str().and_then(|s| s.parse::<RunState>().ok()).is_some_and(RunState::is_over)
}

/// Between a lost stream and the next try.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries in a row without an answer.
const MOST_TRIES: u32 = 30;

impl<'b> Follower<'b> {
    fn new(common: &'b Common, backend: &'b Backend, id: String, lines: i64) -> Self {
        let progress = !common.json && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self { common, backend, id, lines, shown: 0, last: None, progress }
    }

    async fn run(mut self) -> Done {
        let mut tries = 0;
        loop {
            match self.read().await {
                Ok(true) => return self.finish().await,
                Ok(false) => tries = 0,
                // The first try says what is wrong; later ones wait for a server that starts again.
                Err(e) if self.last.is_none() || tries >= MOST_TRIES => return Err(e),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads one stream to its end. Answers whether the run has ended.
    async fn read(&mut self) -> Result<bool, Failure> {
        // The stream is opened before the log is read, so nothing falls between the two.
        let path = format!("/api/events?types=log,run&run_id={}", self.id);
        let mut stream = self.backend.stream(&path, self.last.as_deref()).await?.bytes_stream();
        let run = self.backend.call("GET", &format!("/api/v2/runs/{}", self.id), None).await?;
        if self.last.is_none() {
            let before =
                self.backend.call("GET", &format!("/api/logs?run_id={}&lines={}", self.id, self.lines), None).await?;
            before.as_array().into_iter().flatten().for_each(|line| self.show(line));
        }
        if is_over(&run) {
            return Ok(true);
        }
        let mut gathered: Vec<u8> = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            gathered.extend_from_slice(&bytes);
            // Only whole events are decoded: a piece may end in the midst of a character.
            while let Some(end) = gathered.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = gathered.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                if event.contains("event: reset\n") {
                    self.catch_up().await?;
                }
                if self.take(&event) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Shows one event. Answers whether it was the run's last.
    fn take(&mut self, event: &str) -> bool {
        let field = |name: &str| event.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        if !field("id: ").is_empty() {
            self.last = Some(field("id: ").to_owned());
        }
        let data: Value = serde_json::from_str(field("data: ")).unwrap_or_default();
        match field("event: ") {
            "log" => self.show(&data),
            "run" => {
                self.status(&data);
                return is_over(&data);
            }
            _ => {}
        }
        false
    }

    fn show(&mut self, data: &Value) {
        let number = data["number"].as_i64().unwrap_or(0);
        if number <= self.shown {
            return;
        }
        self.shown = number;
        self.clear();
        print::out(&line(self.common, data));
        self.status(&Value::Null);
    }

    /// The line below the log.
    fn status(&self, change: &Value) {
        if self.progress {
            let state = change["status"].as_str().unwrap_or("running");
            let _ =
                write!(std::io::stderr(), "\r\x1b[K{} {} · {} lines", self.id, print::plain(state, false), self.shown);
        }
    }

    fn clear(&self) {
        if self.progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Shows what there is behind the last line that was shown.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        loop {
            let path = format!("/api/logs?run_id={}&after={}&lines=1000", self.id, self.shown);
            let rest = self.backend.call("GET", &path, None).await?;
            let Some(lines) = rest.as_array().filter(|lines| !lines.is_empty()) else { return Ok(()) };
            lines.iter().for_each(|line| self.show(line));
        }
    }

    /// Says how the run ended; anything but its completion is a failure of this command.
    async fn finish(mut self) -> Done {
        self.catch_up().await?;
        self.clear();
        let run = self.backend.call("GET", &format!("/api/v2/runs/{}", self.id), None).await?;
        let (state, reason) = (print::cell(&run["status"]), print::cell(&run["reason"]));
        if run["status"] == "completed" {
            if !self.common.json {
                print::out(&format!("Run {} is completed: {} lines.", self.id, run["log_lines"]));
            }
            return Ok(());
        }
        Err(Failure::new(format!("run {} is {state}: {reason}", self.id)))
    }
}
