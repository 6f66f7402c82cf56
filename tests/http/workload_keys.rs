//! An issuer's keys: kept as long as they may be, read again when they are old or a token names another, and never at
//! the pace of whoever sends tokens.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    door::{Client as _, Door},
    issuer::{COOL_DOWN, Issuer, Key, Says, claims, header, signed, token},
    workload::{AUDIENCE, bearer, plain_door},
};

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn good(issuer: &Issuer, door: &Door, key: Key) -> String {
    token(&claims(&issuer.origin, AUDIENCE, "somebody", &door.clock), key)
}

fn unknown(issuer: &Issuer, door: &Door, n: usize) -> String {
    let mut header = header(Key::Stranger);
    header["kid"] = json!(format!("kid-{n}"));
    signed(&header, &claims(&issuer.origin, AUDIENCE, &format!("stranger-{n}"), &door.clock), Key::Stranger)
}

async fn passes(door: &Door, jwt: &str) -> bool {
    door.app.authn.by_jwt(jwt, HERE).await.is_ok()
}

#[actix_web::test]
async fn a_storm_of_unknown_keys_costs_two_looks_a_cool_down_and_holds_nobody_up() {
    for says in [Says::Keys, Says::Status(500), Says::Text(r#"{"keys":[]}"#.into()), Says::Hang] {
        let (issuer, door) = plain_door().await;
        assert!(passes(&door, &good(&issuer, &door, Key::P256)).await);
        door.clock.advance(COOL_DOWN);
        issuer.keys_say(says.clone());
        let before = issuer.fetches();
        let strangers: Vec<String> = (0..1000).map(|n| unknown(&issuer, &door, n)).collect();
        let storm = join_all(strangers.iter().map(|jwt| passes(&door, jwt)));
        let friends = async {
            let mut slowest = Duration::ZERO;
            for n in 0..200 {
                let mut own = claims(&issuer.origin, AUDIENCE, "friend", &door.clock);
                own["jti"] = json!(n);
                let jwt = token(&own, Key::P256);
                let began = Instant::now();
                assert!(passes(&door, &jwt).await, "{says:?}");
                slowest = slowest.max(began.elapsed());
                tokio::task::yield_now().await;
            }
            slowest
        };
        let (let_in, slowest) = futures_util::future::join(storm, friends).await;
        assert!(let_in.into_iter().all(|passes| !passes), "{says:?}");
        // A hanging key set holds those up who wait for it, for two seconds; not those whose key is known.
        assert!(slowest < Duration::from_secs(1), "{says:?}: {slowest:?}");
        assert!(issuer.fetches() - before <= 2, "{says:?}: {} looks", issuer.fetches() - before);
        let later = issuer.fetches();
        door.clock.advance(COOL_DOWN);
        for n in 0..50 {
            assert!(!passes(&door, &unknown(&issuer, &door, 2000 + n)).await);
        }
        assert!(issuer.fetches() - later <= 2, "{says:?}: {} looks later", issuer.fetches() - later);
        assert!(passes(&door, &good(&issuer, &door, Key::Ed25519)).await, "{says:?}: good keys were lost");
    }
}

#[actix_web::test]
async fn a_new_key_is_found_by_its_first_token_and_a_removed_one_is_good_no_more() {
    let (issuer, door) = plain_door().await;
    issuer.publish(json!([Key::P256.jwk()]));
    let old = good(&issuer, &door, Key::P256);
    assert!(passes(&door, &old).await && passes(&door, &old).await);
    issuer.publish(json!([Key::Ed25519.jwk()]));
    assert!(passes(&door, &good(&issuer, &door, Key::Ed25519)).await, "the new key is looked for at once");
    assert_eq!(issuer.fetches(), 2);
    assert!(!passes(&door, &old).await, "what was verified with a key that is gone is not remembered");
    assert_eq!(bearer(&door, &old).get("/api/me").await.status, 401);
    assert!(passes(&door, &good(&issuer, &door, Key::Ed25519)).await);
}

#[actix_web::test]
async fn a_removed_key_ends_with_the_time_that_the_issuer_allows_for_keeping_it() {
    for (cache_control, kept) in [
        ("max-age=1", Duration::from_mins(15)),
        ("no-store", Duration::from_mins(15)),
        ("public, max-age=7200", Duration::from_hours(2)),
        ("", Duration::from_hours(1)),
        ("max-age=31536000", Duration::from_hours(7 * 24)),
    ] {
        let (issuer, door) = plain_door().await;
        issuer.cache_control(cache_control);
        issuer.publish(json!([Key::P256.jwk(), Key::Rsa.jwk()]));
        let of = |key: Key| {
            let mut claims = claims(&issuer.origin, AUDIENCE, "s", &door.clock);
            claims["exp"] = json!(door.clock.now().seconds() + 30 * 86_400);
            token(&claims, key)
        };
        let jwt = of(Key::P256);
        assert!(passes(&door, &jwt).await);
        issuer.publish(json!([Key::Rsa.jwk()]));
        door.clock.advance(kept * 79 / 100);
        assert!(passes(&door, &jwt).await, "{cache_control}");
        assert_eq!(issuer.fetches(), 1, "{cache_control}: read again too early");
        door.clock.advance(kept * 22 / 100);
        assert!(!passes(&door, &jwt).await, "{cache_control}");
        assert!(passes(&door, &of(Key::Rsa)).await, "{cache_control}");
    }
}

#[actix_web::test]
async fn failed_and_empty_looks_do_not_cost_the_good_keys_and_are_made_up_for() {
    let (issuer, door) = plain_door().await;
    assert!(passes(&door, &good(&issuer, &door, Key::P256)).await);
    for says in
        [Says::Status(404), Says::Text(r#"{"keys":[]}"#.into()), Says::Text("[]".into()), Says::Huge, Says::Redirect]
    {
        issuer.keys_say(says.clone());
        issuer.publish(json!([Key::P256.jwk()]));
        for _ in 0..3 {
            door.clock.advance(Duration::from_hours(2));
            assert!(passes(&door, &good(&issuer, &door, Key::P256)).await, "{says:?}");
        }
        issuer.keys_say(Says::Keys);
        issuer.publish(json!([Key::P256.jwk(), Key::P384.jwk()]));
        door.clock.advance(COOL_DOWN);
        assert!(passes(&door, &good(&issuer, &door, Key::P384)).await, "{says:?}: the new key was not found");
    }
}

#[actix_web::test]
async fn what_is_remembered_ends_with_the_token_and_with_any_right_that_is_lost() {
    let (issuer, door) = plain_door().await;
    let jwt = good(&issuer, &door, Key::P256);
    // Nothing is remembered until the store hears of others.
    while door.app.store.rights().epoch().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(passes(&door, &jwt).await);
    assert!(door.app.authn.by_known_jwt(&jwt).is_some());
    let admin = door.token("*").await;
    let gone = door.token("read").await;
    let revoked = crate::door::answer(admin.ask("DELETE", &format!("/api/enterprise/tokens/{}", gone.id))).await;
    assert_eq!(revoked.status, 200);
    assert!(door.app.authn.by_known_jwt(&jwt).is_none(), "an entry of before a revocation is not used");
    assert!(passes(&door, &jwt).await);
    door.clock.advance(Duration::from_secs(359));
    assert!(passes(&door, &jwt).await);
    door.clock.advance(Duration::from_secs(1));
    assert!(door.app.authn.by_known_jwt(&jwt).is_none());
    assert!(!passes(&door, &jwt).await);
}
