//! Tasks: listed by column, made, changed, moved, deleted; every change with its event.

use super::{Act, Batch, Store, StoreError, dialect::Conn, statements::statements};
use crate::domain::{
    event::NewEvent,
    ledger::storable,
    task::{NoSuchMove, Priority, Task, TaskId, TaskStatus},
    time::Moment,
};

/// Ranks of neighbours are so far apart, so that most moves change one row.
const GAP: i64 = 1 << 20;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.title, t.description, t.status, t.priority, t.created_by, t.created_at, t.updated_at, ",
            "(SELECT COUNT(*) FROM tasks b WHERE b.status = t.status AND (b.rank < t.rank OR (b.rank = t.rank AND b.id < t.id))) ",
            "AS position FROM tasks t ",
            $rest
        )
    };
}

statements! {
    /// One.
    BY_ID = select!("WHERE t.id = $1");
    /// A stretch of one column.
    COLUMN = "SELECT id, title, description, status, priority, created_by, created_at, updated_at, $2 + ROW_NUMBER() OVER \
         (ORDER BY rank, id) - 1 AS position FROM (SELECT * FROM tasks WHERE status = $1 ORDER BY rank, id LIMIT $3 OFFSET $2) t \
         ORDER BY position";
    /// How many are in a column.
    COUNT = "SELECT COUNT(*) FROM tasks WHERE status = $1";
    /// A new one, at the end of its column.
    ADD = "INSERT INTO tasks (id, title, description, status, priority, rank, created_by, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    /// The end of a column.
    LAST_RANK = "SELECT MAX(rank) FROM tasks WHERE status = $1";
    /// Ranks around a place, without the task that goes there.
    AROUND = "SELECT rank FROM tasks WHERE status = $1 AND id <> $2 ORDER BY rank, id LIMIT 2 OFFSET $3";
    /// All of a column in order, without the task that moves.
    IN_ORDER = "SELECT id FROM tasks WHERE status = $1 AND id <> $2 ORDER BY rank, id";
    /// A new place.
    RANK = "UPDATE tasks SET rank = $1 WHERE id = $2";
    /// What is written on it.
    EDIT = "UPDATE tasks SET title = $1, description = $2, priority = $3, updated_at = $4 WHERE id = $5";
    /// Its column and place.
    MOVE = "UPDATE tasks SET status = $1, rank = $2, updated_at = $3 WHERE id = $4";
    /// Away with it.
    DELETE = "DELETE FROM tasks WHERE id = $1";
}

row! {
    TaskRow {
        id: String, title: String, description: String, status: String, priority: String, position: i64, created_by: String,
        created_at: i64, updated_at: i64,
    }
}

impl TaskRow {
    fn read(self) -> Result<Task, StoreError> {
        Ok(Task {
            id: self.id.parse().map_err(|_| StoreError::Damaged("a task's id"))?,
            title: self.title,
            description: self.description,
            status: self.status.parse().map_err(|_| StoreError::Damaged("a task's status"))?,
            priority: self.priority.parse().map_err(|_| StoreError::Damaged("a task's priority"))?,
            position: self.position,
            created_by: self.created_by,
            created_at: Moment::from_millis(self.created_at),
            updated_at: Moment::from_millis(self.updated_at),
        })
    }
}

impl Store {
    /// One task.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn task(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        let row: Option<TaskRow> =
            on_db!(&self.db, pool => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(pool).await?);
        row.map(TaskRow::read).transpose()
    }

    /// A stretch of a column, from the place `from` on.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn tasks_in(&self, status: TaskStatus, from: i64, limit: i64) -> Result<Vec<Task>, StoreError> {
        let rows: Vec<TaskRow> = on_db!(&self.db, pool =>
            sqlx::query_as(COLUMN).bind(status.as_str()).bind(from).bind(limit).fetch_all(pool).await?);
        rows.into_iter().map(TaskRow::read).collect()
    }

    /// How many tasks stand in a column.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn count_tasks(&self, status: TaskStatus) -> Result<i64, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(COUNT).bind(status.as_str()).fetch_one(pool).await?))
    }
}

async fn find(conn: &mut Conn, id: &TaskId) -> Result<Option<Task>, StoreError> {
    let row: Option<TaskRow> =
        on_conn!(conn, conn => sqlx::query_as(BY_ID).bind(id.as_str()).fetch_optional(conn).await?);
    row.map(TaskRow::read).transpose()
}

async fn end_of(conn: &mut Conn, status: TaskStatus) -> Result<i64, StoreError> {
    let last: Option<i64> =
        on_conn!(conn, conn => sqlx::query_scalar(LAST_RANK).bind(status.as_str()).fetch_one(conn).await?);
    Ok(last.map_or(0, |rank| rank.saturating_add(GAP)))
}

