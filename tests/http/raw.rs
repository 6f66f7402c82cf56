//! Requests written byte by byte, for what no client library would send.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::door::{Client as _, Door};

pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// Sends these bytes (`PORT` stands for the port) and reads until the server closes.
pub(crate) async fn raw(door: &Door, request: &[u8]) -> Raw {
    let mut socket = TcpStream::connect(("127.0.0.1", door.port)).await.unwrap();
    // A server that has said no may close before it has read everything.
    let _ = socket.write_all(&with_port(request, door.port)).await;
    read(&mut socket).await
}

fn with_port(request: &[u8], port: u16) -> Vec<u8> {
    let (mark, port) = (b"PORT", port.to_string());
    let mut out = Vec::new();
    let mut at = 0;
    while at < request.len() {
        if request[at..].starts_with(mark) {
            out.extend_from_slice(port.as_bytes());
            at += mark.len();
        } else {
            out.push(request[at]);
            at += 1;
        }
    }
    out
}

async fn read(socket: &mut TcpStream) -> Raw {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Raw { status: text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0), text }
}

#[actix_web::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let door = Door::open(&[("LOKI_LIMITS_BODY_TIMEOUT", "300ms")]).await;
    let admin = door.token("*").await;
    let began = Instant::now();
    let head = format!(
        "POST /api/enterprise/tokens HTTP/1.1\r\nHost: localhost:PORT\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{",
        admin.secret
    );
    let answer = raw(&door, head.as_bytes()).await;
    assert_eq!(answer.status, 408, "{}", answer.text);
    assert!(answer.text.contains("application/problem+json"));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(admin.get("/api/me").await.status, 200);
}

#[actix_web::test]
async fn a_client_that_asks_may_have_a_length_that_is_refused_early() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    let head = format!(
        "POST /api/enterprise/tokens HTTP/1.1\r\nHost: localhost:PORT\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n",
        admin.secret
    );
    let answer = raw(&door, head.as_bytes()).await;
    assert_eq!(answer.status, 413, "before a byte of it was sent: {}", answer.text);
}

#[actix_web::test]
async fn headers_have_a_limit() {
    let door = Door::open(&[]).await;
    let with = |header: String| {
        format!("GET /openapi.json HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\n{header}\r\n")
    };
    assert_eq!(raw(&door, with(format!("X-A: {}\r\n", "a".repeat(12 * 1024))).as_bytes()).await.status, 200);
    for large in [format!("X-A: {}\r\n", "a".repeat(33 * 1024)), format!("X-A: {}\r\n", "a".repeat(1000)).repeat(34)] {
        assert_eq!(raw(&door, with(large).as_bytes()).await.status, 431);
    }
    let huge = raw(&door, with(format!("X-A: {}\r\n", "a".repeat(300 * 1024))).as_bytes()).await;
    assert!(matches!(huge.status, 0 | 400 | 431), "{}", huge.status);
}

#[actix_web::test]
async fn what_two_parsers_could_read_differently_is_refused() {
    let door = Door::open(&[]).await;
    let post = "POST /auth/oidc/backchannel-logout HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\n";
    for tricks in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "Content-Length: +4\r\n\r\nabcd",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "X Y: 1\r\n\r\n",
    ] {
        let answer = raw(&door, format!("{post}{tricks}").as_bytes()).await;
        assert_eq!(answer.status, 400, "{tricks:?}: {}", answer.text);
    }
}
