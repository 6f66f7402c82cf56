//! What a provider publishes: documents and keys that are not right let nobody in, and once they are
//! right again (and the cool-down is over) people come in. A provider that is down is said to be down.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Client as _, Door, answer},
    provider::{Reply, Script, Sign, main_jwk},
};

type Fault = (&'static str, fn(&mut Script));

const COOL_DOWN: Duration = Duration::from_secs(10);

fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name);
}

fn key(change: impl Fn(&mut Value)) -> Value {
    let mut key = main_jwk();
    change(&mut key);
    json!({"keys": [key]})
}

const DOCUMENTS: [Fault; 22] = [
    ("issuer of another", |s| s.discovery["issuer"] = json!("https://evil.example")),
    ("issuer with a slash", |s| s.discovery["issuer"] = format!("{}/", s.discovery["issuer"].as_str().unwrap()).into()),
    ("issuer in an array", |s| s.discovery["issuer"] = json!([s.discovery["issuer"]])),
    ("issuer missing", |s| remove(&mut s.discovery, "issuer")),
    ("jwks_uri missing", |s| remove(&mut s.discovery, "jwks_uri")),
    ("authorization_endpoint missing", |s| remove(&mut s.discovery, "authorization_endpoint")),
    ("an array", |s| s.discovery = json!([])),
    ("HTML", |s| s.discovery_reply = Some(Reply::Text(200, "text/html", "<html>".into()))),
    ("404", |s| s.discovery_reply = Some(Reply::Text(404, "application/json", "{}".into()))),
    ("a redirect", |s| s.discovery_reply = Some(Reply::Redirect)),
    ("256 MiB", |s| s.discovery_reply = Some(Reply::Endless)),
    ("keys: HTML", |s| s.keys_reply = Some(Reply::Text(200, "text/html", "<html>".into()))),
    ("keys: a redirect", |s| s.keys_reply = Some(Reply::Redirect)),
    ("keys: 256 MiB", |s| s.keys_reply = Some(Reply::Endless)),
    ("keys: none", |s| s.keys = json!({"keys": []})),
    ("keys: not a list", |s| s.keys = json!({"keys": {"main": main_jwk()}})),
    ("keys: use enc", |s| s.keys = key(|k| k["use"] = json!("enc"))),
    ("keys: key_ops encrypt", |s| s.keys = key(|k| k["key_ops"] = json!(["encrypt"]))),
    ("keys: symmetric", |s| s.keys = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "main"}]})),
    ("keys: private", |s| s.keys = key(|k| k["d"] = k["n"].clone())),
    ("keys: RSA of 1024 bits", |s| s.keys = key(|k| k["n"] = k["n"].as_str().unwrap()[..171].into())),
    ("keys: a type of its own", |s| s.keys = json!({"keys": [{"kty": "AKP", "kid": "main"}, 7, null]})),
];

#[actix_web::test]
async fn documents_that_are_not_right_begin_no_sign_in_until_they_are() {
    for (what, change) in DOCUMENTS {
        let fresh = Door::open(&[]).await;
        fresh.provider.change(change);
        let begun = Anonymous(&fresh).get("/auth/oidc/login").await;
        begun.problem(503);
        assert_eq!(fresh.provider.calls("/authorize"), 0, "{what}");
        assert!(fresh.provider.calls("one MiB") < 16, "{what}");
        assert_eq!(
            fresh.provider.calls("/jwks-elsewhere")
                + fresh.provider.calls("/.well-known/openid-configuration-elsewhere"),
            0
        );
        Anonymous(&fresh).get("/auth/oidc/login").await.problem(503);
        assert_eq!(
            fresh.provider.calls("/.well-known/openid-configuration"),
            1,
            "{what}: asked again within the cool-down"
        );
        fresh.clock.advance(COOL_DOWN);
        fresh.provider.behave();
        assert_eq!(fresh.sign_in(&[]).await.status, 303, "{what}");
    }
}

#[actix_web::test]
async fn odd_but_right_documents_are_taken() {
    const ODD: [Fault; 6] = [
        ("no kid", |s| {
            s.keys = key(|k| remove(k, "kid"));
        }),
        ("no use", |s| s.keys = key(|k| remove(k, "use"))),
        ("key_ops verify", |s| s.keys = key(|k| k["key_ops"] = json!(["verify"]))),
        ("an alg that is named", |s| s.keys = key(|k| k["alg"] = json!("RS256"))),
        ("a dozen of algorithms and other keys", |s| {
            s.discovery["id_token_signing_alg_values_supported"] =
                json!(["HS256", "ES512", "RS256", "none", "XX1", "EdDSA"]);
            s.keys = json!({"keys": [{"kty": "oct", "k": "AA"}, {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}, {"kty": "X"}, main_jwk()]});
        }),
        ("no RFC 9207", |s| {
            remove(&mut s.discovery, "authorization_response_iss_parameter_supported");
            s.answer.retain(|(name, _)| name != "iss");
        }),
    ];
    for (what, change) in ODD {
        let door = Door::open(&[]).await;
        door.provider.change(change);
        let answer = door.sign_in(&[]).await;
        assert_eq!(answer.status, 303, "{what}: {}", answer.text);
    }
}

