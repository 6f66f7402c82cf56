//! Signing keys that the database keeps: the same after a restart, shown and rotated at `/keys`, and rotated
//! by a timer.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use lokid::{
    actions::{App, app::StartError, keys::watch::Watch},
    config::Sources,
    domain::{rotation::KeyState, time::Clock},
    keys::sign::SigningKey,
    store::OpenError,
};
use serde_json::Value;

use crate::door::{Anonymous, Client as _, Door, WithSession, answer};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const OTHER_SECRET: &str = "fedcba9876543210fedcba9876543210";
pub(crate) const KEPT: (&str, &str) = ("LOKI_SERVER_SECRET", SECRET);
const PUBLISHED_FOR: Duration = Duration::from_mins(2);
const RETIRED_FOR: Duration = Duration::from_mins(6);
const JWKS: &str = "/.well-known/jwks.json";

/// A server on the data in `dir`, as soon as the one before it let go of them: its last task ends by itself.
pub(crate) async fn start(dir: &Path, env: &[(&str, &str)]) -> Result<Arc<App>, StartError> {
    let url = format!("sqlite://{}", dir.join("loki.db").display());
    let all = env.iter().copied().chain([("LOKI_DATABASE_URL", url.as_str())]);
    let env: BTreeMap<_, _> = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = Sources { file: None, flags: Vec::new(), env }.load().unwrap();
    let started = async {
        loop {
            match App::start(settings.clone(), Clock::system(), true).await {
                Err(StartError::Store(OpenError::Locked(_))) => tokio::task::yield_now().await,
                started => return started,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), started).await.expect("the data are free")
}

fn kids(set: &Value) -> Vec<String> {
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn published(app: &App) -> Vec<String> {
    kids(&serde_json::from_str(app.keys.load().jwks()).unwrap())
}

#[actix_web::test]
async fn the_key_of_a_server_with_a_secret_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path(), &[KEPT]).await.unwrap();
    let set = published(&first);
    assert_eq!(set.len(), 1);
    first.close().await;
    drop(first);

    let second = start(dir.path(), &[KEPT]).await.unwrap();
    assert_eq!(published(&second), set);
    second.close().await;
    drop(second);

    let refused = start(dir.path(), &[("LOKI_SERVER_SECRET", OTHER_SECRET)]).await.err().unwrap().to_string();
    assert!(refused.contains(&set[0]) && refused.contains("another server.secret"), "{refused}");
    let third = start(dir.path(), &[KEPT]).await.unwrap();
    assert_eq!(published(&third), set, "the refused one changed nothing");
}

/// The file's private half was never kept: without the file there is nothing to sign with.
#[actix_web::test]
async fn a_server_that_is_no_longer_told_its_keys_keeps_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let given = SigningKey::generate();
    let first = start(dir.path(), &[KEPT, ("SIGNING_KEY", &given.to_pem())]).await.unwrap();
    Watch::default().look(&first).await.unwrap();
    assert_eq!(published(&first), [given.kid()]);
    first.close().await;
    drop(first);

    let second = start(dir.path(), &[KEPT]).await.unwrap();
    let set = published(&second);
    assert_eq!(set.len(), 1, "{set:?}");
    assert_ne!(set, [given.kid()]);
    second.close().await;
    drop(second);
    assert_eq!(published(&start(dir.path(), &[KEPT]).await.unwrap()), set);
}

#[actix_web::test]
async fn the_key_set_is_there_for_every_verifier_to_keep_for_a_minute() {
    let door = Door::open(&[KEPT]).await;
    let answered = Anonymous(&door).get(JWKS).await;
    let set = answered.json();
    let mut members: Vec<_> = set["keys"][0].as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing private");
    assert_eq!(answered.header("cache-control"), "public, max-age=60");
    assert_eq!(answered.header("access-control-allow-origin"), "*");
    let same = answer(Anonymous(&door).ask("GET", JWKS).header("if-none-match", answered.header("etag"))).await;
    assert_eq!((same.status, same.text.as_str()), (304, ""));
    assert_eq!(Anonymous(&door).get("/.well-known/pomerium/jwks.json").await.json(), set);

    let admin = door.person("ann", "admins").await;
    admin.submit("/keys/add", &[]).await;
    let changed = answer(Anonymous(&door).ask("GET", JWKS).header("if-none-match", answered.header("etag"))).await;
    assert_eq!((changed.status, kids(&changed.json()).len()), (200, 2));
}

