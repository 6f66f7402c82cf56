//! `/metrics`, for Prometheus. Behind the scope `read`, or for everybody who reaches the listener of
//! `metrics.listen`.

use actix_web::{HttpResponse, http::header::CONTENT_TYPE, web::Data};

use crate::{
    actions::metrics::readings,
    domain::identity::{Caller, ReadState},
    telemetry::metrics::{self, collected, text_of},
    web::Web,
};

/// How it goes, in numbers: the Prometheus text format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "state",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4"), (status = 401), (status = 403)))]
pub(in crate::web) async fn show(web: Data<Web>, _: Caller<ReadState>) -> HttpResponse {
    text(&web).await
}

/// The same, where reaching the listener is enough.
pub(in crate::web) async fn show_to_all(web: Data<Web>) -> HttpResponse {
    text(&web).await
}

async fn text(web: &Web) -> HttpResponse {
    let parts = [collected(web.requests.clone()), web.app.metrics.text(), text_of(readings(&web.app).await)];
    HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(parts.concat())
}
