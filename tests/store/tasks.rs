//! Tasks on both engines: places in a column, moves, and pages of a column.

use lokid::{
    domain::{
        entropy::Entropy,
        event::EventName,
        task::{Priority, Task, TaskId, TaskStatus},
    },
    store::{
        Store,
        tasks::{Add, Change, Changes},
    },
};

use crate::support::values::{at, event_at};

async fn add(store: &Store, title: &str) -> Task {
    let task = Task {
        id: TaskId::from_random(Entropy.bytes()),
        title: title.to_owned(),
        description: String::new(),
        status: TaskStatus::Pending,
        priority: Priority::Low,
        position: 0,
        created_by: "tok-x".to_owned(),
        created_at: at(0),
        updated_at: at(0),
    };
    store.act(Add { task, event: event_at(EventName::TaskCreated, at(0)) }).await.unwrap()
}

async fn put(store: &Store, task: &Task, status: TaskStatus, position: i64) -> Option<Task> {
    let changes = Changes { status: Some(status), position: Some(position), ..Changes::default() };
    let event = event_at(EventName::TaskMoved, at(1));
    store.act(Change { id: task.id.clone(), changes, event }).await.unwrap().unwrap().ok()
}

async fn titles(store: &Store, status: TaskStatus, from: i64, limit: i64) -> Vec<(i64, String)> {
    let found = store.tasks_in(status, from, limit).await.unwrap();
    found.into_iter().map(|task| (task.position, task.title)).collect()
}

fn row(at: i64, title: &str) -> (i64, String) {
    (at, title.to_owned())
}

each_engine! {
    async fn a_column_keeps_its_order_and_shows_it_in_pages(home) {
        let mut tasks = vec![];
        for title in ["a", "b", "c", "d"] {
            tasks.push(add(&home.store, title).await);
        }
        assert_eq!(tasks.iter().map(|task| task.position).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(put(&home.store, &tasks[3], TaskStatus::Pending, 1).await.unwrap().position, 1);
        let pending = TaskStatus::Pending;
        assert_eq!(titles(&home.store, pending, 0, 10).await, [row(0, "a"), row(1, "d"), row(2, "b"), row(3, "c")]);
        assert_eq!(titles(&home.store, pending, 1, 2).await, [row(1, "d"), row(2, "b")]);
        assert_eq!(put(&home.store, &tasks[0], TaskStatus::InProgress, 5).await.unwrap().position, 0);
        assert_eq!(home.store.count_tasks(pending).await.unwrap(), 3);
        assert!(put(&home.store, &tasks[1], TaskStatus::Done, 0).await.is_none());
        assert_eq!(home.store.task(&tasks[1].id).await.unwrap().unwrap().status, pending);
    }
}
