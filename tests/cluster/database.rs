//! PostgreSQL goes, stands still, or is replaced: requests are refused in time while it lasts, nothing that was answered
//! is lost, and the node heals without a restart.

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    nodes::Two,
    postgres::{as_owner, id, is_root, must_work, programs},
    server::{ROOT, Server, until},
};

/// PostgreSQL servers of one test, of which one is reached at a time.
struct Databases {
    dir: tempfile::TempDir,
    programs: PathBuf,
    running: Vec<&'static str>,
}

impl Drop for Databases {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.running) {
            self.signal(name, "-CONT");
            let _ = as_owner(&self.programs.join("pg_ctl"))
                .args(["-m", "immediate", "-D"])
                .arg(self.data(name))
                .arg("stop")
                .output();
        }
    }
}

impl Databases {
    /// With `main` running; `None` when this machine has no PostgreSQL.
    fn start() -> Option<Self> {
        let programs = programs()?;
        let dir = tempfile::Builder::new().prefix("lokid-pg-").tempdir().unwrap();
        if is_root() {
            chown(dir.path(), Some(id("-u", "postgres")), Some(id("-g", "postgres"))).unwrap();
        }
        let mut databases = Self { dir, programs, running: Vec::new() };
        let arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"];
        must_work(as_owner(&databases.programs.join("initdb")).arg("-D").arg(databases.data("main")).args(arguments));
        databases.run("main");
        databases.lead_to("main");
        Some(databases)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sockets(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}-sockets"))
    }

    fn control(&self, name: &str, arguments: &[&str]) {
        must_work(as_owner(&self.programs.join("pg_ctl")).arg("-w").arg("-D").arg(self.data(name)).args(arguments));
    }

    fn run(&mut self, name: &'static str) {
        let sockets = self.sockets(name);
        must_work(as_owner(Path::new("mkdir")).arg("-p").arg(&sockets));
        let server = format!("-k {} -c listen_addresses='' -c max_connections=60", sockets.display());
        let log = self.dir.path().join(format!("{name}.log"));
        self.control(name, &["-l", log.to_str().unwrap(), "-o", &server, "start"]);
        self.running.retain(|running| *running != name);
        self.running.push(name);
    }

    /// Lets the one address lead to this server, as a virtual IP does.
    fn lead_to(&self, name: &str) {
        let link = self.dir.path().join("address");
        let _ = fs::remove_file(&link);
        symlink(self.sockets(name), &link).unwrap();
    }

    fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.dir.path().join("address").display())
    }

    /// To all processes of a server.
    fn signal(&self, name: &str, signal: &str) {
        let Ok(text) = fs::read_to_string(self.data(name).join("postmaster.pid")) else { return };
        let postmaster = text.lines().next().unwrap_or_default().to_owned();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let all: Vec<&str> = std::iter::once(postmaster.as_str()).chain(children.split_whitespace()).collect();
        let _ = Command::new("kill").arg(signal).args(all).output();
    }
}

/// Somebody who changes something, and knows what was answered.
struct Caller<'s> {
    server: &'s Server,
    root: String,
    minted: Vec<String>,
    tries: usize,
}

impl Caller<'_> {
    /// The status of an attempt to make a token; an answer has to come within this.
    fn mint(&mut self, within: Duration) -> u16 {
        self.tries += 1;
        let begun = Instant::now();
        let body = json!({"name": format!("token {}", self.tries), "scopes": ["read"]}).to_string();
        let answer = self.server.http().call(&self.root, "POST", "/api/enterprise/tokens", &body).unwrap();
        assert!(begun.elapsed() < within, "{} after {:?}", answer.status, begun.elapsed());
        if answer.status == 201 {
            self.minted.push(answer.json()["token"].as_str().unwrap().to_owned());
        }
        answer.status
    }

    fn works_again(&mut self) {
        let mut status = 0;
        let heals = until(Duration::from_mins(1), || {
            status = self.mint(Duration::from_mins(1));
            status == 201
        });
        assert!(heals, "does not heal: {status}");
        let mut http = self.server.http();
        assert_eq!(http.get("/readyz", &[]).unwrap().status, 200);
        for token in &self.minted {
            assert_eq!(http.call(token, "GET", "/api/me", "").unwrap().status, 200, "an answered token is lost");
        }
    }
}

