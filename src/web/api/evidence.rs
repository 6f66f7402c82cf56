//! `/api/audit/export` and `/api/audit/keys`: what an auditor takes along.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data, Json},
};
use futures_util::stream;

use super::{Query, audit::filter};
use crate::{
    actions::{evidence, vouching},
    audit::export::{Export, Format, Wanted},
    domain::identity::{Caller, ReadAudit},
    web::{Web, client::origin, problem::Problem},
};

const PARAMETERS: [&str; 6] = ["format", "event", "actor", "outcome", "start", "end"];

/// Export the log: JSON lines that can be verified again, or CSV. The export itself is recorded.
#[utoipa::path(get, path = "/api/audit/export", tag = "audit",
    params(("format" = Option<String>, Query, description = "jsonl (default) or csv"), ("event" = Option<String>, Query),
        ("actor" = Option<String>, Query), ("outcome" = Option<String>, Query), ("start" = Option<String>, Query), ("end" = Option<String>, Query)),
    responses((status = 200, content_type = "application/jsonl"), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn export(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &PARAMETERS)?;
    let format = query.parsed::<Format>("format", "jsonl or csv")?.unwrap_or(Format::Jsonl);
    let wanted = Wanted { filter: filter(&query)?, asked: query.again(&PARAMETERS[1..]), format };
    let export = evidence::export(&web.app, &caller, wanted, &origin(&req)).await?;
    let (kind, name) = match format {
        Format::Jsonl => ("application/jsonl", "audit.jsonl"),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "audit.csv"),
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let answer = HttpResponse::Ok()
        .content_type(kind)
        .insert_header(("content-disposition", disposition))
        .streaming(Box::pin(stream::unfold(Some(export), piece)));
    Ok(answer)
}

/// The next piece of the body. Where the database fails, the body breaks off: an export without its last line is none.
async fn piece(export: Option<Export>) -> Option<(Result<Bytes, actix_web::Error>, Option<Export>)> {
    let mut export = export?;
    match export.piece().await {
        Ok(piece) => piece.map(|bytes| (Ok(Bytes::from(bytes)), Some(export))),
        Err(e) => {
            tracing::error!(error = %e, "an export broke off");
            Some((Err(actix_web::error::ErrorServiceUnavailable("the database")), None))
        }
    }
}

/// Every public key that signed anything about the log, as a JWK Set, also those that left the published one.
#[utoipa::path(get, path = "/api/audit/keys", tag = "audit", responses((status = 200), (status = 401), (status = 403)))]
pub(in crate::web) async fn keys(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(vouching::keys(&web.app, &caller).await?.jwks()))
}
