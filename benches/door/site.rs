//! Databases to measure on, and credentials for them.

use std::{fs, path::PathBuf, time::Duration};

use lokid::{
    domain::{
        entropy::Entropy,
        event::{Actor, EventName, NewEvent},
        scope::{Scope, ScopeSet},
        time::Clock,
        token::{Token, TokenId, TokenSecret},
    },
    store::{Database, Place, Store, tokens::Mint},
};

use crate::{
    http::Http,
    server::{Server, Site, until},
};

/// A place on the disk that this build lies on, whose server runs with one worker on core 0.
pub(crate) fn new() -> (tempfile::TempDir, Site) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut site = Site::new(dir.path());
    site.env.push(("LOKI_SERVER_WORKERS", "1".into()));
    site.before = vec!["taskset", "-c", "0"];
    (dir, site)
}

/// Makes tokens in the site's database. Answers a file with their headers.
pub(crate) fn tokens(site: &Site, count: usize) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let lines = runtime.block_on(async {
        let place = Place { database: Database::Sqlite(site.database()), node: "bench".into(), is_server: true };
        let store = Store::open(place).await.expect("the database opens");
        let mut lines = Vec::with_capacity(count);
        for first in (0..count).step_by(1000) {
            let made: Vec<_> = (first..count.min(first + 1000)).map(|n| one(n, count)).collect();
            let acts = made.into_iter().map(|(secret, mint)| {
                lines.push(format!("authorization: Bearer {}", secret.reveal()));
                store.act(mint)
            });
            for minted in futures_util::future::join_all(acts.collect::<Vec<_>>()).await {
                minted.expect("committed").expect("the name is free");
            }
        }
        store.close().await;
        lines
    });
    write(site, &format!("tokens-{count}"), &lines.join("\n"))
}

fn one(n: usize, count: usize) -> (TokenSecret, Mint) {
    let (secret, now) = (TokenSecret::from_random(Entropy.bytes()), Clock::system().now());
    let token = Token {
        id: TokenId::from_random(Entropy.bytes()),
        name: format!("{n} of {count}").parse().expect("a name"),
        owner: "bench".into(),
        owner_name: "bench".into(),
        scopes: ScopeSet::of(&[Scope::Read]),
        role: None,
        created_at: now,
        expires_at: Some(now.plus(Duration::from_hours(24))),
        revoked_at: None,
        replaced_by: None,
        last_used_at: None,
        last_used_from: None,
        used_scopes: ScopeSet::EMPTY,
        watched_since: now,
    };
    let event = NewEvent::new(now, EventName::TokenCreated, Actor::system()).on("token", token.id.as_str());
    let mint = Mint { digest: secret.digest(), token, limit: None, event };
    (secret, mint)
}

/// Signs in with the administrator's link that a server without a provider prints. A file with the cookie.
pub(crate) fn session(site: &Site, server: &Server) -> PathBuf {
    let mut path = None;
    until(Duration::from_secs(5), || {
        let text = fs::read_to_string(site.output()).unwrap_or_default();
        let line = text.lines().find(|line| line.contains("/login/local/"));
        path = line.and_then(|line| Some(format!("/login/local/{}", line.split_once("/login/local/")?.1.trim())));
        path.is_some()
    });
    let (path, mut http) = (path.expect("the link was printed"), Http::to(server.port));
    let page = http.get(&path, &[]).expect("the link's page").body;
    let csrf = page.split_once(r#"name="csrf" value=""#).and_then(|(_, rest)| rest.split('"').next());
    let body = format!("csrf={}", csrf.expect("the page has a form"));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = http.send("POST", &path, &form, &body).expect("an answer");
    let cookie = answer.cookie("loki_session").unwrap_or_else(|| panic!("{answer:?}"));
    write(site, "cookie", &format!("cookie: {cookie}"))
}

/// A file with the header of a new token that may do everything.
pub(crate) fn root(site: &Site) -> PathBuf {
    let token = site.token(crate::server::ROOT);
    write(site, "root", &format!("authorization: Bearer {token}"))
}

fn write(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.dir.join(name);
    fs::write(&path, format!("{text}\n")).expect("the file can be written");
    path
}
