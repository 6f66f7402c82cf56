//! `Authorization: APIKey …`: a pre-shared key, its holder, and how it is changed.

use reqwest::RequestBuilder;
use serde_json::json;

use crate::{
    door::{Anonymous, Client as _, Door, answer},
    workload::Sends,
};

const ONE: &str = "mx8Kd8PSXmaI4asE9zKcXRDK/oFCs9ludxSoX7sg48k=";
const NEXT: &str = "7e3b0c1f94a2d86557ffce0923ab41187e3b0c1f94a2d8652399ab41deadbe01";
const OTHER: &str = "kR7sZ1m0pXw3vQb9TtY5uLhC2dEfGgHjA8nKiOaSd4E";

fn holder<'d>(door: &'d Door, key: &str) -> Sends<'d> {
    Sends(door, format!("APIKey {key}"))
}

async fn door_with(psk: &serde_json::Value, env: &[(&str, &str)]) -> Door {
    let text = psk.to_string();
    let mut all = vec![("LOKI_PSKS", text.as_str())];
    all.extend(env);
    Door::open(&all).await
}

#[actix_web::test]
async fn a_holder_comes_in_with_the_scopes_and_the_name_of_the_key() {
    let keys = json!([
        {"name": "backup", "key": ONE, "next_key": NEXT, "scopes": ["write"]},
        {"name": "monitor", "key": OTHER, "role": "auditor"},
    ]);
    let door = door_with(&keys, &[]).await;
    for key in [ONE, NEXT] {
        let me = holder(&door, key).get("/api/me").await.json();
        assert_eq!(
            (&me["id"], &me["kind"], &me["authenticated_by"]),
            (&json!("psk:backup"), &json!("psk"), &json!("psk"))
        );
        assert_eq!((&me["scopes"], &me["role"]), (&json!(["write"]), &json!(null)));
    }
    assert_eq!(holder(&door, OTHER).get("/api/me").await.json()["role"], "auditor");
    assert_eq!(holder(&door, ONE).post("/api/tasks", &json!({"title": "t"})).await.status, 201);
    assert_eq!(door.audit("task.create").await[0].actor_id, "psk:backup");
    holder(&door, ONE).get("/api/audit").await.problem(403);
    assert_eq!(holder(&door, OTHER).get("/api/audit").await.status, 200);
    for spelling in ["apikey", "APIKEY", "ApiKey"] {
        assert_eq!(Sends(&door, format!("{spelling} {ONE}")).get("/api/me").await.status, 200, "{spelling}");
    }
    lokid::actions::background::write_uses(&door.app).await.unwrap();
    let used: Vec<String> = door.audit("auth.token.use").await.into_iter().map(|e| e.actor_id).collect();
    assert_eq!(used, ["psk:monitor", "psk:backup"]);
}

#[actix_web::test]
async fn another_key_is_refused_counted_and_recorded_without_it() {
    let door = door_with(&json!({"key": ONE}), &[("LOKI_LIMITS_BAD_CREDENTIALS", "6/h")]).await;
    let near = format!("{}A", &ONE[..43]);
    for wrong in [NEXT, &near, &ONE[..43], &ONE.to_lowercase(), "x"] {
        let refused = holder(&door, wrong).get("/api/me").await;
        refused.problem(401);
        assert!(refused.header("www-authenticate").contains("invalid_token"));
    }
    let log = door.audit("auth.fail").await;
    assert!(log.len() == 5 && log.iter().all(|e| e.reason == "unknown_psk" && !e.details.contains(NEXT)));
    for (name, value) in [("authorization", format!("Bearer {ONE}")), ("x-api-key", ONE.to_owned())] {
        answer(Anonymous(&door).ask("GET", "/api/me").header(name, value)).await.problem(401);
    }
    holder(&door, NEXT).get("/api/me").await.problem(429);
    assert_eq!(holder(&door, ONE).get("/api/me").await.status, 200, "who holds the key is not held up");
    let without = Door::open(&[]).await;
    holder(&without, ONE).get("/api/me").await.problem(401);
}

#[actix_web::test]
async fn a_proxy_may_ask_about_a_holder_unless_the_app_takes_nothing_that_lives_long() {
    let apps = "[{host: app.example, rules: [{path: /, scope: read}]}, \
        {host: strict.example, deny_static_tokens: true, rules: [{path: /, scope: read}]}]";
    let env = [("LOKI_FORWARD_AUTH_APPS", apps), ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1")];
    let door = door_with(&json!({"key": ONE, "name": "robot"}), &env).await;
    let forwarded = |host: &str, request: RequestBuilder| {
        let request = request.header("x-forwarded-method", "GET").header("x-forwarded-proto", "https");
        request.header("x-forwarded-host", host).header("x-forwarded-uri", "/x")
    };
    let ask = |host: &str, key: &str| answer(forwarded(host, holder(&door, key).ask("GET", "/auth/verify")));
    let passed = ask("app.example", ONE).await;
    assert_eq!((passed.status, passed.header("x-auth-request-user")), (200, "psk:robot"));
    assert_eq!(ask("app.example", OTHER).await.status, 401);
    assert_eq!(ask("strict.example", ONE).await.status, 403);
    let person = door.person("ann", "admins").await;
    let beside = |key: &str| {
        forwarded("app.example", person.ask("GET", "/auth/verify").header("authorization", format!("APIKey {key}")))
    };
    assert_eq!(answer(beside(OTHER)).await.status, 200, "a key of the app's own is the app's");
    assert_eq!(answer(beside(ONE)).await.status, 400, "two credentials of ours");
    let both = person.ask("GET", "/api/me").header("authorization", format!("APIKey {ONE}"));
    answer(both).await.problem(400);
}
