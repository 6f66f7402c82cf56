//! `/review` and `/api/review/…`: who may do what and why, what nobody needs, and what changed; on both engines.

use std::time::Duration;

use lokid::{
    actions::background::write_uses,
    domain::event::{Actor, ActorKind, EventName, NewEvent, Outcome},
    store::ledger::Append,
};
use serde_json::{Value, json};

use crate::door::{Client, Door, answer};

const DAY: Duration = Duration::from_hours(24);

/// A door on each engine that this machine has.
async fn doors(env: &[(&str, &str)]) -> Vec<Door> {
    let mut doors = vec![Door::open(env).await];
    if let Some(url) = crate::postgres::fresh_database().await {
        let shared =
            [("LOKI_DATABASE_URL", url.as_str()), ("LOKI_SERVER_SECRET", "of this node, 32 characters or more")];
        doors.push(Door::open(&[env, &shared].concat()).await);
    }
    doors
}

async fn rows(who: &impl Client, path: &str) -> Vec<Value> {
    let found = who.get(path).await;
    assert_eq!(found.status, 200, "{path}: {}", found.text);
    let found = found.json();
    assert_eq!(found["complete"], true, "{found}");
    found["rows"].as_array().unwrap().clone()
}

fn of<'r>(rows: &'r [Value], id: &str) -> &'r Value {
    rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {rows:?}"))
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[actix_web::test]
async fn scopes_that_a_token_never_needed_are_found() {
    for door in doors(&[]).await {
        let (broad, exact) =
            (door.named_token("broad", "write read control audit", Some(365)).await, door.token("read").await);
        let auditor = door.token("audit").await;
        for who in [&broad, &exact] {
            assert_eq!(who.get("/api/status").await.status, 200);
            // What is refused, and what asks for no scope, needed none.
            who.get("/api/enterprise/tokens").await.problem(403);
            assert_eq!(who.get("/api/me").await.status, 200);
        }
        write_uses(&door.app).await.unwrap();
        let all = rows(&auditor, "/api/review/tokens").await;
        let row = of(&all, broad.id.as_str());
        assert_eq!((&row["used_scopes"], &row["enough"]), (&json!(["read"]), &json!(["read"])));
        assert_eq!(row["unused_scopes"], json!(["write", "control", "audit"]));
        assert_eq!(row["findings"], json!([]), "it has not been watched for long enough to be judged");

        door.clock.advance(90 * DAY);
        let auditor = door.token("audit").await;
        assert_eq!(exact.get("/api/me").await.status, 401, "thirty days are over");
        let found = rows(&auditor, "/api/review/tokens?finding=scopes").await;
        assert_eq!(ids(&found), [broad.id.as_str()]);
        let body = json!({"title": "t"});
        assert_eq!(broad.post("/api/tasks", &body).await.status, 201);
        assert_eq!(broad.get("/api/audit").await.status, 200);
        write_uses(&door.app).await.unwrap();
        let found = rows(&auditor, "/api/review/tokens?finding=scopes").await;
        assert_eq!(of(&found, broad.id.as_str())["unused_scopes"], json!(["control"]));
        assert_eq!(of(&found, broad.id.as_str())["enough"], json!(["write", "audit"]));
        let control = broad.post("/api/control/stop", &json!({"session_id": "run-000000000000"})).await.status;
        assert!(![401, 403].contains(&control), "{control}");
        write_uses(&door.app).await.unwrap();
        assert_eq!(rows(&auditor, "/api/review/tokens?finding=scopes").await, Vec::<Value>::new());
    }
}

#[actix_web::test]
async fn a_need_that_could_not_be_stored_is_stored_later() {
    let door = Door::open(&[]).await;
    let token = door.token("read audit").await;
    assert_eq!(token.get("/api/status").await.status, 200);
    let taken = door.app.authn.uses.drain();
    assert_eq!(taken.scopes.len(), 1);
    door.app.authn.uses.keep_scopes(taken.scopes.into_iter().collect());
    assert_eq!(token.get("/api/status").await.status, 200);
    assert_eq!(token.get("/api/audit").await.status, 200);
    write_uses(&door.app).await.unwrap();
    let stored = door.app.store.token(&token.id).await.unwrap().unwrap();
    assert_eq!(stored.used_scopes.to_string(), "read audit");
    // Known from the database now, so nothing is to be written again.
    let other = door.token("audit").await;
    assert_eq!(other.get("/api/audit").await.status, 200);
    assert_eq!(token.get("/api/status").await.status, 200);
    assert!(!door.app.authn.uses.drain().scopes.contains_key(&token.id));
}

