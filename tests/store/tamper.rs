//! The audit log when somebody with the database's password tampers with it: refused, or found.

use lokid::{
    audit::verify::{self, Flaw},
    domain::{chain::Fault, event::EventName},
    keys::verify::PublicKeys,
    store::{
        Engine, Store,
        ledger::{Append, Filter},
    },
};

use super::walk::walk;
use crate::support::{
    home::{Home, Raw},
    values::event,
};

const LENGTH: i64 = 60;

pub(crate) async fn filled(home: &Home) -> Raw {
    home.store.act(Append { events: vec![event(EventName::TokenUsed); 60] }).await.unwrap();
    home.behind_its_back().await
}

pub(crate) async fn fault(store: &Store) -> Option<Fault> {
    let walked = walk(store).await.err().map(|(head, fault)| {
        assert!(head.seq < fault.seq().max(1), "the walk went past the fault: {head:?} {fault}");
        fault
    });
    assert_eq!(examined(store).await, walked.clone().map(Flaw::from));
    walked
}

/// What an examination says, which reads the log in another way; but for the tables, which lost their guards here.
async fn examined(store: &Store) -> Option<Flaw> {
    let report = verify::database(store, PublicKeys::default(), &[]).await.unwrap();
    report.flaw.filter(|flaw| flaw.seq().is_some())
}

