//! Signing keys that lokid does not keep itself: what their file or variable holds is written down once.

use lokid::store::signing_keys::{GivenKey, Observe, StepRefused};

use super::keys::{add, by, log, log_is_full, states, step};
use crate::support::{on_threads, values::at};

/// A file's ring as somebody saw it.
fn seen(kids: &[&str], seconds: i64) -> Observe {
    let given = |kid: &&str| GivenKey { kid: (*kid).to_owned(), alg: "ES256".to_owned() };
    Observe { ring: kids.iter().map(given).collect(), by: by(at(seconds)), why: "" }
}

each_engine! {
    async fn what_a_file_holds_is_written_down_once(home) {
        let ways: [(&[&str], &[&str], &[&str]); 5] = [
            (&["a"], &["key.add a", "key.promote a"], &["a active"]),
            (&["a", "b"], &["key.add b"], &["a active", "b next"]),
            (&["b", "a"], &["key.promote b"], &["a retiring", "b active"]),
            (&["b"], &["key.remove a"], &["a gone", "b active"]),
            (&["a", "b"], &["key.add a", "key.promote a"], &["a active", "b retiring"]),
        ];
        for (number, (ring, events, after)) in ways.into_iter().enumerate() {
            let seconds = 10 * i64::try_from(number).unwrap();
            let before = log(&home.store).await.len();
            assert!(home.store.act(seen(ring, seconds)).await.unwrap(), "{ring:?}");
            assert_eq!(log(&home.store).await[before..], *events, "{ring:?}");
            let keys = home.store.signing_keys().await.unwrap();
            for _ in 0..3 {
                assert!(!home.store.act(seen(ring, seconds + 5)).await.unwrap(), "{ring:?} again");
            }
            assert_eq!(home.store.signing_keys().await.unwrap(), keys, "{ring:?} again");
            assert_eq!(log(&home.store).await.len(), before + events.len(), "{ring:?} again");
            assert_eq!(states(&home.store).await, after, "{ring:?}");
        }
    }

    /// Every node of a cluster that mounts the file sees it change.
    async fn two_that_see_the_same_change_write_it_down_once(home) {
        home.store.act(seen(&["a"], 0)).await.unwrap();
        let stores = [home.store.clone(), home.another_process().await];
        let work = move |thread: usize| {
            let store = stores[thread % 2].clone();
            async move { store.act(seen(&["b", "a"], 1)).await.unwrap() }
        };
        let changed = on_threads(6, work).await;
        assert_eq!(changed.iter().filter(|changed| **changed).count(), 1, "{changed:?}");
        assert_eq!(log(&home.store).await[2..], ["key.add b", "key.promote b"]);
    }

    async fn a_look_whose_events_cannot_be_stored_is_written_down_by_the_next_one(home) {
        let mut raw = home.behind_its_back().await;
        let (full, free) = log_is_full(&raw);
        raw.run(full).await.unwrap();
        assert!(home.store.act(seen(&["a", "b"], 0)).await.is_err());
        assert_eq!(states(&home.store).await, [""; 0]);
        raw.run(free).await.unwrap();
        assert!(home.store.act(seen(&["a", "b"], 1)).await.unwrap());
        assert_eq!(states(&home.store).await, ["a active", "b next"]);
        assert_eq!(log(&home.store).await, ["key.add a", "key.add b", "key.promote a"]);
    }

    /// As when signing_key_file is taken out of the configuration.
    async fn the_first_key_that_lokid_keeps_takes_the_place_of_those_that_it_was_given(home) {
        home.store.act(seen(&["a", "b"], 0)).await.unwrap();
        step(&home.store, add("kept", true), at(1)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a gone", "b gone", "kept active"]);
        let events = ["key.remove a another source", "key.remove b another source", "key.add kept", "key.promote kept"];
        assert_eq!(log(&home.store).await[3..], events);
        assert_eq!(step(&home.store, add("second", true), at(2)).await, Err(StepRefused::SignsAlready));
        home.store.act(seen(&["a"], 3)).await.unwrap();
        assert_eq!(states(&home.store).await, ["a active", "b gone", "kept gone"], "and the other way round");
    }
}