#[actix_web::test]
async fn tokens_that_nobody_uses_are_found() {
    for door in doors(&[]).await {
        let (busy, idle) =
            (door.named_token("busy", "read", Some(365)).await, door.named_token("idle", "read", Some(365)).await);
        assert_eq!(idle.get("/api/me").await.status, 200);
        write_uses(&door.app).await.unwrap();
        door.clock.advance(89 * DAY);
        let auditor = door.token("audit").await;
        assert_eq!(rows(&auditor, "/api/review/tokens?finding=unused").await, Vec::<Value>::new());
        assert_eq!(busy.get("/api/me").await.status, 200);
        write_uses(&door.app).await.unwrap();
        door.clock.advance(DAY);
        let found = rows(&auditor, "/api/review/tokens?finding=unused").await;
        assert_eq!(ids(&found), [idle.id.as_str()]);
        assert_eq!(found[0]["unused_days"], 90);
        assert_eq!(rows(&auditor, "/api/review/tokens?finding=unused&days=91").await, Vec::<Value>::new());
    }
}

const RULES: [(&str, &str); 2] = [("LOKI_RBAC_DEFAULT_ROLE", "viewer"), ("LOKI_LIMITS_TOKEN_CREATION", "off")];

#[actix_web::test]
async fn everybody_is_listed_with_the_rule_that_gives_them_their_scopes() {
    for door in doors(&RULES).await {
        let ann = door.person("ann", "admins").await;
        door.person("vic", "nobody").await;
        let auditor = door.token("audit").await;
        let people = rows(&auditor, "/api/review/access?kind=person").await;
        let mut seen: Vec<_> = people
            .iter()
            .map(|p| {
                (p["name"].as_str().unwrap(), p["role"].as_str().unwrap(), p["rule"].as_str().unwrap(), &p["scopes"])
            })
            .collect();
        seen.sort_unstable_by_key(|row| row.0);
        assert_eq!((seen[0].1, seen[0].3), ("admin", &json!(["*"])));
        assert!(seen[0].0.starts_with("ann") && seen[0].2.contains(r#"groups has "admins""#), "{seen:?}");
        assert_eq!((seen[1].1, seen[1].3), ("viewer", &json!(["read"])));
        assert!(seen[1].2.contains("the default role"), "{seen:?}");
        assert!(people.iter().all(|p| p["state"] == "signed in"));

        let rules = rows(&auditor, "/api/review/access?kind=rule&scope=control").await;
        let names: Vec<_> = rules.iter().map(|r| r["role"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 2, "{rules:?}");
        assert!(names.contains(&"admin") && names.contains(&"operator"), "{rules:?}");
        let who = rows(&auditor, "/api/review/access?scope=audit&kind=token").await;
        assert_eq!(ids(&who), [auditor.id.as_str()]);

        answer(ann.ask("GET", "/review")).await;
        assert_eq!(ann.submit("/auth/logout", &[]).await.status, 303);
        let people = rows(&auditor, "/api/review/access?kind=person").await;
        let gone: Vec<_> = people.iter().filter(|p| p["state"] == "signed out").collect();
        assert_eq!((gone.len(), gone[0]["role"].as_str()), (1, Some("admin")));
    }
}

#[actix_web::test]
async fn a_token_that_grants_more_than_its_owner_may_do_now_is_found() {
    for door in doors(&RULES).await {
        let ann = door.person("ann", "admins").await;
        let made = ann.submit("/tokens", &[("name", "left over"), ("scopes", "control"), ("scopes", "read")]).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let maker = door.token("*").await;
        let of_maker = maker.post("/api/enterprise/tokens", &json!({"name": "child", "scopes": ["read"]})).await.json();
        let auditor = door.token("audit").await;
        let path = "/api/review/access?beyond_owner=true";
        assert_eq!(rows(&auditor, path).await, Vec::<Value>::new());

        door.person("ann", "nobody").await;
        ann.submit("/auth/logout", &[]).await;
        door.app.store.act(revoke(&door, &maker.id)).await.unwrap();
        let found = rows(&auditor, path).await;
        assert_eq!(found.len(), 2, "{found:?}");
        let left = found.iter().find(|row| row["name"] == "left over").unwrap();
        assert_eq!((&left["beyond_owner"], &left["scopes"]), (&json!(["control"]), &json!(["read", "control"])));
        let child = of(&found, of_maker["id"].as_str().unwrap());
        assert!(child["remark"].as_str().unwrap().contains("revoked"), "{child}");
    }
}

fn revoke(door: &Door, id: &lokid::domain::token::TokenId) -> lokid::store::tokens::Revoke {
    use lokid::domain::event::{Actor, EventName, NewEvent};
    let event = NewEvent::new(door.app.now(), EventName::TokenRevoked, Actor::system()).on("token", id.as_str());
    lokid::store::tokens::Revoke { id: id.clone(), event }
}

#[actix_web::test]
async fn rights_that_were_lost_or_gained_are_told_from_the_log() {
    for door in doors(&RULES).await {
        door.person("ann", "admins").await;
        door.person("bob", "nobody").await;
        door.clock.advance(100 * DAY);
        let since = door.clock.now().rfc3339();
        door.person("ann", "admins").await;
        door.person("ann", "nobody").await;
        door.person("bob", "admins").await;
        door.person("cyd", "auditors").await;
        let maker = door.token("*").await;
        let made = maker.post("/api/enterprise/tokens", &json!({"name": "short", "scopes": ["write"]})).await.json();
        let gone = answer(maker.ask("DELETE", "/api/enterprise/tokens/short")).await;
        assert_eq!(gone.status, 200, "{}", gone.text);
        let auditor = door.token("audit").await;

        let found = rows(&auditor, &format!("/api/review/changes?since={since}")).await;
        let told = |name: &str| -> Vec<(String, Option<&str>, Option<&str>)> {
            let mine = found.iter().filter(|row| row["name"].as_str().unwrap().starts_with(name));
            mine.map(|row| (row["change"].as_str().unwrap().to_owned(), row["from"].as_str(), row["to"].as_str()))
                .collect()
        };
        assert_eq!(told("ann"), [("lost".to_owned(), Some("admin"), Some("viewer"))]);
        assert_eq!(told("bob"), [("gained".to_owned(), Some("viewer"), Some("admin"))]);
        assert_eq!(told("cyd"), [("gained".to_owned(), None, Some("auditor"))]);
        let short = told("short");
        assert_eq!(short, [("lost".to_owned(), Some("write"), None), ("gained".to_owned(), None, Some("write"))]);
        let of_short: Vec<_> = found.iter().filter(|row| row["id"] == made["id"]).collect();
        assert!(of_short.len() == 2 && of_short[0]["seq"].as_i64() > of_short[1]["seq"].as_i64());
        let entry = door.app.store.audit_entry(of_short[0]["seq"].as_i64().unwrap()).await.unwrap().unwrap();
        assert_eq!(entry.event, "auth.token.revoke");
        let later = door.clock.now().plus(DAY).rfc3339();
        assert_eq!(rows(&auditor, &format!("/api/review/changes?since={later}")).await, Vec::<Value>::new());
    }
}

/// What the provider told while somebody was signed in counts too: a right that was lost before the moment is not lost
/// again, and one that comes back is gained.
#[actix_web::test]
async fn what_was_lost_before_the_moment_is_known() {
    for (told, expected) in [
        (None, json!([["lost", "admin", "viewer"]])),
        (Some((EventName::RoleChanged, "viewer")), json!([])),
        (Some((EventName::SessionEnded, "")), json!([["gained", null, "viewer"]])),
    ] {
        let door = Door::open(&[]).await;
        let dan = Actor::new(ActorKind::Person, "usr-000000000000", "dan");
        let record = async |event: NewEvent| door.app.store.act(Append { events: vec![event] }).await.unwrap();
        let sign_in = |role: &str| {
            NewEvent::new(door.app.now(), EventName::SignInSucceeded, dan.clone()).on("session", "s").with("role", role)
        };
        record(sign_in("admin")).await;
        if let Some((name, to)) = told {
            let event = NewEvent::new(door.app.now(), name, Actor::new(ActorKind::Provider, "oidc", "oidc"));
            let event = event.with("person", dan.id.as_str()).with("from", "admin").with("to", to);
            let (what, why) =
                if to.is_empty() { (("session", "s"), "not_admitted") } else { (("person", &*dan.id), "") };
            record(event.on(what.0, what.1).because(Outcome::Success, why)).await;
        }
        door.clock.advance(DAY);
        let since = door.clock.now().rfc3339();
        record(sign_in("viewer")).await;
        let auditor = door.token("audit").await;
        let found = rows(&auditor, &format!("/api/review/changes?since={since}")).await;
        let of_dan = found.iter().filter(|row| row["name"] == "dan");
        let of_dan: Vec<_> = of_dan.map(|row| json!([row["change"], row["from"], row["to"]])).collect();
        assert_eq!(json!(of_dan), expected, "{told:?}");
    }
}

#[actix_web::test]
async fn a_review_is_taken_along_as_csv_that_calculates_nothing() {
    let door = Door::open(&[]).await;
    door.person("=1+1", "admins").await;
    let auditor = door.token("audit").await;
    let csv = auditor.get("/api/review/access?kind=person&format=csv").await;
    assert_eq!((csv.status, csv.header("content-disposition")), (200, "attachment; filename=\"access.csv\""));
    let lines: Vec<&str> = csv.text.split("\r\n").collect();
    assert_eq!(lines[0], "kind,id,name,role,scopes,rule,state,beyond_owner,remark");
    assert!(lines[1].contains(",\"'=1+1") && lines[1].contains(",*,"), "{}", lines[1]);
    assert_eq!((lines.len(), lines[2]), (3, ""));
}

#[actix_web::test]
async fn a_parameter_that_makes_no_sense_is_named() {
    let door = Door::open(&[]).await;
    let auditor = door.token("audit").await;
    let ann = door.person("ann", "auditors").await;
    for (part, query, names) in [
        ("access", "kind=cat", "kind"),
        ("access", "scope=root", "scope"),
        ("access", "beyond_owner=perhaps", "beyond_owner"),
        ("tokens", "days=0", "days"),
        ("tokens", "days=many", "days"),
        ("tokens", "finding=gold", "finding"),
        ("changes", "since=yesterday", "since"),
    ] {
        assert!(auditor.get(&format!("/api/review/{part}?{query}")).await.problem(422).starts_with(names), "{query}");
        let page = ann.get(&format!("/review?show={part}&{query}")).await;
        assert!(page.status == 422 && page.text.contains(&format!("{names}: ")), "{query}: {}", page.status);
        let name = query.split('=').next().unwrap();
        let mended = match name {
            "kind" => "person",
            "scope" => "read",
            "beyond_owner" => "true",
            "days" => "7",
            "finding" => "unused",
            _ => "2026-01-31",
        };
        assert_eq!(auditor.get(&format!("/api/review/{part}?{name}={mended}")).await.status, 200);
        assert_eq!(ann.get(&format!("/review?show={part}&{name}={mended}")).await.status, 200);
    }
    assert!(auditor.get("/api/review/access?format=xml").await.problem(422).starts_with("format"));
    assert!(auditor.get("/api/review/access?days=1").await.problem(422).starts_with("days"));
}

#[actix_web::test]
async fn the_pages_show_what_was_found_and_say_when_there_is_nothing() {
    let door = Door::open(&[("LOKI_LIMITS_TOKEN_CREATION", "off")]).await;
    let ann = door.person("ann", "admins").await;
    ann.submit("/tokens", &[("name", "for the page"), ("scopes", "write")]).await;
    for (query, shows) in [
        ("", "beyond_owner"),
        ("?kind=token", "for the page"),
        ("?kind=certificate", "Nobody fits."),
        ("?show=tokens", "for the page"),
        ("?show=tokens&finding=unused", "No usable token fits."),
        ("?show=changes", "first sign-in"),
        ("?show=changes&since=2200-01-01", "Nobody lost or gained a right in that time."),
    ] {
        let page = ann.get(&format!("/review{query}")).await;
        assert!(page.status == 200 && page.text.contains(shows), "{query}: {}", page.text);
    }
    assert!(ann.get("/tokens").await.text.contains("/review?show=tokens&amp;finding=unused"));
    assert!(ann.get("/people").await.text.contains("/review?show=changes"));
    let viewer = door.person("ann", "operators").await;
    assert!(!viewer.get("/tokens").await.text.contains("/review?"));
}
