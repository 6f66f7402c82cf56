//! `lokid start`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use actix_web::dev::ServerHandle;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Common, Done, Failure, backend::permit, print};
use crate::{
    actions::{
        App,
        app::StartError,
        background, evidence, happenings,
        keys::{KeysRefused, ring::ShareRefused},
        nodes,
        runs::{self, Input, StartRequest, foreman},
    },
    config::{Settings, Sources, server::Database},
    domain::{
        event::{Actor, EventName, NewEvent, Origin},
        identity::Identity,
        time::Clock,
    },
    runner::prd,
    store::{OpenError, ledger::Append},
    telemetry, web,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 ended in order, 1 did not start, 2 wrong usage, 10 PostgreSQL was not reached, 11 NATS was not reached, \
    12 no leader published a signing key in time, 13 the bootstrap token is another one, 14 another server has this node's name."
)]
pub(super) struct Start {
    /// Also start one run, from this PRD
    prd: Option<PathBuf>,
    /// Address to listen on: host, host:port or :port
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Start {
    pub(super) async fn run(self, common: &Common) -> Done {
        let prd = self.prd.as_deref().map(read_prd).transpose()?;
        let flags = self.listen.as_deref().map(listen_flags).unwrap_or_default();
        let settings = Sources::of_process(common.config.clone(), flags).load()?;
        telemetry::start(&settings.log.level, settings.log.json);
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        if prd.is_some() && settings.runs.command.is_empty() {
            return Err(Failure::new("no command is configured, so there is nothing to run")
                .hint("set runs.command (LOKI_RUNS_COMMAND) to the program that works through a PRD"));
        }
        let served = serve(settings).await?;
        served.announce(&[]);
        if let Some(input) = prd {
            served.start_run(input).await?;
        }
        served.until_told_to_stop().await
    }
}

/// A PRD that whoever starts the server names: any file that they can read.
fn read_prd(path: &Path) -> Result<Input, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(&e))?;
    let text = prd::check_text(bytes).map_err(|e| wrong(&e))?;
    Ok(Input::Named { name: path.display().to_string(), text })
}

/// `0.0.0.0:8080`, `:8080` or `0.0.0.0` as settings.
fn listen_flags(text: &str) -> Vec<(&'static str, String, &'static str)> {
    let is_port = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => (host, Some(port)),
        _ => (text, None),
    };
    let host = Some(host).filter(|h| !h.is_empty()).map(|h| ("server.host", h.to_owned(), "--listen"));
    let port = port.map(|p| ("server.port", p.to_owned(), "--listen"));
    host.into_iter().chain(port).collect()
}

/// A server that runs.
pub(super) struct Served {
    pub(super) app: Arc<App>,
    /// Whether runs end with the server; else the next one takes them up.
    pub(super) ends_runs: bool,
    pub(super) address: std::net::SocketAddr,
    handle: ServerHandle,
    ended: actix_web::rt::task::JoinHandle<std::io::Result<()>>,
    background: actix_web::rt::task::JoinHandle<()>,
    /// Listened for from the start, so that whoever has read that it serves can end it in order.
    told: (Signal, Signal),
}

/// Exit codes by which a supervisor can tell what to wait for.
fn not_started(e: StartError) -> Failure {
    let code = match &e {
        StartError::Store(OpenError::Connect { .. }) => 10,
        StartError::Store(OpenError::NodeTaken { .. }) => 14,
        StartError::Keys(KeysRefused::Share(share)) => match share {
            ShareRefused::Bucket(_) => 11,
            ShareRefused::NoLeader { .. } => 12,
            ShareRefused::WrongToken(..) => 13,
            _ => 1,
        },
        _ => 1,
    };
    Failure::from(e).code(code)
}

/// Opens the database, listens, records that it did, and serves.
pub(super) async fn serve(settings: Settings) -> Result<Served, Failure> {
    let told = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = web::server::bind(&settings.server).map_err(|e| {
        Failure::from(e).hint(
            "is another server running there? Choose another with --listen or LOKI_SERVER_PORT (a demo: with --port)",
        )
    })?;
    let for_metrics = web::server::bind_metrics(settings.metrics_listen)?;
    let app = App::start(settings, Clock::system(), true).await.map_err(not_started)?;
    let address = listener.local_addr()?;
    let now = app.now();
    let database = app.store.engine().as_str();
    let started = NewEvent::new(now, EventName::ServerStarted, Actor::system())
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("listens_on", address.to_string())
        .with("database", database);
    let loaded =
        NewEvent::new(now, EventName::ConfigLoaded, Actor::system()).with("providers", app.providers.iter().count());
    app.store.act(Append { events: vec![loaded, started] }).await?;
    let (server, shared) = web::server::serve(Arc::clone(&app), listener)?;
    let handle = server.handle();
    if let Some(listener) = for_metrics {
        actix_web::rt::spawn(web::server::serve_metrics(shared.clone(), listener)?);
    }
    let background = actix_web::rt::spawn(background::run(Arc::clone(&app)));
    foreman::begin(&app);
    actix_web::rt::spawn(happenings::run(Arc::clone(&app)));
    let for_limits = shared.clone();
    actix_web::rt::spawn(async move { web::limits::shared::run(&for_limits).await });
    actix_web::rt::spawn(async move {
        let mut minute = tokio::time::interval(std::time::Duration::from_mins(1));
        loop {
            minute.tick().await;
            shared.forget_idle();
        }
    });
    Ok(Served { app, ends_runs: false, address, handle, ended: actix_web::rt::spawn(server), background, told })
}

