//! The nodes of one database: each says that it lives, and marks the runs of one that does no longer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{ActError, App};
use crate::{
    domain::{
        event::{Actor, EventName, NewEvent},
        identity::{Caller, ManageKeys},
        node::Node,
        time::Moment,
    },
    store::{
        Engine, StoreError,
        nodes::{Beat, Heard, Leave},
        runs::lost::Bury,
    },
};

/// Nodes that were not heard of for so long are not shown any more, and forgotten.
const REMEMBERED: Duration = Duration::from_hours(24 * 7);

/// The nodes that were heard of within a week.
///
/// # Errors
/// When the database cannot say.
pub async fn list(app: &App, _: &Caller<ManageKeys>) -> Result<Heard, ActError> {
    Ok(app.store.nodes(REMEMBERED, app.now()).await?)
}

/// Those that may live.
///
/// # Errors
/// When the database cannot say.
pub(super) async fn living(app: &App) -> Result<Vec<Node>, StoreError> {
    let Heard { mut nodes, now } = app.store.nodes(REMEMBERED, app.now()).await?;
    nodes.retain(|node| node.may_live(app.settings.cluster.lease, now));
    Ok(nodes)
}

/// Says that this node ends.
///
/// # Errors
/// When the database cannot take it.
pub async fn leave(app: &App) -> Result<(), StoreError> {
    if app.store.engine() == Engine::Sqlite {
        return Ok(());
    }
    app.store.act(Leave { node: app.store.node().to_owned(), now: app.now() }).await
}

/// When this node last said that it lives. While it cannot, it cannot write, and others take it for dead.
#[derive(Debug, Default)]
pub struct LastBeat(Mutex<Option<(Instant, u64)>>);

impl LastBeat {
    fn note(&self, commits: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), commits));
    }

    /// Whether it has said so before, and neither that nor anything else was written within the lease, as far as whoever
    /// asks looks at the store's commits.
    pub fn is_overdue(&self, lease: Duration, commits: u64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, then)) = &mut *last else { return false };
        if *then != commits {
            (*at, *then) = (Instant::now(), commits);
        }
        at.elapsed() >= lease
    }
}

/// What was seen of the others: how often each was heard of, and since when that stands still by our own clock.
#[derive(Debug, Default)]
pub struct Neighbours(HashMap<String, (i64, Instant)>);

impl Neighbours {
    /// Says that this node lives, and marks the runs of those that were not heard of for their lease.
    ///
    /// # Errors
    /// When the database cannot take it.
    pub async fn look(&mut self, app: &App) -> Result<(), StoreError> {
        let now = app.now();
        app.store.act(Beat { node: ourselves(app, now), remembered: REMEMBERED }).await?;
        app.last_beat.note(app.store.commits());
        let Heard { nodes, .. } = app.store.nodes(REMEMBERED, now).await?;
        for dead in self.silent(&nodes, app.store.node(), app.settings.cluster.lease, Instant::now()) {
            let event = NewEvent::new(now, EventName::NodeLost, Actor::system());
            let lost = app.store.act(Bury { node: dead.name.clone(), beats: dead.beats, event }).await?;
            if lost > 0 {
                tracing::warn!(node = %dead.name, runs = lost, "a node was not heard of for its lease; its runs are marked");
            }
        }
        Ok(())
    }

    /// Those that were not heard of for a lease.
    fn silent<'n>(&mut self, nodes: &'n [Node], us: &str, lease: Duration, now: Instant) -> Vec<&'n Node> {
        let others = nodes.iter().filter(|node| node.name != us);
        let mut silent = Vec::new();
        for node in others {
            let seen = self.0.entry(node.name.clone()).or_insert((node.beats, now));
            if seen.0 != node.beats {
                *seen = (node.beats, now);
            }
            if now.duration_since(seen.1) >= lease {
                silent.push(node);
            }
        }
        silent
    }
}

fn ourselves(app: &App, now: Moment) -> Node {
    let keys = app.keys.load();
    Node {
        name: app.store.node().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        keys: if keys.is_ephemeral() { Vec::new() } else { keys.keys().iter().map(|k| k.kid().to_owned()).collect() },
        started_at: app.started_at,
        seen_at: now,
        beats: 0,
        stopped_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_dead_when_its_beats_stand_still_for_a_lease_whatever_its_clock_shows() {
        let node = |name: &str, beats| Node {
            name: name.into(),
            version: "1".into(),
            keys: Vec::new(),
            started_at: Moment::from_millis(0),
            seen_at: Moment::from_millis(0),
            beats,
            stopped_at: None,
        };
        let (mut seen, start, lease) = (Neighbours::default(), Instant::now(), Duration::from_secs(30));
        let mut look = |beats: [i64; 2], after: u64| {
            let nodes = [node("a", beats[0]), node("b", beats[1]), node("us", 1)];
            let silent = seen.silent(&nodes, "us", lease, start + Duration::from_secs(after));
            silent.into_iter().map(|node| node.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(look([1, 1], 0), [""; 0]);
        assert_eq!(look([2, 1], 29), [""; 0]);
        assert_eq!(look([2, 1], 30), ["b"]);
        assert_eq!(look([2, 2], 31), [""; 0], "it lives again");
        assert_eq!(look([2, 2], 61), ["a", "b"]);
    }
}
