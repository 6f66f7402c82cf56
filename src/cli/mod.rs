//! Arguments, output, exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod access;
mod audit;
mod backend;
mod certs;
mod certs_check;
mod cluster;
mod demo;
mod doctor;
mod evidence;
mod explain;
mod keys;
mod print;
mod proxy;
mod proxy_check;
mod psk;
mod review;
mod run;
mod settings;
mod start;
mod token;

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{config::Sources, domain::causes::causes, runner::supervise};

/// The door in front of a team's dashboards and APIs.
#[derive(Debug, Parser)]
#[command(name = "lokid", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Configuration file [default: .loki/config.yaml, then ~/.config/loki/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve
    Start(start::Start),
    /// Everything on an embedded default, with four people to sign in as
    Demo(demo::Demo),
    /// Tokens and the audit log
    #[command(subcommand)]
    Enterprise(Enterprise),
    /// Runs of a server: start, stop, list, follow their logs
    #[command(subcommand)]
    Run(run::Verb),
    /// Signing keys
    #[command(subcommand)]
    Keys(keys::Verb),
    /// Certificates of an authority, a server and clients
    #[command(subcommand)]
    Certs(certs::Verb),
    /// Pre-shared keys
    #[command(subcommand)]
    Psk(psk::Verb),
    /// Several nodes: the bootstrap token, the keys that they share, who they are
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Say which check a signed token of a CI job or a cloud machine passes, and which not
    ExplainToken(explain::ExplainToken),
    /// Print what a reverse proxy must be told so that it asks lokid about every request
    ProxyConfig {
        /// Which proxy
        proxy: proxy::Proxy,
        /// Only for the app at this host
        #[arg(long)]
        host: Option<String>,
    },
    /// Say which rule lets somebody into an app behind the door, or does not
    CheckAccess(access::CheckAccess),
    /// Look at the configuration
    #[command(subcommand)]
    Config(settings::Verb),
    /// Check configuration, database, providers and clock, or a reverse proxy
    Doctor(doctor::Doctor),
    /// Supervise the process of a run; lokid calls this itself
    #[command(hide = true)]
    SuperviseRun {
        /// The run's directory
        place: PathBuf,
        /// How much of its output is kept
        #[arg(long)]
        log_bytes: u64,
        /// Milliseconds between TERM and KILL
        #[arg(long)]
        grace_ms: u64,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Enterprise {
    /// How the server or the local database is
    Status(backend::Target),
    /// API tokens
    #[command(subcommand)]
    Token(token::Verb),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Review rights: who may do what and why, what nobody needs, what changed
    #[command(subcommand)]
    Review(review::Verb),
}

/// Why a verb failed, and what may help.
#[derive(Debug)]
struct Failure {
    message: String,
    hint: Option<String>,
    /// The exit code: 1, unless programs shall tell failures apart.
    code: u8,
}

impl Failure {
    fn new(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, code: 1 }
    }

    fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Self { message: causes(&e), hint: None, code: 1 }
    }
}

type Done = Result<(), Failure>;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // One provider for the whole process; a second call is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    // Without a runtime: one of these lives beside every run.
    if let Command::SuperviseRun { place, log_bytes, grace_ms, command } = &cli.command {
        return supervise::supervise(place, *log_bytes, Duration::from_millis(*grace_ms), command);
    }
    match actix_web::rt::System::new().block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lokid: {}", print::plain(&failure.message, true));
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn run(cli: Cli) -> Done {
    let common = cli.common;
    match cli.command {
        Command::Start(verb) => verb.run(&common).await,
        Command::Demo(verb) => verb.run().await,
        Command::Enterprise(Enterprise::Status(target)) => backend::status(&common, &target).await,
        Command::Enterprise(Enterprise::Token(verb)) => verb.run(&common).await,
        Command::Enterprise(Enterprise::Audit(verb)) => verb.run(&common).await,
        Command::Enterprise(Enterprise::Review(verb)) => verb.run(&common).await,
        Command::Run(verb) => verb.run(&common).await,
        Command::Keys(verb) => verb.run(&common).await,
        Command::Certs(verb) => verb.run(&common).await,
        Command::Psk(verb) => verb.run(&common),
        Command::Cluster(verb) => verb.run(&common).await,
        Command::ExplainToken(verb) => verb.run(&common).await,
        Command::ProxyConfig { proxy, host } => proxy::run(&common, proxy, host.as_deref()),
        Command::CheckAccess(verb) => verb.run(&common).await,
        Command::Config(verb) => verb.run(&common),
        Command::Doctor(verb) => doctor::run(&common, verb).await,
        Command::SuperviseRun { .. } => Ok(()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "lokid", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A new file that its owner alone reads.
fn write_secret(path: &Path, text: &str) -> Done {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(|e| not_made(path, &e))?;
    Ok(file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?)
}

/// Why a new file could not be made.
fn not_made(path: &Path, e: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot make {}: {e}", path.display()));
    match e.kind() {
        std::io::ErrorKind::AlreadyExists => failure.hint("an existing file is not overwritten; choose another name"),
        _ => failure,
    }
}

/// The settings' sources for a verb without flags of its own.
fn sources(common: &Common) -> Sources {
    Sources::of_process(common.config.clone(), Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }
}
