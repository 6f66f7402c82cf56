//! Probes: open to all, telling nothing but yes or no.

use actix_web::{HttpResponse, web::Data};

use crate::web::Web;

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "probes", security(()), responses((status = 200)))]
pub(in crate::web) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

/// Can it serve? 503 while the database does not answer or cannot be written. Says what is missing.
#[utoipa::path(get, path = "/readyz", tag = "probes", security(()), responses((status = 200), (status = 503)))]
pub(in crate::web) async fn ready(web: Data<Web>) -> HttpResponse {
    let answers = web.app.store.ping().await.is_ok();
    // Among several nodes each writes that it lives, so one that cannot write knows.
    let writes = !web.app.last_beat.is_overdue(web.app.settings.cluster.lease, web.app.store.commits());
    let database = answers && writes;
    let says = |good: bool, otherwise: &'static str| if good { "ok" } else { otherwise };
    let mut parts = serde_json::json!({
        "status": if database { "ready" } else { "unavailable" },
        "database": says(database, if answers { "cannot be written" } else { "no answer" }),
    });
    // What is missing here does not keep it from serving.
    if database && web.app.store.rights().epoch().is_none() {
        parts["revocations"] = "not heard of: every credential is looked up".into();
    }
    if let Some(share) = &web.app.share {
        let missing = if share.is_disputed() {
            "holds signing keys that are refused; this node's stay: lokid cluster key show"
        } else {
            "no answer: the signing keys stay as they are"
        };
        parts["nats"] = says(!share.is_disputed() && !share.is_away(), missing).into();
    }
    if database { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() }.json(parts)
}
