//! Runs: started, followed by their log, paused, stopped, refused; and what each act leaves behind.

use std::{fs, os::unix::fs::symlink, time::Duration};

use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Client, Door, answer},
    workshop::{open, process_state, start, until_it_is, until_it_said},
};

/// Works until a file appears.
const UNTIL_TOLD: &str = "echo working; until [ -e done ]; do sleep 0.02; done; echo over";

#[actix_web::test]
async fn a_run_works_from_its_prd_with_a_clean_environment_and_ends_as_its_process_did() {
    let door =
        open("cat \"$1\"; env | cut -d= -f1 | sort | tr '\\n' ' '; echo; pwd; echo oops >&2; exit $(cat code)", &[])
            .await;
    let operator = door.token("control").await;
    fs::write(door.work("code"), "0").unwrap();
    let id = start(&operator).await;
    let run = until_it_is(&operator, &id, "completed").await;
    assert_eq!((&run["exit_code"], &run["prd"]), (&json!(0), &json!("./prd.md")));
    let mut said = until_it_said(&operator, &id, 4).await;
    // Two pipes: which of them is read first is nobody's to say.
    said.retain(|line| line != "oops");
    assert_eq!(said[0], "- paint the door");
    let names: Vec<_> = said[1].split(' ').filter(|n| !matches!(*n, "PWD" | "OLDPWD" | "SHLVL" | "_" | "")).collect();
    assert_eq!(names, ["LOKI_RUN_ID", "LOKI_TOKEN", "LOKI_URL"]);
    assert_eq!(said[2], door.work("").canonicalize().unwrap().display().to_string());
    let log = operator.get(&format!("/api/logs?run_id={id}")).await.json();
    assert!(log.as_array().unwrap().iter().any(|l| l["level"] == "warning" && l["message"] == "oops"), "{log}");

    fs::write(door.work("code"), "3").unwrap();
    let id = start(&operator).await;
    let run = until_it_is(&operator, &id, "failed").await;
    assert_eq!((&run["exit_code"], &run["reason"]), (&json!(3), &json!("ended with exit code 3")));
    let steps = operator.get(&format!("/api/v2/runs/{id}/timeline")).await.json();
    let states: Vec<_> = steps.as_array().unwrap().iter().map(|s| s["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["queued", "running", "failed"]);
    let started = door.audit("run.start").await;
    assert_eq!((started.len(), started[0].actor_id.as_str()), (2, operator.id.as_str()));
    assert!(started[0].ip.is_some() && started[0].request_id.is_some());
    assert_eq!((door.audit("run.complete").await.len(), door.audit("run.fail").await.len()), (1, 1));
    assert_eq!(operator.get("/api/status").await.json()["status"], "idle");
}

#[actix_web::test]
async fn the_whole_group_is_paused_resumed_and_stopped_and_each_act_is_recorded() {
    let door = open("sleep 600 & echo child $!; while :; do sleep 0.02; done", &[]).await;
    let operator = door.token("control").await;
    let id = start(&operator).await;
    let said = until_it_said(&operator, &id, 1).await;
    let child: i64 = said[0].rsplit(' ').next().unwrap().parse().unwrap();
    let pid = until_it_is(&operator, &id, "running").await["pid"].as_i64().unwrap();
    assert_eq!(operator.get("/api/status").await.json()["sessions"][0]["pid"], pid);

    let act = |what: &'static str, body: Value| {
        let operator = &operator;
        async move { operator.post(&format!("/api/control/{what}"), &body).await }
    };
    assert_eq!(act("pause", json!({})).await.json()["status"], "paused");
    until("both stand still", || [pid, child].iter().all(|p| process_state(*p) == Some('T'))).await;
    assert_eq!(operator.get("/api/status").await.json()["status"], "paused");
    assert!(
        act("pause", json!({"run_id": id})).await.problem(409).contains("the run is paused; pause takes a running run")
    );
    assert_eq!(act("resume", json!({"run_id": id})).await.json()["status"], "running");
    until("both go on", || [pid, child].iter().all(|p| process_state(*p).is_some_and(|s| s != 'T'))).await;

    assert_eq!(act("stop", json!({})).await.json()["status"], "stopping");
    let run = until_it_is(&operator, &id, "stopped").await;
    assert!(run["reason"].as_str().unwrap().contains("signal 15"), "{run}");
    until("nothing is left", || [pid, child].iter().all(|p| process_state(*p).is_none_or(|s| s == 'Z'))).await;
    for what in ["stop", "pause", "resume"] {
        assert!(act(what, json!({"run_id": id})).await.problem(409).contains("the run is stopped"));
    }
    act("stop", json!({})).await.problem(409);
    for (event, times) in [("run.start", 1), ("run.pause", 1), ("run.resume", 1), ("run.stop", 1), ("run.complete", 1)]
    {
        let found = door.audit(event).await;
        assert_eq!((found.len(), found[0].resource_id.as_str()), (times, id.as_str()), "{event}");
    }
    assert_eq!(operator.get("/api/status").await.json()["status"], "stopped");
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not in time");
}

#[actix_web::test]
async fn what_is_wanted_last_holds_however_many_ask_at_once_and_from_the_first_moment() {
    let door = open("while :; do sleep 0.02; done", &[]).await;
    let operator = door.token("control").await;
    let id = start(&operator).await;
    let pid = until_it_is(&operator, &id, "running").await["pid"].as_i64().unwrap();
    for _ in 0..5 {
        let ask = |what: &'static str| {
            let operator = &operator;
            async move { operator.post(&format!("/api/control/{what}"), &json!({})).await.status }
        };
        let asked = [ask("pause"), ask("resume"), ask("pause"), ask("resume")];
        futures_util::future::join_all(asked).await;
        let paused = operator.get(&format!("/api/v2/runs/{id}")).await.json()["status"] == "paused";
        until("the process is as the run is", || process_state(pid).is_some_and(|s| (s == 'T') == paused)).await;
    }
    operator.post("/api/control/stop", &json!({})).await;
    until_it_is(&operator, &id, "stopped").await;
    // Asked to stop in the midst of its start.
    for _ in 0..5 {
        let (started, stopped) = futures_util::future::join(start(&operator), async {
            loop {
                if operator.post("/api/control/stop", &json!({})).await.status == 200 {
                    return;
                }
            }
        })
        .await;
        let () = stopped;
        let run = until_it_is(&operator, &started, "stopped").await;
        assert!(run["exit_code"].is_null(), "{run}");
    }
}

