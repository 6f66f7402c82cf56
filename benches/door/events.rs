//! Audit events of the counted class: 64 tasks append one event at a time to a store in this process.

use std::{
    path::Path,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use lokid::{
    domain::{
        event::{Actor, EventName, NewEvent, Outcome},
        time::Clock,
    },
    store::{Database, Place, Store, ledger::Append},
};
use tokio::task::{JoinSet, LocalSet};

const TASKS: usize = 64;
const WHILE: Duration = Duration::from_secs(3);

/// Runs [`measure`] on core 0. Events in a second, and the latency in seconds that 99 of 100 stay below.
pub(crate) fn run(dir: &Path) -> (f64, f64) {
    let own = std::env::current_exe().expect("this program has a path");
    let output = Command::new("taskset").args(["-c", "0"]).arg(own).arg("events").arg(dir).output();
    let output = output.expect("taskset starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
    let (Some(rate), Some(p99)) = (numbers.next(), numbers.next()) else {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr))
    };
    (rate, p99)
}

/// Prints the rate and the latency.
#[expect(clippy::cast_precision_loss, reason = "a count to be read, not to be reckoned with")]
pub(crate) fn measure(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut taken = LocalSet::new().block_on(&runtime, appended(dir));
    taken.sort();
    let rate = taken.len() as f64 / WHILE.as_secs_f64();
    println!("{rate} {}", taken[taken.len() * 99 / 100].as_secs_f64());
}

async fn appended(dir: &Path) -> Vec<Duration> {
    let place = Place { database: Database::Sqlite(dir.join("loki.db")), node: "bench".into(), is_server: true };
    let store = Rc::new(Store::open(place).await.expect("a new database"));
    let mut tasks = JoinSet::new();
    let end = Instant::now() + WHILE;
    for _ in 0..TASKS {
        let store = Rc::clone(&store);
        tasks.spawn_local(async move {
            let mut taken = Vec::new();
            while Instant::now() < end {
                let event = NewEvent::new(Clock::system().now(), EventName::CredentialRefused, Actor::anonymous());
                let event = event.because(Outcome::Denied, "unknown_token").with("route", "GET /api/me");
                let start = Instant::now();
                store.act(Append { events: vec![event] }).await.expect("appended");
                taken.push(start.elapsed());
            }
            taken
        });
    }
    let taken = tasks.join_all().await.concat();
    store.close().await;
    taken
}
