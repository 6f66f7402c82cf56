//! A session follows its person at the provider: roles given and taken, grants that end, and a provider
//! that cannot be asked.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    door::{Client as _, Door, WithSession},
    provider::{REFRESH_TOKEN, Reply},
};

pub(crate) const INTERVAL: Duration = Duration::from_mins(15);
/// Longer than one request has to re-read the claims.
const LEASE: Duration = Duration::from_secs(31);

pub(crate) async fn offline() -> Door {
    Door::open(&[("LOKI_OIDC_SCOPES", "openid offline_access")]).await
}

pub(crate) async fn signed_in(door: &Door) -> WithSession<'_> {
    door.provider.behave();
    door.provider.change(|s| s.token["refresh_token"] = json!(REFRESH_TOKEN));
    let come = door.sign_in(&[]).await;
    door.session_of(&come)
}

async fn role(who: &WithSession<'_>) -> Option<String> {
    let me = who.get("/api/me").await;
    (me.status == 200).then(|| me.json()["role"].as_str().unwrap().to_owned())
}

#[actix_web::test]
async fn a_role_taken_away_at_the_provider_is_taken_away_here() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    assert_eq!(role(&ann).await.as_deref(), Some("admin"));
    let calls = door.provider.calls("/token");
    door.clock.advance(Duration::from_millis(15 * 60_000 - 1));
    assert_eq!(role(&ann).await.as_deref(), Some("admin"));
    assert_eq!(door.provider.calls("/token"), calls, "asked too early");
    door.clock.advance(Duration::from_millis(1));
    door.provider.behave();
    door.provider.change(|s| s.claims["groups"] = json!([]));
    assert_eq!(role(&ann).await.as_deref(), Some("viewer"));
    assert_eq!(ann.get("/people").await.status, 403);
    let changed = &door.audit("auth.role.change").await[0];
    assert!(changed.details.contains(r#""from":"admin""#) && changed.details.contains(r#""to":"viewer""#));
    assert_eq!(door.provider.calls("/token"), calls + 1);
}

#[actix_web::test]
async fn a_grant_that_is_over_ends_the_session() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    let other = signed_in(&door).await;
    door.provider
        .change(|s| s.token_reply = Some(Reply::Text(400, "application/json", r#"{"error":"invalid_grant"}"#.into())));
    door.clock.advance(INTERVAL);
    assert_eq!(role(&ann).await, None);
    let ended = &door.audit("session.end").await[0];
    assert_eq!((ended.actor_kind.as_str(), ended.reason.as_str()), ("provider", "grant_over"));
    door.provider.change(|s| s.token_reply = None);
    assert_eq!(role(&ann).await, None, "over is over");
    assert_eq!(role(&other).await.as_deref(), Some("admin"));
}

#[actix_web::test]
async fn a_provider_that_cannot_be_asked_ends_nothing() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    for reply in [
        Reply::Text(500, "application/json", "{}".into()),
        Reply::Text(400, "application/json", r#"{"error":"temporarily_unavailable"}"#.into()),
        Reply::Text(400, "text/html", "<html>".into()),
        Reply::Redirect,
        Reply::Endless,
    ] {
        door.provider.change(|s| s.token_reply = Some(reply.clone()));
        door.clock.advance(INTERVAL);
        let calls = door.provider.calls("/token");
        assert_eq!(role(&ann).await.as_deref(), Some("admin"), "{reply:?}");
        assert_eq!(role(&ann).await.as_deref(), Some("admin"), "{reply:?}");
        assert_eq!(door.provider.calls("/token"), calls + 1, "{reply:?}: asked again within the lease");
    }
    door.provider.behave();
    door.provider.change(|s| s.claims["groups"] = json!(["auditors"]));
    door.clock.advance(LEASE);
    assert_eq!(role(&ann).await.as_deref(), Some("auditor"));
}

#[actix_web::test]
async fn a_provider_that_hangs_ends_nothing() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    door.provider.change(|s| s.token_reply = Some(Reply::Hang));
    door.clock.advance(INTERVAL);
    assert_eq!(role(&ann).await.as_deref(), Some("admin"));
    assert!(door.audit("session.end").await.is_empty());
}

#[actix_web::test]
async fn claims_of_somebody_else_are_not_taken() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    door.clock.advance(INTERVAL);
    door.provider.behave();
    door.provider.change(|s| s.claims["sub"] = json!("bob"));
    assert_eq!(role(&ann).await, None);
    assert!(door.audit("auth.role.change").await.is_empty());
}

#[actix_web::test]
async fn twenty_requests_at_once_ask_the_provider_once() {
    let door = offline().await;
    let ann = signed_in(&door).await;
    door.clock.advance(INTERVAL);
    door.provider.behave();
    door.provider.change(|s| s.claims["groups"] = json!(["auditors"]));
    let calls = door.provider.calls("/token");
    let all = join_all((0..20).map(|_| role(&ann))).await;
    assert!(all.iter().all(|r| matches!(r.as_deref(), Some("admin" | "auditor"))), "{all:?}");
    assert_eq!(door.provider.calls("/token"), calls + 1);
    assert_eq!(role(&ann).await.as_deref(), Some("auditor"));
}

#[actix_web::test]
async fn a_session_without_a_refresh_token_is_left_as_it_is() {
    let door = Door::open(&[]).await;
    let ann = door.person("ann", "admins").await;
    let calls = door.provider.calls("/token");
    door.clock.advance(INTERVAL);
    assert_eq!(role(&ann).await.as_deref(), Some("admin"));
    assert_eq!(door.provider.calls("/token"), calls);
}
