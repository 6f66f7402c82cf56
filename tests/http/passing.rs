//! `/auth/verify`: who passes, as whom, and what everybody else is told.

use std::time::Duration;

use crate::{
    door::{Anonymous, Answer, Client, Door, WithSession, answer},
    forward::{described, open, pass, refusals, verify},
};

const AUTH_REQUEST: [&str; 4] =
    ["x-auth-request-user", "x-auth-request-email", "x-auth-request-groups", "x-auth-request-preferred-username"];
const REMOTE: [&str; 4] = ["remote-user", "remote-email", "remote-groups", "remote-name"];
const ASSERTIONS: [&str; 2] = ["x-loki-jwt-assertion", "x-pomerium-jwt-assertion"];

const PAGE: (&str, &str) = ("Accept", "text/html");

/// What the door tells nobody in particular about `/x` of the app, asked with these lines too.
async fn asked_with(door: &Door, path: &str, lines: &[(&str, &str)]) -> Answer {
    let mut request = Anonymous(door).ask("GET", path);
    for (name, value) in described("GET", "app.example", "/x").iter().chain(lines) {
        request = request.header(*name, *value);
    }
    answer(request).await
}

#[actix_web::test]
async fn every_identity_header_is_in_every_200_empty_where_it_is_not_known() {
    let door = open(&[]).await;
    let (token, ann) = (door.token("read").await, door.person("ann", "admins").await);
    let id = ann.get("/api/me").await.json()["id"].as_str().unwrap().to_owned();
    for (host, names) in [("app.example", AUTH_REQUEST), ("strict.example", REMOTE)] {
        let called = if names == REMOTE { "ann" } else { "" };
        let cases = [
            (verify(&Anonymous(&door), &described("GET", host, "/public")).await, ["", "", "", ""]),
            (verify(&ann, &described("GET", host, "/x")).await, [&id, "ann@example.org", "admins", called]),
        ];
        for (answer, values) in cases {
            assert_eq!(answer.status, 200, "{}", answer.text);
            for (name, value) in names.into_iter().zip(values) {
                assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{name}");
                assert_eq!(answer.header(name), value, "{name}");
            }
            for name in ASSERTIONS {
                assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{name}");
                assert_eq!(answer.header(name).is_empty(), values[0].is_empty(), "{name}");
            }
        }
    }
    let held = verify(&token, &described("GET", "app.example", "/x")).await;
    assert_eq!(AUTH_REQUEST.map(|name| held.header(name)), [token.id.as_str(), "", "", ""]);
    assert!(AUTH_REQUEST.iter().all(|name| held.headers.contains_key(*name)));
}

#[actix_web::test]
async fn there_is_no_shortcut_for_a_method_a_program_or_a_health_path() {
    let door = open(&[]).await;
    let token = door.token("read").await;
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"] {
        for path in ["/x", "/healthz", "/readyz", "/health", "/favicon.ico", "/robots.txt", "/.well-known/x", "/admin"]
        {
            let mut lines = described(method, "app.example", path);
            lines.extend([("User-Agent", "kube-probe/1.30"), ("Access-Control-Request-Method", "GET")]);
            assert_eq!(verify(&Anonymous(&door), &lines).await.status, 401, "{method} {path}");
            let known = if path == "/admin" { 403 } else { 200 };
            assert_eq!(verify(&token, &lines).await.status, known, "{method} {path}");
        }
    }
    for method in ["HEAD", "OPTIONS", "POST"] {
        let status = answer(Anonymous(&door).ask(method, "/auth/verify")).await.status;
        assert!(matches!(status, 401 | 403 | 405), "{method} of the question itself: {status}");
    }
}

#[actix_web::test]
async fn a_credential_that_is_not_sound_is_401() {
    let door = open(&[("LOKI_LIMITS_BAD_CREDENTIALS", "1000/s")]).await;
    let (ann, token) = (door.person("ann", "admins").await, door.token("read").await);
    let (cut, longer) = (&ann.cookie[..ann.cookie.len() - 1], format!("{}x", ann.cookie));
    let (bearer, twice) = (format!("Bearer {}x", token.secret), format!("{0}; {0}", ann.cookie));
    for line in [
        ("Cookie", cut),
        ("Cookie", longer.as_str()),
        ("Cookie", twice.as_str()),
        ("Cookie", "loki_session="),
        ("Cookie", "loki_session=%00"),
        ("Cookie", "loki_door=x"),
        ("Cookie", "loki_door="),
        ("Cookie", "loki_door=x; loki_door=x"),
        ("Authorization", bearer.as_str()),
        ("Authorization", "Bearer"),
        ("Authorization", ""),
        ("Authorization", "Basic eDp5"),
        ("Authorization", "Bearer loki_"),
        ("Authorization", "loki_x"),
    ] {
        let answer = asked_with(&door, "/auth/verify", &[line]).await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{line:?}");
    }
    assert_eq!(door.audit("auth.fail").await.len(), 12, "a cookie that is there twice counts as none");
    assert_eq!((pass(&ann, "/x").await, pass(&token, "/x").await), (200, 200));
}

