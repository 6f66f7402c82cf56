//! Nodes that freeze, take another's name or lose their place, and strangers who can write into NATS.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::rt::System;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    nats::{Fleet, LEADER, Nats, does_not_start, events, published},
    nodes::{Two, start_run, until_status, with_runs},
    postgres,
    server::{ROOT, Server, Site, until},
};

const TOKENS: &str = "/api/enterprise/tokens";

fn signal(server: &Server, signal: &str) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

fn mints(server: &Server, root: &str, name: &str) -> u16 {
    let body = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
    server.http().call(root, "POST", TOKENS, &body).unwrap().status
}

/// A connection of the operator's.
struct Sql {
    system: actix_web::rt::SystemRunner,
    conn: PgConnection,
}

impl Sql {
    fn on(url: &str) -> Self {
        let system = System::new();
        let conn = system.block_on(PgConnection::connect(url)).unwrap();
        Self { system, conn }
    }

    fn run(&mut self, sql: &'static str) {
        self.system.block_on(self.conn.execute(sql)).unwrap();
    }

    fn count(&mut self, sql: &'static str) -> i64 {
        self.system.block_on(sqlx::query_scalar(sql).fetch_one(&mut self.conn)).unwrap()
    }
}

fn two() -> Option<(Two, Sql)> {
    let url = System::new().block_on(postgres::fresh_database())?;
    Some((Two::on(&url), Sql::on(&url)))
}

