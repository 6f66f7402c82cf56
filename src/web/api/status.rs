//! How the instance is.

use actix_web::web::{Data, Json};

use crate::{
    actions::status::{self, Status},
    domain::identity::{Caller, ReadState},
    web::Web,
};

/// How is it going?
#[utoipa::path(get, path = "/api/status", tag = "state", responses((status = 200, body = Status), (status = 401), (status = 403)))]
pub(in crate::web) async fn status(web: Data<Web>, caller: Caller<ReadState>) -> Json<Status> {
    Json(status::status(&web.app, &caller).await)
}
