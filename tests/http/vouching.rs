//! Whose statements about the log are believed: not those of a key that somebody wrote into the database, not those of
//! one that was revoked, but those of one that signed before.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lokid::{
    actions::{App, evidence, keys::watch::Watch, vouching},
    audit::verify::Report,
    domain::{
        checkpoint::{Statement as _, Tombstone},
        event::{Actor, EventName, NewEvent, Origin},
        identity::Identity,
        time::Moment,
    },
    keys::sign::SigningKey,
    store::ledger::Append,
};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    door::{Client as _, Door},
    keys::{KEPT, OTHER_SECRET, start},
};

/// Records so many refusals, and signs.
async fn refuse(app: &App, times: usize) {
    let event = NewEvent::new(app.now(), EventName::CredentialRefused, Actor::system());
    app.store.act(Append { events: vec![event; times] }).await.unwrap();
    evidence::sign(app, true).await.unwrap();
}

async fn examine(app: &App) -> Report {
    evidence::examine(app, &Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap()).await.unwrap()
}

async fn believed(app: &App) -> Vec<String> {
    let auditor = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();
    vouching::keys(app, &auditor).await.unwrap().names().into_iter().map(str::to_owned).collect()
}

/// Lets a key say of one entry that it was taken out.
async fn bury(file: &Path, seq: i64, key: &SigningKey) {
    let mut conn = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let first = "SELECT prev_hash, hash, (SELECT hash FROM audit WHERE seq = 1) FROM audit WHERE seq = $1";
    let (prev, hash, log): (Vec<u8>, Vec<u8>, Vec<u8>) =
        sqlx::query_as(first).bind(seq).fetch_one(&mut conn).await.unwrap();
    let [prev_hash, hash, log] = [prev, hash, log].map(|hash| hash.try_into().unwrap());
    let hole =
        lokid::domain::chain::Hole { first_seq: seq, last_seq: seq, prev_hash, first_hash: hash, last_hash: hash };
    let jws = key.sign(Tombstone::TYP, &Tombstone::of(log, &hole, Moment::from_millis(5)));
    let stone = "INSERT INTO audit_tombstones VALUES ($1, $1, $2, $3, $3, $4)";
    let query = sqlx::query(stone).bind(seq).bind(&prev_hash[..]).bind(&hash[..]).bind(jws);
    query.execute(&mut conn).await.unwrap();
    sqlx::query("DELETE FROM audit WHERE seq = $1").bind(seq).execute(&mut conn).await.unwrap();
    let remember = "INSERT INTO audit_keys VALUES ($1, $2, 0) ON CONFLICT (kid) DO NOTHING";
    sqlx::query(remember).bind(key.kid()).bind(key.jwk().to_string()).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// A door whose log of a few refusals is in a file, and the directory that goes with it.
async fn door() -> (Door, PathBuf, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("loki.db");
    let door = Door::open(&[KEPT, ("LOKI_DATABASE_URL", &format!("sqlite://{}", file.display()))]).await;
    refuse(&door.app, 5).await;
    (door, file, dir)
}

/// The key that signs.
fn signing(door: &Door) -> SigningKey {
    SigningKey::read_one(&door.app.keys.load().signing().to_pem()).unwrap()
}

#[actix_web::test]
async fn a_key_in_the_table_alone_is_neither_believed_nor_handed_out() {
    let (door, file, _dir) = door().await;
    let ours = signing(&door);
    bury(&file, 3, &ours).await;
    assert_eq!(examine(&door.app).await.flaw, None, "the key that signs may say what is gone");
    let mallory = SigningKey::generate();
    bury(&file, 4, &mallory).await;
    refuse(&door.app, 5).await;
    let found = examine(&door.app).await.flaw.unwrap();
    assert_eq!((found.kind(), found.seq()), ("wrong_keys", Some(4)), "{found}");
    let handed_out = door.token("audit").await.get("/api/audit/keys").await.text;
    assert_eq!((handed_out.contains(mallory.kid()), handed_out.contains(ours.kid())), (false, true));
}

/// What it signed while it was ours stays true; what its thief signs does not become so.
#[actix_web::test]
async fn a_revoked_key_is_not_believed_any_more_but_what_retention_took_out_stays_vouched_for() {
    let (door, file, _dir) = door().await;
    door.clock.advance(Duration::from_hours(24 * 100));
    let admin = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();
    assert_eq!(evidence::retain(&door.app, &admin, &Origin::default()).await.unwrap(), 5);
    refuse(&door.app, 1).await;
    let stolen = signing(&door);

    let ann = door.person("ann", "admins").await;
    assert_eq!(ann.submit(&format!("/keys/{}/revoke", stolen.kid()), &[]).await.status, 303);
    let report = examine(&door.app).await;
    assert_eq!((report.flaw, report.taken), (None, 5), "{:?}", report.unchecked);
    assert!(!believed(&door.app).await.contains(&stolen.kid().to_owned()));
    refuse(&door.app, 1).await;
    assert!(!believed(&door.app).await.contains(&stolen.kid().to_owned()), "nor does it come back");
    let mut conn = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    let back = "UPDATE signing_keys SET gone_at = NULL, gone_because = '', active_at = 9, sealed = \
        (SELECT sealed FROM signing_keys WHERE sealed IS NOT NULL) WHERE kid = $1";
    sqlx::query(back).bind(stolen.kid()).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let record =
        door.app.store.signing_keys().await.unwrap().into_iter().find(|k| k.record.kid == stolen.kid()).unwrap();
    assert_eq!((record.sealed, record.record.revoked), (None, true), "not when its row is put back either");
    assert!(!believed(&door.app).await.contains(&stolen.kid().to_owned()));

    bury(&file, report.covered_to - 1, &stolen).await;
    let found = examine(&door.app).await.flaw.unwrap();
    assert_eq!((found.kind(), found.seq()), ("wrong_keys", Some(report.covered_to - 1)), "{found}");
}

/// The keys come from somewhere else after a restart; the installation's secret vouches for the one that signed before.
#[actix_web::test]
async fn a_key_that_signed_before_a_change_of_source_is_believed_as_long_as_the_secret_is_the_same() {
    let (first, second) = (SigningKey::generate(), SigningKey::generate());
    for (secret, is_believed) in [(KEPT, true), (("LOKI_SERVER_SECRET", OTHER_SECRET), false)] {
        let dir = tempfile::tempdir().unwrap();
        let app = start(dir.path(), &[KEPT, ("SIGNING_KEY", &first.to_pem())]).await.unwrap();
        Watch::default().look(&app).await.unwrap();
        refuse(&app, 5).await;
        app.close().await;
        drop(app);
        bury(&dir.path().join("loki.db"), 3, &first).await;

        let app = start(dir.path(), &[secret, ("SIGNING_KEY", &second.to_pem())]).await.unwrap();
        refuse(&app, 2).await;
        refuse(&app, 2).await;
        let flaw = examine(&app).await.flaw.map(|flaw| (flaw.kind(), flaw.seq()));
        assert_eq!(flaw, if is_believed { None } else { Some(("wrong_keys", Some(3))) });
        assert_eq!(believed(&app).await.contains(&first.kid().to_owned()), is_believed);
        app.close().await;
    }
}

/// `next → active → retiring → gone`, and still believed.
#[actix_web::test]
async fn a_key_that_left_in_order_is_believed() {
    let (door, file, _dir) = door().await;
    let old = signing(&door);
    let ann = door.person("ann", "admins").await;
    assert_eq!(ann.submit("/keys/add", &[]).await.status, 303);
    door.clock.advance(Duration::from_mins(3));
    let next = door.app.store.key_records().await.unwrap().into_iter().find(|key| key.active_at.is_none()).unwrap();
    assert_eq!(ann.submit(&format!("/keys/{}/promote", next.kid), &[]).await.status, 303);
    door.clock.advance(Duration::from_mins(7));
    assert_eq!(ann.submit(&format!("/keys/{}/remove", old.kid()), &[]).await.status, 303);
    refuse(&door.app, 1).await;
    refuse(&door.app, 1).await;
    bury(&file, 4, &old).await;
    let report = examine(&door.app).await;
    assert_eq!((report.flaw, report.taken), (None, 1));
    assert!(believed(&door.app).await.contains(&old.kid().to_owned()));
}
