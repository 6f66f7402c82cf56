//! HTTP in and out. Handlers are short: take a permit, call one action, show what it gave.
//!
//! [`routes`] is the table of all doors, [`front`] is what every request passes, [`problem`] is the one
//! place that turns errors into HTTP, [`extract`] turns a credential into a permit.

pub mod api;
pub(crate) mod apps;
mod assets;
mod body;
mod client;
mod cookies;
mod csrf;
mod extract;
mod forward;
mod front;
pub mod limits;
mod pages;
mod peer;
mod problem;
mod refusals;
pub mod routes;
pub mod server;
mod session_store;

use std::sync::Arc;

use actix_web::cookie::Key;

use crate::{
    actions::{App, assertion::Issued},
    config::server::is_loopback_host,
    keys::seal::KeyedHash,
    telemetry::requests::Requests,
};

/// What handlers share: the application and what only HTTP needs.
pub struct Web {
    /// The application.
    pub app: Arc<App>,
    /// How fast callers may be.
    pub limits: limits::Limiters,
    /// Streams of events that are open.
    event_streams: api::events::Streams,
    /// Signs the session cookie.
    cookie_key: Key,
    /// Reads what that key signed.
    signed: cookies::Signed,
    /// Counts of answered requests.
    requests: Arc<Requests>,
    /// What was said to proxies within the last minute.
    passes: Issued<apps::Pass>,
    /// Values that `Host` may have, in lower case.
    hosts: Vec<String>,
    /// Whether cookies can be `Secure`: everything but plain HTTP on loopback.
    secure: bool,
    /// Whether browsers may remember that this host speaks HTTPS only. Never of localhost, which other programs share.
    https_only: bool,
}

/// Callers' numbers under which all nodes count them, where they count together.
fn shared_keys(app: &App) -> Option<KeyedHash> {
    app.settings.limits.shared.then(|| app.sealer.keyed_hash(b"lokid limits v1"))
}

impl Web {
    /// For a server that listens on `port`.
    pub fn new(app: Arc<App>, port: u16) -> Self {
        let cookie_key = Key::from(&app.sealer.derive::<64>(b"lokid session cookie v1")[..]);
        let server = &app.settings.server;
        let is_local = server.public_url.host_str().is_some_and(is_loopback_host);
        let is_https = server.public_url.scheme() == "https";
        let (secure, https_only) = (is_https || !is_local, is_https && !is_local);
        let mut hosts = server.allowed_hosts.clone();
        hosts.push(server.authority());
        if server.is_on_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        let event_streams = api::events::Streams::default();
        Self {
            limits: limits::Limiters::new(&app.settings.limits, shared_keys(&app)),
            app,
            signed: cookies::Signed::by(&cookie_key),
            requests: Arc::new(Requests::new(routes::PATTERNS)),
            passes: Issued::default(),
            event_streams,
            cookie_key,
            hosts,
            secure,
            https_only,
        }
    }

    /// Forgets what is of no use any more. To be called now and then.
    pub fn forget_idle(&self) {
        self.limits.forget_idle();
        self.passes.forget_old(self.app.now());
    }

    /// Whether a request may name this host.
    fn knows_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}