impl Served {
    /// Says where the server is, and how to get in while no provider is configured.
    pub(super) fn announce(&self, more: &[String]) {
        let settings = &self.app.settings;
        let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
        let database = match &settings.database {
            Database::Sqlite(path) => format!("SQLite, {}", path.display()),
            Database::Postgres(_) => "PostgreSQL".to_owned(),
        };
        print::say(&format!("lokid {} listens on {scheme}://{} ({database})", env!("CARGO_PKG_VERSION"), self.address));
        // Where the port was to be any that is free, the address is known only now.
        let free = settings.server.public_url.port() == Some(0);
        let public =
            if free { format!("{scheme}://{}/", self.address) } else { settings.server.public_url.to_string() };
        if !settings.auth.enabled {
            print::say(
                "Sign-in is OFF (enterprise.auth.enabled: false): whoever reaches this port is an administrator.",
            );
        } else if settings.auth.providers.is_empty() {
            let code = self.app.admin_link.issue(self.app.entropy.bytes(), self.app.now());
            print::say("No identity provider is configured. Sign in as local administrator, once, within 15 minutes:");
            print::say(&format!("  {public}login/local/{code}"));
            if matches!(settings.database, Database::Postgres(_)) {
                print::say("  It works on this node only: where a proxy spreads requests, ask this node itself.");
            }
        } else {
            print::say(&format!("People sign in at {public}"));
        }
        more.iter().for_each(|line| print::say(line));
    }

    /// Starts a run as whoever started the server.
    pub(super) async fn start_run(&self, input: Input) -> Done {
        let caller = permit(&Arc::new(Identity::at_the_terminal("start")))?;
        let request = StartRequest { input, provider: None, config: None, request_id: None };
        let run = runs::start(&self.app, &caller, request, &Origin::default()).await?.run;
        let why =
            if run.reason.is_empty() { String::new() } else { format!(" ({})", print::plain(&run.reason, false)) };
        print::say(&format!("Run {} is {}{why}: lokid run logs {} --follow", run.id, run.state.as_str(), run.id));
        Ok(())
    }

    /// Serves until SIGINT or SIGTERM, then ends in order: requests, events, database.
    pub(super) async fn until_told_to_stop(self) -> Done {
        let (mut interrupt, mut terminate) = self.told;
        let mut ended = self.ended;
        let result = tokio::select! {
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            result = &mut ended => Some(result),
        };
        if result.is_none() {
            // Open streams would hold up the end.
            happenings::end_all(&self.app);
            self.handle.stop(true).await;
            let _ = ended.await;
        }
        if self.ends_runs {
            foreman::end_all(&self.app).await;
        }
        // What it would still do needs a database that is about to be closed.
        self.background.abort();
        if let Err(e) = nodes::leave(&self.app).await {
            tracing::warn!(error = %e, "the other nodes could not be told");
        }
        let stopped = NewEvent::new(self.app.now(), EventName::ServerStopped, Actor::system());
        if let Err(e) = self.app.store.act(Append { events: vec![stopped] }).await {
            tracing::warn!(error = %e, "the end could not be recorded");
        }
        self.app.events.flush().await;
        if let Err(e) = evidence::sign(&self.app, true).await {
            tracing::warn!(error = %e, "the end could not be signed");
        }
        self.app.close().await;
        match result {
            Some(Ok(Err(e))) => Err(e.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_host_a_port_or_both() {
        let read = |text: &str| listen_flags(text).into_iter().map(|(_, value, _)| value).collect::<Vec<_>>();
        assert_eq!(read("0.0.0.0:80"), ["0.0.0.0", "80"]);
        assert_eq!(read(":80"), ["80"]);
        assert_eq!(read("localhost"), ["localhost"]);
        assert_eq!(read("[::1]:80"), ["[::1]", "80"]);
        assert_eq!(read("::1"), ["::1"]);
    }
}
