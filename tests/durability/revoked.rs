//! Fifty readers hammer a token while it is revoked. A request that began after the answer to DELETE is
//! refused; before it, they all get through.

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::{
    http::Http,
    rounds,
    server::{ROOT, Site, until},
};

const READERS: u64 = 50;

/// What the readers and the one who revokes share.
#[derive(Default)]
struct Board {
    /// The present round and its token.
    token: RwLock<(u64, Arc<str>)>,
    /// The last round whose DELETE was answered.
    revoked: AtomicU64,
    /// Requests of the present round that were let in.
    admitted: AtomicU64,
    /// Requests of the present round that began after the answer to DELETE and were refused.
    refused: AtomicU64,
    /// Requests that began after the answer and were let in all the same.
    wrong: AtomicU64,
    requests: AtomicU64,
    over: AtomicBool,
}

impl Board {
    fn read(&self, mut http: Http) {
        while !self.over.load(SeqCst) {
            let (round, token) = self.token.read().unwrap().clone();
            let was_revoked = self.revoked.load(SeqCst) >= round;
            let answer = http.call(&token, "GET", "/api/me", "").expect("an answer");
            self.requests.fetch_add(1, SeqCst);
            let counter = match (answer.status, was_revoked) {
                (200, true) => &self.wrong,
                (200, false) => &self.admitted,
                (401, true) => &self.refused,
                (401, false) => continue,
                (other, _) => panic!("{other}: {}", answer.body),
            };
            if self.token.read().unwrap().0 == round {
                counter.fetch_add(1, SeqCst);
            } else if was_revoked && answer.status == 200 {
                self.wrong.fetch_add(1, SeqCst);
            }
        }
    }
}

#[test]
fn no_request_that_began_after_the_answer_to_a_revocation_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let root = site.token(ROOT);
    let server = site.start();
    let board = Arc::new(Board { token: RwLock::new((1, Arc::from(root.as_str()))), ..Board::default() });
    let reader = |_| {
        let (board, http) = (Arc::clone(&board), server.http());
        thread::spawn(move || board.read(http))
    };
    let readers: Vec<_> = (0..READERS).map(reader).collect();
    let mut http = server.http();
    let last = rounds(100) + 1;
    for round in 2..=last {
        let body = format!(r#"{{"name":"round {round}","scopes":["read"]}}"#);
        let minted = http.call(&root, "POST", "/api/enterprise/tokens", &body).unwrap();
        assert_eq!(minted.status, 201, "{}", minted.body);
        let (id, token) = (minted.json()["id"].clone(), minted.json()["token"].clone());
        {
            let mut present = board.token.write().unwrap();
            board.admitted.store(0, SeqCst);
            board.refused.store(0, SeqCst);
            *present = (round, Arc::from(token.as_str().unwrap()));
        }
        let all = |counter: &AtomicU64| until(Duration::from_secs(30), || counter.load(SeqCst) >= READERS);
        assert!(all(&board.admitted), "round {round}: the token was not let in");
        let path = format!("/api/enterprise/tokens/{}", id.as_str().unwrap());
        assert_eq!(http.call(&root, "DELETE", &path, "").unwrap().status, 200);
        board.revoked.store(round, SeqCst);
        assert!(all(&board.refused) || board.wrong.load(SeqCst) > 0, "round {round}: nobody was refused");
    }
    board.over.store(true, SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let (requests, wrong) = (board.requests.load(SeqCst), board.wrong.load(SeqCst));
    println!("revocation: {} rounds, {requests} requests, {wrong} let in too late", last - 1);
    assert_eq!(wrong, 0);
}

#[test]
fn a_revocation_on_the_command_line_reaches_the_server_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path());
    let root = site.token(ROOT);
    let server = site.start();
    let mut http = server.http();
    for round in 0..rounds(5) {
        let name = format!("from outside {round}");
        let token = site.token(&name);
        assert_eq!(http.call(&token, "GET", "/api/me", "").unwrap().status, 200);
        site.run(&["enterprise", "token", "revoke", &name]);
        let refused = until(Duration::from_secs(1), || http.call(&token, "GET", "/api/me", "").unwrap().status == 401);
        assert!(refused, "round {round}: still let in after a second");
        assert_eq!(http.call(&root, "GET", "/api/me", "").unwrap().status, 200);
    }
}