#[actix_web::test]
async fn a_key_that_ends_with_the_process_is_not_published() {
    let door = Door::open(&[]).await;
    assert_eq!(Anonymous(&door).get(JWKS).await.text, r#"{"keys":[]}"#);
    let admin = door.person("ann", "admins").await;
    let page = admin.get("/keys").await;
    assert!(page.text.contains("No key is published") && page.text.contains("Set server.secret"), "{}", page.text);
    assert_eq!(admin.submit("/keys/add", &[]).await.status, 409);
    assert_eq!(door.audit("key.*").await.len(), 0);
}

/// The kid of the key in this state.
async fn kid(door: &Door, state: KeyState) -> String {
    let keys = door.app.store.signing_keys().await.unwrap();
    keys.into_iter().map(|k| k.record).find(|k| k.state() == state).unwrap().kid
}

/// Which forms the page offers, besides signing out.
async fn forms(who: &WithSession<'_>) -> Vec<String> {
    let page = who.get("/keys").await;
    assert_eq!(page.status, 200, "{}", page.text);
    let actions = page.text.split("action=\"/keys/").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    actions.collect()
}

/// What the log says of the keys, the oldest first: event, key, who.
async fn log(door: &Door) -> Vec<(String, String, String)> {
    let entries = door.audit("key.*").await;
    entries.into_iter().rev().map(|e| (e.event, e.resource_id, e.actor_name)).collect()
}

#[actix_web::test]
async fn the_page_takes_each_step_when_it_is_safe_and_offers_it_only_then() {
    let door = Door::open(&[KEPT]).await;
    let admin = door.person("ann", "admins").await;
    let old = kid(&door, KeyState::Active).await;
    assert_eq!(forms(&admin).await, ["add".to_owned(), format!("{old}/revoke")]);

    assert_eq!(admin.submit("/keys/add", &[]).await.status, 303);
    let new = kid(&door, KeyState::Next).await;
    let promote = format!("/keys/{new}/promote");
    let early = admin.submit(&promote, &[]).await;
    assert_eq!(early.status, 409);
    assert!(early.text.contains("may sign from"), "{}", early.text);
    assert_eq!(admin.submit("/keys/add", &[]).await.status, 409, "one is next already");
    assert!(!forms(&admin).await.iter().any(|form| form == "add" || form.ends_with("/promote")));
    assert_eq!(kid(&door, KeyState::Active).await, old);

    door.clock.advance(PUBLISHED_FOR);
    assert!(forms(&admin).await.contains(&format!("{new}/promote")));
    assert_eq!(admin.submit(&promote, &[]).await.status, 303);
    assert_eq!(kid(&door, KeyState::Active).await, new);
    assert_eq!(door.app.keys.load().signing().kid(), new, "it signs without a restart");

    let remove = format!("/keys/{old}/remove");
    let early = admin.submit(&remove, &[]).await;
    assert_eq!(early.status, 409);
    assert!(early.text.contains("may be removed from"), "{}", early.text);
    assert!(!forms(&admin).await.contains(&format!("{old}/remove")));
    door.clock.advance(RETIRED_FOR);
    assert!(forms(&admin).await.contains(&format!("{old}/remove")));
    assert_eq!(admin.submit(&remove, &[]).await.status, 303);
    assert_eq!(kids(&Anonymous(&door).get(JWKS).await.json()), [&*new]);

    let said = |event: &str, kid: &str, who: &str| (event.to_owned(), kid.to_owned(), who.to_owned());
    let first = log(&door).await[0].2.clone();
    assert_eq!(
        log(&door).await,
        [
            said("key.add", &old, &first),
            said("key.promote", &old, &first),
            said("key.add", &new, "ann"),
            said("key.promote", &new, "ann"),
            said("key.remove", &old, "ann"),
        ]
    );
}

#[actix_web::test]
async fn a_revoked_key_is_out_of_the_set_with_the_answer_and_another_signs() {
    let door = Door::open(&[KEPT]).await;
    let admin = door.person("ann", "admins").await;
    let leaked = kid(&door, KeyState::Active).await;
    assert_eq!(admin.submit("/keys/00000000/revoke", &[]).await.status, 409);
    assert_eq!(kids(&Anonymous(&door).get(JWKS).await.json()), [&*leaked]);
    assert_eq!(admin.submit(&format!("/keys/{leaked}/revoke"), &[]).await.status, 303);
    let set = kids(&Anonymous(&door).get(JWKS).await.json());
    assert_eq!((set.len(), set.contains(&leaked)), (1, false));
    assert_eq!(door.app.keys.load().signing().kid(), set[0]);
    let said = &door.audit("key.remove").await[0];
    assert_eq!(
        (said.resource_id.as_str(), said.reason.as_str(), said.actor_name.as_str()),
        (&*leaked, "revoked", "ann")
    );
}

#[actix_web::test]
async fn only_an_administrator_with_the_pages_own_form_touches_the_keys() {
    let door = Door::open(&[KEPT]).await;
    let (viewer, admin) = (door.person("vic", "nobody").await, door.person("ann", "admins").await);
    assert_eq!(viewer.get("/keys").await.status, 403);
    assert_eq!(viewer.submit("/keys/add", &[]).await.status, 403);
    let forged = admin.ask("POST", "/keys/add").header("sec-fetch-site", "same-origin").form(&[("csrf", "x")]);
    assert_eq!(answer(forged).await.status, 403);
    let holder = door.token("*").await;
    let page = holder.get("/keys").await;
    assert_eq!((page.status, page.text.contains("action=\"/keys/")), (200, false), "a token has no form");
    assert_eq!(door.app.store.signing_keys().await.unwrap().len(), 1);

    assert_eq!(admin.submit("/keys/add", &[]).await.status, 303);
    assert_eq!(door.app.store.signing_keys().await.unwrap().len(), 2);
}

#[actix_web::test]
async fn keys_that_lokid_is_given_are_shown_and_not_rotated_here() {
    let given = SigningKey::generate();
    let door = Door::open(&[KEPT, ("SIGNING_KEY", &given.to_pem())]).await;
    Watch::default().look(&door.app).await.unwrap();
    let admin = door.person("ann", "admins").await;
    assert_eq!(forms(&admin).await, [""; 0]);
    assert!(admin.get("/keys").await.text.contains(&given.kid()[..16]));
    for step in ["add".to_owned(), format!("{}/revoke", given.kid())] {
        let refused = admin.submit(&format!("/keys/{step}"), &[]).await;
        assert_eq!(refused.status, 409, "{step}");
        assert!(refused.text.contains("change that value"), "{}", refused.text);
    }
    assert_eq!(kids(&Anonymous(&door).get(JWKS).await.json()), [given.kid()]);
}

#[actix_web::test]
async fn the_timer_rotates_by_itself_when_the_clock_moves() {
    let door = Door::open(&[KEPT, ("LOKI_KEYS_ROTATE_EVERY", "1h")]).await;
    let mut watch = Watch::default();
    let first = kid(&door, KeyState::Active).await;
    let mut turns = Vec::new();
    for _minute in 0..=69 {
        for _twice in 0..2 {
            watch.look(&door.app).await.unwrap();
        }
        let signing = door.app.keys.load().signing().kid() == first;
        let turn = (kids(&Anonymous(&door).get(JWKS).await.json()).len(), signing);
        if turns.last().is_none_or(|(_, last)| *last != turn) {
            turns.push((door.clock.now().since(door.app.started_at).as_secs() / 60, turn));
        }
        door.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(turns, [(0, (1, true)), (60, (2, true)), (62, (2, false)), (68, (1, false))]);
    let events = door.audit("key.*").await;
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|e| e.actor_kind == "system"), "{events:?}");
}
