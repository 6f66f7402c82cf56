//! A protected path, hidden under a public one: it does not reach the app.

use crate::site::Site;

/// Each leads to `/admin` for some program: by dots, encodings, separators, parameters, or where it ends.
const HIDDEN: [&[u8]; 62] = [
    b"/public/../admin",
    b"/public/x/../../admin",
    b"/public/./../admin",
    b"/public/.../../../admin",
    b"/public//../admin",
    b"/public/..//admin",
    b"/public/%2e%2e/admin",
    b"/public/%2E%2E/admin",
    b"/public/.%2e/admin",
    b"/public/%2e./admin",
    b"/public/%2e%2e%2fadmin",
    b"/public/..%2fadmin",
    b"/public/..%2Fadmin",
    b"/public%2f..%2fadmin",
    b"/public%2f%2e%2e%2fadmin",
    b"/public/x%2f..%2f..%2fadmin",
    b"/public/%252e%252e/admin",
    b"/public/%252e%252e%252fadmin",
    b"/public/..%252fadmin",
    b"/public/%25252e%25252e/admin",
    b"/public/..%25%32%66admin",
    b"/public/%%32%65%%32%65/admin",
    b"/public/..;/admin",
    b"/public/..;x=1/admin",
    b"/public;/../admin",
    b"/public;x/../admin",
    b"/public/..%3b/admin",
    b"/public/%2e%2e;/admin",
    b"/public/;/../../admin",
    b"/public\\..\\admin",
    b"/public/..\\admin",
    b"/public/..%5cadmin",
    b"/public/%2e%2e%5Cadmin",
    b"/public%5c..%5cadmin",
    b"/public/%255c..%255cadmin",
    b"/public/x%00/../../admin",
    b"/public/..%00/admin",
    b"/public/%00../admin",
    b"/public/x%0d%0a/../../admin",
    b"/public/x%0aGET%20/admin",
    b"/public/x%09/../../admin",
    b"/public/x#/../../admin",
    b"/public/x%23/../../admin",
    b"/public/x%3f/../../admin",
    b"/public/%3f/../../admin",
    b"/public/%c0%ae%c0%ae/admin",
    b"/public/..%c0%afadmin",
    b"/public/..%e0%80%afadmin",
    b"/public/%e0%80%ae%e0%80%ae/admin",
    b"/public/..%f0%80%80%afadmin",
    b"/public/\xc0\xae\xc0\xae/admin",
    b"/public/..\xc0\xafadmin",
    b"/public/%ef%bc%8e%ef%bc%8e/admin",
    b"/public/..%ef%bc%8fadmin",
    b"/public/..\xef\xbc\x8fadmin",
    b"/public/%u002e%u002e/admin",
    b"/public/..%u2215admin",
    b"/public/..%e2%88%95admin",
    b"/public/.. /admin",
    b"/public/..%20/admin",
    b"/public/.%2e%2e/../../admin",
    b"http://app.localhost/public/../admin",
];

/// Not below the public path at all, but a careless comparison could think so.
const BESIDE: [&[u8]; 18] = [
    b"//public/../admin",
    b"/admin/../public/../admin",
    b"//admin",
    b"/./admin",
    b"/%61dmin",
    b"/Admin",
    b"/PUBLIC/../admin",
    b"/publicx",
    b"/public%",
    b"/Public/x",
    b"/x/../admin",
    b"/admin;/public",
    b"/admin/..;/public",
    b"/admin%2fpublic",
    b"/admin?/public",
    b"/admin%3f/public",
    b"/admin#/public",
    b"/x/public",
];

/// What the app gets when the proxy itself has made one plain path of it.
fn is_plainly_public(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'/';
    path.bytes().all(plain) && !path.contains("//") && path.starts_with("/public/")
}

fn shown(target: &[u8]) -> String {
    String::from_utf8_lossy(target).into_owned()
}

through_each_proxy! {
    async fn a_protected_path_under_a_public_one_does_not_reach_the_app(proxy) {
        let site = Site::open(proxy).await;
        for target in HIDDEN.into_iter().chain(BESIDE) {
            for method in ["GET", "HEAD", "OPTIONS"] {
                let reply = site.send(method, target, &[]).await;
                let reached = reply.arrived.iter().find(|arrived| !is_plainly_public(&arrived.target));
                assert!(reached.is_none(), "{method} {}: {reply:?}", shown(target));
                assert!((400..500).contains(&reply.status), "{method} {}: {reply:?}", shown(target));
            }
        }
        site.get("/public/admin", &[]).await.passed();
    }

    async fn a_plain_public_path_reaches_the_app_as_it_was_written(proxy) {
        let site = Site::open(proxy).await;
        for target in
            ["/public", "/public/", "/public/x", "/public/caf%C3%A9/a%20b", "/public/x?a=/../admin&b=%2e%2e%2fadmin;c"]
        {
            assert_eq!(site.get(target, &[]).await.passed().target, target);
        }
    }

    /// Somebody whom `/` is open to, but not `/admin`.
    async fn a_guest_finds_no_way_around_the_rule_of_a_part(proxy) {
        let site = Site::open(proxy).await;
        let bearer = format!("Bearer {}", site.door.token("read").await.secret);
        let guest = [("Authorization", bearer.as_str())];
        for target in HIDDEN {
            let at = target.windows(7).position(|part| part == b"/public").unwrap();
            let inner = [&target[..at], b"/x", &target[at + 7..]].concat();
            let reply = site.send("GET", &inner, &guest).await;
            assert!((400..500).contains(&reply.stopped()), "{}: {reply:?}", shown(&inner));
        }
        for target in ["/admin", "/ADMIN", "/aDmin/x", "/%61dmin", "/admin?x"] {
            assert_eq!(site.get(target, &guest).await.stopped(), 403, "{target}");
        }
        for target in ["/administrator", "/x/admin", "/x"] {
            site.get(target, &guest).await.passed();
        }
    }
}
