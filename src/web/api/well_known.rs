//! What verifiers of our assertions read: the key set and where it is.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, ETAG, IF_NONE_MATCH},
    web::Data,
};
use serde_json::json;

use crate::{domain::scope::Scope, keys::sign::SigningKey, web::Web};

/// Verifiers may keep the key set this long. A key is published at least as long before it signs.
const KEEP: &str = "public, max-age=60";

/// The published key set; `{"keys":[]}` while the key is ephemeral.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "verifiers", security(()), responses((status = 200), (status = 304)))]
pub(in crate::web) async fn jwks(web: Data<Web>, req: HttpRequest) -> HttpResponse {
    let ring = web.app.keys.load();
    let same = req.headers().get(IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == ring.etag().as_bytes());
    let mut answer = if same { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header((CACHE_CONTROL, KEEP))
        .insert_header((ETAG, ring.etag()))
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
    if same { answer.finish() } else { answer.content_type("application/json").body(ring.jwks().to_owned()) }
}

/// What automation needs to know to come in (RFC 9728): whose tokens are taken, and how.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource", tag = "verifiers", security(()), responses((status = 200)))]
pub(in crate::web) async fn protected_resource(web: Data<Web>) -> HttpResponse {
    let own = web.app.settings.server.public_url.as_str().trim_end_matches('/');
    let issuers: Vec<&str> = web.app.settings.auth.issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
    let mut metadata = json!({
        "resource": own,
        "bearer_methods_supported": ["header"],
        "scopes_supported": Scope::EVERY.map(Scope::as_str),
        "resource_name": "lokid",
    });
    // RFC 9728 §3.2: a list without entries is left out.
    if !issuers.is_empty() {
        metadata["authorization_servers"] = json!(issuers);
    }
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, KEEP))
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .json(metadata)
}

/// Discovery for verifiers: lokid vouches for people, it is no provider to sign in with.
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "verifiers", security(()), responses((status = 200)))]
pub(in crate::web) async fn openid_configuration(web: Data<Web>) -> HttpResponse {
    let ring = web.app.keys.load();
    let mut algorithms: Vec<_> = ring.keys().iter().map(SigningKey::alg).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let issuer = web.app.settings.server.public_url.as_str().trim_end_matches('/');
    HttpResponse::Ok().insert_header((CACHE_CONTROL, KEEP)).insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*")).json(
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            "id_token_signing_alg_values_supported": algorithms,
            "subject_types_supported": ["public"],
            "response_types_supported": [],
        }),
    )
}
