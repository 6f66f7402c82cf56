//! `lokid run` against a server, and `lokid start PRD`.

use std::{fs, process::Stdio, time::Duration};

use serde_json::Value;

use crate::{Ended, Home, Serving, value};

/// A home whose runs do what `script` says.
fn home(script: &str) -> Home {
    let home = Home::new();
    fs::write(home.path().join("work.sh"), script).unwrap();
    fs::write(home.path().join("prd.md"), "- paint the door\n").unwrap();
    fs::create_dir(home.path().join(".loki")).unwrap();
    let command = format!("runs: {{command: [/bin/sh, {}, '{{prd}}']}}\n", home.path().join("work.sh").display());
    fs::write(home.path().join(".loki/config.yaml"), command).unwrap();
    home
}

fn run(home: &Home, serving: &Serving, token: &str, words: &str) -> Ended {
    home.run_with(words, &[("LOKI_TOKEN", token), ("LOKI_URL", &serving.url)])
}

fn token(home: &Home, scopes: &str) -> String {
    let made = home.ok(&format!("enterprise token generate {scopes}-bot --scopes {scopes}"));
    value(&made.out, "Token").to_owned()
}

#[test]
fn a_run_is_started_followed_to_its_end_and_listed() {
    let home = home("cat \"$1\"; printf '\\033[31mred\\n'; exit $(cat code)");
    let (serving, token) = (home.serve(), token(&home, "control"));
    fs::write(home.path().join("code"), "0").unwrap();
    let followed = run(&home, &serving, &token, "run start prd.md --follow");
    assert_eq!(followed.code, 0, "{}", followed.shown());
    assert!(followed.out.contains("  - paint the door\n") && followed.out.contains("  red\n"), "{}", followed.out);
    assert!(followed.out.trim_end().ends_with("is completed: 2 lines."), "{}", followed.out);

    fs::write(home.path().join("code"), "3").unwrap();
    let failed = run(&home, &serving, &token, "run start prd.md --follow");
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("is failed: ended with exit code 3"), "{}", failed.err);

    let list = run(&home, &serving, &token, "run list");
    assert!(list.out.starts_with("ID") && list.out.contains("control-bot"), "{}", list.out);
    let failed = run(&home, &serving, &token, "run list --status failed --json").json();
    assert_eq!((failed.as_array().unwrap().len(), &failed[0]["exit_code"]), (1, &Value::from(3)));
    let logs = run(&home, &serving, &token, "run logs");
    assert_eq!(logs.out.lines().count(), 2, "{}", logs.out);
    let logs = run(&home, &serving, &token, "run logs --json -n 1");
    assert_eq!(logs.json()["message"], "red");
}

#[test]
fn a_run_is_stopped_and_what_is_wrong_is_said() {
    let home = home("echo on it; sleep 600");
    let (serving, control) = (home.serve(), token(&home, "control"));
    let empty = run(&home, &serving, &control, "run logs");
    assert!(empty.err.contains("there is no run yet") && empty.err.contains("hint: start one"), "{}", empty.err);
    let started = run(&home, &serving, &control, "run start prd.md --json").json();
    let id = started["id"].as_str().unwrap();
    let stopped = run(&home, &serving, &control, "run stop");
    assert_eq!(stopped.out, format!("Run {id} is stopping.\n"));
    let again = (0..200).map(|_| run(&home, &serving, &control, &format!("run stop {id}")));
    let over = again.into_iter().find(|ended| ended.err.contains("the run is stopped")).expect("it ends");
    assert_eq!(over.code, 1);

    let reader = token(&home, "read");
    let refused = run(&home, &serving, &reader, "run start prd.md");
    assert!(refused.err.contains("needs the scope control"), "{}", refused.err);
    let missing = run(&home, &serving, &control, "run start nothing.md");
    assert!(missing.err.contains("nothing.md: No such file"), "{}", missing.err);
    let odd = run(&home, &serving, &control, "run list --status happy");
    assert!(odd.err.contains("expected one of queued, running"), "{}", odd.err);
    let nowhere = home.run_with("run list", &[("LOKI_TOKEN", &control), ("LOKI_URL", "http://127.0.0.1:9")]);
    assert!(nowhere.err.contains("hint: is lokid reachable at http://127.0.0.1:9?"), "{}", nowhere.err);
    assert!(home.run("run list").err.contains("LOKI_TOKEN is not set"));
}

#[test]
fn a_server_that_is_started_with_a_prd_starts_one_run_and_needs_a_command_for_it() {
    let home = home("cat \"$1\" > seen");
    let mut child = home.command("start prd.md --listen 127.0.0.1:0").stdout(Stdio::null()).spawn().unwrap();
    let seen = home.path().join("seen");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&seen).unwrap_or_default() != "- paint the door\n" {
        assert!(std::time::Instant::now() < deadline, "the run did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = home.ok("enterprise audit tail --event run.start").out;
    assert!(log.contains("start (terminal)"), "{log}");

    fs::remove_file(home.path().join(".loki/config.yaml")).unwrap();
    let refused = home.run("start prd.md --listen 127.0.0.1:0");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("hint: set runs.command (LOKI_RUNS_COMMAND)"), "{}", refused.err);
    assert!(home.run("start none.md").err.contains("none.md: No such file"));
}
