//! `/explain-token`: paste a token, or take one that was refused, and see every check.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Payload},
};
use askama::Template;

use super::{Shell, When, form_token, html};
use crate::{
    authn::workload::{
        Refusal,
        explain::{Explanation, Outcome},
    },
    domain::identity::{Caller, ExplainTokens},
    web::{Web, body, problem::Problem},
};

struct RefusalView {
    id: u64,
    at: When,
    issuer: String,
    subject: String,
    reason: &'static str,
    times: u64,
    signature: &'static str,
}

impl RefusalView {
    fn of(refusal: &Refusal) -> Self {
        let subject = refusal.claims.get("sub").and_then(serde_json::Value::as_str).unwrap_or("nobody");
        Self {
            id: refusal.id,
            at: refusal.at.into(),
            issuer: refusal.issuer.clone(),
            subject: subject.chars().take(120).collect(),
            reason: refusal.reason,
            times: refusal.times,
            signature: if refusal.is_signed { "right" } else { "not known to be right" },
        }
    }
}

struct LineView {
    check: String,
    outcome: &'static str,
    badge: &'static str,
    expected: String,
    actual: String,
    hint: Option<String>,
}

struct ExplanationView {
    accepted: bool,
    verdict: String,
    clock: Option<String>,
    lines: Vec<LineView>,
    suggestion: Option<String>,
    /// The claims of a refused token, which nobody has at hand otherwise.
    claims: Option<String>,
}

impl ExplanationView {
    fn of(explanation: Explanation, claims: Option<String>) -> Self {
        let badge = |outcome: Outcome| match outcome {
            Outcome::Pass => "good",
            Outcome::Fail => "bad",
            Outcome::Unknown => "",
        };
        let lines = explanation.lines.into_iter().map(|line| LineView {
            check: line.check,
            outcome: line.outcome.as_str(),
            badge: badge(line.outcome),
            expected: line.expected,
            actual: line.actual,
            hint: line.hint,
        });
        Self {
            accepted: explanation.accepted,
            verdict: explanation.verdict,
            clock: explanation.clock,
            lines: lines.collect(),
            suggestion: explanation.suggestion,
            claims,
        }
    }
}

#[derive(Template)]
#[template(path = "pages/explain.html")]
struct ExplainPage {
    shell: Shell,
    csrf: String,
    has_issuers: bool,
    refusals: Vec<RefusalView>,
    explained: Option<ExplanationView>,
    error: Option<&'static str>,
}

/// `GET /explain-token`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ExplainTokens>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &caller, &req, None, None)
}

/// `POST /explain-token`: the field `token`, or `refusal` with the number of a refused one.
pub(in crate::web) async fn explain(
    web: Data<Web>,
    caller: Caller<ExplainTokens>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let workloads = &web.app.authn.workloads;
    let (token, number) = (form.text("token"), form.text("refusal"));
    if number.is_empty() {
        let error = token.trim().is_empty().then_some("Paste a token first.");
        let explained = match error {
            Some(_) => None,
            None => Some(ExplanationView::of(workloads.explain(token).await, None)),
        };
        return page(&web, &caller, &req, explained, error);
    }
    let Some(refusal) = number.parse().ok().and_then(|id| workloads.refusals.find(id)) else {
        return page(&web, &caller, &req, None, Some("That refusal is no longer kept; later ones took its place."));
    };
    let claims = serde_json::to_string_pretty(&refusal.claims).unwrap_or_default();
    let explained = ExplanationView::of(workloads.explain_refusal(&refusal).await, Some(claims));
    page(&web, &caller, &req, Some(explained), None)
}

fn page(
    web: &Web,
    caller: &Caller<ExplainTokens>,
    req: &HttpRequest,
    explained: Option<ExplanationView>,
    error: Option<&'static str>,
) -> Result<HttpResponse, Problem> {
    let page = ExplainPage {
        shell: Shell::of(web, req, caller.identity(), "Explain a token", "/explain-token"),
        csrf: form_token(web, req).unwrap_or_default(),
        has_issuers: !web.app.settings.auth.issuers.is_empty(),
        refusals: web.app.authn.workloads.refusals.list().iter().map(RefusalView::of).collect(),
        explained,
        error,
    };
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    html(web, status, &page)
}
