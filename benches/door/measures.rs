//! The measures, each beside what it is compared with.

use std::time::Duration;

use crate::{
    RUNS,
    bare::Bare,
    events, handshakes,
    load::{self, Run},
    median, process,
    server::{Site, until},
    site, sync,
    table::{Bar, Row},
    workload::Issuer,
};

/// Tokens in the large set.
const MANY: usize = 100_000;
const SECONDS: u32 = 3;

fn rates(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.rate).collect())
}

fn show(runs: &[Run]) -> String {
    let cpu = median(runs.iter().map(|run| run.cpu).collect());
    format!("{:.0}/s, {cpu:.1} µs of CPU each", rates(runs))
}

/// The median of the ratios of runs that stood side by side.
fn ratio(of: &[Run], to: &[Run], by: fn(&Run) -> f64) -> f64 {
    median(of.iter().zip(to).map(|(a, b)| by(a) / by(b)).collect())
}

/// Until one run has been through all tokens, so that each was read from the database before.
#[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
fn warm_up(run: impl Fn() -> Run) {
    let all = |run: Run| run.answers > MANY as f64 * 1.5;
    assert!((0..30).any(|_| all(run())), "the server is too slow to know all tokens");
}

/// Requests that only ask who is calling. The server with many tokens is stopped while the other is measured:
/// it notes last uses in the background, which is its own cost and nobody else's.
pub(crate) fn reading() -> Vec<Row> {
    let ((dir, small), (_large_dir, large)) = (site::new(), site::new());
    let (few, many) = (site::tokens(&small, 10), site::tokens(&large, MANY));
    let (server, loaded) = (small.start(), large.start());
    let cookie = site::session(&small, &server);
    let bare = Bare::start(Site::new(dir.path()).port);
    let (ours, theirs) = ((small.port, server.child.id()), (bare.1, bare.0.id()));
    let full = (large.port, loaded.child.id());
    let mut measured: [Vec<Run>; 4] = Default::default();
    // The first round warms up.
    for round in 0..=RUNS {
        process::pause(full.1, true);
        for (at, (target, headers)) in [(theirs, &few), (ours, &few), (ours, &cookie)].into_iter().enumerate() {
            let run = load::read(dir.path(), target, SECONDS, headers);
            measured[at].extend((round > 0).then_some(run));
        }
        process::pause(full.1, false);
        if round == 0 {
            warm_up(|| load::read(dir.path(), full, 2 * SECONDS, &many));
        }
        let run = load::read(dir.path(), full, SECONDS, &many);
        measured[3].extend((round > 0).then_some(run));
    }
    let [bare, few, cookie, many] = &measured;
    let rate: fn(&Run) -> f64 = |run| run.rate;
    let cpu: fn(&Run) -> f64 = |run| 1.0 / run.cpu;
    let row = |name: &str, of: &[Run], to: &[Run], least: f64| {
        [
            Row::new(name, show(of), (ratio(of, to, rate), ""), Bar::AtLeast(least)),
            Row::new(format!("{name}, by CPU time"), "", (ratio(of, to, cpu), ""), Bar::None),
        ]
    };
    let mut rows = vec![Row::new("bare handler", show(bare), (1.0, ""), Bar::None)];
    rows.extend(row("`GET /api/me`, token ÷ bare", few, bare, 0.80));
    rows.extend(row("`GET /api/me`, 100,000 tokens ÷ 10", many, few, 0.90));
    rows.extend(row("`GET /api/me`, session cookie ÷ bare", cookie, bare, 0.65));
    let (busy, full) = (process::resident(ours.1), process::resident(full.1));
    rows.push(Row::new("memory under reading load", "10 tokens and a session", (busy, " MiB"), Bar::AtMost(40.0)));
    rows.push(Row::new("memory with 100,000 tokens in use", "", (full, " MiB"), Bar::None));
    rows
}

