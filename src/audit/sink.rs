//! Telling others of every entry: a syslog server, a webhook. Each sink has a task of its own that reads the log by
//! `seq` and remembers how far it was told, so one that is down delays nobody and catches up later. Every entry
//! comes at least once, in order; after a break some come again.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::TlsConnector;

use super::lines::json_line;
use crate::{
    config::audit::{Audit, Syslog, Transport},
    domain::{
        causes::causes,
        checkpoint::{Delivery, Statement as _},
        ledger::Entry,
        screen,
        time::{Clock, Moment},
    },
    store::{
        Store, StoreError,
        evidence::{Signer, Told},
        ledger::Filter,
    },
};

/// Between two looks for new entries.
const LOOK: Duration = Duration::from_millis(500);
/// Whoever does not answer for so long is down.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a first failure the next try waits so long, after each further one twice as long.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// How a sink is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// `syslog` or `webhook`.
    pub sink: &'static str,
    /// The last entry that it was told.
    pub told: i64,
    /// How many entries it has not been told yet.
    pub waiting: i64,
    /// Since when it fails, if it does.
    pub failing_since: Option<Moment>,
    /// Why.
    pub error: Option<String>,
}

/// How every sink is doing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lags(Arc<Mutex<Vec<Lag>>>);

impl Lags {
    /// One for each sink that is configured.
    pub fn all(&self) -> Vec<Lag> {
        self.lock().clone()
    }

