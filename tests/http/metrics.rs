//! `/metrics`: who may see it, that each series moves by exactly what was done, and that nothing which a
//! caller makes up becomes a label.
#![expect(clippy::float_cmp, reason = "counts are whole numbers, which are exact")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::door::{Anonymous, Client, Door, WithToken, answer};

/// Values by series with its labels, as Prometheus reads the text.
#[derive(Debug, Clone)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?}")))
        };
        let all: Vec<(String, f64)> = samples.map(sample).collect();
        let (count, by_name) = (all.len(), BTreeMap::from_iter(all));
        assert_eq!(count, by_name.len(), "a series stands there twice:\n{text}");
        Self(by_name)
    }

    async fn by(who: &WithToken<'_>) -> Self {
        let answer = who.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Self::read(&answer.text)
    }

    fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// What has grown since `before` among the series of this name, and by how much.
    fn grown(&self, before: &Self, name: &str) -> BTreeMap<String, f64> {
        let of_name = self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        let grown = of_name.map(|(series, value)| {
            let labels = series.strip_prefix(name).unwrap().to_owned();
            (labels, value - before.0.get(series).copied().unwrap_or_default())
        });
        grown.filter(|(_, by)| *by != 0.0).collect()
    }

    fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(|series| series.split('{').next().unwrap()).collect()
    }
}

fn expected<const N: usize>(of: [(&str, f64); N]) -> BTreeMap<String, f64> {
    of.map(|(labels, by)| (labels.to_owned(), by)).into()
}