/// Requests that a reverse proxy asks about, with headers and an assertion about whoever sends them.
pub(crate) fn forwarding() -> Vec<Row> {
    let (dir, mut place) = site::new();
    let apps = "[{host: app.example, rules: [{path: /, scope: read}]}]";
    place.env.extend([
        ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("LOKI_FORWARD_AUTH_APPS", apps.to_owned()),
        ("LOKI_SERVER_SECRET", "a secret of the bench, long enough for it".to_owned()),
    ]);
    let token = site::tokens(&place, 1);
    let server = place.start();
    let cookie = site::session(&place, &server);
    let bare = Bare::start(Site::new(dir.path()).port);
    let (ours, theirs) = ((place.port, server.child.id()), (bare.1, bare.0.id()));
    let mut measured: [Vec<Run>; 3] = Default::default();
    for round in 0..=RUNS {
        for (at, (target, credential)) in [(theirs, &token), (ours, &token), (ours, &cookie)].into_iter().enumerate() {
            let run = load::verify(dir.path(), target, SECONDS, credential);
            measured[at].extend((round > 0).then_some(run));
        }
    }
    let [bare, token, cookie] = &measured;
    let row =
        |name: &str, of: &[Run]| Row::new(name, show(of), (ratio(of, bare, |run| run.rate), ""), Bar::AtLeast(0.50));
    let resident = process::resident(ours.1);
    vec![
        Row::new("bare handler, the same request", show(bare), (1.0, ""), Bar::None),
        row("`/auth/verify`, token ÷ bare", token),
        row("`/auth/verify`, session cookie ÷ bare", cookie),
        Row::new("memory under that load", "", (resident, " MiB"), Bar::AtMost(40.0)),
    ]
}

/// Handshakes with and without a certificate of the client's, on the same server. A whole one costs the server a key
/// agreement and a signature; the client's certificate adds two verifications.
pub(crate) fn handshakes() -> Vec<Row> {
    let (dir, mut place) = site::new();
    handshakes::certificates(dir.path());
    place.env.extend([
        ("LOKI_TLS_ENABLED", "true".to_owned()),
        ("LOKI_CERTS_DIR", dir.path().display().to_string()),
        ("LOKI_TLS_CLIENT_CA", dir.path().join("ca.pem").display().to_string()),
        ("LOKI_AUTH_MTLS", "[{cn: bench, role: viewer}]".to_owned()),
    ]);
    let server = place.spawn();
    let target = (place.port, server.child.id());
    let listens = || std::net::TcpStream::connect(("127.0.0.1", place.port)).is_ok();
    assert!(until(Duration::from_secs(10), listens), "the server does not listen");
    let mut measured: [Vec<Run>; 2] = Default::default();
    for round in 0..=RUNS {
        for (at, kind) in ["none", "certificate"].into_iter().enumerate() {
            let run = handshakes::run(dir.path(), target, kind);
            measured[at].extend((round > 0).then_some(run));
        }
    }
    let [without, with] = &measured;
    vec![
        Row::new("TLS 1.3 handshake and a request", show(without), (1.0, ""), Bar::None),
        Row::new(
            "the same with a client certificate",
            show(with),
            (ratio(with, without, |run| run.rate), ""),
            Bar::None,
        ),
        Row::new("the same, by CPU time", "", (ratio(with, without, |run| 1.0 / run.cpu), ""), Bar::None),
    ]
}

