//! Signing out: here, everywhere, and from the provider behind the browser's back.

use std::time::Duration;

use lokid::store::sessions::Sweep;
use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Answer, Client as _, Door, answer},
    provider::{Sign, jws},
};

const BACK: &str = "/auth/oidc/backchannel-logout";
const OFF: [(&str, &str); 2] = [("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off")];

async fn tell(door: &Door, header: &Value, claims: &Value, sign: Sign) -> Answer {
    let form = [("logout_token", jws(header, claims, sign))];
    let told = answer(Anonymous(door).ask("POST", BACK).form(&form)).await;
    assert_eq!(told.header("cache-control"), "no-store");
    told
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "main", "typ": "logout+jwt"})
}

type Fault = (&'static str, fn(&mut Value, &mut Value));

fn remove(value: &mut Value, name: &str) {
    value.as_object_mut().unwrap().remove(name);
}

fn add(value: &mut Value, name: &str, seconds: i64) {
    value[name] = (value[name].as_i64().unwrap() + seconds).into();
}

const REFUSED: [Fault; 27] = [
    ("iss of another", |_, c| c["iss"] = json!("https://evil.example")),
    ("iss missing", |_, c| remove(c, "iss")),
    ("iss in an array", |_, c| c["iss"] = json!([c["iss"]])),
    ("aud of another", |_, c| c["aud"] = json!("another")),
    ("aud missing", |_, c| remove(c, "aud")),
    ("iat missing", |_, c| remove(c, "iat")),
    ("iat ahead", |_, c| add(c, "iat", 3600)),
    ("iat two days ago", |_, c| add(c, "iat", -2 * 86_400)),
    ("exp missing", |_, c| remove(c, "exp")),
    ("exp over", |_, c| add(c, "exp", -3600)),
    ("exp a text", |_, c| c["exp"] = json!("4000000000")),
    ("nbf ahead", |_, c| c["nbf"] = json!(c["iat"].as_i64().unwrap() + 3600)),
    ("jti missing", |_, c| remove(c, "jti")),
    ("jti a number", |_, c| c["jti"] = json!(7)),
    ("events missing", |_, c| remove(c, "events")),
    ("events of another kind", |_, c| c["events"] = json!({"http://schemas.openid.net/event/other": {}})),
    ("events in an array", |_, c| c["events"] = json!(["http://schemas.openid.net/event/backchannel-logout"])),
    ("a nonce, as an ID token has", |_, c| c["nonce"] = json!("n")),
    ("neither sub nor sid", |_, c| {
        remove(c, "sub");
        remove(c, "sid");
    }),
    ("sub a number", |_, c| c["sub"] = json!(7)),
    ("sid in an array", |_, c| c["sid"] = json!(["sid-of-ann"])),
    ("sid empty", |_, c| c["sid"] = json!("")),
    ("typ at+jwt", |h, _| h["typ"] = json!("at+jwt")),
    ("typ dpop+jwt", |h, _| h["typ"] = json!("dpop+jwt")),
    ("crit", |h, _| h["crit"] = json!(["x"])),
    ("alg none", |h, _| h["alg"] = json!("none")),
    ("an unknown kid", |h, _| h["kid"] = json!("unknown")),
];

#[actix_web::test]
async fn logout_tokens_that_are_not_right_are_400_and_end_nothing() {
    let door = Door::open(&OFF).await;
    let ann = door.person("ann", "admins").await;
    let good = |jti: &str| {
        let mut claims = door.provider.logout_claims(jti);
        claims["sid"] = json!("sid-of-ann");
        claims
    };
    for (what, change) in REFUSED {
        let (mut header, mut claims) = (header(), good(what));
        change(&mut header, &mut claims);
        assert_eq!(tell(&door, &header, &claims, Sign::Main).await.status, 400, "{what}");
    }
    for sign in [Sign::Other, Sign::Nothing, Sign::HmacOfPublic, Sign::Broken] {
        assert_eq!(tell(&door, &header(), &good("x"), sign).await.status, 400, "{sign:?}");
    }
    let two = jws(&header(), &good("x"), Sign::Main);
    for form in [vec![], vec![("logout_token", two.as_str()); 2], vec![("logout_token", "")], vec![("token", &two)]] {
        assert_eq!(answer(Anonymous(&door).ask("POST", BACK).form(&form)).await.status, 400);
    }
    let as_json = answer(Anonymous(&door).ask("POST", BACK).json(&json!({"logout_token": two}))).await;
    assert_eq!((as_json.status, as_json.header("cache-control")), (400, "no-store"));
    assert_eq!((door.live_sessions().await, ann.get("/api/me").await.status), (1, 200));
    assert!(door.audit("auth.fail").await.len() >= REFUSED.len());

    let done = tell(&door, &header(), &good("good"), Sign::Main).await;
    assert_eq!((done.status, done.text.as_str()), (200, ""));
    assert_eq!((door.live_sessions().await, ann.get("/api/me").await.status), (0, 401));
    let ended = &door.audit("auth.logout").await[0];
    assert_eq!((ended.actor_kind.as_str(), ended.reason.as_str()), ("provider", "back_channel"));
}

#[actix_web::test]
async fn a_logout_token_ends_the_sessions_that_it_names_and_works_once() {
    let door = Door::open(&OFF).await;
    let (ann, bob) = (door.person("ann", "admins").await, door.person("bob", "nobody").await);
    let named = |jti: &str, sub: Option<&str>, sid: Option<&str>| {
        let mut claims = door.provider.logout_claims(jti);
        (claims["sub"], claims["sid"]) = (json!(sub), json!(sid));
        let absent = |name: &str| claims[name].is_null();
        let gone: Vec<&str> = ["sub", "sid"].into_iter().filter(|n| absent(n)).collect();
        gone.into_iter().for_each(|name| remove(&mut claims, name));
        claims
    };
    let mut no_typ = header();
    remove(&mut no_typ, "typ");
    assert_eq!(tell(&door, &no_typ, &named("1", Some("ann"), Some("sid-of-bob")), Sign::Main).await.status, 200);
    assert_eq!(door.live_sessions().await, 2, "sub and sid are of two sessions");
    assert_eq!(tell(&door, &header(), &named("2", None, Some("sid-of-ann")), Sign::Main).await.status, 200);
    assert_eq!((ann.get("/api/me").await.status, bob.get("/api/me").await.status), (401, 200));
    assert_eq!(
        tell(&door, &header(), &named("3", None, Some("sid-of-ann")), Sign::Main).await.status,
        200,
        "gone already"
    );

    let (first, second) = (door.person("bob", "nobody").await, door.person("bob", "nobody").await);
    let all_of_bob = named("4", Some("bob"), None);
    assert_eq!(tell(&door, &header(), &all_of_bob, Sign::Main).await.status, 200);
    for browser in [&bob, &first, &second] {
        assert_eq!(browser.get("/api/me").await.status, 401);
    }
    let again = door.person("bob", "nobody").await;
    assert_eq!(tell(&door, &header(), &all_of_bob, Sign::Main).await.status, 400, "its jti was used");
    assert_eq!(again.get("/api/me").await.status, 200);
    assert_eq!(tell(&door, &header(), &named("5", Some("bob"), None), Sign::Main).await.status, 200);
    assert_eq!(again.get("/api/me").await.status, 401);
}

#[actix_web::test]
async fn a_used_logout_token_does_not_work_again_after_its_jti_is_forgotten() {
    let door = Door::open(&OFF).await;
    let mut claims = door.provider.logout_claims("long");
    (claims["sub"], claims["sid"]) = (json!("ann"), json!("sid-of-ann"));
    add(&mut claims, "exp", 30 * 86_400);
    door.person("ann", "admins").await;
    assert_eq!(tell(&door, &header(), &claims, Sign::Main).await.status, 200);
    door.clock.advance(Duration::from_hours(25));
    let now = door.clock.now();
    door.app.store.act(Sweep { now, sessions_before: lokid::domain::time::Moment::from_millis(0) }).await.unwrap();
    let ann = door.person("ann", "admins").await;
    assert_eq!(tell(&door, &header(), &claims, Sign::Main).await.status, 400);
    assert_eq!(ann.get("/api/me").await.status, 200);
}

#[actix_web::test]
async fn another_sites_image_signs_nobody_out() {
    let door = Door::open(&OFF).await;
    let ann = door.person("ann", "admins").await;
    let get = async |site: &str, mode: &str, more: (&'static str, &'static str)| {
        let request = ann.ask("GET", "/auth/logout").header("sec-fetch-site", site).header("sec-fetch-mode", mode);
        answer(request.header(more.0, more.1)).await
    };
    let none = ("x-none", "");
    for (site, mode, more) in [
        ("cross-site", "no-cors", none),
        ("cross-site", "navigate", none),
        ("same-site", "navigate", none),
        ("same-origin", "no-cors", none),
        ("none", "navigate", ("sec-purpose", "prefetch")),
    ] {
        let page = get(site, mode, more).await;
        assert_eq!((page.status, page.cookie("loki_session")), (200, None), "{site} {mode}");
        assert!(page.text.contains("<form method=\"post\" action=\"/auth/logout\""), "{}", page.text);
    }
    assert_eq!(ann.get("/auth/logout").await.status, 200, "a program without Fetch Metadata gets the page too");
    let form = [("csrf", ann.csrf().await)];
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")] {
        answer(ann.ask("POST", "/auth/logout").header(name, value).form(&form)).await.problem(403);
    }
    answer(ann.ask("POST", "/auth/logout").form(&[("csrf", "x")])).await.problem(403);
    assert_eq!(ann.get("/api/me").await.status, 200);

    let out = get("none", "navigate", none).await;
    assert_eq!(out.status, 303);
    assert!(out.header("location").starts_with(&format!("{}/end?id_token_hint=", door.provider.issuer())));
    assert_eq!(ann.get("/api/me").await.status, 401);
    assert_eq!(door.audit("auth.logout").await.len(), 1);
}

