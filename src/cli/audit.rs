//! `lokid enterprise audit`

use std::{collections::BTreeSet, time::Duration};

use clap::Subcommand;
use serde_json::Value;

use super::{
    Common, Done,
    backend::{Backend, Target},
    evidence::{Export, Retain, Verify, known_event},
    print,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the last entries
    Tail {
        /// Go on with every new entry until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Only this event, such as auth.fail, or the beginning of one and *, such as 'auth.*'
        #[arg(long)]
        event: Option<String>,
        /// Begin behind this entry, for example where an earlier --follow ended
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
        /// How many
        #[arg(long, short = 'n', allow_negative_numbers = true, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
        lines: i64,
        #[command(flatten)]
        target: Target,
    },
    /// Count events by name and outcome
    Summary {
        #[command(flatten)]
        target: Target,
    },
    /// Examine the whole log, or an export: is every entry the one that was written, and is anything missing?
    Verify(Verify),
    /// Write the log to a file: JSON lines that can be verified again, or CSV
    Export(Export),
    /// Take out what is older than enterprise.audit.retention_days and refusals_days say
    Retain(Retain),
    /// Print the public keys that signed anything about the log, also those that left the key set
    Keys {
        #[command(flatten)]
        target: Target,
    },
}

/// Between two looks for new entries.
const LOOK: Duration = Duration::from_millis(500);

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        let target = match &self {
            Self::Tail { target, .. } | Self::Summary { target } | Self::Keys { target } => target,
            Self::Verify(verify) => match verify.target() {
                Some(target) => target,
                None => return verify.offline(common),
            },
            Self::Export(export) => export.target(),
            Self::Retain(retain) => return retain.run(common).await,
        };
        let backend = Backend::existing(common, target).await?;
        let done = match &self {
            Self::Tail { follow, event, after, lines, .. } => {
                tail(common, &backend, event.as_deref(), *after, *lines, *follow).await
            }
            Self::Summary { .. } => backend.summary().await.map(|counts| summary(common, &counts)),
            Self::Verify(verify) => verify.online(common, &backend).await,
            Self::Export(export) => export.run(&backend).await,
            Self::Keys { .. } => backend.evidence_keys().await.map(|set| print::json(&set)),
            Self::Retain(_) => Ok(()),
        };
        backend.close().await;
        done
    }
}

async fn tail(
    common: &Common,
    backend: &Backend,
    event: Option<&str>,
    after: Option<i64>,
    lines: i64,
    follow: bool,
) -> Done {
    event.map_or(Ok(()), known_event)?;
    let mut last = after.unwrap_or(0);
    let mut entries = backend.audit(event, after, lines).await?;
    if let (Some(after), true) = (after, entries.is_empty()) {
        let newest = backend.audit(None, None, 1).await?;
        let end = newest.first().and_then(|entry| entry["seq"].as_i64()).unwrap_or(0);
        if end < after {
            let waiting = if follow { " Waiting for what comes behind it." } else { "" };
            print::aside(&format!("There is no entry {after} yet: the log ends at {end}.{waiting}"));
        }
    }
    let mut nodes = BTreeSet::new();
    loop {
        nodes.extend(entries.iter().filter_map(|entry| entry["node"].as_str()).map(str::to_owned));
        for entry in &entries {
            last = entry["seq"].as_i64().unwrap_or(last);
            if common.json { print::json_line(entry) } else { print::out(&line(entry, nodes.len() > 1)) }
        }
        if !follow {
            return Ok(());
        }
        // Behind a page with something on it there may be another one already.
        if entries.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        entries = backend.audit(event, Some(last), 1000).await?;
    }
}

/// `     42  2026-11-22 19:05:00  auth.token.create   success  ann (person)  tok-…  127.0.0.1`, and who wrote it where
/// several do.
fn line(entry: &Value, with_node: bool) -> String {
    let actor = match entry["actor"]["name"].as_str() {
        Some("") | None => print::cell(&entry["actor"]["kind"]),
        Some(name) => format!("{} ({})", print::plain(name, false), print::cell(&entry["actor"]["kind"])),
    };
    let mut parts = vec![
        format!("{:>7}", entry["seq"].to_string()),
        print::when(&entry["time"]),
        format!("{:<18}", print::cell(&entry["event"])),
        format!("{:<7}", print::cell(&entry["outcome"])),
        actor,
    ];
    for value in [&entry["resource"]["id"], &entry["reason"], &entry["ip"]] {
        if value.as_str().is_some_and(|text| !text.is_empty()) {
            parts.push(print::cell(value));
        }
    }
    if with_node {
        parts.push(format!("at {}", print::cell(&entry["node"])));
    }
    parts.join("  ")
}

fn summary(common: &Common, counts: &Value) {
    if common.json {
        return print::json(counts);
    }
    let row = |c: &Value| {
        vec![print::cell(&c["event"]), print::cell(&c["outcome"]), print::cell(&c["times"]), print::when(&c["latest"])]
    };
    let rows: Vec<_> = counts.as_array().into_iter().flatten().map(row).collect();
    print::table(&["EVENT", "OUTCOME", "TIMES", "LATEST (UTC)"], &rows);
}
