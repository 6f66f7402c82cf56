//! Tokens over time: rotation with overlap, expiry, the limit for one person, and fresh sign-in for `*`.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::door::{Client as _, Door, WithSession, answer};

const PATH: &str = "/api/enterprise/tokens";
const HOUR: Duration = Duration::from_hours(1);

#[actix_web::test]
async fn a_rotated_token_works_until_its_grace_ends_and_keeps_what_it_was() {
    let door = Door::open(&[]).await;
    let admin = door.named_token("admin", "*", None).await;
    let old = door.named_token("ci", "read write", Some(10)).await;
    let before = admin.get(&format!("{PATH}/{}", old.id)).await.json();
    let rotated = admin.post(&format!("{PATH}/{}/rotate", old.id), &json!({"grace_period_hours": 2})).await;
    assert_eq!((rotated.status, rotated.header("cache-control")), (201, "no-store"));
    let new = rotated.json();
    assert_eq!(rotated.header("location"), format!("{PATH}/{}", new["id"].as_str().unwrap()));
    for same in ["name", "scopes", "role", "expires_at", "owner"] {
        assert_eq!(new[same], before[same], "{same}");
    }
    let fresh = door.holder(new["token"].as_str().unwrap());
    assert_eq!((old.get("/api/me").await.status, fresh.get("/api/me").await.status), (200, 200));
    assert_eq!(admin.get(&format!("{PATH}/{}", old.id)).await.json()["replaced_by"], new["id"]);
    admin.post(&format!("{PATH}/{}/rotate", old.id), &json!({})).await.problem(409);

    door.clock.advance(2 * HOUR);
    let detail = old.get("/api/me").await.problem(401);
    assert!(detail.contains(old.id.as_str()) && detail.contains("expired"), "{detail}");
    assert_eq!(fresh.get("/api/me").await.status, 200);
    assert_eq!(door.audit("auth.token.rotate").await.len(), 1);
}

#[actix_web::test]
async fn a_grace_of_zero_ends_the_old_token_at_once_and_the_default_is_a_day() {
    let door = Door::open(&[]).await;
    let admin = door.token("*").await;
    let (a, b) = (door.token("read").await, door.token("read").await);
    let rotate = |id: &str| format!("{PATH}/{id}/rotate");
    assert_eq!(admin.post(&rotate(a.id.as_str()), &json!({"grace_period_hours": 0})).await.status, 201);
    a.get("/api/me").await.problem(401);
    assert_eq!(answer(admin.ask("POST", &rotate(b.id.as_str()))).await.status, 201, "without a body");
    door.clock.advance(Duration::from_millis(24 * 3_600_000 - 1));
    assert_eq!(b.get("/api/me").await.status, 200);
    door.clock.advance(Duration::from_millis(1));
    b.get("/api/me").await.problem(401);
    let c = door.token("read").await;
    for wrong in [json!({"grace_period_hours": 721}), json!({"grace_period_hours": -1}), json!({"grace": 1})] {
        admin.post(&rotate(c.id.as_str()), &wrong).await.problem(422);
    }
    assert_eq!(c.get("/api/me").await.status, 200);
    admin.post(&rotate("nobody"), &json!({})).await.problem(404);
}

#[actix_web::test]
async fn an_expired_token_says_which_and_when_and_stays_in_the_list() {
    let door = Door::open(&[]).await;
    let admin = door.named_token("admin", "*", Some(366)).await;
    let token = door.named_token("short", "read", Some(1)).await;
    let ends = door.clock.now().plus(24 * HOUR);
    door.clock.advance(Duration::from_millis(24 * 3_600_000 - 1));
    assert_eq!(token.get("/api/status").await.status, 200);
    door.clock.advance(Duration::from_millis(1));
    let detail = token.get("/api/status").await.problem(401);
    assert!(detail.contains(token.id.as_str()) && detail.contains(&ends.rfc3339()), "{detail}");
    let shown = admin.get(&format!("{PATH}/{}", token.id)).await.json();
    assert_eq!((&shown["state"], &shown["revoked"]), (&json!("expired"), &json!(false)));
    let refused = &door.audit("auth.fail").await[0];
    assert_eq!((refused.reason.as_str(), refused.resource_id.as_str()), ("expired_token", token.id.as_str()));
}

#[actix_web::test]
async fn a_token_without_days_gets_the_default() {
    let door = Door::open(&[("LOKI_TOKENS_DEFAULT_EXPIRATION_DAYS", "7")]).await;
    let made = door.token("*").await.post(PATH, &json!({"name": "n", "scopes": ["read"]})).await.json();
    assert_eq!(made["expires_at"], door.clock.now().plus(7 * 24 * HOUR).rfc3339());
}

