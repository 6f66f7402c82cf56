//! People: known by issuer and subject, listed in pages.

use lokid::domain::{person::PersonId, time::Moment};

use crate::support::values::{at, sign_in};

each_engine! {
    async fn a_person_is_issuer_and_subject_and_everything_else_may_change(home) {
        let mut first = sign_in("ann", None, 0);
        first.person.email_verified = false;
        let ann = home.store.act(first).await.unwrap().unwrap();
        assert!(!home.store.person(&ann).await.unwrap().unwrap().email_verified);

        let mut later = sign_in("ann", None, 60);
        (later.person.email, later.person.name) = (Some("new@example.com".to_owned()), None);
        assert_eq!(home.store.act(later).await.unwrap().unwrap(), ann);
        let known = home.store.person(&ann).await.unwrap().unwrap();
        assert_eq!((known.display_name(), known.email_verified), ("new@example.com", true));
        assert_eq!((known.first_seen_at, known.last_seen_at), (at(0), at(60)));

        let mut namesake = sign_in("ann", None, 70);
        "https://other.example".clone_into(&mut namesake.person.issuer);
        let namesake = home.store.act(namesake).await.unwrap().unwrap();
        assert_ne!(namesake, ann);
        assert_eq!(home.store.person(&ann).await.unwrap().unwrap().last_seen_at, at(60));
    }

    async fn pages_show_each_person_once_latest_first(home) {
        for number in 0..11 {
            home.store.act(sign_in(&format!("p{number}"), None, number / 3)).await.unwrap().unwrap();
        }
        let mut seen: Vec<(Moment, PersonId)> = Vec::new();
        loop {
            let page = home.store.people(seen.last(), 4).await.unwrap();
            if page.is_empty() {
                break;
            }
            seen.extend(page.into_iter().map(|person| (person.last_seen_at, person.id)));
        }
        assert_eq!(seen.len(), 11);
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    }

    /// A claim may hold any text that JSON can, and PostgreSQL takes no U+0000.
    async fn a_name_with_a_nul_does_not_keep_its_person_out(home) {
        let mut odd = sign_in("ann", None, 0);
        odd.person.name = Some("Ann\0".to_owned());
        let ann = home.store.act(odd).await.unwrap().unwrap();
        assert!(home.store.person(&ann).await.unwrap().unwrap().display_name().starts_with("Ann"));
    }
}