#[actix_web::test]
async fn signing_out_by_form_ends_this_session_and_everywhere_ends_all() {
    let door = Door::open(&OFF).await;
    let (one, two) = (door.person("ann", "admins").await, door.person("ann", "admins").await);
    let bob = door.person("bob", "admins").await;
    let out = one.submit("/auth/logout", &[]).await;
    assert_eq!(out.status, 303);
    assert_eq!((one.get("/api/me").await.status, two.get("/api/me").await.status), (401, 200));
    let three = door.person("ann", "admins").await;
    assert_eq!(two.submit("/account/end-everywhere", &[]).await.status, 303);
    for browser in [&two, &three] {
        assert_eq!(browser.get("/api/me").await.status, 401);
    }
    assert_eq!(bob.get("/api/me").await.status, 200);
}

#[actix_web::test]
async fn a_session_ends_when_it_idles_and_after_its_absolute_life() {
    let door = Door::open(&OFF).await;
    let (idle, busy) = (door.person("ann", "admins").await, door.person("bob", "admins").await);
    for _ in 0..11 {
        door.clock.advance(Duration::from_hours(1));
        assert_eq!(busy.get("/api/me").await.status, 200);
    }
    assert_eq!(idle.get("/api/me").await.status, 401);
    door.clock.advance(Duration::from_hours(1));
    assert_eq!(busy.get("/api/me").await.status, 401);
}

