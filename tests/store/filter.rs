//! Reading the log: every combination of filters, on both engines, compared with filtering by hand.

use lokid::{
    domain::{
        event::{Actor, ActorKind, EventName, NewEvent, Outcome},
        ledger::Entry,
        time::Moment,
    },
    store::{
        Store,
        ledger::{Append, Count, Filter},
    },
};

use crate::support::values::at;

const LENGTH: i64 = 60;

/// Entry `n` differs from its neighbours in everything that one can filter by.
async fn fill(store: &Store) -> Vec<Entry> {
    const NAMES: [EventName; 4] =
        [EventName::TokenCreated, EventName::TokenUsed, EventName::SignInFailed, EventName::RateLimited];
    const OUTCOMES: [Outcome; 3] = [Outcome::Success, Outcome::Failure, Outcome::Denied];
    let nth = |n: i64| {
        let pick = usize::try_from(n).unwrap();
        let actor = Actor::new(ActorKind::Token, ["tok-a", "tok-b"][pick % 2], ["ann", "tok-a", "bob"][pick % 3]);
        NewEvent::new(at(n / 2), NAMES[pick % 4], actor).because(OUTCOMES[pick % 3], "why")
    };
    store.act(Append { events: (0..LENGTH).map(nth).collect() }).await.unwrap();
    store.audit_page(&Filter { after: Some(0), ..Filter::default() }, LENGTH).await.unwrap()
}

fn holds(filter: &Filter, entry: &Entry) -> bool {
    let event = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => entry.event.starts_with(prefix),
        None => entry.event == *wanted,
    };
    filter.event.as_ref().is_none_or(event)
        && filter.actor.as_ref().is_none_or(|actor| entry.actor_id == *actor || entry.actor_name == *actor)
        && filter.outcome.as_ref().is_none_or(|outcome| entry.outcome == *outcome)
        && filter.start.is_none_or(|start| entry.time >= start)
        && filter.end.is_none_or(|end| entry.time < end)
        && filter.before.is_none_or(|before| entry.seq < before)
        && filter.after.is_none_or(|after| entry.seq > after)
}

/// All 2⁶ combinations of the other filters with each way to name events.
fn combinations() -> Vec<Filter> {
    let events = [
        None,
        Some("auth.token.use"),
        Some("auth.*"),
        Some("*"),
        Some("no.such.event"),
        Some("auth_*"),
        Some("AUTH.*"),
    ];
    let mut all = Vec::new();
    for event in events {
        for bits in 0..64 {
            let set = |bit: u32| bits & (1 << bit) != 0;
            all.push(Filter {
                event: event.map(str::to_owned),
                actor: set(0).then(|| "tok-a".to_owned()),
                outcome: set(1).then(|| "failure".to_owned()),
                start: set(2).then(|| at(5)),
                end: set(3).then(|| at(20)),
                before: set(4).then_some(50),
                after: set(5).then_some(3),
                ..Filter::default()
            });
        }
    }
    all
}

fn seqs(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.seq).collect()
}

