//! What a workload's token is exchanged for: made once, with its event, whoever comes at the same moment.

use lokid::{
    domain::{
        event::EventName,
        token::{Token, TokenState},
    },
    store::{StoreError, exchange::Exchange, ledger::Filter, sessions::Sweep},
};

use crate::support::values::{at, event_at, long_ago, token};

/// An exchange of the token that is known as `once`, remembered for ten minutes.
fn exchange(once: &str, name: &str) -> (Token, Exchange) {
    let (mut token, digest) = token("ci:job", name);
    token.expires_at = Some(at(900));
    let event = event_at(EventName::TokenCreated, at(0)).on("token", token.id.as_str());
    (token.clone(), Exchange { token, digest, once: (once.to_owned(), at(600)), event })
}

each_engine! {
    async fn one_token_is_exchanged_once_and_only_that_is_recorded(home) {
        let (first, again) = (exchange("a", "one"), exchange("a", "two"));
        let made = futures_util::future::join_all([first, again, exchange("b", "three")].map(async |(token, act)| {
            (token, home.store.act(act).await.unwrap())
        }))
        .await;
        assert_eq!(made.iter().filter(|(_, is_first)| *is_first).count(), 2);
        for (token, is_first) in &made {
            let found = home.store.token(&token.id).await.unwrap();
            assert_eq!(found.map(|token| token.state(at(1))), is_first.then_some(TokenState::Active));
        }
        let filter = Filter { event: Some("auth.token.create".to_owned()), ..Filter::default() };
        assert_eq!(home.store.audit_page(&filter, 10).await.unwrap().len(), 2);
    }

    async fn it_is_remembered_as_long_as_it_could_be_sent_again(home) {
        assert!(home.store.act(exchange("a", "one").1).await.unwrap());
        home.store.act(Sweep { now: at(599), sessions_before: long_ago() }).await.unwrap();
        assert!(!home.store.act(exchange("a", "two").1).await.unwrap());
        home.store.act(Sweep { now: at(601), sessions_before: long_ago() }).await.unwrap();
        assert!(home.store.act(exchange("a", "three").1).await.unwrap());
    }

    async fn what_cannot_be_recorded_is_not_made(home) {
        home.store.close().await;
        assert!(matches!(home.store.act(exchange("a", "one").1).await, Err(StoreError::Overloaded)));
    }
}
