//! What a log of years costs: `cargo bench --bench evidence [-- ENTRIES] [postgres]`, ten million on SQLite by default. A
//! log with a valid chain and checkpoints is made on the disk that this build lies on (PostgreSQL: in the temporary
//! directory); then appending, paging, starting, verifying and exporting are measured on it. PostgreSQL's bars are
//! half as high. A bar that is missed is printed as missed. `kept` leaves a log on SQLite where it is, for the next run.

#[path = "../tests/durability/http.rs"]
#[expect(dead_code, reason = "shared with the durability tests")]
mod http;
#[path = "../tests/support/postgres.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod postgres;
#[path = "door/process.rs"]
#[expect(dead_code, reason = "shared with the other bench")]
mod process;
#[path = "../tests/durability/server.rs"]
#[expect(dead_code, reason = "shared with the durability tests")]
mod server;
#[path = "door/table.rs"]
#[expect(dead_code, reason = "shared with the other bench")]
mod table;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lokid::{
    audit::{
        export::{Export, Format, Wanted},
        verify,
    },
    domain::{
        checkpoint::Vouching,
        event::{Actor, ActorKind, EventName, NewEvent, Origin, Outcome},
        time::{Clock, Moment},
    },
    keys::{sign::SigningKey, verify::PublicKeys},
    store::{
        Database, Place, Store,
        evidence::{Sign, Signer},
        ledger::{Append, Filter},
    },
};
use server::Site;
use table::{Bar, Row};

/// Events in one commit while the log is made.
const AT_ONCE: i64 = 2_000;
/// Who acts at once.
const TASKS: usize = 64;
/// The first event's time, in milliseconds; each is ten later than the one before.
const FIRST: i64 = 1_700_000_000_000;
const MEASURED: Duration = Duration::from_secs(3);

fn main() {
    let asked = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let says = |word: &str| std::env::args().any(|text| text == word);
    let asked = Asked { entries: asked.unwrap_or(10_000_000), on_postgres: says("postgres"), kept: says("kept") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench(asked));
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Asked {
    entries: i64,
    on_postgres: bool,
    kept: bool,
}

/// Everything, on one engine.
async fn bench(Asked { entries, on_postgres, kept }: Asked) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(target).expect("a directory");
    let empty = house(&dir.path().join("empty"), on_postgres).await;
    let full = if kept { target.join("evidence") } else { dir.path().join("full") };
    let full = house(&full, on_postgres).await;
    let key = SigningKey::of_seed(&[7; 32]);
    let (kid, jwk, trusted) = (key.kid().to_owned(), key.jwk().to_string(), PublicKeys::of([&key]));
    let signer = Signer { kid, jwk, sign: Arc::new(move |typ, says| key.sign(typ, says)) };
    let made = Instant::now();
    if full.store.audit_head().await.expect("a head").seq < entries {
        fill(&full.store, entries, &signer).await;
        eprintln!("{entries} entries were made in {:.0} s", made.elapsed().as_secs_f64());
    }
    // Servers that were measured on a log that is kept signed it too.
    let keys = full.store.evidence_keys().await.expect("keys");
    let keys = keys.iter().filter_map(|jwk| jwk["kid"].as_str()).map(str::to_owned).collect();
    let vouching = Vouching { keys, endorsement: None };
    let now = Moment::from_millis(FIRST + entries * 10);
    let sign = Sign { signer: signer.clone(), cadence: None, now, vouching };
    full.store.act(sign).await.expect("committed");
    while full.store.note_times().await.expect("noted") {}
    let slower = if on_postgres { 2.0 } else { 1.0 };
    let mut rows = appending(&empty.store, &full.store, entries, slower).await;
    rows.extend(paging(&full.store, entries, slower).await);
    rows.extend(walking(&full.store, trusted, signer, slower).await);
    rows.push(verifying_on_one_core(&full, slower).await);
    table::print(&rows);
    // The servers take the lock on the file.
    let mut sites = Vec::new();
    for House { store, site } in [empty, full] {
        store.close().await;
        drop(store);
        sites.push(site);
    }
    table::print(&[starting(&sites[0], &sites[1])]);
}

/// A database, and where a server would run on it.
struct House {
    store: Store,
    site: Site,
}

