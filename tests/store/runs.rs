//! Runs in the store: whose turn it is, limits under concurrency, logs that are taken over once, and forgetting.

use std::time::Duration;

use lokid::{
    domain::{
        event::{Actor, EventName, NewEvent},
        run::{Ending, Progress, Run, RunId, RunState, Wish},
        time::Moment,
        token::{TokenId, TokenSecret},
    },
    store::{
        Store,
        runs::{
            acts::{End, Enqueue, Enqueued, Follow, Forget, Launch},
            lines::{NewLine, TakeLines},
        },
    },
};

const NOW: Moment = Moment::from_millis(1_800_000_000_000);

fn event(name: EventName) -> NewEvent {
    NewEvent::new(NOW, name, Actor::system())
}

fn run(n: u8, request_id: Option<&str>) -> Run {
    Run {
        id: RunId::from_random([n; 12]),
        turn: 0,
        state: RunState::Queued,
        node: "node-1".into(),
        source: None,
        provider: None,
        config: None,
        request_id: request_id.map(str::to_owned),
        replay_of: None,
        created_by: "tok".into(),
        created_by_name: "ci".into(),
        created_at: NOW,
        started_at: None,
        stop_asked_at: None,
        ended_at: None,
        pid: None,
        exit_code: None,
        reason: String::new(),
        token: None,
        log_lines: 0,
        progress: Progress::default(),
    }
}

async fn enqueue(store: &Store, run: Run, limit: i64) -> Enqueued {
    let act = Enqueue { run, input: "- x".into(), limit, event: event(EventName::RunStarted) };
    store.act(act).await.unwrap()
}

async fn launch(store: &Store, n: u8) -> Option<Run> {
    let act = Launch {
        node: "node-1".into(),
        at_once: 1,
        token: TokenId::from_random([n; 12]),
        digest: TokenSecret::from_random([n; 32]).digest(),
        event: event(EventName::TokenCreated),
    };
    store.act(act).await.unwrap()
}

async fn end(store: &Store, id: &RunId, ending: Ending) -> bool {
    let (event, token_event) = (event(EventName::RunCompleted), event(EventName::TokenRevoked));
    store.act(End { id: id.clone(), ending, event, token_event }).await.unwrap()
}

async fn events(store: &Store, name: &str) -> usize {
    let filter = lokid::store::ledger::Filter { event: Some(name.into()), ..Default::default() };
    store.audit_page(&filter, 100).await.unwrap().len()
}

