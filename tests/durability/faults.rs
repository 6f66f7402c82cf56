//! A database that cannot be written: full disk, files that refuse, a lock held by somebody else. Refusals
//! are 503, nothing is said to be done that was not, known tokens go on working, and it heals by itself.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sqlx::Connection as _;

use super::{
    http::Http,
    rounds,
    server::{ROOT, Server, Site, until},
};

const TOKENS: &str = "/api/enterprise/tokens";

/// A server with a token that may do everything and one that was used before the fault.
struct Door {
    server: Server,
    root: String,
    known: String,
    made: u32,
    /// What was answered with 201, and what with 503.
    kept: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl Door {
    fn open(site: &Site) -> Self {
        let root = site.token(ROOT);
        let server = site.start();
        let mut door =
            Self { server, root, known: String::new(), made: 0, kept: BTreeSet::new(), refused: BTreeSet::new() };
        door.known = door.mint().expect("the disk is sound");
        door.known_token_works();
        door
    }

    /// The secret of a new token, or `None` when it was refused as it should be.
    fn mint(&mut self) -> Option<String> {
        self.made += 1;
        let name = format!("number {}", self.made);
        let body = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
        let answer = self.server.http().call(&self.root, "POST", TOKENS, &body).expect("an answer");
        if answer.status == 201 {
            self.kept.insert(name);
            return Some(answer.json()["token"].as_str().unwrap().to_owned());
        }
        assert!(answer.is_problem(503), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
        self.refused.insert(name);
        None
    }

    fn known_token_works(&self) {
        let answer = self.server.http().call(&self.known, "GET", "/api/me", "").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Revokes a token that was made in good times: 200 and it is over, or 503 and it is not.
    fn revoke(&self, name: &str, token: &str) {
        let path = format!("{TOKENS}/{}", name.replace(' ', "%20"));
        let answer = self.server.http().call(&self.root, "DELETE", &path, "").expect("an answer");
        let expected = if answer.status == 200 { 401 } else { 200 };
        assert!(answer.status == 200 || answer.is_problem(503), "{answer:?}");
        assert_eq!(self.server.http().call(token, "GET", "/api/me", "").unwrap().status, expected);
    }

    /// While the fault lasts: refusals, no false success, what is known works.
    fn is_refused(&mut self, (name, token): (&str, &str)) {
        assert!(until(Duration::from_mins(1), || self.mint().is_none()), "the fault has no effect");
        for _ in 0..3 {
            self.mint();
            self.known_token_works();
        }
        self.revoke(name, token);
    }

    /// After the fault: acts succeed again, and the log is whole.
    fn heals(&mut self) {
        assert!(until(Duration::from_secs(20), || self.mint().is_some()), "it does not heal");
        let list = self.server.http().call(&self.root, "GET", &format!("{TOKENS}?include_revoked=true&limit=1000"), "");
        let list = list.unwrap().json();
        let names: BTreeSet<_> =
            list.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect();
        assert!(self.kept.is_subset(&names), "lost: {:?}", self.kept.difference(&names));
        assert!(self.refused.is_disjoint(&names), "made although refused: {:?}", self.refused.intersection(&names));
        let verdict = self.server.http().call(&self.root, "GET", "/api/audit/verify", "").unwrap();
        assert_eq!(verdict.json()["valid"], true, "{}", verdict.body);
        println!("{} answered 201 and there, {} answered 503 and not there", self.kept.len(), self.refused.len());
    }
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let done = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// A file system of a few MiB in memory, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = works("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", at.to_str()?]);
        mounted.then(|| Self(at.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        works("umount", &["-l", &self.0.display().to_string()]);
    }
}

#[test]
fn a_full_disk_refuses_and_heals_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(dir.path()) else {
        eprintln!("SKIPPED: a small file system cannot be mounted here (needs root)");
        return;
    };
    let mut door = Door::open(&Site::new(dir.path()));
    for _ in 0..rounds(1).min(5) {
        let victim = door.mint().unwrap();
        let name = format!("number {}", door.made);
        small.fill();
        door.is_refused((&name, &victim));
        fs::remove_file(small.filler()).unwrap();
        door.heals();
    }
}

#[test]
fn a_file_that_may_not_grow_refuses_and_heals_when_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::new(dir.path());
    site.before = vec!["env", "--ignore-signal=XFSZ"];
    let mut door = Door::open(&site);
    let pid = door.server.child.id().to_string();
    let limit = |bytes: &str| works("prlimit", &["--pid", &pid, &format!("--fsize={bytes}:unlimited")]);
    let victim = door.mint().unwrap();
    let name = format!("number {}", door.made);
    if !limit("4096") {
        eprintln!("SKIPPED: prlimit cannot limit the server's files here");
        return;
    }
    door.is_refused((&name, &victim));
    assert!(limit("unlimited"));
    door.heals();
}

/// Files that even their owner cannot write, as on a file system that went read-only; undone when dropped.
struct Immutable(Vec<String>);

impl Immutable {
    fn make(files: Vec<String>) -> Option<Self> {
        let made = files.iter().all(|file| works("chattr", &["+i", file]));
        let made = (made, Self(files));
        made.0.then_some(made.1)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        self.0.iter().for_each(|file| assert!(works("chattr", &["-i", file])));
    }
}

#[test]
fn a_read_only_database_refuses_and_heals_when_it_is_writable() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let site = Site::new(dir.path());
    let mut door = Door::open(&site);
    let victim = door.mint().unwrap();
    let name = format!("number {}", door.made);
    let database = site.database().display().to_string();
    let Some(files) = Immutable::make(vec![format!("{database}-wal"), database]) else {
        eprintln!("SKIPPED: files cannot be made immutable here (needs root and ext4, xfs or btrfs)");
        return;
    };
    door.is_refused((&name, &victim));
    drop(files);
    door.heals();
}

#[test]
fn a_locked_database_refuses_in_time_and_heals_when_the_lock_goes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let site = Site::new(dir.path());
    let mut door = Door::open(&site);
    // Longer than two tries of the writer: the first may be for an act of the server itself.
    let held = Duration::from_secs(if rounds(1) > 1 { 30 } else { 12 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.database());
    let mut other = runtime.block_on(sqlx::SqliteConnection::connect_with(&options)).unwrap();
    runtime.block_on(sqlx::query("BEGIN EXCLUSIVE").execute(&mut other)).unwrap();
    let end = Instant::now() + held;
    let ask = |client: u32| {
        let (mut http, root) = (Http::to(door.server.port), door.root.clone());
        thread::spawn(move || {
            let mut answers = Vec::new();
            for n in 0.. {
                let (name, asked) = (format!("client {client} {n}"), Instant::now());
                let body = format!(r#"{{"name":"{name}","scopes":["read"]}}"#);
                let answer = http.call(&root, "POST", TOKENS, &body).expect("an answer");
                answers.push((name, answer, asked.elapsed()));
                if Instant::now() > end {
                    return answers;
                }
            }
            answers
        })
    };
    let clients: Vec<_> = (0..8).map(ask).collect();
    while Instant::now() < end {
        door.known_token_works();
        thread::sleep(Duration::from_millis(20));
    }
    runtime.block_on(sqlx::query("ROLLBACK").execute(&mut other)).unwrap();
    runtime.block_on(other.close()).unwrap();
    let mut slowest = Duration::ZERO;
    for (name, answer, taken) in clients.into_iter().flat_map(|client| client.join().unwrap()) {
        slowest = slowest.max(taken);
        match answer.status {
            201 => door.kept.insert(name),
            _ => answer.is_problem(503) && door.refused.insert(name),
        };
    }
    assert!(!door.refused.is_empty(), "the lock has no effect");
    println!("locked for {held:?}: the slowest answer took {slowest:.1?}");
    door.heals();
    assert!(slowest < Duration::from_secs(16), "an answer took {slowest:?}");
}
