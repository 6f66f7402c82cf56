//! `lokid keys` on a ring in a file and on the one that the database keeps, with and without a server.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{Ended, Home, Serving};

/// A home with this configuration.
pub(super) fn configured(yaml: &str) -> Home {
    let home = Home::new();
    fs::create_dir(home.path().join(".loki")).unwrap();
    fs::write(home.path().join(".loki/config.yaml"), yaml).unwrap();
    home
}

fn with_file() -> Home {
    let home = configured("signing_key_file: ring.pem\n");
    home.ok("keys generate --out ring.pem");
    home
}

fn with_secret() -> Home {
    configured("server: { secret: 0123456789abcdef0123456789abcdef }\n")
}

/// The names in the key set: the one that signs first.
fn kids(home: &Home) -> Vec<String> {
    names(&home.ok("keys jwks").json())
}

fn names(set: &Value) -> Vec<String> {
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The states of the published keys, or of all, sorted.
fn states(home: &Home, all: &str) -> Vec<String> {
    let listed = home.ok(&format!("keys list --json {all}")).json();
    let states = listed.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap().to_owned());
    let mut states: Vec<_> = states.collect();
    states.sort_unstable();
    states
}

#[track_caller]
fn refused(home: &Home, words: &str) -> Ended {
    let ended = home.run(words);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{words}: {}", ended.shown());
    ended
}

#[track_caller]
fn too_early(home: &Home, words: &str) {
    let before = kids(home);
    let ended = refused(home, words);
    assert!(ended.err.contains("from 20") && ended.err.contains("hint: --force"), "{}", ended.err);
    assert_eq!(kids(home), before);
}

/// Every step, on either ring; the names of the old and the new key.
fn rotate(home: &Home) -> (String, String) {
    let [old] = &kids(home)[..] else { panic!("one key") };
    let added = home.ok("keys rotate add");
    assert!(added.out.contains("next") && added.out.contains("may sign from"), "{}", added.out);
    let set = kids(home);
    assert_eq!((set.len(), &set[0]), (2, old));
    assert!(refused(home, "keys rotate add").err.contains("is next already"));
    refused(home, "keys rotate remove");

    too_early(home, "keys rotate promote");
    home.ok("keys rotate promote --force");
    assert_eq!(kids(home), [set[1].clone(), old.clone()]);
    assert_eq!(states(home, ""), ["active", "retiring"]);
    refused(home, "keys rotate promote");

    too_early(home, "keys rotate remove");
    let removed = home.ok("keys rotate remove --force");
    assert!(!removed.out.contains(old), "it is gone: {}", removed.out);
    assert_eq!((kids(home), states(home, "")), (vec![set[1].clone()], vec!["active".to_owned()]));
    assert_eq!(states(home, "--all"), ["active", "gone"]);
    (old.clone(), set[1].clone())
}

fn log(home: &Home) -> Vec<(String, String)> {
    let tail = home.ok("enterprise audit tail --event key.* --json").out;
    let entries = tail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries
        .map(|e| (e["event"].as_str().unwrap().to_owned(), e["resource"]["id"].as_str().unwrap().to_owned()))
        .collect()
}

fn all_steps(old: &str, new: &str) -> Vec<(String, String)> {
    let steps = [("add", old), ("promote", old), ("add", new), ("promote", new), ("remove", old)];
    steps.map(|(step, kid)| (format!("key.{step}"), kid.to_owned())).to_vec()
}

#[test]
fn a_ring_in_a_file_is_rotated_step_by_step() {
    let home = with_file();
    let (old, new) = rotate(&home);
    assert_eq!(log(&home), all_steps(&old, &new));
}

#[test]
fn a_ring_in_the_database_is_rotated_step_by_step() {
    let home = with_secret();
    home.ok("keys rotate add");
    assert_eq!(states(&home, ""), ["active"], "the first key signs at once");
    let (old, new) = rotate(&home);
    assert_eq!(log(&home), all_steps(&old, &new));
}

#[test]
fn the_file_is_replaced_as_a_whole_and_stays_its_owners_alone() {
    let home = with_file();
    let file = home.path().join("ring.pem");
    let look = || (fs::metadata(&file).unwrap().mode() & 0o777, fs::metadata(&file).unwrap().ino());
    // What an attempt that was cut off left behind, or somebody put there.
    let aside = home.path().join("ring.pem.new");
    fs::write(&aside, "left over").unwrap();
    fs::set_permissions(&aside, Permissions::from_mode(0o644)).unwrap();
    let before = look();
    for (step, blocks) in [("add", 2), ("promote --force", 2), ("remove --force", 1)] {
        let previous = fs::File::open(&file).unwrap();
        home.ok(&format!("keys rotate {step}"));
        let (mode, inode) = look();
        assert_eq!(mode, 0o600, "{step}");
        assert_ne!(inode, previous.metadata().unwrap().ino(), "{step}: who reads the old file reads all of it");
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("BEGIN PRIVATE KEY").count(), blocks, "{step}");
        assert!(!aside.exists(), "{step}");
    }
    assert_eq!(before.0, 0o600);
}

