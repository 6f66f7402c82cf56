//! A disk whose syncs fail or take long. What could not be synced is answered 503 and leaves nothing that somebody who
//! reads the log after a crash would take for done; what was answered 201 is there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use sqlx::Connection as _;

use super::{
    door::Door,
    killed::{TOKENS, every_act_has_its_event},
    rounds,
    server::Site,
};

/// What the syncs of a server are told to do: see `syncs.c`.
struct Syncs(PathBuf);

impl Syncs {
    /// Puts `syncs.c` in front of the C library of whatever runs on this site.
    fn of(site: &mut Site) -> Self {
        let (library, fault) = (site.dir.join("syncs.so"), site.dir.join("fault"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/durability/syncs.c");
        let mut compiler = Command::new("cc");
        let compiled = compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        assert!(compiled.status().expect("a C compiler").success());
        site.env.push(("LD_PRELOAD", library.display().to_string()));
        site.env.push(("SYNC_FAULT", fault.display().to_string()));
        Self(fault)
    }

    fn are(&self, told: &str) {
        // As a whole, so that no sync finds half of it.
        let aside = self.0.with_extension("new");
        fs::write(&aside, told).unwrap();
        fs::rename(aside, &self.0).unwrap();
    }

    fn are_sound(&self) {
        fs::remove_file(&self.0).unwrap();
    }

    /// How many syncs of this file were told so.
    fn count(&self, file: &str, told: &str) -> usize {
        let calls = fs::read_to_string(self.0.with_extension("calls")).expect("the database is synced");
        calls.lines().filter(|line| *line == format!("{file} {told}")).count()
    }
}

/// The names of all tokens that would be there, had the machine stopped now with all that its disk was given.
fn after_a_crash(site: &Site) -> BTreeSet<String> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["loki.db", "loki.db-wal"] {
        fs::copy(site.dir.join(name), copy.path().join(name)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(copy.path().join("loki.db"));
        let mut conn = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM tokens").fetch_all(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        names.into_iter().collect()
    })
}

/// The salts and checksum with which the log begins: others after it was begun anew.
fn head_of_log(site: &Site) -> Vec<u8> {
    fs::read(site.dir.join("loki.db-wal")).unwrap()[..32].to_vec()
}

#[test]
fn what_could_not_be_synced_is_refused_and_written_anew() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut site = Site::new(dir.path());
    let syncs = Syncs::of(&mut site);
    let mut door = Door::open(&site);
    for _ in 0..rounds(2) {
        let victim = door.mint().unwrap();
        let name = format!("number {}", door.made);
        syncs.are("fail");
        door.is_refused((&name, &victim));
        for _ in 0..3 {
            assert_eq!(door.mint(), None);
            let there = after_a_crash(&site);
            assert!(door.kept.is_subset(&there), "lost: {:?}", door.kept.difference(&there));
            assert!(door.refused.is_disjoint(&there), "refused, and there: {:?}", door.refused.intersection(&there));
        }
        syncs.are_sound();
        door.heals();
    }
    assert!(syncs.count("loki.db-wal", "fail") > 4, "SQLite does not come by here");
    every_act_has_its_event(&site.database(), &[TOKENS]);
}

#[test]
fn after_a_kill_in_the_midst_of_failing_syncs_the_log_is_begun_anew() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut site = Site::new(dir.path());
    let syncs = Syncs::of(&mut site);
    let mut door = Door::open(&site);
    for _ in 0..rounds(2) {
        let siege = door.besiege(Instant::now() + Duration::from_secs(30));
        thread::sleep(Duration::from_millis(300));
        syncs.are("fail");
        thread::sleep(Duration::from_millis(300));
        door.server.kill();
        door.note(siege);
        assert!(!door.refused.is_empty(), "the fault has no effect");
        let (before, written) = (head_of_log(&site), syncs.count("loki.db", "sound"));
        syncs.are_sound();
        door.server = site.start();
        assert_ne!(head_of_log(&site), before, "more was added to a log that was never synced");
        assert!(syncs.count("loki.db", "sound") > written, "what the log held was not written into the database");
        door.heals();
    }
    every_act_has_its_event(&site.database(), &[TOKENS]);
}

#[test]
fn slow_syncs_delay_acts_and_nobody_else() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut site = Site::new(dir.path());
    let syncs = Syncs::of(&mut site);
    let mut door = Door::open(&site);
    syncs.are("500");
    let siege = door.besiege(Instant::now() + Duration::from_mins(2));
    let (end, mut reads) = (Instant::now() + Duration::from_secs(4 * rounds(1)), Vec::new());
    while Instant::now() < end {
        let asked = Instant::now();
        door.known_token_works();
        reads.push(asked.elapsed());
    }
    door.server.kill();
    let slowest = door.note(siege);
    syncs.are_sound();
    door.server = site.start();
    reads.sort_unstable();
    let median = reads[reads.len() / 2];
    println!("slow syncs: {} made, the slowest in {slowest:.1?}; reads {median:.1?} at the median", door.kept.len());
    assert!(slowest > Duration::from_millis(500), "the syncs are not slow");
    assert!(median < Duration::from_millis(250), "reads wait for syncs: {median:?}");
    // Eight clients share one commit: one each, in a third of the syncs that one act each would take.
    let commits = syncs.count("loki.db-wal", "500");
    assert!(door.kept.len() > 2 * commits, "{} acts in {commits} syncs", door.kept.len());
    door.heals();
    every_act_has_its_event(&site.database(), &[TOKENS]);
}
