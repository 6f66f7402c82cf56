//! Who reaches the app, and as whom.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::{
    door::Client as _,
    echo::Arrived,
    site::{Site, door_cookie},
};

/// What the assertion of a request says, after a look at both of its headers.
fn asserted(arrived: &Arrived) -> Value {
    let jws = arrived.value("x-loki-jwt-assertion");
    assert_eq!(jws, arrived.value("x-pomerium-jwt-assertion"));
    let claims = jws.split('.').nth(1).unwrap_or_else(|| panic!("no assertion in {arrived:?}"));
    serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap()
}

fn identity(arrived: &Arrived) -> [&str; 4] {
    ["user", "email", "groups", "preferred-username"].map(|what| arrived.value(&format!("x-auth-request-{what}")))
}

through_each_proxy! {
    async fn a_signed_in_person_reaches_the_app_by_either_cookie(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(json!({"groups": ["admins", "a, b", "ops"], "preferred_username": "ann.b"})).await;
        let id = ann.get("/api/me").await.json()["id"].as_str().unwrap().to_owned();
        for cookie in [ann.cookie.clone(), door_cookie(&ann).await] {
            let arrived = site.get("/admin/x?y=z%2F..", &[("Cookie", &cookie)]).await.passed();
            assert_eq!(arrived.target, "/admin/x?y=z%2F..");
            assert_eq!(identity(&arrived), [&id, "ann@example.org", "admins,ops", "ann.b"], "{cookie}");
            let claims = asserted(&arrived);
            assert_eq!((&claims["aud"], &claims["user"]), (&json!("app.localhost"), &json!(id)));
            assert_eq!(claims["groups"], json!(["admins", "a, b", "ops"]), "also what a list could not hold");
        }
        let two = format!("{}; {}", ann.cookie, door_cookie(&ann).await);
        assert_eq!(identity(&site.get("/", &[("Cookie", &two)]).await.passed())[0], id);
        assert_eq!(site.get("/admin/x", &[("Cookie", "loki_door=forged")]).await.stopped(), 401);
    }

    async fn the_holder_of_a_token_reaches_the_app_under_the_tokens_name(proxy) {
        let site = Site::open(proxy).await;
        let token = site.door.token("read").await;
        let bearer = format!("Bearer {}", token.secret);
        let arrived = site.get("/x", &[("Authorization", &bearer)]).await.passed();
        assert_eq!(identity(&arrived), [token.id.as_str(), "", "", ""]);
        let claims = asserted(&arrived);
        assert_eq!((&claims["sub"], &claims["email"]), (&json!(token.id.as_str()), &json!("")));
        let wrong = format!("{bearer}x");
        assert_eq!(site.get("/x", &[("Authorization", &wrong)]).await.stopped(), 401);
    }

    async fn the_door_is_shut_at_once_when_the_session_ends(proxy) {
        let site = Site::open(proxy).await;
        let ann = site.ann(json!({})).await;
        let cookie = door_cookie(&ann).await;
        site.get("/", &[("Cookie", &cookie)]).await.passed();
        assert_eq!(ann.submit("/auth/logout", &[]).await.status, 303);
        assert_eq!(site.get("/", &[("Cookie", &cookie)]).await.stopped(), 401);
    }

    async fn who_has_no_address_arrives_without_one_whatever_the_client_writes(proxy) {
        let site = Site::open(proxy).await;
        let lies = [("X-Auth-Request-Email", "boss@example.org"), ("Remote-Email", "boss@example.org")];
        for claims in [json!({"email": null}), json!({"email_verified": false}), json!({"email_verified": null})] {
            let ann = site.ann(claims.clone()).await;
            let headers = [("Cookie", ann.cookie.as_str()), lies[0], lies[1]];
            let arrived = site.get("/x", &headers).await.passed();
            assert_eq!(arrived.value("x-auth-request-email"), "", "{claims}");
            assert_eq!(asserted(&arrived)["email"], "", "{claims}");
            assert!(!arrived.text().contains("boss"), "{arrived:?}");
        }
        let ann = site.ann(json!({})).await;
        let headers = [("Cookie", ann.cookie.as_str()), lies[0], lies[1]];
        assert_eq!(site.get("/x", &headers).await.passed().value("x-auth-request-email"), "ann@example.org");
    }

    async fn what_a_provider_says_of_somebody_cannot_write_header_lines(proxy) {
        let site = Site::open(proxy).await;
        let groups = json!(["gr\u{fc}n", "a\r\nX-Evil: 1", "b\nX-Evil: 1", "admins"]);
        let ann = site.ann(json!({"groups": groups, "preferred_username": "ann\r\n\r\nX-Evil: 1"})).await;
        let arrived = site.get("/admin", &[("Cookie", &ann.cookie)]).await.passed();
        assert!(arrived.values("x-evil").is_empty(), "{arrived:?}");
        assert_eq!(arrived.value("x-auth-request-groups"), "gr\u{fc}n,admins");
        assert_eq!(asserted(&arrived)["groups"], json!(["gr\u{fc}n", "admins"]));
    }

    /// lokid takes at most 64 KiB, so a body that went there too would not pass.
    async fn a_body_passes_and_lokid_need_not_see_it(proxy) {
        let site = Site::open(proxy).await;
        let bearer = format!("Bearer {}", site.door.token("read").await.secret);
        let (auth, body) = (("Authorization", bearer.as_str()), "x".repeat(200 * 1024));
        let length = body.len().to_string();
        let with_length = [auth, ("Content-Length", &length)];
        site.post("/x", &with_length, body.as_bytes()).await.passed();
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let in_chunks = [auth, ("Transfer-Encoding", "chunked")];
        site.post("/x", &in_chunks, chunked.as_bytes()).await.passed();
        assert_eq!(site.post("/x", &with_length[1..], body.as_bytes()).await.stopped(), 401);
        assert_eq!(site.post("/x", &in_chunks[1..], chunked.as_bytes()).await.stopped(), 401);
    }
}
