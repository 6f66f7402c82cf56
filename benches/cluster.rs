//! What one chain over two nodes costs: `cargo bench --bench cluster`. Two nodes append to the audit log of one PostgreSQL at the
//! same time, beside plain durable commits on the same server. A bar that is missed is printed as missed.

#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod postgres;
#[path = "door/table.rs"]
#[expect(dead_code, reason = "shared with the other bench")]
mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use lokid::{
    domain::{
        event::{Actor, ActorKind, EventName, NewEvent},
        time::Moment,
    },
    store::{Database, Place, Store, ledger::Append},
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use table::{Bar, Row};

const MEASURED: Duration = Duration::from_secs(5);
/// Who acts at once on each node.
const TASKS: usize = 32;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench());
}

async fn bench() {
    let Some(url) = postgres::fresh_database().await else { return };
    let open = async |node: &str| {
        let place = Place { database: Database::Postgres(url.clone()), node: node.into(), is_server: true };
        Store::open(place).await.expect("the database opens")
    };
    let (a, b) = (open("a").await, open("b").await);
    let mut plain = PgConnection::connect(&url).await.expect("a connection");
    plain.execute("CREATE TABLE plain (n BIGINT, text TEXT)").await.expect("made");
    // In turns, because machines are noisy: the middle of each counts.
    let (mut raw, mut raw_many, mut one, mut both) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        raw.push(commits(&url, 2).await);
        raw_many.push(commits(&url, 2 * TASKS).await);
        one.push(appends(&[&a]).await);
        both.push(appends(&[&a, &b]).await);
    }
    let [raw, raw_many, one, both] = [raw, raw_many, one, both].map(middle);
    let per_second = |rate: f64| format!("{rate:.0}/s");
    table::print(&[
        Row::new("plain durable commits of one row, 2 connections", per_second(raw), (1.0, ""), Bar::None),
        Row::new("the same, 64 connections", per_second(raw_many), (raw_many / raw, ""), Bar::None),
        Row::new("audited acts on one node ÷ plain, 2 connections", per_second(one), (one / raw, ""), Bar::None),
        Row::new(
            "audited acts on two nodes ÷ plain, 2 connections",
            per_second(both),
            (both / raw, ""),
            Bar::AtLeast(0.5),
        ),
        Row::new(
            "audited acts on two nodes ÷ plain, 64 connections",
            per_second(both),
            (both / raw_many, ""),
            Bar::AtLeast(0.5),
        ),
    ]);
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Counts what many do until the time is over.
async fn counted<F: Future<Output = ()> + 'static>(work: impl Fn(Arc<AtomicBool>, Arc<AtomicU64>) -> Vec<F>) -> f64 {
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let local = tokio::task::LocalSet::new();
    let begun = Instant::now();
    let all: Vec<_> =
        work(Arc::clone(&over), Arc::clone(&count)).into_iter().map(|one| local.spawn_local(one)).collect();
    local
        .run_until(async {
            tokio::time::sleep(MEASURED).await;
            over.store(true, Relaxed);
            for one in all {
                one.await.expect("it ends");
            }
        })
        .await;
    let done = u32::try_from(count.load(Relaxed)).unwrap_or(u32::MAX);
    f64::from(done) / begun.elapsed().as_secs_f64()
}

async fn commits(url: &str, connections: usize) -> f64 {
    let url = url.to_owned();
    counted(move |over, count| {
        let one = |n: usize| {
            let (url, over, count) = (url.clone(), Arc::clone(&over), Arc::clone(&count));
            async move {
                let mut conn = PgConnection::connect(&url).await.expect("a connection");
                let text = "x".repeat(200);
                while !over.load(Relaxed) {
                    let insert = sqlx::query("INSERT INTO plain VALUES ($1, $2)");
                    insert.bind(i64::try_from(n).unwrap_or(0)).bind(&text).execute(&mut conn).await.expect("committed");
                    count.fetch_add(1, Relaxed);
                }
            }
        };
        (0..connections).map(one).collect()
    })
    .await
}

async fn appends(nodes: &[&Store]) -> f64 {
    counted(move |over, count| {
        let one = |store: &Store| {
            let (store, over, count) = (store.clone(), Arc::clone(&over), Arc::clone(&count));
            async move {
                while !over.load(Relaxed) {
                    let actor = Actor::new(ActorKind::Token, "tok-0123456789ab", "nightly-build");
                    let event = NewEvent::new(Moment::from_millis(1_700_000_000_000), EventName::TaskMoved, actor);
                    store.act(Append { events: vec![event.on("task", "task-1")] }).await.expect("committed");
                    count.fetch_add(1, Relaxed);
                }
            }
        };
        nodes.iter().flat_map(|store| (0..TASKS).map(move |_| *store)).map(one).collect()
    })
    .await
}