#[actix_web::test]
async fn one_that_does_not_hear_term_is_killed_after_the_grace_also_when_it_is_paused() {
    let door = open("trap '' TERM; echo deaf; while :; do sleep 0.02; done", &[]).await;
    let operator = door.token("control").await;
    for pause in [false, true] {
        let id = start(&operator).await;
        until_it_said(&operator, &id, 1).await;
        if pause {
            assert_eq!(operator.post("/api/control/pause", &json!({})).await.status, 200);
        }
        assert_eq!(
            answer(operator.ask("POST", &format!("/api/v2/runs/{id}/cancel"))).await.json()["status"],
            "stopping"
        );
        let run = until_it_is(&operator, &id, "stopped").await;
        assert_eq!(run["reason"], "killed (signal 9)");
    }
}

#[actix_web::test]
async fn runs_beyond_the_limit_wait_in_order_and_beyond_the_queue_they_are_refused() {
    let door = open(UNTIL_TOLD, &[("LOKI_RUNS_MAX_QUEUED", "2")]).await;
    let operator = door.token("control").await;
    let first = start(&operator).await;
    let (second, third) = (start(&operator).await, start(&operator).await);
    let place = |id: String| {
        let operator = &operator;
        async move { operator.get(&format!("/api/v2/runs/{id}")).await.json()["position"].clone() }
    };
    assert_eq!((place(second.clone()).await, place(third.clone()).await), (json!(1), json!(2)));
    let full = operator.post("/api/control/start", &json!({"prd_text": "x"})).await;
    assert!(full.problem(409).contains("runs.max_queued 2"));
    // Who waits can be stopped, and those behind move up.
    let stopped = operator.post("/api/control/stop", &json!({"run_id": second})).await.json();
    assert_eq!(stopped["status"], "stopped");
    assert_eq!(place(third.clone()).await, json!(1));
    operator.post("/api/control/stop", &json!({})).await.problem(409);
    fs::write(door.work("done"), "").unwrap();
    until_it_is(&operator, &first, "completed").await;
    until_it_is(&operator, &third, "completed").await;
    assert_eq!(operator.post("/api/control/start", &json!({"prd_text": "x"})).await.status, 200);
    assert_eq!(place(second).await, Value::Null);
}