#[test]
fn a_node_that_freezes_within_a_transaction_holds_the_others_up_for_seconds_only() {
    let Some((two, mut sql)) = two() else { return };
    let root = two.sites[0].token(ROOT);
    let [a, b] = two.start();
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|who| {
            let (mut http, over, root) = (a.http(), Arc::clone(&over), root.clone());
            thread::spawn(move || {
                for n in 0.. {
                    let body = format!(r#"{{"name":"{who} {n}","scopes":["read"]}}"#);
                    if over.load(SeqCst) || http.call(&root, "POST", TOKENS, &body).is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    let within =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()";
    let frozen = until(Duration::from_mins(1), || {
        signal(&a, "-STOP");
        let frozen = sql.count(within) > 0;
        if !frozen {
            signal(&a, "-CONT");
        }
        frozen
    });
    assert!(frozen, "it was never caught within a transaction");
    let begun = Instant::now();
    assert!(until(Duration::from_secs(30), || mints(&b, &root, "at b") == 201), "b cannot write");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    over.store(true, SeqCst);
    signal(&a, "-CONT");
    load.into_iter().for_each(|one| one.join().unwrap());
    assert!(until(Duration::from_secs(20), || mints(&a, &root, "at a") == 201), "a does not heal");
}

#[test]
fn a_stranger_who_holds_the_logs_lock_makes_acts_unavailable_and_nothing_else() {
    let Some((two, mut sql)) = two() else { return };
    let root = two.sites[0].token(ROOT);
    let a = two.sites[0].start();
    assert_eq!(mints(&a, &root, "before"), 201);
    sql.run("BEGIN; SELECT pg_advisory_xact_lock(7815264305)");
    let begun = Instant::now();
    assert_eq!(mints(&a, &root, "meanwhile"), 503);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(a.http().call(&root, "GET", "/api/me", "").unwrap().status, 200);
    let not_ready = || a.http().get("/readyz", &[]).unwrap();
    assert!(until(Duration::from_secs(15), || not_ready().status == 503), "{:?}", not_ready());
    assert_eq!(not_ready().json()["database"], "cannot be written");
    sql.run("ROLLBACK");
    assert!(until(Duration::from_secs(20), || mints(&a, &root, "after") == 201));
    assert!(until(Duration::from_secs(10), || not_ready().status == 200));
}

#[test]
fn a_node_whose_row_goes_keeps_its_runs_as_long_as_it_says_that_it_lives() {
    let Some((mut two, mut sql)) = two() else { return };
    with_runs(&mut two);
    let root = two.sites[0].token(ROOT);
    let [mut a, b] = two.start();
    let id = start_run(&a, &root);
    until_status(&b, &root, &id, "running");
    // As a node of an earlier version does whose clock is weeks ahead. The lease is three seconds.
    let begun = Instant::now();
    until(Duration::from_secs(10), || {
        sql.run("DELETE FROM nodes");
        thread::sleep(Duration::from_millis(100));
        begun.elapsed() > Duration::from_secs(9)
    });
    assert_eq!(super::nodes::run_of(&b, &root, &id)["status"], "running");
    assert!(until(Duration::from_secs(10), || sql.count("SELECT COUNT(*) FROM nodes WHERE name = 'a'") == 1));
    a.kill();
    until_status(&b, &root, &id, "failed");
}

#[test]
fn a_server_whose_name_was_taken_meanwhile_changes_nothing_until_it_is_free() {
    let Some((two, mut sql)) = two() else { return };
    let root = two.sites[0].token(ROOT);
    let a = two.sites[0].start();
    assert_eq!(mints(&a, &root, "before"), 201);
    signal(&a, "-STOP");
    sql.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    let mut heir = Site::new(&two.sites[1].dir);
    heir.env.clone_from(&two.sites[0].env);
    let heir = heir.start();
    signal(&a, "-CONT");
    assert_eq!(mints(&a, &root, "at the one that was frozen"), 503);
    assert_eq!(mints(&heir, &root, "at its heir"), 201);
    drop(heir);
    assert!(until(Duration::from_secs(20), || mints(&a, &root, "after") == 201));
}

#[test]
fn a_ring_that_names_a_token_that_nobody_has_keeps_no_node_from_starting_and_no_key_from_being_revoked() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER, ("LOKI_CLUSTER_WAIT", "2s")]);
    let before = published(&mut site.start().http());
    let runtime = System::new();
    let good = runtime.block_on(nats.value()).value.to_vec();
    let mut changed: serde_json::Value = serde_json::from_slice(&good).unwrap();
    changed["token"] = "deadbeef".into();
    runtime.block_on(nats.put(changed.to_string().as_bytes()));
    let server = site.start();
    let mut http = server.http();
    assert_eq!(published(&mut http), before, "it starts from its copy");
    let says = || server.http().get("/readyz", &[]).unwrap().json()["nats"].as_str().unwrap_or_default().to_owned();
    assert!(until(Duration::from_secs(10), || says().contains("are refused")), "{}", says());
    assert!(until(Duration::from_secs(10), || events(&site, "key.refuse").len() == 1));
    assert_eq!(
        runtime.block_on(nats.value()).value,
        changed.to_string().as_bytes(),
        "it may be this node that is late"
    );
    site.run(&["keys", "revoke", &before[0]]);
    let replaced = until(Duration::from_secs(10), || published(&mut http).first() != before.first());
    assert!(replaced, "the key that leaked still signs");
    assert!(until(Duration::from_secs(10), || says() == "ok"), "{}", says());
    assert_eq!(events(&site, "key.remove").last().unwrap()["reason"], "revoked");
    // A node without a copy cannot know better.
    runtime.block_on(nats.put(changed.to_string().as_bytes()));
    let (code, said) = does_not_start(&fleet.node("b", &nats, &[]));
    assert_eq!(code, 13, "{said}");
}

#[test]
fn a_revoked_key_does_not_come_back_with_an_old_ring() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER, ("LOKI_CLUSTER_WAIT", "2s")]);
    let (server, runtime) = (site.start(), System::new());
    let old = runtime.block_on(nats.value()).value.to_vec();
    let revoked = published(&mut server.http()).remove(0);
    site.run(&["keys", "revoke", &revoked]);
    let gone = || !published(&mut server.http()).contains(&revoked);
    assert!(until(Duration::from_secs(10), gone));
    let (good, keys) = (runtime.block_on(nats.value()).value.to_vec(), published(&mut server.http()));
    drop(server);
    // The machine was replaced: the database remembers, the disk does not.
    std::fs::remove_dir_all(site.dir.join("cluster")).unwrap();
    runtime.block_on(nats.put(&old));
    let (code, said) = does_not_start(&site);
    assert!(code == 1 && said.contains(&revoked) && said.contains("was taken out"), "{code} {said}");
    runtime.block_on(nats.put(&good));
    assert_eq!(published(&mut site.start().http()), keys);
}
