//! The SQLite file: one server on it, nobody else may read it, and a file that is not sound is refused.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use lokid::store::{Database, OpenError};
use tempfile::TempDir;

use super::walk::walk;
use crate::support::{
    home::{Home, command_on, server_on},
    run,
    values::{at, mint, token},
};

/// A file that was used and closed in good order, outside of any store.
async fn used_file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data/loki.db");
    let store = server_on(&Database::Sqlite(path.clone())).await.unwrap();
    for number in 0..40 {
        store.act(mint(token("usr-a", &format!("t{number}")))).await.unwrap().unwrap();
    }
    store.close().await;
    assert!(!side_file(&path, "-wal").exists(), "all of it is in the one file");
    (directory, path)
}

async fn refused(path: &Path) -> OpenError {
    server_on(&Database::Sqlite(path.to_owned())).await.expect_err("it should not have opened")
}

async fn opens_with_40_tokens(path: &Path) {
    let store = server_on(&Database::Sqlite(path.to_owned())).await.unwrap();
    assert_eq!(store.active_tokens(at(0)).await.unwrap(), 40);
    store.close().await;
}

fn side_file(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_second_server_is_refused_and_a_command_is_not() {
    run(async {
        let home = Home::on_sqlite().await;
        let second = server_on(&home.database).await;
        assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
        let command = command_on(&home.database).await.unwrap();
        command.act(mint(token("usr-a", "ci"))).await.unwrap().unwrap();
        assert_eq!(home.store.active_tokens(at(0)).await.unwrap(), 1);
        home.restart().await;
    });
}

#[test]
fn only_its_owner_can_read_what_the_store_makes() {
    run(async {
        let home = Home::on_sqlite().await;
        home.store.act(mint(token("usr-a", "ci"))).await.unwrap().unwrap();
        let path = home.file();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for suffix in ["", "-wal", "-shm", ".lock"] {
            assert_eq!(mode(&side_file(&path, suffix)), 0o600, "{suffix}");
        }
        let by_command = home.empty_database().await;
        command_on(&by_command).await.unwrap();
        let Database::Sqlite(path) = by_command else { unreachable!() };
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    });
}

#[test]
fn a_file_that_vanished_or_was_emptied_is_not_taken_for_a_first_start() {
    run(async {
        let (_directory, path) = used_file().await;
        let good = fs::read(&path).unwrap();
        for is_deleted in [true, false] {
            let lose = || if is_deleted { fs::remove_file(&path).unwrap() } else { fs::write(&path, "").unwrap() };
            lose();
            let gone = refused(&path).await;
            assert!(matches!(gone, OpenError::Gone { .. }), "{gone:?}");
            assert!(gone.to_string().contains("loki.db.lock"), "{gone}");
            // A command that comes first must not make an empty file that the server then takes for sound.
            let command = command_on(&Database::Sqlite(path.clone())).await;
            assert!(matches!(command, Err(OpenError::Gone { .. })), "{command:?}");
            assert!(matches!(refused(&path).await, OpenError::Gone { .. }));

            fs::write(&path, &good).unwrap();
            opens_with_40_tokens(&path).await;
        }
        fs::remove_file(&path).unwrap();
        fs::remove_file(side_file(&path, ".lock")).unwrap();
        let anew = server_on(&Database::Sqlite(path)).await.unwrap();
        assert_eq!(anew.active_tokens(at(0)).await.unwrap(), 0);
    });
}

#[test]
fn a_file_that_only_a_command_used_is_remembered_too() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loki.db");
        let database = Database::Sqlite(path.clone());
        command_on(&database).await.unwrap().close().await;
        fs::write(&path, "").unwrap();
        assert!(matches!(refused(&path).await, OpenError::Gone { .. }));
    });
}

#[test]
fn a_file_that_is_no_sound_database_is_refused_and_left_alone() {
    run(async {
        let (_directory, path) = used_file().await;
        let good = fs::read(&path).unwrap();
        let page = usize::from(u16::from_be_bytes([good[16], good[17]]));
        let mut damages = vec![
            ("garbage", b"this is not a database ".repeat(400)),
            ("one byte", vec![0]),
            ("half of it", good[..good.len() / page / 2 * page].to_vec()),
            ("cut within a page", good[..good.len() - 100].to_vec()),
        ];
        let pages = good.len() / page;
        assert!(pages > 15, "{pages}");
        for number in 0..pages {
            let mut damaged = good.clone();
            damaged[number * page..(number + 1) * page].fill(0xA5);
            damages.push(("one page", damaged));
        }
        for (number, (what, damaged)) in damages.into_iter().enumerate() {
            fs::write(&path, &damaged).unwrap();
            let opened = server_on(&Database::Sqlite(path.clone())).await;
            match &opened {
                Err(OpenError::Damaged { .. }) => {}
                Err(OpenError::Gone { .. }) if damaged.len() == 1 => {} // SQLite takes it for an empty file
                _ => panic!("{number} {what}: {opened:?}"),
            }
            assert_eq!(fs::read(&path).unwrap(), damaged, "{number} {what}: it was written to");
        }
        fs::write(&path, &good).unwrap();
        opens_with_40_tokens(&path).await;
    });
}

#[test]
fn a_locked_database_is_an_error_for_each_that_waits_and_heals() {
    run(async {
        let home = Home::on_sqlite().await;
        let mut other = home.behind_its_back().await;
        other.run("BEGIN EXCLUSIVE").await.unwrap();
        let all = (0..20).map(|number| home.store.act(mint(token("usr-a", &format!("{number}")))));
        // Each of them would wait by itself if the writer tried them one after the other.
        let refused = tokio::time::timeout(Duration::from_secs(20), futures_util::future::join_all(all)).await;
        let refused = refused.expect("they wait one after the other");
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(home.store.active_tokens(at(0)).await.unwrap(), 0, "reading goes on");

        other.run("ROLLBACK").await.unwrap();
        home.store.act(mint(token("usr-a", "0"))).await.unwrap().unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, 1);
    });
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_with_its_name() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        fs::DirBuilder::new().mode(0o500).create(&closed).unwrap();
        // The superuser may write there all the same, but not into /proc.
        let closed = if fs::write(closed.join("x"), "").is_ok() { PathBuf::from("/proc") } else { closed };
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [closed.join("loki.db"), closed.join("data/loki.db"), file.join("loki.db")] {
            for opened in
                [server_on(&Database::Sqlite(path.clone())).await, command_on(&Database::Sqlite(path.clone())).await]
            {
                assert!(matches!(opened, Err(OpenError::File { .. })), "{opened:?}");
                assert!(opened.unwrap_err().to_string().contains(path.parent().unwrap().to_str().unwrap()));
            }
        }
        server_on(&Database::Sqlite(directory.path().join("open/loki.db"))).await.unwrap();
    });
}
