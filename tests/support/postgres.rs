//! A real PostgreSQL for the tests of one process: made in a temporary directory, reached through a
//! socket in it, and ended with the process however that ends.
//!
//! A watchdog outside the process holds the read end of a pipe. When the process is gone, for whatever
//! reason, the pipe closes, and the watchdog stops the server and removes its directory.

use std::{
    fs,
    io::{Write as _, stderr},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// The oldest version that lokid supports.
const OLDEST: u32 = 15;
/// Set to `1`: a machine without PostgreSQL tests the other half only.
const WITHOUT: &str = "LOKID_TESTS_WITHOUT_POSTGRES";

struct Cluster {
    sockets: PathBuf,
    /// Waits for its input to end, which is when this process ends.
    _watchdog: Child,
}

/// A new, empty database; `None` when this machine has no PostgreSQL and said so.
pub(crate) async fn fresh_database() -> Option<String> {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let cluster = cluster()?;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    administer(&format!("CREATE DATABASE {name}")).await;
    Some(cluster.url(&name))
}

/// Runs a statement in the cluster's own database.
pub(crate) async fn administer(sql: &str) {
    let mut admin = PgConnection::connect(&cluster().unwrap().url("postgres")).await.unwrap();
    admin.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    admin.close().await.unwrap();
}

/// Started when it is first asked for.
fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(start).as_ref()
}

/// The directory of the socket in a URL that [`fresh_database`] made.
pub(crate) fn sockets_of(url: &str) -> PathBuf {
    PathBuf::from(url.split_once("?host=").unwrap().1)
}

impl Cluster {
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.sockets.display())
    }
}

fn start() -> Option<Cluster> {
    let Some(programs) = programs() else {
        assert!(may_go_without(), "PostgreSQL {OLDEST} or newer is not installed (initdb was not found). {HINT}");
        // Past `eprintln!`, which a passing test does not show.
        let loud = format!("\n*** NOT TESTED ON POSTGRESQL: it is not installed and {WITHOUT}=1 ***\n\n");
        stderr().write_all(loud.as_bytes()).unwrap();
        return None;
    };
    let home = tempfile::Builder::new().prefix("lokid-pg-").tempdir().unwrap().keep();
    let data = home.join("data");
    if is_root() {
        chown(&home, Some(id("-u", "postgres")), Some(id("-g", "postgres"))).unwrap();
    }
    let watchdog = format!(
        "trap '' INT TERM HUP; read -r _; {stop} -D {data} -m immediate stop; rm -rf {home}",
        stop = words(&as_owner(&programs.join("pg_ctl"))),
        data = data.display(),
        home = home.display(),
    );
    let watchdog = Command::new("sh")
        .args(["-c", &watchdog])
        .process_group(0) // a Ctrl-C at the terminal is for the tests, not for what cleans up after them
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"];
    must_work(as_owner(&programs.join("initdb")).arg("-D").arg(&data).args(arguments));
    let server = format!("-k {} -c listen_addresses='' -c max_connections=200", home.display());
    let log = home.join("log");
    must_work(
        as_owner(&programs.join("pg_ctl")).arg("-D").arg(&data).arg("-l").arg(log).args(["-w", "-o", &server, "start"]),
    );
    Some(Cluster { sockets: home, _watchdog: watchdog })
}

const HINT: &str =
    "Install it (Debian: apt-get install postgresql), or set LOKID_TESTS_WITHOUT_POSTGRES=1 to leave that half out";

fn may_go_without() -> bool {
    variable(WITHOUT) == "1"
}

#[expect(clippy::disallowed_methods, reason = "of the tests, not of lokid")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Where `initdb` of the newest version is: Debian keeps it off the `PATH`.
pub(crate) fn programs() -> Option<PathBuf> {
    let version = |bin: &Path| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<_> = installed.map(|entry| entry.path().join("bin")).collect();
    places.retain(|bin| version(bin).is_some_and(|version| version >= OLDEST));
    places.sort_by_key(|bin| std::cmp::Reverse(version(bin)));
    places.extend(
        std::env::split_paths(&variable("PATH")).filter(|bin| bin.join("initdb").is_file() && is_new_enough(bin)),
    );
    places.into_iter().find(|bin| bin.join("initdb").is_file())
}

/// `initdb (PostgreSQL) 15.18 (Debian …)`
fn is_new_enough(bin: &Path) -> bool {
    let Ok(answer) = Command::new(bin.join("initdb")).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&answer.stdout);
    let version = text.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
    version.is_some_and(|version| version >= OLDEST)
}

pub(crate) fn is_root() -> bool {
    id("-u", "") == 0
}

pub(crate) fn id(which: &str, user: &str) -> u32 {
    let output = Command::new("id").arg(which).args((!user.is_empty()).then_some(user)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("there is no user {user:?} who could own a PostgreSQL cluster"))
}

/// PostgreSQL refuses to run as root: then its own user runs it.
pub(crate) fn as_owner(program: &Path) -> Command {
    let mut command = if is_root() { Command::new("runuser") } else { Command::new(program) };
    if is_root() {
        command.args(["-u", "postgres", "--"]).arg(program);
    }
    command.current_dir("/");
    command
}

fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn must_work(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
