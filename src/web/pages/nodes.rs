//! The nodes, as `/keys` and `/people` show them where there are several.

use super::When;
use crate::{
    actions::nodes,
    domain::{
        identity::{Caller, ManageKeys},
        node::Node,
        time::Moment,
    },
    store::nodes::Heard,
    web::{Web, problem::Problem},
};

pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) kid: String,
    pub(super) short: String,
    pub(super) state: &'static str,
    pub(super) seen: When,
}

impl NodeView {
    fn of(node: &Node, lease: std::time::Duration, now: Moment) -> Self {
        let kid = node.keys.first().cloned().unwrap_or_default();
        Self {
            name: node.name.clone(),
            version: node.version.clone(),
            short: kid.chars().take(16).collect(),
            kid,
            state: node.state(lease, now).as_str(),
            seen: node.seen_at.into(),
        }
    }
}

/// Every node; none where there is one.
pub(super) async fn views(web: &Web, caller: &Caller<ManageKeys>) -> Result<Vec<NodeView>, Problem> {
    let Heard { nodes, now } = nodes::list(&web.app, caller).await?;
    if nodes.len() < 2 {
        return Ok(Vec::new());
    }
    let lease = web.app.settings.cluster.lease;
    Ok(nodes.iter().map(|node| NodeView::of(node, lease, now)).collect())
}
