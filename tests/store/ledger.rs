//! The audit log while nobody tampers with it: gap-free under load, with its act or not at all.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use lokid::{
    audit::EventQueue,
    domain::{
        event::{EventName, NewEvent, Outcome},
        ledger::Head,
        time::Clock,
    },
    store::{
        Act, Batch, Database, Store, StoreError,
        ledger::{Append, Filter},
    },
};

use super::walk::walk;
use crate::support::{
    home::{Raw, server_on},
    on_threads, until,
    values::{at, event, mint, token},
};

const THREADS: usize = 4;
const WRITERS: usize = 16;
const EACH: usize = 1000;

/// The server's store; nothing while it is closed.
type Shared = Arc<RwLock<Option<Store>>>;

/// One writer: every event that was not acknowledged is tried again.
async fn write(store: Shared, name: String) {
    for number in 0..EACH {
        let events = vec![event(EventName::TokenUsed).because(Outcome::Success, format!("{name} {number}"))];
        until("a store that takes an event", Duration::from_secs(30), async || {
            let open = store.read().unwrap().clone()?;
            open.act(Append { events: events.clone() }).await.ok()
        })
        .await;
    }
}

/// Closes the server while they write, and starts it again.
async fn restart(shared: &Shared, database: &Database) {
    let old = shared.write().unwrap().take().unwrap();
    old.close().await;
    drop(old);
    // The lock on a SQLite file goes with the last of the writers' clones.
    let new = until("a server that starts", Duration::from_secs(10), async || server_on(database).await.ok()).await;
    *shared.write().unwrap() = Some(new);
}

