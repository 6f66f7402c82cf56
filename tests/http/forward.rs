//! `/auth/verify`: whose word about a request is taken, and what of it is refused.

use reqwest::RequestBuilder;

use crate::{
    door::{Answer, Client, Door, WithToken, answer},
    raw::raw,
};

const APPS: &str = "[{host: app.example, public: [/public], rules: [{path: /admin, roles: [admin]}, {scope: read}]},
    {host: strict.example, deny_static_tokens: true, headers: remote, public: [/public], rules: [{scope: read}]}]";

/// A door that listens to proxies at this address, with these variables too.
pub(crate) async fn open_behind(proxies: &str, env: &[(&str, &str)]) -> Door {
    let all = [("LOKI_SERVER_TRUSTED_PROXIES", proxies), ("LOKI_FORWARD_AUTH_APPS", APPS)];
    Door::open(&[&all[..], env].concat()).await
}

pub(crate) async fn open(env: &[(&str, &str)]) -> Door {
    open_behind("127.0.0.1", env).await
}

pub(crate) type Lines<'l> = Vec<(&'l str, &'l str)>;

/// How a proxy describes a request.
pub(crate) fn described<'l>(method: &'l str, host: &'l str, target: &'l str) -> Lines<'l> {
    vec![
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Method", method),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Uri", target),
    ]
}

fn with(mut request: RequestBuilder, lines: &[(&str, &str)]) -> RequestBuilder {
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request
}

/// What the door says about a request that is described by these lines.
pub(crate) async fn verify(who: &impl Client, lines: &[(&str, &str)]) -> Answer {
    answer(with(who.ask("GET", "/auth/verify"), lines)).await
}

/// What the door says about `GET` of this address of the app.
pub(crate) async fn pass(who: &impl Client, target: &str) -> u16 {
    verify(who, &described("GET", "app.example", target)).await.status
}

/// Why requests were refused, newest first.
pub(crate) async fn refusals(door: &Door, event: &str) -> Vec<String> {
    door.audit(event).await.into_iter().map(|entry| entry.reason).collect()
}

#[actix_web::test]
async fn only_a_listed_proxy_is_believed() {
    let elsewhere = open_behind("192.0.2.0/24", &[]).await;
    let answer = verify(&elsewhere.token("*").await, &described("GET", "app.example", "/public/x")).await;
    assert!(answer.problem(403).contains("server.trusted_proxies"));
    let entries = elsewhere.audit("permission.denied").await;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].reason.as_str(), entries[0].ip.as_deref()), ("proxy_not_listed", Some("127.0.0.1")));
    assert!(entries[0].details.contains("127.0.0.1"), "{}", entries[0].details);

    let nowhere = Door::open(&[]).await;
    assert_eq!(pass(&nowhere.token("*").await, "/x").await, 403, "nobody is listed by default");

    let here = open(&[]).await;
    assert_eq!(pass(&here.token("read").await, "/x").await, 200);
    assert!(here.audit("permission.denied").await.is_empty());
}

#[actix_web::test]
async fn what_a_proxy_leaves_out_or_repeats_is_refused_and_recorded() {
    let door = open(&[]).await;
    let token = door.token("*").await;
    let good = described("GET", "app.example", "/x");
    for at in 0..good.len() {
        let mut lines = good.clone();
        let (name, value) = lines.remove(at);
        assert!(verify(&token, &lines).await.problem(403).contains(name));
        let empty = [&lines[..], &[(name, "")]].concat();
        assert!(verify(&token, &empty).await.problem(403).contains(name));
        for second in [value, "other", ""] {
            let twice = [&lines[..], &[(name, value), (name, second)]].concat();
            assert!(verify(&token, &twice).await.problem(403).contains("more than once"), "{name}: {second}");
        }
        lines.push((name, value));
        assert_eq!(verify(&token, &lines).await.status, 200, "in any order");
    }
    let reasons = refusals(&door, "permission.denied").await;
    for (reason, times) in
        [("forwarded_header_missing", 4), ("forwarded_header_malformed", 4), ("forwarded_header_repeated", 12)]
    {
        assert_eq!(reasons.iter().filter(|r| *r == reason).count(), times, "{reason}");
    }
}

#[actix_web::test]
async fn what_no_proxy_writes_is_refused() {
    let door = open(&[]).await;
    let token = door.token("*").await;
    for (name, value) in [
        ("X-Forwarded-Proto", "https, http"),
        ("X-Forwarded-Proto", "wss"),
        ("X-Forwarded-Proto", "HTTPS"),
        ("X-Forwarded-Method", "get"),
        ("X-Forwarded-Method", "GET, POST"),
        ("X-Forwarded-Method", "GET /x"),
        ("X-Forwarded-Host", "app.example, other.example"),
        ("X-Forwarded-Host", "app.example."),
        ("X-Forwarded-Host", "user@app.example"),
        ("X-Forwarded-Host", "app.example/public"),
        ("X-Forwarded-Host", "app.example:80:90"),
        ("X-Forwarded-Host", "app.example:"),
        ("X-Forwarded-Host", "app.example#"),
        ("X-Forwarded-Uri", "x"),
        ("X-Forwarded-Uri", "*"),
        ("X-Forwarded-Uri", "https://app.example/public"),
        ("X-Forwarded-Uri", "/caf\u{e9}"),
    ] {
        let good = described("GET", "app.example", "/public/x").into_iter();
        let lines: Vec<_> = good.map(|line| if line.0 == name { (name, value) } else { line }).collect();
        assert_eq!(verify(&token, &lines).await.status, 403, "{name}: {value}");
    }
    assert_eq!(door.audit("permission.denied").await.len(), 17);
    assert_eq!(verify(&token, &described("GET", "APP.example:8443", "/public/x")).await.status, 200);
}

