//! Syslog and webhook: every entry arrives, in order, also when the other end was down in between.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use lokid::{
    actions::evidence,
    audit::sink::{self, Context},
    config::audit::{Audit, Syslog, Transport},
    domain::{
        checkpoint::{Delivery, Statement as _},
        event::{Actor, EventName, NewEvent},
    },
    keys::verify::Signed,
    pki::leaf::{KeyKind, Pair},
    store::ledger::Append,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    door::{Client as _, Door},
    pki::{Certs, server_leaf},
};

async fn append(door: &Door, entries: usize) {
    let events = vec![NewEvent::new(door.app.now(), EventName::TokenUsed, Actor::system()); entries];
    door.app.store.act(Append { events }).await.unwrap();
}

fn start(door: &Door, audit: Audit) -> actix_web::rt::task::JoinHandle<()> {
    let app = Arc::clone(&door.app);
    let signer = Arc::clone(&app);
    let context = Context {
        store: app.store.clone(),
        clock: app.clock.clone(),
        lags: app.sinks.clone(),
        signer: Arc::new(move || evidence::signer(&signer)),
    };
    actix_web::rt::spawn(async move { sink::run(context, &audit).await })
}

fn syslog(transport: Transport, port: u16) -> Syslog {
    Syslog { transport, host: "127.0.0.1".into(), port, ca_file: None }
}

/// Looks until there is something to see.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(seen) = look() {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 20 s");
}

async fn is_told(door: &Door, sink: &str, seq: i64) {
    let lags = door.app.sinks.clone();
    until("a sink that was told", || lags.all().into_iter().find(|l| l.sink == sink && l.told >= seq)).await;
}

/// What a webhook was sent: its headers and body.
type Posts = Arc<Mutex<Vec<(String, String)>>>;

/// Answers 503 so many times, then 204.
async fn receiver(listener: TcpListener, mut refusals: usize, posts: Posts) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let (mut head, mut line) = (String::new(), String::new());
        while stream.read_line(&mut line).await.unwrap() > 2 {
            head += &line.to_lowercase();
            line.clear();
        }
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().trim().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let status = if refusals > 0 { "503 Not Now" } else { "204 No Content" };
        if refusals == 0 {
            // Header values as they came.
            posts.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
        }
        refusals = refusals.saturating_sub(1);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
}

#[actix_web::test]
async fn a_webhook_that_was_down_catches_up_and_can_check_who_calls() {
    let door = Door::open(&[]).await;
    append(&door, 3).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let mut audit = door.app.settings.audit.clone();
    audit.webhook = Some(url);
    let task = start(&door, audit);
    is_told(&door, "webhook", 3).await;
    append(&door, 4).await;
    let lags = door.app.sinks.clone();
    let posts = Posts::default();
    let server = actix_web::rt::spawn(receiver(listener, 1, Arc::clone(&posts)));
    let failing = until("a failure that is shown", || lags.all().into_iter().find(|l| l.error.is_some())).await;
    assert!(failing.waiting == 4 && failing.error.unwrap().contains("503"));
    is_told(&door, "webhook", 7).await;
    assert!(lags.all().iter().all(|l| l.waiting == 0 && l.failing_since.is_none()));

    let (head, body) = posts.lock().unwrap()[0].clone();
    assert_eq!(seqs(&body), [4, 5, 6, 7]);
    assert!(head.contains("lokid-entries: 4-7\r\n") && head.contains("lokid-signature: "), "{head}");
    task.abort();
    server.abort();
}

#[actix_web::test]
async fn what_a_webhook_is_told_is_signed_with_the_body() {
    let door = Door::open(&[]).await;
    let signer = evidence::signer(&door.app).unwrap();
    let sum = digest(&SHA256, b"body").as_ref().try_into().unwrap();
    let says = Delivery { first: 1, last: 2, digest: sum, time: door.app.now() };
    let keys = evidence::trusted(&door.app);
    assert_eq!(keys.check(Delivery::TYP, &signer.state(&says)), Signed::By(signer.kid.clone(), says.clone()));
    assert_eq!(keys.check::<Delivery>("lokid-export+jwt", &signer.state(&says)), Signed::Bad);
}

