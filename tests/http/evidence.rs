//! The log as auditors take it along: exported, examined from the file alone, and refused when it was touched.

use std::{sync::Arc, time::Duration};

use lokid::{
    actions::evidence,
    audit::{offline, verify::Report},
    domain::{
        checkpoint::Checkpoint,
        event::{Actor, EventName, NewEvent, Origin},
        identity::Identity,
        ledger::Entry,
    },
    keys::{sign::SigningKey, verify::PublicKeys},
    store::ledger::{Append, Filter},
};
use sqlx::{ConnectOptions as _, Executor as _, sqlite::SqliteConnectOptions};

use crate::door::{Anonymous, Client as _, Door};

fn examine(export: &[u8], trusted: &PublicKeys) -> Report {
    offline::export(export, trusted, &[]).unwrap()
}

fn kind(export: &[u8], trusted: &PublicKeys) -> Option<&'static str> {
    examine(export, trusted).flaw.map(|flaw| flaw.kind())
}

/// A door whose log has a bit of everything, signed twice.
async fn with_history() -> Door {
    let door = Door::open(&[]).await;
    for name in ["ann", "=1+1", "\"quoted\", with comma", "\u{1b}[31mred\r\n"] {
        let mut event = NewEvent::new(door.app.now(), EventName::CredentialRefused, Actor::system());
        name.clone_into(&mut event.actor.name);
        door.app.store.act(Append { events: vec![event.with("who", name)] }).await.unwrap();
        if name == "=1+1" {
            evidence::sign(&door.app, true).await.unwrap().unwrap();
        }
    }
    evidence::sign(&door.app, true).await.unwrap().unwrap();
    door
}

#[actix_web::test]
async fn an_export_is_examined_with_the_published_keys_alone() {
    let door = with_history().await;
    let auditor = door.token("audit").await;
    let export = auditor.get("/api/audit/export?format=jsonl").await;
    assert_eq!((export.status, export.header("content-type")), (200, "application/jsonl"));
    assert_eq!(export.header("content-disposition"), "attachment; filename=\"audit.jsonl\"");
    let keys = PublicKeys::read(&auditor.get("/api/audit/keys").await.text).unwrap();
    let report = examine(export.text.as_bytes(), &keys);
    let head = door.app.store.audit_head().await.unwrap();
    assert_eq!((report.flaw, report.head), (None, head));
    assert_eq!((report.checkpoints, report.signed_by), (2, keys.names().iter().map(|k| (*k).to_owned()).collect()));

    let recorded = door.audit("audit.export").await;
    assert_eq!((recorded.len(), recorded[0].actor_id.as_str()), (1, auditor.id.as_str()));
    assert_eq!(recorded[0].seq, head.seq, "the export holds its own event");
}

