//! `POST /api/token/exchange` (RFC 8693): a workload's token for one of ours, once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Answer, Client as _, Door, answer},
    issuer::{Issuer, Key, Says, claims, token},
    workload::{AUDIENCE, bearer, door_for},
};

const PATH: &str = "/api/token/exchange";
const GRANT: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const JWT: (&str, &str) = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");

async fn ask(door: &Door, fields: &[(&str, &str)]) -> Answer {
    answer(Anonymous(door).ask("POST", PATH).form(fields)).await
}

async fn exchange(door: &Door, jwt: &str) -> Answer {
    ask(door, &[GRANT, JWT, ("subject_token", jwt)]).await
}

/// The word of OAuth for what was wrong.
#[track_caller]
fn refused(answer: &Answer, code: &str) -> String {
    let detail = answer.problem(400);
    assert_eq!(answer.json()["error"], code, "{}", answer.text);
    assert_eq!(
        (answer.json()["error_description"].as_str(), answer.header("cache-control")),
        (Some(&*detail), "no-store")
    );
    detail
}

async fn actions_door() -> (Issuer, Door) {
    let issuer = Issuer::start();
    let rules = json!([
        {"name": "deploy", "claims": {"repository_id": 42, "environment": "prod"}, "role": "operator", "exchange_lifetime": "5m"},
        {"name": "build", "claims": {"repository_id": 42}, "scopes": ["read", "write"]},
    ]);
    let entry = json!({"id": "github", "preset": "github-actions", "issuer": issuer.origin, "audience": AUDIENCE, "rules": rules});
    let door = door_for(&entry, &[("LOKI_LIMITS_TOKEN_CREATION", "off")]).await;
    (issuer, door)
}

fn job(issuer: &Issuer, door: &Door, jti: &str, environment: &str) -> Value {
    let mut job = claims(&issuer.origin, AUDIENCE, "repo:acme/app:ref:refs/heads/main", &door.clock);
    for (name, value) in [
        ("jti", jti),
        ("repository", "acme/app"),
        ("repository_id", "42"),
        ("run_id", "1001"),
        ("sha", "abc123"),
        ("environment", environment),
        ("event_name", "push"),
    ] {
        job[name] = value.into();
    }
    job
}

#[actix_web::test]
async fn a_job_gets_a_token_that_lives_as_long_as_its_rule_says_and_the_log_says_whose_it_is() {
    let (issuer, door) = actions_door().await;
    for (jti, environment, life, scopes, role) in
        [("a", "prod", 300, "read write control", Some("operator")), ("b", "", 900, "read write", None)]
    {
        let made = exchange(&door, &token(&job(&issuer, &door, jti, environment), Key::Rsa)).await;
        assert_eq!((made.status, made.header("cache-control")), (200, "no-store"), "{}", made.text);
        let body = made.json();
        let secret = body["access_token"].as_str().unwrap();
        assert!(secret.starts_with("loki_"));
        assert_eq!(body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["scope"]),
            (&json!("Bearer"), &json!(life), &json!(scopes))
        );
        let me = door.holder(secret).get("/api/me").await.json();
        assert_eq!((&me["kind"], &me["role"]), (&json!("token"), &json!(role)));
        assert!(me["name"].as_str().unwrap().starts_with("acme/app "), "{me}");
        let entry = &door.audit("auth.token.create").await[0];
        assert_eq!(
            (entry.actor_kind.as_str(), entry.actor_id.as_str()),
            ("workload", "github:repo:acme/app:ref:refs/heads/main")
        );
        assert_eq!(entry.resource_id, me["id"].as_str().unwrap());
        let details: Value = serde_json::from_str(&entry.details).unwrap();
        assert_eq!(
            (&details["repository"], &details["run"], &details["commit"]),
            (&json!("acme/app"), &json!("1001"), &json!("abc123"))
        );
        assert_eq!(details["issuer"], "github");
        assert!(!entry.details.contains(secret) && !entry.details.contains("eyJ"));
        door.clock.advance(Duration::from_secs(life - 1));
        assert_eq!(door.holder(secret).get("/api/me").await.status, 200);
        door.clock.advance(Duration::from_secs(1));
        assert!(door.holder(secret).get("/api/me").await.problem(401).contains("expired"));
    }
}

#[actix_web::test]
async fn a_token_is_exchanged_once_however_it_is_sent() {
    let (issuer, door) = actions_door().await;
    let claims = job(&issuer, &door, "once", "prod");
    let (by_rsa, by_p256) = (token(&claims, Key::Rsa), token(&claims, Key::P256));
    let all = [&by_rsa, &by_rsa, &by_p256, &by_rsa].map(|jwt| exchange(&door, jwt));
    let answers = futures_util::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    let again = exchange(&door, &by_rsa).await;
    assert!(refused(&again, "invalid_request").contains("exchanged before"));
    assert_eq!(door.audit("auth.fail").await.len(), 4);
    assert!(door.audit("auth.fail").await.iter().all(|entry| entry.reason == "exchanged_before"));
    assert_eq!(door.audit("auth.token.create").await.len(), 1);
    assert_eq!(bearer(&door, &by_rsa).get("/api/me").await.status, 200, "it stays a credential by itself");
    assert_eq!(exchange(&door, &token(&job(&issuer, &door, "twice", "prod"), Key::Rsa)).await.status, 200);

    // Without jti, what is signed is its name: another signature makes it no other token.
    let mut nameless = claims.clone();
    nameless.as_object_mut().unwrap().remove("jti");
    let (one, two) = (token(&nameless, Key::P256), token(&nameless, Key::P256));
    assert_ne!(one, two);
    assert_eq!(exchange(&door, &one).await.status, 200);
    refused(&exchange(&door, &two).await, "invalid_request");
}

