//! Tokens: found by what their holder presents, revoked once, replaced with a grace, listed in pages.

use lokid::{
    domain::{
        event::{EventName, NewEvent},
        time::Moment,
        token::{Token, TokenDigest, TokenId, TokenState},
    },
    store::{
        Store,
        ledger::Filter,
        token_uses::Touch,
        tokens::{MintRefused, NoteExpiries, Page, Rotate},
    },
};

use crate::support::values::{at, event_at, mint, revoke, token};

async fn minted(store: &Store, (token, digest): (Token, TokenDigest)) -> Token {
    store.act(mint((token.clone(), digest))).await.unwrap().unwrap();
    token
}

async fn state(store: &Store, id: &TokenId, seconds: i64) -> TokenState {
    store.token(id).await.unwrap().unwrap().state(at(seconds))
}

async fn events_of(store: &Store, name: EventName) -> Vec<String> {
    let filter = Filter { event: Some(name.as_str().to_owned()), ..Filter::default() };
    store.audit_page(&filter, 1000).await.unwrap().into_iter().map(|entry| entry.resource_id).collect()
}

fn rotate(old: &Token, grace_ends: Moment, seconds: i64) -> Rotate {
    let (mut token, digest) = token(&old.owner, old.name.as_str());
    token.created_at = at(seconds);
    let event: NewEvent = event_at(EventName::TokenRotated, at(seconds)).on("token", old.id.as_str());
    Rotate { old: old.id.clone(), old_ends_at: grace_ends, token, digest, event }
}

