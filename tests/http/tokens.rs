//! `/api/enterprise/tokens`: made, listed, shown, rotated and revoked as the contract says, and by what
//! came of it.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::door::{Answer, Client, Door, answer};

const PATH: &str = "/api/enterprise/tokens";
const DAY: Duration = Duration::from_hours(24);

async fn delete(who: &impl Client, which: &str) -> Answer {
    answer(who.ask("DELETE", &format!("{PATH}/{which}"))).await
}

async fn listed(who: &impl Client, query: &str) -> Vec<Value> {
    let list = who.get(&format!("{PATH}{query}")).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json().as_array().unwrap().clone()
}

/// What a list would tell a thief: nothing.
fn holds_no_secret(text: &str, secret: &str) -> bool {
    !text.contains(secret) && !text.contains("loki_") && !text.contains("digest") && !text.contains("hash")
}

#[actix_web::test]
async fn a_token_is_made_shown_once_and_works() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    let made = admin.post(PATH, &json!({"name": "ci-bot", "scopes": ["read", "write"], "expires_days": 30})).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let token = made.json();
    let fields: BTreeSet<&str> = token.as_object().unwrap().keys().map(String::as_str).collect();
    for promised in ["id", "name", "scopes", "role", "created_at", "expires_at", "last_used", "revoked", "token"] {
        assert!(fields.contains(promised), "{promised} is missing: {token}");
    }
    assert_eq!((&token["name"], &token["revoked"]), (&json!("ci-bot"), &json!(false)));
    assert_eq!((&token["role"], &token["last_used"]), (&Value::Null, &Value::Null));
    let scopes: BTreeSet<&str> = token["scopes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(scopes, BTreeSet::from(["read", "write"]));
    assert_eq!(token["expires_at"], door.clock.now().plus(30 * DAY).rfc3339());
    let id = token["id"].as_str().unwrap();
    assert!(id.starts_with("tok-") && id.len() == 16);
    assert_eq!(made.header("location"), format!("{PATH}/{id}"));

    let secret = token["token"].as_str().unwrap();
    let me = door.holder(secret).get("/api/me").await.json();
    assert_eq!((&me["id"], &me["name"], &me["kind"]), (&json!(id), &json!("ci-bot"), &json!("token")));
    for path in [made.header("location"), PATH, "/api/me"] {
        let shown = admin.get(path).await;
        assert!(shown.status == 200 && holds_no_secret(&shown.text, secret), "{path}: {}", shown.text);
    }
    let created = door.audit("auth.token.create").await;
    let entry = created.iter().find(|e| e.resource_id == id).unwrap();
    assert_eq!(entry.actor_id, admin.id.as_str());
    let log = serde_json::to_string(&created.iter().map(|e| &e.details).collect::<Vec<_>>()).unwrap();
    assert!(holds_no_secret(&log, secret));
}

#[actix_web::test]
async fn a_role_gives_what_the_role_holds() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    for (role, path, may) in [
        ("viewer", "/api/status", true),
        ("viewer", "/api/audit", false),
        ("auditor", "/api/audit", true),
        ("operator", "/api/audit", false),
        ("admin", PATH, true),
    ] {
        let made = admin.post(PATH, &json!({"name": format!("{role} {}", path.len()), "role": role})).await.json();
        assert_eq!(made["role"], role, "{made}");
        let status = door.holder(made["token"].as_str().unwrap()).get(path).await.status;
        assert_eq!(status, if may { 200 } else { 403 }, "{role} {path}");
    }
    let me = admin.post(PATH, &json!({"name": "v", "role": "viewer"})).await.json();
    assert_eq!(me["scopes"], json!(["read"]));
    admin.post(PATH, &json!({"name": "w", "role": "owner"})).await.problem(422);
}

#[actix_web::test]
async fn a_request_with_a_fault_makes_nothing() {
    let door = Door::open(&[("LOKI_TOKENS_MAX_EXPIRATION_DAYS", "100"), ("LOKI_LIMITS_TOKEN_CREATION", "off")]).await;
    let admin = door.token("*").await;
    let before = listed(&admin, "?include_revoked=true").await.len();
    let good = json!({"name": "n", "scopes": ["read"]});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, says) in [
        (with("admin", json!(true)), "admin"),
        (with("name", json!("")), "name"),
        (with("name", json!("a\u{202e}b")), "name"),
        (with("name", json!("tok-abc")), "name"),
        (with("name", json!("x".repeat(65))), "name"),
        (with("scopes", json!([])), "scopes"),
        (with("scopes", json!(["READ"])), "scopes"),
        (with("scopes", json!(["read write"])), "scopes"),
        (with("scopes", json!(["root"])), "scopes"),
        (with("role", json!("viewer")), "scopes"),
        (with("expires_days", json!(0)), "expires_days"),
        (with("expires_days", json!(101)), "expires_days"),
        (json!({"name": "n"}), "scopes"),
        (json!({"scopes": ["read"]}), "name"),
    ] {
        let detail = admin.post(PATH, &body).await.problem(422);
        assert!(detail.contains(says), "{body}: {detail}");
    }
    for twice in [r#"{"name":"n","name":"m","scopes":["read"]}"#, r#"{"name":"n","scopes":["read"],"scopes":["*"]}"#] {
        let request = admin.ask("POST", PATH).header("content-type", "application/json").body(twice);
        assert!(answer(request).await.problem(422).contains("duplicate field"));
    }
    for broken in ["{", "", "{\"name\":\"n\"} x", "\u{feff}{}"] {
        let request = admin.ask("POST", PATH).header("content-type", "application/json").body(broken);
        answer(request).await.problem(400);
    }
    admin.post(PATH, &json!(["n", ["read"], null, 1])).await.problem(422);
    assert_eq!(listed(&admin, "?include_revoked=true").await.len(), before);
    assert_eq!(admin.post(PATH, &good).await.status, 201);
    admin.post(PATH, &good).await.problem(409);
    assert_eq!(listed(&admin, "").await.len(), before + 1);
}

