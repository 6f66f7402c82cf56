//! `POST /api/explain-token` and `/explain-token`: an administrator sees every check; nobody else sees anything.

use serde_json::{Value, json};

use crate::{
    door::{Client as _, Door},
    issuer::{Issuer, Key, Says, claims, token},
    workload::{AUDIENCE, bearer, door_for},
};

const PATH: &str = "/api/explain-token";

async fn open() -> (Issuer, Door) {
    let issuer = Issuer::start();
    let rules =
        json!([{"name": "deploy", "claims": {"repository_id": "42", "environment": "prod"}, "role": "operator"}]);
    let entry = json!({"id": "github", "preset": "github-actions", "issuer": issuer.origin, "audience": AUDIENCE, "rules": rules});
    let door = door_for(&entry, &[]).await;
    (issuer, door)
}

fn job(issuer: &Issuer, door: &Door) -> Value {
    let mut job = claims(&issuer.origin, AUDIENCE, "repo:acme/app:environment:prod", &door.clock);
    for (name, value) in
        [("repository_id", "42"), ("repository_owner_id", "7"), ("environment", "prod"), ("event_name", "push")]
    {
        job[name] = value.into();
    }
    job
}

/// The line of a check.
fn line<'v>(explained: &'v Value, check: &str) -> &'v Value {
    explained["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {explained}"))
}

#[actix_web::test]
async fn every_check_is_shown_with_what_was_expected_and_what_is_there() {
    let (issuer, door) = open().await;
    let admin = door.token("*").await;
    let explain = async |jwt: &str| admin.post(PATH, &json!({ "token": jwt })).await.json();
    let good = explain(&token(&job(&issuer, &door), Key::Rsa)).await;
    assert_eq!((&good["accepted"], &good["issuer"]), (&json!(true), &json!("github")), "{good}");
    assert!(good["verdict"].as_str().unwrap().contains("deploy"));
    let order: Vec<&str> = good["checks"].as_array().unwrap().iter().map(|l| l["check"].as_str().unwrap()).collect();
    assert_eq!(
        order,
        [
            "iss",
            "alg",
            "crit",
            "jwk, jku, x5c, x5u",
            "typ",
            "kid",
            "key set",
            "key",
            "signature",
            "aud",
            "exp",
            "nbf",
            "iat",
            "sub",
            "cnf",
            "events",
            "preset",
            "deploy: environment",
            "deploy: repository_id",
            "rule"
        ]
    );
    assert!(good["checks"].as_array().unwrap().iter().all(|l| l["outcome"] == "pass"));
    assert!(good["clock"].as_str().is_some(), "{good}");

    let now = door.clock.now().seconds();
    for (what, change, check, says) in [
        ("audience", ("aud", json!(format!("{AUDIENCE}/"))), "aud", "slash"),
        ("expiry", ("exp", json!(now - 100)), "exp", "100 s ago"),
        ("issuer", ("iss", json!(issuer.origin.to_uppercase())), "iss", "case"),
        ("nobody", ("sub", json!(7)), "sub", "7"),
        ("rule", ("environment", json!("Prod")), "deploy: environment", "case"),
        ("type", ("repository_id", json!(42)), "deploy: repository_id", "text"),
    ] {
        let mut claims = job(&issuer, &door);
        claims[change.0] = change.1;
        let explained = explain(&token(&claims, Key::Rsa)).await;
        assert_eq!(explained["accepted"], false, "{what}");
        let failed = line(&explained, check);
        assert_eq!(failed["outcome"], "fail", "{what}: {explained}");
        assert!(failed.to_string().contains(says), "{what}: {failed}");
    }
    let forged = explain(&token(&job(&issuer, &door), Key::Stranger)).await;
    assert_eq!(line(&forged, "signature")["outcome"], "fail");
    assert_eq!((&line(&forged, "aud")["outcome"], &forged["accepted"]), (&json!("pass"), &json!(false)));
    for (text, says) in [("loki_abc", "lokid itself"), ("a.b.c.d.e", "JWE"), ("", "parts"), ("a.b.c", "base64url")] {
        let explained = explain(text).await;
        assert!(explained["accepted"] == false && explained.to_string().contains(says), "{text}: {explained}");
    }
    assert!(door.audit("auth.fail").await.is_empty(), "to explain is not to try");
}

