//! Examining the whole log: one examination for everybody who asks, with its progress, ended when nobody waits.

use std::time::Duration;

use lokid::{
    domain::event::{Actor, EventName, NewEvent},
    store::ledger::Append,
};
use sqlx::{Connection as _, PgConnection};

use crate::door::{Client as _, Door, WithSession};

/// A door on PostgreSQL with a log that is read in several pieces, and a connection that can hold the reading up.
async fn with_a_long_log() -> Option<(Door, PgConnection)> {
    let url = crate::postgres::fresh_database().await?;
    let env = [("LOKI_DATABASE_URL", url.as_str()), ("LOKI_SERVER_SECRET", "of this node, 32 characters or more")];
    let door = Door::open(&env).await;
    let event = NewEvent::new(door.app.now(), EventName::CredentialRefused, Actor::anonymous());
    door.app.store.act(Append { events: vec![event; 1200] }).await.unwrap();
    Some((door, PgConnection::connect(&url).await.unwrap()))
}

/// An examination reads this table for each piece, and nothing else does.
async fn hold_up(conn: &mut PgConnection) {
    sqlx::raw_sql("BEGIN; LOCK TABLE audit_tombstones IN ACCESS EXCLUSIVE MODE").execute(conn).await.unwrap();
}

async fn let_go(conn: &mut PgConnection) {
    sqlx::raw_sql("COMMIT").execute(conn).await.unwrap();
}

async fn begin(who: &WithSession<'_>) {
    let begun = who.submit("/audit/verify", &[]).await;
    assert_eq!((begun.status, begun.header("location")), (303, "/audit/verify"), "{}", begun.text);
}

async fn look(who: &WithSession<'_>) -> String {
    let page = who.get("/audit/verify").await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.text
}

/// The page once the examination has ended.
async fn ended(who: &WithSession<'_>) -> String {
    loop {
        let page = look(who).await;
        if !page.contains("being examined") {
            return page;
        }
    }
}

const RELOADS: &str = r#"http-equiv="refresh""#;

#[actix_web::test]
async fn a_short_log_is_examined_at_once() {
    let door = Door::open(&[]).await;
    let ann = door.person("ann", "auditors").await;
    let nothing = ann.get("/audit/verify").await;
    assert_eq!((nothing.status, nothing.header("location")), (303, "/audit"));
    begin(&ann).await;
    let page = look(&ann).await;
    assert!(page.contains("The log is whole") && !page.contains(RELOADS), "{page}");
    assert_eq!(door.audit("audit.verify").await.len(), 1, "looking again examines nothing");
}

#[actix_web::test]
async fn one_examination_serves_everybody_who_asks_meanwhile() {
    let Some((door, mut conn)) = with_a_long_log().await else { return };
    let (ann, auditor) = (door.person("ann", "auditors").await, door.token("audit").await);
    hold_up(&mut conn).await;
    begin(&ann).await;
    let page = look(&ann).await;
    let head = door.app.store.audit_head().await.unwrap().seq;
    assert!(page.contains(&format!("0 of {head} entries")) && page.contains(RELOADS), "{page}");
    let program = auditor.get("/api/audit/verify");
    let person = async {
        begin(&ann).await;
        assert!(look(&ann).await.contains("being examined"));
        let_go(&mut conn).await;
        ended(&ann).await
    };
    let (verdict, page) = tokio::join!(program, person);
    assert_eq!((verdict.status, verdict.json()["valid"].as_bool()), (200, Some(true)), "{}", verdict.text);
    assert!(page.contains("The log is whole") && page.contains(&format!("{} entries", verdict.json()["entries"])));
    let recorded = door.audit("audit.verify").await;
    let mut actors: Vec<&str> = recorded.iter().map(|e| e.actor_kind.as_str()).collect();
    actors.sort_unstable();
    assert_eq!(actors, ["person", "person", "token"]);
    let heads: std::collections::BTreeSet<&str> = recorded.iter().map(|e| e.details.as_str()).collect();
    assert_eq!(heads.len(), 1, "it was one and the same");

    let again = auditor.get("/api/audit/verify").await.json();
    assert!(again["entries"].as_i64() > verdict.json()["entries"].as_i64(), "a later one begins anew");
}

#[actix_web::test]
async fn an_examination_ends_when_nobody_waits_for_it() {
    let Some((door, mut conn)) = with_a_long_log().await else { return };
    let ann = door.person("ann", "auditors").await;
    for is_asked in [true, false] {
        hold_up(&mut conn).await;
        begin(&ann).await;
        door.clock.advance(Duration::from_secs(30));
        if is_asked {
            look(&ann).await;
        }
        let before = door.audit("audit.verify").await.len();
        let_go(&mut conn).await;
        let told = loop {
            let told = door.audit("audit.verify").await;
            if told.len() > before {
                break told;
            }
        };
        let page = look(&ann).await;
        if is_asked {
            assert_eq!((told[0].outcome.as_str(), told[0].reason.as_str()), ("success", ""));
            assert!(page.contains("The log is whole"), "{page}");
        } else {
            assert_eq!((told[0].outcome.as_str(), told[0].reason.as_str()), ("failure", "nobody waited"));
            assert!(page.contains("broken off") && !page.contains("The log is whole"), "{page}");
        }
    }
}
