//! Who the caller is.

use actix_web::HttpResponse;
use utoipa::ToSchema;

use crate::domain::{
    identity::{Caller, Known},
    scope::Scope,
};

/// The caller, as lokid sees it.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct Me<'a> {
    /// `person`, `token`, `workload`, `psk`, `certificate` or `terminal`.
    kind: &'static str,
    /// Public id of the person or token, or the name in the certificate by which it is known.
    id: &'a str,
    /// What it is called.
    name: &'a str,
    /// A person's address.
    email: Option<&'a str>,
    /// By what it proved itself: `session`, `token`, `workload`, `psk`, `certificate` or `terminal`.
    authenticated_by: &'static str,
    /// The role, when there is one by name.
    role: Option<&'a str>,
    /// The scopes as they were granted.
    scopes: Vec<&'static str>,
    /// When the credential ends by itself (RFC 3339).
    expires_at: Option<String>,
}

/// Who am I?
#[utoipa::path(get, path = "/api/me", tag = "caller", responses((status = 200, body = Me), (status = 401)))]
pub(in crate::web) async fn me(caller: Caller<Known>) -> HttpResponse {
    let who = caller.identity();
    HttpResponse::Ok().json(Me {
        kind: who.actor.kind.as_str(),
        id: &who.actor.id,
        name: &who.actor.name,
        email: who.email.as_deref(),
        authenticated_by: who.credential.kind(),
        role: who.role.as_deref(),
        scopes: who.scopes.iter().map(Scope::as_str).collect(),
        expires_at: who.expires_at.map(crate::domain::time::Moment::rfc3339),
    })
}
