//! `/review`: who may do what and why, tokens to look at, and rights that changed. The choice lives in the address.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use askama::Template;

use super::{Shell, html};
use crate::{
    actions::review::{self, Change, Holder, KINDS, TokenReview},
    domain::{
        identity::{Caller, ReadAudit},
        scope::Scope,
    },
    web::{
        Web,
        api::{
            Query,
            review::{DAYS, read_chosen, read_days, read_finding, read_since},
        },
        problem::Problem,
    },
};

/// Which review is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Access,
    Tokens,
    Changes,
}

impl Part {
    const EVERY: [(Self, &'static str, &'static str); 3] = [
        (Self::Access, "access", "Who may do what"),
        (Self::Tokens, "tokens", "Tokens to look at"),
        (Self::Changes, "changes", "Rights lost or gained"),
    ];

    const fn name(self) -> &'static str {
        Self::EVERY[self as usize].1
    }

    fn read(query: &Query) -> Result<Self, Problem> {
        let Some(text) = query.text("show") else { return Ok(Self::Access) };
        let found = Self::EVERY.into_iter().find(|(_, name, _)| *name == text);
        found.map(|(part, ..)| part).ok_or_else(|| Problem::invalid("show", "expected access, tokens or changes"))
    }

    /// The parameters that it knows, beside `show`.
    const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Access => &["kind", "scope", "beyond_owner"],
            Self::Tokens => &["days", "finding"],
            Self::Changes => &["since"],
        }
    }
}

/// The filter as it was sent.
#[derive(Default)]
struct Asked {
    kind: String,
    scope: String,
    beyond: bool,
    days: String,
    finding: String,
    since: String,
}

#[derive(Template)]
#[template(path = "pages/review.html")]
struct ReviewPage {
    shell: Shell,
    part: Part,
    parts: [(Part, &'static str, &'static str); 3],
    asked: Asked,
    kinds: [&'static str; 6],
    scopes: [&'static str; 5],
    holders: Vec<Holder>,
    tokens: Vec<TokenReview>,
    changes: Vec<Change>,
    /// All rows, also those that the page leaves out.
    count: usize,
    shown: usize,
    complete: bool,
    error: Option<String>,
    default_days: u32,
    /// The filter as a query, for the links to CSV and JSON.
    query: String,
}

/// A page shows no more rows than this; the CSV has all.
const SHOWN: usize = 300;

const PARAMETERS: [&str; 7] = ["show", "kind", "scope", "beyond_owner", "days", "finding", "since"];

/// `GET /review`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &PARAMETERS)?;
    let mut page = empty(&web, &caller, &req, &query)?;
    let status = match fill(&web, &caller, &query, &mut page).await {
        Ok(()) => StatusCode::OK,
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY => {
            page.error = Some(problem.detail);
            problem.status
        }
        Err(problem) => return Err(problem),
    };
    html(&web, status, &page)
}

fn empty(web: &Web, caller: &Caller<ReadAudit>, req: &HttpRequest, query: &Query) -> Result<ReviewPage, Problem> {
    let text = |name: &str| query.text(name).unwrap_or_default().to_owned();
    let part = Part::read(query)?;
    let asked = Asked {
        kind: text("kind"),
        scope: text("scope"),
        beyond: query.text("beyond_owner").is_some(),
        days: text("days"),
        finding: text("finding"),
        since: text("since"),
    };
    Ok(ReviewPage {
        shell: Shell::of(web, req, caller.identity(), "Review of rights", "/review"),
        part,
        parts: Part::EVERY,
        asked,
        kinds: KINDS,
        scopes: Scope::EVERY.map(Scope::as_str),
        holders: Vec::new(),
        tokens: Vec::new(),
        changes: Vec::new(),
        count: 0,
        shown: 0,
        complete: true,
        error: None,
        default_days: DAYS,
        query: query.again(part.parameters()),
    })
}

async fn fill(web: &Web, caller: &Caller<ReadAudit>, query: &Query, page: &mut ReviewPage) -> Result<(), Problem> {
    match page.part {
        Part::Access => {
            let found = review::holders(&web.app, caller, &read_chosen(query)?).await?;
            (page.holders, page.complete) = (found.rows, found.complete);
        }
        Part::Tokens => {
            let (days, finding) = (read_days(query)?, read_finding(query)?);
            let found = review::tokens(&web.app, caller, days, finding).await?;
            (page.tokens, page.complete) = (found.rows, found.complete);
        }
        Part::Changes => {
            let found = review::changes(&web.app, caller, read_since(query, web.app.now())?).await?;
            (page.changes, page.complete) = (found.rows, found.complete);
        }
    }
    page.count = page.holders.len() + page.tokens.len() + page.changes.len();
    page.shown = page.count.min(SHOWN);
    page.holders.truncate(SHOWN);
    page.tokens.truncate(SHOWN);
    page.changes.truncate(SHOWN);
    Ok(())
}

/// The day of an RFC 3339 time.
fn day(time: &str) -> &str {
    time.get(..10).unwrap_or(time)
}
