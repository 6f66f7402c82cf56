//! One SQL text for two engines: each statement is prepared on both, and both have the same tables.

use lokid::store::{every_statement, prepare_all, schema};

use crate::support::{
    home::{Home, Raw},
    run,
};

each_engine! {
    /// sqlx sees a missing parameter or a wrong type only when the statement is prepared (and SQLite not even then).
    async fn every_statement_is_accepted_and_a_wrong_one_is_named(home) {
        prepare_all(&home.store).await.unwrap();
        assert!(every_statement().count() > 30);

        let mut raw = home.behind_its_back().await;
        raw.run("ALTER TABLE tokens RENAME COLUMN owner_name TO owner_title").await.unwrap();
        // Another process, because a connection remembers what it prepared before.
        let wrong = prepare_all(&home.another_process().await).await.unwrap_err();
        let (_, sql) = every_statement().find(|(name, _)| *name == wrong.name).unwrap();
        assert!(sql.contains("owner_name"), "{wrong}");
        assert_eq!(wrong.engine, home.store.engine());

        raw.run("ALTER TABLE tokens RENAME COLUMN owner_title TO owner_name").await.unwrap();
        prepare_all(&home.another_process().await).await.unwrap();
    }
}

#[test]
fn both_engines_have_the_same_tables_and_columns() {
    run(async {
        let lite = Home::on_sqlite().await;
        let Some(postgres) = Home::on_postgres().await else { return };
        let (a, b) = (schema(&lite.store).await.unwrap(), schema(&postgres.store).await.unwrap());
        assert!(a.contains(&("audit".to_owned(), "prev_hash".to_owned())), "{a:?}");
        assert_eq!(a, b);

        postgres.behind_its_back().await.run("ALTER TABLE once ADD COLUMN colour TEXT").await.unwrap();
        assert_ne!(a, schema(&postgres.store).await.unwrap());
        lite.behind_its_back().await.run("ALTER TABLE once ADD COLUMN colour TEXT").await.unwrap();
        assert_eq!(schema(&lite.store).await.unwrap(), schema(&postgres.store).await.unwrap());
    });
}

/// `table.column type required`, in SQLite's words.
fn columns(raw: &Raw) -> &'static str {
    match raw {
        Raw::Sqlite(_) => {
            "SELECT m.name || '.' || c.name || ' ' || lower(c.type) || iif(c.\"notnull\" OR c.pk, ' required', '') \
             FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '%sqlx%' ORDER BY 1"
        }
        Raw::Postgres(_) => {
            "SELECT table_name || '.' || column_name || ' ' || \
             CASE data_type WHEN 'bigint' THEN 'integer' WHEN 'bytea' THEN 'blob' ELSE data_type END || \
             CASE is_nullable WHEN 'NO' THEN ' required' ELSE '' END COLLATE \"C\" AS line FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '%sqlx%' ORDER BY 1"
        }
    }
}

/// Indexes with a name of ours; those of keys and of UNIQUE are called differently.
fn indexes(raw: &Raw) -> &'static str {
    match raw {
        Raw::Sqlite(_) => {
            "SELECT tbl_name || '.' || name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1"
        }
        Raw::Postgres(_) => {
            "SELECT (tablename || '.' || indexname) COLLATE \"C\" AS line FROM pg_indexes WHERE schemaname = 'public' \
             AND indexname NOT LIKE '%\\_pkey' AND indexname NOT LIKE '%\\_key' ORDER BY 1"
        }
    }
}

#[test]
fn columns_have_the_same_types_and_the_tables_the_same_indexes() {
    run(async {
        let lite = Home::on_sqlite().await;
        let Some(postgres) = Home::on_postgres().await else { return };
        let (mut a, mut b) = (lite.behind_its_back().await, postgres.behind_its_back().await);
        for question in [columns, indexes] {
            let (of_a, of_b) = (a.texts(question(&a)).await, b.texts(question(&b)).await);
            assert!(of_a.len() > 5, "{of_a:?}");
            assert_eq!(of_a, of_b);
        }
    });
}
