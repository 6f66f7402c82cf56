//! Deny by default: every row of the route table, with no credential, a too-weak one and a right one.

use std::collections::BTreeSet;

use lokid::{
    domain::{identity::Access, scope::Scope},
    web::routes::{ROUTES, Route},
};
use reqwest::RequestBuilder;

use crate::door::{Anonymous, Answer, Client, Door, WithSession, answer};

/// An address that the pattern matches.
fn address(route: &Route) -> String {
    let fillings = [
        ("{id}", "tok-000000000000"),
        ("{code}", "x"),
        ("{name}", "app.css"),
        ("{kid}", "0123456789abcdef"),
        ("{step}", "remove"),
        ("{act}", "stop"),
        ("{seq}", "1"),
        ("{original:/.*}", "/x"),
    ];
    let filled = fillings.into_iter().fold(route.path.to_owned(), |path, (place, with)| path.replace(place, with));
    assert!(!filled.contains('{'), "{filled}: say with what to fill the pattern");
    filled
}

/// What a well-meant request to any door carries; the body is read by nobody who is refused.
fn body(route: &Route, request: RequestBuilder) -> RequestBuilder {
    match (route.method, route.path.starts_with("/api/")) {
        ("POST" | "PUT" | "PATCH", true) => request.json(&serde_json::json!({})),
        ("POST", false) => request.form(&[("csrf", "x")]),
        _ => request,
    }
}

async fn ask(who: &impl Client, route: &Route) -> Answer {
    let request = body(route, who.ask(route.method, &address(route)));
    if route.path != "/api/events" {
        return answer(request).await;
    }
    // This answer has no end, unless it is a refusal.
    let begun = request.send().await.unwrap();
    let (status, headers) = (begun.status().as_u16(), begun.headers().clone());
    let text = if status == 200 { String::new() } else { begun.text().await.unwrap() };
    Answer { status, headers, text }
}

/// Scopes that do not reach `scope`, as many as there are.
fn too_weak(scope: Scope) -> &'static str {
    match scope {
        Scope::All => "audit control write read",
        Scope::Control => "audit write read",
        Scope::Write => "audit read",
        Scope::Read => "audit",
        Scope::Audit => "control write read",
    }
}

async fn right_one(door: &Door, admin: &WithSession<'_>, route: &Route, scope: Option<Scope>) -> Answer {
    // Pages are for browsers; the API is for tokens.
    if route.path.starts_with("/api/") {
        let scopes = scope.map_or("read", Scope::as_str);
        return ask(&door.token(scopes).await, route).await;
    }
    let request = admin.ask(route.method, &address(route)).header("sec-fetch-site", "same-origin");
    answer(body(route, request)).await
}

/// Whether the answer comes from behind the check: a page, data, or a complaint about what was sent.
fn was_let_in(answer: &Answer) -> bool {
    match answer.status {
        200 | 201 | 404 | 409 | 422 => true,
        303 => !answer.header("location").starts_with("/login"),
        403 => answer.text.contains("the form is out of date"),
        _ => false,
    }
}

#[actix_web::test]
async fn every_door_asks_for_what_the_table_says() {
    let door = Door::open(&[("LOKI_LIMITS_BAD_CREDENTIALS", "off")]).await;
    let admin = door.person("ann", "admins").await;
    let weak_person = door.person("vic", "nobody").await;
    for route in ROUTES {
        let what = format!("{} {}", route.method, route.path);
        let without = ask(&Anonymous(&door), route).await;
        let scope = match route.needs {
            Access::Open => {
                assert!(!matches!(without.status, 401 | 405), "{what}: {}", without.status);
                continue;
            }
            Access::Credential => None,
            Access::Person => None,
            Access::Scope(scope) => Some(scope),
        };
        without.problem(401);
        assert_eq!(without.header("www-authenticate"), r#"Bearer realm="loki""#, "{what}");

        let denied_before = door.audit("permission.denied").await.len();
        let token = door.token(scope.map_or("*", too_weak)).await;
        match route.needs {
            Access::Scope(scope) => {
                let refused = ask(&token, route).await;
                refused.problem(403);
                let challenge = format!(r#"Bearer realm="loki", error="insufficient_scope", scope="{scope}""#);
                assert_eq!(refused.header("www-authenticate"), challenge, "{what}");
                if matches!(scope, Scope::All | Scope::Audit) {
                    let request =
                        weak_person.ask(route.method, &address(route)).header("sec-fetch-site", "same-origin");
                    let request = request.header("x-csrf-token", weak_person.csrf().await);
                    answer(body(route, request)).await.problem(403);
                }
            }
            Access::Person => {
                ask(&token, route).await.problem(403);
            }
            _ => {}
        }
        let denied = door.audit("permission.denied").await;
        if route.needs != Access::Credential {
            assert!(denied.len() > denied_before, "{what}: the refusal is not in the audit log");
            assert_eq!((denied[0].outcome.as_str(), denied[0].ip.as_deref()), ("denied", Some("127.0.0.1")), "{what}");
            assert!(denied[0].details.contains(&format!("\"{what}\"")), "{what}: {}", denied[0].details);
        }

        let let_in = right_one(&door, &admin, route, scope).await;
        assert!(was_let_in(&let_in), "{what}: {} {}", let_in.status, let_in.text);
    }
}

#[actix_web::test]
async fn what_is_not_in_the_table_is_closed() {
    let door = Door::open(&[]).await;
    let (nobody, holder) = (Anonymous(&door), door.token("*").await);
    let known: BTreeSet<&str> = ROUTES.iter().map(|r| r.path).collect();
    for path in ["/api", "/api/", "/api/x", "/api/me/", "/.env", "/static/", "/admin", "/metrics/"] {
        assert!(!known.contains(path));
        nobody.get(path).await.problem(404);
        holder.get(path).await.problem(404);
    }
}

#[actix_web::test]
async fn an_encoded_path_passes_the_same_check() {
    let door = Door::open(&[]).await;
    let (nobody, holder) = (Anonymous(&door), door.token("read").await);
    for path in ["/%61pi/me", "/api/%6de", "/api/enterprise%2ftokens", "//api/me", "/api/./me"] {
        let refused = nobody.get(path).await;
        assert!(matches!(refused.status, 401 | 404), "{path}: {}", refused.status);
    }
    assert_eq!(holder.get("/%61pi/me").await.status, 200);
    let head = answer(holder.ask("HEAD", "/api/me")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""), "HEAD asks for what GET asks for");
    assert_eq!(answer(Anonymous(&door).ask("HEAD", "/api/me")).await.status, 401);
    holder.get("/%61pi/enterprise/tokens").await.problem(403);
}

#[actix_web::test]
async fn another_method_is_405_and_names_those_that_there_are() {
    let door = Door::open(&[]).await;
    let paths: BTreeSet<&str> = ROUTES.iter().map(|r| r.path).collect();
    for path in paths {
        let route = ROUTES.iter().find(|r| r.path == path).unwrap();
        let refused = answer(Anonymous(&door).ask("PROPFIND", &address(route))).await;
        refused.problem(405);
        let allowed: Vec<&str> = ROUTES.iter().filter(|r| r.path == path).map(|r| r.method).collect();
        assert_eq!(refused.header("allow"), allowed.join(", ").replace("GET", "GET, HEAD"), "{path}");
    }
}
