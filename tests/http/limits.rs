//! Rate limits: what each counts, that it counts by caller, and that an excess is recorded once.

use serde_json::json;

use crate::door::{Anonymous, Answer, Client, Door, answer};

const PROXY: (&str, &str) = ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1");

/// A request that a proxy passes on for this address.
async fn from(who: &impl Client, ip: &str, path: &str) -> Answer {
    answer(who.ask("GET", path).header("x-forwarded-for", ip)).await
}

async fn statuses(who: &impl Client, ip: &str, path: &str, times: usize) -> Vec<u16> {
    let mut all = Vec::new();
    for _ in 0..times {
        all.push(from(who, ip, path).await.status);
    }
    all
}

/// Which limits were exceeded, and by whom.
async fn told(door: &Door) -> Vec<(String, String)> {
    let entries = door.audit("rate.limited").await;
    entries.into_iter().map(|e| (e.reason, e.ip.unwrap_or_default())).collect()
}

#[actix_web::test]
async fn refused_credentials_are_counted_by_address_and_recorded_once() {
    let door = Door::open(&[PROXY, ("LOKI_LIMITS_BAD_CREDENTIALS", "3/h")]).await;
    let (thief, good) = (door.holder("loki_guess"), door.token("read").await);
    assert_eq!(statuses(&thief, "198.51.100.1", "/api/me", 8).await, [401, 401, 401, 429, 429, 429, 429, 429]);
    assert_eq!(statuses(&thief, "198.51.100.2", "/api/me", 1).await, [401]);
    assert_eq!(statuses(&good, "198.51.100.2", "/api/me", 5).await, [200; 5]);
    assert_eq!(statuses(&good, "198.51.100.1", "/api/me", 2).await, [200; 2], "a good token is not held up by a thief");
    assert_eq!(told(&door).await, [("bad_credentials".to_owned(), "198.51.100.1".to_owned())]);
    assert_eq!(door.audit("auth.fail").await.len(), 4, "what was not looked at is not an entry");
}

/// Neither of two session cookies is read, so they are no credential, and no way around the limit for those who
/// show none.
#[actix_web::test]
async fn two_session_cookies_count_as_none() {
    let door = Door::open(&[("LOKI_LIMITS_PEER", "5/h")]).await;
    let ann = door.person("ann", "admins").await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let request = Anonymous(&door).ask("GET", "/api/me").header("cookie", format!("{0}; {0}", ann.cookie));
        seen.push(answer(request).await.status);
    }
    assert_eq!(seen, [401, 401, 401, 429, 429], "the sign-in took two");
    assert_eq!(ann.get("/api/me").await.status, 200, "one is a credential");
}

#[actix_web::test]
async fn every_kind_of_bad_credential_counts() {
    for (name, value) in
        [("authorization", "Basic eDp5"), ("authorization", "Bearer"), ("cookie", "loki_session=forged")]
    {
        let door = Door::open(&[("LOKI_LIMITS_BAD_CREDENTIALS", "3/h")]).await;
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(answer(Anonymous(&door).ask("GET", "/api/me").header(name, value)).await.status);
        }
        assert_eq!(seen, [401, 401, 401, 429, 429, 429], "{name}: {value}");
        assert_eq!(door.audit("auth.fail").await.len(), 3, "{name}: {value}");
        assert!(!door.audit("auth.fail").await.iter().any(|e| e.details.contains(value)));
        assert_eq!(
            door.person("ann", "admins").await.get("/api/me").await.status,
            200,
            "a good session is not held up"
        );
    }
}

#[actix_web::test]
async fn a_made_up_credential_is_no_way_around_the_limit_of_an_address() {
    for (name, value) in [("authorization", "x"), ("cookie", "loki_session=x")] {
        let door = Door::open(&[("LOKI_LIMITS_PEER", "3/h")]).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(answer(Anonymous(&door).ask("GET", "/openapi.json").header(name, value)).await.status);
        }
        assert_eq!(seen, [200, 200, 200, 429, 429], "{name}: {value}");
        assert_eq!(door.token("read").await.get("/api/me").await.status, 200);
    }
}

