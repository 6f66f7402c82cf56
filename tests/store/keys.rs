//! Signing keys: which step leads on from where and from when on, and that each is in the log together with
//! what it changed.

use std::time::Duration;

use lokid::{
    domain::{
        event::{Actor, Origin},
        rotation::{KeyState, NotYet},
        time::Moment,
    },
    store::{
        Store, StoreError,
        ledger::Filter,
        signing_keys::{By, Rotate, Step, StepRefused},
    },
};

use super::walk::walk;
use crate::support::{
    home::{Home, Raw},
    on_threads,
    values::at,
};

/// From when on a key that was added at `seconds` may sign: 60 s in caches, 60 s for clocks.
const SIGNS_AFTER: i64 = 120;
/// From when on a key that retired may go: 300 s of an assertion, 60 s for clocks.
const GOES_AFTER: i64 = 360;

pub(super) fn by(when: Moment) -> By {
    By { actor: Actor::system(), origin: Origin::default(), at: when }
}

fn just_before(seconds: i64) -> Moment {
    at(seconds).minus(Duration::from_millis(1))
}

pub(super) fn add(kid: &str, only_first: bool) -> Step {
    Step::Add { kid: kid.to_owned(), alg: "ES256".to_owned(), sealed: kid.as_bytes().to_vec(), only_first }
}

fn promote(kid: &str) -> Step {
    Step::Promote { kid: kid.to_owned() }
}

fn remove(kid: &str) -> Step {
    Step::Remove { kid: kid.to_owned() }
}

fn revoke(kid: &str, instead: &str) -> Step {
    Step::Revoke { kid: kid.to_owned(), instead: (instead.to_owned(), "ES256".to_owned(), instead.as_bytes().to_vec()) }
}

pub(super) async fn step(store: &Store, step: Step, when: Moment) -> Result<(), StepRefused> {
    store.act(Rotate { step, force: false, by: by(when) }).await.unwrap()
}

async fn forced(store: &Store, step: Step, when: Moment) -> Result<(), StepRefused> {
    store.act(Rotate { step, force: true, by: by(when) }).await.unwrap()
}

/// Each key with its state, in the order of their names.
pub(super) async fn states(store: &Store) -> Vec<String> {
    let keys = store.signing_keys().await.unwrap();
    let mut states: Vec<_> = keys.iter().map(|k| format!("{} {}", k.record.kid, k.record.state().as_str())).collect();
    states.sort_unstable();
    states
}

/// Every step in the log, the oldest first.
pub(super) async fn log(store: &Store) -> Vec<String> {
    let filter = Filter { event: Some("key.*".to_owned()), ..Filter::default() };
    let entries = store.audit_page(&filter, 1_000).await.unwrap();
    entries.iter().rev().map(|e| format!("{} {} {}", e.event, e.resource_id, e.reason).trim_end().to_owned()).collect()
}

/// `a` signs, `b` is next since the second 1000.
async fn a_and_next_b(home: &Home) {
    step(&home.store, add("a", true), at(0)).await.unwrap();
    step(&home.store, add("b", false), at(1000)).await.unwrap();
    assert_eq!(states(&home.store).await, ["a active", "b next"]);
}

async fn b_signs_and_a_retires(home: &Home, seconds: i64) {
    a_and_next_b(home).await;
    step(&home.store, promote("b"), at(seconds)).await.unwrap();
    assert_eq!(states(&home.store).await, ["a retiring", "b active"]);
}