#[actix_web::test]
async fn a_wrong_type_is_refused_with_the_name_of_its_field() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    for (field, value) in [
        ("name", json!(7)),
        ("scopes", json!("read")),
        ("scopes", json!([1])),
        ("expires_days", json!(-1)),
        ("expires_days", json!(1.5)),
    ] {
        let mut body = json!({"name": "n", "scopes": ["read"]});
        body[field] = value;
        let detail = admin.post(PATH, &body).await.problem(422);
        assert!(detail.starts_with(field), "{body}: {detail}");
    }
    assert_eq!(admin.post(PATH, &json!({"name": "n", "scopes": ["read"]})).await.status, 201);
}

#[actix_web::test]
async fn nobody_hands_out_a_scope_that_they_lack() {
    let door = Door::open(&[]).await;
    let viewer = door.person("vic", "nobody").await;
    let refused = viewer.submit("/tokens", &[("name", "up"), ("scopes", "control")]).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let made = viewer.submit("/tokens", &[("name", "up"), ("scopes", "read")]).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(door.audit("auth.token.create").await.len(), 1);
    for scopes in ["control write read", "audit"] {
        let weak = door.token(scopes).await;
        weak.post(PATH, &json!({"name": "up", "scopes": ["read"]})).await.problem(403);
    }
}

#[actix_web::test]
async fn a_list_pages_by_its_link_and_hides_the_ended_unless_asked() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    for n in 0..5 {
        door.clock.advance(Duration::from_millis(n % 2));
        door.token("read").await;
    }
    let revoked = door.token("read").await;
    assert_eq!(delete(&admin, revoked.id.as_str()).await.status, 200);

    let (mut seen, mut next) = (Vec::new(), format!("{PATH}?limit=2"));
    while !next.is_empty() {
        let page = admin.get(&next).await;
        assert_eq!(page.status, 200, "{next}: {}", page.text);
        seen.extend(page.json().as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        let link = page.header("link");
        next = link
            .strip_prefix('<')
            .and_then(|l| l.split_once(">; rel=\"next\""))
            .map(|(u, _)| u.to_owned())
            .unwrap_or_default();
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (6, 6));
    assert!(!seen.iter().any(|id| id == revoked.id.as_str()));
    let all = listed(&admin, "?include_revoked=true").await;
    assert_eq!(all.len(), 7);
    assert!(all.iter().any(|t| t["id"] == revoked.id.as_str() && t["revoked"] == true && t["state"] == "revoked"));
    for query in
        ["?limit=0", "?limit=1001", "?limit=x", "?cursor=x", "?include_revoked=maybe", "?x=1", "?limit=1&limit=2"]
    {
        admin.get(&format!("{PATH}{query}")).await.problem(422);
    }
}

#[actix_web::test]
async fn a_token_is_shown_and_revoked_by_id_and_by_name() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    for name in ["ci-bot", "team a/b: é1"] {
        let token = door.named_token(name, "read", None).await;
        let escaped: String =
            url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20");
        assert_eq!(admin.get(&format!("{PATH}/{escaped}")).await.json()["id"], token.id.as_str(), "{name}");
        assert_eq!(token.get("/api/me").await.status, 200);
        let gone = delete(&admin, &escaped).await;
        assert_eq!((gone.status, gone.json()), (200, json!({"status": "ok", "action": "revoke", "identifier": name})));
        token.get("/api/me").await.problem(401);
        assert_eq!(delete(&admin, token.id.as_str()).await.status, 200, "again changes nothing");
        delete(&admin, &escaped).await.problem(404);
    }
    assert_eq!(door.audit("auth.token.revoke").await.len(), 2);
    for unknown in ["tok-000000000000", "nobody", "%00", "x%0ay", &"y".repeat(300)] {
        delete(&admin, unknown).await.problem(404);
        admin.get(&format!("{PATH}/{unknown}")).await.problem(404);
    }
    let (one, two) = (door.named_token("twin", "read", None).await, door.person("ann", "admins").await);
    assert_eq!(two.submit("/tokens", &[("name", "twin"), ("scopes", "read")]).await.status, 201);
    let detail = delete(&admin, "twin").await.problem(409);
    assert!(detail.contains(one.id.as_str()), "{detail}");
    assert_eq!(one.get("/api/me").await.status, 200);
}
