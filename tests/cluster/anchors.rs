//! What was signed about the log is kept in NATS too, so that putting back a whole disk, with its anchor file, is told.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use super::{
    nats::{Fleet, LEADER, Nats},
    server::{Site, until},
};

const SECONDS: Duration = Duration::from_secs(20);

/// A checkpoint follows each entry within a second.
const OFTEN: (&str, &str) = ("LOKI_AUDIT_CHECKPOINT_ENTRIES", "1");

/// How `audit verify` ends, and what it says to programs.
fn verify(site: &Site, env: &[(&str, &str)]) -> (i32, Value) {
    let mut command = site.command(&["--json", "enterprise", "audit", "verify"]);
    let output = command.envs(env.iter().copied()).output().unwrap();
    let verdict = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), verdict)
}

/// With the permissions.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the server until every entry but the checkpoints' own is covered by an anchor in NATS.
fn work(site: &Site, name: &str) {
    let mut server = site.start();
    site.token(name);
    let covered = until(SECONDS, || {
        let (_, verdict) = verify(site, &[("LOKI_AUDIT_ANCHOR_FILE", "/nowhere")]);
        verdict["head_seq"].as_i64().is_some_and(|head| head > 0 && verdict["covered_to"].as_i64() >= Some(head - 1))
    });
    assert!(covered, "the head is not signed");
    server.kill();
}

#[test]
fn a_whole_disk_that_is_put_back_is_told_by_what_nats_holds() {
    let (mut nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER, OFTEN]);
    work(&site, "before");
    let backup = fleet.dir.path().join("backup");
    copy(&site.dir, &backup);
    work(&site, "after");
    let (code, verdict) = verify(&site, &[]);
    assert_eq!((code, &verdict["valid"]), (0, &Value::Bool(true)), "{verdict}");
    let (_, from_nats) = verify(&site, &[("LOKI_AUDIT_ANCHOR_FILE", "/nowhere")]);
    assert!(from_nats["anchors"].as_i64() > Some(1), "{from_nats}");

    fs::remove_dir_all(&site.dir).unwrap();
    copy(&backup, &site.dir);
    let (code, verdict) = verify(&site, &[("LOKI_AUDIT_ANCHOR_BUCKET", "none")]);
    assert_eq!((code, &verdict["valid"]), (0, &Value::Bool(true)), "the file alone came back with the rest: {verdict}");
    let (code, verdict) = verify(&site, &[]);
    assert_eq!((code, verdict["kind"].as_str()), (8, Some("old_backup")), "{verdict}");

    nats.kill();
    let (code, verdict) = verify(&site, &[]);
    let unread = verdict["not_checked"].to_string();
    assert!(code == 0 && unread.contains("the anchors in NATS"), "{verdict}");
}

#[test]
fn a_server_that_goes_on_from_an_old_backup_says_so() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER, OFTEN]);
    work(&site, "before");
    let backup = fleet.dir.path().join("backup");
    copy(&site.dir, &backup);
    work(&site, "after");
    fs::remove_dir_all(&site.dir).unwrap();
    copy(&backup, &site.dir);
    let _server = site.start();
    let told = until(SECONDS, || {
        let text = site.run(&["--json", "enterprise", "audit", "tail", "--event", "audit.verify"]);
        text.lines().any(|line| line.contains("is not what was anchored on") && line.contains("\"failure\""))
    });
    assert!(told, "{}", fs::read_to_string(site.output()).unwrap());
}
