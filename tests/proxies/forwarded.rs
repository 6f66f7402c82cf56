//! What a client says about its own request, in the words of proxies, is nobody's word.

use crate::site::{HOST, Site};

/// Headers by which programs learn of another address, method or client.
const SPOOFED: [(&str, &str); 24] = [
    ("X-Forwarded-Uri", "/public/x"),
    ("X-Forwarded-Uri", "/admin"),
    ("X-Forwarded-Url", "/public/x"),
    ("X-Forwarded-Path", "/public/x"),
    ("X-Forwarded-Prefix", "/public"),
    ("X-Forwarded-Host", "lax.localhost"),
    ("X-Forwarded-Server", "lax.localhost"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-User", "boss"),
    ("X-Real-Ip", "203.0.113.9"),
    ("X-Original-Url", "/admin"),
    ("X-Original-Uri", "/public/x"),
    ("X-Original-Method", "OPTIONS"),
    ("X-Original-Host", "lax.localhost"),
    ("X-Rewrite-Url", "/admin"),
    ("X-Host", "lax.localhost"),
    ("X-Envoy-Original-Path", "/public/x"),
    ("X-Auth-Request-Redirect", "/public/x"),
    ("Forwarded", "for=203.0.113.9;host=lax.localhost;proto=https"),
];

/// By which some programs find the path themselves: whoever may pass to one path could name another.
const OTHER_PATHS: [&str; 5] =
    ["X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url"];

/// Alone, twice, and with underscores.
fn ways(name: &str, value: &str) -> [Vec<(String, String)>; 3] {
    let line = |name: &str| (name.to_owned(), value.to_owned());
    [vec![line(name)], vec![line(name), line(name)], vec![line(&name.replace('-', "_"))]]
}

fn pairs(lines: &[(String, String)]) -> Vec<(&str, &str)> {
    lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

through_each_proxy! {
    async fn a_spoofed_address_opens_nothing_and_shuts_nothing(proxy) {
        let site = Site::open(proxy).await;
        for (name, value) in SPOOFED {
            for lines in ways(name, value) {
                let reply = site.get("/admin", &pairs(&lines)).await;
                assert_eq!(reply.stopped(), 401, "{lines:?}: {reply:?}");
                let arrived = site.get("/public/x", &pairs(&lines)).await.passed();
                assert_eq!(arrived.target, "/public/x");
                for other in OTHER_PATHS {
                    assert!(arrived.values(other).is_empty(), "{lines:?}: {arrived:?}");
                }
            }
        }
        let all: Vec<_> = SPOOFED.to_vec();
        assert_eq!(site.get("/admin", &all).await.stopped(), 401);
        site.get("/public/x", &all).await.passed();
    }

    async fn the_app_and_the_log_hear_of_the_true_client(proxy) {
        let site = Site::open(proxy).await;
        let lies = [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "lax.localhost"),
            ("Forwarded", "for=203.0.113.9;host=lax.localhost"),
        ];
        let arrived = site.get("/public/x", &lies).await.passed();
        assert_eq!(arrived.value("x-forwarded-for"), "127.0.0.1");
        assert_eq!((arrived.value("x-forwarded-proto"), arrived.value("x-forwarded-host")), ("http", HOST));
        assert_eq!((arrived.value("forwarded"), arrived.value("host")), ("", HOST));
        assert_eq!(site.get("/public/../x", &lies).await.stopped(), 403);
        let entries = site.door.audit("permission.denied").await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(entries[0].resource_id, HOST);
    }

    /// `/admin` is public at `lax.localhost`, which is not what this proxy's address leads to.
    async fn another_apps_name_does_not_bring_its_rules_to_this_app(proxy) {
        let site = Site::open(proxy).await;
        for (target, host) in [
            ("/admin", "lax.localhost"),
            ("/admin", "lax.localhost:80"),
            ("http://app.localhost/admin", "lax.localhost"),
            ("http://lax.localhost/admin", "app.localhost"),
            ("http://app.localhost@lax.localhost/admin", "lax.localhost"),
            ("/admin", "lax.localhost, app.localhost"),
            ("/admin", "app.localhost."),
            ("/admin", "unknown.localhost"),
            ("/admin", ""),
        ] {
            let reply = site.get(target, &[("Host", host)]).await;
            assert!(reply.arrived.is_empty(), "{target} at {host}: {reply:?}");
        }
        let twice = [("Host", HOST), ("Host", "lax.localhost")];
        assert!(site.get("/admin", &twice).await.arrived.is_empty());
        assert!(site.get("/admin", &[twice[1], twice[0]]).await.arrived.is_empty());
        for host in ["APP.localhost", "app.localhost:8080"] {
            site.get("/public/x", &[("Host", host)]).await.passed();
        }
    }
}
