//! Who does not reach the app, and what they are told instead.

use serde_json::json;
use url::Url;

use crate::{door::Client as _, site::Site};

const PAGE: (&str, &str) = ("Accept", "text/html,application/xhtml+xml");

fn to(location: &str) -> (Url, String) {
    let url = Url::parse(location).unwrap();
    let to = url.query_pairs().find(|(name, _)| name == "to").map(|(_, value)| value.into_owned());
    (url, to.unwrap_or_default())
}

through_each_proxy! {
    async fn a_browser_is_sent_to_sign_in_and_comes_back(proxy) {
        let site = Site::open(proxy).await;
        for headers in [vec![PAGE], vec![PAGE, ("Sec-Fetch-Mode", "navigate")], vec![PAGE, ("Cookie", "loki_door=old")]]
        {
            let reply = site.get("/admin/x?y=%2F&z", &headers).await;
            assert!(matches!(reply.stopped(), 302 | 303), "{reply:?}");
            let (url, back) = to(reply.header("location").unwrap());
            assert_eq!(url.origin(), site.door.app.settings.server.public_url.origin());
            assert_eq!((url.path(), back.as_str()), ("/auth/continue", "http://app.localhost/admin/x?y=%2F&z"));
        }
        let ann = site.ann(json!({})).await;
        let reply = site.get("/admin/x", &[PAGE]).await;
        let (url, back) = to(reply.header("location").unwrap());
        let led = ann.get(&format!("/auth/continue?{}", url.query().unwrap())).await;
        assert_eq!((led.status, led.header("location")), (303, back.as_str()));
        let cookie = led.cookie("loki_door").unwrap();
        assert_eq!(site.get("/admin/x", &[PAGE, ("Cookie", &cookie)]).await.passed().target, "/admin/x");
    }

    async fn a_program_gets_401_and_no_page(proxy) {
        let site = Site::open(proxy).await;
        let fetch = vec![PAGE, ("Sec-Fetch-Mode", "cors")];
        let program = vec![("User-Agent", "curl/8.0"), ("Accept", "*/*")];
        let probe = vec![("User-Agent", "kube-probe/1.30")];
        let preflight = vec![("Origin", "https://x.example"), ("Access-Control-Request-Method", "GET")];
        for (method, path, headers) in [
            ("GET", "/x", program.clone()),
            ("GET", "/x", fetch),
            ("POST", "/x", vec![PAGE]),
            ("GET", "/healthz", probe),
            ("OPTIONS", "/x", preflight),
            ("HEAD", "/x", program),
            ("GET", "/x", vec![PAGE, ("Authorization", "Bearer loki_wrong")]),
            ("GET", "/x", vec![("Cookie", "loki_session=malformed")]),
            ("GET", "/x", vec![("Cookie", "loki_door=")]),
        ] {
            let reply = site.send(method, path.as_bytes(), &headers).await;
            assert_eq!(reply.stopped(), 401, "{method} {headers:?}: {reply:?}");
            assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer ")), "{reply:?}");
            assert!(!reply.text.to_lowercase().contains("html"), "{method} {headers:?}: {reply:?}");
        }
    }

    async fn whom_no_rule_admits_is_refused_and_recorded(proxy) {
        let site = Site::open(proxy).await;
        let token = site.door.token("read").await;
        let bearer = format!("Bearer {}", token.secret);
        let reply = site.get("/admin/x?secret=1", &[("Authorization", &bearer)]).await;
        assert_eq!(reply.stopped(), 403);
        let bob = site.ann(json!({"sub": "bob", "name": "Bob", "groups": ["auditors"]})).await;
        assert_eq!(site.get("/admin", &[PAGE, ("Cookie", &bob.cookie)]).await.stopped(), 403);

        let entries = site.door.audit("permission.denied").await;
        let told: Vec<_> = entries.iter().map(|e| (e.reason.as_str(), e.resource_id.as_str())).collect();
        assert_eq!(told, [("rule_not_met", "app.localhost"); 2]);
        assert_eq!(entries[1].actor_id, token.id.as_str());
        assert!(entries[1].details.contains("/admin/x") && entries[1].details.contains("admin"));
        assert!(!entries[1].details.contains("secret"), "{}", entries[1].details);

        let ann = site.ann(json!({})).await;
        site.get("/admin", &[("Cookie", &ann.cookie)]).await.passed();
        assert_eq!(site.door.audit("permission.denied").await.len(), 2);
    }

    async fn nobody_reaches_the_app_while_lokid_has_no_database(proxy) {
        let site = Site::open(proxy).await;
        let token = site.door.token("read").await;
        let bearer = format!("Bearer {}", token.secret);
        site.door.app.close().await;
        let reply = site.get("/x", &[("Authorization", &bearer)]).await;
        assert!(reply.stopped() >= 500, "{reply:?}");
    }
}
