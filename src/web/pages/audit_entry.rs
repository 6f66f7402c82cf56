//! `/audit/{seq}`: one entry, how it hangs in the chain, and what covers it.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use askama::Template;

use super::{Shell, When, audit::Line, html};
use crate::{
    actions::audit,
    domain::identity::{Caller, ReadAudit},
    web::{Web, problem::Problem},
};

/// An entry as its neighbour's page shows it.
struct Neighbour {
    seq: i64,
    event: String,
    hash: String,
}

/// What covers an entry.
struct Covered {
    by: String,
    seq: i64,
    at: When,
}

#[derive(Template)]
#[template(path = "pages/entry.html")]
struct EntryPage {
    shell: Shell,
    line: Line,
    level: String,
    actor_kind: String,
    resource: String,
    resource_kind: String,
    node: String,
    user_agent: String,
    prev_hash: String,
    whole: bool,
    before: Option<Neighbour>,
    behind: Option<Neighbour>,
    covered: Option<Covered>,
}

/// `GET /audit/{seq}`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadAudit>,
    req: HttpRequest,
    seq: Path<String>,
) -> Result<HttpResponse, Problem> {
    let seq: i64 = seq.parse().map_err(|_| Problem::not_found())?;
    let found = audit::entry(&web.app, &caller, seq).await?;
    let hex = |hash: &[u8]| data_encoding::HEXLOWER.encode(hash);
    let neighbour =
        |entry: crate::domain::ledger::Entry| Neighbour { seq: entry.seq, event: entry.event, hash: hex(&entry.hash) };
    let entry = found.entry;
    let covered = found.covered_by.map(|(by, c)| Covered { by, seq: c.seq, at: c.time.into() });
    let page = EntryPage {
        shell: Shell::of(&web, &req, caller.identity(), &format!("Entry {seq}"), "/audit"),
        level: entry.level.clone(),
        actor_kind: entry.actor_kind.clone(),
        resource: entry.resource_id.clone(),
        resource_kind: entry.resource_kind.clone(),
        node: entry.node.clone(),
        user_agent: entry.user_agent.clone().unwrap_or_default(),
        prev_hash: hex(&entry.prev_hash),
        whole: found.whole,
        before: found.before.map(neighbour),
        behind: found.behind.map(neighbour),
        line: Line::of(entry),
        covered,
    };
    html(&web, StatusCode::OK, &page)
}
