//! Acts at the same time: from several threads, and from several processes on one database.

use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

use lokid::{
    domain::event::EventName,
    store::{
        Act, Batch, OpenError, StoreError,
        ledger::{Append, Filter},
        tokens::{MintRefused, Page},
    },
};

use super::walk::walk;
use crate::support::{
    home::{Home, command_on, server_on},
    on_threads, run,
    values::{at, event, mint, token},
};

const LIMIT: i64 = 10;

/// An act with a defect.
#[derive(Debug)]
struct Panics;

impl Act for Panics {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        batch.record(event(EventName::ConfigLoaded));
        panic!("on purpose")
    }
}

each_engine! {
    async fn of_64_mints_at_once_exactly_as_many_succeed_as_the_limit_says(home) {
        let stores = [home.store.clone(), home.another_process().await];
        let work = move |thread: usize| {
            let store = stores[thread % 2].clone();
            async move {
                let mints = (0..16).map(|number| {
                    let mut mint = mint(token("usr-a", &format!("{thread} {number}")));
                    mint.limit = Some(LIMIT);
                    store.act(mint)
                });
                futures_util::future::join_all(mints).await
            }
        };
        let answers: Vec<_> = on_threads(4, work).await.into_iter().flatten().map(Result::unwrap).collect();
        let made = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((answers.len(), made), (64, 10));
        assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(MintRefused::TooMany(LIMIT)))));

        let page = Page { limit: 100, ..Page::default() };
        assert_eq!(home.store.tokens(&page, at(0)).await.unwrap().len(), 10);
        let created = Filter { event: Some(EventName::TokenCreated.as_str().to_owned()), ..Filter::default() };
        assert_eq!(home.store.audit_page(&created, 100).await.unwrap().len(), 10);
        assert_eq!(home.store.act(mint(token("usr-a", "without a limit"))).await.unwrap(), Ok(()));
    }

    async fn of_32_mints_of_one_name_exactly_one_succeeds(home) {
        let stores = [home.store.clone(), home.another_process().await];
        let work = move |thread: usize| {
            let store = stores[thread % 2].clone();
            async move { futures_util::future::join_all((0..8).map(|_| store.act(mint(token("usr-a", "ci"))))).await }
        };
        let answers: Vec<_> = on_threads(4, work).await.into_iter().flatten().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert_eq!(home.store.tokens_named("ci", None, at(0)).await.unwrap().len(), 1);
    }

    async fn one_act_that_cannot_be_done_spoils_no_other(home) {
        let (first, digest) = token("usr-a", "first");
        home.store.act(mint((first, digest))).await.unwrap().unwrap();
        let mut mints: Vec<_> = (0..20).map(|number| token("usr-a", &format!("t{number}"))).collect();
        mints[11].1 = digest; // another token has it already
        let answers = futures_util::future::join_all(mints.into_iter().map(|new| home.store.act(mint(new)))).await;
        let failed: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.is_err()).map(|(at, _)| at).collect();
        assert_eq!(failed, [11]);
        let head = walk(&home.store).await.unwrap();
        assert_eq!((head.seq, home.store.active_tokens(at(0)).await.unwrap()), (20, 20));
    }

    async fn two_processes_write_one_chain(home) {
        let stores = [home.store.clone(), home.another_process().await];
        let names = stores.each_ref().map(|store| store.node().to_owned());
        let work = move |thread: usize| {
            let store = stores[thread].clone();
            async move {
                for _ in 0..100 {
                    store.act(Append { events: vec![event(EventName::TokenUsed); 2] }).await.unwrap();
                }
            }
        };
        on_threads(2, work).await;
        assert_eq!(walk(&home.store).await.unwrap().seq, 400);
        let nodes = home.behind_its_back().await.texts("SELECT DISTINCT node FROM audit ORDER BY node").await;
        assert_eq!(nodes, names);
    }

    async fn a_caller_who_leaves_takes_nothing_apart(home) {
        let leave = (0..200).map(|number| {
            let act = home.store.act(mint(token("usr-a", &format!("t{number}"))));
            tokio::time::timeout(Duration::from_micros(number * 10), act)
        });
        let left = futures_util::future::join_all(leave).await.iter().filter(|answer| answer.is_err()).count();
        assert!(left > 0, "everybody stayed");
        home.store.act(mint(token("usr-a", "the last"))).await.unwrap().unwrap();
        let tokens = home.store.active_tokens(at(0)).await.unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, tokens, "one event for each token");
    }

    async fn an_act_that_panics_takes_neither_its_neighbours_nor_the_writer_with_it(home) {
        let mints = (0..10).map(|number| home.store.act(mint(token("usr-a", &format!("t{number}")))));
        let (panicked, made) = tokio::join!(home.store.act(Panics), futures_util::future::join_all(mints));
        assert!(panicked.is_err());
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        home.store.act(mint(token("usr-a", "afterwards"))).await.unwrap().unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, 11);
    }

    async fn several_processes_may_make_the_tables_at_the_same_time(home) {
        for _ in 0..5 {
            // As at the very first start.
            let (database, line) = (home.empty_database().await, Arc::new(Barrier::new(6)));
            let opened = on_threads(6, move |thread| {
                let (database, line) = (database.clone(), Arc::clone(&line));
                async move {
                    line.wait();
                    let opened = if thread == 0 { server_on(&database).await } else { command_on(&database).await };
                    opened?.act(Append { events: vec![event(EventName::ServerStarted)] }).await.unwrap();
                    Ok::<_, OpenError>(())
                }
            });
            for opened in opened.await {
                opened.unwrap();
            }
        }
    }
}

/// A transaction that sees what was there when it began would build on an old end of the chain.
#[test]
fn the_servers_default_isolation_does_not_stop_two_nodes() {
    run(async {
        let Some(home) = Home::on_postgres().await else { return };
        let mut raw = home.behind_its_back().await;
        let name = raw.texts("SELECT current_database()::text").await.remove(0);
        raw.run(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).await.unwrap();
        let nodes = [home.another_process().await, home.another_process().await];
        let work = move |thread: usize| {
            let node = nodes[thread].clone();
            async move {
                for _ in 0..50 {
                    node.act(Append { events: vec![event(EventName::TokenUsed)] }).await.unwrap();
                }
            }
        };
        on_threads(2, work).await;
        assert_eq!(walk(&home.store).await.unwrap().seq, 100);
    });
}
