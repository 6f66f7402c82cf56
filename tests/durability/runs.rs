//! SIGKILL of the server while runs wait and work. After the next start each run that was answered is there and
//! ends as its process did; none was started twice, no line of its log is missing or doubled, and nothing is left.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::{
    http::Http,
    rounds,
    server::{ROOT, Server, Site, until},
};

const SCRIPT: &str = "echo $$ >> \"$LOKI_RUN_ID.started\"\nfor n in 1 2 3 4 5 6; do echo line $n; sleep 0.03; done\n";

fn site(dir: &Path) -> Site {
    fs::create_dir(dir.join("work")).unwrap();
    fs::write(dir.join("work.sh"), SCRIPT).unwrap();
    let mut site = Site::new(dir);
    let command = format!(r#"["/bin/sh", "{}"]"#, dir.join("work.sh").display());
    site.env.extend([
        ("LOKI_RUNS_COMMAND", command),
        ("LOKI_RUNS_WORKSPACE", dir.join("work").display().to_string()),
        ("LOKI_RUNS_MAX_PARALLEL", "4".into()),
        ("LOKI_RUNS_MAX_QUEUED", "1000".into()),
    ]);
    site
}

fn status(http: &mut Http, root: &str, id: &str) -> String {
    let run = http.call(root, "GET", &format!("/api/v2/runs/{id}"), "").unwrap().json();
    run["status"].as_str().unwrap_or_default().to_owned()
}

/// Children of the server that ended and were not waited for.
fn zombies(server: &Server) -> usize {
    let stats =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_one = |stat: &String| {
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&server.child.id().to_string())
    };
    stats.filter(is_one).count()
}

#[test]
fn runs_are_taken_up_after_a_kill_and_none_is_doubled_or_lost() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let site = site(dir.path());
    let root = site.token(ROOT);
    let (last, mut answered, mut in_flight) = (rounds(10), Vec::new(), 0);
    for round in 0..last {
        let mut server = site.start();
        let mut http = server.http();
        for _ in 0..6 {
            let started = http.call(&root, "POST", "/api/control/start", r#"{"prd_text": "x"}"#).unwrap();
            assert_eq!(started.status, 200, "{}", started.body);
            answered.push(started.json()["run_id"].as_str().unwrap().to_owned());
        }
        // Another moment in every round: in the midst of queue, start, log and end.
        std::thread::sleep(Duration::from_millis(round * 53 % 400));
        let active = http.call(&root, "GET", "/api/status", "").unwrap().json()["active_sessions"].as_u64().unwrap();
        in_flight += active;
        server.kill();
    }
    let server = site.start();
    let mut http = server.http();
    let over = until(Duration::from_mins(2), || {
        http.call(&root, "GET", "/api/status", "").unwrap().json()["active_sessions"] == 0
    });
    assert!(over, "runs never end: {}", http.call(&root, "GET", "/api/status", "").unwrap().body);
    assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), answered.len());
    for id in &answered {
        assert_eq!(status(&mut http, &root, id), "completed", "{id}");
        let started = fs::read_to_string(dir.path().join(format!("work/{id}.started"))).unwrap();
        assert_eq!(started.lines().count(), 1, "{id} was started more than once");
        let log = http.call(&root, "GET", &format!("/api/logs?lines=100&run_id={id}"), "").unwrap().json();
        let lines: Vec<_> = log.as_array().unwrap().iter().map(|l| l["message"].as_str().unwrap()).collect();
        assert_eq!(lines, ["line 1", "line 2", "line 3", "line 4", "line 5", "line 6"], "{id}");
    }
    assert!(until(Duration::from_secs(10), || zombies(&server) == 0), "{} zombies", zombies(&server));
    let left: Vec<_> = fs::read_dir(dir.path().join("runs")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "directories are left: {left:?}");
    let verdict = http.call(&root, "GET", "/api/audit/verify", "").unwrap();
    assert_eq!(verdict.json()["valid"], true, "{}", verdict.body);
    assert!(in_flight > 0, "nothing was under way at any kill");
    println!(
        "runs: {last} kills, {} runs, {in_flight} under way when it happened; none doubled or lost",
        answered.len()
    );
}

#[test]
fn a_run_whose_supervisor_is_killed_too_fails_with_the_reason_and_leaves_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let site = site(dir.path());
    fs::write(dir.path().join("work.sh"), "echo $$ $PPID; sleep 600\n").unwrap();
    let root = site.token(ROOT);
    let mut server = site.start();
    let mut http = server.http();
    let started = http.call(&root, "POST", "/api/control/start", r#"{"prd_text": "x"}"#).unwrap().json();
    let id = started["run_id"].as_str().unwrap().to_owned();
    let path = format!("/api/logs?run_id={id}");
    let mut said = String::new();
    assert!(until(Duration::from_secs(10), || {
        let log = http.call(&root, "GET", &path, "").unwrap().json();
        said = log[0]["message"].as_str().unwrap_or_default().to_owned();
        !said.is_empty()
    }));
    let (process, supervisor) = said.split_once(' ').unwrap();
    server.kill();
    let killed = std::process::Command::new("kill").args(["-9", supervisor]).status().unwrap();
    assert!(killed.success());
    let server = site.start();
    let mut http = server.http();
    assert!(until(Duration::from_secs(10), || status(&mut http, &root, &id) == "failed"));
    let run = http.call(&root, "GET", &format!("/api/v2/runs/{id}"), "").unwrap().json();
    assert!(run["reason"].as_str().unwrap().contains("its supervisor is gone"), "{run}");
    let gone = || fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z"));
    assert!(until(Duration::from_secs(10), gone), "the process {process} lives on");
}
