//! Each act leaves exactly one event, every event is documented, and no secret gets where somebody reads.

use lokid::domain::{event::EventName, retention::is_noise};
use serde_json::{Value, json};

use crate::door::{Anonymous, Client as _, Door, answer};

const SECRET: &str = "a secret of the tests, long enough for it";

/// Does something, and looks that the log has exactly one more event of this name.
async fn once<T>(door: &Door, event: EventName, act: impl AsyncFnOnce() -> T) -> T {
    let before = door.audit(event.as_str()).await.len();
    let done = act().await;
    assert_eq!(door.audit(event.as_str()).await.len(), before + 1, "{}", event.as_str());
    done
}

#[actix_web::test]
async fn every_act_leaves_one_event() {
    let door = Door::open(&[("LOKI_SERVER_SECRET", SECRET)]).await;
    let admin = once(&door, EventName::SignInSucceeded, async || door.person("ann", "admins").await).await;
    let holder = door.token("*").await;
    let tokens = "/api/enterprise/tokens";
    let made = once(&door, EventName::TokenCreated, async || {
        holder.post(tokens, &json!({"name": "ci", "scopes": ["write"]})).await
    })
    .await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let rotated =
        once(&door, EventName::TokenRotated, async || holder.post(&format!("{tokens}/{id}/rotate"), &json!({})).await)
            .await
            .json();
    let new = rotated["id"].as_str().unwrap();
    once(&door, EventName::TokenRevoked, async || answer(holder.ask("DELETE", &format!("{tokens}/{new}"))).await).await;
    let revoked = door.holder(rotated["token"].as_str().unwrap());
    once(&door, EventName::CredentialRefused, async || revoked.get("/api/me").await).await;

    let task = once(&door, EventName::TaskCreated, async || holder.post("/api/tasks", &json!({"title": "x"})).await)
        .await
        .json();
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    once(&door, EventName::TaskUpdated, async || answer(holder.ask("PATCH", &path).json(&json!({"title": "y"}))).await)
        .await;
    once(&door, EventName::TaskMoved, async || {
        holder.post(&format!("{path}/move"), &json!({"status": "in_progress"})).await
    })
    .await;
    once(&door, EventName::TaskDeleted, async || answer(holder.ask("DELETE", &path)).await).await;

    once(&door, EventName::KeyAdded, async || admin.submit("/keys/add", &[]).await).await;
    once(&door, EventName::AuditVerified, async || holder.get("/api/audit/verify").await).await;
    once(&door, EventName::AuditExported, async || holder.get("/api/audit/export").await).await;
    once(&door, EventName::AuditCheckpointed, async || lokid::actions::evidence::sign(&door.app, true).await)
        .await
        .unwrap();
    let reader = door.token("read").await;
    once(&door, EventName::PermissionDenied, async || reader.get(tokens).await).await;
    let csrf = admin.csrf().await;
    once(&door, EventName::SignedOut, async || {
        answer(
            admin.ask("POST", "/auth/logout").header("sec-fetch-site", "same-origin").form(&[("csrf", csrf.as_str())]),
        )
        .await
    })
    .await;
}

#[test]
fn every_event_is_in_the_documentation_with_its_class() {
    let text = include_str!("../../docs/audit.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for name in EventName::EVERY.iter().map(|name| name.as_str()) {
        let row = rows.iter().find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))));
        let row = row.unwrap_or_else(|| panic!("docs/audit.md does not list {name}"));
        let class = row.split('|').nth(2).unwrap().trim();
        assert_eq!(class == "noise", is_noise(name), "{name} is {class}");
    }
}

/// Plants secrets wherever a caller can put one, and looks for them wherever somebody reads.
#[actix_web::test]
async fn no_secret_gets_into_the_log_a_page_or_an_error() {
    let door = Door::open(&[("LOKI_SERVER_SECRET", SECRET), ("LOKI_LIMITS_BAD_CREDENTIALS", "off")]).await;
    let admin = door.person("ann", "admins").await;
    let holder = door.token("*").await;
    let (nobody, mut shown) = (Anonymous(&door), Vec::new());
    let canary = |n: u32| format!("canary{n:02}-Zq8vW2xK");
    let checksum = "loki_canary01Zq8vW2xKcanary01Zq8vW2xKcanary01Zq8_000000";
    let pem = format!("-----BEGIN PRIVATE KEY----- {}", canary(5));
    for request in [
        nobody.ask("GET", "/api/me").bearer_auth(checksum),
        nobody.ask("GET", "/api/me").header("authorization", format!("APIKey {}", canary(2))),
        nobody.ask("GET", "/api/me").header("authorization", format!("Basic {}", canary(3))),
        nobody.ask("GET", "/api/me").header("cookie", format!("loki_session={}", canary(4))),
        holder.ask("GET", "/api/me").header("x-api-key", &pem),
        nobody.ask("GET", &format!("/api/me?access_token={}", canary(6))),
        nobody.ask("GET", &format!("/auth/oidc/callback?state={}&code={}", canary(7), canary(8))),
        nobody.ask("POST", "/auth/oidc/backchannel-logout").form(&[("logout_token", canary(9))]),
        nobody.ask("GET", &format!("/login/local/{}", canary(10))),
        holder.ask("POST", "/api/tasks").header("idempotency-key", canary(11)).body(canary(12)),
    ] {
        shown.push(answer(request).await.text);
    }
    for page in ["/", "/audit", "/tokens", "/people", "/keys", "/account"] {
        shown.push(admin.get(page).await.text);
    }
    door.app.events.flush().await;
    let log = holder.get("/api/audit?limit=1000").await;
    assert!(log.json()["entries"].as_array().unwrap().len() > 5, "the refusals are in the log: {}", log.text);
    shown.extend([
        log.text.clone(),
        holder.get("/api/audit/export").await.text,
        holder.get("/api/audit/keys").await.text,
    ]);
    let cookie = admin.cookie.split('=').nth(1).unwrap();
    let secrets = [holder.secret.as_str(), cookie, SECRET, "the-code", "canary01Zq8vW2xK"].map(str::to_owned);
    let planted: Vec<String> = (2..=12).map(canary).chain(secrets).collect();
    for text in &shown {
        for secret in &planted {
            let at = text.find(secret.as_str());
            assert_eq!(at, None, "{secret} in {}", &text[at.unwrap_or(0).saturating_sub(200)..]);
        }
    }
    let events: Vec<Value> = log.json()["entries"].as_array().unwrap().clone();
    assert!(events.iter().any(|e| e["event"] == "auth.fail"), "what was planted was refused, and that is recorded");
}