each_engine! {
    async fn a_token_is_found_by_its_own_digest_and_id_and_reads_back_whole(home) {
        let (made, digest) = token("usr-a", "ci bot");
        let (other, other_digest) = token("usr-a", "another");
        minted(&home.store, (made.clone(), digest)).await;

        let found = home.store.token_by_digest(&digest).await.unwrap().unwrap();
        assert_eq!(format!("{found:?}"), format!("{made:?}"));
        assert_eq!(home.store.token(&made.id).await.unwrap().unwrap().id, made.id);
        assert!(home.store.token_by_digest(&other_digest).await.unwrap().is_none());
        assert!(home.store.token(&other.id).await.unwrap().is_none());
        assert_eq!(events_of(&home.store, EventName::TokenCreated).await, [made.id.as_str()]);

        minted(&home.store, (other.clone(), other_digest)).await;
        assert_eq!(home.store.token_by_digest(&other_digest).await.unwrap().unwrap().id, other.id);
    }

    async fn a_token_is_revoked_once_and_only_that_is_recorded(home) {
        let kept = minted(&home.store, token("usr-a", "kept")).await;
        let lost = minted(&home.store, token("usr-a", "lost")).await;
        let (unknown, _) = token("usr-a", "unknown");

        assert!(home.store.act(revoke(&lost.id, 5)).await.unwrap());
        assert!(!home.store.act(revoke(&lost.id, 9)).await.unwrap());
        assert!(!home.store.act(revoke(&unknown.id, 9)).await.unwrap());

        assert_eq!(state(&home.store, &lost.id, 10).await, TokenState::Revoked(at(5)));
        assert_eq!(state(&home.store, &kept.id, 10).await, TokenState::Active);
        assert_eq!(events_of(&home.store, EventName::TokenRevoked).await, [lost.id.as_str()]);
        assert_eq!(home.store.active_tokens(at(10)).await.unwrap(), 1);
    }

    async fn a_replaced_token_works_until_its_grace_ends_and_is_replaced_once(home) {
        let old = minted(&home.store, token("usr-a", "ci")).await;
        let first = rotate(&old, at(60), 1);
        let new = first.token.id.clone();
        assert!(home.store.act(first).await.unwrap());
        assert!(!home.store.act(rotate(&old, at(600), 2)).await.unwrap(), "a second successor");

        assert_eq!(state(&home.store, &old.id, 59).await, TokenState::Replaced);
        assert_eq!(state(&home.store, &old.id, 60).await, TokenState::Expired(at(60)));
        assert_eq!(state(&home.store, &new, 60).await, TokenState::Active);
        assert_eq!(home.store.token(&old.id).await.unwrap().unwrap().replaced_by, Some(new));
        assert_eq!(events_of(&home.store, EventName::TokenRotated).await, [old.id.as_str()]);

        let revoked = minted(&home.store, token("usr-a", "gone")).await;
        home.store.act(revoke(&revoked.id, 3)).await.unwrap();
        assert!(!home.store.act(rotate(&revoked, at(60), 4)).await.unwrap(), "a revoked token has no successor");
    }

    /// Otherwise whoever holds a token that is about to end could keep it alive, or raise one that is over.
    async fn a_rotation_never_lets_the_old_token_live_longer(home) {
        let (mut short, digest) = token("usr-a", "short");
        short.expires_at = Some(at(10));
        let short = minted(&home.store, (short, digest)).await;
        let (mut over, digest) = token("usr-a", "over");
        over.expires_at = Some(at(10));
        let over = minted(&home.store, (over, digest)).await;

        assert!(home.store.act(rotate(&short, at(60), 5)).await.unwrap());
        assert_eq!(state(&home.store, &short.id, 10).await, TokenState::Expired(at(10)));

        assert!(!home.store.act(rotate(&over, at(60), 11)).await.unwrap(), "its time was over");
        assert_eq!(state(&home.store, &over.id, 12).await, TokenState::Expired(at(10)));
    }

    async fn the_end_of_a_tokens_time_is_noted_once(home) {
        let mut ending = Vec::new();
        for number in 0..130 {
            let (mut token, digest) = token("usr-a", &format!("t{number}"));
            token.expires_at = Some(at(10));
            ending.push(mint((token, digest)));
        }
        let revoked = ending[7].token.id.clone();
        let all = ending.into_iter().map(|mint| home.store.act(mint));
        futures_util::future::join_all(all).await.into_iter().for_each(|minted| minted.unwrap().unwrap());
        home.store.act(revoke(&revoked, 5)).await.unwrap();

        let mut noted = Vec::new();
        for seconds in [9, 10, 10, 11, 12] {
            noted.push(home.store.act(NoteExpiries { now: at(seconds) }).await.unwrap());
        }
        assert_eq!(noted, [0, 100, 29, 0, 0]);
        let mut events = events_of(&home.store, EventName::TokenExpired).await;
        events.sort();
        events.dedup();
        assert_eq!(events.len(), 129);
        assert!(!events.contains(&revoked.to_string()));
    }

    async fn a_name_is_free_again_for_its_owner_when_no_usable_token_has_it(home) {
        let taken = |name: &str| Err(MintRefused::NameTaken(name.to_owned()));
        let (mut first, digest) = token("usr-a", "ci");
        first.expires_at = Some(at(10));
        minted(&home.store, (first.clone(), digest)).await;

        assert_eq!(home.store.act(mint(token("usr-a", "ci"))).await.unwrap(), taken("ci"));
        assert_eq!(home.store.act(mint(token("usr-b", "ci"))).await.unwrap(), Ok(()));
        assert_eq!(home.store.act(mint(token("usr-a", "CI"))).await.unwrap(), Ok(()));

        let (mut after_its_end, digest) = token("usr-a", "ci");
        after_its_end.created_at = at(10);
        minted(&home.store, (after_its_end.clone(), digest)).await;
        assert_eq!(home.store.tokens_named("ci", Some("usr-a"), at(10)).await.unwrap().len(), 1);
        assert_eq!(home.store.tokens_named("ci", None, at(10)).await.unwrap().len(), 2);

        home.store.act(revoke(&after_its_end.id, 11)).await.unwrap();
        let later = || {
            let (mut again, digest) = token("usr-a", "ci");
            again.created_at = at(11);
            (again, digest)
        };
        let again = minted(&home.store, later()).await;
        assert!(home.store.act(rotate(&again, at(60), 12)).await.unwrap());
        assert_eq!(home.store.act(mint(later())).await.unwrap(), taken("ci"), "its successor has it");
        assert_eq!(events_of(&home.store, EventName::TokenCreated).await.len(), 5);
    }

    async fn pages_show_each_token_once_newest_first(home) {
        for number in 0..23 {
            let (mut token, digest) = token(if number % 3 == 0 { "usr-b" } else { "usr-a" }, &format!("t{number}"));
            token.created_at = at(number / 4); // four are made in the same moment
            token.expires_at = (number % 5 == 0).then(|| at(50));
            minted(&home.store, (token, digest)).await;
        }
        for (owner, with_ended, expected) in
            [(None, true, 23), (None, false, 18), (Some("usr-a"), true, 15), (Some("usr-b"), false, 6), (Some(""), true, 0)]
        {
            let mut page = Page { owner: owner.map(str::to_owned), with_ended, before: None, limit: 4 };
            let mut seen: Vec<(Moment, TokenId)> = Vec::new();
            loop {
                let tokens = home.store.tokens(&page, at(100)).await.unwrap();
                assert!(tokens.iter().all(|t| owner.is_none_or(|owner| t.owner == owner)));
                seen.extend(tokens.into_iter().map(|t| (t.created_at, t.id)));
                match seen.last() {
                    Some(last) if page.before.as_ref() != Some(last) => page.before = Some(last.clone()),
                    _ => break,
                }
            }
            assert_eq!(seen.len(), expected, "{owner:?} {with_ended}");
            assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        }
    }

    async fn the_last_use_never_goes_back(home) {
        let used = minted(&home.store, token("usr-a", "ci")).await;
        for (seconds, from) in [(5, "192.0.2.1"), (9, "192.0.2.2"), (7, "192.0.2.3")] {
            home.store.act(Touch { uses: vec![(used.id.clone(), at(seconds), from.to_owned())] }).await.unwrap();
        }
        let token = home.store.token(&used.id).await.unwrap().unwrap();
        assert_eq!((token.last_used_at, token.last_used_from.as_deref()), (Some(at(9)), Some("192.0.2.2")));
    }
}