each_engine! {
    async fn turns_come_in_the_order_of_asking_and_a_token_lives_as_long_as_its_run(home) {
        let store = &home.store;
        for n in [9, 3, 7] {
            assert_eq!(enqueue(store, run(n, None), 10).await, Enqueued::Added);
        }
        let first = launch(store, 1).await.unwrap();
        assert_eq!((first.id.clone(), first.state), (run(9, None).id, RunState::Running));
        assert_eq!(launch(store, 2).await, None, "one at once");
        let token = store.token(&first.token.clone().unwrap()).await.unwrap().unwrap();
        assert_eq!((token.name.as_str(), token.scopes.to_string().as_str()), (first.id.as_str(), "write"));
        let epoch = store.rights().epoch();
        assert!(end(store, &first.id, Ending::Code(0)).await);
        assert!(!end(store, &first.id, Ending::Code(1)).await, "it ends once");
        assert!(store.token(&token.id).await.unwrap().unwrap().revoked_at.is_some());
        assert!(epoch.is_none() || store.rights().epoch() != epoch, "a right was lost");
        assert_eq!(launch(store, 3).await.unwrap().id, run(3, None).id);
        assert_eq!((events(store, "run.complete").await, events(store, "auth.token.revoke").await), (1, 1));
    }

    async fn a_limit_and_a_request_id_hold_however_many_ask_at_once(home) {
        let store = &home.store;
        let request = "0190a6c4-1c4f-7bbd-9d55-0f5d3f0ce1a2";
        let asked = (0..20).map(|n| enqueue(store, run(n, Some(request)), 10));
        let made = futures_util::future::join_all(asked).await;
        assert_eq!(made.iter().filter(|m| **m == Enqueued::Added).count(), 1);
        assert_eq!(made.iter().filter(|m| matches!(m, Enqueued::Known(_))).count(), 19);
        let asked = (20..32).map(|n| enqueue(store, run(n, None), 10));
        let made = futures_util::future::join_all(asked).await;
        assert_eq!(made.iter().filter(|m| **m == Enqueued::Added).count(), 9);
        assert_eq!((store.active_runs().await.unwrap().len(), events(store, "run.start").await), (10, 10));
    }

    async fn of_two_wishes_at_once_one_is_followed(home) {
        let store = &home.store;
        enqueue(store, run(1, None), 10).await;
        let id = launch(store, 1).await.unwrap().id;
        let ask = |wish, name| store.act(Follow { id: id.clone(), wish, event: event(name) });
        let asked = (0..10).map(|_| ask(Wish::Pause, EventName::RunPaused));
        let followed = futures_util::future::join_all(asked).await;
        assert_eq!(followed.into_iter().filter(|f| matches!(f, Ok(Some(Ok(_))))).count(), 1);
        assert_eq!(events(store, "run.pause").await, 1);
        let stopping = ask(Wish::Stop, EventName::RunStopped).await.unwrap().unwrap().unwrap();
        assert_eq!((stopping.state, stopping.stop_asked_at), (RunState::Stopping, Some(NOW)));
        end(store, &id, Ending::Signal(15)).await;
        assert_eq!(store.run(&id).await.unwrap().unwrap().state, RunState::Stopped);
        let late = ask(Wish::Pause, EventName::RunPaused).await.unwrap().unwrap().unwrap_err();
        assert_eq!(late.state, RunState::Stopped);
    }

    async fn a_stretch_of_a_log_is_taken_over_once_and_old_runs_are_forgotten_whole(home) {
        let store = &home.store;
        enqueue(store, run(1, None), 10).await;
        enqueue(store, run(2, None), 10).await;
        let (id, other) = (run(1, None).id, run(2, None).id);
        let line = |text: &str| NewLine { time: NOW, stream: "out", text: text.into() };
        let take = |id: &RunId, from, to, texts: &[&str]| {
            let lines = texts.iter().map(|t| line(t)).collect();
            store.act(TakeLines { id: id.clone(), from, to, lines })
        };
        assert_eq!(take(&id, 0, 10, &["one", "tw\0o"]).await.unwrap(), Some(10));
        assert_eq!(take(&id, 0, 10, &["one", "two"]).await.unwrap(), Some(10), "again: nothing");
        assert_eq!(take(&other, 0, 5, &["hello"]).await.unwrap(), Some(5));
        assert_eq!(take(&id, 10, 20, &["three"]).await.unwrap(), Some(20));
        let last = |after, limit| async move { store.last_run_lines(&run(1, None).id, after, limit).await.unwrap().len() };
        assert_eq!((last(1, 10).await, last(0, 3).await), (2, 3));
        let texts: Vec<_> = store.run_lines(&id, 0, 10).await.unwrap().into_iter().map(|l| (l.n, l.text)).collect();
        assert_eq!(texts, [(1, "one".into()), (2, "tw\u{fffd}o".into()), (3, "three".into())]);
        assert_eq!(take(&other, 5, 5, &["last of all"]).await.unwrap(), Some(5));
        let all: Vec<_> = store.lines_behind(1, 10).await.unwrap().into_iter().map(|l| l.pos).collect();
        assert_eq!(all, [2, 3, 4, 5]);

        end(store, &id, Ending::Code(0)).await;
        let later = NOW.plus(Duration::from_secs(1));
        assert!(!store.act(Forget { now: NOW, before: NOW }).await.unwrap());
        assert!(store.run(&id).await.unwrap().is_some());
        store.act(Forget { now: later, before: later }).await.unwrap();
        assert!(store.run(&id).await.unwrap().is_none() && store.run_lines(&id, 0, 10).await.unwrap().is_empty());
        assert!(store.run_steps(&id).await.unwrap().is_empty() && store.run_input(&id).await.unwrap().is_none());
        assert!(store.run(&other).await.unwrap().is_some(), "what has not ended stays");
        assert_eq!(take(&id, 20, 30, &["late"]).await.unwrap(), None);
        assert_eq!(events(store, "run.forget").await, 1);
        assert_eq!(take(&other, 5, 9, &["more"]).await.unwrap(), Some(9));
        assert!(store.last_line().await.unwrap() > 4, "a place is not given twice");
    }
}
