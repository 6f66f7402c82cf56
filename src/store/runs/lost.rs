//! The runs of a node that is dead: nobody watches them any longer.

use super::acts::End;
use crate::{
    domain::{
        event::{EventName, NewEvent},
        run::{Ending, RunId},
    },
    store::{Act, Batch, StoreError, nodes, statements::statements},
};

statements! {
    /// Those that have not ended.
    ACTIVE_OF_NODE = "SELECT id FROM runs WHERE state IN ('queued', 'running', 'paused', 'stopping') AND node = $1 ORDER BY turn";
}

/// Marks the runs of a node that was not heard of for its lease, and ends their tokens. A node that comes back ends
/// their processes.
#[derive(Debug)]
pub struct Bury {
    /// The node.
    pub node: String,
    /// How often it was heard of: if that has changed meanwhile, it lives.
    pub beats: i64,
    /// What to record of the node; the rest is filled in.
    pub event: NewEvent,
}

impl Act for Bury {
    /// How many runs were marked.
    type Output = usize;

    async fn apply(&self, batch: &mut Batch<'_>) -> Result<usize, StoreError> {
        let conn = batch.conn().await?;
        let beats: Option<i64> =
            on_conn!(conn, conn => sqlx::query_scalar(nodes::BEATS).bind(&self.node).fetch_optional(conn).await?);
        if beats != Some(self.beats) {
            return Ok(0);
        }
        let lost: Vec<String> =
            on_conn!(conn, conn => sqlx::query_scalar(ACTIVE_OF_NODE).bind(&self.node).fetch_all(conn).await?);
        let ending = Ending::Lost(format!("its node {} was not heard of any longer", self.node));
        for id in &lost {
            let of = |name: EventName| NewEvent::new(self.event.time, name, self.event.actor.clone());
            let end = End {
                id: id.parse::<RunId>().map_err(|_| StoreError::Damaged("a run's id"))?,
                ending: ending.clone(),
                event: of(EventName::RunFailed).on("run", id.as_str()),
                token_event: of(EventName::TokenRevoked).with("name", id.as_str()),
            };
            end.apply(batch).await?;
        }
        if !lost.is_empty() {
            batch.record(self.event.clone().on("node", self.node.as_str()).with("runs", lost.join(" ")));
        }
        Ok(lost.len())
    }
}