#[actix_web::test]
async fn a_hundred_jobs_of_one_repository_get_a_hundred_tokens() {
    let (issuer, door) = actions_door().await;
    let jobs: Vec<String> =
        (0..100).map(|n| token(&job(&issuer, &door, &format!("j{n}"), "prod"), Key::P256)).collect();
    let made = futures_util::future::join_all(jobs.iter().map(|jwt| exchange(&door, jwt))).await;
    assert!(made.iter().all(|answer| answer.status == 200));
    assert_eq!(door.app.store.active_tokens(door.clock.now()).await.unwrap(), 100);
}

#[actix_web::test]
async fn fewer_scopes_can_be_asked_for_and_never_more() {
    let (issuer, door) = actions_door().await;
    let n = std::cell::Cell::new(0);
    let with = async |scope: &str| {
        n.set(n.get() + 1);
        let jwt = token(&job(&issuer, &door, &format!("s{}", n.get()), "prod"), Key::Rsa);
        ask(&door, &[GRANT, JWT, ("subject_token", &jwt), ("scope", scope)]).await
    };
    let made = with("read").await.json();
    assert_eq!(made["scope"], "read");
    let narrow = door.holder(made["access_token"].as_str().unwrap());
    assert_eq!(narrow.get("/api/me").await.json()["role"], Value::Null);
    narrow.post("/api/tasks", &json!({"title": "t"})).await.problem(403);
    for scope in ["*", "audit", "read audit", "root", "READ"] {
        refused(&with(scope).await, "invalid_scope");
    }
    assert_eq!(with("read write").await.status, 200);
}

#[actix_web::test]
async fn a_request_with_a_fault_makes_nothing() {
    let (issuer, door) = actions_door().await;
    let jwt = token(&job(&issuer, &door, "f", "prod"), Key::Rsa);
    let subject = ("subject_token", jwt.as_str());
    for (fields, code) in [
        (vec![JWT, subject], "unsupported_grant_type"),
        (vec![("grant_type", "client_credentials"), JWT, subject], "unsupported_grant_type"),
        (vec![GRANT, subject], "invalid_request"),
        (vec![GRANT, ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), subject], "invalid_request"),
        (vec![GRANT, JWT], "invalid_request"),
        (vec![GRANT, JWT, subject, subject], "invalid_request"),
        (vec![GRANT, JWT, subject, ("actor_token", "x")], "invalid_request"),
        (
            vec![GRANT, JWT, subject, ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt")],
            "invalid_request",
        ),
        (vec![GRANT, JWT, subject, ("audience", "https://another.example")], "invalid_target"),
        (vec![GRANT, JWT, ("subject_token", "loki_x")], "invalid_request"),
        (vec![GRANT, JWT, ("subject_token", "a.b.c")], "invalid_request"),
    ] {
        refused(&ask(&door, &fields).await, code);
    }
    let mut foreign = job(&issuer, &door, "f2", "prod");
    foreign["repository_id"] = json!("43");
    assert!(refused(&exchange(&door, &token(&foreign, Key::Rsa)).await, "invalid_request").contains("no rule"));
    assert_eq!(door.audit("auth.fail").await[0].reason, "no_rule");
    refused(&exchange(&door, &token(&job(&issuer, &door, "f3", "prod"), Key::Stranger)).await, "invalid_request");
    let loki = door.token("*").await;
    let dressed = loki.ask("POST", PATH).form(&[GRANT, JWT, subject]);
    refused(&answer(dressed).await, "invalid_request");
    let json = Anonymous(&door).post(PATH, &json!({"subject_token": jwt})).await;
    json.problem(415);
    let in_query = Anonymous(&door).ask("POST", &format!("{PATH}?subject_token={jwt}")).form(&[GRANT, JWT]);
    refused(&answer(in_query).await, "invalid_request");
    assert_eq!(door.audit("auth.token.create").await.len(), 1, "the one of this test itself");
    let public = door.app.settings.server.public_url.to_string();
    assert_eq!(ask(&door, &[GRANT, JWT, subject, ("audience", &public)]).await.status, 200);
}

#[actix_web::test]
async fn an_issuer_that_is_down_is_said_to_be_down() {
    let (issuer, door) = actions_door().await;
    issuer.keys_say(Says::Status(500));
    exchange(&door, &token(&job(&issuer, &door, "d", "prod"), Key::Rsa)).await.problem(503);
}

#[actix_web::test]
async fn exchanges_are_counted_by_bearer() {
    let issuer = Issuer::start();
    let entry = json!({"issuer": issuer.origin, "audience": AUDIENCE});
    let door = door_for(&entry, &[("LOKI_LIMITS_TOKEN_CREATION", "2/h")]).await;
    let of = |sub: &str, n: u32| {
        let mut claims = claims(&issuer.origin, AUDIENCE, sub, &door.clock);
        claims["jti"] = json!(format!("{sub}-{n}"));
        token(&claims, Key::P256)
    };
    let mut seen = Vec::new();
    for n in 0..3 {
        seen.push(exchange(&door, &of("loud", n)).await.status);
    }
    assert_eq!(seen, [200, 200, 429]);
    assert_eq!(exchange(&door, &of("quiet", 0)).await.status, 200);
}
