//! Tasks of the board: listed, made, changed, moved, deleted.

use super::{ActError, App};
use crate::{
    domain::{
        event::{EventName, NewEvent, Origin},
        identity::{Caller, Identity, ReadState, WriteState},
        task::{Priority, Task, TaskId, TaskStatus},
    },
    store::tasks::{Add, Change, Changes, Delete},
};

/// What a new task shall be; its texts are checked.
#[derive(Debug)]
pub struct NewTask {
    /// What is to be done.
    pub title: String,
    /// More about it.
    pub description: String,
    /// Its column.
    pub status: TaskStatus,
    /// How much it matters.
    pub priority: Priority,
}

fn event(app: &App, name: EventName, who: &Identity, id: &TaskId, from: &Origin) -> NewEvent {
    NewEvent::new(app.now(), name, who.actor.clone()).on("task", id.as_str()).from(from)
}

fn not_found(which: &str) -> ActError {
    ActError::NotFound { what: "task", which: which.chars().take(80).collect() }
}

fn id_of(which: &str) -> Result<TaskId, ActError> {
    which.parse().map_err(|_| not_found(which))
}

/// A stretch of one column, or the beginning of each.
///
/// # Errors
/// [`ActError`].
pub async fn list(
    app: &App,
    _: &Caller<ReadState>,
    status: Option<TaskStatus>,
    from: i64,
    limit: i64,
) -> Result<Vec<Task>, ActError> {
    let mut tasks = Vec::new();
    for column in TaskStatus::EVERY.iter().copied().filter(|column| status.is_none_or(|s| s == *column)) {
        tasks.extend(app.store.tasks_in(column, from, limit).await?);
    }
    Ok(tasks)
}

/// How many tasks stand in a column.
///
/// # Errors
/// [`ActError`].
pub async fn count(app: &App, _: &Caller<ReadState>, status: TaskStatus) -> Result<i64, ActError> {
    Ok(app.store.count_tasks(status).await?)
}

/// One task.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn show(app: &App, _: &Caller<ReadState>, which: &str) -> Result<Task, ActError> {
    app.store.task(&id_of(which)?).await?.ok_or_else(|| not_found(which))
}

/// Makes a task at the end of its column.
///
/// # Errors
/// [`ActError`].
pub async fn create(app: &App, caller: &Caller<WriteState>, new: NewTask, from: &Origin) -> Result<Task, ActError> {
    let (who, now) = (caller.identity(), app.now());
    let id = TaskId::from_random(app.entropy.bytes());
    let event = event(app, EventName::TaskCreated, who, &id, from).with("status", new.status.as_str());
    let task = Task {
        id,
        title: new.title,
        description: new.description,
        status: new.status,
        priority: new.priority,
        position: 0,
        created_by: who.actor.id.clone(),
        created_at: now,
        updated_at: now,
    };
    Ok(app.store.act(Add { task, event }).await?)
}

/// Changes a task, or moves it.
///
/// # Errors
/// [`ActError::NotFound`]; [`ActError::Invalid`] for a move that the board does not know.
pub async fn change(
    app: &App,
    caller: &Caller<WriteState>,
    which: &str,
    changes: Changes,
    from: &Origin,
) -> Result<Task, ActError> {
    let id = id_of(which)?;
    let is_move = changes.status.is_some() || changes.position.is_some();
    let name = if is_move { EventName::TaskMoved } else { EventName::TaskUpdated };
    let event = event(app, name, caller.identity(), &id, from);
    let changed = app.store.act(Change { id, changes, event }).await?.ok_or_else(|| not_found(which))?;
    changed.map_err(|e| ActError::Invalid { field: "status", message: e.to_string() })
}

/// Deletes a task.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn delete(app: &App, caller: &Caller<WriteState>, which: &str, from: &Origin) -> Result<(), ActError> {
    let id = id_of(which)?;
    let event = event(app, EventName::TaskDeleted, caller.identity(), &id, from);
    if app.store.act(Delete { id, event }).await? { Ok(()) } else { Err(not_found(which)) }
}
