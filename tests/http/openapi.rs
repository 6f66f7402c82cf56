//! `/openapi.json` and the route table say the same.

use std::collections::BTreeSet;

use lokid::web::routes::ROUTES;

use crate::door::{Anonymous, Client as _, Door};

/// Second names of documented doors.
const ALIASES: [&str; 6] =
    ["/api/enterprise/audit", "/api/tasks/create", "/health", "/live", "/ready", "/.well-known/pomerium/jwks.json"];

#[actix_web::test]
async fn every_api_route_is_documented_and_every_documented_route_exists() {
    let door = Door::open(&[]).await;
    let answer = Anonymous(&door).get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");

    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let is_api = |path: &str| {
        let is_below = ["/api/", "/.well-known/"].iter().any(|start| path.starts_with(start));
        is_below || path.ends_with('z') || ["/auth/assertion", "/metrics"].contains(&path)
    };
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .filter(|route| is_api(route.path) && !ALIASES.contains(&route.path))
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(documented, served);
}

#[actix_web::test]
async fn every_operation_names_its_credentials_unless_it_is_open() {
    let door = Door::open(&[]).await;
    let document = Anonymous(&door).get("/openapi.json").await.json();
    let all = serde_json::json!([{"token": []}, {"psk": []}, {"session": []}, {"certificate": []}]);
    assert_eq!(document["security"], all);
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let open =
                operation["security"].as_array().is_some_and(|list| list.iter().all(|s| s == &serde_json::json!({})));
            let is_open = path.ends_with('z') || path.starts_with("/.well-known/") || path == "/api/token/exchange";
            assert_eq!(open, is_open, "{path}");
            assert!(open || operation["responses"]["401"].is_object(), "{path} does not say 401");
        }
    }
}