#[actix_web::test]
async fn an_app_that_is_not_configured_is_named() {
    let door = open(&[]).await;
    let token = door.token("*").await;
    for host in ["other.example", "xapp.example", "app.example.evil.example", "localhost"] {
        let detail = verify(&token, &described("GET", host, "/x")).await.problem(403);
        assert!(detail.contains(host) && detail.contains("forward_auth.apps"), "{detail}");
    }
    let entries = door.audit("permission.denied").await;
    assert!(entries.iter().all(|entry| entry.reason == "unknown_app"));
    assert_eq!(entries[3].resource_id, "other.example");
    assert_eq!(pass(&token, "/x").await, 200);
}

#[actix_web::test]
async fn a_path_that_two_programs_could_read_differently_is_refused() {
    let door = open(&[]).await;
    let token = door.token("*").await;
    let odd = ["/public/../admin", "/public/..%2fadmin", "/public//x", "/public/..;/admin", "/public/%252e%252e/admin"];
    for target in odd {
        assert_eq!(pass(&token, target).await, 403, "{target}");
    }
    assert_eq!(refusals(&door, "permission.denied").await, ["ambiguous_path"; 5]);
    for target in ["/public/x", "/public/x?a=../..%2f//", "/admin"] {
        assert_eq!(pass(&door.person("ann", "admins").await, target).await, 200, "{target}");
    }
    let details = door.audit("permission.denied").await.into_iter().map(|entry| entry.details);
    assert!(details.into_iter().all(|text| text.contains("public")));
}

async fn envoy(door: &Door, token: &WithToken<'_>, request: &str, lines: &str) -> u16 {
    let request = format!(
        "{request} HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer {}\r\nX-Forwarded-Proto: https\r\n{lines}\r\n",
        token.secret
    );
    raw(door, request.as_bytes()).await.status
}

#[actix_web::test]
async fn envoy_asks_with_the_method_and_host_of_the_request_and_the_path_behind_a_prefix() {
    let door = open(&[]).await;
    let token = door.token("read").await;
    let host = "Host: app.example\r\n";
    for method in ["GET", "POST", "HEAD", "OPTIONS", "DELETE"] {
        assert_eq!(envoy(&door, &token, &format!("{method} /auth/verify/envoy/x?y"), host).await, 200, "{method}");
        assert_eq!(envoy(&door, &token, &format!("{method} /auth/verify/envoy/admin"), host).await, 403, "{method}");
    }
    for path in ["/public/../admin", "//admin", "/public/..%2fadmin", "/public/..;/x", "/public\\..\\admin", "/x%00"] {
        let status = envoy(&door, &token, &format!("GET /auth/verify/envoy{path}"), host).await;
        assert!(matches!(status, 400 | 403), "{path}: {status}");
    }
    for lines in [
        "Host: app.example\r\nX-Forwarded-Host: strict.example\r\n",
        "Host: app.example\r\nX-Forwarded-Host: app.example\r\nX-Forwarded-Host: app.example\r\n",
        "Host: other.example\r\n",
        "Host: app.example\r\nX-Forwarded-Proto: https\r\n",
        "",
    ] {
        let status = envoy(&door, &token, "GET /auth/verify/envoy/x", lines).await;
        assert!(matches!(status, 400 | 403), "{lines:?}: {status}");
    }
    assert!(refusals(&door, "permission.denied").await.contains(&"forwarded_headers_contradict".to_owned()));
    let agreeing = "Host: app.example\r\nX-Forwarded-Host: APP.example\r\n";
    assert_eq!(envoy(&door, &token, "GET /auth/verify/envoy/x", agreeing).await, 200);
    for path in ["/auth/verify/envoy", "/auth/verify/envoyx", "/auth/verify/x"] {
        assert!(matches!(envoy(&door, &token, &format!("GET {path}"), host).await, 404 | 421), "{path}");
    }
}

/// The same words in an app's own query are the app's.
#[actix_web::test]
async fn through_envoy_a_query_of_the_app_is_no_word_of_the_proxys() {
    let door = open(&[]).await;
    for target in ["/x", "/x?redirect=no"] {
        let request = format!(
            "GET /auth/verify/envoy{target} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\
             X-Forwarded-Proto: https\r\nAccept: text/html\r\n\r\n"
        );
        let answer = raw(&door, request.as_bytes()).await;
        assert_eq!(answer.status, 302, "{target}: {}", answer.text);
    }
}
