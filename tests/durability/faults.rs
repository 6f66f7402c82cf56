//! A database that cannot be written: full disk, files that refuse, a lock held by somebody else. Refusals
//! are 503, nothing is said to be done that was not, known tokens go on working, and it heals by itself.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sqlx::Connection as _;

use super::{door::Door, rounds, server::Site};

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
    // Longer than two tries of the writer: the first may be for an act of the server itself. A minute in the long run.
    let held = Duration::from_secs(if rounds(1) > 1 { 60 } else { 12 });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.database());
    let mut other = runtime.block_on(sqlx::SqliteConnection::connect_with(&options)).unwrap();
    runtime.block_on(sqlx::query("BEGIN EXCLUSIVE").execute(&mut other)).unwrap();
    let end = Instant::now() + held;
    let siege = door.besiege(end);
    while Instant::now() < end {
        door.known_token_works();
        thread::sleep(Duration::from_millis(20));
    }
    runtime.block_on(sqlx::query("ROLLBACK").execute(&mut other)).unwrap();
    runtime.block_on(other.close()).unwrap();
    let slowest = door.note(siege);
    assert!(!door.refused.is_empty(), "the lock has no effect");
    println!("locked for {held:?}: the slowest answer took {slowest:.1?}");
    door.heals();
    assert!(slowest < Duration::from_secs(16), "an answer took {slowest:?}");
}
