//! The way back from the provider: only the browser that began, once, in time, with an unambiguous answer.

use std::time::Duration;

use crate::{
    door::{Anonymous, Client as _, Door},
    provider::Script,
};

type Fault = (&'static str, fn(&mut Script));

const OFF: [(&str, &str); 2] = [("LOKI_LIMITS_SIGN_IN", "off"), ("LOKI_LIMITS_CALLBACK", "off")];

const PARAMETERS: [Fault; 11] = [
    ("iss of another", |s| s.answer[1].1 = "https://evil.example".into()),
    ("iss with a slash", |s| s.answer[1].1.push('/')),
    ("iss empty", |s| s.answer[1].1.clear()),
    ("iss missing", |s| drop(s.answer.remove(1))),
    ("iss twice", |s| s.answer.push(s.answer[1].clone())),
    ("error together with code", |s| s.answer.push(("error".into(), "access_denied".into()))),
    ("error alone", |s| s.answer[0] = ("error".into(), "access_denied".into())),
    ("code twice", |s| s.answer.push(s.answer[0].clone())),
    ("code missing", |s| drop(s.answer.remove(0))),
    ("code empty", |s| s.answer[0].1.clear()),
    ("state twice", |s| s.answer.push(("state".into(), "x".into()))),
];

#[actix_web::test]
async fn answers_with_wrong_missing_or_repeated_parameters_sign_nobody_in() {
    let door = Door::open(&OFF).await;
    for (what, change) in PARAMETERS {
        let calls = door.provider.calls("/token");
        door.provider.behave();
        door.provider.change(change);
        let refused = door.sign_in(&[]).await;
        refused.problem(400);
        assert_eq!((refused.cookie("loki_session"), refused.header("cache-control")), (None, "no-store"), "{what}");
        assert_eq!(door.provider.calls("/token"), calls, "{what}: the code was spent");
        door.provider.behave();
        assert_eq!(door.sign_in(&[]).await.status, 303, "{what}");
    }
    assert_eq!(door.audit("auth.oidc.fail").await.len(), PARAMETERS.len());
    assert_eq!(usize::try_from(door.live_sessions().await), Ok(PARAMETERS.len()));
}

#[actix_web::test]
async fn a_sign_in_belongs_to_its_browser_is_used_once_and_ends() {
    let door = Door::open(&OFF).await;
    let (url, cookie) = door.begin("").await;
    let query = door.consent(&url);
    let (_, other) = door.begin("").await;
    for (what, cookie) in
        [("another browser", other.as_str()), ("no cookie", "x=y"), ("twice", &format!("{cookie}; {cookie}"))]
    {
        door.come_back(&query, cookie, &[]).await.problem(400);
        assert_eq!(door.provider.calls("/token"), 0, "{what}");
    }
    let forged = query.replacen("state=", "state=A", 1);
    door.come_back(&forged, &cookie, &[]).await.problem(400);
    assert_eq!(door.come_back(&query, &cookie, &[]).await.status, 303);
    let calls = door.provider.calls("/token");
    door.come_back(&query, &cookie, &[]).await.problem(400);
    assert_eq!((door.provider.calls("/token"), door.live_sessions().await), (calls, 1), "a replay");

    for (late, status) in [(Duration::from_millis(599_999), 303), (Duration::from_mins(10), 400)] {
        door.provider.behave();
        let (url, cookie) = door.begin("").await;
        door.clock.advance(late);
        door.provider.behave();
        let query = door.consent(&url);
        assert_eq!(door.come_back(&query, &cookie, &[]).await.status, status, "{late:?}");
    }
}

#[actix_web::test]
async fn one_of_twenty_that_come_back_at_once_is_signed_in() {
    let door = Door::open(&OFF).await;
    let (url, cookie) = door.begin("").await;
    let query = door.consent(&url);
    let all = futures_util::future::join_all((0..20).map(|_| door.come_back(&query, &cookie, &[]))).await;
    assert_eq!(all.iter().filter(|a| a.status == 303).count(), 1);
    assert_eq!(door.live_sessions().await, 1);
}

#[actix_web::test]
async fn twenty_tabs_may_sign_in_at_once() {
    let door = Door::open(&OFF).await;
    let begun = futures_util::future::join_all((0..20).map(|_| door.begin(""))).await;
    let cookies: Vec<&str> = begun.iter().map(|(_, cookie)| cookie.as_str()).collect();
    let all = cookies.join("; ");
    for (url, _) in begun.iter().rev() {
        door.provider.behave();
        let query = door.consent(url);
        assert_eq!(door.come_back(&query, &all, &[]).await.status, 303);
    }
    assert_eq!(door.live_sessions().await, 20);
}

#[actix_web::test]
async fn a_browser_does_not_fill_up_with_unfinished_sign_ins() {
    let door = Door::open(&OFF).await;
    let begun = futures_util::future::join_all((0..35).map(|_| door.begin(""))).await;
    let cookies: Vec<&str> = begun.iter().map(|(_, cookie)| cookie.as_str()).collect();
    let request = Anonymous(&door).ask("GET", "/auth/oidc/login").header("cookie", cookies.join("; "));
    let answer = crate::door::answer(request).await;
    let lines = answer.headers.get_all("set-cookie").iter().filter_map(|v| v.to_str().ok());
    assert_eq!(lines.filter(|line| line.contains("Max-Age=0")).count(), 5);
}

#[actix_web::test]
async fn a_sign_in_ends_the_session_that_the_browser_had() {
    let door = Door::open(&OFF).await;
    let before = door.person("ann", "admins").await;
    let (url, cookie) = door.begin("").await;
    door.provider.behave();
    let query = door.consent(&url);
    let come = door.come_back(&query, &format!("{cookie}; {}", before.cookie), &[]).await;
    assert_eq!(come.status, 303, "{}", come.text);
    assert_eq!(before.get("/api/me").await.status, 401);
    assert_eq!(door.session_of(&come).get("/api/me").await.status, 200);
    assert_eq!(door.live_sessions().await, 1);
}

#[actix_web::test]
async fn nobody_is_led_off_to_another_place() {
    let door = Door::open(&OFF).await;
    for evil in [
        "//evil.example",
        "/%5Cevil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
        "%2F%2Fevil.example",
        "/..//evil.example",
    ] {
        Anonymous(&door).get(&format!("/auth/oidc/login?return_to={evil}")).await.problem(422);
    }
    let (url, cookie) = door.begin("?return_to=/audit%3Fevent%3Dauth.fail").await;
    let query = door.consent(&url);
    assert_eq!(door.come_back(&query, &cookie, &[]).await.header("location"), "/audit?event=auth.fail");
}

#[actix_web::test]
async fn an_unverified_address_gives_no_role() {
    let mapping = ("LOKI_RBAC_OIDC_ROLE_MAPPING", "{boss@example.org: admin}");
    let door = Door::open(&[mapping, ("LOKI_OIDC_USERINFO", "always")]).await;
    let role = async |change: fn(&mut Script)| {
        door.provider.behave();
        door.provider.change(|s| s.claims["email"] = "boss@example.org".into());
        door.provider.change(change);
        let come = door.sign_in(&[]).await;
        door.session_of(&come).get("/api/me").await.json()["role"].as_str().unwrap().to_owned()
    };
    assert_eq!(role(|_| {}).await, "admin");
    assert_eq!(role(|s| drop(s.claims.as_object_mut().unwrap().remove("email_verified"))).await, "viewer");
    assert_eq!(role(|s| s.claims["email_verified"] = false.into()).await, "viewer");
    let borrowed = |s: &mut Script| {
        s.claims.as_object_mut().unwrap().remove("email_verified");
        s.userinfo = serde_json::json!({"sub": "ann", "email": "ann@example.org", "email_verified": true});
    };
    assert_eq!(role(borrowed).await, "viewer", "one address was verified with the word for another");
}
