//! On PostgreSQL each server holds a lock on its node's name as long as its writer is connected, so that two servers
//! cannot take each other's runs for their own.

use std::time::Duration;

use sqlx::PgConnection;

/// Takes the lock if nobody holds it.
const TRY: &str = "SELECT pg_try_advisory_lock($1)";

/// A server that was killed a moment ago may still be connected.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// The number of a name. PostgreSQL's locks are numbers; this one is far from those that stand in statements.
fn number(name: &str) -> i64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("lokid node {name}").as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// Takes the name; `false` when another session holds it.
async fn take(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(TRY).bind(number(name)).fetch_one(conn).await
}

/// Takes the name, also after a while.
pub(super) async fn take_patiently(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    take_within(conn, name, PATIENCE).await
}

/// Takes the name within a while; `false` when another session holds it all the time.
pub(super) async fn take_within(conn: &mut PgConnection, name: &str, patience: Duration) -> sqlx::Result<bool> {
    let until = tokio::time::Instant::now() + patience;
    loop {
        if take(conn, name).await? {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
