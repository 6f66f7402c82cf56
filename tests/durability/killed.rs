//! SIGKILL in the midst of mints, revocations, sign-ins and sign-outs. What was answered is there after the
//! next start, what was ended is over, and no act is without its event.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use sqlx::Connection as _;

use super::{
    http::Http,
    rounds,
    server::{ROOT, Site, until},
    sign_in::{provider, sign_in, sign_out},
};

/// How far the end of something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotAsked,
    Asked,
    Answered,
}

/// A token or session whose making was answered.
#[derive(Debug)]
struct Made {
    /// The header that presents it.
    header: (&'static str, String),
    end: End,
}

/// What the clients of one round were told.
#[derive(Default)]
struct Told {
    made: Mutex<Vec<Made>>,
    tokens: AtomicU64,
    sessions: AtomicU64,
}

impl Told {
    fn add(&self, header: (&'static str, String)) -> usize {
        let mut made = self.made.lock().unwrap();
        made.push(Made { header, end: End::NotAsked });
        made.len() - 1
    }

    fn end(&self, at: usize, end: End) {
        self.made.lock().unwrap()[at].end = end;
    }

    /// Makes tokens and revokes every second one until the server is gone.
    fn automate(&self, mut http: Http, root: &str, name: &str) {
        for n in 0_u64.. {
            let body = format!(r#"{{"name":"{name} {n}","scopes":["read"]}}"#);
            let Ok(minted) = http.call(root, "POST", "/api/enterprise/tokens", &body) else { return };
            assert_eq!(minted.status, 201, "{}", minted.body);
            let at = self.add(("authorization", format!("Bearer {}", minted.json()["token"].as_str().unwrap())));
            self.tokens.fetch_add(1, SeqCst);
            if n % 2 == 0 {
                continue;
            }
            self.end(at, End::Asked);
            let path = format!("/api/enterprise/tokens/{}", minted.json()["id"].as_str().unwrap());
            let Ok(revoked) = http.call(root, "DELETE", &path, "") else { return };
            assert_eq!(revoked.status, 200, "{}", revoked.body);
            self.end(at, End::Answered);
        }
    }

    /// Signs in, and out every second time, until the server is gone.
    fn visit(&self, mut http: Http, provider: u16) {
        for n in 0_u64.. {
            let Some(cookie) = sign_in(&mut http, provider) else { return };
            let at = self.add(("cookie", cookie.clone()));
            self.sessions.fetch_add(1, SeqCst);
            if n % 2 == 0 {
                continue;
            }
            self.end(at, End::Asked);
            if !sign_out(&mut http, &cookie) {
                return;
            }
            self.end(at, End::Answered);
        }
    }
}

#[test]
fn what_was_answered_survives_a_kill_and_what_was_ended_stays_ended() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut site = Site::new(dir.path());
    let provider = provider(&mut site);
    let root: Arc<str> = site.token(ROOT).into();
    let (mut checked, last) = ([0_u64; 3], rounds(20));
    for round in 0..last {
        let told = Arc::new(Told::default());
        let mut server = site.start();
        let mut clients = Vec::new();
        for client in 0..6 {
            let (told, http, root) = (Arc::clone(&told), server.http(), Arc::clone(&root));
            clients.push(thread::spawn(move || told.automate(http, &root, &format!("{round} {client}"))));
        }
        for _ in 0..3 {
            let (told, http) = (Arc::clone(&told), server.http());
            clients.push(thread::spawn(move || told.visit(http, provider)));
        }
        // Another moment of the work in every round.
        let (tokens, sessions) = (5 + round * 37 % 60, 1 + round % 7);
        let enough = || told.tokens.load(SeqCst) >= tokens && told.sessions.load(SeqCst) >= sessions;
        assert!(until(Duration::from_secs(30), enough), "round {round}: the server is too slow");
        server.kill();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let server = site.start();
        for made in told.made.lock().unwrap().iter() {
            let status = server.http().get("/api/me", &[(made.header.0, &made.header.1)]).unwrap().status;
            let right = match made.end {
                End::NotAsked => status == 200,
                End::Asked => matches!(status, 200 | 401),
                End::Answered => status == 401,
            };
            assert!(right, "round {round}: {:?} {:?} answers {status}", made.header.0, made.end);
            checked[made.end as usize] += 1;
        }
        if round % 10 == 9 || round + 1 == last {
            let verdict = server.http().call(&root, "GET", "/api/audit/verify", "").unwrap();
            assert_eq!(verdict.json()["valid"], true, "round {round}: {}", verdict.body);
        }
    }
    let [kept, between, ended] = checked;
    println!("kill: {last} rounds, {kept} made and kept, {ended} ended, {between} under way; none lost or alive");
    every_act_has_its_event(&site.database(), &PAIRS);
}

/// Rows and an event that must stand for each other.
pub(crate) type Pair = (&'static str, &'static str);

/// Tokens that were made.
pub(crate) const TOKENS: Pair = ("SELECT id FROM tokens", "auth.token.create");

const PAIRS: [Pair; 4] = [
    TOKENS,
    ("SELECT id FROM tokens WHERE revoked_at IS NOT NULL", "auth.token.revoke"),
    ("SELECT id FROM sessions", "auth.oidc.success"),
    ("SELECT id FROM sessions WHERE ended_at IS NOT NULL", "auth.logout"),
];

/// Looks that no act is without its event and no event without its act.
pub(crate) fn every_act_has_its_event(database: &Path, pairs: &[Pair]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let mut conn = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        for &(rows, event) in pairs {
            let events = format!("SELECT resource_id FROM audit WHERE event = '{event}'");
            for (these, those) in [(rows, events.as_str()), (events.as_str(), rows)] {
                let sql = format!(
                    "SELECT COUNT(*), COUNT(*) FILTER (WHERE id NOT IN ({those})) FROM (SELECT * FROM ({these}))"
                );
                let sql = sql.replace("SELECT resource_id FROM audit", "SELECT resource_id AS id FROM audit");
                let query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
                let (all, alone): (i64, i64) = query.fetch_one(&mut conn).await.unwrap();
                assert!(all > 0 && alone == 0, "{event}: {alone} of {all} stand alone in {these}");
            }
        }
        conn.close().await.unwrap();
    });
}
