//! Probes: open to all, telling nothing but yes or no.

use actix_web::{HttpResponse, web::Data};

use crate::web::Web;

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "probes", security(()), responses((status = 200)))]
pub(in crate::web) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

/// Can it serve? 503 while the database does not answer.
#[utoipa::path(get, path = "/readyz", tag = "probes", security(()), responses((status = 200), (status = 503)))]
pub(in crate::web) async fn ready(web: Data<Web>) -> HttpResponse {
    match web.app.store.ping().await {
        Ok(()) => HttpResponse::Ok().json(serde_json::json!({"status": "ready", "database": "ok"})),
        Err(_) => HttpResponse::ServiceUnavailable()
            .json(serde_json::json!({"status": "unavailable", "database": "no answer"})),
    }
}