fn each_fault(server: &Server, root: &str, faults: &mut dyn FnMut(&mut Caller<'_>)) {
    let mut caller = Caller { server, root: root.to_owned(), minted: Vec::new(), tries: 0 };
    caller.works_again();
    faults(&mut caller);
}

#[test]
fn a_server_that_restarts_is_killed_or_is_replaced_costs_only_the_time_that_it_is_away() {
    let Some(mut databases) = Databases::start() else { return };
    let two = Two::on(&databases.url());
    let root = two.sites[0].token(ROOT);
    let server = two.sites[0].start();
    each_fault(&server, &root, &mut |caller| {
        for mode in ["fast", "immediate"] {
            databases.control("main", &["-m", mode, "stop"]);
            assert_eq!(caller.mint(Duration::from_secs(20)), 503, "{mode}");
            assert_eq!(caller.server.http().get("/readyz", &[]).unwrap().status, 503);
            databases.run("main");
            caller.works_again();
        }
        // A standby takes over, at the same address.
        let mut copy = as_owner(&databases.programs.join("pg_basebackup"));
        copy.arg("-D")
            .arg(databases.data("standby"))
            .args(["-R", "-U", "postgres", "-h"])
            .arg(databases.sockets("main"));
        must_work(&mut copy);
        databases.run("standby");
        for _ in 0..5 {
            assert_eq!(caller.mint(Duration::from_secs(20)), 201);
        }
        // What the standby has not got yet is lost with the other; a test waits for it as an operator does.
        databases.control("main", &["-m", "fast", "stop"]);
        databases.lead_to("standby");
        databases.control("standby", &["promote"]);
        caller.works_again();
    });
    drop(server);
    let verdict: serde_json::Value =
        serde_json::from_str(&two.sites[0].run(&["--json", "enterprise", "audit", "verify"])).unwrap();
    assert_eq!(verdict["valid"], true, "{verdict}");
}

#[test]
fn a_server_that_stands_still_is_not_waited_for_without_end() {
    let Some(databases) = Databases::start() else { return };
    let two = Two::on(&databases.url());
    let root = two.sites[0].token(ROOT);
    let server = two.sites[0].start();
    each_fault(&server, &root, &mut |caller| {
        databases.signal("main", "-STOP");
        let begun = Instant::now();
        let ready = caller.server.http().get("/readyz", &[]).unwrap();
        assert!(
            ready.status == 503 && begun.elapsed() < Duration::from_secs(5),
            "{} {:?}",
            ready.status,
            begun.elapsed()
        );
        assert_eq!(caller.server.http().get("/healthz", &[]).unwrap().status, 200);
        // Nobody has heard for a second whether this one was revoked, so it has to be looked up.
        let token = caller.minted[0].clone();
        let asked = Instant::now();
        let answer = caller.server.http().call(&token, "GET", "/api/me", "").unwrap();
        assert!(answer.status == 503 && asked.elapsed() < Duration::from_secs(25), "{answer:?} {:?}", asked.elapsed());
        assert_eq!(caller.mint(Duration::from_mins(1)), 503);
        databases.signal("main", "-CONT");
        caller.works_again();
    });
}

#[test]
fn a_pool_without_a_free_connection_refuses_in_time() {
    let Some(databases) = Databases::start() else { return };
    let two = Two::on(&databases.url());
    let root = two.sites[0].token(ROOT);
    let server = two.sites[0].start();
    each_fault(&server, &root, &mut |caller| {
        let mut psql = as_owner(&databases.programs.join("psql"));
        psql.args(["-U", "postgres", "-h"]).arg(databases.sockets("main"));
        psql.args(["-c", "BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE; SELECT 'locked'; SELECT pg_sleep(600)"]);
        let mut locker = psql.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let is_locked = || {
            let mut ask = as_owner(&databases.programs.join("psql"));
            ask.args(["-U", "postgres", "-At", "-h"]).arg(databases.sockets("main"));
            let sql = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'tasks'::regclass";
            String::from_utf8_lossy(&ask.args(["-c", sql]).output().unwrap().stdout).trim() == "1"
        };
        assert!(until(Duration::from_secs(10), is_locked));
        // More than there are connections wait for what is locked; others are refused in time.
        let waiting: Vec<_> = (0..40)
            .map(|_| {
                let (mut http, root) = (caller.server.http(), caller.root.clone());
                std::thread::spawn(move || http.call(&root, "GET", "/api/tasks", "").unwrap().status)
            })
            .collect();
        let refused =
            until(Duration::from_secs(10), || caller.server.http().get("/readyz", &[]).unwrap().status == 503);
        assert!(refused, "the pool was never full");
        for waiter in waiting {
            assert_eq!(waiter.join().unwrap(), 503);
        }
        let mut end = as_owner(&databases.programs.join("psql"));
        end.args(["-U", "postgres", "-h"]).arg(databases.sockets("main"));
        end.args(["-c", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"]);
        must_work(&mut end);
        let _ = locker.wait();
        caller.works_again();
        assert_eq!(caller.server.http().call(&caller.root.clone(), "GET", "/api/tasks", "").unwrap().status, 200);
    });
}