/// As when an administrator rotates the keys of a service that runs as somebody else.
#[test]
fn the_file_stays_with_its_owner_when_somebody_else_rotates_it() {
    let home = with_file();
    let file = home.path().join("ring.pem");
    if std::os::unix::fs::chown(&file, Some(1), Some(1)).is_err() {
        return; // only root may give a file away
    }
    home.ok("keys rotate add");
    let now = fs::metadata(&file).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (1, 1, 0o600));
}

#[test]
fn a_refused_step_leaves_the_file_as_it_was() {
    let home = with_file();
    let read = || fs::read(home.path().join("ring.pem")).unwrap();
    home.ok("keys rotate add");
    let (before, events) = (read(), log(&home).len());
    for wrong in ["rotate add", "rotate promote", "rotate promote 00000000", "rotate remove", "revoke 00000000"] {
        refused(&home, &format!("keys {wrong}"));
        assert_eq!((read() == before, log(&home).len()), (true, events), "{wrong}");
    }
    home.ok("keys rotate promote --force");
    assert!(read() != before);
}

#[test]
fn a_key_is_revoked_by_the_beginning_of_its_name_and_another_signs() {
    for home in [with_file(), with_secret()] {
        if kids(&home).is_empty() {
            home.ok("keys rotate add");
        }
        let leaked = kids(&home).remove(0);
        refused(&home, &format!("keys revoke {}", &leaked[..7]));
        assert_eq!(kids(&home), [&*leaked]);
        let shown = home.ok(&format!("keys revoke {}", &leaked[..8]));
        assert!(!shown.out.contains(&leaked), "{}", shown.out);
        let set = kids(&home);
        assert_eq!((set.len(), set.contains(&leaked)), (1, false));
        refused(&home, &format!("keys revoke {leaked}"));

        home.ok("keys rotate add");
        let next = kids(&home).remove(1);
        home.ok(&format!("keys revoke {}", set[0]));
        assert_eq!(kids(&home), [next], "the next one takes its place");
    }
}

#[test]
fn without_keys_to_list_it_says_how_to_get_some() {
    let home = Home::new();
    let nothing = refused(&home, "keys list");
    assert!(nothing.err.contains("no signing key is configured") && nothing.err.contains("hint: "), "{}", nothing.err);
    assert!(refused(&home, "keys rotate add").err.contains("server.secret"));
    let given = configured("signing_key_file: missing.pem\n");
    assert!(refused(&given, "keys list").err.contains("missing.pem"));
    given.ok("keys generate --out missing.pem");
    assert_eq!(states(&given, ""), ["not yet used by a server"]);
}

#[test]
fn a_key_of_another_secret_keeps_a_server_from_starting_until_it_is_taken_out_as_the_refusal_says() {
    let home = with_secret();
    home.ok("keys rotate add");
    home.ok("keys rotate add");
    let lost = kids(&home);
    let file = home.path().join(".loki/config.yaml");
    fs::write(&file, "server: { secret: fedcba9876543210fedcba9876543210 }\n").unwrap();
    for kid in &lost {
        let stopped = refused(&home, "start --listen 127.0.0.1:0");
        let way_out = format!("keys revoke {kid}");
        assert!(stopped.err.contains(&format!("lokid {way_out}")), "{}", stopped.err);
        home.ok(&way_out);
    }
    drop(home.serve());
    let set = kids(&home);
    assert_eq!((set.len(), lost.contains(&set[0])), (1, false));
}

/// Looks until the server publishes as many keys.
async fn published(serving: &Serving, keys: usize) -> Vec<String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (http, url) = (reqwest::Client::new(), format!("{}/.well-known/jwks.json", serving.url));
    let asked = Instant::now();
    loop {
        let set = names(&http.get(&url).send().await.unwrap().json().await.unwrap());
        if set.len() == keys {
            return set;
        }
        assert!(asked.elapsed() < Duration::from_secs(20), "{set:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn what_the_command_line_rotates_a_running_server_follows() {
    for home in [with_file(), with_secret()] {
        let serving = home.serve();
        let old = published(&serving, 1).await;
        home.ok("keys rotate add");
        assert_eq!(published(&serving, 2).await[0], old[0]);
        home.ok("keys rotate promote --force");
        home.ok("keys rotate remove --force");
        let new = published(&serving, 1).await;
        assert_ne!(new, old);
        assert_eq!(kids(&home), new);
        // Whoever was first wrote it down, and nobody twice.
        assert_eq!(log(&home), all_steps(&old[0], &new[0]));
    }
}

#[test]
fn a_new_key_does_not_overwrite_a_file() {
    let home = Home::new();
    let file: PathBuf = home.path().join("a.pem");
    home.ok("keys generate --out a.pem");
    let first = fs::read(&file).unwrap();
    assert!(refused(&home, "keys generate --out a.pem").err.contains("hint: an existing file"));
    assert_eq!(fs::read(&file).unwrap(), first);
    home.ok("keys generate --out b.pem");
}
