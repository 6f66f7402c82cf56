//! What nodes tell each other beside the log: short words that are worth nothing a second later. PostgreSQL carries them
//! (`NOTIFY`), which writes nothing; on SQLite there is nobody to tell.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Store, StoreError, dialect::Db};

/// The channel.
pub(super) const CHANNEL: &str = "lokid_limits";
/// PostgreSQL takes words of less than 8000 bytes.
pub const LONGEST: usize = 7900;
const TELL: &str = "SELECT pg_notify($1, $2)";
/// Words that may wait for one who listens.
const HELD: usize = 64;

/// Words of others as they come.
pub(super) type Words = broadcast::Sender<Arc<str>>;

pub(super) fn words() -> Words {
    broadcast::Sender::new(HELD)
}

impl Store {
    /// Tells the other nodes, and this one.
    ///
    /// # Errors
    /// When the database cannot pass it on.
    pub async fn tell(&self, word: &str) -> Result<(), StoreError> {
        match &self.db {
            Db::Sqlite(_) => {}
            Db::Postgres(pool) => {
                sqlx::query(TELL).bind(CHANNEL).bind(word).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// What is told from now on.
    pub fn words(&self) -> broadcast::Receiver<Arc<str>> {
        self.words.subscribe()
    }
}