    fn change(&self, sink: &'static str, change: impl FnOnce(&mut Lag)) {
        let mut all = self.lock();
        let at = all.iter().position(|lag| lag.sink == sink).unwrap_or_else(|| {
            all.push(Lag { sink, told: 0, waiting: 0, failing_since: None, error: None });
            all.len() - 1
        });
        change(&mut all[at]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Lag>> {
        // Nothing here can leave a lag half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a sink did not take what it was told.
#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", causes(.0))]
    Http(reqwest::Error),
    #[error("it answered {0}")]
    Status(u16),
    #[error("it did not take it within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the tasks need.
#[derive(Clone)]
pub struct Context {
    /// Where the log is.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where they say how they are doing.
    pub lags: Lags,
    /// Who signs what a webhook is told; asked anew each time, because keys rotate.
    pub signer: Arc<dyn Fn() -> Option<Signer> + Send + Sync>,
}

/// Tells every sink that is configured, until the task is dropped.
pub async fn run(context: Context, audit: &Audit) {
    let syslog = async {
        if let Some(syslog) = &audit.syslog {
            Task { context: context.clone(), sink: "syslog", line: Line::Syslog(syslog, None) }.run().await;
        }
    };
    let webhook = async {
        if let Some(url) = &audit.webhook {
            let client =
                reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE).build();
            match client {
                Ok(http) => {
                    Task { context: context.clone(), sink: "webhook", line: Line::Webhook(url, http) }.run().await;
                }
                Err(e) => tracing::error!(error = %e, "the webhook cannot be called"),
            }
        }
    };
    tokio::join!(syslog, webhook);
}

struct Task<'s> {
    context: Context,
    sink: &'static str,
    line: Line<'s>,
}

/// How a sink is reached.
enum Line<'s> {
    Syslog(&'s Syslog, Option<Connection>),
    Webhook(&'s url::Url, reqwest::Client),
}

enum Connection {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Task<'_> {
    async fn run(mut self) {
        let (mut told, mut pause) = (None, SHORTEST);
        loop {
            let wait = match self.turn(&mut told).await {
                Ok(0) => LOOK,
                Ok(_) => {
                    pause = SHORTEST;
                    Duration::ZERO
                }
                Err(e) => {
                    let now = self.context.clock.now();
                    tracing::warn!(
                        error = %e,
                        sink = self.sink,
                        next_try_in_s = pause.as_secs(),
                        "a sink does not take the audit log's entries"
                    );
                    self.context.lags.change(self.sink, |lag| {
                        lag.failing_since.get_or_insert(now);
                        lag.error = Some(e.to_string());
                    });
                    let wait = pause;
                    pause = (pause * 2).min(LONGEST);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One stretch. Answers how many entries it had.
    async fn turn(&mut self, told: &mut Option<i64>) -> Result<usize, SinkError> {
        let (store, sink) = (&self.context.store, self.sink);
        let head = store.audit_head().await?.seq;
        let known = match *told {
            Some(seq) => Some(seq),
            None => store.told(sink).await?,
        };
        let from = match known {
            // The log was replaced by an older one, or somebody wrote there: what comes is told.
            Some(seq) if seq > head => {
                let said = "a sink was told of entries that are not in the log; see audit verify";
                tracing::error!(sink, told = seq, head, "{said}");
                head
            }
            Some(seq) => seq.max(0),
            // A new one hears of what comes; an export has what was.
            None => {
                store.act(Told { sink: sink.to_owned(), seq: head }).await?;
                head
            }
        };
        *told = Some(from);
        self.context.lags.change(sink, |lag| (lag.told, lag.waiting) = (from, head.saturating_sub(from)));
        let entries = store.audit_stretch(&Filter { after: Some(from), ..Filter::default() }).await?;
        let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(0) };
        tokio::time::timeout(PATIENCE, self.line.tell(&self.context, &entries))
            .await
            .map_err(|_| SinkError::TooSlow)??;
        self.context.store.act(Told { sink: sink.to_owned(), seq: last }).await?;
        *told = Some(last);
        self.context.lags.change(sink, |lag| {
            if lag.failing_since.is_some() {
                tracing::info!(sink, told = last, "the sink takes entries again");
            }
            *lag =
                Lag { sink, told: last, waiting: head.saturating_sub(last).max(0), failing_since: None, error: None };
        });
        Ok(entries.len())
    }
}

impl Line<'_> {
    async fn tell(&mut self, context: &Context, entries: &[Entry]) -> Result<(), SinkError> {
        match self {
            Self::Webhook(url, http) => post(http, url, context, entries).await,
            Self::Syslog(syslog, connection) => {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => connect(syslog).await?,
                };
                send(&mut open, entries).await?;
                *connection = Some(open);
                Ok(())
            }
        }
    }
}

async fn connect(syslog: &Syslog) -> io::Result<Connection> {
    let address = (syslog.host.as_str(), syslog.port);
    Ok(match syslog.transport {
        Transport::Udp => {
            let mut found = tokio::net::lookup_host(address).await?;
            let peer = found.next().ok_or(io::ErrorKind::NotFound)?;
            let any: std::net::IpAddr = if peer.is_ipv4() {
                std::net::Ipv4Addr::UNSPECIFIED.into()
            } else {
                std::net::Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(peer).await?;
            Connection::Datagrams(socket)
        }
        Transport::Tcp => Connection::Stream(Box::new(TcpStream::connect(address).await?)),
        Transport::Tls => {
            let config = tls(syslog)?;
            let name = rustls::pki_types::ServerName::try_from(syslog.host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect(address).await?;
            Connection::Stream(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
        }
    })
}

fn tls(syslog: &Syslog) -> io::Result<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let authorities = match &syslog.ca_file {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn send(connection: &mut Connection, entries: &[Entry]) -> io::Result<()> {
    match connection {
        Connection::Datagrams(socket) => {
            for entry in entries {
                socket.send(&message(entry)).await?;
            }
        }
        Connection::Stream(stream) => {
            let mut framed = Vec::new();
            for message in entries.iter().map(message) {
                framed.extend_from_slice(format!("{} ", message.len()).as_bytes());
                framed.extend_from_slice(&message);
            }
            stream.write_all(&framed).await?;
            stream.flush().await?;
            // Syslog has no answers. A server that went away shows it soon, and then this stretch is told again.
            let mut byte = [0];
            if let Ok(read) = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await
                && read? == 0
            {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
    Ok(())
}

/// An entry as RFC 5424 has it: facility 13 (log audit), the fields that people search for as structured data, and
/// the whole entry as JSON, in which control characters are escaped.
fn message(entry: &Entry) -> Vec<u8> {
    let severity = if entry.level == "warning" { 4 } else { 6 };
    let mut out = format!(
        "<{}>1 {} {} lokid - {} [lokid@32473 seq=\"{}\" actor=\"{}\" outcome=\"{}\" hash=\"{}\"] ",
        13 * 8 + severity,
        entry.time.rfc3339(),
        printable(&entry.node, 255),
        printable(&entry.event, 32),
        entry.seq,
        parameter(&entry.actor_id),
        parameter(&entry.outcome),
        data_encoding::HEXLOWER.encode(&entry.hash),
    )
    .into_bytes();
    json_line(&entry.view(), &mut out);
    out
}

/// Printable US-ASCII without spaces, or the sign for nothing (§6).
fn printable(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A parameter's value (§6.3.3), without control characters.
fn parameter(text: &str) -> String {
    let text = screen::harmless(text, usize::MAX);
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

/// One stretch as JSON lines. `Lokid-Signature` is a JWS about the body; `Lokid-Entries` says which places it holds,
/// so that a receiver can pass over what it has already.
async fn post(http: &reqwest::Client, url: &url::Url, context: &Context, entries: &[Entry]) -> Result<(), SinkError> {
    let mut body = Vec::new();
    for entry in entries {
        json_line(&entry.view(), &mut body);
        body.push(b'\n');
    }
    let (first, last) = (entries.first().map_or(0, |e| e.seq), entries.last().map_or(0, |e| e.seq));
    let mut request = http.post(url.clone()).header("content-type", "application/jsonl");
    request = request.header("lokid-entries", format!("{first}-{last}"));
    if let Some(signer) = (context.signer)() {
        let digest = digest(&SHA256, &body).as_ref().try_into().expect("SHA-256 has 32 bytes");
        let signed = signer.state(&Delivery { first, last, digest, time: context.clock.now() });
        request = request.header("lokid-signature", signed);
    }
    let answer = request.body(body).send().await.map_err(|e| SinkError::Http(e.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(SinkError::Status(answer.status().as_u16())) }
}

/// The `typ` of `Lokid-Signature`.
pub const SIGNATURE_TYP: &str = Delivery::TYP;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Actor, ActorKind, EventName, NewEvent},
        ledger::Head,
    };

    #[test]
    fn a_message_cannot_be_broken_by_what_somebody_calls_themselves() {
        let actor = Actor::new(ActorKind::Person, "a\"]\\\n\u{1b}", "x");
        let event = NewEvent::new(Moment::from_millis(0), EventName::CredentialRefused, actor);
        let text = String::from_utf8(message(&Head::EMPTY.clone().append(event, "no de\n"))).unwrap();
        let begin = r#"<108>1 1970-01-01T00:00:00Z node lokid - auth.fail [lokid@32473 seq="1" actor="a\"\]\\" outcome="success" hash=""#;
        assert!(text.starts_with(begin), "{text}");
        assert!(!text.contains(char::is_control) && text.ends_with('}'), "{text}");
    }
}
