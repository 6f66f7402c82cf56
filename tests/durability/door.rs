//! A server with tokens, and what must hold of it before, during and after a fault of its database.

use std::{
    collections::BTreeSet,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    http::{Answer, Http},
    server::{ROOT, Server, Site, until},
};

const TOKENS: &str = "/api/enterprise/tokens";

/// A server with a token that may do everything and one that was used before the fault.
pub(super) struct Door {
    pub(super) server: Server,
    pub(super) root: String,
    known: String,
    pub(super) made: u32,
    /// What was answered with 201, and what with 503.
    pub(super) kept: BTreeSet<String>,
    pub(super) refused: BTreeSet<String>,
}

impl Door {
    pub(super) fn open(site: &Site) -> Self {
        let root = site.token(ROOT);
        let server = site.start();
        let mut door =
            Self { server, root, known: String::new(), made: 0, kept: BTreeSet::new(), refused: BTreeSet::new() };
        door.known = door.mint().expect("the disk is sound");
        door.known_token_works();
        door
    }

    /// The secret of a new token, or `None` when it was refused as it should be.
    pub(super) fn mint(&mut self) -> Option<String> {
        self.made += 1;
        let name = format!("number {}", self.made);
        let body = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
        let answer = self.server.http().call(&self.root, "POST", TOKENS, &body).expect("an answer");
        if answer.status == 201 {
            self.kept.insert(name);
            return Some(answer.json()["token"].as_str().unwrap().to_owned());
        }
        assert!(answer.is_problem(503), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
        self.refused.insert(name);
        None
    }

    pub(super) fn known_token_works(&self) {
        let answer = self.server.http().call(&self.known, "GET", "/api/me", "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Revokes a token that was made in good times: 200 and it is over, or 503 and it is not.
    fn revoke(&self, name: &str, token: &str) {
        let path = format!("{TOKENS}/{}", name.replace(' ', "%20"));
        let answer = self.server.http().call(&self.root, "DELETE", &path, "").expect("an answer");
        let expected = if answer.status == 200 { 401 } else { 200 };
        assert!(answer.status == 200 || answer.is_problem(503), "{answer:?}");
        assert_eq!(self.server.http().call(token, "GET", "/api/me", "").unwrap().status, expected);
    }

    /// While the fault lasts: refusals, no false success, what is known works.
    pub(super) fn is_refused(&mut self, (name, token): (&str, &str)) {
        assert!(until(Duration::from_mins(1), || self.mint().is_none()), "the fault has no effect");
        for _ in 0..3 {
            self.mint();
            self.known_token_works();
        }
        self.revoke(name, token);
    }

    /// After the fault: acts succeed again, and the log is whole.
    pub(super) fn heals(&mut self) {
        assert!(until(Duration::from_secs(20), || self.mint().is_some()), "it does not heal");
        let list = self.server.http().call(&self.root, "GET", &format!("{TOKENS}?include_revoked=true&limit=1000"), "");
        let list = list.unwrap().json();
        let names: BTreeSet<_> =
            list.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect();
        assert!(self.kept.is_subset(&names), "lost: {:?}", self.kept.difference(&names));
        assert!(self.refused.is_disjoint(&names), "made although refused: {:?}", self.refused.intersection(&names));
        let verdict = self.server.http().call(&self.root, "GET", "/api/audit/verify", "").unwrap();
        assert_eq!(verdict.json()["valid"], true, "{}", verdict.body);
        println!("{} answered 201 and there, {} answered 503 and not there", self.kept.len(), self.refused.len());
    }

    /// Eight clients that make tokens until `end`, or until the server is gone.
    pub(super) fn besiege(&mut self, end: Instant) -> Siege {
        self.made += 1;
        let siege = self.made;
        let ask = |client: u32| {
            let (mut http, root) = (Http::to(self.server.port), self.root.clone());
            thread::spawn(move || {
                let mut answers = Vec::new();
                for n in 0.. {
                    let (name, asked) = (format!("number {siege}.{client}.{n}"), Instant::now());
                    let body = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
                    let Ok(answer) = http.call(&root, "POST", TOKENS, &body) else { return answers };
                    answers.push((name, answer, asked.elapsed()));
                    if Instant::now() > end {
                        return answers;
                    }
                }
                answers
            })
        };
        (0..8).map(ask).collect()
    }

    /// Notes what the clients were answered. Answers how long the slowest answer took.
    pub(super) fn note(&mut self, siege: Siege) -> Duration {
        let mut slowest = Duration::ZERO;
        for (name, answer, taken) in siege.into_iter().flat_map(|client| client.join().unwrap()) {
            slowest = slowest.max(taken);
            match answer.status {
                201 => self.kept.insert(name),
                _ => {
                    assert!(answer.is_problem(503), "{answer:?}");
                    self.refused.insert(name)
                }
            };
        }
        slowest
    }
}

/// Clients under way: what each asked for, its answer, and how long that took.
pub(super) type Siege = Vec<JoinHandle<Vec<(String, Answer, Duration)>>>;