#[actix_web::test]
async fn a_syslog_server_that_went_away_gets_what_it_missed() {
    let door = Door::open(&[]).await;
    append(&door, 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut audit = door.app.settings.audit.clone();
    audit.syslog = Some(syslog(Transport::Tcp, port));
    let task = start(&door, audit);
    is_told(&door, "syslog", 1).await;
    append(&door, 2).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut first = BufReader::new(stream);
    assert!(frame(&mut first).await.contains("seq=\"2\""));
    assert!(frame(&mut first).await.contains("seq=\"3\""));
    is_told(&door, "syslog", 3).await;
    drop(first);
    append(&door, 2).await;
    let (stream, _) = listener.accept().await.unwrap();
    let mut second = BufReader::new(stream);
    let text = frame(&mut second).await;
    assert!(text.starts_with("<110>1 ") && text.contains(" auth.token.use [lokid@32473 seq=\"4\""), "{text}");
    assert!(frame(&mut second).await.contains("seq=\"5\""));
    task.abort();
}

/// One message of a stream with octet counting (RFC 6587 §3.4.1).
async fn frame<R: tokio::io::AsyncBufRead + Unpin>(stream: &mut R) -> String {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).await.unwrap();
    let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

#[actix_web::test]
async fn over_udp_each_entry_is_one_datagram() {
    let door = Door::open(&[]).await;
    append(&door, 1).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut audit = door.app.settings.audit.clone();
    audit.syslog = Some(syslog(Transport::Udp, socket.local_addr().unwrap().port()));
    let task = start(&door, audit);
    is_told(&door, "syslog", 1).await;
    append(&door, 3).await;
    for seq in 2..=4 {
        let mut datagram = [0; 4096];
        let length = socket.recv(&mut datagram).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        assert!(text.starts_with("<110>1 ") && text.contains(&format!("[lokid@32473 seq=\"{seq}\"")), "{text}");
        let entry: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
        assert_eq!((&entry["seq"], &entry["event"]), (&json!(seq), &json!("auth.token.use")));
    }
    task.abort();
}

fn acceptor(pair: &Pair) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[actix_web::test]
async fn over_tls_only_a_server_of_the_authority_and_of_the_right_name_is_told() {
    let (certs, stranger) = (Certs::new(), Certs::new());
    let door = Door::open(&[]).await;
    append(&door, 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut audit = door.app.settings.audit.clone();
    audit.syslog = Some(Syslog {
        ca_file: Some(certs.path("ca.pem")),
        ..syslog(Transport::Tls, listener.local_addr().unwrap().port())
    });
    let task = start(&door, audit);
    is_told(&door, "syslog", 1).await;
    append(&door, 2).await;

    let (now, day) = (door.clock.now(), Duration::from_hours(24));
    let mut other = server_leaf();
    (other.dns, other.ips) = (vec!["other.example".parse().unwrap()], vec![]);
    let other = certs.authority.issue(&other, KeyKind::P256, day, now).unwrap();
    let foreign = stranger.authority.issue(&server_leaf(), KeyKind::P256, day, now).unwrap();
    for (shown, why) in [(other, "not valid for name"), (foreign, "BadSignature")] {
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor(&shown).accept(stream).await.is_err(), "{why}: it was taken");
        let lags = door.app.sinks.clone();
        let is_why = |lag: &lokid::audit::sink::Lag| lag.error.as_ref().is_some_and(|e| e.contains(why));
        let failing = until(why, || lags.all().into_iter().find(is_why)).await;
        assert_eq!((failing.told, failing.waiting), (1, 2), "{why}");
    }
    let right = certs.authority.issue(&server_leaf(), KeyKind::P256, day, now).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(acceptor(&right).accept(stream).await.unwrap());
    for seq in 2..=3 {
        let text = frame(&mut stream).await;
        assert!(text.contains(&format!("seq=\"{seq}\"")), "{text}");
    }
    is_told(&door, "syslog", 3).await;
    task.abort();
}

#[actix_web::test]
async fn a_sink_that_hangs_delays_no_request_and_no_other_sink_and_its_lag_is_a_metric() {
    let door = Door::open(&[]).await;
    let holder = door.token("*").await;
    let (webhook, collector) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut audit = door.app.settings.audit.clone();
    audit.webhook = Some(format!("http://{}/hook", webhook.local_addr().unwrap()).parse().unwrap());
    audit.syslog = Some(syslog(Transport::Tcp, collector.local_addr().unwrap().port()));
    let task = start(&door, audit);
    for sink in ["webhook", "syslog"] {
        is_told(&door, sink, 1).await;
    }
    append(&door, 3).await;
    let hanging = webhook.accept().await.unwrap();
    let (stream, _) = collector.accept().await.unwrap();
    let mut collected = BufReader::new(stream);
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let asked = Instant::now();
        assert_eq!(holder.post("/api/tasks", &json!({"title": format!("task {n}")})).await.status, 201);
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "an act took {slowest:?}");
    for seq in 2..=24 {
        let text = frame(&mut collected).await;
        assert!(text.contains(&format!("seq=\"{seq}\"")), "{seq}: {text}");
    }
    let waiting = async || {
        let metrics = holder.get("/metrics").await.text;
        let line = metrics.lines().find_map(|l| l.strip_prefix("lokid_audit_sink_waiting{sink=\"webhook\"} "));
        line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    assert_eq!(waiting().await, "3.0");
    drop(hanging);
    let posts = Posts::default();
    let server = actix_web::rt::spawn(receiver(webhook, 0, Arc::clone(&posts)));
    is_told(&door, "webhook", 24).await;
    assert_eq!(waiting().await, "0.0");
    let seqs: Vec<i64> = posts.lock().unwrap().iter().flat_map(|(_, body)| seqs(body)).collect();
    assert_eq!(seqs, (2..=24).collect::<Vec<_>>());
    task.abort();
    server.abort();
}

/// The places of the entries that a webhook was sent.
fn seqs(body: &str) -> Vec<i64> {
    let entry = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    body.lines().map(|line| entry(line)["seq"].as_i64().unwrap()).collect()
}
