//! The nodes that work on this database, as they say of themselves.

use std::time::Duration;

use super::{
    Act, Batch, Store, StoreError,
    dialect::{Conn, Db},
    ledger::MOMENT,
    statements::statements,
};
use crate::domain::{node::Node, time::Moment};

statements! {
    /// A node says that it lives. Its beats begin with the clock, so that one whose row was gone does not begin again where it was.
    BEAT = "INSERT INTO nodes (name, version, keys, started_at, seen_at, beats) VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (name) DO UPDATE SET version = excluded.version, keys = excluded.keys, started_at = excluded.started_at, \
         seen_at = excluded.seen_at, beats = nodes.beats + 1, stopped_at = NULL";
    /// A node says that it ends.
    LEAVE = "UPDATE nodes SET seen_at = $2, stopped_at = $2 WHERE name = $1";
    /// All that were heard of since a moment.
    SINCE = "SELECT name, version, keys, started_at, seen_at, beats, stopped_at FROM nodes WHERE seen_at >= $1 ORDER BY name";
    /// Those that were not, and whose runs have all been marked.
    FORGET = "DELETE FROM nodes WHERE seen_at < $1 AND NOT EXISTS \
         (SELECT 1 FROM runs WHERE node = nodes.name AND state IN ('queued', 'running', 'paused', 'stopping'))";
    /// How often one was heard of.
    BEATS = "SELECT beats FROM nodes WHERE name = $1";
}

row! {
    NodeRow {
        name: String, version: String, keys: String, started_at: i64, seen_at: i64, beats: i64, stopped_at: Option<i64>
    }
}

impl From<NodeRow> for Node {
    fn from(row: NodeRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            keys: row.keys.split(' ').filter(|kid| !kid.is_empty()).map(str::to_owned).collect(),
            started_at: Moment::from_millis(row.started_at),
            seen_at: Moment::from_millis(row.seen_at),
            beats: row.beats,
            stopped_at: row.stopped_at.map(Moment::from_millis),
        }
    }
}

/// Nodes, and the moment of the clock by which they were heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The nodes, by name.
    pub nodes: Vec<Node>,
    /// The present moment.
    pub now: Moment,
}

impl Store {
    /// The nodes that were heard of within a while. On PostgreSQL its clock counts and nobody else's; `ours` is the clock of
    /// a node that is alone.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn nodes(&self, within: Duration, ours: Moment) -> Result<Heard, StoreError> {
        let now = match &self.db {
            Db::Sqlite(_) => ours,
            Db::Postgres(_) => Moment::from_millis(
                on_db!(&self.db, pool => sqlx::query_scalar::<_, i64>(MOMENT).fetch_one(pool).await?),
            ),
        };
        let since = now.minus(within).millis();
        let rows: Vec<NodeRow> = on_db!(&self.db, pool => sqlx::query_as(SINCE).bind(since).fetch_all(pool).await?);
        Ok(Heard { nodes: rows.into_iter().map(Node::from).collect(), now })
    }
}

/// As [`Store::nodes`] tells the time.
async fn moment(conn: &mut Conn, ours: Moment) -> Result<Moment, StoreError> {
    if let Conn::Sqlite(_) = conn {
        return Ok(ours);
    }
    let now: i64 = on_conn!(conn, conn => sqlx::query_scalar(MOMENT).fetch_one(conn).await?);
    Ok(Moment::from_millis(now))
}

/// A node says that it ends, in order. Its runs stay its own until its lease is over: it may be back before.
#[derive(Debug)]
pub struct Leave {
    /// The node.
    pub node: String,
    /// The present moment.
    pub now: Moment,
}

impl Act for Leave {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let now = moment(batch.conn().await?, self.now).await?;
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(LEAVE).bind(&self.node).bind(now.millis()).execute(conn).await?;
        });
        Ok(())
    }
}

/// A node says that it lives, and which keys it publishes.
#[derive(Debug)]
pub struct Beat {
    /// The node, but for [`Node::beats`].
    pub node: Node,
    /// Nodes that were not heard of for so long are forgotten.
    pub remembered: Duration,
}

impl Act for Beat {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let node = &self.node;
        let now = moment(batch.conn().await?, node.seen_at).await?;
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(BEAT)
                .bind(&node.name)
                .bind(&node.version)
                .bind(node.keys.join(" "))
                .bind(node.started_at.millis())
                .bind(now.millis())
                .execute(conn)
                .await?;
        });
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(FORGET).bind(now.minus(self.remembered).millis()).execute(conn).await?;
        });
        Ok(())
    }
}