#[actix_web::test]
async fn the_same_request_id_makes_one_run_and_a_replay_works_from_the_same_input() {
    let door = open("cat \"$1\"", &[("LOKI_RUNS_MAX_PARALLEL", "4")]).await;
    let (operator, other) = (door.token("control").await, door.token("control").await);
    let request = json!({"prd": "prd.md", "request_id": "0190a6c4-1c4f-7bbd-9d55-0f5d3f0ce1a2", "provider": "claude"});
    let once = operator.post("/api/control/start", &request).await.json();
    let twice = operator.post("/api/control/start", &request).await.json();
    assert_eq!(once["run_id"], twice["run_id"]);
    assert_ne!(other.post("/api/control/start", &request).await.json()["run_id"], once["run_id"]);
    assert_eq!(door.audit("run.start").await.len(), 2);

    let id = once["run_id"].as_str().unwrap();
    until_it_is(&operator, id, "completed").await;
    fs::write(door.work("prd.md"), "something else").unwrap();
    let again = answer(operator.ask("POST", &format!("/api/v2/runs/{id}/replay"))).await;
    assert_eq!((again.status, &again.json()["replay_of"]), (201, &json!(id)));
    let again = again.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(until_it_said(&operator, &again, 1).await, ["- paint the door"]);
}

#[actix_web::test]
async fn the_work_reports_over_the_api_with_a_token_that_dies_with_it() {
    let script = "printf '%s' \"$LOKI_TOKEN\" > token; echo my token is $LOKI_TOKEN, url is $LOKI_URL; until [ -e done ]; do sleep 0.02; done";
    let door = open(script, &[]).await;
    let operator = door.token("control").await;
    let id = start(&operator).await;
    let said = until_it_said(&operator, &id, 1).await;
    assert_eq!(said[0], format!("my token is loki_[masked], url is http://localhost:{}", door.port));
    let worker = door.holder(&fs::read_to_string(door.work("token")).unwrap());
    assert_eq!(worker.get("/api/me").await.json()["scopes"], json!(["write"]));
    assert_eq!(worker.post("/api/tasks", &json!({"title": "paint"})).await.status, 201);
    let report = json!({"phase": "painting", "iteration": 2, "current_task": format!("with {}", worker.secret)});
    assert_eq!(worker.post(&format!("/api/v2/runs/{id}/progress"), &report).await.status, 200);
    let status = operator.get("/api/status").await.json();
    assert_eq!(
        (&status["phase"], &status["iteration"], &status["status"]),
        (&json!("painting"), &json!(2), &json!("running"))
    );
    assert_eq!((&status["current_run_id"], &status["current_task"]), (&json!(id), &json!("with loki_[masked]")));
    let admin = door.token("*").await;
    let rotated = admin.post(&format!("/api/enterprise/tokens/{id}/rotate"), &json!({})).await;
    assert!(rotated.problem(409).contains("ends with it"));
    worker.post("/api/control/stop", &json!({})).await.problem(403);
    worker.post("/api/v2/runs/run-aaaaaaaaaaaa/progress", &report).await.problem(404);

    fs::write(door.work("done"), "").unwrap();
    until_it_is(&operator, &id, "completed").await;
    worker.get("/api/me").await.problem(401);
    operator.post(&format!("/api/v2/runs/{id}/progress"), &report).await.problem(404);
    let revoked = door.audit("auth.token.revoke").await;
    assert_eq!((revoked.len(), revoked[0].actor_kind.as_str()), (1, "system"));
}