async fn house(dir: &Path, on_postgres: bool) -> House {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut site = Site::new(dir);
    let mut database = Database::Sqlite(site.database());
    if on_postgres {
        let url = postgres::fresh_database().await.expect("PostgreSQL is installed");
        site.env.push(("LOKI_DATABASE_URL", url.clone()));
        database = Database::Postgres(url);
    }
    let place = Place { database, node: "bench".into(), is_server: true };
    House { store: Store::open(place).await.expect("the database opens"), site }
}

/// How long a server takes until it is ready.
fn starting(empty: &Site, full: &Site) -> Row {
    // The first start makes what later ones find.
    let _ = [empty, full].map(process::start);
    let (few, many): (Vec<_>, Vec<_>) = (0..9).map(|_| (process::start(empty).0, process::start(full).0)).unzip();
    let (few, many) = (median(few), median(many));
    let value = format!("{many:.1} ms, {few:.1} ms; median of 9");
    Row::new("start to ready, full log ÷ empty one", value, (many / few, ""), Bar::AtMost(1.2))
}

/// An event as a day has them, mostly uses; every hundred thousandth is a rare one.
fn event(n: i64) -> NewEvent {
    let time = Moment::from_millis(FIRST + n * 10);
    if n % 100_000 == 99_999 {
        let ann = Actor::new(ActorKind::Person, "person-ann", "ann");
        return NewEvent::new(time, EventName::KeyAdded, ann).on("key", "k").because(Outcome::Denied, "rare");
    }
    let names = [EventName::TokenUsed, EventName::CredentialRefused, EventName::TaskMoved, EventName::TokenUsed];
    let name = names[usize::try_from(n % 4).unwrap_or(0)];
    let actor = Actor::new(ActorKind::Token, &format!("tok-{:012}", n % 5000), "nightly-build");
    let origin = Origin {
        request_id: Some(format!("{n:016x}")),
        ip: Some("192.0.2.17".into()),
        user_agent: Some("curl/8.5.0".into()),
    };
    NewEvent::new(time, name, actor).on("token", "tok-0123456789ab").from(&origin)
}

async fn fill(store: &Store, entries: i64, signer: &Signer) {
    let mut n = 0;
    while n < entries {
        let end = (n + AT_ONCE).min(entries);
        store.act(Append { events: (n..end).map(event).collect() }).await.expect("committed");
        n = end;
        let now = Moment::from_millis(FIRST + n * 10);
        let sign = Sign { signer: signer.clone(), cadence: None, now, vouching: Vouching::default() };
        store.act(sign).await.expect("committed");
    }
}

/// Acts a second of so many at once.
async fn append_rate(store: &Store, at_once: usize, entries: i64) -> f64 {
    let begun = Instant::now();
    let one = async || {
        let mut done = 0_u32;
        while begun.elapsed() < MEASURED {
            store.act(Append { events: vec![event(entries)] }).await.expect("committed");
            done += 1;
        }
        done
    };
    let done: u32 = futures_util::future::join_all((0..at_once).map(|_| one())).await.into_iter().sum();
    f64::from(done) / begun.elapsed().as_secs_f64()
}

async fn appending(empty: &Store, full: &Store, entries: i64, slower: f64) -> Vec<Row> {
    let (mut ratios, mut grouped) = (Vec::new(), Vec::new());
    let (mut rate, mut single) = (0.0, 0.0);
    for _ in 0..3 {
        let (few, many) = (append_rate(empty, TASKS, entries).await, append_rate(full, TASKS, entries).await);
        ratios.push(few / many);
        rate = many;
        single = append_rate(full, 1, entries).await;
        grouped.push(many / single);
    }
    let value = format!("{rate:.0}/s, {TASKS} at once");
    let groups = format!("{rate:.0}/s, {single:.0}/s");
    vec![
        Row::new("appending, empty table ÷ full one", value, (median(ratios), ""), Bar::AtMost(1.5 * slower)),
        Row::new(format!("group commit: {TASKS} at once ÷ one"), groups, (median(grouped), ""), Bar::AtLeast(5.0)),
    ]
}

