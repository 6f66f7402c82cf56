//! The table of all doors and what each asks for. The server is configured from it and a test walks every
//! row with no credential, a too-weak one and a right one.

use actix_web::{HttpRequest, HttpResponse, guard, http::Method, middleware::from_fn, web};

use super::{Web, api, apps, assets, front, pages, problem::Problem, session_store};
use crate::domain::{
    identity::Access::{self, Credential, Open, Person, Scope},
    scope::Scope::{All, Audit, Control, Read, Write},
};

/// One door.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The pattern of its path.
    pub path: &'static str,
    /// What it asks of whoever comes.
    pub needs: Access,
}

macro_rules! routes {
    ($($path:literal { $($method:ident $handler:expr, $needs:expr;)+ })+) => {
        /// Every door of the server.
        pub const ROUTES: &[Route] =
            &[$($(Route { method: stringify!($method), path: $path, needs: $needs }),+),+];

        /// The pattern of every path, once.
        pub(super) const PATTERNS: &[&str] = &[$($path),+];

        /// Opens them. What is not among them is 404, another method 405.
        pub(super) fn configure(config: &mut web::ServiceConfig, shared: &Web) {
            let mut numbers = 0..;
            $(
                let allow = [$(stringify!($method)),+].join(", ").replace("GET", "GET, HEAD");
                let resource = web::resource($path)
                    .app_data(Number(numbers.next().unwrap_or_default()))
                    $(.route(route(stringify!($method)).to($handler)))+
                    .default_service(web::to(move || wrong_method(allow.clone())));
                // No middleware where none is needed: even one that is switched off costs allocations.
                let peers = || from_fn(front::count_peer);
                let sessions = || session_store::middleware(shared);
                match (begins_or_ends_sessions($path), is_open($path)) {
                    (true, true) => config.service(resource.wrap(sessions()).wrap(peers())),
                    (true, false) => config.service(resource.wrap(sessions())),
                    (false, true) => config.service(resource.wrap(peers())),
                    (false, false) => config.service(resource),
                };
            )+
            let unknown = web::to(|| async { Err::<HttpResponse, _>(Problem::not_found()) });
            config.service(web::scope("").wrap(from_fn(front::count_peer)).default_service(unknown));
        }
    };
}

