//! Each act leaves exactly one event, every event has an act, and every event is documented.

use std::{cell::RefCell, collections::BTreeMap, collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use lokid::{
    actions::{
        App,
        app::StartError,
        background, evidence,
        keys::{Asked, rotate},
        listener, nodes,
        runs::{self, Input, StartRequest, foreman},
    },
    config::Sources,
    domain::{
        event::{Actor, EventName as E, NewEvent, Origin},
        identity::{Identity, Right},
        retention::is_noise,
        run::RunId,
        time::Clock,
        token::{TokenId, TokenSecret},
    },
    pki::leaf::KeyKind,
    store::{OpenError, ledger::Filter, runs::acts::Launch},
};
use serde_json::json;

use crate::{
    certificates,
    covered::BY_PROCESSES,
    door::{Client as _, Door, answer},
    mtls,
    pki::{Certs, server_leaf},
    refresh, workshop,
};

const KEPT: (&str, &str) = ("LOKI_SERVER_SECRET", "a secret of the tests, long enough for it");
const TOKENS: &str = "/api/enterprise/tokens";

/// What an act was seen to record.
#[derive(Default)]
struct Seen(RefCell<HashSet<&'static str>>);

impl Seen {
    /// Does something, and looks that the log has exactly one more entry of each of these names.
    async fn once<T, const N: usize>(&self, app: &App, events: [E; N], act: impl AsyncFnOnce() -> T) -> T {
        let before = counts(app, events).await;
        let done = act().await;
        assert_eq!(counts(app, events).await, before.map(|count| count + 1), "{events:?}");
        self.0.borrow_mut().extend(events.map(E::as_str));
        done
    }
}

async fn counts<const N: usize>(app: &App, events: [E; N]) -> [usize; N] {
    app.events.flush().await;
    let mut counts = [0; N];
    for (count, event) in counts.iter_mut().zip(events) {
        let filter = Filter { event: Some(event.as_str().to_owned()), ..Filter::default() };
        *count = app.store.audit_page(&filter, 10_000).await.unwrap().len();
    }
    counts
}

fn terminal<R: Right>() -> lokid::domain::identity::Caller<R> {
    Arc::new(Identity::at_the_terminal("tester")).acting_as().unwrap()
}

#[actix_web::test]
async fn every_event_has_an_act_which_leaves_exactly_one() {
    let seen = Seen::default();
    people(&seen).await;
    tokens(&seen).await;
    refusals(&seen).await;
    tasks(&seen).await;
    work(&seen).await;
    runs_of_before(&seen).await;
    a_node_that_is_lost(&seen).await;
    keys(&seen).await;
    certificates_and_files(&seen).await;
    the_log(&seen).await;
    let seen: HashSet<_> = seen.0.into_inner().into_iter().chain(BY_PROCESSES.map(E::as_str)).collect();
    let missing: Vec<_> = E::EVERY.iter().map(|e| e.as_str()).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "no act makes {missing:?}");
}

async fn people(seen: &Seen) {
    let door = refresh::offline().await;
    let app = &door.app;
    let ann = seen.once(app, [E::SignInSucceeded], async || refresh::signed_in(&door).await).await;
    door.clock.advance(refresh::INTERVAL);
    door.provider.behave();
    door.provider.change(|s| s.claims["groups"] = json!(["operators"]));
    seen.once(app, [E::RoleChanged], async || ann.get("/api/me").await).await;
    let bob = door.person("bob", "admins").await;
    let csrf = bob.csrf().await;
    seen.once(app, [E::SignedOut], async || {
        let request = bob.ask("POST", "/auth/logout").header("sec-fetch-site", "same-origin");
        answer(request.form(&[("csrf", csrf.as_str())])).await
    })
    .await;
    let eve = door.person("eve", "admins").await;
    let id = door.audit(E::RoleChanged.as_str()).await[0].resource_id.clone();
    seen.once(app, [E::SessionEnded], async || eve.submit(&format!("/people/{id}/end-sessions"), &[]).await).await;
    door.provider.behave();
    door.provider.change(|s| s.answer[0] = ("error".into(), "access_denied".into()));
    seen.once(app, [E::SignInFailed], async || door.sign_in(&[]).await).await;
}

async fn tokens(seen: &Seen) {
    let door = Door::open(&[]).await;
    let (app, holder) = (&door.app, door.token("*").await);
    let made = seen
        .once(app, [E::TokenCreated], async || holder.post(TOKENS, &json!({"name": "ci", "scopes": ["write"]})).await)
        .await
        .json();
    background::write_uses(app).await.unwrap();
    seen.once(app, [E::TokenUsed], async || {
        door.holder(made["token"].as_str().unwrap()).get("/api/tasks").await;
        background::write_uses(app).await.unwrap();
    })
    .await;
    let path = format!("{TOKENS}/{}/rotate", made["id"].as_str().unwrap());
    let new = seen.once(app, [E::TokenRotated], async || holder.post(&path, &json!({})).await).await.json();
    let path = format!("{TOKENS}/{}", new["id"].as_str().unwrap());
    seen.once(app, [E::TokenRevoked], async || answer(holder.ask("DELETE", &path)).await).await;
    let revoked = door.holder(new["token"].as_str().unwrap());
    seen.once(app, [E::CredentialRefused], async || revoked.get("/api/me").await).await;

    let door = Door::open(&[]).await;
    let app = &door.app;
    door.named_token("short", "read", Some(1)).await;
    door.clock.advance(Duration::from_hours(25));
    seen.once(app, [E::TokenExpired], async || background::note_expiries(app).await.unwrap()).await;
}

async fn refusals(seen: &Seen) {
    let door = Door::open(&[("LOKI_LIMITS_API", "1/h")]).await;
    let reader = door.token("read").await;
    seen.once(&door.app, [E::PermissionDenied], async || reader.get(TOKENS).await).await;
    seen.once(&door.app, [E::RateLimited], async || reader.get(TOKENS).await.problem(429)).await;
}

async fn tasks(seen: &Seen) {
    let door = Door::open(&[]).await;
    let (app, holder) = (&door.app, door.token("*").await);
    let made = seen.once(app, [E::TaskCreated], async || holder.post("/api/tasks", &json!({"title": "x"})).await).await;
    let path = format!("/api/tasks/{}", made.json()["id"].as_str().unwrap());
    seen.once(app, [E::TaskUpdated], async || answer(holder.ask("PATCH", &path).json(&json!({"title": "y"}))).await)
        .await;
    let place = json!({"status": "in_progress"});
    seen.once(app, [E::TaskMoved], async || holder.post(&format!("{path}/move"), &place).await).await;
    seen.once(app, [E::TaskDeleted], async || answer(holder.ask("DELETE", &path)).await).await;
}

async fn work(seen: &Seen) {
    let script =
        "printf '%s' \"$LOKI_TOKEN\" > token; echo on; until [ -e code ]; do sleep 0.02; done; exit $(cat code)";
    let door = workshop::open(script, &[]).await;
    let (app, operator) = (&door.app, door.token("control").await);
    let control = async |what: &str| operator.post(&format!("/api/control/{what}"), &json!({})).await;
    let id = seen
        .once(app, [E::RunStarted, E::RunLaunched], async || {
            let id = workshop::start(&operator).await;
            workshop::until_it_said(&operator, &id, 1).await;
            id
        })
        .await;
    seen.once(app, [E::RunPaused], async || control("pause").await).await;
    seen.once(app, [E::RunResumed], async || control("resume").await).await;
    let worker = door.holder(&fs::read_to_string(door.work("token")).unwrap());
    let report = json!({"phase": "painting", "iteration": 1});
    seen.once(app, [E::RunReported], async || worker.post(&format!("/api/v2/runs/{id}/progress"), &report).await).await;
    seen.once(app, [E::RunStopped, E::RunCompleted], async || {
        control("stop").await;
        workshop::until_it_is(&operator, &id, "stopped").await
    })
    .await;
    fs::write(door.work("code"), "3").unwrap();
    seen.once(app, [E::RunFailed], async || {
        let id = workshop::start(&operator).await;
        workshop::until_it_is(&operator, &id, "failed").await
    })
    .await;
    door.clock.advance(app.settings.runs.keep + Duration::from_secs(1));
    seen.once(app, [E::RunsForgotten], async || foreman::forget(app).await.unwrap()).await;
}

/// A server under this name, without the tasks that work beside the requests.
async fn bare(dir: &Path, node: &str) -> Arc<App> {
    let env: BTreeMap<_, _> = [
        ("LOKI_DATABASE_URL", format!("sqlite://{}", dir.join("loki.db").display())),
        ("LOKI_RUNS_WORKSPACE", dir.display().to_string()),
        ("LOKI_RUNS_COMMAND", "true {prd}".into()),
        ("LOKI_CLUSTER_NODE", node.into()),
        ("LOKI_CLUSTER_LEASE", "2s".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut settings = Sources { file: None, flags: Vec::new(), env }.load().unwrap();
    settings.runs.supervisor = env!("CARGO_BIN_EXE_lokid").into();
    loop {
        match App::start(settings.clone(), Clock::system(), true).await {
            // The last task of the one before ends by itself.
            Err(StartError::Store(OpenError::Locked(_))) => tokio::task::yield_now().await,
            started => return started.unwrap(),
        }
    }
}

/// A run that waits for its turn.
async fn waiting_run(app: &App) -> RunId {
    let input = Input::Text("paint".into());
    let request = StartRequest { input, provider: None, config: None, request_id: None };
    runs::start(app, &terminal(), request, &Origin::default()).await.unwrap().run.id
}

async fn runs_of_before(seen: &Seen) {
    let dir = tempfile::tempdir().unwrap();
    let app = bare(dir.path(), "a").await;
    let id = waiting_run(&app).await;
    let launch = Launch {
        node: "a".into(),
        at_once: 1,
        token: TokenId::from_random(app.entropy.bytes()),
        digest: TokenSecret::from_random(app.entropy.bytes()).digest(),
        event: NewEvent::new(app.now(), E::TokenCreated, Actor::system()),
    };
    app.store.act(launch).await.unwrap().expect("its turn");
    // As after a kill between the turn and the process.
    seen.once(&app, [E::RunRequeued], async || {
        foreman::begin(&app);
        while app.store.run(&id).await.unwrap().is_none_or(|run| run.ended_at.is_none()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn a_node_that_is_lost(seen: &Seen) {
    let dir = tempfile::tempdir().unwrap();
    let app = bare(dir.path(), "a").await;
    waiting_run(&app).await;
    nodes::Neighbours::default().look(&app).await.unwrap();
    app.close().await;
    drop(app);
    let app = bare(dir.path(), "b").await;
    let mut neighbours = nodes::Neighbours::default();
    seen.once(&app, [E::NodeLost], async || {
        while counts(&app, [E::NodeLost]).await == [0] {
            neighbours.look(&app).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn keys(seen: &Seen) {
    let door = Door::open(&[KEPT]).await;
    let app = &door.app;
    let step = async |asked| rotate(app, &terminal(), asked, true, &Origin::default()).await.unwrap();
    seen.once(app, [E::KeyAdded], async || step(Asked::Add).await).await;
    seen.once(app, [E::KeyPromoted], async || step(Asked::Promote(None)).await).await;
    seen.once(app, [E::KeyRemoved], async || step(Asked::Remove(None)).await).await;
}

async fn certificates_and_files(seen: &Seen) {
    let certs = Certs::new();
    let (door, secret) = certificates::door(&certs, &[]).await;
    let (app, host) = (&door.app, door.holder(&secret));
    let ask = async || host.post(certificates::OBTAIN, &json!({"domain": "a.example.com"})).await;
    seen.once(app, [E::CertificateIssued], async || ask().await).await;
    seen.once(app, [E::CertificateFetched], async || ask().await).await;
    let admin = door.person("ann", "admins").await;
    let issued = door.audit(E::CertificateIssued.as_str()).await[0].resource_id.clone();
    seen.once(app, [E::CertificateRevoked], async || {
        admin.submit(&format!("/certificates/{issued}/revoke"), &[]).await
    })
    .await;

    let certs = Certs::new();
    let door = mtls::door(&certs, &[]).await;
    let mut watch = listener::Watch::default();
    watch.look(&door.app).await.unwrap();
    let day = Duration::from_hours(24);
    certs.show(&certs.authority.issue(&server_leaf(), KeyKind::P256, day, door.clock.now()).unwrap());
    seen.once(&door.app, [E::CertificateLoaded], async || watch.look(&door.app).await.unwrap()).await;
}

async fn the_log(seen: &Seen) {
    let door = Door::open(&[KEPT]).await;
    let (app, holder) = (&door.app, door.token("*").await);
    seen.once(app, [E::AuditVerified], async || holder.get("/api/audit/verify").await).await;
    seen.once(app, [E::AuditExported], async || holder.get("/api/audit/export").await).await;
    seen.once(app, [E::AuditCheckpointed], async || evidence::sign(app, true).await.unwrap()).await;
    seen.once(app, [E::AuditGap], async || {
        // More than may wait, without a pause in which they could be written.
        for _ in 0..100_000 {
            app.events.record(NewEvent::new(app.now(), E::TokenUsed, Actor::system()));
        }
    })
    .await;

    let door = Door::open(&[KEPT]).await;
    let app = &door.app;
    door.holder("loki_guess").get("/api/me").await.problem(401);
    app.events.flush().await;
    // What no checkpoint covers is not taken out.
    evidence::sign(app, true).await.unwrap().unwrap();
    door.clock.advance(Duration::from_hours(24 * 100));
    seen.once(app, [E::AuditRetained], async || evidence::retain(app, &terminal(), &Origin::default()).await.unwrap())
        .await;
}

#[test]
fn every_event_is_in_the_documentation_with_its_class() {
    let text = include_str!("../../docs/audit.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for name in E::EVERY.iter().map(|name| name.as_str()) {
        let row = rows.iter().find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))));
        let row = row.unwrap_or_else(|| panic!("docs/audit.md does not list {name}"));
        let class = row.split('|').nth(2).unwrap().trim();
        assert_eq!(class == "noise", is_noise(name), "{name} is {class}");
    }
}