async fn paging(store: &Store, entries: i64, slower: f64) -> Vec<Row> {
    let filter = |event: &str, before| Filter { event: Some(event.into()), before, ..Filter::default() };
    let middle = Moment::from_millis(FIRST + entries * 5);
    let in_the_middle =
        Filter { start: Some(middle), end: Some(middle.plus(Duration::from_hours(1))), ..Filter::default() };
    let cases = [
        ("the newest page", Filter::default()),
        ("the oldest page", Filter { before: Some(51), ..Filter::default() }),
        ("a page of one event", filter("auth.fail", None)),
        ("a page of one event, in the middle", filter("auth.fail", Some(entries / 2))),
        ("a page of one actor", Filter { actor: Some("tok-000000004711".into()), ..Filter::default() }),
        ("a page of a rare actor, by id", Filter { actor: Some("person-ann".into()), ..Filter::default() }),
        ("a page of a rare actor, by name", Filter { actor: Some("ann".into()), ..Filter::default() }),
        ("a page of a rare outcome", Filter { outcome: Some("denied".into()), ..Filter::default() }),
        ("a page of rare events", filter("key.*", None)),
        ("a page of an hour in the middle", in_the_middle),
    ];
    let mut rows = Vec::new();
    for (name, filter) in cases {
        let mut times = Vec::new();
        for _ in 0..11 {
            let begun = Instant::now();
            assert!(!store.audit_page(&filter, 50).await.expect("a page").is_empty(), "{name}");
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        rows.push(Row::new(name, "median of 11", (median(times), " ms"), Bar::AtMost(100.0 * slower)));
    }
    rows
}

async fn walking(store: &Store, trusted: PublicKeys, signer: Signer, slower: f64) -> Vec<Row> {
    let before = resident();
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let report = verify::database(store, trusted, &[]).await.expect("it can be read");
    let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert!(report.flaw.is_none(), "{report:?}");
    let grown = resident() - before;
    let rate = rate(report.entries, took);
    let busy = format!("{took:.1} s, {cpu:.1} s of CPU, {} checkpoints", report.checkpoints);
    let mut rows = vec![
        Row::new("verifying, on all cores", busy, (rate, " entries/s"), Bar::AtLeast(300_000.0 / slower)),
        Row::new("memory that it takes", "", (grown, " MiB"), Bar::AtMost(16.0)),
    ];
    for (name, format) in [("JSON lines", Format::Jsonl), ("CSV", Format::Csv)] {
        let wanted = Wanted { filter: Filter::default(), asked: String::new(), format };
        let begun = Instant::now();
        let now = Clock::system().now();
        let mut export = Export::of(store.clone(), wanted, Some(signer.clone()), now).await.expect("an export");
        let mut bytes = 0;
        while let Some(piece) = export.piece().await.expect("a piece") {
            bytes += piece.len();
        }
        let took = begun.elapsed().as_secs_f64();
        let value = format!("{took:.1} s, {} MiB", bytes >> 20);
        rows.push(Row::new(
            format!("exporting {name}"),
            value,
            (self::rate(report.entries, took), " entries/s"),
            Bar::AtLeast(200_000.0 / slower),
        ));
    }
    rows
}

/// The command, with all that it does, on one core (of PostgreSQL, which has the others, nothing is counted).
async fn verifying_on_one_core(House { store, site }: &House, slower: f64) -> Row {
    let one = Site { before: vec!["taskset", "-c", "0"], env: site.env.clone(), ..Site::new(&site.dir) };
    let took = |_| {
        let begun = Instant::now();
        let output = one.command(&["enterprise", "audit", "verify"]).output().expect("taskset is there");
        // It reads to the end before it says that the key of this bench is not one that the servers had, which signed a
        // kept log.
        assert!(matches!(output.status.code(), Some(0 | 6)), "{}", String::from_utf8_lossy(&output.stderr));
        begun.elapsed().as_secs_f64()
    };
    let took = median((0..3).map(took).collect());
    let entries = store.audit_head().await.expect("a head").seq;
    let rate = rate(entries, took);
    Row::new(
        "verifying, on one core",
        format!("{took:.1} s; median of 3"),
        (rate, " entries/s"),
        Bar::AtLeast(300_000.0 / slower),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a count of entries is far below 2^52")]
fn rate(entries: i64, seconds: f64) -> f64 {
    entries as f64 / seconds
}

/// Memory of this process in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib / 1024.0)
}

/// Of this process, in user and kernel, in hundredths of a second as Linux counts them.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