#[actix_web::test]
async fn an_issuer_may_end_in_a_slash_and_is_compared_exactly() {
    let door = Door::open(&[]).await;
    let slashed = format!("{}/", door.provider.issuer());
    let other = Door::open(&[("LOKI_OIDC_ISSUER", &slashed), ("LOKI_LIMITS_SIGN_IN", "off")]).await;
    // The second door asks the first door's provider, which follows the first door's clock.
    let set = |s: &mut Script| {
        s.discovery["issuer"] = slashed.clone().into();
        s.claims["iss"] = slashed.clone().into();
        s.answer[1].1.clone_from(&slashed);
    };
    door.provider.change(set);
    let sign_in = async || {
        let (url, cookie) = other.begin("").await;
        let query = door.consent(&url);
        other.come_back(&query, &cookie, &[]).await
    };
    let come = sign_in().await;
    assert_eq!(come.status, 303, "{}", come.text);
    let bare = door.provider.issuer().to_owned();
    door.provider.behave();
    door.provider.change(|s| {
        set(s);
        s.claims["iss"] = bare.into();
    });
    sign_in().await.problem(400);
}

#[actix_web::test]
async fn a_new_key_is_found_and_an_unknown_one_costs_one_look_a_cool_down() {
    let door = Door::open(&[("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off")]).await;
    door.provider.change(|s| s.keys = key(|k| k["kid"] = json!("old")));
    let renamed = door.sign_in(&[]).await;
    assert_eq!(renamed.status, 400, "the kid is not known and the cool-down is not over: {}", renamed.text);
    door.clock.advance(COOL_DOWN);
    door.provider.behave();
    assert_eq!(door.sign_in(&[]).await.status, 303, "the new key is read");
    let looks = door.provider.calls("/jwks");
    for _ in 0..20 {
        door.clock.advance(Duration::from_secs(1));
        door.provider.behave();
        door.provider.change(|s| (s.header["kid"], s.sign) = (json!("unknown"), Sign::Other));
        assert_eq!(door.sign_in(&[]).await.status, 400);
    }
    assert!(door.provider.calls("/jwks") - looks <= 2, "{}", door.provider.calls("/jwks") - looks);
    door.provider.behave();
    assert_eq!(door.sign_in(&[]).await.status, 303);
}

#[actix_web::test]
async fn failed_or_empty_looks_do_not_cost_the_good_keys() {
    let door = Door::open(&[("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off")]).await;
    assert_eq!(door.sign_in(&[]).await.status, 303);
    for down in [json!({"keys": []}), json!("nonsense")] {
        door.clock.advance(Duration::from_hours(7));
        door.provider.behave();
        door.provider.change(|s| s.keys = down);
        assert_eq!(door.sign_in(&[]).await.status, 303);
    }
}

#[actix_web::test]
async fn while_the_provider_is_down_the_page_says_so_and_tokens_work() {
    let door = Door::open(&[]).await;
    let token = door.token("read").await;
    door.provider.change(|s| s.discovery_reply = Some(Reply::Text(503, "text/plain", String::new())));
    let page = Anonymous(&door).get("/login").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("does not answer"), "{}", page.text);
    assert_eq!(token.get("/api/status").await.status, 200);
    let begun = answer(Anonymous(&door).ask("GET", "/auth/oidc/login").header("accept", "text/html")).await;
    assert_eq!((begun.status, begun.header("content-type")), (503, "text/html; charset=utf-8"));
    door.provider.behave();
    door.clock.advance(COOL_DOWN);
    assert!(!Anonymous(&door).get("/login").await.text.contains("does not answer"));
}

#[actix_web::test]
async fn a_provider_that_hangs_is_asked_once_a_cool_down_and_holds_nobody_up() {
    let door = Door::open(&[]).await;
    let token = door.token("read").await;
    door.provider.change(|s| s.discovery_reply = Some(Reply::Hang));
    for _ in 0..3 {
        assert_eq!(Anonymous(&door).get("/login").await.status, 200);
        assert_eq!(token.get("/api/status").await.status, 200);
    }
    assert_eq!(door.provider.calls("/.well-known/openid-configuration"), 1);
    door.provider.behave();
    door.clock.advance(COOL_DOWN);
    assert_eq!(door.sign_in(&[]).await.status, 303);
}
