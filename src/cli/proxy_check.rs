//! `lokid doctor --proxy URL`: does the operator's own reverse proxy let anything through that a client made
//! up? Requests go through it from outside; with `--upstream` the command stands in for the app and sees
//! what arrives there.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode, redirect::Policy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::{Failure, doctor::Check, proxy::spellings};
use crate::{
    actions::access::way,
    config::Settings,
    domain::protected::{Dialect, Way},
    web::apps::header_names,
};

/// What a client could make up, to be found again where it arrives.
const MADE_UP: &str = "made-up-by-lokid-doctor";
const WITHIN: Duration = Duration::from_secs(10);

/// What to look at.
pub(super) struct Target<'a> {
    pub(super) url: &'a str,
    /// The app's address, where nothing else may listen meanwhile.
    pub(super) upstream: Option<SocketAddr>,
    /// A token whose holder may pass.
    pub(super) token: Option<&'a str>,
}

pub(super) async fn look(settings: &Settings, target: &Target<'_>) -> Result<Vec<Check>, Failure> {
    check_address(settings, target.url)?;
    let http = Client::builder().timeout(WITHIN).redirect(Policy::none()).build()?;
    let mut app = match target.upstream {
        Some(address) => Some(App::stand_in(address).await?),
        None => None,
    };
    let mut checks = vec![closed(&http, target, "nobody", |r| r).await];
    checks.push(closed(&http, target, "made-up identity", |r| with(r, &identity_names(), MADE_UP)).await);
    for (name, value) in forwarded(settings) {
        checks.push(closed(&http, target, &format!("made-up {name}"), |r| r.header(name, &value)).await);
    }
    match (&mut app, target.token) {
        (Some(app), Some(token)) => checks.extend(arriving(&http, target, app, token).await),
        (upstream, _) => checks.push(Check {
            name: "what reaches the app".into(),
            good: true,
            says: match upstream {
                Some(_) => "NOT LOOKED AT: LOKI_TOKEN is not set".into(),
                None => {
                    "NOT LOOKED AT: give --upstream with the app's address (stop the app first) and LOKI_TOKEN".into()
                }
            },
        }),
    }
    Ok(checks)
}

/// Only an address that is an app's and protected says anything.
fn check_address(settings: &Settings, url: &str) -> Result<(), Failure> {
    let asked = super::access::asked("GET", url)?;
    match way(&settings.apps, &asked) {
        Ok((_, Way::Ruled(..))) => Ok(()),
        Ok((app, Way::Public)) => {
            Err(Failure::new(format!("{url} is public at {}", app.host)).hint("give a protected address of the app"))
        }
        Err(barred) => Err(Failure::new(barred).hint("give a protected address of an app of forward_auth.apps")),
    }
}

/// A request without a credential must not reach the app, whatever it claims.
async fn closed(
    http: &Client,
    target: &Target<'_>,
    name: &str,
    claim: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Check {
    let (good, says) = match claim(http.get(target.url)).send().await {
        Ok(answer) if answer.status().is_success() => {
            (false, format!("passes without a credential ({})", answer.status()))
        }
        Ok(answer) if answer.status() == StatusCode::NOT_FOUND => (false, "404: is this an address of the app?".into()),
        Ok(answer) if answer.status().is_server_error() => (false, format!("the proxy answers {}", answer.status())),
        Ok(answer) => (true, format!("closed ({})", answer.status().as_u16())),
        Err(e) => (false, format!("the proxy cannot be reached: {e}")),
    };
    Check { name: format!("without a credential, {name}"), good, says }
}

fn with(request: RequestBuilder, names: &[String], value: &str) -> RequestBuilder {
    names.iter().fold(request, |request, name| request.header(name, value))
}

/// Every name of both dialects, in every spelling that some program reads alike.
fn identity_names() -> Vec<String> {
    let plain = [Dialect::AuthRequest, Dialect::Remote].into_iter().flat_map(header_names);
    plain.chain(["x-loki-jwt-assertion", "x-pomerium-jwt-assertion"]).flat_map(spellings).collect()
}

/// What would describe another request than the one that is sent.
fn forwarded(settings: &Settings) -> Vec<(&'static str, String)> {
    let public = settings.apps.apps.iter().flat_map(|app| &app.public).map(|p| p.as_str().to_owned()).next();
    let open = public.unwrap_or_else(|| "/healthz".into());
    let mut claims: Vec<(&'static str, String)> =
        ["X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL"]
            .map(|n| (n, open.clone()))
            .into();
    claims.extend([
        ("X-Forwarded-Host", settings.server.public_url.host_str().unwrap_or_default().to_owned()),
        ("X-Forwarded-Method", "OPTIONS".into()),
        ("X-HTTP-Method-Override", "OPTIONS".into()),
        ("X-Forwarded-For", "127.0.0.1".into()),
    ]);
    claims
}

/// With a good credential: what does the app see?
async fn arriving(http: &Client, target: &Target<'_>, app: &mut App, token: &str) -> Vec<Check> {
    // What got through before was reported already.
    while app.requests.try_recv().is_ok() {}
    let request = with(http.get(target.url).bearer_auth(token), &identity_names(), MADE_UP);
    let sent = request.send().await;
    let status = sent.as_ref().map_or_else(ToString::to_string, |answer| answer.status().to_string());
    let Ok(lines) = app.requests.try_recv() else {
        let says = format!("the request did not arrive at the stand-in for the app; the proxy answered {status}");
        return vec![Check { name: "a good credential passes".into(), good: false, says }];
    };
    let mut checks = vec![Check { name: "a good credential passes".into(), good: true, says: status }];
    let leaks: Vec<_> = lines.iter().filter(|line| line.contains(MADE_UP)).map(|line| name_of(line)).collect();
    checks.push(Check {
        name: "made-up identity headers stop at the proxy".into(),
        good: leaks.is_empty(),
        says: if leaks.is_empty() { "none arrived".into() } else { format!("arrived: {}", leaks.join(", ")) },
    });
    let known = lines.iter().any(|line| matches!(name_of(line).as_str(), "x-auth-request-user" | "remote-user"));
    let says = if known { "it is there" } else { "no identity header arrived: are they copied?" };
    checks.push(Check { name: "the app learns who is asking".into(), good: known, says: says.into() });
    let leaked = lines.iter().any(|line| line.contains(token));
    let says = if leaked { "the token arrived at the app, which could use it here" } else { "it stays with the proxy" };
    checks.push(Check { name: "the credential stays at the door".into(), good: !leaked, says: says.into() });
    checks
}

fn name_of(line: &str) -> String {
    line.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

/// Stands in for the app: answers every request with 200 and keeps its header lines.
struct App {
    requests: mpsc::UnboundedReceiver<Vec<String>>,
}

impl App {
    async fn stand_in(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Failure::new(format!("cannot stand in for the app at {address}: {e}"))
                .hint("stop the app for this check, or point a test host of the proxy at a free address")
        })?;
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                let mut part = [0; 4096];
                while head.len() < 65_536 && !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut part).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => head.extend_from_slice(&part[..n]),
                    }
                }
                let text = String::from_utf8_lossy(&head);
                let _ = seen.send(text.lines().skip(1).take_while(|l| !l.is_empty()).map(str::to_owned).collect());
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            }
        });
        Ok(Self { requests })
    }
}
