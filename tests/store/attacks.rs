//! What somebody with the database's password tries who leaves the chain as it is: to have entries swallowed, slipped in
//! where others were taken out, shown twice, or hidden from a filter.

use std::time::Duration;

use lokid::{
    audit::export::{Export, Format, Wanted},
    domain::{
        event::{Actor, ActorKind, EventName, NewEvent, Outcome},
        retention::Ages,
    },
    store::{
        Engine, Store,
        ledger::{Append, Filter},
    },
};

use super::evidence::{COLUMNS, Notary, append, retain, signed_log};
use crate::support::values::{at, event, event_at};

/// What an examination says of the tables, when the log itself is whole.
async fn shape(notary: &Notary, store: &Store) -> Option<String> {
    let flaw = notary.look(store).await.flaw?;
    assert_eq!((flaw.kind(), flaw.seq()), ("rebuilt", None), "{flaw}");
    Some(flaw.to_string())
}

/// How many entries an export of this filter holds.
async fn exported(store: &Store, filter: Filter) -> usize {
    let wanted = Wanted { filter, asked: String::new(), format: Format::Csv };
    let mut export = Export::of(store.clone(), wanted, None, at(0)).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = export.piece().await.unwrap() {
        text.extend(piece);
    }
    String::from_utf8(text).unwrap().lines().count() - 1
}

