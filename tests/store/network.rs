//! A bad network between lokid and PostgreSQL: what was lost is not believed, done twice or waited for without end.

use std::time::Duration;

use lokid::{
    domain::event::{EventName, Outcome},
    store::{Store, ledger::Append},
};

use super::walk::walk;
use crate::support::{
    home::{Home, epoch, node_on},
    proxy::{Network, Proxy},
    run, until,
    values::{event, mint, revoke, token},
};

/// A store behind a network, and another process on the same database that has a good one.
async fn behind_a_network() -> Option<(Store, Proxy, Home)> {
    let home = Home::on_postgres().await?;
    let proxy = Proxy::before(&home);
    let store = node_on(&proxy.database(), "behind a network").await;
    Some((store, proxy, home))
}

async fn nothing_is_believed(network: Network, within: Duration) {
    let Some((store, proxy, home)) = behind_a_network().await else { return };
    let new = token("usr-a", "ci");
    let id = new.0.id.clone();
    home.store.act(mint(new)).await.unwrap().unwrap();
    let before = epoch(&store).await;

    proxy.becomes(network);
    assert!(home.store.act(revoke(&id, 1)).await.unwrap());
    until("an epoch that is not given", within, async || store.rights().epoch().is_none().then_some(())).await;

    proxy.becomes(Network::Passes);
    assert!(epoch(&store).await > before);
    assert!(!store.act(revoke(&id, 2)).await.unwrap(), "the other process did it");
}

#[test]
fn while_the_network_is_cut_nothing_is_believed() {
    run(nothing_is_believed(Network::Cuts, Duration::from_secs(1)));
}

#[test]
fn while_a_lost_connection_is_not_replaced_nothing_is_believed() {
    run(nothing_is_believed(Network::CutsThenStalls, Duration::from_secs(1)));
}

#[test]
fn while_the_network_stalls_nothing_is_believed() {
    run(nothing_is_believed(Network::Stalls, Duration::from_secs(5)));
}

#[test]
fn an_act_whose_answer_was_lost_is_not_done_twice() {
    run(async {
        let Some((store, proxy, home)) = behind_a_network().await else { return };
        for round in 1..=3 {
            let append =
                Append { events: vec![event(EventName::TokenUsed).because(Outcome::Success, format!("{round}"))] };
            proxy.becomes(Network::LosesOneCommit);
            let answer = store.act(append).await;
            assert!(proxy.is(Network::Passes), "no commit was lost");
            let head = walk(&home.store).await.unwrap();
            assert_eq!(head.seq, round, "it answered {answer:?}");
        }
        store.act(Append { events: vec![event(EventName::TokenUsed)] }).await.unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, 4);
    });
}

#[test]
fn a_right_whose_loss_may_have_been_committed_is_not_believed() {
    run(async {
        let Some((store, proxy, home)) = behind_a_network().await else { return };
        let new = token("usr-a", "ci");
        let id = new.0.id.clone();
        store.act(mint(new)).await.unwrap().unwrap();
        let before = epoch(&store).await;
        proxy.becomes(Network::LosesOneCommit);
        let answer = store.act(revoke(&id, 1)).await;
        assert_ne!(store.rights().epoch(), Some(before), "it answered {answer:?}");
        let token = home.store.token(&id).await.unwrap().unwrap();
        assert!(token.revoked_at.is_some(), "the commit itself went through");
    });
}

#[test]
fn acts_are_refused_while_the_server_cannot_be_reached_and_done_when_it_can() {
    run(async {
        let Some((store, proxy, _home)) = behind_a_network().await else { return };
        store.act(mint(token("usr-a", "before"))).await.unwrap().unwrap();
        proxy.becomes(Network::Cuts);
        let all = (0..20).map(|number| store.act(mint(token("usr-a", &format!("{number}")))));
        let refused = tokio::time::timeout(Duration::from_secs(10), futures_util::future::join_all(all)).await.unwrap();
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert!(store.ping().await.is_err());
        proxy.becomes(Network::Passes);
        store.act(mint(token("usr-a", "0"))).await.unwrap().unwrap();
        store.ping().await.unwrap();
    });
}
