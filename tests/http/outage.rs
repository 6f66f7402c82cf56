//! A database that does not answer: 503, and nothing is done.

use insta::assert_snapshot;
use lokid::{audit::verify, keys::verify::PublicKeys};
use serde_json::json;

use crate::{
    door::{Anonymous, Client as _, Door, answer},
    problem::shown,
};

const TOKENS: &str = "/api/enterprise/tokens";

#[actix_web::test]
async fn a_database_that_is_gone_is_503_and_nothing_is_done() {
    let door = Door::open(&[]).await;
    let (admin, person) = (door.token("*").await, door.person("ann", "admins").await);
    assert_eq!(Anonymous(&door).get("/readyz").await.status, 200);
    let csrf = person.csrf().await;
    door.app.close().await;

    let made = admin.post(TOKENS, &json!({"name": "n", "scopes": ["read"]})).await;
    assert_snapshot!(shown(&made, &["retry-after"]), @r#"
    retry-after: 2
    503 application/problem+json
    {"detail":"the database does not answer; nothing was changed. Try again in a moment","instance":"urn:lokid:request:ID","status":503,"title":"Service Unavailable","type":"about:blank"}
    "#);
    let form = [("csrf", csrf.as_str()), ("name", "n"), ("scopes", "read")];
    answer(person.ask("POST", "/tokens").header("sec-fetch-site", "same-origin").form(&form)).await.problem(503);
    answer(admin.ask("DELETE", &format!("{TOKENS}/{}", admin.id))).await.problem(503);
    assert_eq!(Anonymous(&door).get("/readyz").await.status, 503);
    assert_eq!(Anonymous(&door).get("/healthz").await.status, 200);

    let again = reopened(&door).await;
    assert_eq!(again.active_tokens(door.clock.now()).await.unwrap(), 1);
    assert!(verify::database(&again, PublicKeys::default(), &[]).await.unwrap().flaw.is_none());
}

async fn reopened(door: &Door) -> lokid::store::Store {
    let place = lokid::store::open_place(&door.app.settings.database, "test", false);
    lokid::store::Store::open(place).await.unwrap()
}