each_engine! {
    /// Nobody may act without a trace because something in the database swallows the trace.
    async fn an_act_whose_entry_is_swallowed_fails_and_whatever_swallows_it_is_named(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        let (swallow, spit) = match home.store.engine() {
            Engine::Sqlite => (
                "CREATE TRIGGER zz BEFORE INSERT ON audit WHEN NEW.actor_name = 'eve' BEGIN SELECT RAISE(IGNORE); END",
                "DROP TRIGGER zz",
            ),
            Engine::Postgres => (
                "CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.actor_name = 'eve' THEN RETURN NULL; \
                 END IF; RETURN NEW; END $$; CREATE TRIGGER zz BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION zz()",
                "DROP TRIGGER zz ON audit",
            ),
        };
        let eve = || NewEvent::new(at(9), EventName::TokenCreated, Actor::new(ActorKind::Person, "eve", "eve"));
        raw.run(swallow).await.unwrap();
        assert!(home.store.act(Append { events: vec![eve()] }).await.is_err());
        let head = home.store.audit_head().await.unwrap().seq;
        append(&home.store, 1).await;
        assert_eq!(home.store.audit_head().await.unwrap().seq, head + 1, "others go on");
        assert!(shape(&notary, &home.store).await.unwrap().contains("the trigger zz was added to the table audit"));
        raw.run(spit).await.unwrap();
        home.store.act(Append { events: vec![eve()] }).await.unwrap();
        assert_eq!(shape(&notary, &home.store).await, None);
    }

    /// It lets the entry in and takes it out again, with a tombstone for a moment, so that the guard lets it.
    async fn an_act_whose_entry_is_taken_out_again_before_the_commit_fails(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        let take_out = "INSERT INTO audit_tombstones SELECT seq, seq, prev_hash, hash, hash, '' FROM audit WHERE actor_name = 'eve'; \
            DELETE FROM audit WHERE actor_name = 'eve'; DELETE FROM audit_tombstones WHERE jws = '';";
        let attempts = match home.store.engine() {
            // A table's name is the same in any case.
            Engine::Sqlite => vec![(format!("CREATE TRIGGER zz AFTER INSERT ON AUDIT BEGIN {take_out} END"), "DROP TRIGGER zz")],
            Engine::Postgres => {
                raw.run(&format!("CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {take_out} RETURN NULL; END $$"))
                    .await.unwrap();
                let on = |what: &str| format!("CREATE {what} FOR EACH ROW EXECUTE FUNCTION zz()");
                vec![
                    (on("TRIGGER zz AFTER INSERT ON audit"), "DROP TRIGGER zz ON audit"),
                    // One that waits for the commit.
                    (on("CONSTRAINT TRIGGER zz AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED"), "DROP TRIGGER zz ON audit"),
                ]
            }
        };
        let eve = || NewEvent::new(at(9), EventName::TokenCreated, Actor::new(ActorKind::Person, "eve", "eve"));
        for (swallow, spit) in attempts {
            raw.run(&swallow).await.unwrap();
            let head = home.store.audit_head().await.unwrap();
            // By itself, and before another one of the same commit, which stays the end of the log.
            for events in [vec![eve()], vec![eve(), event(EventName::CredentialRefused)]] {
                assert!(home.store.act(Append { events }).await.is_err(), "{swallow}");
                assert_eq!(home.store.audit_head().await.unwrap(), head);
            }
            assert!(shape(&notary, &home.store).await.unwrap().contains("the trigger zz was added"), "{swallow}");
            raw.run(spit).await.unwrap();
            assert_eq!(shape(&notary, &home.store).await, None);
        }
        home.store.act(Append { events: vec![eve()] }).await.unwrap();
        assert_eq!(shape(&notary, &home.store).await, None);
    }

    /// Nor one whose trace says something else.
    async fn an_act_whose_entry_is_edited_as_it_is_written_fails(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        let (edit, stop) = match home.store.engine() {
            Engine::Sqlite => (
                "DROP TRIGGER audit_is_not_edited; CREATE TRIGGER zz AFTER INSERT ON audit WHEN NEW.actor_name = 'eve' \
                 BEGIN UPDATE audit SET actor_name = 'bob' WHERE seq = NEW.seq; END",
                "DROP TRIGGER zz",
            ),
            Engine::Postgres => (
                "CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.actor_name = 'eve' THEN NEW.actor_name = 'bob'; \
                 END IF; RETURN NEW; END $$; CREATE TRIGGER zz BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION zz()",
                "DROP TRIGGER zz ON audit",
            ),
        };
        let eve = || NewEvent::new(at(9), EventName::TokenCreated, Actor::new(ActorKind::Person, "eve", "eve"));
        raw.run(edit).await.unwrap();
        let head = home.store.audit_head().await.unwrap();
        for events in [vec![eve()], vec![eve(), event(EventName::CredentialRefused)]] {
            assert!(home.store.act(Append { events }).await.is_err());
            assert_eq!(home.store.audit_head().await.unwrap(), head);
        }
        append(&home.store, 1).await;
        raw.run(stop).await.unwrap();
        home.store.act(Append { events: vec![eve()] }).await.unwrap();
        assert_eq!(home.store.audit_head().await.unwrap().seq, head.seq + 2);
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    async fn a_table_that_was_built_anew_or_lost_its_guard_is_named(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        let on_sqlite = home.store.engine() == Engine::Sqlite;
        raw.run(if on_sqlite { "DROP TRIGGER audit_is_not_edited" } else { "ALTER TABLE audit DISABLE TRIGGER audit_is_not_edited" })
            .await.unwrap();
        assert!(shape(&notary, &home.store).await.unwrap().contains("audit_is_not_edited"));
        if on_sqlite {
            raw.drop_triggers().await;
            raw.run("ALTER TABLE audit RENAME TO old; CREATE TABLE audit AS SELECT * FROM old; DROP TABLE old").await.unwrap();
            // A place twice: whoever reads on behind it never sees the other one.
            raw.run(&format!("INSERT INTO audit SELECT 7, {COLUMNS} FROM audit WHERE seq = 7")).await.unwrap();
            assert!(notary.look(&home.store).await.flaw.is_some());
            raw.run("DELETE FROM audit WHERE rowid = (SELECT MAX(rowid) FROM audit)").await.unwrap();
            assert!(shape(&notary, &home.store).await.is_some());
        } else {
            raw.run("ALTER TABLE audit ENABLE TRIGGER audit_is_not_edited").await.unwrap();
            // One on another table reaches it too.
            raw.run("CREATE TRIGGER zz AFTER INSERT ON tokens EXECUTE FUNCTION audit_is_append_only()").await.unwrap();
            assert!(shape(&notary, &home.store).await.unwrap().contains("the trigger zz was added to the table tokens"));
            raw.run("DROP TRIGGER zz ON tokens").await.unwrap();
            // What another application does to its own tables is its own affair.
            raw.run("CREATE TABLE others (n INT); CREATE TRIGGER zz AFTER INSERT ON others EXECUTE FUNCTION audit_is_append_only()").await.unwrap();
            assert_eq!(shape(&notary, &home.store).await, None);
            raw.run("ALTER TABLE audit ALTER COLUMN reason DROP NOT NULL").await.unwrap();
            assert!(shape(&notary, &home.store).await.unwrap().contains("the column reason"));
            raw.run("ALTER TABLE audit ALTER COLUMN reason SET NOT NULL").await.unwrap();
            // Its values are the same, but what is asked of them is not.
            for (column, other, own) in [("outcome", "VARCHAR(9)", "TEXT"), ("time", "MONEY USING (time::numeric / 100)::money", "BIGINT USING time::numeric * 100")] {
                raw.run(&format!("ALTER TABLE audit ALTER COLUMN {column} TYPE {other}")).await.unwrap();
                // By whoever comes now: who has asked before is told that the answer would be of another kind.
                let found = shape(&notary, &home.another_process().await).await.unwrap();
                assert!(found.contains(&format!("the column {column} of the table audit is of another type")), "{found}");
                raw.run(&format!("ALTER TABLE audit ALTER COLUMN {column} TYPE {own}")).await.unwrap();
                assert_eq!(shape(&notary, &home.another_process().await).await, None);
            }
            raw.run("ALTER TABLE audit DROP CONSTRAINT audit_pkey").await.unwrap();
            assert!(shape(&notary, &home.store).await.unwrap().contains("primary key"));
            raw.run("ALTER TABLE audit ADD PRIMARY KEY (seq, reason)").await.unwrap();
            assert!(shape(&notary, &home.store).await.unwrap().contains("primary key"));
            raw.run("ALTER TABLE audit DROP CONSTRAINT audit_pkey; ALTER TABLE audit ADD PRIMARY KEY (seq)").await.unwrap();
            assert_eq!(shape(&notary, &home.store).await, None);
            let gutted = "CREATE OR REPLACE FUNCTION audit_entry_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$";
            raw.run(gutted).await.unwrap();
            assert!(shape(&notary, &home.store).await.unwrap().contains("audit_is_not_deleted"));
        }
    }

    /// SQLite goes by a definition, whatever the columns beside it say, and so does the examination.
    async fn a_trigger_that_calls_itself_something_else_is_named(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        for (made, kind) in [
            ("TRIGGER zz AFTER INSERT ON tokens BEGIN SELECT 1; END", "TRIGGER"),
            ("VIEW zz AS SELECT 1", "VIEW"),
        ] {
            let disguises = [
                format!("type = '{kind}'"),
                format!("type = '{kind}', tbl_name = tbl_name || char(0) || 'x'"),
            ];
            for disguise in disguises {
                let put = format!("CREATE {made}; PRAGMA writable_schema = ON; UPDATE sqlite_schema SET {disguise} WHERE name = 'zz'");
                raw.run(&put).await.unwrap();
                let found = shape(&notary, &home.store).await.unwrap_or_default();
                assert!(found.contains("zz was added to the table"), "{disguise}: {found}");
                raw.run("DELETE FROM sqlite_schema WHERE name = 'zz'; PRAGMA writable_schema = RESET").await.unwrap();
                assert_eq!(shape(&notary, &home.store).await, None);
            }
        }
        raw.run("CREATE TABLE zz (a); CREATE INDEX zzz ON audit (node)").await.unwrap();
        assert_eq!(shape(&notary, &home.store).await, None, "what hides nothing is no fault");
    }

    /// Nobody switches the comparison off by saying that a newer lokid was there.
    async fn tables_of_a_newer_version_are_compared_all_the_same(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.run("INSERT INTO _sqlx_migrations SELECT 999, description, installed_on, success, checksum, execution_time \
            FROM _sqlx_migrations WHERE version = 1").await.unwrap();
        assert_eq!(shape(&notary, &home.store).await, None);
        raw.drop_triggers().await;
        let found = shape(&notary, &home.store).await.unwrap_or_default();
        assert!(found.contains("missing") && found.contains("of version 999"), "{found}");
    }

    /// A stretch is looked for by its first place, so where one ends a second entry of its last place is passed over.
    async fn a_second_entry_at_a_place_where_a_stretch_ends_is_named(home) {
        let notary = signed_log(&home).await;
        append(&home.store, 1_100).await;
        let mut raw = home.behind_its_back().await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.drop_triggers().await;
        raw.run("ALTER TABLE audit RENAME TO old; CREATE TABLE audit AS SELECT * FROM old").await.unwrap();
        for place in [1_024, 1_142] {
            raw.run(&format!("INSERT INTO audit SELECT {place}, {COLUMNS} FROM audit WHERE seq = 7")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, Some(("inserted", place)));
            raw.run("DELETE FROM audit WHERE rowid = (SELECT MAX(rowid) FROM audit)").await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, None);
        }
    }

    /// A tombstone that nobody signed, within a genuine one, must not hide what is put in behind it.
    async fn nothing_is_slipped_in_under_a_tombstone_within_another(home) {
        let mut notary = Notary::new();
        home.store.act(Append { events: (0..9).map(|n| event_at(EventName::CredentialRefused, at(n))).collect() }).await.unwrap();
        notary.sign(&home.store, 60).await.unwrap();
        append(&home.store, 3).await;
        let day = Duration::from_hours(24);
        let ages = Ages { acts: None, noise: Some(day) };
        let now = at(0).plus(2 * day);
        assert!(retain(&home, &notary, ages, now).await >= 9);
        assert_eq!(notary.look(&home.store).await.flaw, None);
        let mut raw = home.behind_its_back().await;
        let last = home.store.audit_head().await.unwrap().seq;
        let nested = "INSERT INTO audit_tombstones SELECT 3, 3, prev_hash, first_hash, last_hash, 'a.b.c' FROM audit_tombstones WHERE first_seq = 1";
        raw.run(nested).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 3)));
        raw.run(&format!("INSERT INTO audit SELECT 4, {COLUMNS} FROM audit WHERE seq = {last}")).await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 3)));
        raw.drop_triggers().await;
        raw.run("DELETE FROM audit_tombstones WHERE first_seq = 3").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("inserted", 4)));
        raw.run("DELETE FROM audit WHERE seq = 4").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
        raw.run("INSERT INTO audit_tombstones SELECT 12, 11, prev_hash, hash, hash, 'a.b.c' FROM audit WHERE seq = 10").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 12)));
        raw.run("DELETE FROM audit_tombstones WHERE first_seq = 12").await.unwrap();
        // Nor does one that lies behind the end wait for its entries.
        raw.run("INSERT INTO audit_tombstones SELECT 2000, 3000, prev_hash, hash, hash, 'a.b.c' FROM audit WHERE seq = 10").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, Some(("forged", 2000)));
    }

    /// What stands beside a checkpoint is shown to people.
    async fn the_columns_beside_a_checkpoint_say_what_it_says(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        for (change, back) in [("kid = 'x' || kid", "kid = substr(kid, 2)"), ("time = time + 1", "time = time - 1")] {
            raw.run(&format!("UPDATE audit_checkpoints SET {change} WHERE seq = 20")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, Some(("forged", 20)), "{change}");
            raw.run(&format!("UPDATE audit_checkpoints SET {back} WHERE seq = 20")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, None);
        }
    }

    /// A signed export holds all that fits, whatever the indexes and the notes about times say.
    async fn an_export_does_not_ask_what_an_index_says(home) {
        let eve = || NewEvent::new(at(99), EventName::TokenCreated, Actor::new(ActorKind::Person, "eve", "eve"));
        home.store.act(Append { events: vec![event(EventName::TokenUsed); 5] }).await.unwrap();
        home.store.act(Append { events: vec![eve(), eve()] }).await.unwrap();
        let mut raw = home.behind_its_back().await;
        let lie = format!("INSERT INTO audit_times VALUES (1000000, {}, {})", i64::MAX, i64::MIN + 1);
        raw.run(&lie).await.unwrap();
        if home.store.engine() == Engine::Sqlite {
            raw.run("DROP INDEX audit_by_actor; CREATE INDEX audit_by_actor ON audit (CASE actor_id WHEN 'eve' THEN 'zz' ELSE actor_id END, seq); \
                PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX audit_by_actor ON audit (actor_id, seq)' \
                WHERE name = 'audit_by_actor'; PRAGMA writable_schema = OFF").await.unwrap();
        }
        let by_actor = Filter { actor: Some("eve".into()), ..Filter::default() };
        let by_time = Filter { start: Some(at(99)), ..Filter::default() };
        let by_event = Filter { event: Some("auth.token.create".into()), outcome: Some("success".into()), ..Filter::default() };
        for filter in [by_actor, by_time, by_event] {
            assert_eq!(exported(&home.store, filter.clone()).await, 2, "{filter:?}");
        }
        assert_eq!(exported(&home.store, Filter { actor: Some("bob".into()), ..Filter::default() }).await, 0);
        // Nor does a number that no block has stop anybody.
        raw.run(&format!("INSERT INTO audit_times VALUES ({}, 0, {})", i64::MAX, i64::MAX)).await.unwrap();
        home.store.note_times().await.unwrap();
        home.store.audit_page(&Filter { start: Some(at(0)), ..Filter::default() }, 10).await.unwrap();
    }

    /// SQLite would rather read an index that holds every column, and what it is told of their sizes can be made up.
    async fn the_table_is_examined_and_not_an_index_that_holds_all_of_it(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.drop_triggers().await;
        raw.run(&format!(
            "ANALYZE; CREATE INDEX zz ON audit (seq, {COLUMNS}); CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'zz'; \
             PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'zz'; PRAGMA schema_version = 9001"
        )).await.unwrap();
        let mut other = home.behind_its_back().await;
        other.run("UPDATE audit SET actor_name = 'nobody' WHERE seq = 2").await.unwrap();
        other.run(
            "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; DELETE FROM sqlite_stat1; \
             INSERT INTO sqlite_stat1 VALUES ('audit', 'zz', '10 1 1 sz=2'), ('audit', NULL, '100000000 sz=2000000000'); \
             PRAGMA schema_version = 9002"
        ).await.unwrap();
        let mut reader = home.behind_its_back().await;
        assert_eq!(reader.texts("SELECT actor_name FROM audit WHERE seq > 1 ORDER BY seq LIMIT 1").await, ["ann"], "the index lies");
        assert_eq!(notary.flaw(&home.store).await, Some(("edited", 2)));
        assert_eq!(home.store.audit_stretch(&Filter::default()).await.unwrap()[1].actor_name, "nobody");
        reader.run("DROP INDEX zz; UPDATE audit SET actor_name = 'ann' WHERE seq = 2").await.unwrap();
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    /// Putting its row back does not bring it back: the log says that it leaked.
    async fn a_key_that_the_log_says_leaked_is_not_believed_though_it_is_among_the_trusted(home) {
        let mut leaked = signed_log(&home).await;
        let mut heir = Notary::new();
        heir.trusted.extend(leaked.trusted.clone());
        heir.vouches.push(leaked.signer.kid.clone());
        append(&home.store, 1).await;
        heir.sign(&home.store, 5).await.unwrap();
        assert_eq!(heir.look(&home.store).await.signed_by.len(), 2);
        let kid = leaked.signer.kid.clone();
        let removed = event(EventName::KeyRemoved).on("key", &kid).because(Outcome::Success, "revoked");
        home.store.act(Append { events: vec![removed] }).await.unwrap();
        heir.sign(&home.store, 6).await.unwrap();
        let report = heir.look(&home.store).await;
        assert_eq!((report.flaw, report.signed_by), (None, vec![heir.signer.kid.clone()]));
        append(&home.store, 3).await;
        leaked.sign(&home.store, 7).await.unwrap();
        assert_eq!(heir.look(&home.store).await.flaw.unwrap().kind(), "wrong_keys");
        append(&home.store, 1).await;
        heir.sign(&home.store, 8).await.unwrap();
        assert_eq!(heir.look(&home.store).await.flaw, None);
    }
}
