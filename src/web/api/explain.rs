//! `POST /api/explain-token`: why a token is or would be accepted or not. For administrators.

use actix_web::{
    HttpRequest,
    web::{Data, Json, Payload},
};
use utoipa::ToSchema;

use crate::{
    authn::workload::explain::{Explanation, Line},
    domain::identity::{Caller, ExplainTokens},
    web::{Web, body, problem::Problem},
};

/// The token to explain.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct TokenToExplain {
    /// A JWT.
    token: String,
}

/// One check.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct LineView {
    /// What it is about.
    check: String,
    /// `pass`, `fail` or `unknown`.
    outcome: &'static str,
    /// What would be right.
    expected: String,
    /// What is there.
    actual: String,
    /// What is nearly right, or what to do.
    hint: Option<String>,
}

/// What there is to say about a token.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct ExplanationView {
    /// Whether it lets its bearer in.
    accepted: bool,
    /// What it gives, or the check that fails first.
    verdict: String,
    /// The short name of its issuer, if that is configured.
    issuer: Option<String>,
    /// How the issuer's clock and ours differ.
    clock: Option<String>,
    /// Every check, in order.
    checks: Vec<LineView>,
    /// A rule that would let this bearer in, as YAML.
    suggested_rule: Option<String>,
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let line = |line: Line| LineView {
            check: line.check,
            outcome: line.outcome.as_str(),
            expected: line.expected,
            actual: line.actual,
            hint: line.hint,
        };
        Self {
            accepted: explanation.accepted,
            verdict: explanation.verdict,
            issuer: explanation.issuer,
            clock: explanation.clock,
            checks: explanation.lines.into_iter().map(line).collect(),
            suggested_rule: explanation.suggestion,
        }
    }
}

/// Say which checks a token passes and which not. The token is not used for anything else, and not kept.
#[utoipa::path(post, path = "/api/explain-token", tag = "tokens", request_body = TokenToExplain,
    responses((status = 200, body = ExplanationView), (status = 401), (status = 403), (status = 415), (status = 422)))]
pub(in crate::web) async fn explain(
    web: Data<Web>,
    _caller: Caller<ExplainTokens>,
    req: HttpRequest,
    payload: Payload,
) -> Result<Json<ExplanationView>, Problem> {
    let asked = body::json::<TokenToExplain>(&web, &req, payload).await?;
    Ok(Json(web.app.authn.workloads.explain(&asked.token).await.into()))
}
