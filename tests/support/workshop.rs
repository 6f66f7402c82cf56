//! Runs under test: what they do is a script of the test's own, and what is waited for is seen over HTTP.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::door::{Client, Door};

/// What starts `work.sh` of the workspace with the PRD.
pub(crate) const COMMAND: (&str, &str) = ("LOKI_RUNS_COMMAND", r#"["/bin/sh", "{workspace}/work.sh", "{prd}"]"#);

/// A door whose runs do what `script` says.
pub(crate) async fn open(script: &str, env: &[(&str, &str)]) -> Door {
    let all: Vec<_> = [COMMAND, ("LOKI_RUNS_STOP_GRACE", "400ms")].into_iter().chain(env.iter().copied()).collect();
    let door = Door::open(&all).await;
    fs::write(door.work("work.sh"), script).unwrap();
    fs::write(door.work("prd.md"), "- paint the door\n").unwrap();
    door
}

/// Starts a run; its id.
pub(crate) async fn start(who: &impl Client) -> String {
    let started = who.post("/api/control/start", &json!({"prd": "./prd.md"})).await;
    assert_eq!(started.status, 200, "{}", started.text);
    started.json()["run_id"].as_str().unwrap().to_owned()
}

/// The run, once it is in this state.
pub(crate) async fn until_it_is(who: &impl Client, id: &str, status: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let run = who.get(&format!("/api/v2/runs/{id}")).await.json();
        if run["status"] == status {
            return run;
        }
        assert!(Instant::now() < deadline, "not {status} in time: {run}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The lines of a run's log, once there are so many.
pub(crate) async fn until_it_said(who: &impl Client, id: &str, lines: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let log = who.get(&format!("/api/logs?lines=10000&run_id={id}")).await.json();
        let said: Vec<_> = log.as_array().unwrap().iter().map(|l| l["message"].as_str().unwrap().to_owned()).collect();
        if said.len() >= lines {
            return said;
        }
        assert!(Instant::now() < deadline, "not {lines} lines in time: {said:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The state letter of a process (`R`, `S`, `T`, …); `None` when there is none.
pub(crate) fn process_state(pid: i64) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
