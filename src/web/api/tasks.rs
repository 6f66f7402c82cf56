//! `/api/tasks`

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::LOCATION,
    web::{Data, Json, Path, Payload},
};
use utoipa::ToSchema;

use super::Query;
use crate::{
    actions::tasks::{self, NewTask},
    domain::{
        identity::{Caller, ReadState, WriteState},
        task::{Priority, Task, TaskStatus, check_description, check_title},
    },
    store::tasks::Changes,
    web::{Web, body, client::origin, problem::Problem},
};

/// A task.
#[derive(Debug, serde::Serialize, ToSchema)]
pub(in crate::web) struct TaskView {
    /// Public id, `tsk-…`.
    id: String,
    /// What is to be done.
    title: String,
    /// More about it.
    description: String,
    /// `backlog`, `pending`, `in_progress`, `review` or `done`.
    status: &'static str,
    /// `low`, `medium`, `high` or `critical`.
    priority: &'static str,
    /// Its place in the column, from 0.
    position: i64,
    /// Public id of who made it.
    created_by: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

impl TaskView {
    fn of(task: Task) -> Self {
        Self {
            id: task.id.to_string(),
            title: task.title,
            description: task.description,
            status: task.status.as_str(),
            priority: task.priority.as_str(),
            position: task.position,
            created_by: task.created_by,
            created_at: task.created_at.rfc3339(),
            updated_at: task.updated_at.rfc3339(),
        }
    }
}

/// What a new task shall be, or what shall change; a field that is not there stays as it is.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct TaskBody {
    /// One line of 1–200 characters.
    title: Option<String>,
    /// At most 10,000 characters.
    description: Option<String>,
    /// `backlog`, `pending` (as a new task is), `in_progress`, `review` or `done`.
    status: Option<String>,
    /// `low`, `medium` (as a new task is), `high` or `critical`.
    priority: Option<String>,
    /// The place in the column, from 0; beyond the end is the end.
    position: Option<i64>,
}

impl TaskBody {
    fn read(self) -> Result<Changes, Problem> {
        let invalid = |field: &'static str| move |e: String| Problem::invalid(field, e);
        if self.position.is_some_and(|p| p < 0) {
            return Err(Problem::invalid("position", "expected a place from 0 on"));
        }
        Ok(Changes {
            title: self.title.as_deref().map(check_title).transpose().map_err(invalid("title"))?,
            description: self
                .description
                .as_deref()
                .map(check_description)
                .transpose()
                .map_err(invalid("description"))?,
            status: self.status.as_deref().map(str::parse).transpose().map_err(invalid("status"))?,
            priority: self.priority.as_deref().map(str::parse).transpose().map_err(invalid("priority"))?,
            position: self.position,
        })
    }
}

/// List tasks by column and place: of one column from a place on, or the beginning of each.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks",
    params(("status" = Option<String>, Query, description = "Only this column"), ("from" = Option<i64>, Query, description = "From this place on, default 0"),
        ("limit" = Option<i64>, Query, description = "So many of each column, 1–1000, default 200")),
    responses((status = 200, body = Vec<TaskView>), (status = 401), (status = 403), (status = 422)))]
pub(in crate::web) async fn list(
    web: Data<Web>,
    caller: Caller<ReadState>,
    req: HttpRequest,
) -> Result<Json<Vec<TaskView>>, Problem> {
    let query = Query::read(req.query_string(), &["status", "from", "limit"])?;
    let status =
        query.text("status").map(str::parse::<TaskStatus>).transpose().map_err(|e| Problem::invalid("status", e))?;
    let from = query.parsed::<u32>("from", "a place from 0 on")?.unwrap_or(0);
    let found = tasks::list(&web.app, &caller, status, from.into(), query.limit(200, 1000)?).await?;
    Ok(Json(found.into_iter().map(TaskView::of).collect()))
}

/// Make a task at the end of its column.
#[utoipa::path(post, path = "/api/tasks", tag = "tasks", request_body = TaskBody,
    responses((status = 201, body = TaskView), (status = 401), (status = 403), (status = 415), (status = 422)))]
pub(in crate::web) async fn create(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let asked = body::json::<TaskBody>(&web, &req, payload).await?.read()?;
    if asked.position.is_some() {
        return Err(Problem::invalid("position", "a new task stands at the end of its column; move it then"));
    }
    let new = NewTask {
        title: asked.title.ok_or_else(|| Problem::invalid("title", "must be there"))?,
        description: asked.description.unwrap_or_default(),
        status: asked.status.unwrap_or(TaskStatus::Pending),
        priority: asked.priority.unwrap_or(Priority::Medium),
    };
    let made = tasks::create(&web.app, &caller, new, &origin(&req)).await?;
    let location = format!("/api/tasks/{}", made.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(TaskView::of(made)))
}

/// Show a task.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", params(("id" = String, Path)),
    responses((status = 200, body = TaskView), (status = 401), (status = 403), (status = 404)))]
pub(in crate::web) async fn show(
    web: Data<Web>,
    caller: Caller<ReadState>,
    id: Path<String>,
) -> Result<Json<TaskView>, Problem> {
    Ok(Json(TaskView::of(tasks::show(&web.app, &caller, &id).await?)))
}

/// Change a task. `PUT` does the same: what is not named stays.
#[utoipa::path(method(put, patch), path = "/api/tasks/{id}", tag = "tasks", params(("id" = String, Path)), request_body = TaskBody,
    responses((status = 200, body = TaskView), (status = 401), (status = 403), (status = 404), (status = 415), (status = 422)))]
pub(in crate::web) async fn change(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<Json<TaskView>, Problem> {
    let changes = body::json::<TaskBody>(&web, &req, payload).await?.read()?;
    Ok(Json(TaskView::of(tasks::change(&web.app, &caller, &id, changes, &origin(&req)).await?)))
}

/// Where to move a task.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Move {
    /// The column.
    status: String,
    /// The place in it, from 0. Default: the end.
    position: Option<i64>,
}

/// Move a task to a column and a place in it.
#[utoipa::path(post, operation_id = "move", path = "/api/tasks/{id}/move", tag = "tasks", params(("id" = String, Path)), request_body = Move,
    responses((status = 200, body = TaskView), (status = 401), (status = 403), (status = 404), (status = 415), (status = 422)))]
pub(in crate::web) async fn shift(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<Json<TaskView>, Problem> {
    let Move { status, position } = body::json::<Move>(&web, &req, payload).await?;
    let asked = TaskBody { title: None, description: None, status: Some(status), priority: None, position };
    Ok(Json(TaskView::of(tasks::change(&web.app, &caller, &id, asked.read()?, &origin(&req)).await?)))
}

/// Delete a task.
#[utoipa::path(delete, path = "/api/tasks/{id}", tag = "tasks", params(("id" = String, Path)),
    responses((status = 204), (status = 401), (status = 403), (status = 404)))]
pub(in crate::web) async fn delete(
    web: Data<Web>,
    caller: Caller<WriteState>,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    tasks::delete(&web.app, &caller, &id, &origin(&req)).await?;
    Ok(HttpResponse::NoContent().finish())
}
