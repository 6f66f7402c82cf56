//! `lokid enterprise` on the local database.

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::{Home, value};

#[test]
fn a_new_token_is_printed_as_the_block_that_people_know() {
    let home = Home::new();
    let made = home.ok("enterprise token generate ci-bot --scopes read,write --expires 30");
    let lines: Vec<&str> = made.out.lines().collect();
    let (id, secret, date) = (value(&made.out, "ID"), value(&made.out, "Token"), value(&made.out, "Expires"));
    assert_eq!(
        lines,
        [
            "Token generated successfully!",
            "Name: ci-bot",
            &format!("ID: {id}"),
            &format!("Token: {secret}"),
            "Scopes: read, write",
            &format!("Expires: {date}"),
            "IMPORTANT: Save this token - it won't be shown again!",
        ]
    );
    assert!(id.starts_with("tok-") && secret.starts_with("loki_") && secret.len() == 55 && date.len() == 10);
    assert_eq!(value(&home.ok("enterprise token generate plain").out, "Scopes"), "read");
    assert_eq!(value(&home.ok("enterprise token generate boss --role admin").out, "Scopes"), "*");
    let list = home.ok("enterprise token list");
    assert!(!list.out.contains("loki_") && list.out.contains("ci-bot") && list.out.contains(id));
    let again = home.run("enterprise token generate ci-bot");
    assert_eq!(again.code, 1);
    assert!(again.err.contains("ci-bot"), "{}", again.err);
}

#[test]
fn tokens_are_listed_rotated_and_revoked_by_name_and_id() {
    let home = Home::new();
    let first = home.ok("enterprise token generate one --json").json();
    assert!(first["token"].as_str().unwrap().starts_with("loki_"));
    let rotated = home.ok("enterprise token rotate one --grace 0 --json").json();
    assert_eq!((&rotated["name"], &rotated["scopes"]), (&json!("one"), &first["scopes"]));
    assert_ne!((&rotated["id"], &rotated["token"]), (&first["id"], &first["token"]));
    assert!(
        home.ok("enterprise token rotate one --grace 5")
            .out
            .contains("The old token works for another 5 hours at most.")
    );
    assert_eq!(home.ok("enterprise token revoke one").out, "Token one is revoked.\n");
    assert_eq!(home.run("enterprise token revoke one").code, 1, "the name is free again");
    home.ok(&format!("enterprise token revoke {}", rotated["id"].as_str().unwrap()));
    assert_eq!(home.ok("enterprise token list --json").json(), json!([]));
    assert_eq!(
        home.ok("enterprise token list").out,
        "No tokens. Make one with: lokid enterprise token generate NAME --role viewer\n"
    );
    let all = home.ok("enterprise token list --all --json").json();
    let mut states: Vec<&str> = all.as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["expired", "revoked", "revoked"]);
    assert!(all.as_array().unwrap().iter().all(|t| t.get("token").is_none()));
}

#[test]
fn the_audit_log_is_shown_counted_and_verified() {
    let home = Home::new();
    home.ok("enterprise token generate a");
    home.ok("enterprise token generate b");
    home.ok("enterprise token revoke a");
    let tail = home.ok("enterprise audit tail --json");
    let events: Vec<Value> = tail.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["auth.token.create", "auth.token.create", "auth.token.revoke"]);
    assert!(events.iter().all(|e| e["actor"]["kind"] == "terminal" && e["actor"]["name"] == "tester"));
    assert_eq!(home.ok("enterprise audit tail --event auth.token.revoke").out.lines().count(), 1);
    assert_eq!(home.ok("enterprise audit tail --event auth.token.* -n 2").out.lines().count(), 2);
    let counts = home.ok("enterprise audit summary --json").json();
    assert!(
        counts.as_array().unwrap().iter().any(|c| c["event"] == "auth.token.create" && c["times"] == 2),
        "{counts}"
    );
    assert!(home.ok("enterprise audit verify").out.starts_with("The chain is whole: 3 entries, head "));
    assert_eq!(home.ok("enterprise audit verify --json").json()["valid"], true);
}

