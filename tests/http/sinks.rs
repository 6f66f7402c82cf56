//! Syslog and webhook: every entry arrives, in order, also when the other end was down in between.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
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
    store::ledger::Append,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use crate::door::Door;

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
    let seqs: Vec<i64> =
        body.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, [4, 5, 6, 7]);
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
    audit.syslog = Some(Syslog { transport: Transport::Tcp, host: "127.0.0.1".into(), port, ca_file: None });
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