// Tried in this order: automation comes first, and before any pattern that needs more than a comparison.
routes! {
    "/api/me" { GET api::me::me, Credential; }
    "/auth/verify" { GET apps::verify, Open; }
    "/api/status" { GET api::status::status, Scope(Read); }
    "/metrics" { GET api::metrics::show, Scope(Read); }
    "/api/enterprise/tokens" { GET api::tokens::list, Scope(All); POST api::tokens::create, Scope(All); }
    "/api/enterprise/tokens/{id}" { GET api::tokens::show, Scope(All); DELETE api::tokens::revoke, Scope(All); }
    "/api/enterprise/tokens/{id}/rotate" { POST api::tokens::rotate, Scope(All); }
    "/api/token/exchange" { POST api::exchange::exchange, Open; }
    "/api/explain-token" { POST api::explain::explain, Scope(All); }
    "/api/audit" { GET api::audit::list, Scope(Audit); }
    "/api/enterprise/audit" { GET api::audit::list, Scope(Audit); }
    "/api/audit/summary" { GET api::audit::summary, Scope(Audit); }
    "/api/audit/verify" { GET api::audit::verify, Scope(Audit); }
    "/api/control/start" { POST api::runs::start, Scope(Control); }
    "/api/control/stop" { POST api::runs::stop, Scope(Control); }
    "/api/control/pause" { POST api::runs::pause, Scope(Control); }
    "/api/control/resume" { POST api::runs::resume, Scope(Control); }
    "/api/v2/runs" { GET api::runs::list, Scope(Read); POST api::runs::create, Scope(Control); }
    "/api/v2/runs/{id}" { GET api::runs::show, Scope(Read); }
    "/api/v2/runs/{id}/cancel" { POST api::runs::cancel, Scope(Control); }
    "/api/v2/runs/{id}/replay" { POST api::runs::replay, Scope(Control); }
    "/api/v2/runs/{id}/timeline" { GET api::run_reports::timeline, Scope(Read); }
    "/api/v2/runs/{id}/progress" { POST api::run_reports::progress, Scope(Write); }
    "/api/logs" { GET api::run_reports::logs, Scope(Read); }
    "/api/events" { GET api::events::follow, Scope(Read); }
    "/api/audit/export" { GET api::evidence::export, Scope(Audit); }
    "/api/audit/keys" { GET api::evidence::keys, Scope(Audit); }
    "/api/review/access" { GET api::review::access, Scope(Audit); }
    "/api/review/tokens" { GET api::review::tokens, Scope(Audit); }
    "/api/review/changes" { GET api::review::changes, Scope(Audit); }
    "/api/tasks" { GET api::tasks::list, Scope(Read); POST api::tasks::create, Scope(Write); }
    "/api/tasks/create" { POST api::tasks::create, Scope(Write); }
    "/api/tasks/{id}" {
        GET api::tasks::show, Scope(Read); PUT api::tasks::change, Scope(Write); PATCH api::tasks::change, Scope(Write);
        DELETE api::tasks::delete, Scope(Write);
    }
    "/api/tasks/{id}/move" { POST api::tasks::shift, Scope(Write); }
    "/api/certificate" { POST api::certificates::obtain, Scope(Write); }
    "/api/certificate/renew" { POST api::certificates::renew, Scope(Write); }
    "/" { GET pages::overview::show, Scope(Read); }
    "/login" { GET pages::login::show, Open; }
    "/login/local/{code}" { GET pages::login::link, Open; POST pages::login::use_link, Open; }
    "/auth/oidc/login" { GET pages::login::begin, Open; }
    "/auth/oidc/callback" { GET pages::login::finish, Open; }
    "/auth/oidc/backchannel-logout" { POST pages::logout::back_channel, Open; }
    "/auth/logout" { GET pages::logout::ask, Open; POST pages::logout::act, Open; }
    "/runs" { GET pages::runs::list, Scope(Read); POST pages::runs::start, Scope(Control); }
    "/runs/{id}" { GET pages::runs::show, Scope(Read); }
    "/runs/{id}/{act}" { POST pages::runs::act, Scope(Control); }
    "/tasks" { GET pages::tasks::show, Scope(Read); POST pages::tasks::create, Scope(Write); }
    "/tasks/{id}/move" { POST pages::tasks::shift, Scope(Write); }
    "/tasks/{id}/delete" { POST pages::tasks::delete, Scope(Write); }
    "/tokens" { GET pages::tokens::show, Person; POST pages::tokens::create, Person; }
    "/tokens/{id}/revoke" { POST pages::tokens::revoke, Person; }
    "/tokens/{id}/rotate" { POST pages::tokens::rotate, Person; }
    "/audit" { GET pages::audit::show, Scope(Audit); }
    "/audit/verify" { GET pages::audit::progress, Scope(Audit); POST pages::audit::verify, Scope(Audit); }
    "/audit/{seq}" { GET pages::audit_entry::show, Scope(Audit); }
    "/review" { GET pages::review::show, Scope(Audit); }
    "/people" { GET pages::people::list, Scope(All); }
    "/people/{id}" { GET pages::people::show, Scope(All); }
    "/people/{id}/end-sessions" { POST pages::people::end_all, Scope(All); }
    "/keys" { GET pages::keys::show, Scope(All); }
    "/keys/add" { POST pages::keys::add, Scope(All); }
    "/keys/{kid}/{step}" { POST pages::keys::take, Scope(All); }
    "/certificates" { GET pages::certificates::show, Scope(All); }
    "/certificates/{id}/revoke" { POST pages::certificates::revoke, Scope(All); }
    "/explain-token" { GET pages::explain::show, Scope(All); POST pages::explain::explain, Scope(All); }
    "/account" { GET pages::account::show, Person; }
    "/account/sessions/{id}/end" { POST pages::account::end_one, Person; }
    "/account/end-everywhere" { POST pages::account::end_everywhere, Person; }
    "/healthz" { GET api::health::live, Open; }
    "/health" { GET api::health::live, Open; }
    "/live" { GET api::health::live, Open; }
    "/readyz" { GET api::health::ready, Open; }
    "/ready" { GET api::health::ready, Open; }
    "/auth/verify/envoy{original:/.*}" {
        GET apps::verify, Open; POST apps::verify, Open; PUT apps::verify, Open; PATCH apps::verify, Open;
        DELETE apps::verify, Open; OPTIONS apps::verify, Open;
    }
    "/auth/continue" { GET apps::go_on, Open; }
    "/auth/assertion" { GET apps::fetch, Credential; }
    "/.well-known/jwks.json" { GET api::well_known::jwks, Open; }
    "/.well-known/pomerium/jwks.json" { GET api::well_known::jwks, Open; }
    "/.well-known/openid-configuration" { GET api::well_known::openid_configuration, Open; }
    "/.well-known/crl.pem" { GET api::certificates::list_as_pem, Open; }
    "/.well-known/crl.der" { GET api::certificates::list_as_der, Open; }
    "/.well-known/oauth-protected-resource" { GET api::well_known::protected_resource, Open; }
    "/openapi.json" { GET api::openapi::document, Open; }
    "/static/{name}" { GET assets::serve, Open; }
    "/favicon.ico" { GET assets::favicon, Open; }
}

/// The place of a path among [`PATTERNS`].
#[derive(Debug, Clone, Copy)]
struct Number(usize);

/// Which path of the table a request went to; a number beyond it when to none.
pub(super) fn number_of(req: &HttpRequest) -> usize {
    req.app_data::<Number>().map_or(usize::MAX, |number| number.0)
}

/// A route for a method; whoever may GET may also ask for the HEAD alone (RFC 9110 §9.3.2).
fn route(method: &'static str) -> actix_web::Route {
    let wanted: Method = method.parse().expect("the table holds methods");
    web::route().guard(guard::fn_guard(move |ctx| {
        let given = &ctx.head().method;
        *given == wanted || (*given == Method::HEAD && wanted == Method::GET)
    }))
}

/// Whether a path's doors look at no credential. (Those of other apps do, and count for themselves.)
fn is_open(path: &str) -> bool {
    !path.starts_with("/auth/verify")
        && ROUTES.iter().filter(|route| route.path == path).all(|route| route.needs == Open)
}

/// The routes on which `actix-session` sets or removes the cookie.
fn begins_or_ends_sessions(path: &str) -> bool {
    matches!(path, "/auth/oidc/callback" | "/auth/logout" | "/login/local/{code}" | "/account/end-everywhere")
}

fn wrong_method(allow: String) -> std::future::Ready<Result<HttpResponse, Problem>> {
    let detail = format!("this address takes {allow}");
    std::future::ready(Err(Problem::new(actix_web::http::StatusCode::METHOD_NOT_ALLOWED, detail)
        .with(actix_web::http::header::ALLOW, allow)))
}
