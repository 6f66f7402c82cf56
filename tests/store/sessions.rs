//! Browser sessions: one for each sign-in, ended by whoever may end them, refreshed by one request at a time.

use lokid::{
    domain::{
        event::EventName,
        person::PersonId,
        scope::{Scope, ScopeSet},
        session::SessionId,
    },
    store::{
        Store,
        ledger::Filter,
        sessions::{End, Lease, Open, Refreshed, Seen, Sweep, Which},
    },
};

use crate::support::{
    on_threads,
    values::{at, end, event_at, long_ago, person, sign_in},
};

/// A signed-in browser.
struct In {
    id: SessionId,
    person: PersonId,
    digest: [u8; 32],
}

async fn enter(store: &Store, open: Open) -> In {
    let (id, digest) = (open.session.id.clone(), open.digest);
    let person = store.act(open).await.unwrap().expect("a sign-in that was not finished before");
    In { id, person, digest }
}

async fn is_live(store: &Store, session: &In) -> bool {
    let found = store.session_by_digest(&session.digest).await.unwrap().unwrap();
    assert_eq!(found.session.id, session.id);
    found.session.ended_at.is_none()
}

async fn count(store: &Store, name: EventName) -> usize {
    let filter = Filter { event: Some(name.as_str().to_owned()), ..Filter::default() };
    store.audit_page(&filter, 1000).await.unwrap().len()
}

fn of_provider(subject: Option<&str>, sid: Option<&str>) -> Which {
    let (subject, sid) = (subject.map(str::to_owned), sid.map(str::to_owned));
    Which::OfProvider { issuer: "https://idp.example".to_owned(), subject, sid }
}