each_engine! {
    /// PostgreSQL refuses such bytes; SQLite keeps them, and the entry has to be shown all the same.
    async fn a_text_that_is_none_is_shown_and_found(home) {
        let mut raw = filled(&home).await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.drop_triggers().await;
        raw.run("UPDATE audit SET actor_name = CAST(x'61ff62' AS TEXT), ip = CAST(x'fe' AS TEXT) WHERE seq = 7").await.unwrap();
        let read = home.store.audit_entry(7).await.unwrap().unwrap();
        assert_eq!((read.actor_name.as_str(), read.ip.as_deref()), ("a\u{fffd}b\0", Some("\u{fffd}\0")));
        assert_eq!(home.store.audit_page(&Filter::default(), 100).await.unwrap().len(), 60);
        assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq: 7 }));
        // Nor do they pass for the character that is shown in their place.
        raw.run("UPDATE audit SET actor_name = 'ann', ip = NULL WHERE seq = 7").await.unwrap();
        let mut odd = event(EventName::TokenUsed);
        odd.actor.name = "\u{fffd}".into();
        home.store.act(Append { events: vec![odd] }).await.unwrap();
        assert_eq!(fault(&home.store).await, None);
        raw.run("UPDATE audit SET actor_name = CAST(x'ff' AS TEXT) WHERE seq = 61").await.unwrap();
        assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq: 61 }));
    }

    /// Where a text is missing, another one that holds two must not pass for both.
    async fn two_texts_in_one_column_are_found(home) {
        let mut raw = filled(&home).await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.drop_triggers().await;
        raw.run("ALTER TABLE audit RENAME TO old; CREATE TABLE audit AS SELECT * FROM old; DROP TABLE old").await.unwrap();
        assert_eq!(fault(&home.store).await, None);
        raw.run("UPDATE audit SET resource_id = resource_id || char(0) || outcome, outcome = NULL WHERE seq = 7").await.unwrap();
        assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq: 7 }));
        raw.run("UPDATE audit SET resource_id = '', outcome = 'success' WHERE seq = 7").await.unwrap();
        assert_eq!(fault(&home.store).await, None);
    }

    async fn the_table_refuses_to_be_edited(home) {
        let mut raw = filled(&home).await;
        let copy = "INTO audit SELECT 7, time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, \
            outcome, 'nothing happened', request_id, ip, user_agent, node, details, prev_hash, hash FROM audit WHERE seq = 8";
        let mut attempts = vec![
            "UPDATE audit SET reason = 'nothing happened' WHERE seq = 7".to_owned(),
            "DELETE FROM audit WHERE seq = 7".to_owned(),
            "DELETE FROM audit".to_owned(),
            format!("INSERT {copy}"),
            format!("INSERT {copy} AND true ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason"),
        ];
        attempts.push(match home.store.engine() {
            Engine::Sqlite => format!("REPLACE {copy}"),
            Engine::Postgres => "TRUNCATE audit".to_owned(),
        });
        for attempt in attempts {
            assert!(raw.run(&attempt).await.is_err(), "{attempt}");
            assert_eq!(fault(&home.store).await, None, "{attempt}");
            assert_eq!(home.store.audit_head().await.unwrap().seq, LENGTH, "{attempt}");
        }
        home.store.act(Append { events: vec![event(EventName::TokenUsed)] }).await.unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, LENGTH + 1);
    }

    async fn an_edit_of_any_column_is_found_at_its_entry(home) {
        let mut raw = filled(&home).await;
        raw.drop_triggers().await;
        raw.run("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
        let (zero, text) = match raw {
            Raw::Sqlite(_) => ("X'00'", "CAST(time AS TEXT)"),
            Raw::Postgres(_) => ("'\\x00'", "time::text"),
        };
        let texts = [
            "event", "level", "actor_kind", "actor_id", "actor_name", "resource_kind", "resource_id", "outcome", "reason",
            "node", "details",
        ];
        let mut edits: Vec<_> = texts.iter().map(|column| format!("{column} = {column} || ' '")).collect();
        edits.extend(["request_id", "ip", "user_agent"].map(|column| format!("{column} = ''")));
        edits.extend(["prev_hash", "hash"].map(|column| format!("{column} = {zero}")));
        edits.extend(["time = time + 1".to_owned(), format!("reason = {text}")]);
        for (number, edit) in edits.iter().enumerate() {
            // The first and the last entry too: they have only one neighbour.
            let seq = [1, 2, 30, LENGTH][number % 4];
            for seq in [seq, 1] {
                raw.run(&format!("UPDATE audit SET {edit} WHERE seq = {seq}")).await.unwrap();
                assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq }), "{edit} at {seq}");
                raw.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await.unwrap();
                assert_eq!(fault(&home.store).await, None);
            }
        }
    }

    async fn inserting_reordering_and_deleting_are_found_where_they_begin(home) {
        let mut raw = filled(&home).await;
        raw.drop_triggers().await;
        raw.run("CREATE TABLE kept AS SELECT * FROM audit").await.unwrap();
        let columns = "time, event, level, actor_kind, actor_id, actor_name, resource_kind, resource_id, outcome, reason, \
            request_id, ip, user_agent, node, details, prev_hash, hash";
        let make_room = |from: i64| {
            format!("UPDATE audit SET seq = -seq WHERE seq > {from}; UPDATE audit SET seq = 1 - seq WHERE seq < 0;")
        };
        let copy = |from: i64, to: i64| format!("INSERT INTO audit SELECT {to}, {columns} FROM kept WHERE seq = {from};");
        let move_to = |from: i64, to: i64| format!("UPDATE audit SET seq = {to} WHERE seq = {from};");
        for (tampering, found) in [
            (make_room(30) + &copy(30, 31), Fault::Inserted { seq: 31 }),
            (copy(30, 0), Fault::Inserted { seq: 0 }),
            (copy(30, -5), Fault::Inserted { seq: -5 }),
            (copy(60, 61), Fault::Inserted { seq: 61 }),
            (move_to(20, 0) + &move_to(21, 20) + &move_to(0, 21), Fault::Reordered { seq: 20, original: 21 }),
            ("DELETE FROM audit WHERE seq = 40".to_owned(), Fault::Missing { seq: 40 }),
            ("DELETE FROM audit WHERE seq < 5".to_owned(), Fault::Missing { seq: 1 }),
            ("DELETE FROM audit WHERE seq = 40; UPDATE audit SET seq = seq - 1 WHERE seq = 41".to_owned(), Fault::Missing { seq: 40 }),
            (move_to(50, 1_000), Fault::Missing { seq: 50 }),
        ] {
            raw.run(&tampering).await.unwrap();
            assert_eq!(fault(&home.store).await, Some(found), "{tampering}");
            raw.run("DELETE FROM audit; INSERT INTO audit SELECT * FROM kept").await.unwrap();
            assert_eq!(fault(&home.store).await, None);
        }
    }

    /// What follows a tampered entry is hashed onto it, but the walk still names the first bad place.
    async fn new_entries_do_not_heal_a_tampered_log(home) {
        let mut raw = filled(&home).await;
        raw.drop_triggers().await;
        raw.run("UPDATE audit SET actor_name = 'eve' WHERE seq = 10").await.unwrap();
        for _ in 0..3 {
            home.store.act(Append { events: vec![event(EventName::TokenUsed)] }).await.unwrap();
            assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq: 10 }));
        }
        raw.run("UPDATE audit SET actor_name = 'ann' WHERE seq = 10").await.unwrap();
        assert_eq!(walk(&home.store).await.unwrap().seq, LENGTH + 3);
    }
}
