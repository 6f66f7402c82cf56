//! What is signed about the log: found when it is tampered with, silent when it is not.

use std::{sync::Arc, time::Duration};

use lokid::{
    audit::verify::{self, Report},
    domain::{
        checkpoint::{Cadence, Checkpoint, Vouching},
        event::{Actor, EventName, Origin, Outcome},
        retention::Ages,
        time::Moment,
    },
    keys::{sign::SigningKey, verify::PublicKeys},
    store::{
        Store,
        evidence::{Sign, Signer},
        ledger::Append,
        retention::{Retain, RetainRefused},
    },
};

use super::walk::walk;
use crate::support::{
    home::{Home, Raw},
    values::{at, event, event_at},
};

/// A key that signs, and those that are believed.
pub(crate) struct Notary {
    pub(crate) signer: Signer,
    pub(crate) trusted: PublicKeys,
    anchors: Vec<String>,
    /// Whose statements it believes besides its own.
    pub(crate) vouches: Vec<String>,
}

impl Notary {
    pub(crate) fn new() -> Self {
        let key = SigningKey::generate();
        let (kid, jwk, trusted) = (key.kid().to_owned(), key.jwk().to_string(), PublicKeys::of([&key]));
        let signer = Signer { kid, jwk, sign: Arc::new(move |typ, says| key.sign(typ, says)) };
        Self { signer, trusted, anchors: Vec::new(), vouches: Vec::new() }
    }

    fn statement(&self, now: Moment) -> Sign {
        let vouching = Vouching { keys: self.vouches.clone(), endorsement: None };
        Sign { signer: self.signer.clone(), cadence: None, now, vouching }
    }

    pub(crate) async fn sign(&mut self, store: &Store, seconds: i64) -> Option<Checkpoint> {
        let (checkpoint, jws) = store.act(self.statement(at(seconds))).await.unwrap()?;
        self.anchors.push(jws);
        Some(checkpoint)
    }

    pub(crate) async fn look(&self, store: &Store) -> Report {
        verify::database(store, self.trusted.clone(), &self.anchors).await.unwrap()
    }

    /// The kind of what is wrong, and where. That these tests took the triggers off is found as well, and looked at in
    /// tests of its own.
    pub(crate) async fn flaw(&self, store: &Store) -> Option<(&'static str, i64)> {
        self.look(store).await.flaw.and_then(|flaw| Some((flaw.kind(), flaw.seq()?)))
    }
}

pub(crate) async fn append(store: &Store, entries: usize) {
    store.act(Append { events: vec![event(EventName::TokenUsed); entries] }).await.unwrap();
}

/// Entries as somebody would like them to be.
async fn append_others(store: &Store, entries: usize) {
    let other = event(EventName::TokenUsed).because(Outcome::Success, "nothing happened");
    store.act(Append { events: vec![other; entries] }).await.unwrap();
}

/// 20 entries, a checkpoint (entry 21), 20 more, a checkpoint (entry 42).
pub(crate) async fn signed_log(home: &Home) -> Notary {
    let mut notary = Notary::new();
    for seconds in [1, 2] {
        append(&home.store, 20).await;
        notary.sign(&home.store, seconds).await.unwrap();
    }
    assert_eq!(notary.flaw(&home.store).await, None);
    notary
}

pub(crate) const COLUMNS: &str = "time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, outcome, reason, \
    request_id, ip, user_agent, node, details, prev_hash, hash";

/// Puts another valid chain in the place of the log, as somebody without the key can.
async fn rewrite(home: &Home, raw: &mut Raw, entries: usize) {
    raw.run("DELETE FROM audit").await.unwrap();
    append_others(&home.store, entries).await;
    assert!(walk(&home.store).await.is_ok(), "the chain itself is whole");
}