each_engine! {
    async fn the_first_key_signs_at_once_and_the_next_one_waits_until_every_verifier_knows_it(home) {
        a_and_next_b(&home).await;
        let safe = at(1000 + SIGNS_AFTER);
        let early = step(&home.store, promote("b"), just_before(1000 + SIGNS_AFTER)).await.unwrap_err();
        assert_eq!(early, NotYet::Promote { kid: "b".to_owned(), at: safe }.into());
        assert!(early.to_string().contains(&safe.to_string()), "{early}");
        assert_eq!(states(&home.store).await, ["a active", "b next"]);
        assert_eq!(log(&home.store).await, ["key.add a", "key.promote a", "key.add b"]);

        step(&home.store, promote("b"), safe).await.unwrap();
        assert_eq!(states(&home.store).await, ["a retiring", "b active"]);
        assert_eq!(log(&home.store).await[3..], ["key.promote b"]);
    }

    async fn a_key_stays_until_nothing_that_it_signed_is_valid_any_more(home) {
        b_signs_and_a_retires(&home, 2000).await;
        let safe = at(2000 + GOES_AFTER);
        let early = step(&home.store, remove("a"), just_before(2000 + GOES_AFTER)).await.unwrap_err();
        assert_eq!(early, NotYet::Remove { kid: "a".to_owned(), at: safe }.into());
        assert_eq!(states(&home.store).await, ["a retiring", "b active"]);

        step(&home.store, remove("a"), safe).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "b active"]);
        let keys = home.store.signing_keys().await.unwrap();
        assert_eq!(keys.iter().map(|k| k.sealed.is_some()).collect::<Vec<_>>(), [false, true], "its private half went too");
        assert_eq!(log(&home.store).await[4..], ["key.remove a"]);
    }

    async fn force_passes_the_time_but_not_the_order(home) {
        a_and_next_b(&home).await;
        let second = forced(&home.store, add("c", false), at(1000)).await.unwrap_err();
        assert_eq!(second, StepRefused::NextAlready("b".to_owned()));
        for (wrong, state) in [(promote("a"), KeyState::Active), (remove("a"), KeyState::Active)] {
            let refused = forced(&home.store, wrong, at(1000)).await.unwrap_err();
            assert!(matches!(&refused, StepRefused::Misplaced { kid, state: s, .. } if kid == "a" && *s == state), "{refused}");
        }
        for unknown in [promote("x"), remove("x"), revoke("x", "y")] {
            let refused = forced(&home.store, unknown, at(1000)).await.unwrap_err();
            assert_eq!(refused, StepRefused::Unknown("x".to_owned()));
        }
        assert_eq!(states(&home.store).await, ["a active", "b next"]);

        forced(&home.store, promote("b"), at(1000)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a retiring", "b active"]);
        forced(&home.store, remove("a"), at(1000)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "b active"]);
    }

    async fn a_next_key_that_never_signed_may_go_at_once_and_come_back(home) {
        a_and_next_b(&home).await;
        step(&home.store, remove("b"), at(1000)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a active", "b gone"]);
        step(&home.store, add("b", false), at(5000)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a active", "b next"]);
        let early = step(&home.store, promote("b"), just_before(5000 + SIGNS_AFTER)).await;
        assert!(early.is_err(), "its first time does not count");
        step(&home.store, promote("b"), at(5000 + SIGNS_AFTER)).await.unwrap();
    }

    async fn in_place_of_a_revoked_key_the_next_one_signs_at_once(home) {
        a_and_next_b(&home).await;
        step(&home.store, revoke("a", "c"), at(1001)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "b active"]);
        assert_eq!(log(&home.store).await[3..], ["key.promote b", "key.remove a revoked"]);
        let again = step(&home.store, revoke("a", "c"), at(1002)).await.unwrap_err();
        assert_eq!(again, StepRefused::Unknown("a".to_owned()));
    }

    async fn in_place_of_the_only_key_a_new_one_is_made_with_the_revocation(home) {
        step(&home.store, add("a", true), at(0)).await.unwrap();
        step(&home.store, revoke("a", "c"), at(1)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "c active"]);
        assert_eq!(log(&home.store).await[2..], ["key.add c", "key.promote c", "key.remove a revoked"]);
        assert_eq!(home.store.signing_keys().await.unwrap()[1].sealed.as_deref(), Some(b"c".as_slice()));
    }

    async fn a_retiring_key_that_is_revoked_goes_before_its_time_and_nothing_takes_its_place(home) {
        b_signs_and_a_retires(&home, 2000).await;
        assert!(step(&home.store, remove("a"), at(2001)).await.is_err());
        step(&home.store, revoke("a", "c"), at(2001)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "b active"]);
    }

    /// As when nodes start at the same time on an empty database.
    async fn of_32_first_keys_at_once_one_is_made(home) {
        let stores = [home.store.clone(), home.another_process().await];
        let work = move |thread: usize| {
            let store = stores[thread % 2].clone();
            async move {
                let adds = (0..8).map(|number| {
                    let first = add(&format!("{thread} {number}"), true);
                    store.act(Rotate { step: first, force: false, by: by(at(0)) })
                });
                futures_util::future::join_all(adds).await
            }
        };
        let answers: Vec<_> = on_threads(4, work).await.into_iter().flatten().map(Result::unwrap).collect();
        assert_eq!((answers.len(), answers.iter().filter(|a| a.is_ok()).count()), (32, 1));
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(StepRefused::SignsAlready))), "{answers:?}");
        assert_eq!(home.store.signing_keys().await.unwrap().len(), 1);
        assert_eq!(log(&home.store).await.len(), 2);
        step(&home.store, add("next", false), at(0)).await.unwrap();
    }

    async fn of_32_next_keys_at_once_one_is_next(home) {
        step(&home.store, add("a", true), at(0)).await.unwrap();
        let stores = [home.store.clone(), home.another_process().await];
        let work = move |thread: usize| {
            let store = stores[thread % 2].clone();
            async move {
                let adds = (0..8).map(|number| step_of(&store, thread, number));
                futures_util::future::join_all(adds).await
            }
        };
        let answers: Vec<_> = on_threads(4, work).await.into_iter().flatten().collect();
        assert_eq!((answers.len(), answers.iter().filter(|a| a.is_ok()).count()), (32, 1));
        assert_eq!(home.store.signing_keys().await.unwrap().len(), 2);
    }

    async fn a_step_whose_event_cannot_be_stored_is_not_taken(home) {
        a_and_next_b(&home).await;
        let mut raw = home.behind_its_back().await;
        let (full, free) = log_is_full(&raw);
        raw.run(full).await.unwrap();
        for wanted in [promote("b"), remove("b"), revoke("a", "c")] {
            let refused = home.store.act(Rotate { step: wanted, force: true, by: by(at(2000)) }).await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        assert_eq!(states(&home.store).await, ["a active", "b next"]);
        raw.run(free).await.unwrap();
        step(&home.store, promote("b"), at(2000)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a retiring", "b active"]);
        assert_eq!(walk(&home.store).await.unwrap().seq, 4);
    }
}

async fn step_of(store: &Store, thread: usize, number: usize) -> Result<(), StepRefused> {
    step(store, add(&format!("{thread} {number}"), false), at(1)).await
}

/// What keeps the log from taking anything, and what ends that.
pub(super) fn log_is_full(raw: &Raw) -> (&'static str, &'static str) {
    match raw {
        Raw::Sqlite(_) => (
            "CREATE TRIGGER disk_is_full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER disk_is_full",
        ),
        Raw::Postgres(_) => (
            "ALTER TABLE audit ADD CONSTRAINT disk_is_full CHECK (false) NOT VALID",
            "ALTER TABLE audit DROP CONSTRAINT disk_is_full",
        ),
    }
}
