//! `/api/tasks`: made, changed, moved, deleted, and what each act leaves in the log.

use serde_json::{Value, json};

use crate::door::{Answer, Client, Door, answer};

const PATH: &str = "/api/tasks";

async fn make(who: &impl Client, body: &Value) -> Value {
    let made = who.post(PATH, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()
}

async fn send(who: &impl Client, method: &str, path: &str, body: &Value) -> Answer {
    answer(who.ask(method, path).json(body)).await
}

fn address(task: &Value) -> String {
    format!("{PATH}/{}", task["id"].as_str().unwrap())
}

async fn column(who: &impl Client, status: &str) -> Vec<String> {
    let listed = who.get(&format!("{PATH}?status={status}")).await.json();
    let tasks = listed.as_array().unwrap();
    for (at, task) in tasks.iter().enumerate() {
        assert_eq!(task["position"], json!(at));
    }
    tasks.iter().map(|task| task["title"].as_str().unwrap().to_owned()).collect()
}

#[actix_web::test]
async fn a_task_is_made_shown_changed_and_deleted_with_an_event_each() {
    let door = Door::open(&[]).await;
    let writer = door.token("write").await;
    let made = writer.post(PATH, &json!({"title": " Ship it ", "priority": "high"})).await;
    let task = made.json();
    assert_eq!(made.header("location"), address(&task));
    assert_eq!(
        (&task["title"], &task["status"], &task["priority"]),
        (&json!("Ship it"), &json!("pending"), &json!("high"))
    );
    assert_eq!((&task["position"], &task["created_by"]), (&json!(0), &json!(writer.id.as_str())));
    assert_eq!(door.token("read").await.get("/api/status").await.json()["pending_tasks"], 1);

    for method in ["PATCH", "PUT"] {
        let changed = send(&writer, method, &address(&task), &json!({"description": method})).await.json();
        assert_eq!((&changed["description"], &changed["title"]), (&json!(method), &json!("Ship it")));
    }
    assert_eq!(writer.get(&address(&task)).await.json()["description"], "PUT");
    assert_eq!(answer(writer.ask("DELETE", &address(&task))).await.status, 204);
    answer(writer.ask("DELETE", &address(&task))).await.problem(404);
    writer.get(&address(&task)).await.problem(404);
    for (event, times) in [("task.create", 1), ("task.update", 2), ("task.delete", 1)] {
        let found = door.audit(event).await;
        assert_eq!((found.len(), found[0].actor_id.as_str()), (times, writer.id.as_str()), "{event}");
        assert_eq!(found[0].resource_id, task["id"].as_str().unwrap());
    }
}

#[actix_web::test]
async fn a_card_moves_as_the_board_allows_and_to_the_place_it_is_put() {
    let door = Door::open(&[]).await;
    let writer = door.token("write").await;
    let mut tasks = vec![];
    for title in ["a", "b", "c"] {
        tasks.push(make(&writer, &json!({"title": title})).await);
    }
    let step = |task: &Value, body: Value| {
        let path = format!("{}/move", address(task));
        let writer = &writer;
        async move { send(writer, "POST", &path, &body).await }
    };
    assert_eq!(step(&tasks[2], json!({"status": "pending", "position": 0})).await.status, 200);
    assert_eq!(column(&writer, "pending").await, ["c", "a", "b"]);
    assert_eq!(step(&tasks[2], json!({"status": "pending", "position": 1})).await.json()["position"], 1);
    assert_eq!(column(&writer, "pending").await, ["a", "c", "b"]);
    assert_eq!(step(&tasks[0], json!({"status": "pending", "position": 99})).await.status, 200);
    assert_eq!(column(&writer, "pending").await, ["c", "b", "a"]);

    let refused = step(&tasks[0], json!({"status": "done"})).await;
    assert!(refused.problem(422).contains("from pending it can go to in_progress"));
    assert_eq!(column(&writer, "pending").await, ["c", "b", "a"]);
    for (status, before) in [("in_progress", "pending"), ("done", "in_progress"), ("review", "done")] {
        assert_eq!(step(&tasks[0], json!({"status": status})).await.json()["status"], status);
        let event = &door.audit("task.move").await[0];
        assert!(event.details.contains(before) && event.details.contains(status), "{}", event.details);
    }
    assert_eq!(column(&writer, "review").await, ["a"]);
}

#[actix_web::test]
async fn a_place_between_two_cards_is_found_however_often_one_is_put_there() {
    let door = Door::open(&[]).await;
    let writer = door.token("write").await;
    for title in ["first", "last"] {
        make(&writer, &json!({"title": title})).await;
    }
    let mut wanted = vec!["first".to_owned(), "last".to_owned()];
    for n in 0..40 {
        let task = make(&writer, &json!({"title": n.to_string()})).await;
        let path = format!("{}/move", address(&task));
        assert_eq!(send(&writer, "POST", &path, &json!({"status": "pending", "position": 1})).await.status, 200);
        wanted.insert(1, n.to_string());
    }
    assert_eq!(column(&writer, "pending").await, wanted);
}

#[actix_web::test]
async fn nonsense_and_too_little_right_change_nothing() {
    let door = Door::open(&[]).await;
    let (writer, reader) = (door.token("write").await, door.token("read audit").await);
    let good = json!({"title": "t"});
    reader.post(PATH, &good).await.problem(403);
    for (body, field) in [
        (json!({}), "title"),
        (json!({"title": ""}), "title"),
        (json!({"title": "a\u{1b}[31m"}), "title"),
        (json!({"title": "t", "status": "doing"}), "status"),
        (json!({"title": "t", "priority": "urgent"}), "priority"),
        (json!({"title": "t", "position": 0}), "position"),
        (json!({"title": "t", "colour": "red"}), "colour"),
        (json!({"title": "t", "description": "x".repeat(10_001)}), "description"),
    ] {
        let refused = writer.post(PATH, &body).await;
        assert!(refused.problem(422).contains(field), "{body}: {}", refused.text);
    }
    assert!(column(&writer, "pending").await.is_empty() && door.audit("task.create").await.is_empty());
    let task = make(&writer, &good).await;
    for (method, path, body) in [
        ("PATCH", address(&task), json!({"title": ""})),
        ("POST", format!("{}/move", address(&task)), json!({"status": "pending", "position": -1})),
        ("POST", format!("{}/move", address(&task)), json!({"position": 0})),
    ] {
        send(&writer, method, &path, &body).await.problem(422);
    }
    send(&reader, "PATCH", &address(&task), &json!({"title": "mine"})).await.problem(403);
    assert_eq!(reader.get(&address(&task)).await.json()["title"], "t");
    for query in ["?status=x", "?limit=0", "?from=-1", "?page=2"] {
        reader.get(&format!("{PATH}{query}")).await.problem(422);
    }
    assert_eq!(writer.post("/api/tasks/create", &good).await.status, 201);
}
