//! A server that runs, and the command line beside it on the same file.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{Home, Serving, value};

async fn status(serving: &Serving, token: &str, path: &str) -> u16 {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::new();
    http.get(format!("{}{path}", serving.url)).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[actix_web::test]
async fn what_the_command_line_makes_and_revokes_the_running_server_knows_within_a_second() {
    let home = Home::new();
    let serving = home.serve();
    let made = home.ok("enterprise token generate ci --role viewer");
    let token = value(&made.out, "Token");
    assert_eq!(status(&serving, token, "/api/status").await, 200);
    for _ in 0..20 {
        assert_eq!(status(&serving, token, "/api/status").await, 200, "also from the cache");
    }
    home.ok("enterprise token revoke ci");
    let revoked = Instant::now();
    while status(&serving, token, "/api/status").await != 401 {
        assert!(revoked.elapsed() < Duration::from_secs(1), "the token still works a second after its revocation");
    }
    let log = home.ok("enterprise audit tail --event auth.token.*").out;
    assert!(log.contains("auth.token.create") && log.contains("auth.token.revoke"), "{log}");
    assert_eq!(home.ok("enterprise audit verify --json").json()["valid"], true);
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let first = home.serve();
    let second = home.run("start --listen 127.0.0.1:0");
    assert_eq!((second.code, second.out.as_str()), (1, ""));
    assert!(second.err.contains("another lokid server is running on .loki/loki.db; stop it first"), "{}", second.err);
    assert!(home.ok("doctor").out.contains("database"));
    drop(first);
    drop(home.serve());
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = home.run(&format!("start --listen {address}"));
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains(&address.to_string()) && refused.err.contains("hint: is another server"),
        "{}",
        refused.err
    );
}

#[test]
fn the_same_verbs_work_on_a_server_with_a_token() {
    let home = Home::new();
    let serving = home.serve();
    let boss = home.ok("enterprise token generate boss --role admin");
    let token = value(&boss.out, "Token");
    let elsewhere = Home::new();
    let on_server =
        |words: &str| elsewhere.run_with(&format!("{words} --server {}", serving.url), &[("LOKI_TOKEN", token)]);
    let made = on_server("enterprise token generate far --scopes read,audit --json");
    assert_eq!((made.code, &made.json()["scopes"]), (0, &json!(["read", "audit"])));
    assert!(on_server("enterprise token list").out.contains("far"));
    assert_eq!(on_server("enterprise token rotate far --grace 1").code, 0);
    assert_eq!(on_server("enterprise audit verify --json").json()["valid"], true);
    assert_eq!(on_server("enterprise status --json").json()["status"], "idle");
    assert_eq!(on_server("enterprise token revoke far").code, 0);
    let refused = on_server("enterprise token revoke far");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("404"), "{}", refused.err);
    let without = elsewhere.run(&format!("enterprise token list --server {}", serving.url));
    assert_eq!(without.code, 1);
    assert!(without.err.contains("LOKI_TOKEN is not set"), "{}", without.err);
    assert!(std::fs::read_dir(elsewhere.path()).unwrap().next().is_none(), "no database was made here");
}

#[test]
fn a_server_that_is_told_to_stop_ends_in_order() {
    let home = Home::new();
    let mut serving = home.serve();
    let stop = std::process::Command::new("kill").arg(serving.child.id().to_string()).stderr(Stdio::null()).status();
    assert!(stop.unwrap().success());
    assert!(serving.child.wait().unwrap().success());
    let last = home.ok("enterprise audit tail -n 2 --json").out;
    let last: Vec<serde_json::Value> = last.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&last[0]["event"], &last[1]["event"]), (&json!("server.stop"), &json!("audit.checkpoint")));
    let verdict = home.ok("enterprise audit verify --json").json();
    assert_eq!((&verdict["covered_to"], &verdict["anchors"]), (&last[0]["seq"], &verdict["checkpoints"]));
}