/// The rank for a place in a column; makes room where there is none.
async fn rank_at(conn: &mut Conn, status: TaskStatus, moving: &TaskId, place: i64) -> Result<i64, StoreError> {
    let around: Vec<i64> = on_conn!(conn, conn => sqlx::query_scalar(AROUND)
        .bind(status.as_str()).bind(moving.as_str()).bind((place - 1).max(0)).fetch_all(conn).await?);
    match (place, around.as_slice()) {
        (0, [first, ..]) => Ok(first.saturating_sub(GAP)),
        (0, []) => Ok(0),
        (_, [before, after]) if after - before > 1 => Ok(before + (after - before) / 2),
        (_, [_, _]) => {
            spread(conn, status, moving, place).await?;
            Ok(place * GAP)
        }
        // Beyond the end is the end.
        _ => end_of(conn, status).await,
    }
}

/// Gives a column new ranks, with room at `place`.
async fn spread(conn: &mut Conn, status: TaskStatus, moving: &TaskId, place: i64) -> Result<(), StoreError> {
    let ids: Vec<String> = on_conn!(conn, conn =>
        sqlx::query_scalar(IN_ORDER).bind(status.as_str()).bind(moving.as_str()).fetch_all(conn).await?);
    for (at, id) in (0..).zip(ids) {
        let rank = if at < place { at * GAP } else { (at + 1) * GAP };
        on_conn!(conn, conn => { sqlx::query(RANK).bind(rank).bind(id).execute(conn).await?; });
    }
    Ok(())
}

/// Makes a task at the end of its column.
#[derive(Debug)]
pub struct Add {
    /// The task; its place is not looked at.
    pub task: Task,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Add {
    type Output = Task;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Task, StoreError> {
        let (t, conn) = (&self.task, batch.conn().await?);
        let rank = end_of(conn, t.status).await?;
        on_conn!(conn, conn => {
            sqlx::query(ADD)
                .bind(t.id.as_str())
                .bind(storable(t.title.clone()))
                .bind(storable(t.description.clone()))
                .bind(t.status.as_str())
                .bind(t.priority.as_str())
                .bind(rank)
                .bind(storable(t.created_by.clone()))
                .bind(t.created_at.millis())
                .execute(conn)
                .await?;
        });
        let made = find(conn, &t.id).await?.ok_or(StoreError::Damaged("a task that was just made"))?;
        batch.record(self.event.clone());
        Ok(made)
    }
}

/// What to change of a task; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Another title.
    pub title: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// Another priority.
    pub priority: Option<Priority>,
    /// Another column.
    pub status: Option<TaskStatus>,
    /// Another place in the column.
    pub position: Option<i64>,
}

/// Changes a task.
#[derive(Debug)]
pub struct Change {
    /// Which.
    pub id: TaskId,
    /// What.
    pub changes: Changes,
    /// What to record; what changed is filled in.
    pub event: NewEvent,
}

impl Act for Change {
    /// `None` when there is no such task; a move that the board does not know changes nothing.
    type Output = Option<Result<Task, NoSuchMove>>;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<Self::Output, StoreError> {
        let conn = batch.conn().await?;
        let Some(old) = find(conn, &self.id).await? else { return Ok(None) };
        let (wanted, at) = (&self.changes, self.event.time.millis());
        let status = wanted.status.unwrap_or(old.status);
        if let Err(refused) = old.status.check_move(status) {
            return Ok(Some(Err(refused)));
        }
        let title = storable(wanted.title.clone().unwrap_or_else(|| old.title.clone()));
        let description = storable(wanted.description.clone().unwrap_or_else(|| old.description.clone()));
        let priority = wanted.priority.unwrap_or(old.priority);
        on_conn!(conn, conn => {
            sqlx::query(EDIT).bind(&title).bind(&description).bind(priority.as_str()).bind(at).bind(self.id.as_str()).execute(conn).await?;
        });
        if status != old.status || wanted.position.is_some() {
            let rank = match wanted.position {
                Some(place) => rank_at(conn, status, &self.id, place).await?,
                None => end_of(conn, status).await?,
            };
            on_conn!(conn, conn => {
                sqlx::query(MOVE).bind(status.as_str()).bind(rank).bind(at).bind(self.id.as_str()).execute(conn).await?;
            });
        }
        let now = find(conn, &self.id).await?.ok_or(StoreError::Damaged("a task that was just changed"))?;
        batch.record(described(self.event.clone(), &old, &now));
        Ok(Some(Ok(now)))
    }
}

/// The event with what changed: names of fields, and from where to where it moved.
fn described(event: NewEvent, old: &Task, now: &Task) -> NewEvent {
    let changed = [
        ("title", old.title != now.title),
        ("description", old.description != now.description),
        ("priority", old.priority != now.priority),
        ("status", old.status != now.status),
        ("position", old.position != now.position),
    ];
    let names: Vec<_> = changed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
    let event = event.with("changed", names.join(" "));
    if old.status == now.status {
        event
    } else {
        event.with("from", old.status.as_str()).with("to", now.status.as_str())
    }
}

/// Deletes a task.
#[derive(Debug)]
pub struct Delete {
    /// Which.
    pub id: TaskId,
    /// What to record.
    pub event: NewEvent,
}

impl Act for Delete {
    /// Whether it was there.
    type Output = bool;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let gone = on_conn!(batch.conn().await?, conn =>
            sqlx::query(DELETE).bind(self.id.as_str()).execute(conn).await?.rows_affected());
        if gone == 1 {
            batch.record(self.event.clone());
        }
        Ok(gone == 1)
    }
}
