//! Runs: lists and logs of a full house, open streams, and a command that prints as fast as it can.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use lokid::{
    domain::{
        entropy::Entropy,
        event::{Actor, EventName, NewEvent},
        run::{Ending, Progress, Run, RunId, RunState},
        time::Clock,
    },
    store::{
        Database, Place, Store,
        runs::{
            acts::{End, Enqueue},
            lines::{NewLine, TakeLines},
        },
    },
};

use crate::{
    http::Http,
    median, process,
    server::{Server, Site, until},
    site,
    table::{Bar, Row},
};

const RUNS: usize = 10_000;
const LINES_EACH: usize = 100;
const STREAMS: usize = 200;

/// All measures of runs.
pub(crate) fn runs() -> Vec<Row> {
    let mut rows = full_house();
    rows.extend(streams());
    rows.extend(loud());
    rows
}

fn one() -> Run {
    Run {
        id: RunId::from_random(Entropy.bytes()),
        turn: 0,
        state: RunState::Queued,
        node: "bench".into(),
        source: Some("./prd.md".into()),
        provider: None,
        config: None,
        request_id: None,
        replay_of: None,
        created_by: "bench".into(),
        created_by_name: "bench".into(),
        created_at: Clock::system().now(),
        started_at: None,
        stop_asked_at: None,
        ended_at: None,
        pid: None,
        exit_code: None,
        reason: String::new(),
        token: None,
        log_lines: 0,
        progress: Progress::default(),
    }
}

/// A run that is over, with its log.
async fn fill_one(store: &Store, n: usize) -> RunId {
    let run = one();
    let (id, now) = (run.id.clone(), run.created_at);
    let event = |name| NewEvent::new(now, name, Actor::system()).on("run", id.as_str());
    let act = Enqueue { run, input: "- x".into(), limit: i64::MAX, event: event(EventName::RunStarted) };
    store.act(act).await.expect("committed");
    let text = |line: usize| format!("line {line} of run {n}: what a command says while it works through its list");
    let lines = (0..LINES_EACH).map(|line| NewLine { time: now, stream: "out", text: text(line) }).collect();
    store.act(TakeLines { id: id.clone(), from: 0, to: 1, lines }).await.expect("committed");
    let ending = if n.is_multiple_of(10) { Ending::Code(1) } else { Ending::Code(0) };
    let (ended, token) = (event(EventName::RunCompleted), event(EventName::TokenRevoked));
    store.act(End { id: id.clone(), ending, event: ended, token_event: token }).await.expect("committed");
    id
}

fn fill(site: &Site) -> RunId {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let place = Place { database: Database::Sqlite(site.database()), node: "bench".into(), is_server: true };
        let store = Store::open(place).await.expect("the database opens");
        let mut last = None;
        for first in (0..RUNS).step_by(100) {
            let filled = (first..first + 100).map(|n| fill_one(&store, n));
            last = futures_util::future::join_all(filled).await.pop();
        }
        store.close().await;
        last.expect("there are some")
    })
}

fn header(file: PathBuf) -> (String, String) {
    let text = fs::read_to_string(file).expect("the credential was written");
    let (name, value) = text.trim().split_once(": ").expect("a header");
    (name.to_owned(), value.to_owned())
}

/// The median time of an answer, in milliseconds.
fn time(http: &mut Http, credential: &(String, String), path: &str) -> f64 {
    let times = (0..60).map(|_| {
        let began = Instant::now();
        let answer = http.get(path, &[(&credential.0, &credential.1)]).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        began.elapsed().as_secs_f64() * 1000.0
    });
    median(times.collect())
}

fn full_house() -> Vec<Row> {
    let (_dir, site) = site::new();
    let root = header(site::root(&site));
    let last = fill(&site);
    let server = site.start();
    let cookie = header(site::session(&site, &server));
    let mut http = server.http();
    let paths = [
        ("`/api/v2/runs`", &root, "/api/v2/runs".to_owned()),
        ("`/api/v2/runs`, in the middle", &root, "/api/v2/runs?limit=100&cursor=5000".to_owned()),
        ("`/api/v2/runs?status=failed`", &root, "/api/v2/runs?status=failed&cursor=5000".to_owned()),
        ("`/api/logs`, all runs", &root, "/api/logs?lines=1000".to_owned()),
        ("`/api/logs` of a run", &root, format!("/api/logs?lines=1000&run_id={last}")),
        ("page `/runs`", &cookie, "/runs".to_owned()),
        ("page `/runs`, in the middle", &cookie, "/runs?cursor=5000".to_owned()),
        ("page of a run", &cookie, format!("/runs/{last}")),
        ("page `/`", &cookie, "/".to_owned()),
    ];
    let row = |(name, credential, path): (&str, &(String, String), String)| {
        let value = (time(&mut http, credential, &path), " ms");
        Row::new(format!("{name}; 10,000 runs, 1,000,000 lines"), "median of 60", value, Bar::AtMost(50.0))
    };
    paths.map(row).into()
}

/// A stream of events that is being read to its greeting.
fn open_stream(server: &Server, credential: &(String, String)) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    let request = format!(
        "GET /api/events HTTP/1.1\r\nhost: localhost:{}\r\n{}: {}\r\n\r\n",
        server.port, credential.0, credential.1
    );
    (&stream).write_all(request.as_bytes()).expect("sent");
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    while !line.contains("hello") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).expect("an answer"), 0, "the stream ended");
    }
    stream
}

