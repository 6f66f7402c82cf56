//! A right that was lost must not be found in a cache: the epoch ends before the answer leaves, and when
//! another process took the right, soon after.

use std::time::Duration;

use lokid::{
    domain::{event::EventName, token::TokenId},
    store::{Engine, Store, ledger::Append, sessions::Which, tokens::Rotate},
};

use crate::support::{
    home::{Home, epoch},
    postgres, run, until,
    values::{at, end, event, event_at, mint, revoke, sign_in, token},
};

/// How long a loss through another process may stay unheard.
const SOON: Duration = Duration::from_secs(1);

async fn minted(store: &Store, name: &str) -> TokenId {
    let new = token("usr-a", name);
    let id = new.0.id.clone();
    store.act(mint(new)).await.unwrap().unwrap();
    id
}

async fn ends(store: &Store, epoch: u64) {
    until("the end of the epoch", SOON, async || (store.rights().epoch() != Some(epoch)).then_some(())).await;
}

/// As another process would, without its store.
fn revocation(id: &TokenId) -> String {
    format!("UPDATE tokens SET revoked_at = 1 WHERE id = '{id}'")
}

each_engine! {
    async fn the_epoch_ends_before_the_answer_of_an_act_that_takes_a_right(home) {
        let store = &home.store;
        for round in 0..20 {
            let id = minted(store, &format!("t{round}")).await;
            let before = epoch(store).await;
            assert!(store.act(revoke(&id, 1)).await.unwrap());
            assert_ne!(store.rights().epoch(), Some(before), "revoke");
        }

        let old = minted(store, "old").await;
        let (successor, digest) = token("usr-a", "old");
        let event = event_at(EventName::TokenRotated, at(1));
        let before = epoch(store).await;
        assert!(store.act(Rotate { old, old_ends_at: at(9), token: successor, digest, event }).await.unwrap());
        assert_ne!(store.rights().epoch(), Some(before), "rotate");

        let (open, mut next) = (sign_in("ann", None, 0), sign_in("ann", None, 1));
        next.replaces = Some(open.session.id.clone());
        let last = next.session.id.clone();
        store.act(open).await.unwrap().unwrap();
        let before = epoch(store).await;
        store.act(next).await.unwrap().unwrap();
        assert_ne!(store.rights().epoch(), Some(before), "a session was replaced");

        let before = epoch(store).await;
        assert_eq!(store.act(end(Which::One(last), 2)).await.unwrap().unwrap().len(), 1);
        assert_ne!(store.rights().epoch(), Some(before), "a session was ended");
    }

    async fn an_act_that_takes_no_right_leaves_the_epoch_alone(home) {
        let before = home.epoch().await;
        let id = minted(&home.store, "ci").await;
        home.store.act(Append { events: vec![event(EventName::TokenUsed)] }).await.unwrap();
        home.store.act(sign_in("ann", None, 0)).await.unwrap().unwrap();
        assert_eq!(home.store.rights().epoch(), Some(before));
        home.store.act(revoke(&id, 1)).await.unwrap();
        assert_ne!(home.store.rights().epoch(), Some(before));
    }

    async fn a_revocation_by_another_process_is_heard_of_soon(home) {
        let other = home.another_process().await;
        for round in 0..3 {
            let id = minted(&home.store, &format!("t{round}")).await;
            let before = home.epoch().await;
            assert!(other.act(revoke(&id, 1)).await.unwrap());
            ends(&home.store, before).await;
        }
    }

    async fn both_processes_hear_of_each_other(home) {
        let other = home.another_process().await;
        let id = minted(&home.store, "ci").await;
        let before = epoch(&other).await;
        assert!(home.store.act(revoke(&id, 1)).await.unwrap());
        ends(&other, before).await;
        assert!(!other.act(revoke(&id, 2)).await.unwrap());
    }
}

each_engine! {
    /// The connection that waited for the lock is replaced, and the new one has not seen what the old one saw.
    async fn a_revocation_is_heard_of_although_the_writer_lost_its_connection_meanwhile(home) {
        if home.store.engine() == Engine::Postgres {
            return; // tests/store/network.rs has the losses of a connection to a server
        }
        let id = minted(&home.store, "ci").await;
        let before = home.epoch().await;
        let mut other = home.behind_its_back().await;
        other.run("BEGIN EXCLUSIVE").await.unwrap();
        other.run(&revocation(&id)).await.unwrap();
        let refused = home.store.act(mint(token("usr-a", "while it is locked"))).await;
        assert!(refused.is_err(), "the other process holds the lock");
        other.run("COMMIT").await.unwrap();
        ends(&home.store, before).await;
        home.store.act(mint(token("usr-a", "afterwards"))).await.unwrap().unwrap();
    }

    async fn while_the_writer_has_no_connection_nothing_may_be_believed(home) {
        if home.store.engine() == Engine::Postgres {
            return;
        }
        let before = home.epoch().await;
        let mut other = home.behind_its_back().await;
        other.run("BEGIN EXCLUSIVE").await.unwrap();
        let hidden = home.file().with_extension("hidden");
        std::fs::rename(home.file(), &hidden).unwrap();
        assert!(home.store.act(mint(token("usr-a", "ci"))).await.is_err());
        let deaf = async || home.store.rights().epoch().is_none().then_some(());
        until("an epoch that is not given", SOON, deaf).await;

        std::fs::rename(&hidden, home.file()).unwrap();
        other.run("ROLLBACK").await.unwrap();
        assert_ne!(home.epoch().await, before);
        home.store.act(mint(token("usr-a", "ci"))).await.unwrap().unwrap();
    }
}

/// The backends that listen, as PostgreSQL sees them; after their first sign of life they show that.
const LISTENERS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
     AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')";

#[test]
fn while_the_listener_is_gone_nothing_that_was_read_before_may_be_believed() {
    run(async {
        let Some(home) = Home::on_postgres().await else { return };
        let mut raw = home.behind_its_back().await;
        let other = home.another_process().await;
        let id = minted(&home.store, "ci").await;
        epoch(&other).await;
        let before = home.epoch().await;

        // Nobody can come back before the other process has revoked.
        let name = raw.texts("SELECT current_database()::text").await.remove(0);
        postgres::administer(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        assert_eq!(raw.number(&format!("SELECT COUNT(pg_terminate_backend(pid)) {LISTENERS}")).await, 2);
        assert!(other.act(revoke(&id, 1)).await.unwrap());
        ends(&home.store, before).await;
        assert_eq!(home.store.rights().epoch(), None);

        postgres::administer(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
        let after = home.epoch().await;
        assert!(after > before, "{before} {after}");

        // It listens again: the next loss is heard of.
        let id = minted(&home.store, "next").await;
        epoch(&other).await;
        let before = home.epoch().await;
        assert!(other.act(revoke(&id, 2)).await.unwrap());
        ends(&home.store, before).await;
    });
}