#[actix_web::test]
async fn a_logout_token_that_reaches_one_node_ends_the_session_on_every_node() {
    let Some(database) = crate::postgres::fresh_database().await else { return };
    let shared =
        [("LOKI_DATABASE_URL", database.as_str()), ("LOKI_SERVER_SECRET", "of both nodes, 32 characters or more")];
    let a = Door::open(&[&shared[..], &OFF, &[("LOKI_CLUSTER_NODE", "a")]].concat()).await;
    let of_b = [("LOKI_CLUSTER_NODE", "b"), ("LOKI_OIDC_ISSUER", a.provider.issuer())];
    let b = Door::open(&[&shared[..], &OFF, &of_b].concat()).await;
    let ann = a.person("ann", "operators").await;
    let at_b = crate::door::WithSession { door: &b, cookie: ann.cookie.clone() };
    assert_eq!((ann.get("/api/me").await.status, at_b.get("/api/me").await.status), (200, 200));
    let mut claims = a.provider.logout_claims("once for all nodes");
    claims["sid"] = json!("sid-of-ann");
    let told = tell(&b, &header(), &claims, Sign::Main).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while ann.get("/api/me").await.status != 401 {
        assert!(std::time::Instant::now() < deadline, "the session goes on");
    }
    assert_eq!(at_b.get("/api/me").await.status, 401);
}
