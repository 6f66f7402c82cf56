//! `GET /`: what works and waits, how it is going, and who did what lately.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use askama::Template;

use super::{Shell, audit::Line, chart::Chart, html, runs};
use crate::{
    actions::{
        audit,
        happenings::{self, Cursor},
        status,
    },
    domain::{
        identity::{Caller, ReadAudit, ReadState},
        time::Moment,
    },
    store::ledger::Filter,
    web::{Web, problem::Problem},
};

/// What only somebody who may read the audit log sees.
struct Lately {
    charts: [Chart; 2],
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    shell: Shell,
    /// Behind which events change what is shown.
    since: Cursor,
    counts: status::Overview,
    work: runs::Work,
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
    let since = happenings::end(app).await?;
    let counts = status::overview(app, &caller).await?;
    let lately = match caller.shared().acting_as::<ReadAudit>() {
        Ok(auditor) => Some(lately(&web, &auditor).await?),
        Err(_) => None,
    };
    let page = OverviewPage {
        shell: Shell::of(&web, &req, caller.identity(), "Overview", "/"),
        since,
        counts,
        work: runs::work(&web, &caller).await?,
        uptime: in_words(app.now().since(app.started_at)),
        database: app.store.engine().as_str(),
        lately,
    };
    html(&web, StatusCode::OK, &page)
}

const HOUR: Duration = Duration::from_hours(1);
const SIGN_INS: &[&str] = &["auth.oidc.success"];
const REFUSALS: &[&str] = &["auth.fail", "auth.oidc.fail", "permission.denied", "rate.limited"];

async fn lately(web: &Web, caller: &Caller<ReadAudit>) -> Result<Lately, Problem> {
    // The hour that is under way is the last of the twenty-four.
    let hour = Moment::from_millis(web.app.now().millis() / 3_600_000 * 3_600_000);
    let since = hour.minus(23 * HOUR);
    let counts = audit::by_hour(&web.app, caller, since).await?;
    let chart = |id, title, names: &[&str]| {
        let sum = |at: i64| {
            let of_it = counts.iter().filter(|(hour, event, _)| *hour == at && names.contains(&event.as_str()));
            of_it.map(|(_, _, times)| times).sum()
        };
        let label = |at: u32| since.plus(at * HOUR).for_people().chars().take(16).collect();
        Chart::of(id, title, (0..24).map(|at| (label(at), sum(at.into()))).collect())
    };
    let entries = audit::page(&web.app, caller, &Filter::default(), 12).await?;
    Ok(Lately {
        charts: [
            chart("sign-ins", "Sign-ins, last 24 h", SIGN_INS),
            chart("refusals", "Refusals, last 24 h", REFUSALS),
        ],
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
