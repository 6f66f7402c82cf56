//! Two nodes on one PostgreSQL: what one of them decides holds on both, and what was answered stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    nats::{does_not_start, events},
    postgres,
    server::{ROOT, Server, Site, until},
    sign_in::{provider, sign_in, sign_out},
};

/// Two sites on one database, which is the test's own.
pub(crate) struct Two {
    _dir: tempfile::TempDir,
    pub(crate) sites: [Site; 2],
}

/// Long enough for a node on a busy machine, short enough for a test.
const LEASE: &str = "3s";

impl Two {
    /// `None` when this machine has no PostgreSQL and said so.
    pub(crate) fn new() -> Option<Self> {
        let url = actix_web::rt::System::new().block_on(postgres::fresh_database())?;
        Some(Self::on(&url))
    }

    pub(crate) fn on(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sites = ["a", "b"].map(|name| {
            let home = dir.path().join(name);
            std::fs::create_dir(&home).unwrap();
            let mut site = Site::new(&home);
            site.env.extend([
                ("LOKI_DATABASE_URL", url.to_owned()),
                ("LOKI_SERVER_SECRET", "one secret of all nodes, 32 characters or more".to_owned()),
                ("LOKI_CLUSTER_NODE", name.to_owned()),
                ("LOKI_CLUSTER_LEASE", LEASE.to_owned()),
            ]);
            site
        });
        Self { _dir: dir, sites }
    }

    pub(crate) fn start(&self) -> [Server; 2] {
        self.sites.each_ref().map(Site::start)
    }
}

/// So long after the answer to a loss of rights the other node refuses.
fn refused_after(server: &Server, is_let_in: impl Fn(&mut super::http::Http) -> bool) -> Duration {
    let (begun, mut http) = (Instant::now(), server.http());
    assert!(until(Duration::from_secs(5), || !is_let_in(&mut http)), "still let in");
    begun.elapsed()
}