each_engine! {
    async fn a_sign_in_opens_a_session_and_a_person_keeps_their_id(home) {
        let first = enter(&home.store, sign_in("ann", Some("sid-1"), 0)).await;
        let mut again = sign_in("ann", None, 5);
        again.person.name = Some("Ann Other".to_owned());
        let second = enter(&home.store, again).await;
        assert_eq!(first.person, second.person);

        let found = home.store.session_by_digest(&second.digest).await.unwrap().unwrap();
        assert_eq!((found.profile.name.as_str(), found.profile.email.as_deref()), ("Ann Other", Some("ann@example.com")));
        assert_eq!((found.session.id, found.session.person), (second.id.clone(), first.person.clone()));
        assert_eq!(found.session.scopes, ScopeSet::of(&[Scope::Control]));
        assert!(home.store.session_by_digest(&[0; 32]).await.unwrap().is_none());

        let ids = |sessions: Vec<lokid::store::sessions::SessionOfPerson>| -> Vec<_> {
            sessions.into_iter().map(|s| s.session.id).collect()
        };
        let sessions = home.store.sessions_of(&first.person, long_ago(), long_ago()).await.unwrap();
        assert_eq!(ids(sessions), [second.id.clone(), first.id]);
        let sessions = home.store.sessions_of(&first.person, at(4), long_ago()).await.unwrap();
        assert_eq!(ids(sessions), [second.id]);
        assert_eq!(home.store.live_sessions(long_ago(), long_ago()).await.unwrap(), 2);

        let entry = &home.store.audit_page(&Filter::default(), 1).await.unwrap()[0];
        assert_eq!((entry.event.as_str(), entry.actor_id.as_str()), ("auth.oidc.success", first.person.as_str()));
    }

    async fn a_sign_in_that_was_finished_before_opens_nothing(home) {
        let (first, mut replay) = (sign_in("ann", None, 0), sign_in("ann", None, 1));
        replay.once = first.once.clone();
        let replayed = replay.digest;
        enter(&home.store, first).await;
        assert_eq!(home.store.act(replay).await.unwrap(), None);
        assert!(home.store.session_by_digest(&replayed).await.unwrap().is_none());
        assert_eq!(count(&home.store, EventName::SignInSucceeded).await, 1);
        enter(&home.store, sign_in("ann", None, 2)).await;
    }

    async fn a_new_sign_in_ends_the_session_that_the_browser_had(home) {
        let (old, other) = (sign_in("ann", None, 0), sign_in("bob", None, 0));
        let (old, other) = (enter(&home.store, old).await, enter(&home.store, other).await);
        let mut next = sign_in("ann", None, 5);
        next.replaces = Some(old.id.clone());
        let next = enter(&home.store, next).await;
        assert!(!is_live(&home.store, &old).await);
        assert!(is_live(&home.store, &other).await && is_live(&home.store, &next).await);
    }

    async fn sessions_end_by_id_person_subject_sid_or_both_and_no_other_ends(home) {
        let mut elsewhere = sign_in("ann", Some("s1"), 0);
        "https://other.example".clone_into(&mut elsewhere.person.issuer);
        let elsewhere = enter(&home.store, elsewhere).await;
        let mut round = 0;
        // The sessions are: 0 = ann in s1, 1 = ann in s2, 2 = bob in s1, 3 = ann without a sid.
        for (which, expected) in [
            (of_provider(None, Some("s1")), vec![0, 2]),
            (of_provider(Some("ann"), None), vec![0, 1, 3]),
            (of_provider(Some("ann"), Some("s1")), vec![0]),
            (of_provider(Some("bob"), Some("s2")), vec![]),
            (of_provider(None, None), vec![]),
            (Which::OfPerson(elsewhere.person.clone()), vec![0, 1, 3]),
            (Which::One(elsewhere.id.clone()), vec![2]),
        ] {
            round += 10;
            let mut sessions = Vec::new();
            for (subject, sid) in [("ann", Some("s1")), ("ann", Some("s2")), ("bob", Some("s1")), ("ann", None)] {
                sessions.push(enter(&home.store, sign_in(subject, sid, round)).await);
            }
            let which = match which {
                Which::OfPerson(_) => Which::OfPerson(sessions[0].person.clone()),
                Which::One(_) => Which::One(sessions[2].id.clone()),
                by_provider @ Which::OfProvider { .. } => by_provider,
            };
            let events = count(&home.store, EventName::SessionEnded).await;
            let mut ended = home.store.act(end(which.clone(), round)).await.unwrap().unwrap();
            ended.sort();
            let mut wanted: Vec<_> = expected.iter().map(|at| sessions[*at].id.clone()).collect();
            wanted.sort();
            assert_eq!(ended, wanted, "{which:?}");
            assert_eq!(count(&home.store, EventName::SessionEnded).await, events + wanted.len(), "{which:?}");
            for (at, session) in sessions.iter().enumerate() {
                assert_eq!(is_live(&home.store, session).await, !expected.contains(&at), "{which:?}: {at}");
                let sealed = home.store.sealed_of(&session.id).await.unwrap();
                assert_eq!(sealed.is_some(), !expected.contains(&at), "{which:?}: the provider's tokens of {at}");
            }
            assert_eq!(home.store.act(end(which, round)).await.unwrap(), Some(vec![]), "a second time");
            for session in &sessions {
                home.store.act(end(Which::One(session.id.clone()), round)).await.unwrap();
            }
        }
        assert!(is_live(&home.store, &elsewhere).await, "another issuer's session");
    }

    async fn a_logout_token_is_used_once(home) {
        let with_jti = |jti: &str| End {
            once: Some((jti.to_owned(), at(100))),
            ..end(of_provider(Some("ann"), None), 5)
        };
        let first = enter(&home.store, sign_in("ann", None, 0)).await;
        assert_eq!(home.store.act(with_jti("j1")).await.unwrap(), Some(vec![first.id]));
        let second = enter(&home.store, sign_in("ann", None, 1)).await;
        assert_eq!(home.store.act(with_jti("j1")).await.unwrap(), None);
        assert!(is_live(&home.store, &second).await);
        assert_eq!(home.store.act(with_jti("j2")).await.unwrap(), Some(vec![second.id]));
    }

    async fn of_20_requests_at_once_one_gets_the_lease(home) {
        let session = enter(&home.store, sign_in("ann", None, 0)).await;
        let stores = [home.store.clone(), home.another_process().await];
        let id = session.id.clone();
        let claims_at = at(0);
        let lease = move |seconds| Lease { id: id.clone(), now: at(seconds), until: at(seconds + 30), claims_at };
        let take = lease.clone();
        let work = move |thread: usize| {
            let (store, lease) = (stores[thread % 2].clone(), take.clone());
            async move { futures_util::future::join_all((0..5).map(|_| store.act(lease(10)))).await }
        };
        let answers: Vec<_> = on_threads(4, work).await.into_iter().flatten().map(Result::unwrap).collect();
        assert_eq!((answers.len(), answers.iter().filter(|got| **got).count()), (20, 1));
        assert!(!home.store.act(lease(39)).await.unwrap());
        let of_older_claims = Lease { claims_at: at(-1), ..lease(40) };
        assert!(!home.store.act(of_older_claims).await.unwrap(), "the claims were read again meanwhile");
        assert!(home.store.act(lease(40)).await.unwrap(), "the first one's time is over");
        home.store.act(end(Which::One(session.id), 50)).await.unwrap();
        assert!(!home.store.act(lease(90)).await.unwrap(), "the session is over");
    }

    async fn refreshed_claims_count_at_once_and_only_for_a_session_that_lives(home) {
        let session = enter(&home.store, sign_in("ann", None, 0)).await;
        let refreshed = |role: &str, seconds| Refreshed {
            id: session.id.clone(),
            person: person("ann"),
            role: role.to_owned(),
            scopes: ScopeSet::of(&[Scope::Read]),
            groups: vec!["dev".to_owned()],
            rule: "rule 2".to_owned(),
            sealed: Some(vec![9]),
            at: at(seconds),
            changed: Some(event_at(EventName::RoleChanged, at(seconds))),
        };
        let epoch = home.epoch().await;
        assert!(home.store.act(refreshed("viewer", 10)).await.unwrap());
        assert_ne!(home.store.rights().epoch(), Some(epoch));
        let now = home.store.session(&session.id).await.unwrap().unwrap().session;
        assert_eq!((now.role.as_str(), now.scopes, now.claims_at), ("viewer", ScopeSet::of(&[Scope::Read]), at(10)));
        assert_eq!(home.store.sealed_of(&session.id).await.unwrap(), Some(vec![9]));
        assert_eq!(count(&home.store, EventName::RoleChanged).await, 1);

        home.store.act(end(Which::One(session.id.clone()), 20)).await.unwrap();
        assert!(!home.store.act(refreshed("admin", 30)).await.unwrap());
        let now = home.store.session(&session.id).await.unwrap().unwrap().session;
        assert_eq!((now.role.as_str(), now.ended_at), ("viewer", Some(at(20))));
        assert_eq!(count(&home.store, EventName::RoleChanged).await, 1, "nothing changed, so nothing is recorded");
    }

    async fn what_is_over_for_long_is_swept_away_and_the_rest_stays(home) {
        let old = enter(&home.store, sign_in("ann", None, 0)).await;
        let young = enter(&home.store, sign_in("ann", None, 50)).await;
        home.store.act(Seen { seen: vec![(young.id.clone(), at(70)), (young.id.clone(), at(60))] }).await.unwrap();
        home.store.act(Sweep { now: at(620), sessions_before: at(50) }).await.unwrap();
        assert!(home.store.session(&old.id).await.unwrap().is_none());
        assert_eq!(home.store.session(&young.id).await.unwrap().unwrap().session.last_seen_at, at(70));
        // Of the two sign-ins' identifiers only that of the first, which ended at 600, was forgotten.
        assert_eq!(home.behind_its_back().await.number("SELECT COUNT(*) FROM once").await, 1);
    }
}
