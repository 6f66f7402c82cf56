//! `/people`: who has signed in, with their sessions and tokens; end one or all.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{
    SessionView, Shell, When,
    audit::Line,
    form_token, html,
    nodes::{self, NodeView},
};
use crate::{
    actions::{audit, people, sessions, tokens},
    domain::{
        identity::{Caller, ManageKeys, ManagePeople, ManageTokens, ReadAudit},
        person::{Person, PersonId},
        time::Moment,
    },
    store::{ledger::Filter, tokens::Page},
    web::{Web, api::Query, body, client::origin, problem::Problem},
};

struct PersonView {
    id: String,
    name: String,
    email: String,
    verified: bool,
    issuer: String,
    subject: String,
    first: When,
    last: When,
}

impl PersonView {
    fn of(person: &Person) -> Self {
        Self {
            id: person.id.to_string(),
            name: person.display_name().to_owned(),
            email: person.email.clone().unwrap_or_default(),
            verified: person.email_verified,
            issuer: person.issuer.clone(),
            subject: person.subject.clone(),
            first: person.first_seen_at.into(),
            last: person.last_seen_at.into(),
        }
    }
}

#[derive(Template)]
#[template(path = "pages/people.html")]
struct PeoplePage {
    shell: Shell,
    people: Vec<PersonView>,
    next: Option<String>,
    nodes: Vec<NodeView>,
    /// Rights that people lost or gained lately, from the log.
    lines: Vec<Line>,
}

/// Role changes are shown for so long.
const LATELY: std::time::Duration = std::time::Duration::from_hours(24 * 90);

async fn role_changes(web: &Web, caller: &Caller<ManagePeople>) -> Result<Vec<Line>, Problem> {
    let auditor = caller.shared().acting_as::<ReadAudit>()?;
    let (event, start) = (Some("auth.role.change".to_owned()), Some(web.app.now().minus(LATELY)));
    let found = audit::page(&web.app, &auditor, &Filter { event, start, ..Filter::default() }, 20).await?;
    Ok(found.into_iter().map(Line::of).collect())
}

const PAGE: i64 = 50;

/// `GET /people`
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ManagePeople>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["cursor"])?;
    let before = query.text("cursor").map(read_cursor).transpose()?;
    let found = people::list(&web.app, &caller, before.as_ref(), PAGE).await?;
    let full = i64::try_from(found.len()).is_ok_and(|n| n == PAGE);
    let next = found.last().filter(|_| full).map(|p| format!("/people?cursor={}.{}", p.last_seen_at.millis(), p.id));
    let shell = Shell::of(&web, &req, caller.identity(), "People", "/people");
    let lines = if before.is_none() { role_changes(&web, &caller).await? } else { Vec::new() };
    // Who may not see the keys is not shown who holds them.
    let nodes = match caller.shared().acting_as::<ManageKeys>() {
        Ok(admin) => nodes::views(&web, &admin).await?,
        Err(_) => Vec::new(),
    };
    let people = found.iter().map(PersonView::of).collect();
    html(&web, StatusCode::OK, &PeoplePage { shell, people, next, nodes, lines })
}

fn read_cursor(text: &str) -> Result<(Moment, PersonId), Problem> {
    let read = |text: &str| {
        let (at, id) = text.split_once('.')?;
        Some((Moment::from_millis(at.parse().ok()?), id.parse().ok()?))
    };
    read(text).ok_or_else(|| Problem::invalid("cursor", "expected one that an earlier page gave"))
}

struct TokenLine {
    id: String,
    name: String,
    scopes: String,
    state: &'static str,
    live: bool,
}

#[derive(Template)]
#[template(path = "pages/person.html")]
struct PersonPage {
    shell: Shell,
    person: PersonView,
    sessions: Vec<SessionView>,
    tokens: Vec<TokenLine>,
}

/// `GET /people/{id}`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ManagePeople>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let person = people::find(&web.app, &caller, &id).await?;
    let current = sessions::session_of(caller.identity()).map(ToString::to_string);
    let live = sessions::of_person(&web.app, &caller, &person.id).await?;
    let manager = caller.shared().acting_as::<ManageTokens>()?;
    let wanted = Page { owner: Some(person.id.to_string()), with_ended: true, before: None, limit: 100 };
    let now = web.app.now();
    let held = tokens::list(&web.app, &manager, &wanted).await?;
    let line = |t: &crate::domain::token::Token| TokenLine {
        id: t.id.to_string(),
        name: t.name.to_string(),
        scopes: t.scopes.to_string(),
        state: t.state(now).word(),
        live: t.is_live(now),
    };
    let page = PersonPage {
        shell: Shell::of(&web, &req, caller.identity(), person.display_name(), "/people"),
        person: PersonView::of(&person),
        sessions: live.iter().map(|s| SessionView::of(s, current.as_deref())).collect(),
        tokens: held.iter().map(line).collect(),
    };
    html(&web, StatusCode::OK, &page)
}

/// `POST /people/{id}/end-sessions`
pub(in crate::web) async fn end_all(
    web: Data<Web>,
    caller: Caller<ManagePeople>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let person = people::find(&web.app, &caller, &id).await?;
    sessions::end_all_of(&web.app, &caller, &person.id, &origin(&req)).await?;
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, format!("/people/{}", person.id))).finish())
}