#[actix_web::test]
async fn a_suggested_rule_lets_exactly_this_bearer_in() {
    let (issuer, door) = open().await;
    let admin = door.token("*").await;
    let mut foreign = job(&issuer, &door);
    foreign["repository_id"] = json!("43");
    let explained = admin.post(PATH, &json!({"token": token(&foreign, Key::Rsa)})).await.json();
    let rule = explained["suggested_rule"].as_str().unwrap();
    assert!(rule.contains("repository_id") && rule.contains("\"43\"") && rule.contains("environment"), "{rule}");

    let indented: String = rule.lines().flat_map(|line| ["  ", line, "\n"]).collect();
    let entry = format!(
        "- id: github\n  preset: github-actions\n  issuer: {}\n  audience: {AUDIENCE}\n{indented}",
        issuer.origin
    );
    let again = Door::open(&[("LOKI_JWT_ISSUERS", &entry)]).await;
    let of = |change: &dyn Fn(&mut Value)| {
        let mut claims = foreign.clone();
        change(&mut claims);
        token(&claims, Key::Rsa)
    };
    assert_eq!(bearer(&again, &of(&|_| ())).get("/api/me").await.status, 200);
    for (name, value) in [("repository_id", "42"), ("repository_owner_id", "8"), ("environment", "dev")] {
        assert_eq!(bearer(&again, &of(&|c| c[name] = value.into())).get("/api/me").await.status, 403, "{name}");
    }
}

#[actix_web::test]
async fn refused_tokens_are_offered_by_their_claims_alone() {
    let (issuer, door) = open().await;
    let mut foreign = job(&issuer, &door);
    foreign["repository_id"] = json!("43");
    let jwt = token(&foreign, Key::Rsa);
    for _ in 0..3 {
        assert_eq!(bearer(&door, &jwt).get("/api/me").await.status, 403);
    }
    let mut strange = job(&issuer, &door);
    strange["sub"] = json!("<script>alert(1)</script>");
    assert_eq!(bearer(&door, &token(&strange, Key::Stranger)).get("/api/me").await.status, 401);
    let admin = door.person("ann", "admins").await;
    let page = admin.get("/explain-token").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("no_rule") && page.text.contains("3 times") && page.text.contains("signature"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("<script>alert"), "what a token says is text");
    let signature = jwt.rsplit('.').next().unwrap();
    let number = crate::door::field(&page.text, "refusal");
    let explained = admin.submit("/explain-token", &[("refusal", &number)]).await;
    assert!(
        explained.status == 200 && explained.text.contains("It is refused") && explained.text.contains("repository_id")
    );
    assert!(explained.text.contains("was right when the token came"), "{}", explained.text);
    assert!(!explained.text.contains(signature) && !page.text.contains(signature));
    assert_eq!(admin.submit("/explain-token", &[("refusal", "999999")]).await.status, 422);
    assert_eq!(admin.submit("/explain-token", &[("token", "")]).await.status, 422);
    let pasted = admin.submit("/explain-token", &[("token", &token(&job(&issuer, &door), Key::P256))]).await;
    assert!(pasted.text.contains("It is let in"), "{}", pasted.text);
}

#[actix_web::test]
async fn only_an_administrator_gets_an_explanation() {
    let (issuer, door) = open().await;
    let jwt = token(&job(&issuer, &door), Key::Rsa);
    let asked = json!({ "token": jwt });
    assert_eq!(door.token("*").await.post(PATH, &asked).await.status, 200);
    for scopes in ["read", "audit", "control audit"] {
        door.token(scopes).await.post(PATH, &asked).await.problem(403);
    }
    bearer(&door, &jwt).post(PATH, &asked).await.problem(403);
    crate::door::Anonymous(&door).post(PATH, &asked).await.problem(401);
    for wrong in [json!({}), json!({"token": 7}), json!({"token": "x", "more": 1})] {
        door.token("*").await.post(PATH, &wrong).await.problem(422);
    }
}

#[actix_web::test]
async fn an_issuer_that_cannot_be_reached_is_a_line_of_its_own() {
    let (issuer, door) = open().await;
    issuer.keys_say(Says::Status(500));
    let explained =
        door.token("*").await.post(PATH, &json!({"token": token(&job(&issuer, &door), Key::Rsa)})).await.json();
    assert_eq!(
        (&line(&explained, "key set")["outcome"], &line(&explained, "signature")["outcome"]),
        (&json!("fail"), &json!("unknown"))
    );
    assert_eq!((&line(&explained, "aud")["outcome"], &explained["accepted"]), (&json!("pass"), &json!(false)));
}
