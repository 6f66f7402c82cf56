//! Entries that lokid cannot have written, at places and of kinds that it does not write: named, or not there for the
//! reader, but nothing that stops whoever reads, and nothing that passes for what was hashed.

use std::time::Duration;

use lokid::{
    audit::{
        export::{Export, Format, Wanted},
        offline,
    },
    domain::{
        chain::Fault,
        event::{EventName, Origin},
    },
    store::{
        Engine, Store,
        ledger::{Append, Filter},
    },
};

use super::{
    evidence::{COLUMNS, Notary, append, signed_log},
    tamper::{fault, filled},
};
use crate::support::values::{at, event};

/// What an export of everything holds.
async fn export(store: &Store, format: Format, notary: &Notary) -> String {
    let wanted = Wanted { filter: Filter::default(), asked: String::new(), format };
    let mut export = Export::of(store.clone(), wanted, Some(notary.signer.clone()), at(0)).await.unwrap();
    let whole = async {
        let mut text = Vec::new();
        while let Some(piece) = export.piece().await.unwrap() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(30), whole).await.expect("it has no end")
}

/// The entries in an export, its tombstones, and what is wrong with it.
async fn exported(store: &Store, notary: &Notary) -> (usize, usize, Option<(&'static str, i64)>) {
    let text = export(store, Format::Jsonl, notary).await;
    let of = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
    let flaw = offline::export(text.as_bytes(), &notary.trusted, &[]).unwrap().flaw;
    let entries = export(store, Format::Csv, notary).await.lines().count() - 1;
    assert_eq!(entries, of("{\"seq\":"));
    (entries, of("{\"tombstone\":"), flaw.map(|flaw| (flaw.kind(), flaw.seq().unwrap_or(i64::MIN))))
}

each_engine! {
    /// A whole stretch of them, too: the place that it ends at is no reason to begin anew.
    async fn entries_below_the_first_place_are_exported_and_named(home) {
        let notary = signed_log(&home).await;
        assert_eq!(exported(&home.store, &notary).await, (42, 0, None));
        let mut raw = home.behind_its_back().await;
        let put = format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1023) INSERT INTO audit \
             SELECT -i, {COLUMNS} FROM audit, n WHERE seq = 8"
        );
        raw.run(&put).await.unwrap();
        assert_eq!(exported(&home.store, &notary).await, (42 + 1024, 0, Some(("inserted", -1023))));
        assert_eq!(notary.flaw(&home.store).await, Some(("inserted", -1023)));
        raw.drop_triggers().await;
        raw.run("DELETE FROM audit WHERE seq < 1").await.unwrap();
        assert_eq!(exported(&home.store, &notary).await, (42, 0, None));
        assert_eq!(notary.flaw(&home.store).await, None);
    }

    /// Behind the last place of all there is none: nobody acts without an entry, and nothing overflows.
    async fn an_entry_at_the_last_place_of_all_is_named_and_stops_whoever_acts(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        for (place, found) in [(i64::MAX, ("deleted", 43)), (i64::MIN, ("edited", i64::MIN))] {
            raw.run(&format!("INSERT INTO audit SELECT {place}, {COLUMNS} FROM audit WHERE seq = 8")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, Some(found));
            assert_eq!(exported(&home.store, &notary).await, (43, 0, Some(found)));
            for events in [1, 2] {
                let act = home.store.act(Append { events: vec![event(EventName::TokenUsed); events] }).await;
                assert_eq!(act.is_ok(), place < 0, "{act:?}");
            }
            home.store.note_times().await.unwrap();
            raw.drop_triggers().await;
            raw.run(&format!("DELETE FROM audit WHERE seq = {place} OR seq > 42")).await.unwrap();
            assert_eq!(exported(&home.store, &notary).await, (42, 0, None));
        }
        append(&home.store, 1).await;
        assert_eq!(home.store.audit_head().await.unwrap().seq, 43);
    }

    /// One that somebody made up hides nothing from an export, and stands in it once.
    async fn a_made_up_tombstone_over_living_entries_takes_none_out_of_an_export(home) {
        let notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        for (first, last) in [(5, 7), (30, 2000), (1, i64::MAX), (i64::MIN, i64::MAX)] {
            let put = format!("INSERT INTO audit_tombstones SELECT {first}, {last}, hash, hash, hash, 'a.b.c' FROM audit WHERE seq = 4");
            raw.run(&put).await.unwrap();
            let (entries, stones, flaw) = exported(&home.store, &notary).await;
            assert_eq!((entries, stones), (42, 1), "{first} to {last}");
            assert!(flaw.is_some() && notary.flaw(&home.store).await.is_some());
            raw.run("DELETE FROM audit_tombstones").await.unwrap();
            assert_eq!(exported(&home.store, &notary).await, (42, 0, None));
        }
    }

    /// In a table that was built anew SQLite keeps a value of any kind, and its texts are the same.
    async fn a_value_of_another_kind_does_not_pass_for_what_was_hashed(home) {
        let mut raw = filled(&home).await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        let mut whole = event(EventName::TokenUsed);
        whole.origin = Origin { request_id: Some("r".into()), ip: Some("::1".into()), user_agent: Some("curl".into()) };
        home.store.act(Append { events: vec![whole, event(EventName::TokenUsed)] }).await.unwrap();
        raw.drop_triggers().await;
        raw.run("ALTER TABLE audit RENAME TO old; CREATE TABLE audit AS SELECT * FROM old").await.unwrap();
        assert_eq!(fault(&home.store).await, None);
        let blobs = ["event", "actor_id", "resource_kind", "outcome", "node", "details", "request_id", "ip", "user_agent", "time"];
        let texts = ["prev_hash", "hash"];
        let changes = (blobs.iter().map(|column| (*column, format!("CAST({column} AS BLOB)"))))
            .chain(texts.iter().map(|column| (*column, format!("CAST({column} AS TEXT)"))))
            .chain([("time", "CAST('+00' || time AS BLOB)".into()), ("time", "time + 0.5".into()), ("time", "NULL".into())])
            .chain([("resource_kind", "NULL".into()), ("reason", "NULL".into()), ("hash", "NULL".into())]);
        for (column, value) in changes {
            raw.run(&format!("UPDATE audit SET {column} = {value} WHERE seq = 61")).await.unwrap();
            let is_other = format!("SELECT COUNT(*) FROM audit a JOIN old USING (seq) WHERE seq = 61 AND typeof(a.{column}) <> typeof(old.{column})");
            assert_eq!(raw.number(&is_other).await, 1, "{column} = {value}");
            assert_eq!(fault(&home.store).await, Some(Fault::Edited { seq: 61 }), "{column} = {value}");
            // It is shown and counted all the same.
            let (store, since) = (&home.store, at(-9));
            assert_eq!(store.audit_page(&Filter::default(), 100).await.unwrap().len(), 62);
            store.audit_summary(since).await.unwrap();
            store.audit_by_hour(since).await.unwrap();
            store.audit_timeline(&Filter::default(), since, 1000, 100).await.unwrap();
            raw.run(&format!("UPDATE audit SET {column} = (SELECT {column} FROM old WHERE seq = 61) WHERE seq = 61")).await.unwrap();
            assert_eq!(fault(&home.store).await, None, "{column} = {value}");
        }
    }

    /// However long they are, a stretch of them takes no more memory than one of short ones.
    async fn long_texts_end_a_stretch_and_the_rest_comes_with_the_next(home) {
        if home.store.engine() == Engine::Postgres {
            return;
        }
        let long = event(EventName::TokenUsed).with("said", "x".repeat(300_000));
        home.store.act(Append { events: vec![long; 10] }).await.unwrap();
        let (mut reader, mut lasts) = (home.store.audit_reader(), vec![None]);
        while let Some(last) = reader.stretch(Filter::behind(lasts[lasts.len() - 1])).await.unwrap().last {
            lasts.push(Some(last));
        }
        assert_eq!(lasts[1..], [4, 8, 10].map(Some));
        assert_eq!(fault(&home.store).await, None);
    }

    /// Whoever reads on behind it could read the same for ever.
    async fn a_place_that_is_no_number_ends_the_reading_with_what_is_wrong(home) {
        let mut raw = filled(&home).await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.drop_triggers().await;
        raw.run("ALTER TABLE audit RENAME TO old; CREATE TABLE audit AS SELECT * FROM old").await.unwrap();
        for place in ["x'37'", "6.5", "'sixty'"] {
            raw.run(&format!("UPDATE audit SET seq = {place} WHERE seq = 7")).await.unwrap();
            let mut reader = home.store.audit_reader();
            let reading = async {
                let mut last = None;
                loop {
                    match reader.stretch(Filter::behind(last)).await {
                        Ok(read) => last = Some(read.last.expect("it ends before the odd place")),
                        Err(e) => return e.to_string(),
                    }
                }
            };
            let said = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("it has no end");
            assert!(said.contains("a place is no number"), "{place}: {said}");
            raw.run(&format!("UPDATE audit SET seq = 7 WHERE seq = {place}")).await.unwrap();
            assert_eq!(fault(&home.store).await, None);
        }
    }

    /// What is signed about the log can be odd as well: then it is forged, or nobody's.
    async fn a_statement_of_another_kind_is_forged_and_a_key_that_is_none_is_passed_over(home) {
        let mut notary = signed_log(&home).await;
        let mut raw = home.behind_its_back().await;
        if home.store.engine() == Engine::Postgres {
            return;
        }
        raw.run("ALTER TABLE audit_checkpoints RENAME TO old; CREATE TABLE audit_checkpoints AS SELECT * FROM old; \
            ALTER TABLE audit_keys RENAME TO keys; CREATE TABLE audit_keys AS SELECT * FROM keys; \
            CREATE UNIQUE INDEX a ON audit_keys (kid); CREATE UNIQUE INDEX b ON audit_checkpoints (seq, hash)").await.unwrap();
        for (column, value) in [("jws", "CAST(jws AS BLOB)"), ("time", "'abc'"), ("kid", "NULL"), ("kid", "CAST(x'ff' AS TEXT)")] {
            raw.run(&format!("UPDATE audit_checkpoints SET {column} = {value} WHERE seq = 20")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, Some(("forged", 20)), "{column} = {value}");
            raw.run(&format!("UPDATE audit_checkpoints SET {column} = (SELECT {column} FROM old WHERE seq = 20) WHERE seq = 20")).await.unwrap();
            assert_eq!(notary.flaw(&home.store).await, None);
        }
        raw.run("INSERT INTO audit_keys VALUES ('odd', x'ff', 0)").await.unwrap();
        assert_eq!(exported(&home.store, &notary).await, (42, 0, None));
        // Nor does it keep the next one from being signed.
        raw.run("UPDATE audit_checkpoints SET time = 'abc'").await.unwrap();
        append(&home.store, 1).await;
        assert!(notary.sign(&home.store, 9).await.is_some());
    }
}