#[test]
fn a_right_that_one_node_takes_away_is_gone_on_the_other() {
    let Some(mut two) = Two::new() else { return };
    let provider = provider(&mut two.sites[0]);
    let of_a = two.sites[0].env.iter().filter(|(name, _)| name.starts_with("LOKI_OIDC")).cloned().collect::<Vec<_>>();
    two.sites[1].env.extend(of_a);
    let root = two.sites[0].token(ROOT);
    let [a, b] = two.start();
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [&a, &b]
        .map(|server| {
            let (mut http, over, root) = (server.http(), Arc::clone(&over), root.clone());
            thread::spawn(move || {
                while !over.load(SeqCst) {
                    assert_eq!(http.call(&root, "GET", "/api/me", "").unwrap().status, 200);
                    thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .into();
    let (mut at_a, mut took) = (a.http(), Vec::new());
    for round in 0..50 {
        let body = json!({"name": format!("round {round}"), "scopes": ["read"]}).to_string();
        let minted = at_a.call(&root, "POST", "/api/enterprise/tokens", &body).unwrap().json();
        let (id, token) = (minted["id"].as_str().unwrap(), minted["token"].as_str().unwrap());
        assert_eq!(b.http().call(token, "GET", "/api/me", "").unwrap().status, 200);
        assert_eq!(at_a.call(&root, "DELETE", &format!("/api/enterprise/tokens/{id}"), "").unwrap().status, 200);
        took.push(refused_after(&b, |http| http.call(token, "GET", "/api/me", "").unwrap().status == 200));
    }
    for _ in 0..10 {
        let cookie = sign_in(&mut at_a, provider).unwrap();
        let is_let_in =
            |http: &mut super::http::Http| http.get("/api/me", &[("cookie", &cookie)]).unwrap().status == 200;
        assert!(is_let_in(&mut b.http()), "a session of one node is one of the other");
        assert!(sign_out(&mut at_a, &cookie));
        took.push(refused_after(&b, is_let_in));
    }
    over.store(true, SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    took.sort_unstable();
    println!("refused on the other node after {:?} at the median, {:?} at most", took[took.len() / 2], took.last());
    let metrics = b.http().call(&root, "GET", "/metrics", "").unwrap().body;
    let heard = metrics.lines().find_map(|line| line.strip_prefix("lokid_revocation_propagation_seconds_count "));
    assert!(heard.unwrap().parse::<u64>().unwrap() >= 60, "{metrics}");
}

#[test]
fn a_node_of_the_version_before_starts_on_the_tables_of_the_next() {
    let Some(url) = actix_web::rt::System::new().block_on(postgres::fresh_database()) else { return };
    let two = Two::on(&url);
    drop(two.sites[0].start());
    actix_web::rt::System::new().block_on(async {
        use sqlx::{Connection as _, Executor as _};
        let mut conn = sqlx::PgConnection::connect(&url).await.unwrap();
        let next = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                    VALUES (9999, 'of the next version', true, '', 1); ALTER TABLE tokens ADD COLUMN next TEXT";
        conn.execute(next).await.unwrap();
    });
    let root = two.sites[0].token(ROOT);
    let [a, b] = two.start();
    for server in [&a, &b] {
        assert_eq!(server.http().call(&root, "GET", "/api/me", "").unwrap().status, 200);
    }
}

#[test]
fn limits_count_on_each_node_or_where_that_is_configured_on_all_together() {
    for is_shared in [false, true] {
        let Some(mut two) = Two::new() else { return };
        for site in &mut two.sites {
            site.env.push(("LOKI_LIMITS_API", "10/h".to_owned()));
            site.env.push(("LOKI_LIMITS_SHARED", is_shared.to_string()));
        }
        let (root, other) = (two.sites[0].token(ROOT), two.sites[0].token("another"));
        let [a, b] = two.start();
        let status = |server: &Server, token: &str| server.http().call(token, "GET", "/api/me", "").unwrap().status;
        let let_in = (0..12).filter(|_| status(&a, &root) == 200).count();
        assert_eq!(let_in, 10);
        // Slower than nodes tell each other: what the other node has left is not what is asked for here.
        let at_b = (0..6).filter(|_| {
            thread::sleep(Duration::from_millis(300));
            status(&b, &root) == 200
        });
        let at_b = at_b.count();
        assert!(if is_shared { at_b <= 2 } else { at_b == 6 }, "shared: {is_shared}, {at_b} more");
        assert_eq!(status(&b, &other), 200);
    }
}

/// A command that works until a file appears.
pub(crate) fn with_runs(two: &mut Two) {
    for site in &mut two.sites {
        std::fs::write(site.dir.join("work.sh"), "echo $$; until [ -e done ]; do sleep 0.05; done").unwrap();
        std::fs::write(site.dir.join("prd.md"), "- paint the door").unwrap();
        site.env.push(("LOKI_RUNS_COMMAND", "[sh, work.sh]".to_owned()));
    }
}

pub(crate) fn start_run(server: &Server, root: &str) -> String {
    let started = server.http().call(root, "POST", "/api/control/start", r#"{"prd": "./prd.md"}"#).unwrap();
    assert_eq!(started.status, 200, "{}", started.body);
    started.json()["run_id"].as_str().unwrap().to_owned()
}

pub(crate) fn run_of(server: &Server, root: &str, id: &str) -> Value {
    server.http().call(root, "GET", &format!("/api/v2/runs/{id}"), "").unwrap().json()
}

pub(crate) fn until_status(server: &Server, root: &str, id: &str, status: &str) -> Value {
    let mut run = Value::Null;
    let is_so = until(Duration::from_secs(20), || {
        run = run_of(server, root, id);
        run["status"] == status
    });
    assert!(is_so, "is not {status}: {run}");
    run
}

/// The state letter of a process; `None` when there is none.
fn state_of(pid: &Value) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_run_is_controlled_from_any_node_and_marked_when_its_node_is_dead() {
    let Some(mut two) = Two::new() else { return };
    with_runs(&mut two);
    let root = two.sites[0].token(ROOT);
    let [mut a, b] = two.start();
    let id = start_run(&a, &root);
    let pid = until_status(&b, &root, &id, "running")["pid"].clone();
    let act = |what: &str| {
        let body = json!({"run_id": id}).to_string();
        let answer = b.http().call(&root, "POST", &format!("/api/control/{what}"), &body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    act("pause");
    assert!(until(Duration::from_secs(5), || state_of(&pid) == Some('T')), "{:?}", state_of(&pid));
    act("resume");
    assert!(until(Duration::from_secs(5), || state_of(&pid) != Some('T')));
    act("stop");
    until_status(&b, &root, &id, "stopped");

    let id = start_run(&a, &root);
    let pid = until_status(&b, &root, &id, "running")["pid"].clone();
    a.kill();
    let run = until_status(&b, &root, &id, "failed");
    assert_eq!(run["reason"], "its node a was not heard of any longer");
    assert_eq!(events(&two.sites[1], "node.lost").len(), 1);
    assert!(state_of(&pid).is_some(), "the node's processes are beyond the reach of others");
    // The node comes back: what others marked is over, and its process goes.
    let a = two.sites[0].start();
    assert!(until(Duration::from_secs(20), || state_of(&pid).is_none_or(|state| state == 'Z')), "{:?}", state_of(&pid));
    assert_eq!(run_of(&a, &root, &id)["status"], "failed");
    // One that comes back within its lease keeps its runs.
    let id = start_run(&a, &root);
    until_status(&b, &root, &id, "running");
    drop(a);
    let a = two.sites[0].start();
    std::fs::write(two.sites[0].dir.join("done"), "").unwrap();
    until_status(&a, &root, &id, "completed");
}

/// Ends a server as an operator does.
fn end(mut server: Server) {
    let pid = server.child.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(server.child.wait().unwrap().success(), "it ended in order");
}

#[test]
fn a_second_server_of_one_name_does_not_start_and_the_nodes_are_listed() {
    let Some(mut two) = Two::new() else { return };
    let [a, b] = two.start();
    let listed = || -> Vec<Value> { serde_json::from_str(&two.sites[0].run(&["--json", "cluster", "nodes"])).unwrap() };
    let both = until(Duration::from_secs(10), || {
        let nodes = listed();
        nodes.len() == 2 && nodes[0]["kid"].is_string() && nodes[0]["kid"] == nodes[1]["kid"]
    });
    assert!(both, "{:?}", listed());
    assert!(listed().iter().all(|node| node["state"] == "lives" && node["version"] == env!("CARGO_PKG_VERSION")));
    let page = a.http().call(&two.sites[0].token(ROOT), "GET", "/keys", "").unwrap();
    assert!(page.status == 200 && page.body.contains("<h2 id=\"nodes\">Nodes</h2>"), "{page:?}");
    end(b);
    let states = || listed().iter().map(|node| node["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(states(), ["lives", "stopped"]);
    let b = two.sites[1].start();
    assert!(until(Duration::from_secs(10), || states() == ["lives", "lives"]), "{:?}", states());
    drop(b);
    assert_eq!(states(), ["lives", "lives"], "one that was killed could not say so");
    two.sites[1].env.push(("LOKI_CLUSTER_NODE", "a".to_owned()));
    let (code, said) = does_not_start(&two.sites[1]);
    assert_eq!(code, 14, "{said}");
    assert!(said.contains(r#"as node "a""#) && said.contains("cluster.node"), "{said}");
    drop(a);
    drop(two.sites[1].start());
}

#[test]
fn what_a_killed_node_answered_is_there_in_one_whole_chain() {
    let Some(two) = Two::new() else { return };
    let root = two.sites[0].token(ROOT);
    let [mut a, b] = two.start();
    let over = Arc::new(AtomicBool::new(false));
    let minted = Arc::new(AtomicU64::new(0));
    let minters: Vec<_> = [&a, &b]
        .into_iter()
        .zip(["a", "b"])
        .flat_map(|(server, node)| (0..4).map(move |n| (server, format!("{node}{n}"))))
        .map(|(server, who)| {
            let (mut http, over, root, minted) = (server.http(), Arc::clone(&over), root.clone(), Arc::clone(&minted));
            thread::spawn(move || {
                let mut known = Vec::new();
                for n in 0.. {
                    if over.load(SeqCst) {
                        break;
                    }
                    let body = json!({"name": format!("{who} {n}"), "scopes": ["read"]}).to_string();
                    // The node was killed: nothing is known of this one.
                    let Ok(answer) = http.call(&root, "POST", "/api/enterprise/tokens", &body) else { break };
                    assert_eq!(answer.status, 201, "{}", answer.body);
                    known.push(answer.json()["id"].as_str().unwrap().to_owned());
                    minted.fetch_add(1, SeqCst);
                }
                known
            })
        })
        .collect();
    assert!(until(Duration::from_secs(30), || minted.load(SeqCst) >= 100));
    a.kill();
    let so_far = minted.load(SeqCst);
    assert!(until(Duration::from_secs(30), || minted.load(SeqCst) >= so_far + 50), "the other node works no more");
    over.store(true, SeqCst);
    let acknowledged: Vec<String> = minters.into_iter().flat_map(|minter| minter.join().unwrap()).collect();
    let verdict: Value = serde_json::from_str(&two.sites[1].run(&["--json", "enterprise", "audit", "verify"])).unwrap();
    assert_eq!(verdict["valid"], true, "{verdict}");
    let list = two.sites[1].run(&["enterprise", "audit", "export", "--event", "auth.token.create"]);
    let recorded: Vec<Value> = list.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for id in &acknowledged {
        assert_eq!(recorded.iter().filter(|entry| entry["resource_id"] == id.as_str()).count(), 1, "{id}");
        let there = b.http().call(&root, "GET", &format!("/api/enterprise/tokens/{id}"), "").unwrap();
        assert_eq!(there.status, 200, "{id}: {}", there.body);
    }
    println!("{} acknowledged on two nodes, one of them killed: all are there", acknowledged.len());
}

/// A proxy before both nodes that asks the other one where it may.
struct Front {
    _dir: tempfile::TempDir,
    child: std::process::Child,
    port: u16,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Front {
    fn start(two: &Two) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path temp_{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temp}{}\n}}\n",
            here(two, port)
        );
        std::fs::write(dir.path().join("config"), config).unwrap();
        let mut command = std::process::Command::new("nginx");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(dir.path().join("config"));
        let quiet = std::process::Stdio::null;
        let child = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().expect("nginx is installed");
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(until(Duration::from_secs(20), listens), "nginx does not listen");
        Self { _dir: dir, child, port }
    }
}

/// The configuration of `deploy/cluster`, on this machine and with two nodes.
fn here(two: &Two, port: u16) -> String {
    let whole = include_str!("../../deploy/cluster/nginx.conf");
    let with_tls = |line: &&str| line.trim_start().starts_with("ssl_") || line.contains("lokid-3:");
    let text: String = whole.lines().filter(|line| !with_tls(line)).flat_map(|line| [line, "\n"]).collect();
    let [a, b] = two.sites.each_ref().map(|site| format!("127.0.0.1:{}", site.port));
    let host = format!("localhost:{}", two.sites[0].port);
    let changes = [
        ("lokid-1:57374", a.as_str()),
        ("lokid-2:57374", b.as_str()),
        ("listen 443 ssl", &format!("listen 127.0.0.1:{port}")),
        ("Host $host", &format!("Host {host}")),
    ];
    changes.into_iter().fold(text, |text, (what, by)| {
        assert!(text.contains(what), "{what} in {text}");
        text.replace(what, by)
    })
}

#[test]
fn a_rolling_restart_under_load_fails_no_request_and_loses_nothing() {
    let Some(mut two) = Two::new() else { return };
    let host = format!("localhost:{}", two.sites[0].port);
    two.sites[1].env.push(("LOKI_SERVER_ALLOWED_HOSTS", host));
    let root = two.sites[0].token(ROOT);
    let [a, b] = two.start();
    let front = Front::start(&two);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (over, asked, root, port) = (Arc::clone(&over), Arc::clone(&asked), root.clone(), front.port);
            thread::spawn(move || {
                let mut http = super::http::Http::to(port);
                while !over.load(SeqCst) {
                    let answer = http.call(&root, "GET", "/api/enterprise/tokens", "").unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    asked.fetch_add(1, SeqCst);
                    thread::sleep(Duration::from_millis(15));
                }
            })
        })
        .collect();
    let enough = || {
        let from = asked.load(SeqCst);
        assert!(until(Duration::from_secs(30), || asked.load(SeqCst) > from + 100), "no answers");
    };
    enough();
    let mut restarted = Vec::new();
    for (site, server) in two.sites.iter().zip([a, b]) {
        end(server);
        enough();
        restarted.push(site.start());
        enough();
    }
    over.store(true, SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    println!("{} requests through two restarts, none failed", asked.load(SeqCst));
}