#[actix_web::test]
async fn an_export_that_was_touched_is_refused_and_says_how() {
    let door = with_history().await;
    let auditor = door.token("audit").await;
    let export = auditor.get("/api/audit/export").await.text.into_bytes();
    let keys = evidence::trusted(&door.app);
    assert_eq!(kind(&export, &keys), None);

    // Wherever a byte is changed, that is noticed, with or without trusted keys.
    let nobody = PublicKeys::default();
    for at in (0..export.len()).step_by(131).chain(export.len() - 30..export.len()) {
        let mut changed = export.clone();
        changed[at] ^= 1;
        for keys in [&keys, &nobody] {
            assert!(
                kind(&changed, keys).is_some(),
                "byte {at}: {}",
                String::from_utf8_lossy(&changed[at.saturating_sub(20)..=at])
            );
        }
    }
    // Wherever it breaks off.
    for end in (0..export.len()).step_by(97).chain([export.len() - 1]) {
        assert_eq!(kind(&export[..end], &keys), Some("truncated"), "at {end}");
    }
    let lines: Vec<&[u8]> = export.split_inclusive(|b| *b == b'\n').collect();
    let without = |gone: usize| [lines[..gone].concat(), lines[gone + 1..].concat()].concat();
    assert_eq!(kind(&without(lines.len() - 1), &keys), Some("truncated"));
    assert_eq!(kind(&without(lines.len() - 2), &keys), Some("truncated"));
    assert_eq!(kind(&without(3), &keys), Some("deleted"));
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert_eq!(kind(&swapped.concat(), &keys), Some("reordered"));
    assert_eq!(kind(&[lines[..4].concat(), lines[3..].concat()].concat(), &keys), Some("inserted"));

    // A seal whose signature was taken off says the same, and nobody vouches for it.
    let sealed: serde_json::Value = serde_json::from_slice(lines[lines.len() - 1]).unwrap();
    let payload = sealed["seal"].as_str().unwrap().split('.').nth(1).unwrap();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let bare = [lines[..lines.len() - 1].concat(), b"{\"seal\":".to_vec(), payload, b"}\n".to_vec()].concat();
    assert_eq!((kind(&bare, &keys), kind(&bare, &nobody)), (Some("changed"), None));

    let stranger = PublicKeys::of([&SigningKey::generate()]);
    let flaw = examine(&export, &stranger).flaw.unwrap();
    assert_eq!(flaw.kind(), "wrong_keys");
    assert!(flaw.to_string().contains(stranger.names()[0]), "{flaw}");

    let other = with_history().await.token("audit").await.get("/api/audit/export").await.text.into_bytes();
    let others: Vec<&[u8]> = other.split_inclusive(|b| *b == b'\n').collect();
    let joined = [lines[..4].concat(), others[4..].concat()].concat();
    assert_eq!(kind(&joined, &keys), Some("unlinked"), "the second half is another log's");
    assert_eq!(kind(&[export.clone(), other].concat(), &keys), Some("mixed"));
    assert_eq!(kind(&export, &keys), None);
}

/// What the log became after an export was made says nothing against the export; what it was before does.
#[actix_web::test]
async fn an_anchor_that_is_younger_than_an_export_does_not_accuse_it() {
    let door = with_history().await;
    let export = door.token("audit").await.get("/api/audit/export").await.text.into_bytes();
    let (keys, signer) = (evidence::trusted(&door.app), evidence::signer(&door.app).unwrap());
    let trusted = keys.clone();
    let (log, made) = (door.app.store.audit_log_id().await.unwrap(), door.app.now());
    let anchored = |time| {
        let (node, keys) = ("n".to_owned(), Vec::new());
        let jws = signer.state(&Checkpoint { log, seq: 1_000, hash: [7; 32], time, node, keys, endorsement: None });
        offline::export(&export[..], &trusted, &[jws]).unwrap()
    };
    let later = anchored(made.plus(Duration::from_secs(1)));
    assert_eq!((later.flaw, later.anchors), (None, 0));
    assert!(later.unchecked.iter().any(|s| s.contains("younger")), "{:?}", later.unchecked);
    assert_eq!(anchored(made).flaw.unwrap().kind(), "old_backup");

    // The seal is the one line that no digest covers: not even a blank may be put into it.
    assert_eq!(kind(&export, &keys), None);
    let text = String::from_utf8(export.clone()).unwrap();
    for changed in [
        text.replace("{\"seal\":", "{\"seal\": "),
        format!("{} \n", text.trim_end()),
        text.trim_end().to_owned() + "\r\n",
    ] {
        assert_eq!(kind(changed.as_bytes(), &keys), Some("changed"));
    }
    let csv = door.token("audit").await.get("/api/audit/export?format=csv").await.text;
    assert!(examine(csv.as_bytes(), &keys).flaw.unwrap().to_string().contains("CSV"));
}

#[actix_web::test]
async fn a_filter_makes_an_export_smaller_and_its_seal_still_holds() {
    let door = with_history().await;
    let auditor = door.token("audit").await;
    let export = auditor.get("/api/audit/export?event=auth.fail&actor=ann").await.text;
    let keys = evidence::trusted(&door.app);
    let report = examine(export.as_bytes(), &keys);
    assert_eq!((report.flaw, report.entries), (None, 1));
    assert!(report.unchecked.iter().any(|s| s.starts_with("the chain")), "{:?}", report.unchecked);
    assert!(export.lines().next().unwrap().contains("event=auth.fail&actor=ann"));
    let without: String = export.split_inclusive('\n').filter(|l| !l.starts_with("{\"seq\"")).collect();
    assert_eq!(kind(without.as_bytes(), &keys), Some("truncated"));
    assert!(door.audit("audit.export").await[0].details.contains("event=auth.fail"));
}

