//! `/api/certificate`: certificates from our own authority, in the JSON of seeds/002.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CACHE_CONTROL,
    web::{Data, Json, Payload},
};
use utoipa::ToSchema;

use crate::{
    actions::certificates::{self, Delivered},
    domain::{
        dns::DomainName,
        identity::{Caller, TakeCertificates},
    },
    web::{Web, body, client::origin, extract, problem::Problem, refusals},
};

/// For which domain.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Wanted {
    /// A host's name, such as `app.example.com`.
    domain: String,
}

/// A certificate with its private key.
#[derive(serde::Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::web) struct CertificateView {
    /// For which domain.
    domain: String,
    /// The certificate, PEM.
    certificate: String,
    /// Its private key, PEM (PKCS#8).
    private_key: String,
    /// The certificate of the authority that signed it, PEM.
    issuer_cert: String,
    /// From when it is valid (RFC 3339).
    not_before: String,
    /// Until when (RFC 3339).
    not_after: String,
    /// Whether it was there before.
    cached: bool,
}

impl CertificateView {
    fn of(delivered: &Delivered) -> Self {
        let record = &delivered.record;
        Self {
            domain: record.subject.clone(),
            certificate: record.pem.clone(),
            private_key: delivered.key.to_string(),
            issuer_cert: delivered.issuer.clone(),
            not_before: record.not_before.rfc3339(),
            not_after: record.not_after.rfc3339(),
            cached: delivered.cached,
        }
    }
}

/// The domain that is wanted, from a caller who is not too fast.
async fn wanted(
    web: &Web,
    caller: &Caller<TakeCertificates>,
    req: &HttpRequest,
    payload: Payload,
) -> Result<DomainName, Problem> {
    let who = caller.identity();
    let key = web.limits.key_of(extract::key(who));
    web.limits.certificates.check(key).map_err(|e| refusals::too_fast(web, req, &who.actor, e))?;
    let Wanted { domain } = body::json(web, req, payload).await?;
    domain.parse().map_err(|e| Problem::invalid("domain", e))
}

/// A certificate for a domain: the one that is there while it is good for long enough, else a new one.
#[utoipa::path(post, path = "/api/certificate", tag = "certificates", request_body = Wanted,
    responses((status = 200, body = CertificateView), (status = 401), (status = 403), (status = 409), (status = 415), (status = 422), (status = 429)))]
pub(in crate::web) async fn obtain(
    web: Data<Web>,
    caller: Caller<TakeCertificates>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<CertificateView>, Problem> {
    let domain = wanted(&web, &caller, &req, payload).await?;
    let delivered = certificates::obtain(&web.app, &caller, domain, &origin(&req)).await?;
    Ok(Json(CertificateView::of(&delivered)))
}

/// A new certificate for a domain, though the one that is there would still do.
#[utoipa::path(post, path = "/api/certificate/renew", tag = "certificates", request_body = Wanted,
    responses((status = 200, body = CertificateView), (status = 401), (status = 403), (status = 409), (status = 415), (status = 422), (status = 429)))]
pub(in crate::web) async fn renew(
    web: Data<Web>,
    caller: Caller<TakeCertificates>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<CertificateView>, Problem> {
    let domain = wanted(&web, &caller, &req, payload).await?;
    let delivered = certificates::renew(&web.app, &caller, domain, &origin(&req)).await?;
    Ok(Json(CertificateView::of(&delivered)))
}

/// Verifiers ask again after this while at the latest.
const KEEP: &str = "public, max-age=300";

/// The list of revoked certificates, PEM.
#[utoipa::path(get, path = "/.well-known/crl.pem", tag = "verifiers", security(()), responses((status = 200), (status = 404)))]
pub(in crate::web) async fn list_as_pem(web: Data<Web>) -> Result<HttpResponse, Problem> {
    let list = certificates::revocation_list(&web.app).await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, KEEP)).content_type("application/x-pem-file");
    Ok(answer.body(list.pem.clone()))
}

/// The list of revoked certificates, DER (RFC 5280 §4.2.1.13).
#[utoipa::path(get, path = "/.well-known/crl.der", tag = "verifiers", security(()), responses((status = 200), (status = 404)))]
pub(in crate::web) async fn list_as_der(web: Data<Web>) -> Result<HttpResponse, Problem> {
    let list = certificates::revocation_list(&web.app).await?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, KEEP)).content_type("application/pkix-crl");
    Ok(answer.body(list.der.clone()))
}
