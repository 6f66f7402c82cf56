//! What a caller reads when something is refused (RFC 9457), and what a browser sees instead.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;

use crate::door::{Anonymous, Answer, Client as _, Door, answer};

const TOKENS: &str = "/api/enterprise/tokens";

/// The answer's status, type and body, and these headers.
pub(crate) fn shown(answer: &Answer, headers: &[&str]) -> String {
    let lines: Vec<String> = headers.iter().map(|name| format!("{name}: {}", answer.header(name))).collect();
    format!("{}\n{}", lines.join("\n"), answer.shape()).trim_start().to_owned()
}

#[actix_web::test]
async fn two_credentials_are_one_too_many() {
    let door = Door::open(&[]).await;
    let (token, person) = (door.token("*").await, door.person("ann", "admins").await);
    let both = answer(token.ask("GET", "/api/me").header("cookie", &person.cookie)).await;
    assert_snapshot!(shown(&both, &[]), @r#"
    400 application/problem+json
    {"detail":"send one credential: either Authorization, once, or the session cookie","instance":"urn:lokid:request:ID","status":400,"title":"Bad Request","type":"about:blank"}
    "#);
    let twice = answer(token.ask("GET", "/api/me").header("authorization", "Bearer x")).await;
    assert_eq!(twice.problem(400), both.problem(400));
    let reasons: Vec<String> = door.audit("auth.fail").await.into_iter().map(|e| e.reason).collect();
    assert_eq!(reasons, ["two_credentials", "two_credentials"]);
    assert_eq!((token.get("/api/me").await.status, person.get("/api/me").await.status), (200, 200));
}

#[actix_web::test]
async fn no_credential_bad_ones_and_too_weak_ones_are_told_apart() {
    let door = Door::open(&[]).await;
    let none = Anonymous(&door).get("/api/status").await;
    assert_snapshot!(shown(&none, &["www-authenticate"]), @r#"
    www-authenticate: Bearer realm="loki"
    401 application/problem+json
    {"detail":"this needs a credential: Authorization: Bearer loki_…, or sign in with a browser","instance":"urn:lokid:request:ID","status":401,"title":"Unauthorized","type":"about:blank"}
    "#);
    let malformed = door.holder("loki_x").get("/api/status").await;
    assert_snapshot!(shown(&malformed, &["www-authenticate"]), @r#"
    www-authenticate: Bearer realm="loki", error="invalid_token", error_description="a lokid token is loki_ followed by 50 characters"
    401 application/problem+json
    {"detail":"a lokid token is loki_ followed by 50 characters","instance":"urn:lokid:request:ID","status":401,"title":"Unauthorized","type":"about:blank"}
    "#);
    let unknown = lokid::domain::token::TokenSecret::from_random([7; 32]);
    let unknown = door.holder(unknown.reveal()).get("/api/status").await;
    assert_snapshot!(shown(&unknown, &["www-authenticate"]), @r#"
    www-authenticate: Bearer realm="loki", error="invalid_token", error_description="the token is not known here"
    401 application/problem+json
    {"detail":"the token is not known here","instance":"urn:lokid:request:ID","status":401,"title":"Unauthorized","type":"about:blank"}
    "#);
    let scheme = answer(Anonymous(&door).ask("GET", "/api/status").basic_auth("ann", Some("secret"))).await;
    assert_snapshot!(shown(&scheme, &["www-authenticate"]), @r#"
    www-authenticate: Bearer realm="loki", error="invalid_token", error_description="Authorization must be: Bearer and a token, or APIKey and a pre-shared key"
    401 application/problem+json
    {"detail":"Authorization must be: Bearer and a token, or APIKey and a pre-shared key","instance":"urn:lokid:request:ID","status":401,"title":"Unauthorized","type":"about:blank"}
    "#);
    let weak = door.token("audit").await.get("/api/status").await;
    assert_snapshot!(shown(&weak, &["www-authenticate"]), @r#"
    www-authenticate: Bearer realm="loki", error="insufficient_scope", scope="read"
    403 application/problem+json
    {"detail":"this needs the scope read, which your credential does not hold","instance":"urn:lokid:request:ID","status":403,"title":"Forbidden","type":"about:blank"}
    "#);
    assert_eq!(door.token("read").await.get("/api/status").await.status, 200);
    let log: Vec<String> =
        door.audit("auth.fail").await.into_iter().map(|e| format!("{} {}", e.reason, e.details)).collect();
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(!log.iter().any(|line| line.contains("loki_") || line.contains("secret")), "{log:?}");
}

#[actix_web::test]
async fn expired_and_revoked_tokens_are_named_with_the_time() {
    let door = Door::open(&[]).await;
    let (admin, expired, revoked) = (
        door.token("*").await,
        door.named_token("e", "read", Some(1)).await,
        door.named_token("r", "read", Some(3)).await,
    );
    let revoked_at = door.clock.now();
    assert_eq!(answer(admin.ask("DELETE", &format!("{TOKENS}/r"))).await.status, 200);
    door.clock.advance(Duration::from_hours(24));
    let expired_at = door.clock.now();
    let refused = expired.get("/api/me").await;
    assert_eq!(refused.problem(401), format!("the token {} expired at {expired_at}", expired.id));
    let challenge = refused.header("www-authenticate");
    let expected = format!(
        r#"Bearer realm="loki", error="invalid_token", error_description="the token {} expired at {expired_at}""#,
        expired.id
    );
    assert_eq!(challenge, expected);
    let refused = revoked.get("/api/me").await;
    assert_eq!(refused.problem(401), format!("the token {} was revoked at {revoked_at}", revoked.id));
    assert_eq!(admin.get("/api/me").await.status, 200);
}

#[actix_web::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let door = Door::open(&[]).await;
    assert_snapshot!(shown(&Anonymous(&door).get("/nothing/here?x=1").await, &["cache-control"]), @r#"
    cache-control: no-store
    404 application/problem+json
    {"detail":"there is nothing at this address; /openapi.json lists what there is","instance":"urn:lokid:request:ID","status":404,"title":"Not Found","type":"about:blank"}
    "#);
    let wrong = answer(Anonymous(&door).ask("PUT", TOKENS)).await;
    assert_snapshot!(shown(&wrong, &["allow"]), @r#"
    allow: GET, HEAD, POST
    405 application/problem+json
    {"detail":"this address takes GET, HEAD, POST","instance":"urn:lokid:request:ID","status":405,"title":"Method Not Allowed","type":"about:blank"}
    "#);
}

#[actix_web::test]
async fn bodies_of_the_wrong_kind_size_or_content_are_refused_and_change_nothing() {
    let door = Door::open(&[("LOKI_LIMITS_BODY_BYTES", "1024")]).await;
    let admin = door.token("*").await;
    let plain = answer(admin.ask("POST", TOKENS).header("content-type", "text/plain").body("{}")).await;
    assert_snapshot!(shown(&plain, &[]), @r#"
    415 application/problem+json
    {"detail":"send JSON with Content-Type: application/json","instance":"urn:lokid:request:ID","status":415,"title":"Unsupported Media Type","type":"about:blank"}
    "#);
    let zipped = answer(admin.ask("POST", TOKENS).header("content-encoding", "gzip").json(&json!({}))).await;
    assert_snapshot!(shown(&zipped, &[]), @r#"
    415 application/problem+json
    {"detail":"compressed bodies are not read; send it without Content-Encoding","instance":"urn:lokid:request:ID","status":415,"title":"Unsupported Media Type","type":"about:blank"}
    "#);
    let large = admin.post(TOKENS, &json!({"name": "x".repeat(1024), "scopes": ["read"]})).await;
    assert_snapshot!(shown(&large, &[]), @r#"
    413 application/problem+json
    {"detail":"a body has at most 1024 bytes","instance":"urn:lokid:request:ID","status":413,"title":"Payload Too Large","type":"about:blank"}
    "#);
    let chunked = futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64])));
    let request = admin.ask("POST", TOKENS).header("content-type", "application/json");
    answer(request.body(reqwest::Body::wrap_stream(chunked))).await.problem(413);
    let unknown = admin.post(TOKENS, &json!({"name": "n", "scope": "read"})).await;
    assert_snapshot!(shown(&unknown, &[]), @r#"
    422 application/problem+json
    {"detail":"scope: unknown field `scope`, expected one of `name`, `scopes`, `role`, `expires_days` at line 1 column 19","instance":"urn:lokid:request:ID","status":422,"title":"Unprocessable Entity","type":"about:blank"}
    "#);
    let value = admin.post(TOKENS, &json!({"name": "n", "scopes": ["root"]})).await;
    assert_snapshot!(shown(&value, &[]), @r#"
    422 application/problem+json
    {"detail":"scopes: unknown scope \"root\"; scopes are exactly: *, control, write, read, audit","instance":"urn:lokid:request:ID","status":422,"title":"Unprocessable Entity","type":"about:blank"}
    "#);
    assert_eq!(door.audit("auth.token.create").await.len(), 1, "only the admin's own");
    assert_eq!(admin.post(TOKENS, &json!({"name": "n", "scopes": ["read"]})).await.status, 201);
}

#[actix_web::test]
async fn scope_is_checked_before_the_body() {
    let door = Door::open(&[]).await;
    let weak = door.token("read").await;
    let refused = answer(weak.ask("POST", TOKENS).header("content-type", "text/plain").body("nonsense")).await;
    assert!(refused.problem(403).contains("the scope *"));
    let refused =
        answer(door.token("*").await.ask("POST", TOKENS).header("content-type", "text/plain").body("nonsense")).await;
    refused.problem(415);
}

#[actix_web::test]
async fn too_many_requests_say_when_to_come_again() {
    let door = Door::open(&[("LOKI_LIMITS_TOKEN_CREATION", "1/h")]).await;
    let admin = door.token("*").await;
    assert_eq!(admin.post(TOKENS, &json!({"name": "a", "scopes": ["read"]})).await.status, 201);
    let refused = admin.post(TOKENS, &json!({"name": "b", "scopes": ["read"]})).await;
    let detail = refused.problem(429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&wait) && detail.contains("limit token_creation"), "{wait} {detail}");
    let limits = ["ratelimit-limit", "ratelimit-remaining"].map(|name| refused.header(name).to_owned());
    assert_eq!((limits, refused.header("ratelimit-reset")), (["1".into(), "0".into()], refused.header("retry-after")));
    assert_eq!(door.audit("auth.token.create").await.len(), 2);
}

#[actix_web::test]
async fn a_browser_gets_a_page_and_is_led_to_sign_in() {
    let door = Door::open(&[]).await;
    let browse = async |path: &str| answer(Anonymous(&door).ask("GET", path).header("accept", "text/html,*/*")).await;
    let led = browse("/audit?event=auth.fail").await;
    assert_eq!((led.status, led.header("location")), (303, "/login?return_to=%2Faudit%3Fevent%3Dauth.fail"));
    let lost = browse("/<script>alert(1)</script>").await;
    assert_eq!((lost.status, lost.header("content-type")), (404, "text/html; charset=utf-8"));
    assert!(
        lost.header("content-security-policy").starts_with("default-src 'none'; style-src 'self'; script-src 'self'")
    );
    assert!(!lost.text.contains("<script>alert") && lost.text.contains(lost.header("x-request-id")));
    let weak = door.person("vic", "nobody").await;
    let denied = answer(weak.ask("GET", "/people").header("accept", "text/html")).await;
    assert_eq!((denied.status, denied.header("content-type")), (403, "text/html; charset=utf-8"));
    browse("/api/me").await.problem(401);
    let script = answer(door.holder("x").ask("GET", "/audit").header("accept", "text/html")).await;
    script.problem(401);
}

#[actix_web::test]
async fn every_answer_carries_the_protecting_headers() {
    let door = Door::open(&[]).await;
    for path in [
        "/login",
        "/api/me",
        "/nothing",
        "/static/app.css",
        "/openapi.json",
        "/healthz",
        "/api/%ff",
        "/auth/oidc/callback",
    ] {
        let answer = Anonymous(&door).get(path).await;
        assert!(answer.status < 500, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(
            answer.header("cache-control").contains("no-store") || answer.header("cache-control").contains("max-age")
        );
        assert_eq!(answer.header("x-request-id").len(), 16, "{path}");
    }
}