async fn mint(person: &WithSession<'_>, csrf: &str, name: &str, scope: &str) -> u16 {
    let form = [("csrf", csrf), ("name", name), ("scopes", scope)];
    answer(person.ask("POST", "/tokens").header("sec-fetch-site", "same-origin").form(&form)).await.status
}

#[actix_web::test]
async fn forty_posts_at_once_do_not_pass_the_limit_for_one_person() {
    let door = Door::open(&[("LOKI_SERVER_WORKERS", "2")]).await;
    let (vic, wil) = (door.person("vic", "nobody").await, door.person("wil", "nobody").await);
    let csrf = vic.csrf().await;
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let answers = join_all(names.iter().map(|name| mint(&vic, &csrf, name, "read"))).await;
    assert_eq!(answers.iter().filter(|s| **s == 201).count(), 10, "{answers:?}");
    assert_eq!(answers.iter().filter(|s| **s == 409).count(), 30, "{answers:?}");
    assert_eq!(door.app.store.active_tokens(door.clock.now()).await.unwrap(), 10);
    assert_eq!(door.audit("auth.token.create").await.len(), 10);
    assert_eq!(mint(&wil, &wil.csrf().await, "mine", "read").await, 201, "the limit is each person's own");
}

#[actix_web::test]
async fn a_name_that_forty_ask_for_at_once_is_given_once() {
    let door = Door::open(&[("LOKI_SERVER_WORKERS", "2")]).await;
    let vic = door.person("vic", "nobody").await;
    let csrf = vic.csrf().await;
    let answers = join_all((0..40).map(|_| mint(&vic, &csrf, "same", "read"))).await;
    assert_eq!(answers.iter().filter(|s| **s == 201).count(), 1, "{answers:?}");
    assert_eq!(door.app.store.active_tokens(door.clock.now()).await.unwrap(), 1);
}

#[actix_web::test]
async fn an_all_scopes_token_needs_a_sign_in_that_is_fresh() {
    let door = Door::open(&[]).await;
    let admin = door.person("ann", "admins").await;
    let csrf = admin.csrf().await;
    assert_eq!(mint(&admin, &csrf, "early", "*").await, 201);
    door.clock.advance(Duration::from_mins(10));
    assert_eq!(mint(&admin, &csrf, "late", "*").await, 403);
    assert_eq!(mint(&admin, &csrf, "late", "control").await, 201, "only * asks for it");
    let refused =
        answer(admin.ask("POST", PATH).header("x-csrf-token", &csrf).json(&json!({"name": "x", "role": "admin"})))
            .await;
    assert!(refused.problem(403).contains("fresh sign-in"));
    assert_eq!(door.audit("auth.token.create").await.len(), 2);
    let again = door.person("ann", "admins").await;
    assert_eq!(mint(&again, &again.csrf().await, "late all", "*").await, 201);
}

#[actix_web::test]
async fn rotation_is_no_way_around_the_fresh_sign_in() {
    let door = Door::open(&[]).await;
    let admin = door.person("ann", "admins").await;
    assert_eq!(mint(&admin, &admin.csrf().await, "all", "*").await, 201);
    assert_eq!(mint(&admin, &admin.csrf().await, "some", "control").await, 201);
    let id_of = async |name: &str| {
        let found = door.app.store.tokens_named(name, None, door.clock.now()).await.unwrap();
        found[0].id.to_string()
    };
    let (all, some) = (id_of("all").await, id_of("some").await);
    door.clock.advance(Duration::from_mins(10));
    let refused = admin.submit(&format!("/tokens/{all}/rotate"), &[]).await;
    assert_eq!(refused.status, 403, "a stale session got a new * secret");
    assert_eq!(id_of("all").await, all);
    assert_eq!(admin.submit(&format!("/tokens/{some}/rotate"), &[]).await.status, 201);
    let again = door.person("ann", "admins").await;
    assert_eq!(again.submit(&format!("/tokens/{all}/rotate"), &[]).await.status, 201);
}

#[actix_web::test]
async fn somebody_elses_token_is_as_good_as_none() {
    let door = Door::open(&[]).await;
    let vic = door.person("vic", "nobody").await;
    assert_eq!(mint(&vic, &vic.csrf().await, "vics", "read").await, 201);
    let token = door.app.store.tokens_named("vics", None, door.clock.now()).await.unwrap().remove(0);
    let wil = door.person("wil", "nobody").await;
    for act in ["revoke", "rotate"] {
        assert_eq!(wil.submit(&format!("/tokens/{}/{act}", token.id), &[]).await.status, 404, "{act}");
    }
    assert!(door.app.store.token(&token.id).await.unwrap().unwrap().is_live(door.clock.now()));
    assert_eq!(vic.submit(&format!("/tokens/{}/revoke", token.id), &[]).await.status, 303);
    assert!(!door.app.store.token(&token.id).await.unwrap().unwrap().is_live(door.clock.now()));
}