each_engine! {
    async fn every_combination_of_filters_finds_what_it_should(home) {
        let all = fill(&home.store).await;
        assert_eq!(seqs(&all), (1..=LENGTH).collect::<Vec<_>>());
        for filter in combinations() {
            let mut expected: Vec<_> = all.iter().filter(|entry| holds(&filter, entry)).map(|entry| entry.seq).collect();
            if filter.after.is_none() {
                expected.reverse();
            }
            let found = home.store.audit_page(&filter, 1000).await.unwrap();
            assert_eq!(seqs(&found), expected, "{filter:?}");
        }
    }

    async fn paging_in_either_direction_shows_each_entry_once(home) {
        let all = fill(&home.store).await;
        for whole in combinations().into_iter().filter(|filter| filter.before.is_none() && filter.after.is_none()) {
            let expected: Vec<_> = all.iter().filter(|entry| holds(&whole, entry)).map(|entry| entry.seq).collect();
            // As an export chooses.
            let fitting: Vec<_> = all.iter().filter(|entry| whole.fits(&entry.view())).map(|entry| entry.seq).collect();
            assert_eq!(fitting, expected, "{whole:?}");
            for upwards in [true, false] {
                let mut seen = Vec::new();
                let mut page = Filter { after: upwards.then_some(0), ..whole.clone() };
                loop {
                    let found = seqs(&home.store.audit_page(&page, 7).await.unwrap());
                    let Some(last) = found.last() else { break };
                    if upwards { page.after = Some(*last) } else { page.before = Some(*last) }
                    seen.extend(found);
                }
                if !upwards {
                    seen.reverse();
                }
                assert_eq!(seen, expected, "{whole:?} upwards: {upwards}");
            }
        }
    }

    /// Clocks that are set back and forth, and entries that no block counts yet.
    async fn a_stretch_of_time_is_found_by_place_whatever_the_clocks_did(home) {
        let time = |n: i64| if n % 97 == 0 { at(n * 7919 % 2000) } else { at(n / 2) };
        let names = [EventName::TokenUsed, EventName::TokenUsed, EventName::SignInFailed];
        let nth = |n: i64| NewEvent::new(time(n), names[usize::try_from(n % 3).unwrap()], Actor::new(ActorKind::Token, "tok-a", "ann"));
        for part in 0..4 {
            home.store.act(Append { events: (part * 1000..part * 1000 + 1000).map(nth).collect() }).await.unwrap();
        }
        let every = Filter { after: Some(0), ..Filter::default() };
        let all = home.store.audit_page(&every, 10_000).await.unwrap();
        assert_eq!(all.len(), 4000);
        let mut noted = false;
        loop {
            for (start, end) in [(None, Some(3)), (Some(400), Some(420)), (Some(1990), None), (Some(9999), None), (Some(5), Some(5))] {
                for (event, upwards) in [(None, false), (None, true), (Some("auth.oidc.fail"), false), (Some("auth.*"), true)] {
                    let (start, end, event) = (start.map(at), end.map(at), event.map(str::to_owned));
                    let filter = Filter { start, end, event, after: upwards.then_some(7), ..Filter::default() };
                    let mut expected: Vec<_> = all.iter().filter(|entry| holds(&filter, entry)).map(|entry| entry.seq).collect();
                    let stretch = seqs(&home.store.audit_stretch(&filter).await.unwrap());
                    assert_eq!(stretch, expected[..expected.len().min(stretch.len())], "{filter:?} noted: {noted}");
                    assert_eq!(stretch.is_empty(), expected.is_empty());
                    if !upwards {
                        expected.reverse();
                    }
                    expected.truncate(40);
                    let found = home.store.audit_page(&filter, 40).await.unwrap();
                    assert_eq!(seqs(&found), expected, "{filter:?} noted: {noted}");
                    let bars = home.store.audit_timeline(&filter, at(0), 1000, 40).await.unwrap();
                    assert_eq!(bars.iter().map(|bar| bar.entries).sum::<i64>(), i64::try_from(expected.len()).unwrap());
                }
            }
            if noted {
                break;
            }
            while home.store.note_times().await.unwrap() {}
            noted = true;
        }
        let mut raw = home.behind_its_back().await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit_times").await, 3);
        // More stretches of blocks than are looked at one by one.
        let everything = format!("{}, {}", i64::MIN + 1, i64::MAX);
        let blocks: Vec<_> = std::iter::once(3).chain((0..40).map(|n| 10 + 2 * n)).map(|block| format!("({block}, {everything})")).collect();
        let filter = Filter { start: Some(at(400)), end: Some(at(420)), ..Filter::default() };
        let before = home.store.audit_page(&filter, 100).await.unwrap();
        for (few, blocks) in [(true, &blocks[..5]), (false, &blocks[5..])] {
            raw.run(&format!("INSERT INTO audit_times VALUES {}", blocks.join(", "))).await.unwrap();
            assert_eq!(home.store.audit_page(&filter, 100).await.unwrap(), before, "few: {few}");
        }
        raw.run("DELETE FROM audit_times WHERE block > 2").await.unwrap();
        assert_eq!(raw.number("SELECT earliest FROM audit_times WHERE block = 1").await, all.iter().filter(|e| e.seq / 1024 == 1).map(|e| e.time.millis()).min().unwrap());
    }

    async fn the_summary_counts_what_is_there(home) {
        let all = fill(&home.store).await;
        let counts = home.store.audit_summary(at(10)).await.unwrap();
        let latest = |count: &Count| -> (i64, Option<Moment>) {
            let same = all.iter().filter(|e| e.time >= at(10) && e.event == count.event && e.outcome == count.outcome);
            (i64::try_from(same.clone().count()).unwrap(), same.map(|e| e.time).max())
        };
        assert_eq!(counts.len(), 12);
        for count in &counts {
            assert_eq!(latest(count), (count.times, Some(count.latest)), "{count:?}");
        }
    }
}