/// Requests with a workload's token: each another one, so that each is verified (what is remembered is a tenth of them),
/// and one again and again.
pub(crate) fn bearing() -> Vec<Row> {
    let mut rows = Vec::new();
    for alg in ["ES256", "RS256", "EdDSA"] {
        let issuer = Issuer::start(alg);
        let (dir, mut place) = site::new();
        place.env.push(("LOKI_JWT_ISSUERS", issuer.entry()));
        let (many, one) = (issuer.tokens(dir.path(), MANY), issuer.tokens(dir.path(), 1));
        let opaque = site::tokens(&place, 1);
        let server = place.start();
        let bare = Bare::start(Site::new(dir.path()).port);
        let (ours, theirs) = ((place.port, server.child.id()), (bare.1, bare.0.id()));
        let (mut signatures, mut measured): (Vec<f64>, [Vec<Run>; 4]) = Default::default();
        for round in 0..=RUNS {
            let rate = issuer.bare_rate(dir.path(), &many);
            signatures.extend((round > 0).then_some(rate));
            for (at, (target, headers)) in
                [(theirs, &one), (ours, &opaque), (ours, &one), (ours, &many)].into_iter().enumerate()
            {
                let run = load::read(dir.path(), target, SECONDS, headers);
                measured[at].extend((round > 0).then_some(run));
            }
        }
        let [bare, opaque, one, many] = &measured;
        let rate: fn(&Run) -> f64 = |run| run.rate;
        let verified = median(many.iter().zip(&signatures).map(|(run, alone)| run.rate / alone).collect());
        // What a bare request and a bare signature cost one after the other on that core.
        let both = |bare: &Run, alone: &f64| 1.0 / (1.0 / bare.rate + 1.0 / alone);
        let expected = bare.iter().zip(&signatures).map(|(run, alone)| both(run, alone));
        let of_both = median(many.iter().zip(expected).map(|(run, both)| run.rate / both).collect());
        rows.push(Row::new(
            format!("signatures of {alg} alone"),
            format!("{:.0}/s", median(signatures)),
            (1.0, ""),
            Bar::None,
        ));
        rows.push(Row::new(
            format!("`GET /api/me`, {alg} tokens that differ ÷ signatures alone"),
            show(many),
            (verified, ""),
            Bar::AtLeast(0.8),
        ));
        rows.push(Row::new(format!("the same ÷ a bare request and a signature ({alg})"), "", (of_both, ""), Bar::None));
        rows.push(Row::new(
            format!("`GET /api/me`, one {alg} token ÷ one `loki_` token"),
            show(one),
            (ratio(one, opaque, rate), ""),
            Bar::AtLeast(0.9),
        ));
    }
    rows
}

/// What must reach the disk before it is answered.
pub(crate) fn writing() -> Vec<Row> {
    let (mut mints, mut mint_ratios, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    let (mut event_rates, mut event_ratios, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (dir, place) = site::new();
        let root = site::root(&place);
        let server = place.start();
        let before = sync::rate(dir.path());
        let run = load::mint(dir.path(), (place.port, server.child.id()), SECONDS, &root);
        resident.push(process::resident(server.child.id()));
        drop(server);
        let between = sync::rate(dir.path());
        mint_ratios.push(run.rate / f64::midpoint(before, between));
        mints.push(run);
        let (dir, _) = site::new();
        let (rate, slow) = events::run(dir.path());
        let syncs = f64::midpoint(between, sync::rate(dir.path()));
        event_rates.push(rate);
        event_ratios.push(rate / syncs);
        p99.push(slow * syncs);
    }
    let syncs = sync_row(mints.iter().zip(&mint_ratios).map(|(run, ratio)| run.rate / ratio).collect());
    let events = format!("{:.0}/s", median(event_rates));
    vec![
        syncs,
        Row::new(
            "audited mints over HTTP, 64 clients",
            show(&mints),
            (median(mint_ratios), " syncs"),
            Bar::AtLeast(3.0),
        ),
        Row::new("memory under minting load", "64 clients", (median(resident), " MiB"), Bar::AtMost(40.0)),
        Row::new("counted audit events, 64 tasks", events, (median(event_ratios), " syncs"), Bar::AtLeast(8.0)),
        Row::new("their latency, 99 of 100", "", (median(p99), " syncs"), Bar::AtMost(25.0)),
    ]
}

fn sync_row(rates: Vec<f64>) -> Row {
    Row::new("the disk: `fdatasync` of 4 KiB in place", format!("{:.0}/s", median(rates)), (1.0, " syncs"), Bar::None)
}

/// What it takes to be there.
pub(crate) fn standing() -> Vec<Row> {
    let (_dir, mut place) = site::new();
    place.before.clear();
    site::root(&place);
    // The first start makes what later ones find.
    process::start(&place);
    let (ready, idle): (Vec<_>, Vec<_>) = (0..10).map(|_| process::start(&place)).unzip();
    vec![
        Row::new("start to ready, existing database", "median of 10", (median(ready), " ms"), Bar::AtMost(60.0)),
        Row::new("memory, idle", "median of 10", (median(idle), " MiB"), Bar::AtMost(20.0)),
        Row::new("stripped binary", "", (process::binary(), " MiB"), Bar::AtMost(25.0)),
    ]
}
