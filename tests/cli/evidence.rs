//! The log as a file: written, examined anywhere, and taken out when it is old.

use std::fs;

use serde_json::json;

use crate::Home;

/// Three acts, and a server that signed its end.
fn with_signed_log() -> Home {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.ok(&format!("enterprise token generate {name}"));
    }
    let mut serving = home.serve();
    let stop = std::process::Command::new("kill").arg(serving.child.id().to_string()).status();
    assert!(stop.unwrap().success() && serving.child.wait().unwrap().success());
    home
}

#[test]
fn an_export_is_examined_where_there_is_neither_database_nor_server() {
    let home = with_signed_log();
    home.ok("enterprise audit export --out audit.jsonl");
    let keys = home.ok("enterprise audit keys").out;
    let elsewhere = Home::new();
    fs::copy(home.path().join("audit.jsonl"), elsewhere.path().join("audit.jsonl")).unwrap();
    fs::write(elsewhere.path().join("keys.json"), &keys).unwrap();
    let whole = elsewhere.ok("enterprise audit verify --export audit.jsonl --jwks keys.json");
    assert!(
        whole.out.starts_with("The chain is whole: ")
            && whole.out.contains("signed checkpoint covers")
            && whole.out.contains("The export's seal holds. Signed by"),
        "{}",
        whole.out
    );
    let alone = elsewhere.ok("enterprise audit verify --export audit.jsonl");
    assert!(alone.out.contains("Not checked: signatures: no key is trusted here"), "{}", alone.out);
    for reading in ["verify", "tail", "export", "keys", "summary"] {
        let lost = elsewhere.run(&format!("enterprise audit {reading}"));
        assert!(lost.code == 1 && lost.err.starts_with("lokid: there is no database .loki/loki.db"), "{}", lost.err);
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 2, "nothing else was made there");

    let text = fs::read_to_string(elsewhere.path().join("audit.jsonl")).unwrap();
    let other = with_signed_log();
    let (others, other_keys) = (other.ok("enterprise audit export").out, other.ok("enterprise audit keys").out);
    let second_half = |text: &str| text.split_inclusive('\n').skip(3).collect::<String>();
    let first_half: String = text.split_inclusive('\n').take(3).collect();
    for (export, keys, code, says) in [
        (text.replace("\"tester\"", "\"tesler\""), &keys, 3, "was changed"),
        (
            text.replace("\"seq\":2,", "\"seq\":-9223372036854775808,"),
            &keys,
            3,
            "entry -9223372036854775808 was changed",
        ),
        (text[..text.len() - 40].to_owned(), &keys, 4, "truncated"),
        (first_half + &second_half(&others), &keys, 5, "comes from another log"),
        (text.clone(), &other_keys, 6, "not among the keys that are trusted"),
    ] {
        fs::write(elsewhere.path().join("bad.jsonl"), export).unwrap();
        fs::write(elsewhere.path().join("some.json"), keys).unwrap();
        let found = elsewhere.run("enterprise audit verify --export bad.jsonl --jwks some.json");
        assert_eq!((found.code, found.out.as_str()), (code, ""), "{}", found.shown());
        assert!(found.err.contains(says) && found.err.contains("hint: "), "{}", found.err);
    }
    fs::write(elsewhere.path().join("some.json"), "{}").unwrap();
    for unreadable in
        ["--export missing.jsonl", "--export audit.jsonl --jwks some.json", "--export audit.jsonl --jwks no.json"]
    {
        assert_eq!(elsewhere.run(&format!("enterprise audit verify {unreadable}")).code, 1, "{unreadable}");
    }
    assert_eq!(elsewhere.run("enterprise audit verify --jwks some.json").code, 2);
    // An anchor file that was named has to be one, and says nothing without the keys.
    fs::write(elsewhere.path().join("none.anchor"), "").unwrap();
    for (anchors, code) in [
        ("--jwks keys.json --anchor missing", 1),
        ("--jwks keys.json --anchor none.anchor", 1),
        ("--anchor some.json", 2),
    ] {
        assert_eq!(
            elsewhere.run(&format!("enterprise audit verify --export audit.jsonl {anchors}")).code,
            code,
            "{anchors}"
        );
    }
    fs::copy(home.path().join(".loki/loki.db.anchor"), elsewhere.path().join("real.anchor")).unwrap();
    let with = elsewhere.ok("enterprise audit verify --export audit.jsonl --jwks keys.json --anchor real.anchor");
    assert!(with.out.contains("Compared with 1 anchor outside the database."), "{}", with.out);
    assert_eq!(home.run("enterprise audit export --out audit.jsonl").code, 1, "an existing file is not overwritten");
}

