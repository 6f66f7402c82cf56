//! A provider that misbehaves in one thing at a time: nobody is signed in by it, the log says so, and
//! with that one thing restored the sign-in succeeds.

use serde_json::{Value, json};

use crate::{
    door::Door,
    provider::{ACCESS_TOKEN, CLIENT_ID, Reply, Script, Sign, at_hash, jws},
};

type Fault = (&'static str, fn(&mut Script));

/// A mutated sign-in is refused and leaves nothing; the same without the mutation succeeds.
async fn refused(door: &Door, what: &str, change: impl FnOnce(&mut Script), restored: bool) {
    let (sessions, failures) = (door.live_sessions().await, door.audit("auth.oidc.fail").await.len());
    door.provider.behave();
    door.provider.change(change);
    let answer = door.sign_in(&[]).await;
    assert!(matches!(answer.status, 400 | 503), "{what}: {} {}", answer.status, answer.text);
    assert_eq!(answer.cookie("loki_session"), None, "{what}");
    assert_eq!(door.live_sessions().await, sessions, "{what}");
    assert_eq!(door.audit("auth.oidc.fail").await.len(), failures + 1, "{what}");
    if restored {
        accepted(door, what, |_| {}).await;
    }
}

async fn accepted(door: &Door, what: &str, change: impl FnOnce(&mut Script)) {
    let (sessions, before) = (door.live_sessions().await, door.audit("auth.oidc.success").await.len());
    door.provider.behave();
    door.provider.change(change);
    let answer = door.sign_in(&[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, "/account"), "{what}: {}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    assert_eq!(door.session_of(&answer).door_says_ann().await, 200, "{what}");
    assert_eq!(door.live_sessions().await, sessions + 1, "{what}");
    assert_eq!(door.audit("auth.oidc.success").await.len(), before + 1, "{what}");
}

async fn unlimited() -> Door {
    Door::open(&[("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off"), ("LOKI_OIDC_USERINFO", "always")])
        .await
}

const CLAIMS: [Fault; 35] = [
    ("iss of another", |s| s.claims["iss"] = json!("https://evil.example")),
    ("iss with a slash", |s| s.claims["iss"] = format!("{}/", s.claims["iss"].as_str().unwrap()).into()),
    ("iss in an array", |s| s.claims["iss"] = json!([s.claims["iss"]])),
    ("iss missing", |s| drop(s.claims.as_object_mut().unwrap().remove("iss"))),
    ("aud of another", |s| s.claims["aud"] = json!("another")),
    ("aud empty", |s| s.claims["aud"] = json!([])),
    ("aud null", |s| s.claims["aud"] = Value::Null),
    ("aud missing", |s| drop(s.claims.as_object_mut().unwrap().remove("aud"))),
    ("several aud without azp", |s| s.claims["aud"] = json!([CLIENT_ID, "another"])),
    ("azp of another", |s| s.claims["azp"] = json!("another")),
    ("azp of another among several aud", |s| {
        s.claims["aud"] = json!([CLIENT_ID, "another"]);
        s.claims["azp"] = json!("another");
    }),
    ("azp not a text", |s| s.claims["azp"] = json!([CLIENT_ID])),
    ("nonce of another", |s| s.claims["nonce"] = json!("another")),
    ("nonce null", |s| s.claims["nonce"] = Value::Null),
    ("nonce a number", |s| s.claims["nonce"] = json!(7)),
    ("sub missing", |s| drop(s.claims.as_object_mut().unwrap().remove("sub"))),
    ("sub empty", |s| s.claims["sub"] = json!("")),
    ("sub a number", |s| s.claims["sub"] = json!(7)),
    ("sub of 256 characters", |s| s.claims["sub"] = "x".repeat(256).into()),
    ("exp missing", |s| drop(s.claims.as_object_mut().unwrap().remove("exp"))),
    ("exp over", |s| s.claims["exp"] = (s.claims["iat"].as_i64().unwrap() - 61).into()),
    ("exp a text", |s| s.claims["exp"] = json!("4000000000")),
    ("iat missing", |s| drop(s.claims.as_object_mut().unwrap().remove("iat"))),
    ("iat ahead", |s| s.claims["iat"] = (s.claims["iat"].as_i64().unwrap() + 86_400).into()),
    ("iat two days ago", |s| s.claims["iat"] = (s.claims["iat"].as_i64().unwrap() - 2 * 86_400).into()),
    ("iat a text", |s| s.claims["iat"] = json!("now")),
    ("nbf ahead", |s| s.claims["nbf"] = (s.claims["iat"].as_i64().unwrap() + 3600).into()),
    ("nbf a text", |s| s.claims["nbf"] = json!("0")),
    ("at_hash of another", |s| s.claims["at_hash"] = at_hash("another").into()),
    ("at_hash a number", |s| s.claims["at_hash"] = json!(7)),
    ("at_hash whole", |s| s.claims["at_hash"] = format!("{}AA", at_hash(ACCESS_TOKEN)).into()),
    ("email_verified a text", |s| s.claims["email_verified"] = json!("true")),
    ("userinfo of another sub", |s| s.userinfo["sub"] = json!("bob")),
    ("userinfo without sub", |s| s.userinfo = json!({"email": "x@example.org"})),
    ("userinfo that is an array", |s| s.userinfo = json!(["ann"])),
];

#[actix_web::test]
async fn claims_that_are_not_right_sign_nobody_in() {
    let door = unlimited().await;
    for (what, change) in CLAIMS {
        refused(&door, what, change, true).await;
    }
}

const SIGNATURES: [Fault; 18] = [
    ("alg none", |s| (s.header, s.sign) = (json!({"alg": "none"}), Sign::Nothing)),
    ("alg nOnE", |s| (s.header, s.sign) = (json!({"alg": "nOnE"}), Sign::Nothing)),
    ("no signature", |s| s.sign = Sign::Nothing),
    ("HS256 with the public key", |s| {
        (s.header, s.sign) = (json!({"alg": "HS256", "kid": "main"}), Sign::HmacOfPublic);
    }),
    ("RS256 in name, HMAC in fact", |s| s.sign = Sign::HmacOfPublic),
    ("a key that is not published", |s| s.sign = Sign::Other),
    ("an unknown kid", |s| s.header["kid"] = json!("unknown")),
    ("an unknown kid and key", |s| (s.header["kid"], s.sign) = (json!("unknown"), Sign::Other)),
    ("one bit turned", |s| s.sign = Sign::Broken),
    ("crit", |s| s.header["crit"] = json!(["exp"])),
    ("an empty crit", |s| s.header["crit"] = json!([])),
    ("typ at+jwt", |s| s.header["typ"] = json!("at+jwt")),
    ("typ logout+jwt", |s| s.header["typ"] = json!("logout+jwt")),
    ("alg of another type", |s| s.header["alg"] = json!("ES256")),
    ("alg a number", |s| s.header["alg"] = json!(256)),
    ("a key in the header", |s| {
        s.header = json!({"alg": "RS256", "jwk": crate::provider::other_jwk()});
        s.sign = Sign::Other;
    }),
    ("other claims under a good signature", |s| {
        let good = jws(&s.header, &s.claims, Sign::Main);
        let parts: Vec<&str> = good.split('.').collect();
        s.claims["sub"] = json!("root");
        let evil = jws(&s.header, &s.claims, Sign::Nothing);
        s.token["id_token"] = format!("{}{}", evil, parts[2]).into();
    }),
    ("a fourth part", |s| s.token["id_token"] = format!("{}.x", jws(&s.header, &s.claims, Sign::Main)).into()),
];

#[actix_web::test]
async fn signatures_and_headers_that_are_not_right_sign_nobody_in() {
    let door = unlimited().await;
    for (what, change) in SIGNATURES {
        refused(&door, what, change, true).await;
    }
}

fn text(status: u16, body: &str) -> Reply {
    Reply::Text(status, "application/json", body.to_owned())
}

const ANSWERS: [Fault; 14] = [
    ("no id_token", |s| s.token["id_token"] = Value::Null),
    ("token_type mac", |s| s.token["token_type"] = json!("mac")),
    ("no token_type", |s| drop(s.token.as_object_mut().unwrap().remove("token_type"))),
    ("no access_token", |s| drop(s.token.as_object_mut().unwrap().remove("access_token"))),
    ("token: HTML", |s| s.token_reply = Some(Reply::Text(200, "text/html", "<html>".into()))),
    ("token: 500", |s| s.token_reply = Some(text(500, "{}"))),
    ("token: invalid_grant", |s| s.token_reply = Some(text(400, r#"{"error":"invalid_grant"}"#))),
    ("token: redirect", |s| s.token_reply = Some(Reply::Redirect)),
    ("token: 256 MiB", |s| s.token_reply = Some(Reply::Endless)),
    ("userinfo: 401", |s| s.userinfo_reply = Some(text(401, "{}"))),
    ("userinfo: HTML", |s| s.userinfo_reply = Some(Reply::Text(200, "text/html", "<html>".into()))),
    ("userinfo: redirect", |s| s.userinfo_reply = Some(Reply::Redirect)),
    ("userinfo: 256 MiB", |s| s.userinfo_reply = Some(Reply::Endless)),
    ("userinfo: another's, in a signed answer", |s| {
        s.userinfo_reply = Some(Reply::Text(200, "application/jwt", "e30.e30.".into()));
    }),
];

#[actix_web::test]
async fn answers_that_are_not_right_sign_nobody_in() {
    let door = unlimited().await;
    for (what, change) in ANSWERS {
        let before = door.provider.calls("one MiB");
        refused(&door, what, change, true).await;
        assert!(door.provider.calls("one MiB") - before < 16, "{what}: the whole body was taken");
    }
    for path in ["/token-elsewhere", "/userinfo-elsewhere"] {
        assert_eq!(door.provider.calls(path), 0, "a redirect was followed to {path}");
    }
}

const ACCEPTED: [Fault; 15] = [
    ("at_hash", |s| s.claims["at_hash"] = at_hash(ACCESS_TOKEN).into()),
    ("azp", |s| s.claims["azp"] = json!(CLIENT_ID)),
    ("aud in an array", |s| s.claims["aud"] = json!([CLIENT_ID])),
    ("several aud with azp", |s| {
        s.claims["aud"] = json!([CLIENT_ID, "another"]);
        s.claims["azp"] = json!(CLIENT_ID);
    }),
    ("exp over by less than the skew", |s| s.claims["exp"] = (s.claims["iat"].as_i64().unwrap() - 59).into()),
    ("iat ahead by less than the skew", |s| s.claims["iat"] = (s.claims["iat"].as_i64().unwrap() + 59).into()),
    ("no kid", |s| drop(s.header.as_object_mut().unwrap().remove("kid"))),
    ("typ JWT", |s| s.header["typ"] = json!("JWT")),
    ("RS384", |s| s.header["alg"] = json!("RS384")),
    ("RS512", |s| s.header["alg"] = json!("RS512")),
    ("PS256", |s| s.header["alg"] = json!("PS256")),
    ("token_type bearer", |s| s.token["token_type"] = json!("bearer")),
    ("12 KiB of groups", |s| {
        let many: Vec<String> = (0..400).map(|n| format!("a group with a long name, {n:05}")).collect();
        s.claims["groups"] = json!(many);
    }),
    ("no sid", |s| drop(s.claims.as_object_mut().unwrap().remove("sid"))),
    ("no auth_time", |s| drop(s.claims.as_object_mut().unwrap().remove("auth_time"))),
];

#[actix_web::test]
async fn what_the_specifications_allow_is_accepted() {
    let door = unlimited().await;
    for (what, change) in ACCEPTED {
        accepted(&door, what, change).await;
    }
}

#[actix_web::test]
async fn a_sign_in_that_must_be_recent_says_when_it_was() {
    let off = [("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off"), ("LOKI_OIDC_MAX_AGE", "1h")];
    let door = Door::open(&off).await;
    let at = |seconds: i64| {
        move |s: &mut Script| s.claims["auth_time"] = (s.claims["iat"].as_i64().unwrap() + seconds).into()
    };
    refused(&door, "too long ago", at(-3661), true).await;
    refused(&door, "ahead", at(3600), true).await;
    refused(&door, "the end of numbers", |s| s.claims["auth_time"] = i64::MAX.into(), true).await;
    refused(&door, "a text", |s| s.claims["auth_time"] = json!("now"), true).await;
    refused(&door, "missing", |s| drop(s.claims.as_object_mut().unwrap().remove("auth_time")), true).await;
    accepted(&door, "an hour ago", at(-3600)).await;
}
