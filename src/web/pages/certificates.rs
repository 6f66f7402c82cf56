//! `/certificates`: what our authority issued, and the button that revokes.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{Shell, When, form_token, html};
use crate::{
    actions::certificates,
    domain::{
        certificate::{CertificateId, CertificateState, IssuedCertificate},
        identity::{Caller, ManageCertificates},
        time::Moment,
    },
    web::{Web, api::Query, body, client::origin, problem::Problem},
};

/// Certificates on one page.
const PAGE: i64 = 50;

struct CertificateView {
    id: String,
    subject: String,
    purpose: &'static str,
    serial: String,
    state: &'static str,
    until: When,
    issued: When,
    issued_to: String,
    can_revoke: bool,
}

impl CertificateView {
    fn of(c: &IssuedCertificate, now: Moment, acts: bool) -> Self {
        Self {
            id: c.id.to_string(),
            subject: c.subject.clone(),
            purpose: c.purpose.as_str(),
            serial: c.serial.clone(),
            state: c.state(now).as_str(),
            until: c.revoked_at.unwrap_or(c.not_after).into(),
            issued: c.issued_at.into(),
            issued_to: c.issued_to_name.clone(),
            can_revoke: acts && c.state(now) == CertificateState::Valid,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/certificates.html")]
struct CertificatesPage {
    shell: Shell,
    has_authority: bool,
    certificates: Vec<CertificateView>,
    /// Where the next page begins.
    next: Option<String>,
}

/// `GET /certificates`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ManageCertificates>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["before"])?;
    let before = query.text("before").map(read_place).transpose()?;
    let mut found = certificates::list(&web.app, &caller, before, PAGE + 1).await?;
    let more = found.len() > usize::try_from(PAGE).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(PAGE).unwrap_or(usize::MAX));
    let last = found.last().filter(|_| more);
    let (now, acts) = (web.app.now(), form_token(&web, &req).is_ok());
    let page = CertificatesPage {
        shell: Shell::of(&web, &req, caller.identity(), "Certificates", "/certificates"),
        has_authority: certificates::has_authority(&web.app),
        next: last.map(|c| format!("{}.{}", c.issued_at.millis(), c.id)),
        certificates: found.iter().map(|c| CertificateView::of(c, now, acts)).collect(),
    };
    html(&web, StatusCode::OK, &page)
}

fn read_place(text: &str) -> Result<(Moment, CertificateId), Problem> {
    let wrong = || Problem::invalid("before", "expected what the page's own link says");
    let (at, id) = text.split_once('.').ok_or_else(wrong)?;
    let at = at.parse().map_err(|_| wrong())?;
    Ok((Moment::from_millis(at), id.parse().map_err(|_| wrong())?))
}

/// `POST /certificates/{id}/revoke`
pub(in crate::web) async fn revoke(
    web: Data<Web>,
    caller: Caller<ManageCertificates>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    certificates::revoke(&web.app, &caller, &id, &origin(&req)).await?;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/certificates")).finish())
}
