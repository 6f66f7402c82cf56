//! `/api/events`: what is told to whom, from where on, and until when.

use std::{fs, time::Duration};

use futures_util::StreamExt as _;
use lokid::actions::happenings;
use serde_json::{Value, json};

use crate::{
    door::{Client, Door},
    workshop::{open, start, until_it_is},
};

/// An event as it came.
#[derive(Debug, Clone)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// A stream that is being read.
struct Reader {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<actix_web::web::Bytes>>,
    text: String,
}

impl Reader {
    async fn open(who: &impl Client, query: &str, last: Option<&str>) -> Self {
        let mut request = who.ask("GET", &format!("/api/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let mut reader = Self { body: answer.bytes_stream().boxed(), text: String::new() };
        assert_eq!(reader.next().await.unwrap().kind, "hello");
        reader
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((one, rest)) = self.text.split_once("\n\n") {
                let (one, rest) = (one.to_owned(), rest.to_owned());
                self.text = rest;
                if one.contains("data: ") {
                    return Some(read(&one));
                }
            }
            let waited = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await;
            match waited.expect("an event in time") {
                Some(Ok(bytes)) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                _ => return None,
            }
        }
    }

    /// The next event of this kind.
    async fn next_of(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.kind == kind {
                return event;
            }
        }
    }
}

fn read(text: &str) -> Event {
    let field = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().to_owned()
    };
    Event { id: field("id: "), kind: field("event: "), data: serde_json::from_str(&field("data: ")).unwrap() }
}

#[actix_web::test]
async fn runs_lines_and_tasks_are_told_in_order_and_again_from_where_a_reader_was() {
    let door = open("echo one; echo two; until [ -e done ]; do sleep 0.02; done; echo three", &[]).await;
    let operator = door.token("control").await;
    let mut reader = Reader::open(&operator, "", None).await;
    let id = start(&operator).await;
    let begun = reader.next_of("run").await;
    assert_eq!((&begun.data["event"], &begun.data["id"]), (&json!("run.start"), &json!(id)));
    let line = reader.next_of("log").await;
    assert_eq!(
        (&line.data["message"], &line.data["run_id"], &line.data["number"]),
        (&json!("one"), &json!(id), &json!(1))
    );
    operator.post("/api/tasks", &json!({"title": "t"})).await;
    assert_eq!(reader.next_of("task").await.data["event"], "task.create");
    drop(reader);

    fs::write(door.work("done"), "").unwrap();
    until_it_is(&operator, &id, "completed").await;
    let mut again = Reader::open(&operator, "", Some(&line.id)).await;
    let mut told = Vec::new();
    while told.last() != Some(&"run.complete".to_owned()) {
        let event = again.next().await.unwrap();
        told.push(match event.kind.as_str() {
            "log" => event.data["message"].as_str().unwrap().to_owned(),
            _ => event.data["event"].as_str().unwrap().to_owned(),
        });
    }
    assert_eq!(told, ["two", "three", "task.create", "run.complete"]);
    // And what comes then comes once.
    operator.post("/api/tasks", &json!({"title": "u"})).await;
    assert_eq!(again.next().await.unwrap().data["event"], "task.create");
}

#[actix_web::test]
async fn a_reader_gets_what_it_asked_for_and_may_see() {
    let door = open("echo hello", &[]).await;
    let (operator, auditor, reader) =
        (door.token("control").await, door.token("read audit").await, door.token("read").await);
    let mut only_log = Reader::open(&reader, "?types=log", None).await;
    let mut audit = Reader::open(&auditor, "?types=audit", None).await;
    let mut public = Reader::open(&reader, "", None).await;
    let id = start(&operator).await;
    assert_eq!(only_log.next().await.unwrap().data["message"], "hello");
    let entry = audit.next_of("audit").await;
    assert_eq!((&entry.data["event"], &entry.data["actor"]["id"]), (&json!("run.start"), &json!(operator.id.as_str())));
    let change = public.next_of("run").await;
    assert!(change.data.get("actor").is_none() && change.data.get("ip").is_none(), "{change:?}");
    until_it_is(&operator, &id, "completed").await;
    let mut of_another = Reader::open(&reader, "?run_id=run-aaaaaaaaaaaa", Some("0-0")).await;
    door.audit("run.start").await;
    assert!(tokio::time::timeout(Duration::from_millis(300), of_another.next()).await.is_err());
    let mut of_this = Reader::open(&reader, &format!("?run_id={id}"), Some("0-0")).await;
    assert!(of_this.next().await.is_some());

    let mut since = Reader::open(&reader, "?types=run&since=0-0", None).await;
    assert_eq!(since.next().await.unwrap().data["event"], "run.start");
    for (query, status) in
        [("?since=x", 422), ("?types=audit", 403), ("?types=x", 422), ("?run_id=x", 422), ("?limit=1", 422)]
    {
        reader.get(&format!("/api/events{query}")).await.problem(status);
    }
    let wrong = reader.ask("GET", "/api/events").header("last-event-id", "yesterday");
    crate::door::answer(wrong).await.problem(422);
}