#[test]
fn a_restored_backup_is_found_and_named() {
    let home = with_signed_log();
    let file = home.path().join(".loki/loki.db");
    let backup = fs::read(&file).unwrap();
    assert_eq!(home.ok("enterprise audit verify --json").json()["anchors"], 1);
    with_more(&home);
    fs::write(&file, backup).unwrap();
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(home.path().join(format!(".loki/loki.db{side}")));
    }
    let found = home.run("enterprise audit verify");
    assert_eq!(found.code, 8, "{}", found.shown());
    assert!(found.err.contains("an old backup was restored"), "{}", found.err);
    // With the anchor put back to that time too, nothing contradicts it.
    let anchor = home.path().join(".loki/loki.db.anchor");
    let first = fs::read_to_string(&anchor).unwrap().lines().next().unwrap().to_owned();
    fs::write(&anchor, first + "\n").unwrap();
    home.ok("enterprise audit verify");
}

/// Another server on the same data, which signs its end too.
fn with_more(home: &Home) {
    let mut serving = home.serve();
    let stop = std::process::Command::new("kill").arg(serving.child.id().to_string()).status();
    assert!(stop.unwrap().success() && serving.child.wait().unwrap().success());
}

#[test]
fn what_is_not_old_stays_and_a_dry_run_takes_nothing() {
    let home = with_signed_log();
    assert_eq!(home.ok("enterprise audit retain --dry-run").out, "Nothing is old enough to go.\n");
    assert_eq!(home.ok("enterprise audit retain --dry-run --json").json(), json!([]));
    let kept = home.ok("enterprise audit retain --export-first all.jsonl");
    assert!(kept.out.ends_with("Nothing is old enough to go.\n"), "{}", kept.out);
    home.ok("enterprise audit verify --export all.jsonl");
    assert_eq!(home.run("enterprise audit retain --export-first all.jsonl").code, 1);
}

#[test]
fn the_log_is_followed_from_an_entry_on() {
    let home = with_signed_log();
    let lines = home.ok("enterprise audit tail --after 2 -n 2 --json").out;
    let seqs: Vec<i64> =
        lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, [3, 4]);
}

#[test]
fn an_export_that_cannot_be_made_leaves_no_file_and_says_what_would_be_right() {
    let home = with_signed_log();
    for (asked, code, says) in [
        ("--event auth --out a.jsonl", 1, "did you mean 'auth.*'?"),
        ("--event nosuch --out a.jsonl", 1, "or the beginning of one and *"),
        ("--start yesterday --out a.jsonl", 1, "expected a date"),
        ("--start 2026-02-01 --end 2026-01-01 --out a.jsonl", 1, "--start has to be earlier than --end"),
        ("--out nosuch/a.jsonl", 1, "No such file or directory"),
    ] {
        let refused = home.run(&format!("enterprise audit export {asked}"));
        assert!(refused.code == code && refused.err.contains(says), "{asked}: {}", refused.shown());
        assert!(!refused.err.contains("not overwritten") && !home.path().join("a.jsonl").exists(), "{asked}");
    }
    let unknown = home.run("enterprise audit tail --event auth");
    assert!(unknown.code == 1 && unknown.err.contains("did you mean 'auth.*'?"), "{}", unknown.shown());
    home.ok("enterprise audit export --event auth.* --start 2026-01-01 --out a.jsonl");
    let again = home.run("enterprise audit export --out a.jsonl");
    assert!(again.code == 1 && again.err.contains("not overwritten"), "{}", again.shown());
    // One that nobody answers.
    let lost = home.run("enterprise audit export --out b.jsonl --server http://127.0.0.1:9");
    assert!(lost.code == 1 && !home.path().join("b.jsonl").exists(), "{}", lost.shown());
}