#[actix_web::test]
async fn it_is_for_whoever_may_read() {
    let door = Door::open(&[]).await;
    Anonymous(&door).get("/metrics").await.problem(401);
    door.token("audit").await.get("/metrics").await.problem(403);
    let seen = door.token("read").await.get("/metrics").await;
    assert_eq!((seen.status, seen.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(seen.header("cache-control"), "no-store");
    assert_eq!(door.person("vic", "viewers").await.get("/metrics").await.status, 200);
}

#[actix_web::test]
async fn a_listener_of_its_own_asks_for_nothing_and_serves_nothing_else() {
    let door = Door::open(&[("LOKI_METRICS_LISTEN", "127.0.0.1:0")]).await;
    let there = |path: &str| format!("http://{}{path}", door.metrics.unwrap());
    let seen = answer(door.http.get(there("/metrics"))).await;
    assert_eq!(seen.status, 200);
    assert!(Scrape::read(&seen.text).value("lokid_database_up") > 0.0);
    for path in ["/", "/api/me", "/readyz", "/api/status", "/metrics/x"] {
        assert_eq!(answer(door.http.get(there(path))).await.status, 404, "{path}");
    }
    Anonymous(&door).get("/metrics").await.problem(401);

    door.app.close().await;
    let seen = answer(door.http.get(there("/metrics"))).await;
    let scrape = Scrape::read(&seen.text);
    assert!(seen.status == 200 && scrape.value("lokid_database_up") == 0.0, "{}", seen.text);
    assert!(!scrape.names().contains("lokid_tokens_active") && scrape.names().contains("lokid_http_requests_total"));
    assert!(Door::open(&[]).await.metrics.is_none(), "nobody listens unless told to");
}

#[actix_web::test]
async fn requests_are_counted_by_route_method_status_and_credential() {
    let door = Door::open(&[]).await;
    let (reader, person) = (door.token("read").await, door.person("ann", "operators").await);
    let before = Scrape::by(&reader).await;
    for _ in 0..3 {
        reader.get("/api/me").await;
    }
    person.get("/tasks").await;
    reader.post("/api/tasks", &json!({"title": "x"})).await.problem(403);
    reader.get("/api/tasks/tsk-1").await.problem(404);
    reader.get("/api/tasks/tsk-2").await.problem(404);
    Anonymous(&door).get("/healthz").await;
    answer(Anonymous(&door).ask("HEAD", "/healthz")).await;
    answer(Anonymous(&door).ask("DELETE", "/healthz")).await.problem(405);
    door.holder("loki_guess").get("/api/me").await.problem(401);
    Anonymous(&door).get("/nowhere").await.problem(404);
    let after = Scrape::by(&reader).await;
    let grown = expected([
        (r#"{route="/api/me",method="GET",status="2xx",credential="token"}"#, 3.0),
        (r#"{route="/api/me",method="GET",status="4xx",credential="none"}"#, 1.0),
        (r#"{route="/tasks",method="GET",status="2xx",credential="session"}"#, 1.0),
        (r#"{route="/api/tasks",method="POST",status="4xx",credential="token"}"#, 1.0),
        (r#"{route="/api/tasks/{id}",method="GET",status="4xx",credential="token"}"#, 2.0),
        (r#"{route="/healthz",method="GET",status="2xx",credential="none"}"#, 1.0),
        (r#"{route="/healthz",method="HEAD",status="2xx",credential="none"}"#, 1.0),
        (r#"{route="/healthz",method="DELETE",status="4xx",credential="none"}"#, 1.0),
        (r#"{route="(none)",method="GET",status="4xx",credential="none"}"#, 1.0),
        (r#"{route="/metrics",method="GET",status="2xx",credential="token"}"#, 1.0),
    ]);
    assert_eq!(after.grown(&before, "lokid_http_requests_total"), grown);
    let times = expected([
        (r#"{route="/api/me"}"#, 4.0),
        (r#"{route="/tasks"}"#, 1.0),
        (r#"{route="/api/tasks"}"#, 1.0),
        (r#"{route="/api/tasks/{id}"}"#, 2.0),
        (r#"{route="/healthz"}"#, 3.0),
        (r#"{route="(none)"}"#, 1.0),
        (r#"{route="/metrics"}"#, 1.0),
    ]);
    assert_eq!(after.grown(&before, "lokid_http_request_duration_seconds_count"), times);
    let all = r#"lokid_http_request_duration_seconds_bucket{route="/api/me",le="+Inf"}"#;
    assert_eq!(after.value(all) - before.0.get(all).copied().unwrap_or_default(), 4.0);
}

#[actix_web::test]
async fn what_a_proxy_asks_about_is_counted_by_who_was_let_through() {
    let apps = "[{host: app.example, rules: [{path: /, scope: read}]}]";
    let door = Door::open(&[("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1"), ("LOKI_FORWARD_AUTH_APPS", apps)]).await;
    let (reader, person) = (door.token("read").await, door.person("ann", "operators").await);
    let before = Scrape::by(&reader).await;
    assert_eq!(crate::forward::pass(&person, "/made/up").await, 200);
    assert_eq!(crate::forward::pass(&Anonymous(&door), "/made/up").await, 401);
    let after = Scrape::by(&reader).await;
    let mut grown = after.grown(&before, "lokid_http_requests_total");
    grown.retain(|labels, _| labels.contains("/auth/verify"));
    let of_both = expected([
        (r#"{route="/auth/verify",method="GET",status="2xx",credential="session"}"#, 1.0),
        (r#"{route="/auth/verify",method="GET",status="4xx",credential="none"}"#, 1.0),
    ]);
    assert_eq!(grown, of_both);
}

#[actix_web::test]
async fn sign_ins_and_refusals_are_counted_with_their_reasons() {
    let door = Door::open(&[("LOKI_RBAC_DEFAULT_ROLE", "none")]).await;
    let reader = door.token("read").await;
    let before = Scrape::by(&reader).await;
    door.person("ann", "admins").await;
    door.person("bob", "operators").await;
    door.provider.behave();
    door.provider.change(|s| s.claims["groups"] = json!(["strangers"]));
    assert_ne!(door.sign_in(&[]).await.status, 303);
    door.come_back("state=made-up&code=x", "loki_signin_x=y", &[]).await;
    let signed_in = Scrape::by(&reader).await;
    let expected_sign_ins = expected([
        (r#"{outcome="success",reason=""}"#, 2.0),
        (r#"{outcome="failure",reason="not_admitted"}"#, 1.0),
        (r#"{outcome="failure",reason="state_invalid"}"#, 1.0),
    ]);
    assert_eq!(signed_in.grown(&before, "lokid_sign_ins_total"), expected_sign_ins);

    door.holder("loki_guess").get("/api/me").await.problem(401);
    answer(Anonymous(&door).ask("GET", "/api/me").header("authorization", "Basic eDp5")).await.problem(401);
    reader.get("/api/audit").await.problem(403);
    reader.get("/people").await.problem(403);
    let after = Scrape::by(&reader).await;
    let expected_refusals = expected([
        (r#"{kind="credential",reason="malformed_token"}"#, 1.0),
        (r#"{kind="credential",reason="unsupported_scheme"}"#, 1.0),
        (r#"{kind="permission",reason="insufficient_scope"}"#, 2.0),
    ]);
    assert_eq!(after.grown(&signed_in, "lokid_refusals_total"), expected_refusals);
    assert!(after.grown(&signed_in, "lokid_sign_ins_total").is_empty());
}

#[actix_web::test]
async fn requests_that_are_one_too_many_are_counted_by_limit() {
    let door = Door::open(&[("LOKI_LIMITS_API", "4/h"), ("LOKI_LIMITS_BAD_CREDENTIALS", "1/h")]).await;
    let (reader, hasty) = (door.token("read").await, door.token("read").await);
    let before = Scrape::by(&reader).await;
    for _ in 0..7 {
        hasty.get("/api/me").await;
    }
    for _ in 0..3 {
        door.holder("loki_guess").get("/api/me").await;
    }
    let after = Scrape::by(&reader).await;
    let too_many = expected([(r#"{limit="api"}"#, 3.0), (r#"{limit="bad_credentials"}"#, 2.0)]);
    assert_eq!(after.grown(&before, "lokid_rate_limited_total"), too_many);
}

#[actix_web::test]
async fn what_is_there_is_counted_when_somebody_asks() {
    let door = Door::open(&[("LOKI_SERVER_SECRET", "0123456789abcdef0123456789abcdef")]).await;
    let reader = door.token("read").await;
    let before = Scrape::by(&reader).await;
    let (soon, writer) = (door.named_token("soon", "read", Some(6)).await, door.token("write").await);
    door.person("ann", "operators").await;
    writer.post("/api/tasks", &json!({"title": "x"})).await;
    let after = Scrape::by(&reader).await;
    let by = |series: &str| after.value(series) - before.value(series);
    assert_eq!((by("lokid_tokens_active"), by("lokid_tokens_expiring")), (2.0, 1.0));
    assert_eq!((by("lokid_sessions_live"), by(r#"lokid_tasks{state="pending"}"#)), (1.0, 1.0));
    let head = door.app.store.audit_head().await.unwrap().seq;
    assert_eq!(after.value("lokid_audit_head_seq"), f64::from(i32::try_from(head).unwrap()));
    assert_eq!((after.value("lokid_audit_queue_depth"), after.value("lokid_audit_lost_total")), (0.0, 0.0));
    let states = ["next", "active", "retiring"].map(|state| format!("lokid_signing_keys{{state=\"{state}\"}}"));
    assert_eq!(states.map(|series| after.value(&series)), [0.0, 1.0, 0.0]);
    assert_eq!(after.value(&format!("lokid_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    let began = f64::from(i32::try_from(door.app.started_at.seconds()).unwrap());
    assert!((after.value("process_start_time_seconds") - began).abs() < 1.0);
    assert!(after.value("process_resident_memory_bytes") > 1e6 && after.value("process_open_fds") > 3.0);

    let age = r#"lokid_provider_keys_age_seconds{provider="main"}"#;
    assert_eq!(after.value(age), 0.0);
    answer(door.token("*").await.ask("DELETE", &format!("/api/enterprise/tokens/{}", soon.id))).await;
    door.clock.advance(Duration::from_secs(90));
    let later = Scrape::by(&reader).await;
    assert_eq!((later.value(age), later.value("lokid_tokens_expiring")), (90.0, before.value("lokid_tokens_expiring")));
}

/// Whoever makes up addresses, methods, hosts and names makes no series.
#[actix_web::test]
async fn ten_thousand_made_up_paths_are_one_series() {
    let door = Door::open(&[("LOKI_LIMITS_PEER", "off"), ("LOKI_LIMITS_BAD_CREDENTIALS", "off")]).await;
    let reader = door.token("read").await;
    let odd = async |n: usize| {
        let method = if n.is_multiple_of(2) { "GET".to_owned() } else { format!("MADE{n}") };
        let path = format!("/made/up/{n}?x={n}");
        answer(Anonymous(&door).ask(&method, &path).header("user-agent", format!("agent {n}"))).await.problem(404);
        answer(Anonymous(&door).ask("GET", &format!("/api/tasks/{n}"))).await.problem(401);
    };
    odd(0).await;
    odd(1).await;
    Scrape::by(&reader).await;
    let before = Scrape::by(&reader).await;
    for first in (2..5_002).step_by(50) {
        join_all((first..first + 50).map(odd)).await;
    }
    let after = Scrape::by(&reader).await;
    let series = |scrape: &Scrape| scrape.0.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(series(&after), series(&before));
    let grown = after.grown(&before, "lokid_http_requests_total");
    assert_eq!(grown.values().sum::<f64>(), 10_001.0, "{grown:?}");
    assert_eq!(grown[r#"{route="(none)",method="other",status="4xx",credential="none"}"#], 2_500.0);
}

/// Names of series in the expressions of a dashboard or of rules.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| ["lokid_", "process_"].iter().any(|start| word.starts_with(start)));
    ours.map(str::to_owned).collect()
}

fn deployed(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)).unwrap()
}

#[actix_web::test]
async fn dashboard_rules_and_documentation_name_series_that_there_are() {
    let door = Door::open(&[("LOKI_LIMITS_API", "2/h")]).await;
    let (reader, hasty) = (door.token("read").await, door.token("read").await);
    door.person("ann", "operators").await;
    for _ in 0..3 {
        hasty.get("/api/audit").await;
    }
    let scrape = Scrape::by(&reader).await;
    let there = scrape.names();
    let dashboard = deployed("grafana/lokid.json");
    let panels: Value = serde_json::from_str(&dashboard).unwrap();
    let expressions = panels["panels"].as_array().unwrap().iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| target["expr"].as_str().unwrap().to_owned())
    });
    let expressions: Vec<String> = expressions.collect();
    assert!(expressions.len() >= 12, "{expressions:?}");
    let rules: String = deployed("prometheus/lokid.rules.yml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: ").map(|expr| format!("{expr}\n")))
        .collect();
    for name in named(&(expressions.join("\n") + &rules)) {
        assert!(there.contains(name.as_str()), "{name} is no series; there are {there:?}");
    }
    assert!(named(&rules).len() >= 8, "{rules}");

    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = rows.collect();
    let parts = ["_bucket", "_sum", "_count"];
    let served: BTreeSet<&str> =
        there.iter().map(|name| parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)).collect();
    assert_eq!(documented, served);
}