#[actix_web::test]
async fn a_stream_ends_within_a_second_when_its_credential_dies_and_others_go_on() {
    let door = Door::open(&[]).await;
    let (dies, lives) = (door.token("read").await, door.token("write").await);
    let ann = door.person("ann", "operators").await;
    let mut streams = [Reader::open(&dies, "", None).await, Reader::open(&ann, "", None).await];
    let mut other = Reader::open(&lives, "", None).await;
    let admin = door.token("*").await;
    let began = std::time::Instant::now();
    let ended = crate::door::answer(admin.ask("DELETE", &format!("/api/enterprise/tokens/{}", dies.id))).await;
    assert_eq!(ended.status, 200);
    assert_eq!(ann.submit("/auth/logout", &[]).await.status, 303);
    for stream in &mut streams {
        assert!(stream.next().await.is_none());
    }
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    lives.post("/api/tasks", &json!({"title": "t"})).await;
    assert_eq!(other.next_of("task").await.data["event"], "task.create");
}

#[actix_web::test]
async fn a_stream_ends_with_its_session_and_does_not_keep_it_alive() {
    let door = Door::open(&[("LOKI_SESSIONS_IDLE", "10m")]).await;
    let ann = door.person("ann", "operators").await;
    let mut stream = Reader::open(&ann, "", None).await;
    let token = door.token("write").await;
    door.clock.advance(Duration::from_mins(9));
    token.post("/api/tasks", &json!({"title": "t"})).await;
    assert_eq!(stream.next().await.unwrap().kind, "task");
    door.clock.advance(Duration::from_mins(2));
    assert!(stream.next().await.is_none());
    ann.get("/api/me").await.problem(401);
}

#[actix_web::test]
async fn streams_are_bounded_in_number_and_end_with_the_server() {
    let door = Door::open(&[("LOKI_LIMITS_EVENT_STREAMS", "1")]).await;
    let reader = door.token("read").await;
    // A HEAD has no body that could be read, so it must not hold a place.
    for _ in 0..3 {
        assert_eq!(crate::door::answer(reader.ask("HEAD", "/api/events")).await.status, 200);
    }
    let mut open = Reader::open(&reader, "", None).await;
    assert!(reader.get("/api/events").await.problem(429).contains("limits.event_streams"));
    happenings::end_all(&door.app);
    assert!(open.next().await.is_none());
}

#[actix_web::test]
async fn a_reader_that_does_not_read_is_cut_off_and_others_go_on() {
    let script = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 8000000";
    let door = open(script, &[("LOKI_LIMITS_UNREAD_TIMEOUT", "5s"), ("LOKI_LIMITS_EVENT_STREAMS", "4")]).await;
    let operator = door.token("control").await;
    let stuck = std::net::TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    let request = format!(
        "GET /api/events HTTP/1.1\r\nhost: localhost:{}\r\nauthorization: Bearer {}\r\n\r\n",
        door.port, operator.secret
    );
    std::io::Write::write_all(&mut &stuck, request.as_bytes()).unwrap();
    let mut other = Reader::open(&operator, "?types=run", None).await;
    operator.get("/api/events").await.problem(429);
    let id = start(&operator).await;
    until_it_is(&operator, &id, "completed").await;
    while other.next_of("run").await.data["event"] != "run.complete" {}
    // Its place is free again, though it never read and never went.
    for _ in 0..1000 {
        let begun = operator.ask("GET", "/api/events").send().await.unwrap();
        if begun.status() == 200 {
            drop(stuck);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the reader that does not read is still served");
}