#[actix_web::test]
async fn requests_without_a_credential_are_counted_by_address_and_networks_of_64_bits() {
    let door = Door::open(&[PROXY, ("LOKI_LIMITS_PEER", "2/h")]).await;
    let nobody = Anonymous(&door);
    assert_eq!(statuses(&nobody, "2001:db8::1", "/openapi.json", 1).await, [200]);
    assert_eq!(statuses(&nobody, "2001:db8::ffff:2", "/openapi.json", 2).await, [200, 429]);
    assert_eq!(statuses(&nobody, "2001:db8:0:1::1", "/openapi.json", 2).await, [200, 200]);
    assert_eq!(statuses(&nobody, "203.0.113.9", "/openapi.json", 3).await, [200, 200, 429]);
    assert_eq!(statuses(&nobody, "::ffff:203.0.113.9", "/openapi.json", 1).await, [429]);
    assert_eq!(statuses(&nobody, "203.0.113.9", "/healthz", 5).await, [200; 5], "probes are not held up");
    assert_eq!(told(&door).await.len(), 2);
}

#[actix_web::test]
async fn one_caller_does_not_starve_another() {
    let door = Door::open(&[("LOKI_LIMITS_API", "3/h")]).await;
    let (loud, quiet) = (door.token("read").await, door.token("read").await);
    let person = door.person("ann", "admins").await;
    assert_eq!(statuses(&loud, "-", "/api/status", 5).await, [200, 200, 200, 429, 429]);
    assert_eq!(statuses(&quiet, "-", "/api/status", 3).await, [200; 3]);
    assert_eq!(statuses(&person, "-", "/api/status", 4).await, [200, 200, 200, 429]);
    let second = door.person("ann", "admins").await;
    assert_eq!(second.get("/api/status").await.status, 429, "another browser of the same person is the same caller");
    let entries = door.audit("rate.limited").await;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].actor_id, loud.id.as_str());
}

#[actix_web::test]
async fn making_tokens_is_counted_by_caller_through_every_door() {
    let door = Door::open(&[("LOKI_LIMITS_TOKEN_CREATION", "2/h")]).await;
    let admin = door.person("ann", "admins").await;
    let csrf = admin.csrf().await;
    let page = admin.submit("/tokens", &[("name", "a"), ("scopes", "read")]).await;
    let api = admin.ask("POST", "/api/enterprise/tokens").header("x-csrf-token", &csrf);
    let api = answer(api.json(&json!({"name": "b", "scopes": ["read"]}))).await;
    assert_eq!((page.status, api.status), (201, 201));
    let id = api.json()["id"].as_str().unwrap().to_owned();
    let rotated = admin.submit(&format!("/tokens/{id}/rotate"), &[]).await;
    let third = admin.submit("/tokens", &[("name", "c"), ("scopes", "read")]).await;
    assert_eq!((rotated.status, third.status), (429, 429));
    assert_eq!(door.app.store.active_tokens(door.clock.now()).await.unwrap(), 2);
    let other = door.person("bob", "admins").await;
    assert_eq!(other.submit("/tokens", &[("name", "c"), ("scopes", "read")]).await.status, 201);
}

#[actix_web::test]
async fn beginning_and_finishing_sign_ins_is_counted_by_address() {
    let door = Door::open(&[PROXY, ("LOKI_LIMITS_SIGN_IN", "2/h"), ("LOKI_LIMITS_CALLBACK", "2/h")]).await;
    let nobody = Anonymous(&door);
    assert_eq!(statuses(&nobody, "198.51.100.1", "/auth/oidc/login", 3).await, [303, 303, 429]);
    assert_eq!(statuses(&nobody, "198.51.100.2", "/auth/oidc/login", 1).await, [303]);
    assert_eq!(statuses(&nobody, "198.51.100.1", "/auth/oidc/callback", 3).await, [400, 400, 429]);
    assert_eq!(statuses(&nobody, "198.51.100.2", "/auth/oidc/callback", 1).await, [400]);
    let logout =
        answer(nobody.ask("POST", "/auth/oidc/backchannel-logout").header("x-forwarded-for", "198.51.100.1")).await;
    logout.problem(429);
    let mut names: Vec<String> = told(&door).await.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["callback", "sign_in"]);
}