/// Reads what a stream has, without waiting.
fn drain(stream: &TcpStream) {
    stream.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 16 * 1024];
    while matches!((&*stream).read(&mut bytes), Ok(n) if n > 0) {}
}

/// The median time of `/api/status` right behind a task that is made, which is when streams are told of it. Without a
/// rest there is one act after the other, and the streams are always being told.
fn busy(http: &mut Http, root: &(String, String), streams: &[TcpStream], rest: Duration) -> f64 {
    let token = root.1.trim_start_matches("Bearer ").to_owned();
    let times = (0..200).map(|n| {
        std::thread::sleep(rest);
        let made = http.call(&token, "POST", "/api/tasks", &format!(r#"{{"title":"task {n}"}}"#)).expect("an answer");
        assert_eq!(made.status, 201, "{}", made.body);
        streams.iter().for_each(drain);
        let began = Instant::now();
        let answer = http.get("/api/status", &[(&root.0, &root.1)]).expect("an answer");
        assert_eq!(answer.status, 200);
        began.elapsed().as_secs_f64() * 1000.0
    });
    median(times.collect())
}

/// Longer than a round through all streams takes.
const REST: Duration = Duration::from_millis(80);

fn streams() -> Vec<Row> {
    let (_dir, site) = site::new();
    let root = header(site::root(&site));
    let server = site.start();
    let mut http = server.http();
    let paces = [("one act after the other", Duration::ZERO), ("an act now and then", REST)];
    busy(&mut http, &root, &[], Duration::ZERO);
    let mut cost = 0.0_f64;
    let mut measured: [Vec<(f64, f64)>; 2] = Default::default();
    // In turns: what a machine does beside it falls on both.
    for _ in 0..crate::RUNS {
        for ((_, rest), measured) in paces.iter().zip(&mut measured) {
            let alone = busy(&mut http, &root, &[], *rest);
            let before = process::resident(server.child.id());
            let open: Vec<_> = (0..STREAMS).map(|_| open_stream(&server, &root)).collect();
            let beside = busy(&mut http, &root, &open, *rest);
            cost = cost.max(process::resident(server.child.id()) - before);
            measured.push((beside, alone));
        }
    }
    let mut rows = vec![Row::new("memory of 200 open event streams", "most", (cost, " MiB"), Bar::AtMost(20.0))];
    rows.extend(paces.iter().zip(measured).map(|((pace, _), measured)| {
        let ratio = median(measured.iter().map(|(beside, alone)| beside / alone).collect());
        let (beside, alone): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        Row::new(
            format!("`/api/status` beside 200 streams that are told of every act ÷ without; {pace}"),
            format!("{:.2} ms, {:.2} ms", median(beside), median(alone)),
            (ratio, ""),
            Bar::AtMost(1.2),
        )
    }));
    rows
}

/// A command that prints as fast as it can for five seconds.
fn loud() -> Vec<Row> {
    let (dir, mut site) = site::new();
    // Not on the server's core alone: the command and its supervisor are processes of their own.
    site.before.clear();
    site.env.extend([
        (
            "LOKI_RUNS_COMMAND",
            r#"["/usr/bin/timeout", "5", "/usr/bin/yes", "0123456789012345678901234567890123456789"]"#.into(),
        ),
        ("LOKI_RUNS_WORKSPACE", dir.path().display().to_string()),
    ]);
    let root = header(site::root(&site)).1.trim_start_matches("Bearer ").to_owned();
    let server = site.start();
    let mut http = server.http();
    let before = process::resident(server.child.id());
    let started = http.call(&root, "POST", "/api/control/start", r#"{"prd_text":"x"}"#).expect("an answer").json();
    let id = started["run_id"].as_str().expect("a run").to_owned();
    let (mut most, mut supervisor) = (0.0_f64, 0.0_f64);
    until(Duration::from_secs(30), || {
        most = most.max(process::resident(server.child.id()));
        supervisor = supervisor.max(supervisor_of(&server).map_or(0.0, process::resident));
        std::thread::sleep(Duration::from_millis(20));
        http.call(&root, "GET", "/api/status", "").is_ok_and(|a| a.json()["active_sessions"] == 0)
    });
    let log = http.call(&root, "GET", &format!("/api/logs?lines=1&run_id={id}"), "").expect("an answer").json();
    let marker = log[0]["message"].as_str().unwrap_or_default().to_owned();
    let cut: f64 = marker.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0.0);
    vec![
        Row::new("a command that prints as fast as it can", marker, (cut / 5.0 / 1e6, " MB/s"), Bar::AtLeast(100.0)),
        Row::new(
            "the server's memory meanwhile, more than before",
            "16 MiB are kept",
            (most - before, " MiB"),
            Bar::AtMost(20.0),
        ),
        Row::new("the supervisor's memory", "most", (supervisor, " MiB"), Bar::AtMost(20.0)),
    ]
}

/// The child of the server.
fn supervisor_of(server: &Server) -> Option<u32> {
    let pid = server.child.id();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find_map(|pid| pid.parse().ok())
}
