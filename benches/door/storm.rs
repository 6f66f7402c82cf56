//! Tokens that name keys which nobody knows, a hundred a second, and what good tokens of the same issuer notice of it.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use lokid::{domain::time::Clock, keys::sign::SigningKey};

use crate::{
    http::Http,
    server::Server,
    site,
    table::{Bar, Row},
    workload::{Issuer, Mood},
};

/// Bad tokens of one storm, over ten seconds.
const BAD: u32 = 1000;
const WHILE: Duration = Duration::from_secs(10);

/// The time in milliseconds in which ninety-nine of a hundred good tokens are let in.
fn p99(server: &Server, good: &[String]) -> f64 {
    let (mut http, begun, mut times) = (server.http(), Instant::now(), Vec::new());
    for token in good.iter().cycle() {
        if begun.elapsed() >= WHILE {
            break;
        }
        let began = Instant::now();
        let answer = http.get("/api/me", &[("authorization", token)]).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// Sends the bad ones, evenly, from several connections: one that hangs must not thin out the storm.
fn rage(server: &Server, bad: &[String], over: &AtomicBool) {
    let begun = Instant::now();
    thread::scope(|scope| {
        for (token, n) in bad.iter().zip(0..) {
            let due = WHILE * n / BAD;
            thread::sleep(due.saturating_sub(begun.elapsed()));
            if over.load(Relaxed) {
                return;
            }
            let mut http: Http = server.http();
            scope.spawn(move || {
                let answer = http.get("/api/me", &[("authorization", token)]).expect("an answer");
                assert!(matches!(answer.status, 401 | 503), "{}", answer.body);
            });
        }
    });
}

/// All moods of the issuer, each beside a quiet measure.
pub(crate) fn storm() -> Vec<Row> {
    let issuer = Issuer::start("ES256");
    let (dir, mut place) = site::new();
    place.env.push(("LOKI_JWT_ISSUERS", issuer.entry()));
    let server = place.start();
    let file = issuer.tokens(dir.path(), 20_000);
    let text = std::fs::read_to_string(file).expect("the tokens");
    let good: Vec<String> = text.lines().filter_map(|line| Some(line.split_once(": ")?.1.to_owned())).collect();
    let now = Clock::system().now().seconds();
    let moods =
        [("answers", Mood::Keys), ("answers 500", Mood::Failing), ("is empty", Mood::Empty), ("hangs", Mood::Hanging)];
    moods
        .into_iter()
        .map(|(name, mood)| {
            let bad: Vec<String> =
                (0..BAD).map(|n| format!("Bearer {}", issuer.bad_token(&SigningKey::generate(), now, n))).collect();
            issuer.set(Mood::Keys);
            let quiet = p99(&server, &good);
            issuer.set(mood);
            let before = issuer.looks();
            let over = AtomicBool::new(false);
            let stormy = thread::scope(|scope| {
                scope.spawn(|| rage(&server, &bad, &over));
                let stormy = p99(&server, &good);
                over.store(true, Relaxed);
                stormy
            });
            let value = format!("{stormy:.2} ms, {quiet:.2} ms; {} looks at its keys", issuer.looks() - before);
            let measure =
                format!("p99 of good tokens beside {BAD} that name unknown keys, whose key set {name} ÷ without");
            Row::new(measure, value, (stormy / quiet, ""), Bar::AtMost(2.0))
        })
        .collect()
}
