//! Assertions (`contract.md` §4): what they say of whom, to whom they are given, and that lokid itself takes
//! none of them.

use std::time::Duration;

use jsonwebtoken::decode_header;
use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Answer, Client, Door, WithSession, answer},
    verifier::{APP, CLOSED_APP, Verifier, verified, with_app},
};

const KEPT: (&str, &str) = ("LOKI_SERVER_SECRET", "0123456789abcdef0123456789abcdef");
const NO_LIMIT: (&str, &str) = ("LOKI_LIMITS_BAD_CREDENTIALS", "off");

async fn fetch(who: &impl Client, app: &str) -> Answer {
    who.get(&format!("/auth/assertion?app={app}")).await
}

async fn jws(who: &impl Client) -> String {
    let fetched = fetch(who, APP).await;
    assert_eq!(fetched.status, 200, "{}", fetched.text);
    fetched.json()["assertion"].as_str().unwrap().to_owned()
}

async fn claims(who: &impl Client) -> Value {
    Verifier::of(who.door()).check(&jws(who).await, APP).await.unwrap()
}

/// Whose e-mail address the provider vouches for, or not.
async fn person(door: &Door, email_verified: bool) -> WithSession<'_> {
    door.provider.behave();
    door.provider.change(|s| s.claims["email_verified"] = email_verified.into());
    door.session_of(&door.sign_in(&[]).await)
}

#[actix_web::test]
async fn it_says_who_somebody_is_for_one_app_and_five_minutes() {
    let door = with_app(&[KEPT]).await;
    let ann = person(&door, true).await;
    let fetched = fetch(&ann, APP).await;
    let (said, now) = (claims(&ann).await, door.clock.now());
    let me = ann.get("/api/me").await.json();
    let session = door.app.store.people_named("ann@example.org").await.unwrap().remove(0);
    assert_eq!(me["name"], "Ann");
    let expected = json!({
        "iss": format!("http://localhost:{}", door.port), "aud": APP, "sub": session.id.as_str(),
        "user": session.id.as_str(), "name": "Ann", "email": "ann@example.org", "groups": ["admins"],
        "sid": said["sid"], "jti": said["jti"], "iat": now.seconds(), "exp": now.seconds() + 300,
    });
    assert_eq!(said, expected);
    assert!(said["sid"].as_str().unwrap().starts_with("ses-"), "{said}");
    assert!(said["jti"].as_str().unwrap().len() >= 22, "{said}");
    let view = fetched.json();
    assert_eq!(
        (&view["audience"], &view["expires_at"]),
        (&json!(APP), &json!(now.plus(Duration::from_mins(5)).rfc3339()))
    );
    assert_eq!(fetched.header("cache-control"), "no-store");
}

#[actix_web::test]
async fn its_header_names_its_kind_and_a_key_of_the_set() {
    let door = with_app(&[KEPT]).await;
    let token = door.token("read").await;
    let text = jws(&token).await;
    let header = decode_header(&text).unwrap();
    let set = Anonymous(&door).get("/.well-known/jwks.json").await.json();
    assert_eq!(header.typ.as_deref(), Some("loki-assertion+jwt"));
    assert_eq!(
        (header.kid.as_deref(), json!(header.alg)),
        (set["keys"][0]["kid"].as_str(), set["keys"][0]["alg"].clone())
    );
}

