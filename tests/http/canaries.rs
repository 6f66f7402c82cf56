//! No secret gets where somebody reads, and nothing that a screen acts on.

use serde_json::Value;

use crate::door::{Anonymous, Client as _, Door, answer};

const SECRET: &str = "a secret of the tests, long enough for it";

/// Plants secrets wherever a caller can put one, and looks for them wherever somebody reads. `tests/canaries.rs` does the same
/// with what the server holds, and with its logs.
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
        holder.get("/metrics").await.text,
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