each_engine! {
    /// Each tampering has its name; putting back what was there makes the log whole again.
    async fn nine_of_nine_tamperings_are_found_and_told_apart(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        raw.drop_triggers().await;
        raw.run("CREATE TABLE kept AS SELECT * FROM audit; CREATE TABLE kept_signed AS SELECT * FROM audit_checkpoints").await.unwrap();
        let make_room = "UPDATE audit SET seq = -seq WHERE seq > 10; UPDATE audit SET seq = 1 - seq WHERE seq < 0;";
        // In two steps: PostgreSQL looks for a place twice after each row, in whatever order they come.
        let close_up = "DELETE FROM audit WHERE seq = 9; UPDATE audit SET seq = -seq WHERE seq > 9; UPDATE audit SET seq = -seq - 1 WHERE seq < 0";
        let insert = format!("{make_room} INSERT INTO audit SELECT 11, {COLUMNS} FROM kept WHERE seq = 10");
        let swap = "UPDATE audit SET seq = 0 WHERE seq = 12; UPDATE audit SET seq = 12 WHERE seq = 13; UPDATE audit SET seq = 13 WHERE seq = 0";
        let cut = "DELETE FROM audit WHERE seq > 30";
        let older = "DELETE FROM audit WHERE seq > 21; DELETE FROM audit_checkpoints WHERE seq > 20";
        for (tampering, found) in [
            ("UPDATE audit SET actor_name = 'eve' WHERE seq = 7", ("edited", 7)),
            (&insert, ("inserted", 11)),
            (swap, ("reordered", 12)),
            ("DELETE FROM audit WHERE seq = 9", ("deleted", 9)),
            (close_up, ("deleted", 9)),
            ("DELETE FROM audit WHERE seq < 5", ("deleted", 1)),
            (cut, ("cut_tail", 31)),
            ("DELETE FROM audit WHERE seq = 42", ("cut_tail", 42)),
            (older, ("old_backup", 22)),
        ] {
            raw.run(tampering).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, Some(found), "{tampering}");
            raw.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; DELETE FROM audit_checkpoints; \
                INSERT INTO audit_checkpoints SELECT * FROM kept_signed").await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, None, "put back after {tampering}");
        }
        // A whole log that was made anew, with the table as it was, without it, and with only the anchors left.
        rewrite(&home, &mut raw, 60).await;
        assert_eq!(notary.flaw(&home.store).await, Some(("replaced", 20)));
        raw.run("DELETE FROM audit_checkpoints").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("replaced", 20)));
        // And without the key that signed them, as one who lost the key, or says so, would have it.
        raw.run("CREATE TABLE kept_keys AS SELECT * FROM audit_keys; DELETE FROM audit_keys").await.unwrap();
        let mut heir = Notary::new();
        heir.anchors.clone_from(&notary.anchors);
        assert_eq!(heir.flaw(&home.store).await, Some(("wrong_keys", 1)));
        raw.run("INSERT INTO audit_keys SELECT * FROM kept_keys").await.unwrap();
        raw.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    /// The server that was restored goes on and signs; what was anchored before still tells.
    async fn a_restored_backup_and_a_cut_tail_are_told_apart_also_when_the_log_went_on(home) {
        let mut notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        raw.drop_triggers().await;
        raw.run("CREATE TABLE kept AS SELECT * FROM audit; DELETE FROM audit WHERE seq > 21").await.unwrap();
        raw.run("CREATE TABLE kept_signed AS SELECT * FROM audit_checkpoints; DELETE FROM audit_checkpoints WHERE seq > 20").await.unwrap();
        append_others(&home.store, 40).await;
        let anchored_before = notary.anchors.clone();
        notary.sign(&home.store, 3).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("old_backup", 41)));
        raw.run("INSERT INTO audit_checkpoints SELECT * FROM kept_signed WHERE seq > 20").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("cut_tail", 41)), "the database itself remembers more");
        raw.run("DELETE FROM audit_checkpoints; DELETE FROM audit; INSERT INTO audit SELECT * FROM kept; \
            INSERT INTO audit_checkpoints SELECT * FROM kept_signed").await.unwrap();
        notary.anchors = anchored_before;
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    async fn a_log_that_another_key_signed_or_whose_signature_was_changed_is_not_believed(home) {
        let notary = signed_log(&home).await;
        let stranger = Notary::new();
        let found = stranger.look(&home.store).await.flaw.unwrap();
        assert_eq!(found.kind(), "wrong_keys");
        assert!(found.to_string().contains(&notary.signer.kid), "{found}");
        let nobody = Notary { trusted: PublicKeys::default(), ..Notary::new() };
        let report = nobody.look(&home.store).await;
        assert_eq!(report.flaw, None);
        assert!(report.unchecked.iter().any(|s| s.starts_with("signatures: no key is trusted")), "{report:?}");

        let mut raw = home.behind_its_back().await;
        raw.run("CREATE TABLE kept AS SELECT * FROM audit_checkpoints; UPDATE audit_checkpoints SET jws = jws || 'A' WHERE seq = 20").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 20)));
        raw.run("DELETE FROM audit_checkpoints; INSERT INTO audit_checkpoints SELECT * FROM kept").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    /// The old key is gone from every key set, but the new one vouches for it.
    async fn what_an_old_key_signed_is_believed_after_the_rotation(home) {
        let old = signed_log(&home).await;
        let mut new = Notary::new();
        assert_eq!(new.flaw(&home.store).await.map(|(kind, _)| kind), Some("wrong_keys"));
        append(&home.store, 5).await;
        let cadence = Cadence { every: Duration::from_hours(9), entries: 1_000_000 };
        new.vouches = vec![old.signer.kid.clone()];
        let act = Sign { cadence: Some(cadence), ..new.statement(at(3)) };
        assert!(home.store.act(act).await.unwrap().is_some(), "another key is a reason to sign");
        new.anchors.clone_from(&old.anchors);
        let report = new.look(&home.store).await;
        assert_eq!((report.flaw, report.checkpoints, report.covered_to, report.anchors), (None, 3, 47, 2));
        // Without the public key nothing can be said of what it signed, but the log is covered all the same.
        let mut raw = home.behind_its_back().await;
        raw.run(&format!("DELETE FROM audit_keys WHERE kid = '{}'", old.signer.kid)).await.unwrap();
        assert_eq!(new.flaw(&home.store).await, None);
    }

    /// Whoever can write to the database names a key of theirs between two checkpoints, and lets it say what is gone.
    async fn a_key_that_only_entries_name_is_not_believed(home) {
        let mut notary = signed_log(&home).await;
        let mallory = Notary::new();
        let named = event(EventName::KeyAdded).on("key", &mallory.signer.kid);
        home.store.act(Append { events: vec![named] }).await.unwrap();
        notary.sign(&home.store, 3).await.unwrap();
        let ages = Ages { acts: None, noise: Some(Duration::from_secs(1)) };
        let by = (Actor::system(), Origin::default());
        let step = Retain { after: 0, ages, now: at(9999), signer: mallory.signer.clone(), by };
        assert_eq!(home.store.act(step).await.unwrap().unwrap().taken, 40);
        let found = notary.look(&home.store).await.flaw.unwrap();
        assert_eq!((found.kind(), found.seq()), ("wrong_keys", Some(1)), "{found}");
        assert!(found.to_string().contains(&mallory.signer.kid), "{found}");
        // It would be, if the key that signs said so; and no longer, once the last checkpoint does not.
        notary.vouches = vec![mallory.signer.kid.clone()];
        append(&home.store, 1).await;
        notary.sign(&home.store, 4).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
        notary.vouches.clear();
        append(&home.store, 1).await;
        notary.sign(&home.store, 5).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("wrong_keys", 1)));
    }

    async fn nothing_new_is_not_signed_again(home) {
        let mut notary = Notary::new();
        assert_eq!(notary.sign(&home.store, 0).await, None, "an empty log");
        append(&home.store, 1).await;
        assert_eq!(notary.sign(&home.store, 1).await.unwrap().seq, 1);
        assert_eq!(notary.sign(&home.store, 999).await, None);
        append(&home.store, 1).await;
        assert_eq!(notary.sign(&home.store, 1000).await.unwrap().seq, 3);
    }

    /// Old refusals go, acts stay; then the acts go too, and one tombstone is left of both.
    async fn retention_leaves_a_log_that_verifies(home) {
        let day = Duration::from_hours(24);
        let mut notary = Notary::new();
        let mixed = |n: i64| {
            let name = if n % 3 == 0 { EventName::TokenCreated } else { EventName::CredentialRefused };
            event_at(name, at(n))
        };
        home.store.act(Append { events: (0..60).map(mixed).collect() }).await.unwrap();
        notary.sign(&home.store, 60).await.unwrap();
        append(&home.store, 3).await;
        let ages = Ages { acts: Some(365 * day), noise: Some(90 * day) };
        assert_eq!(retain(&home, &notary, ages, at(0).plus(89 * day)).await, 0);
        let now = at(0).plus(100 * day);
        let outlook = home.store.retention_outlook(&ages, now).await.unwrap();
        assert_eq!(outlook.iter().map(|o| (o.event.as_str(), o.entries)).collect::<Vec<_>>(), [("auth.fail", 40), ("auth.token.use", 3)]);
        assert_eq!(retain(&home, &notary, ages, now).await, 43);
        let report = notary.look(&home.store).await;
        assert_eq!((report.flaw, report.taken), (None, 43));
        let mut raw = home.behind_its_back().await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit WHERE event = 'auth.token.create'").await, 20);
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit_tombstones").await, 21);

        assert_eq!(retain(&home, &notary, ages, at(0).plus(400 * day)).await, 21);
        assert_eq!(notary.flaw(&home.store).await, None);
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit_tombstones").await, 1);
        notary.sign(&home.store, 100).await.unwrap();
        append(&home.store, 10).await;
        assert_eq!(notary.flaw(&home.store).await, None);
        assert!(walk(&home.store).await.is_ok());
        assert!(raw.run("DELETE FROM audit WHERE seq > 60").await.is_err(), "the table is append-only as before");

        // Nothing can be slipped in where a stretch was taken out.
        raw.run("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
        raw.drop_triggers().await;
        raw.run(&format!("INSERT INTO audit SELECT 5, {COLUMNS} FROM kept WHERE seq = 70")).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("inserted", 5)));
        raw.run("DELETE FROM audit WHERE seq = 5").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
        // A tombstone that nobody signed does not excuse what is missing.
        let forged = "INSERT INTO audit_tombstones SELECT seq, seq, prev_hash, hash, hash, 'a.b.c' FROM audit WHERE seq = 70; DELETE FROM audit WHERE seq = 70";
        raw.run(forged).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 70)));
    }

    async fn retention_does_not_take_out_what_was_tampered_with(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        raw.drop_triggers().await;
        raw.run("UPDATE audit SET actor_name = 'eve' WHERE seq = 7").await.unwrap();
        let ages = Ages { acts: Some(Duration::from_hours(1)), noise: Some(Duration::from_hours(1)) };
        let step = |after| Retain { after, ages, now: at(0).plus(Duration::from_hours(9)), signer: notary.signer.clone(), by: (Actor::system(), Origin::default()) };
        assert_eq!(home.store.act(step(0)).await.unwrap(), Err(RetainRefused::Tampered(7)));
        assert_eq!(notary.flaw(&home.store).await, Some(("edited", 7)));
        raw.run("UPDATE audit SET actor_name = 'ann' WHERE seq = 7").await.unwrap();
        assert_eq!(home.store.act(step(0)).await.unwrap().unwrap().taken, 41);
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    /// Two nodes write, sign and take out at once.
    async fn a_log_that_is_signed_and_shortened_while_it_grows_raises_no_false_alarm(home) {
        let other = home.another_process().await;
        let notary = Arc::new(Notary::new());
        let stores = [home.store.clone(), other];
        let (handed_out, shared) = (stores.clone(), Arc::clone(&notary));
        let work = |writer: usize| {
            let (store, notary) = (handed_out[writer % 2].clone(), Arc::clone(&shared));
            async move {
                for round in 0..15_i64 {
                    append(&store, 20).await;
                    store.act(notary.statement(at(round))).await.unwrap();
                    if writer == 0 {
                        let ages = Ages { acts: None, noise: Some(Duration::from_secs(1)) };
                        let by = (Actor::system(), Origin::default());
                        let step = Retain { after: 0, ages, now: at(10), signer: notary.signer.clone(), by };
                        store.act(step).await.unwrap().unwrap();
                    }
                    assert_eq!(notary.flaw(&store).await, None);
                }
            }
        };
        futures_util::future::join_all((0..4).map(work)).await;
        let report = notary.look(&home.store).await;
        assert!(report.flaw.is_none() && report.taken > 0 && report.checkpoints > 15, "{report:?}");
    }
}

pub(crate) async fn retain(home: &Home, notary: &Notary, ages: Ages, now: Moment) -> i64 {
    let (mut after, mut taken) = (0, 0);
    while let Some(first) = home.store.first_over(after, &ages, now).await.unwrap() {
        let by = (Actor::system(), Origin::default());
        let step = Retain { after: first, ages, now, signer: notary.signer.clone(), by };
        let done = home.store.act(step).await.unwrap().unwrap();
        taken += done.taken;
        if done.taken == 0 {
            break;
        }
        after = done.looked_to;
    }
    taken
}
