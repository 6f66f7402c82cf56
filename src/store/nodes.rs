//! The nodes that work on this database, as they say of themselves.

use super::{Act, Batch, Store, StoreError, statements::statements};
use crate::domain::{node::Node, time::Moment};

statements! {
    /// A node says that it lives.
    BEAT = "INSERT INTO nodes (name, version, keys, started_at, seen_at, beats) VALUES ($1, $2, $3, $4, $5, 1) \
         ON CONFLICT (name) DO UPDATE SET version = excluded.version, keys = excluded.keys, started_at = excluded.started_at, \
         seen_at = excluded.seen_at, beats = nodes.beats + 1, stopped_at = NULL";
    /// A node says that it ends.
    LEAVE = "UPDATE nodes SET seen_at = $2, stopped_at = $2 WHERE name = $1";
    /// All that were heard of since a moment.
    SINCE = "SELECT name, version, keys, started_at, seen_at, beats, stopped_at FROM nodes WHERE seen_at >= $1 ORDER BY name";
    /// Those that were not.
    FORGET = "DELETE FROM nodes WHERE seen_at < $1";
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

impl Store {
    /// The nodes that were heard of since a moment, by name.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn nodes(&self, since: Moment) -> Result<Vec<Node>, StoreError> {
        let rows: Vec<NodeRow> =
            on_db!(&self.db, pool => sqlx::query_as(SINCE).bind(since.millis()).fetch_all(pool).await?);
        Ok(rows.into_iter().map(Node::from).collect())
    }
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
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(LEAVE).bind(&self.node).bind(self.now.millis()).execute(conn).await?;
        });
        Ok(())
    }
}

/// A node says that it lives, and which keys it publishes.
#[derive(Debug)]
pub struct Beat {
    /// The node, but for [`Node::beats`].
    pub node: Node,
    /// Nodes that were not heard of since this moment are forgotten.
    pub forget_before: Moment,
}

impl Act for Beat {
    type Output = ();

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let node = &self.node;
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(BEAT)
                .bind(&node.name)
                .bind(&node.version)
                .bind(node.keys.join(" "))
                .bind(node.started_at.millis())
                .bind(node.seen_at.millis())
                .execute(conn)
                .await?;
        });
        on_conn!(batch.conn().await?, conn => {
            sqlx::query(FORGET).bind(self.forget_before.millis()).execute(conn).await?;
        });
        Ok(())
    }
}
