//! Requests that another site makes a browser send do not act.

use serde_json::json;

use crate::door::{Anonymous, Client as _, Door, WithSession, answer};

async fn make(who: &WithSession<'_>, headers: &[(&str, &str)]) -> u16 {
    let mut request = who.ask("POST", "/api/enterprise/tokens");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let status = answer(request.json(&json!({"name": "n", "scopes": ["read"]}))).await.status;
    if status == 201 {
        let gone = who.ask("DELETE", "/api/enterprise/tokens/n").header("x-csrf-token", who.csrf().await);
        assert_eq!(answer(gone).await.status, 200);
    }
    status
}

#[actix_web::test]
async fn the_api_acts_by_cookie_only_for_our_own_pages() {
    let door = Door::open(&[]).await;
    let ann = door.person("ann", "admins").await;
    let (csrf, other) = (ann.csrf().await, door.person("bob", "admins").await.csrf().await);
    let (token, own) = (("x-csrf-token", csrf.as_str()), format!("http://localhost:{}", door.port));
    for headers in [
        &[][..],
        &[("x-csrf-token", "x")],
        &[("x-csrf-token", &other)],
        &[("sec-fetch-site", "same-origin")],
        &[token, ("sec-fetch-site", "cross-site")],
        &[token, ("sec-fetch-site", "same-site")],
        &[token, ("sec-fetch-site", "cross-site"), ("origin", &own)],
        &[token, ("origin", "https://evil.example")],
        &[token, ("origin", "null")],
        &[token, ("origin", &format!("{own}.evil.example"))],
        &[token, ("origin", &own), ("origin", &own)],
    ] {
        assert_eq!(make(&ann, headers).await, 403, "{headers:?}");
    }
    assert!(door.audit("auth.token.create").await.is_empty());
    for headers in [
        &[token][..],
        &[token, ("origin", &own)],
        &[token, ("sec-fetch-site", "same-origin")],
        &[token, ("sec-fetch-site", "none")],
    ] {
        assert_eq!(make(&ann, headers).await, 201, "{headers:?}");
    }
}

#[actix_web::test]
async fn a_forms_media_type_is_no_way_around_the_token() {
    let door = Door::open(&[]).await;
    let (ann, victim) = (door.person("ann", "admins").await, door.token("read").await);
    let path = format!("/api/enterprise/tokens/{}", victim.id);
    for kind in ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded2"] {
        answer(ann.ask("DELETE", &path).header("content-type", kind)).await.problem(403);
    }
    assert_eq!(victim.get("/api/me").await.status, 200);
    let with = ann.ask("DELETE", &path).header("x-csrf-token", ann.csrf().await);
    assert_eq!(answer(with).await.status, 200);
    assert_eq!(victim.get("/api/me").await.status, 401);
}

#[actix_web::test]
async fn pages_act_only_for_their_own_forms() {
    let door = Door::open(&[]).await;
    let ann = door.person("ann", "admins").await;
    let csrf = ann.csrf().await;
    let send = async |token: &str, header: (&'static str, &'static str)| {
        let form = [("csrf", token), ("name", "n"), ("scopes", "read")];
        answer(ann.ask("POST", "/tokens").header(header.0, header.1).form(&form)).await.status
    };
    for header in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "null"),
        ("origin", "https://evil.example"),
    ] {
        assert_eq!(send(&csrf, header).await, 403, "{header:?}");
    }
    assert_eq!(send("", ("sec-fetch-site", "same-origin")).await, 403);
    assert_eq!(send("x", ("sec-fetch-site", "same-origin")).await, 403);
    assert!(door.audit("auth.token.create").await.is_empty());
    assert_eq!(send(&csrf, ("sec-fetch-site", "same-origin")).await, 201);
}

#[actix_web::test]
async fn an_open_door_acts_for_no_other_site_either() {
    let door = Door::open(&[("LOKI_ENTERPRISE_AUTH", "false")]).await;
    let token = door.token("read").await;
    let path = format!("/api/enterprise/tokens/{}/rotate", token.id);
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        answer(Anonymous(&door).ask("POST", &path).header(name, value)).await.problem(403);
    }
    assert!(door.audit("auth.token.rotate").await.is_empty());
    assert_eq!(answer(Anonymous(&door).ask("POST", &path)).await.status, 201, "a program on this machine");
}