#[actix_web::test]
async fn a_changed_entry_is_found_and_named() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.ok(&format!("enterprise token generate {name}"));
    }
    let file = home.path().join(".loki/loki.db");
    let url = format!("sqlite://{}", file.display());
    let set = async |name: &str| {
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        // Whoever can write the file can also drop what guards the table, and put it back.
        let guard = "SELECT sql FROM sqlite_master WHERE name = 'audit_is_not_edited'";
        let guard: String = sqlx::query_scalar(guard).fetch_one(&mut conn).await.unwrap();
        sqlx::query("DROP TRIGGER audit_is_not_edited").execute(&mut conn).await.unwrap();
        let changed =
            sqlx::query("UPDATE audit SET actor_name = $1 WHERE seq = 2").bind(name).execute(&mut conn).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        sqlx::query(sqlx::AssertSqlSafe(guard)).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    };
    set("mallory").await;
    let found = home.run("enterprise audit verify");
    assert_eq!((found.code, found.out.as_str()), (3, ""));
    assert!(found.err.starts_with("lokid: the log is not whole from entry 2 on: entry 2 was changed"), "{}", found.err);
    let found = home.run("enterprise audit verify --json");
    assert_eq!((found.code, &found.json()["first_bad_seq"], &found.json()["kind"]), (3, &json!(2), &json!("edited")));
    set("tester").await;
    assert_eq!(home.ok("enterprise audit verify --json").json()["valid"], true);
}

/// Whoever looks for a token in the wrong directory is told, and does not find an installation there afterwards.
#[test]
fn what_is_not_there_is_not_made_by_looking_for_it() {
    let home = Home::new();
    let verbs =
        ["enterprise token list", "enterprise token rotate ci", "enterprise token revoke ci", "enterprise status"];
    for verb in verbs {
        let lost = home.run(verb);
        assert!(
            lost.code == 1 && lost.err.starts_with("lokid: there is no database .loki/loki.db"),
            "{}",
            lost.shown()
        );
    }
    assert!(!home.path().join(".loki").exists());
    home.ok("enterprise token generate ci --scope read");
    for verb in verbs {
        home.ok(verb);
    }
}

#[test]
fn rights_are_reviewed_at_the_terminal() {
    let home = Home::new();
    assert_eq!(home.run("enterprise review tokens").code, 1, "there is no database yet");
    let id = home.ok("enterprise token generate left-over --scopes write,read --json").json()["id"].clone();
    let found = home.ok("enterprise review tokens --json").json();
    assert_eq!(
        (&found["complete"], &found["rows"][0]["id"], &found["rows"][0]["findings"]),
        (&json!(true), &id, &json!([]))
    );
    assert_eq!(home.ok("enterprise review tokens --finding scopes --json").json()["rows"], json!([]));
    let table = home.ok("enterprise review access --kind token").out;
    assert!(table.contains("left-over") && table.contains("scopes chosen by"), "{table}");
    let csv = home.ok("enterprise review access --kind token --csv").out;
    assert!(csv.starts_with("kind,id,name,") && csv.contains(",left-over,") && csv.contains("read write"), "{csv}");
    home.ok("enterprise token revoke left-over");
    let changes = home.ok("enterprise review changes --json").json();
    let words: Vec<&str> = changes["rows"].as_array().unwrap().iter().map(|c| c["change"].as_str().unwrap()).collect();
    assert_eq!(words, ["lost", "gained"]);
    assert_eq!(home.ok("enterprise review changes --since 2200-01-01 --json").json()["rows"], json!([]));
    for (wrong, says) in [("changes --since never", "--since"), ("access --scope root", "--scope")] {
        let refused = home.run(&format!("enterprise review {wrong}"));
        assert!(refused.code == 1 && refused.err.contains(says), "{}", refused.err);
    }
    assert_eq!(home.run("enterprise review access --kind cat").code, 2);
}