#[actix_web::test]
async fn only_a_regular_file_of_the_workspace_or_a_text_is_taken() {
    let door = open("cat \"$1\"", &[("LOKI_RUNS_MAX_QUEUED", "100")]).await;
    let operator = door.token("control").await;
    symlink("/etc/passwd", door.work("link")).unwrap();
    fs::write(door.work("--x"), "x").unwrap();
    fs::write(door.work(".hidden"), "x").unwrap();
    let big = "x".repeat((1 << 20) + 1);
    for (body, field) in [
        (json!({}), "prd"),
        (json!({"prd": "prd.md", "prd_text": "x"}), "prd"),
        (json!({"prd": "prd.md", "prd_path": "prd.md"}), "prd"),
        (json!({"prd": "../loki.db"}), "prd"),
        (json!({"prd": "link"}), "prd"),
        (json!({"prd": "--x"}), "prd"),
        (json!({"prd": "."}), "prd"),
        (json!({"prd": "/dev/zero"}), "prd"),
        (json!({"prd": ".hidden"}), "prd"),
        (json!({"prd": "none.md"}), "prd"),
        (json!({"prd_text": big}), "prd_text"),
        (json!({"prd_text": "x", "provider": "--x"}), "provider"),
        (json!({"prd_text": "x", "request_id": "1"}), "request_id"),
        (json!({"prd_text": "x", "colour": "red"}), "colour"),
        (json!({"prd": 7}), "prd"),
    ] {
        let refused = operator.post("/api/control/start", &body).await;
        assert!(refused.problem(422).contains(field), "{}", refused.text);
    }
    assert!(door.audit("run.start").await.is_empty());
    for body in [json!({"prd_path": "prd.md"}), json!({"prd_text": "x"}), json!({"prd": door.work("prd.md")})] {
        assert_eq!(operator.post("/api/control/start", &body).await.status, 200, "{body}");
    }
    let listed = operator.get("/api/v2/runs?limit=2").await.json();
    let next =
        operator.get(&format!("/api/v2/runs?limit=2&cursor={}", listed["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!((listed["runs"].as_array().unwrap().len(), next["runs"].as_array().unwrap().len()), (2, 1));
    for query in ["?limit=0", "?status=happy", "?cursor=x", "?page=1"] {
        operator.get(&format!("/api/v2/runs{query}")).await.problem(422);
    }
    for query in ["?lines=0", "?lines=10001", "?after=1", "?lines=x"] {
        operator.get(&format!("/api/logs{query}")).await.problem(422);
    }
    operator.get("/api/logs?run_id=run-aaaaaaaaaaaa").await.problem(404);
    operator.get("/api/v2/runs/nonsense").await.problem(404);
}

#[actix_web::test]
async fn the_documented_curl_line_needs_no_content_type_but_a_browser_needs_its_token() {
    let door = open("cat \"$1\"", &[("LOKI_RUNS_MAX_QUEUED", "100")]).await;
    let operator = door.token("control").await;
    let send = |request: reqwest::RequestBuilder, kind: &'static str| async move {
        answer(request.header("content-type", kind).body(r#"{"prd": "./prd.md"}"#)).await
    };
    let form = "application/x-www-form-urlencoded";
    assert_eq!(send(operator.ask("POST", "/api/control/start"), form).await.status, 200);
    send(operator.ask("POST", "/api/control/start"), "text/plain").await.problem(415);
    send(operator.ask("POST", "/api/v2/runs"), form).await.problem(415);
    send(Anonymous(&door).ask("POST", "/api/control/start"), form).await.problem(401);

    let ann = door.person("ann", "operators").await;
    let from_a_page = || ann.ask("POST", "/api/control/start").header("sec-fetch-site", "same-origin");
    send(from_a_page(), form).await.problem(403);
    assert_eq!(send(from_a_page().header("x-csrf-token", ann.csrf().await), form).await.status, 200);
    assert_eq!(door.audit("run.start").await.len(), 2);
}

#[actix_web::test]
async fn without_a_command_nothing_starts_and_one_that_cannot_be_executed_fails_with_the_reason() {
    let door = Door::open(&[]).await;
    let operator = door.token("control").await;
    let refused = operator.post("/api/control/start", &json!({"prd_text": "x"})).await;
    assert!(refused.problem(409).contains("runs.command (LOKI_RUNS_COMMAND)"));
    assert!(door.audit("run.start").await.is_empty());

    let door = Door::open(&[("LOKI_RUNS_COMMAND", "/nowhere/at/all {prd}")]).await;
    let operator = door.token("control").await;
    let started = operator.post("/api/control/start", &json!({"prd_text": "x"})).await.json();
    let run = until_it_is(&operator, started["run_id"].as_str().unwrap(), "failed").await;
    assert!(run["reason"].as_str().unwrap().contains("No such file or directory"), "{run}");
    assert_eq!(door.audit("run.fail").await.len(), 1);
}

#[actix_web::test]
async fn output_is_made_harmless_and_capped() {
    let script = r"printf 'caf\351 \033[31mred\033[0m \007\n'; yes 0123456789012345678901234567890123456789 | head -c 40000000; echo last";
    let door = open(script, &[("LOKI_RUNS_LOG_BYTES", "100000")]).await;
    let operator = door.token("control").await;
    let id = start(&operator).await;
    until_it_is(&operator, &id, "completed").await;
    let said = until_it_said(&operator, &id, 1000).await;
    assert_eq!(said[0], "caf\u{fffd} red \u{fffd}");
    let total: usize = said.iter().map(String::len).sum();
    assert!(total < 100_000, "{total}");
    let marker = said.last().unwrap();
    assert!(marker.starts_with("… cut here: ") && marker.contains("bytes more were not kept"), "{marker}");
}
