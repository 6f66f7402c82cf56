//! What is good for lokid does not reach the app; what is the app's own does.

use serde_json::json;

use crate::site::{Site, door_cookie};

/// The cookies that arrived, in order.
fn cookies(values: &[&str]) -> Vec<String> {
    let pairs = values.iter().flat_map(|line| line.split(';')).map(str::trim);
    pairs.filter(|pair| !pair.is_empty()).map(str::to_owned).collect()
}

/// Around each `@`, which stands for a cookie of lokid's.
const LINES: [&str; 9] = [
    "@",
    "a=1; @",
    "@; a=1",
    "a=1; @; b=2",
    "a=1;@;b=2",
    "myloki_door=1; @; my-loki_session=2; b=loki_door",
    "a=1; loki_signin_AbCd-_12=x; @; b=2; loki_signin_12345678=y; c=3",
    "loki_door_x=1; @; x_loki_session=2",
    "a=1; b=; c=\"x y\"; d=e=f; @",
];

through_each_proxy! {
    async fn cookies_of_lokid_stay_behind_and_others_arrive(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(json!({})).await;
        let (session, door) = (ann.cookie.clone(), door_cookie(&ann).await);
        for line in LINES {
            for ours in [session.clone(), door.clone(), format!("{session}; {door}"), format!("{door}; {session}")] {
                let sent = line.replace('@', &ours);
                let arrived = site.get("/x", &[("Cookie", &sent)]).await.passed();
                let is_ours = |pair: &String| {
                    ["loki_session=", "loki_door=", "loki_signin_"].iter().any(|name| pair.starts_with(name))
                };
                let expected: Vec<_> = cookies(&[&sent]).into_iter().filter(|pair| !is_ours(pair)).collect();
                assert_eq!(cookies(&arrived.values("cookie")), expected, "{sent}");
            }
        }
    }

    async fn cookies_of_lokid_stay_behind_on_public_paths_however_many_there_are(proxy) {
        let site = Site::open(proxy).await;
        let parts = "loki_session=hush; a=1; loki_door=hush; b=2; loki_session=hush; c=3; loki_door=hush; d=4; ";
        for (prefix, times) in [("", 1), ("", 2), ("", 5), ("__Secure-loki_door=hush; __Host-loki_session=hush; ", 1)] {
            let sent = format!("{prefix}{}", parts.repeat(times));
            let arrived = site.get("/public/x", &[("Cookie", &sent)]).await.passed();
            assert!(!arrived.text().contains("hush"), "{sent}: {arrived:?}");
            let two = [("Cookie", sent.as_str()), ("Cookie", "z=1; loki_door=hush")];
            assert!(!site.get("/public/x", &two).await.passed().text().contains("hush"));
        }
    }

    async fn tokens_of_lokid_stay_behind_and_other_credentials_arrive(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(json!({})).await;
        let token = site.door.token("read").await;
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer "] {
            let sent = format!("{scheme} {}", token.secret);
            for path in ["/x", "/public/x"] {
                let arrived = site.get(path, &[("Authorization", &sent)]).await.passed();
                assert_eq!(arrived.value("authorization"), "", "{sent}");
                assert!(!arrived.text().contains(&token.secret), "{arrived:?}");
            }
        }
        for own in ["Basic eDp5", "Bearer the-apps-own"] {
            let headers = [("Cookie", ann.cookie.as_str()), ("Authorization", own)];
            assert_eq!(site.get("/x", &headers).await.passed().value("authorization"), own);
            assert_eq!(site.get("/public/x", &[("Authorization", own)]).await.passed().value("authorization"), own);
        }
    }
}
