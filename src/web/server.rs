//! The listener: bounded connections and headers, optional TLS, an orderly end.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App as ActixApp, HttpServer,
    dev::Server,
    middleware::from_fn,
    web::{self, Data},
};

use super::{Web, api, front, peer, routes};
use crate::{
    actions::{App, listener::ListenerRefused},
    config::server::Server as Settings,
};

/// Headers slower than this are cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// An idle connection is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// After the signal to end, requests under way have this many seconds.
const END_WITHIN: u64 = 10;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Address(String, io::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] ListenerRefused),
}

/// A bound listener: who comes now waits until [`serve`] starts.
pub fn bind(settings: &Settings) -> Result<TcpListener, ListenError> {
    let name = format!("{}:{}", settings.host.trim_start_matches('[').trim_end_matches(']'), settings.port);
    let host = settings.host.trim_start_matches('[').trim_end_matches(']');
    let refused = |e| ListenError::Address(name.clone(), e);
    let addresses: Vec<SocketAddr> = (host, settings.port).to_socket_addrs().map_err(refused)?.collect();
    TcpListener::bind(&addresses[..]).map_err(refused)
}

/// The bound listener of `metrics.listen`, if there is to be one.
///
/// # Errors
/// [`ListenError`].
pub fn bind_metrics(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ListenError> {
    let bind = |address| {
        TcpListener::bind(address).map_err(|e| ListenError::Address(format!("{address} (metrics.listen)"), e))
    };
    address.map(bind).transpose()
}

/// Serves on a bound listener until the handle stops it. Must run on an actix system.
///
/// # Errors
/// [`ListenError`].
pub fn serve(app: Arc<App>, listener: TcpListener) -> Result<(Server, Data<Web>), ListenError> {
    let settings = app.settings.server.clone();
    let address = listener.local_addr().map_err(|e| ListenError::Address(settings.host.clone(), e))?;
    cut_off_readers(&listener, app.settings.limits.unread_timeout)
        .map_err(|e| ListenError::Address(address.to_string(), e))?;
    let shared = Data::new(Web::new(Arc::clone(&app), address.port()));
    let for_workers = shared.clone();
    let mut server = HttpServer::new(move || configured(for_workers.clone()))
        .client_request_timeout(HEADERS_WITHIN)
        .client_disconnect_timeout(Duration::from_secs(2))
        .keep_alive(KEEP_ALIVE)
        .max_connections(settings.max_connections)
        .shutdown_timeout(END_WITHIN)
        .disable_signals();
    if let Some(workers) = settings.workers {
        server = server.workers(workers);
    }
    let refused = |e| ListenError::Address(address.to_string(), e);
    if let Some(gate) = app.listener.as_ref().and_then(|listener| listener.gate.clone()) {
        let web = shared.clone();
        server = server.on_connect(move |connection, kept| peer::on_connect(&web, &gate, connection, kept));
    }
    let server = match &app.listener {
        Some(tls) => server.listen_rustls_0_23(listener, tls.config(&app.clock)?).map_err(refused)?,
        None => server.listen(listener).map_err(refused)?,
    };
    Ok((server.run(), shared))
}

/// Whoever does not take what it is sent keeps a connection and its buffers for ever: actix-web waits for it without a
/// limit. The kernel ends such a connection (`TCP_USER_TIMEOUT`, which accepted sockets inherit from the listener).
fn cut_off_readers(listener: &TcpListener, after: Duration) -> io::Result<()> {
    let millis = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(listener, millis)?)
}

/// Serves `/metrics` and nothing else to whoever reaches this listener.
///
/// # Errors
/// [`ListenError`].
pub fn serve_metrics(shared: Data<Web>, listener: TcpListener) -> Result<Server, ListenError> {
    let refused = |e| ListenError::Address("metrics.listen".into(), e);
    let app =
        move || ActixApp::new().app_data(shared.clone()).route("/metrics", web::get().to(api::metrics::show_to_all));
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(64)
        .client_request_timeout(HEADERS_WITHIN)
        .keep_alive(KEEP_ALIVE)
        .shutdown_timeout(1)
        .disable_signals();
    Ok(server.listen(listener).map_err(refused)?.run())
}

/// Everything that [`serve`] serves, for callers that bring their own server (tests, the bench).
pub fn configured(
    shared: Data<Web>,
) -> ActixApp<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let for_front = shared.clone();
    ActixApp::new()
        .app_data(shared.clone())
        .configure(|config| routes::configure(config, &shared))
        .wrap(from_fn(move |req, next| front::front(for_front.clone(), req, next)))
}