#[actix_web::test]
async fn csv_has_no_formula_and_one_record_an_entry() {
    let door = with_history().await;
    let csv = door.token("audit").await.get("/api/audit/export?format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(csv.text.starts_with("seq,time,event,") && csv.text.ends_with("\r\n"));
    assert!(csv.text.contains(",\"'=1+1\","), "{}", csv.text);
    assert!(csv.text.contains(",\"\"\"quoted\"\", with comma\","), "{}", csv.text);
    assert!(!csv.text.contains(",=") && !csv.text.contains("\n="));
}

#[actix_web::test]
async fn nonsense_is_422_and_names_the_parameter() {
    let door = Door::open(&[]).await;
    let auditor = door.token("audit").await;
    let exports = async || door.audit("audit.export").await.len();
    for (query, name) in [
        ("format=xml", "format"),
        ("event=nothing", "event"),
        ("outcome=maybe", "outcome"),
        ("start=yesterday", "start"),
        ("end=2026-13-01", "end"),
        ("start=2026-02-01&end=2026-02-01", "end"),
        ("cursor=1", "cursor"),
        ("format=csv&format=csv", "format"),
    ] {
        let detail = auditor.get(&format!("/api/audit/export?{query}")).await.problem(422);
        assert!(detail.starts_with(name), "{query}: {detail}");
    }
    assert!(auditor.get("/api/audit?after=x").await.problem(422).starts_with("after"));
    assert_eq!(exports().await, 0);
    assert_eq!(auditor.get("/api/audit/export?format=csv&event=auth.*&start=2026-01-01").await.status, 200);
    assert_eq!(exports().await, 1);
}

#[actix_web::test]
async fn what_follows_an_entry_comes_oldest_first_and_without_a_gap() {
    let door = Door::open(&[]).await;
    let auditor = door.token("audit").await;
    let events = vec![NewEvent::new(door.app.now(), EventName::TokenUsed, Actor::system()); 25];
    door.app.store.act(Append { events }).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = auditor.get(&format!("/api/audit?after={after}&limit=7")).await.json();
        let seqs: Vec<i64> = page["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_i64().unwrap()).collect();
        let Some(last) = seqs.last() else { break };
        after = *last;
        seen.extend(seqs);
    }
    assert_eq!(seen, (1..=26).collect::<Vec<_>>());
}

#[actix_web::test]
async fn an_entrys_page_shows_its_neighbours_and_whether_it_fits() {
    let door = with_history().await;
    let admin = door.person("ann", "admins").await;
    let page = admin.get("/audit/3").await;
    assert_eq!(page.status, 200);
    for shown in ["href=\"/audit/2\"", "href=\"/audit/4\"", "fits its neighbours", "Covered by the checkpoint"] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    for (path, status) in [("/audit/9999", 404), ("/audit/x", 404), ("/audit/-1", 404), ("/audit/1", 200)] {
        assert_eq!(admin.get(path).await.status, status, "{path}");
    }
    assert_eq!(Anonymous(&door).get("/audit/1").await.status, 401);
    let list = admin.get("/audit?event=auth.*").await.text;
    assert!(list.contains("/api/audit/export?format=jsonl&amp;event=auth.*"), "{list}");
    assert!(list.contains("<svg") && list.contains("<rect"), "a timeline");
}

#[actix_web::test]
async fn verify_says_what_was_checked_and_what_could_not_be() {
    let door = with_history().await;
    let auditor = door.token("audit").await;
    let verdict = auditor.get("/api/audit/verify").await.json();
    assert_eq!((&verdict["valid"], &verdict["checkpoints"], &verdict["anchors"]), (&true.into(), &2.into(), &2.into()));
    assert!(
        verdict["not_checked"][0].as_str().unwrap().contains("entries: no checkpoint covers them yet"),
        "{verdict}"
    );
    evidence::sign(&door.app, true).await.unwrap();
    let again = auditor.get("/api/audit/verify").await.json();
    assert!(again["covered_to"].as_i64() > verdict["covered_to"].as_i64(), "{again}");
}

#[actix_web::test]
async fn retention_by_an_administrator_is_recorded_and_leaves_a_whole_log() {
    let door = with_history().await;
    let admin = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();
    assert_eq!(evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap(), 0);
    door.clock.advance(std::time::Duration::from_hours(24 * 100));
    let outlook = evidence::outlook(&door.app, &admin).await.unwrap();
    assert_eq!(outlook.iter().map(|o| (o.event.as_str(), o.entries)).collect::<Vec<_>>(), [("auth.fail", 4)]);
    assert_eq!(evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap(), 4);
    let recorded = door.audit("audit.retention").await;
    assert_eq!((recorded.len(), recorded[0].actor_name.as_str()), (1, "ann"));
    let auditor = door.token("audit").await;
    let verdict = auditor.get("/api/audit/verify").await.json();
    assert_eq!((&verdict["valid"], &verdict["taken_out"]), (&true.into(), &4.into()), "{verdict}");
    let export = auditor.get("/api/audit/export").await.text;
    assert!(export.contains("{\"tombstone\":"));
    let report = examine(export.as_bytes(), &evidence::trusted(&door.app));
    assert_eq!((report.flaw, report.taken), (None, 4));
}

/// Whoever can write into the database, and has no key, writes the history anew and lets retention bury it.
#[actix_web::test]
async fn retention_vouches_for_nothing_that_was_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("loki.db");
    let door = Door::open(&[("LOKI_DATABASE_URL", &format!("sqlite://{}", file.display()))]).await;
    for _ in 0..4 {
        let event = NewEvent::new(door.app.now(), EventName::CredentialRefused, Actor::system());
        door.app.store.act(Append { events: vec![event] }).await.unwrap();
    }
    evidence::sign(&door.app, true).await.unwrap().unwrap();
    door.clock.advance(std::time::Duration::from_hours(24 * 100));
    let all = Filter { after: Some(0), ..Filter::default() };
    let before = door.app.store.audit_page(&all, 100).await.unwrap();
    let admin = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();

    let mut conn = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    let triggers =
        "SELECT 'DROP TRIGGER ' || name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'";
    let triggers: Vec<(String, String)> = sqlx::query_as(triggers).fetch_all(&mut conn).await.unwrap();
    let (drop, guard): (Vec<_>, Vec<_>) = triggers.into_iter().unzip();
    conn.execute(sqlx::AssertSqlSafe(drop.join(";"))).await.unwrap();
    let write = async |conn: &mut sqlx::SqliteConnection, entries: &[Entry]| {
        for e in entries {
            let sql = "UPDATE audit SET actor_name = $1, prev_hash = $2, hash = $3 WHERE seq = $4";
            let query = sqlx::query(sql).bind(&e.actor_name).bind(&e.prev_hash[..]).bind(&e.hash[..]).bind(e.seq);
            query.execute(&mut *conn).await.unwrap();
        }
    };
    let mut anew = before.clone();
    for at in 1..anew.len() {
        anew[at].prev_hash = anew[at - 1].hash;
        if at == 2 {
            "eve".clone_into(&mut anew[at].actor_name);
        }
        anew[at].hash = anew[at].computed_hash();
    }
    write(&mut conn, &anew).await;
    let refused = evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap_err().to_string();
    assert!(refused.contains("not whole"), "{refused}");
    assert_eq!(door.app.store.audit_page(&all, 100).await.unwrap(), anew, "nothing was taken out");
    write(&mut conn, &before).await;
    let refused = evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap_err().to_string();
    assert!(refused.contains("trigger"), "nor while the table has no guard: {refused}");
    conn.execute(sqlx::AssertSqlSafe(guard.join(";"))).await.unwrap();
    assert_eq!(evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap(), 4);
}
