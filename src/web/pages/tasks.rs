//! `/tasks`: the board. Cards move by buttons that need nothing but a form.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path, Payload},
};
use askama::Template;

use super::{Shell, When, form_token, html, known_session};
use crate::{
    actions::{
        ActError,
        happenings::{self, Cursor},
        tasks::{self, NewTask},
    },
    domain::{
        identity::{Caller, ReadState, WriteState},
        scope::Scope,
        task::{Priority, Task, TaskStatus, check_description, check_title},
    },
    store::tasks::Changes,
    web::{Web, body, client::origin, problem::Problem},
};

/// Cards of a column that are shown.
const SHOWN: i64 = 100;

struct Card {
    id: String,
    title: String,
    description: String,
    priority: &'static str,
    changed: When,
    /// Places above and below, where there are some.
    above: Option<i64>,
    below: Option<i64>,
}

struct Column {
    name: &'static str,
    title: String,
    count: i64,
    cards: Vec<Card>,
    /// Where its cards may go: word and title.
    next: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "pages/tasks.html")]
struct TasksPage {
    shell: Shell,
    /// Behind which events change what is shown.
    since: Cursor,
    columns: Vec<Column>,
    may_write: bool,
    priorities: Vec<&'static str>,
    error: Option<String>,
    sent: Sent,
}

/// What was sent with a form that could not be taken.
#[derive(Default)]
struct Sent {
    title: String,
    description: String,
}

/// `in_progress` → `In progress`.
fn in_words(status: TaskStatus) -> String {
    let text = status.as_str().replace('_', " ");
    text[..1].to_uppercase() + &text[1..]
}

/// `GET /tasks`
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<HttpResponse, Problem> {
    page(&web, &req, &caller, None, Sent::default()).await
}

async fn page(
    web: &Web,
    req: &HttpRequest,
    caller: &Caller<ReadState>,
    error: Option<String>,
    sent: Sent,
) -> Result<HttpResponse, Problem> {
    let since = happenings::end(&web.app).await?;
    let mut columns = Vec::new();
    for status in TaskStatus::EVERY.iter().copied() {
        let found = tasks::list(&web.app, caller, Some(status), 0, SHOWN).await?;
        columns.push(column(status, tasks::count(&web.app, caller, status).await?, found));
    }
    let who = caller.identity();
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = TasksPage {
        shell: Shell::of(web, req, who, "Tasks", "/tasks"),
        since,
        columns,
        may_write: who.scopes.allows(Scope::Write) && known_session(req).is_some(),
        priorities: Priority::EVERY.iter().rev().map(|p| p.as_str()).collect(),
        error,
        sent,
    };
    html(web, status, &page)
}

fn column(status: TaskStatus, count: i64, found: Vec<Task>) -> Column {
    let card = |task: Task| Card {
        id: task.id.to_string(),
        title: task.title,
        description: task.description,
        priority: task.priority.as_str(),
        changed: task.updated_at.into(),
        above: (task.position > 0).then_some(task.position - 1),
        below: (task.position + 1 < count).then_some(task.position + 1),
    };
    Column {
        name: status.as_str(),
        title: in_words(status),
        count,
        cards: found.into_iter().map(card).collect(),
        next: status.next().iter().map(|to| (to.as_str(), in_words(*to))).collect(),
    }
}

fn back() -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, "/tasks")).finish()
}

/// `POST /tasks`
pub(in crate::web) async fn create(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let read = || -> Result<NewTask, String> {
        Ok(NewTask {
            title: check_title(form.text("title")).map_err(|e| format!("Title: {e}"))?,
            description: check_description(form.text("description")).map_err(|e| format!("Description: {e}"))?,
            status: TaskStatus::Pending,
            priority: form.text("priority").parse().map_err(|e| format!("Priority: {e}"))?,
        })
    };
    match read() {
        Ok(new) => {
            tasks::create(&web.app, &caller, new, &origin(&req)).await?;
            Ok(back())
        }
        Err(e) => {
            let sent = Sent { title: form.text("title").into(), description: form.text("description").into() };
            let reader = caller.shared().acting_as::<ReadState>()?;
            page(&web, &req, &reader, Some(e), sent).await
        }
    }
}

/// `POST /tasks/{id}/move`
pub(in crate::web) async fn shift(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let form = body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    let status = form.text("status").parse().map_err(|e| Problem::invalid("status", e))?;
    let position = form.text("position");
    let position = if position.is_empty() { Ok(None) } else { position.parse::<u32>().map(|p| Some(p.into())) };
    let position = position.map_err(|_| Problem::invalid("position", "expected a place from 0 on"))?;
    let changes = Changes { status: Some(status), position, ..Changes::default() };
    match tasks::change(&web.app, &caller, &id, changes, &origin(&req)).await {
        Ok(_) => Ok(back()),
        // Somebody else moved it meanwhile: the page shows where it is now.
        Err(ActError::Invalid { message, .. }) => {
            let reader = caller.shared().acting_as::<ReadState>()?;
            page(&web, &req, &reader, Some(message), Sent::default()).await
        }
        Err(e) => Err(e.into()),
    }
}

/// `POST /tasks/{id}/delete`
pub(in crate::web) async fn delete(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    body::form(&web, &req, payload, &form_token(&web, &req)?).await?;
    tasks::delete(&web.app, &caller, &id, &origin(&req)).await?;
    Ok(back())
}
