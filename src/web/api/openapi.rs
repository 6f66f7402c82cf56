//! `/openapi.json`, generated from the handlers.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::StatusCode};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    openapi::{RefOr, path::Operation},
};

use super::{
    audit, certificates, events, evidence, exchange, explain, health, me, metrics, review, run_reports, runs, status,
    tasks, tokens, well_known,
};
use crate::web::apps;

#[derive(OpenApi)]
#[openapi(
    info(title = "lokid", description = "Scoped tokens, sign-in and the audit log at a team's door"),
    paths(
        me::me,
        status::status,
        metrics::show,
        tokens::create,
        tokens::list,
        tokens::show,
        tokens::revoke,
        tokens::rotate,
        exchange::exchange,
        explain::explain,
        audit::list,
        audit::summary,
        audit::verify,
        runs::start,
        runs::stop,
        runs::pause,
        runs::resume,
        runs::list,
        runs::create,
        runs::show,
        runs::cancel,
        runs::replay,
        run_reports::timeline,
        run_reports::progress,
        run_reports::logs,
        events::follow,
        evidence::export,
        evidence::keys,
        review::access,
        review::tokens,
        review::changes,
        tasks::list,
        tasks::create,
        tasks::show,
        tasks::change,
        tasks::shift,
        tasks::delete,
        certificates::obtain,
        certificates::renew,
        certificates::list_as_pem,
        certificates::list_as_der,
        health::live,
        health::ready,
        well_known::jwks,
        well_known::openid_configuration,
        well_known::protected_resource,
        apps::fetch,
    ),
    security(("token" = []), ("psk" = []), ("session" = []), ("certificate" = [])),
    modifiers(&Credentials)
)]
struct Document;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let token =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("loki_…, or a configured issuer's JWT");
        let token = token.build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let psk = ApiKeyValue::with_description("Authorization", "APIKey and a pre-shared key");
        components.add_security_scheme("psk", SecurityScheme::ApiKey(ApiKey::Header(psk)));
        let cookie = ApiKeyValue::with_description("__Host-loki_session", "A signed-in browser");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let certificate = SecurityScheme::MutualTls {
            description: Some("A client certificate that a rule knows".into()),
            deprecated: None,
            extensions: None,
        };
        components.add_security_scheme("certificate", certificate);
        for item in document.paths.paths.values_mut() {
            let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
            methods.into_iter().flatten().for_each(describe);
        }
    }
}

/// Every response needs a description (OpenAPI 3.1 §4.8.17); the status says it.
fn describe(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let reason = status.parse().ok().and_then(|code: StatusCode| code.canonical_reason());
        if let (RefOr::T(response), Some(reason)) = (response, reason)
            && response.description.is_empty()
        {
            response.description = reason.into();
        }
    }
}

static JSON: LazyLock<String> = LazyLock::new(|| Document::openapi().to_pretty_json().expect("the document is JSON"));

pub(in crate::web) async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header(("access-control-allow-origin", "*"))
        .insert_header(("cache-control", "public, max-age=60"))
        .body(JSON.as_str())
}