#[actix_web::test]
async fn an_app_may_refuse_tokens_that_live_long() {
    let door = open(&[]).await;
    let strict = described("GET", "strict.example", "/x");
    let detail = verify(&door.token("*").await, &strict).await.problem(403);
    assert!(detail.contains("loki_ tokens"), "{detail}");
    assert_eq!(refusals(&door, "permission.denied").await, ["static_token"]);
    assert_eq!(verify(&door.person("ann", "admins").await, &strict).await.status, 200);
}

#[actix_web::test]
async fn two_credentials_are_one_too_many() {
    let door = open(&[]).await;
    let (ann, token) = (door.person("ann", "admins").await, door.token("read").await);
    let bearer = format!("Bearer {}", token.secret);
    let (cookie, header) = (("Cookie", ann.cookie.as_str()), ("Authorization", bearer.as_str()));
    for lines in [[cookie, header], [header, header]] {
        asked_with(&door, "/auth/verify", &lines).await.problem(400);
        // nginx knows 401 and 403 only.
        asked_with(&door, "/auth/verify?redirect=no", &lines).await.problem(403);
    }
    assert_eq!(refusals(&door, "auth.fail").await, ["two_credentials"; 4]);
    for lines in [[cookie, ("Authorization", "Basic the-apps-own")], [header, ("Cookie", "the=apps-own")]] {
        assert_eq!(asked_with(&door, "/auth/verify", &lines).await.status, 200);
    }
}

#[actix_web::test]
async fn what_is_revoked_or_ended_passes_no_more_from_then_on() {
    let door = open(&[]).await;
    let (admin, token) = (door.token("*").await, door.token("read").await);
    let (ann, bob) = (door.person("ann", "admins").await, door.person("bob", "admins").await);
    for _ in 0..3 {
        assert_eq!((pass(&token, "/x").await, pass(&ann, "/x").await), (200, 200));
    }
    assert_eq!(answer(admin.ask("DELETE", &format!("/api/enterprise/tokens/{}", token.id))).await.status, 200);
    assert_eq!(pass(&token, "/x").await, 401);
    assert_eq!(ann.submit("/auth/logout", &[]).await.status, 303);
    assert_eq!(pass(&ann, "/x").await, 401);
    assert_eq!((pass(&admin, "/x").await, pass(&bob, "/x").await), (200, 200));
    door.clock.advance(Duration::from_hours(13));
    assert_eq!(pass(&bob, "/x").await, 401, "a session has an end");
}

#[actix_web::test]
async fn a_browser_is_sent_to_sign_in_and_nginx_is_told_where() {
    let door = open(&[]).await;
    let expected = format!("http://localhost:{}/auth/continue?to=https%3A%2F%2Fapp.example%2Fx", door.port);
    let sent = asked_with(&door, "/auth/verify", &[PAGE]).await;
    assert_eq!((sent.status, sent.header("location")), (302, expected.as_str()));
    let told = asked_with(&door, "/auth/verify?redirect=no", &[PAGE]).await;
    assert_eq!((told.status, told.header("x-loki-sign-in"), told.header("location")), (401, expected.as_str(), ""));
    assert!(told.header("www-authenticate").starts_with("Bearer"));
    let old = [PAGE, ("Cookie", "loki_session=old")];
    assert_eq!(asked_with(&door, "/auth/verify", &old).await.header("location"), expected);
    assert_eq!(asked_with(&door, "/auth/verify?redirect=no", &old).await.header("x-loki-sign-in"), expected);
    for path in ["/auth/verify", "/auth/verify?redirect=no"] {
        let program = asked_with(&door, path, &[("Accept", "*/*")]).await;
        program.problem(401);
        assert_eq!((program.header("location"), program.header("x-loki-sign-in")), ("", ""));
    }
}

#[actix_web::test]
async fn nobody_passes_while_the_database_does_not_answer() {
    let door = open(&[]).await;
    let (token, ann) = (door.token("read").await, door.person("ann", "admins").await);
    let lines = described("GET", "app.example", "/x");
    assert_eq!(pass(&door.token("read").await, "/x").await, 200);
    door.app.close().await;
    assert_eq!(verify(&token, &lines).await.problem(503), verify(&ann, &lines).await.problem(503));
    let nginx = asked_with(&door, "/auth/verify?redirect=no", &[("Cookie", ann.cookie.as_str())]).await;
    assert_eq!(nginx.status, 503);
}

async fn statuses(who: &impl Client, times: usize) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..times {
        all.push(pass(who, "/x").await);
    }
    all
}

#[actix_web::test]
async fn requests_to_apps_are_counted_by_caller() {
    let door = open(&[("LOKI_LIMITS_FORWARD_AUTH", "3/h"), ("LOKI_LIMITS_API", "1000/s")]).await;
    let (loud, quiet) = (door.token("read").await, door.token("read").await);
    let ann: WithSession<'_> = door.person("ann", "admins").await;
    assert_eq!(statuses(&loud, 5).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&quiet, 3).await, [200; 3]);
    assert_eq!(statuses(&ann, 4).await, [200, 200, 200, 429]);
    assert_eq!(refusals(&door, "rate.limited").await, ["forward_auth"; 2]);
    assert_eq!(loud.get("/api/status").await.status, 200, "lokid's own doors are counted apart");
    let bearer = format!("Bearer {}", loud.secret);
    let nginx = asked_with(&door, "/auth/verify?redirect=no", &[("Authorization", &bearer)]).await;
    assert_eq!(nginx.status, 403);
}