#[actix_web::test]
async fn a_verifier_refuses_what_is_not_for_it_from_here_of_now_and_whole() {
    let door = with_app(&[KEPT]).await;
    let text = jws(&door.token("read").await).await;
    let set = Anonymous(&door).get("/.well-known/jwks.json").await.json();
    let (issuer, now) = (format!("http://localhost:{}", door.port), door.clock.now());
    let later = now.plus(Duration::from_mins(6));
    let (body, signature) = text.rsplit_once('.').unwrap();
    let turned = format!("{body}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    assert!(verified(&set, &text, CLOSED_APP, &issuer, now).is_err(), "another app's");
    assert!(verified(&set, &text, APP, "http://localhost:1", now).is_err(), "another issuer's");
    assert!(verified(&set, &text, APP, &issuer, later).is_err(), "too old");
    assert!(verified(&set, &turned, APP, &issuer, now).is_err(), "changed");
    assert!(verified(&json!({"keys": []}), &text, APP, &issuer, now).is_err(), "without the key");
    verified(&set, &text, APP, &issuer, now).unwrap();
}

#[actix_web::test]
async fn an_address_that_nobody_vouches_for_is_not_in_it() {
    let door = with_app(&[KEPT]).await;
    assert_eq!(claims(&person(&door, false).await).await["email"], "");
    assert_eq!(claims(&person(&door, true).await).await["email"], "ann@example.org");
}

#[actix_web::test]
async fn of_a_token_it_says_the_token_and_groups_that_are_none_but_not_null() {
    let door = with_app(&[KEPT]).await;
    let token = door.named_token("ci", "read", None).await;
    let said = claims(&token).await;
    assert_eq!((&said["sid"], &said["email"], &said["groups"]), (&json!(token.id.as_str()), &json!(""), &json!([])));
    let other = door.named_token("other", "read", None).await;
    assert_ne!(claims(&other).await["sid"], said["sid"]);
}

#[actix_web::test]
async fn it_is_given_only_for_an_app_that_there_is_and_that_admits_the_caller() {
    let door = with_app(&[KEPT, NO_LIMIT]).await;
    let token = door.token("read").await;
    fetch(&Anonymous(&door), APP).await.problem(401);
    fetch(&token, "nobody.example.com").await.problem(404);
    token.get("/auth/assertion").await.problem(422);
    let refused = fetch(&token, CLOSED_APP).await.problem(403);
    assert!(refused.contains(CLOSED_APP), "{refused}");
    fetch(&door.token("audit").await, APP).await.problem(403);
    assert_eq!(fetch(&token, APP).await.status, 200);

    let keeper = door.person("kay", "keepers").await;
    assert_eq!(fetch(&keeper, CLOSED_APP).await.json()["audience"], CLOSED_APP);
    fetch(&door.person("ann", "admins").await, CLOSED_APP).await.problem(403);
}

/// What the door says to a proxy about a request with this header.
async fn at_the_app(door: &Door, name: &str, value: &str) -> u16 {
    let request = Anonymous(door).ask("GET", "/auth/verify").header(name, value);
    let forwarded = [("method", "GET"), ("proto", "https"), ("host", APP), ("uri", "/")];
    let request = forwarded.iter().fold(request, |r, (n, v)| r.header(format!("x-forwarded-{n}"), *v));
    answer(request).await.status
}

async fn here(door: &Door, name: &str, value: &str) -> u16 {
    answer(Anonymous(door).ask("GET", "/api/me").header(name, value)).await.status
}

#[actix_web::test]
async fn it_is_no_credential_here_in_any_place() {
    let door = with_app(&[KEPT, NO_LIMIT]).await;
    let (ann, token) = (person(&door, true).await, door.token("*").await);
    for who in [jws(&ann).await, jws(&token).await] {
        for scheme in ["Bearer", "APIKey"] {
            let value = format!("{scheme} {who}");
            let refused =
                (here(&door, "authorization", &value).await, at_the_app(&door, "authorization", &value).await);
            assert_eq!(refused, (401, 401), "{scheme}");
        }
        for cookie in ["loki_session", "loki_door"] {
            let value = format!("{cookie}={who}");
            let refused = (here(&door, "cookie", &value).await, at_the_app(&door, "cookie", &value).await);
            assert_eq!(refused, (401, 401), "{cookie}");
        }
        assert_eq!(at_the_app(&door, "x-loki-jwt-assertion", &who).await, 401);
        let as_logout = Anonymous(&door).ask("POST", "/auth/oidc/backchannel-logout").form(&[("logout_token", &who)]);
        assert_eq!(answer(as_logout).await.status, 400);
    }
    assert!(door.audit("auth.fail").await.len() >= 16);
    let value = format!("Bearer {}", token.secret);
    let taken = (here(&door, "authorization", &value).await, at_the_app(&door, "authorization", &value).await);
    assert_eq!(taken, (200, 200));
    let taken = (here(&door, "cookie", &ann.cookie).await, at_the_app(&door, "cookie", &ann.cookie).await);
    assert_eq!(taken, (200, 200));
}

#[actix_web::test]
async fn the_proxy_gets_the_same_assertion_under_both_names() {
    let door = with_app(&[KEPT]).await;
    let token = door.token("read").await;
    knows_of_losses(&door).await;
    let request = token.ask("GET", "/auth/verify");
    let forwarded = [("method", "GET"), ("proto", "https"), ("host", APP), ("uri", "/")];
    let passed = answer(forwarded.iter().fold(request, |r, (n, v)| r.header(format!("x-forwarded-{n}"), *v))).await;
    assert_eq!(passed.status, 200, "{}", passed.text);
    let shown = passed.header("x-loki-jwt-assertion");
    assert_eq!((shown, passed.header("x-pomerium-jwt-assertion")), (jws(&token).await.as_str(), shown));
    assert_eq!(Verifier::of(&door).check(shown, APP).await.unwrap()["sid"], token.id.as_str());
}

/// Waits until the door hears of rights that others lose; before, it keeps nothing.
async fn knows_of_losses(door: &Door) {
    let heard = async {
        while door.app.store.rights().epoch().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.expect("it hears of losses");
}

#[actix_web::test]
async fn it_is_given_again_for_a_minute_unless_anybody_loses_a_right() {
    let door = with_app(&[KEPT]).await;
    let (token, other, boss) = (door.token("read").await, door.token("read").await, door.token("*").await);
    knows_of_losses(&door).await;
    let first = jws(&token).await;
    door.clock.advance(Duration::from_millis(59_999));
    assert_eq!(jws(&token).await, first);
    assert_ne!(jws(&other).await, first, "each has its own");
    door.clock.advance(Duration::from_millis(1));
    let second = jws(&token).await;
    assert_ne!(second, first);
    assert_eq!(jws(&token).await, second);

    let revoked = answer(boss.ask("DELETE", &format!("/api/enterprise/tokens/{}", other.id))).await;
    assert_eq!(revoked.status, 200);
    knows_of_losses(&door).await;
    let third = jws(&token).await;
    assert_ne!(third, second);
    assert_eq!(jws(&token).await, third);
    fetch(&other, APP).await.problem(401);
}

#[actix_web::test]
async fn it_is_not_given_again_once_another_key_signs() {
    let door = with_app(&[KEPT]).await;
    let (token, admin) = (door.token("read").await, door.person("ann", "admins").await);
    knows_of_losses(&door).await;
    let first = jws(&token).await;
    assert_eq!(jws(&token).await, first);
    let leaked = decode_header(&first).unwrap().kid.unwrap();
    assert_eq!(admin.submit(&format!("/keys/{leaked}/revoke"), &[]).await.status, 303);
    let second = jws(&token).await;
    assert!(Verifier::of(&door).check(&first, APP).await.is_err());
    Verifier::of(&door).check(&second, APP).await.unwrap();
}
