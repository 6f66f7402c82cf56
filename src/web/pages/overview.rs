//! `GET /`: how it is going, and who did what lately.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use askama::Template;

use super::{Shell, audit::Line, html};
use crate::{
    actions::{audit, status},
    domain::identity::{Caller, ReadAudit, ReadState},
    store::ledger::Filter,
    web::{Web, problem::Problem},
};

/// What only somebody who may read the audit log sees.
struct Lately {
    sign_ins: i64,
    refusals: i64,
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    shell: Shell,
    counts: status::Overview,
    uptime: String,
    database: &'static str,
    lately: Option<Lately>,
}

/// `GET /`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let app = &web.app;
    let counts = status::overview(app, &caller).await?;
    let lately = match caller.shared().acting_as::<ReadAudit>() {
        Ok(auditor) => Some(lately(&web, &auditor).await?),
        Err(_) => None,
    };
    let page = OverviewPage {
        shell: Shell::of(&web, &req, caller.identity(), "Overview", "/"),
        counts,
        uptime: in_words(app.now().since(app.started_at)),
        database: app.store.engine().as_str(),
        lately,
    };
    html(&web, StatusCode::OK, &page)
}

async fn lately(web: &Web, caller: &Caller<ReadAudit>) -> Result<Lately, Problem> {
    let since = web.app.now().minus(Duration::from_hours(24));
    let counts = audit::summary(&web.app, caller, since).await?;
    let sum = |names: &[&str]| counts.iter().filter(|c| names.contains(&c.event.as_str())).map(|c| c.times).sum();
    let entries = audit::page(&web.app, caller, &Filter::default(), 12).await?;
    Ok(Lately {
        sign_ins: sum(&["auth.oidc.success"]),
        refusals: sum(&["auth.fail", "auth.oidc.fail", "permission.denied", "rate.limited"]),
        lines: entries.into_iter().map(Line::of).collect(),
    })
}

/// `3 d 4 h`, `4 h 10 min`, `10 min`.
fn in_words(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".into(),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}
