//! Rings that must not be taken: swapped, rolled back, made by a stranger. The last good one stays, and is put right.

use std::time::Duration;

use super::{
    nats::{Fleet, LEADER, Nats, events, new_token, published, until_published},
    server::{Server, Site, until},
};

const SECONDS: Duration = Duration::from_secs(8);

struct Pair {
    nats: Nats,
    fleet: Fleet,
    site: Site,
    server: Server,
    runtime: actix_web::rt::SystemRunner,
}

impl Pair {
    fn start() -> Self {
        let (nats, fleet) = (Nats::start(), Fleet::new());
        let site = fleet.node("a", &nats, &[LEADER]);
        let server = site.start();
        Self { nats, fleet, site, server, runtime: actix_web::rt::System::new() }
    }

    fn keys(&self) -> Vec<String> {
        published(&mut self.server.http())
    }

    fn value(&self) -> Vec<u8> {
        self.runtime.block_on(self.nats.value()).value.to_vec()
    }

    /// Puts a value there that must not be taken; waits until the refusal is in the log.
    fn refuses(&self, value: &[u8], why: &str) {
        let (before, keys) = (events(&self.site, "key.refuse").len(), self.keys());
        self.runtime.block_on(self.nats.put(value));
        let mut seen = Vec::new();
        let said = until(SECONDS, || {
            seen = events(&self.site, "key.refuse");
            seen.len() > before
        });
        assert!(said, "nothing was refused: {why}");
        let reason = seen.last().unwrap()["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(self.keys(), keys);
    }

    fn is_put_right(&self, good: &[u8]) {
        assert!(until(Duration::from_secs(15), || self.value() == good), "the good ring is not there again");
    }
}

#[test]
fn a_ring_that_was_rolled_back_is_refused_and_put_right_and_a_newer_one_is_taken() {
    let pair = Pair::start();
    let old = pair.value();
    pair.site.run(&["keys", "rotate", "add"]);
    assert!(until(SECONDS, || pair.keys().len() == 2));
    let good = pair.value();
    pair.refuses(&old, "older");
    pair.is_put_right(&good);
    assert_eq!(events(&pair.site, "key.sync").len(), 1);
    // The same after a restart, when only the copy remembers.
    let Pair { nats, fleet, site, server, runtime } = pair;
    drop(server);
    runtime.block_on(nats.put(&old));
    let server = site.start();
    let pair = Pair { nats, fleet, site, server, runtime };
    assert_eq!((pair.keys().len(), pair.value()), (2, good));
}

#[test]
fn a_ring_of_a_stranger_or_of_another_place_is_refused() {
    let pair = Pair::start();
    let good = pair.value();
    pair.refuses(b"hello", "not a ring");
    pair.is_put_right(&good);
    let mut changed: serde_json::Value = serde_json::from_slice(&good).unwrap();
    changed["revision"] = 99.into();
    let elsewhere = pair.fleet.node("elsewhere", &pair.nats, &[LEADER, ("LOKI_CLUSTER_KEY", "another")]);
    let other = elsewhere.start();
    let swapped = pair
        .runtime
        .block_on(async { pair.nats.bucket("loki-jwt-key").await.get("another").await.unwrap().unwrap().to_vec() });
    for value in [changed.to_string().into_bytes(), swapped] {
        let why = "changed, or comes from another";
        // One that is refused is overwritten at most every ten seconds.
        pair.refuses(&value, why);
        pair.is_put_right(&good);
    }
    drop(other);
    // A ring of the next version: this node is the one that is late.
    changed["version"] = 2.into();
    let next = changed.to_string().into_bytes();
    pair.refuses(&next, "of version 2");
    assert_eq!(pair.value(), next);
    pair.runtime.block_on(pair.nats.put(&good));
    // Whoever has another token may be right, and this node late: theirs stays.
    pair.fleet.write_tokens(&[&new_token(7)]);
    let stranger = pair.fleet.node("stranger", &pair.nats, &[LEADER, ("LOKI_CLUSTER_KEY", "third")]);
    let other = stranger.start();
    let theirs =
        pair.runtime.block_on(async { pair.nats.bucket("loki-jwt-key").await.get("third").await.unwrap().unwrap() });
    pair.refuses(&theirs, "sealed under the bootstrap token");
    drop(other);
    assert_eq!(pair.value(), theirs.to_vec());
    // The same place, put right by hand.
    pair.runtime.block_on(pair.nats.put(&good));
    until_published(&pair.server, &pair.keys(), SECONDS);
    pair.fleet.write_tokens(&[&new_token(1)]);
    pair.site.run(&["keys", "rotate", "add"]);
    assert!(until(SECONDS, || pair.keys().len() == 2));
}

#[test]
fn a_bucket_that_was_emptied_is_filled_again() {
    let pair = Pair::start();
    let (good, keys) = (pair.value(), pair.keys());
    pair.runtime.block_on(async { pair.nats.bucket("loki-jwt-key").await.purge("signing-key").await.unwrap() });
    let filled = until(SECONDS, || {
        let there =
            pair.runtime.block_on(async { pair.nats.bucket("loki-jwt-key").await.get("signing-key").await.unwrap() });
        there.is_some_and(|value| value == good)
    });
    assert!(filled);
    assert_eq!(pair.keys(), keys);
}

#[test]
fn a_copy_that_others_can_read_and_a_weak_or_open_token_are_refused() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER]);
    drop(site.start());
    let copy = site.dir.join("cluster/ring");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = super::nats::does_not_start(&site);
    assert!(code == 1 && said.contains("has the mode 644") && said.contains("chmod 600"), "{code} {said}");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    drop(site.start());
    for (token, mode, why) in [
        (new_token(1), 0o640, "others can read it"),
        ("hunter2hunter2hunter2".to_owned(), 0o600, "must be base64 or hexadecimal digits of at least 16"),
        ("Q".repeat(28), 0o600, "is not random"),
        (String::new(), 0o600, "holds 0 tokens"),
    ] {
        fleet.write_tokens(&[&token]);
        fs::set_permissions(&fleet.token, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = super::nats::does_not_start(&site);
        assert!(code == 1 && said.contains(why), "{code} {said}");
        assert!(token.is_empty() || !said.contains(&token), "{said}");
    }
    fleet.write_tokens(&[&new_token(1)]);
    drop(site.start());
}