each_engine! {
    /// Whoever ends a server does not wait for a log that takes nothing; what is held comes as soon as it takes something.
    async fn a_log_that_takes_nothing_does_not_hold_up_the_end(home) {
        let queue = EventQueue::start(home.store.clone(), Clock::system(), 8);
        let mut raw = home.behind_its_back().await;
        raw.run("ALTER TABLE audit RENAME TO hidden").await.unwrap();
        queue.record(event(EventName::TokenUsed));
        until("it is tried", Duration::from_secs(9), async || (queue.depth() == 0).then_some(())).await;
        tokio::time::timeout(Duration::from_secs(20), queue.flush()).await.expect("it is waited for without end");
        raw.run("ALTER TABLE hidden RENAME TO audit").await.unwrap();
        queue.flush().await;
        assert_eq!(walk(&home.store).await.unwrap().seq, 1);
    }

    /// 64 writers with 1,000 events each, while the server is closed and opened again twice.
    async fn the_chain_has_no_gap_and_no_event_is_lost_or_doubled(home) {
        let mut home = home;
        let beside = home.another_process().await;
        let shared: Shared = Arc::new(RwLock::new(Some(std::mem::replace(&mut home.store, beside))));
        let handed_out = Arc::clone(&shared);
        let work = move |thread: usize| {
            let store = Arc::clone(&handed_out);
            async move {
                let writers = (0..WRITERS).map(|writer| write(Arc::clone(&store), format!("{thread}/{writer}")));
                futures_util::future::join_all(writers).await;
            }
        };
        let restarts = async {
            for seq in [5_000, 40_000] {
                until("some of the events", Duration::from_secs(50), async || {
                    (home.store.audit_head().await.unwrap().seq > seq).then_some(())
                })
                .await;
                restart(&shared, &home.database).await;
            }
        };
        tokio::join!(on_threads(THREADS, work), restarts);

        let head = walk(&home.store).await.unwrap();
        let total = i64::try_from(THREADS * WRITERS * EACH).unwrap();
        assert_eq!((head.seq, head), (total, home.store.audit_head().await.unwrap()));
        let mut raw = home.behind_its_back().await;
        assert_eq!(raw.number("SELECT COUNT(DISTINCT reason) FROM audit").await, total);
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit WHERE seq BETWEEN 1 AND (SELECT MAX(seq) FROM audit)").await, total);
    }

    async fn the_log_outlives_a_restart_and_goes_on_where_it_was(home) {
        assert_eq!(home.store.audit_head().await.unwrap(), Head::EMPTY);
        home.store.act(Append { events: vec![event(EventName::ServerStarted); 3] }).await.unwrap();
        let before = home.store.audit_head().await.unwrap();
        let home = home.restart().await;
        assert_eq!(home.store.audit_head().await.unwrap(), before);
        home.store.act(Append { events: vec![event(EventName::ServerStarted)] }).await.unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, 4);
    }

    async fn after_the_end_an_act_is_refused_and_nothing_is_changed(home) {
        home.store.act(mint(token("usr-a", "before"))).await.unwrap().unwrap();
        home.store.close().await;
        let refused = home.store.act(mint(token("usr-a", "after"))).await;
        assert!(matches!(refused, Err(StoreError::Overloaded)));
        let home = home.restart().await;
        assert_eq!(home.store.active_tokens(at(0)).await.unwrap(), 1);
        home.store.act(mint(token("usr-a", "after"))).await.unwrap().unwrap();
    }

    async fn an_act_whose_event_cannot_be_stored_does_not_happen(home) {
        let mut raw = home.behind_its_back().await;
        let (full, free) = match raw {
            Raw::Sqlite(_) => (
                "CREATE TRIGGER disk_is_full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END",
                "DROP TRIGGER disk_is_full",
            ),
            Raw::Postgres(_) => (
                "ALTER TABLE audit ADD CONSTRAINT disk_is_full CHECK (false) NOT VALID",
                "ALTER TABLE audit DROP CONSTRAINT disk_is_full",
            ),
        };
        raw.run(full).await.unwrap();
        let (new, digest) = token("usr-a", "ci");
        let refused = home.store.act(mint((new.clone(), digest))).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(home.store.token(&new.id).await.unwrap().is_none());

        raw.run(free).await.unwrap();
        home.store.act(mint((new.clone(), digest))).await.unwrap().unwrap();
        assert!(home.store.token(&new.id).await.unwrap().is_some());
        assert_eq!(walk(&home.store).await.unwrap().seq, 1);
    }

    async fn an_event_of_an_act_that_fails_is_not_stored(home) {
        home.store.act(Fails(false)).await.unwrap();
        assert!(matches!(home.store.act(Fails(true)).await, Err(StoreError::Damaged("on purpose"))));
        let (first, digest) = token("usr-a", "first");
        home.store.act(mint((first, digest))).await.unwrap().unwrap();
        let (second, _) = token("usr-a", "second");
        assert!(home.store.act(mint((second, digest))).await.is_err(), "the digest stands there already");
        assert_eq!(walk(&home.store).await.unwrap().seq, 2);
    }

    /// One text that an engine does not take must not cost the other events of its group.
    async fn an_event_with_odd_texts_is_stored_whole(home) {
        let odd = |text: &str| -> NewEvent {
            let mut event = event(EventName::CredentialRefused).because(Outcome::Denied, text).with(text, text).on("token", text);
            text.clone_into(&mut event.actor.name);
            event.origin.user_agent = Some(text.to_owned());
            event
        };
        let texts = ["", "\0", "a\0b", "'; DROP TABLE audit; --", "\u{1f980}\u{202e}\u{feff}", "\\", "\u{1}\n\r\t%_"];
        home.store.act(Append { events: texts.map(odd).to_vec() }).await.unwrap();
        let head = walk(&home.store).await.unwrap();
        assert_eq!(head.seq, 7);
        let entries = home.store.audit_page(&Filter { after: Some(3), ..Filter::default() }, 10).await.unwrap();
        let read: Vec<_> = entries.iter().map(|entry| entry.reason.as_str()).collect();
        assert_eq!(read, &texts[3..]);
        let mut raw = home.behind_its_back().await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit WHERE details LIKE '{%}'").await, 7);
    }
}

/// Records an event and then may fail.
#[derive(Debug)]
struct Fails(bool);

impl Act for Fails {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        batch.record(event(EventName::ConfigLoaded));
        if self.0 { Err(StoreError::Damaged("on purpose")) } else { Ok(()) }
    }
}
