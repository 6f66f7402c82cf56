//! `lokid enterprise review`

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{
    Common, Done, Failure,
    backend::{Backend, Target},
    print,
};
use crate::{
    actions::review::{Change, Chosen, Finding, Holder, KINDS, TokenReview},
    audit::lines,
    domain::time::Moment,
    web::api::review::{DAYS, chosen},
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Who may do what, and through which rule
    Access {
        /// Only persons, tokens, or one kind of rule
        #[arg(long, value_parser = KINDS)]
        kind: Option<String>,
        /// Only who may do what asks for this scope
        #[arg(long)]
        scope: Option<String>,
        /// Only tokens that grant more than their owner may do at present
        #[arg(long)]
        beyond_owner: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Usable tokens: which are not used, and which grant more than was needed
    Tokens {
        /// How long without a use is long
        #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Only tokens of which this is to be said
        #[arg(long)]
        finding: Option<Wish>,
        #[command(flatten)]
        form: Form,
    },
    /// Who lost or gained a right since a moment
    Changes {
        /// A date, or a date and time with zone [default: 90 days ago]
        #[arg(long)]
        since: Option<String>,
        #[command(flatten)]
        form: Form,
    },
}

/// What to find.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Wish {
    /// Not used for so long
    Unused,
    /// Granting more than was needed
    Scopes,
}

/// Where to look, and how to print it.
#[derive(Debug, Args)]
pub(super) struct Form {
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    target: Target,
}

/// What is asked of a backend.
pub(super) enum Question {
    Access(Chosen, String),
    Tokens(u32, Option<Finding>),
    Changes(Option<Moment>),
}

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        let (question, columns, shown, form): (_, _, &[&str], _) = match self {
            Self::Access { kind, scope, beyond_owner, form } => {
                let read = chosen(kind.as_deref(), scope.as_deref(), beyond_owner);
                let chosen = read.map_err(|(name, why)| Failure::new(format!("--{name}: {why}")))?;
                let mut query = url::form_urlencoded::Serializer::new(String::new());
                let given = [("kind", kind), ("scope", scope), ("beyond_owner", beyond_owner.then(|| "1".to_owned()))];
                query.extend_pairs(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
                let shown = &["kind", "name", "scopes", "rule", "state", "beyond_owner"];
                (Question::Access(chosen, query.finish()), Holder::COLUMNS, shown, form)
            }
            Self::Tokens { days, finding, form } => {
                let finding = finding.map(|wish| match wish {
                    Wish::Unused => Finding::Unused,
                    Wish::Scopes => Finding::Scopes,
                });
                let shown = &["name", "owner", "scopes", "enough", "watched_since", "unused_days", "findings"];
                (Question::Tokens(days, finding), TokenReview::COLUMNS, shown, form)
            }
            Self::Changes { since, form } => {
                let since = since.as_deref().map(str::parse).transpose();
                let since = since.map_err(|e| Failure::new(format!("--since: {e}")))?;
                let shown = &["time", "change", "kind", "name", "from", "to", "by", "why"];
                (Question::Changes(since), Change::COLUMNS, shown, form)
            }
        };
        let backend = Backend::existing(common, &form.target).await?;
        let found = backend.review(&question).await;
        backend.close().await;
        show(common, &form, columns, shown, &found?);
        Ok(())
    }
}

fn show(common: &Common, form: &Form, columns: &[&str], shown: &[&str], found: &Value) {
    if common.json {
        return print::json(found);
    }
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if form.csv {
        let text = String::from_utf8_lossy(&lines::csv(columns, rows)).into_owned();
        return print::out(text.trim_end());
    }
    if rows.is_empty() {
        return print::out("Nothing to report.");
    }
    let heading: Vec<String> = shown.iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let cell = |row: &Value, name: &str| match name {
        "time" | "watched_since" => print::when(&row[name]),
        _ => print::cell(&row[name]),
    };
    let cells: Vec<Vec<String>> = rows.iter().map(|row| shown.iter().map(|name| cell(row, name)).collect()).collect();
    print::table(&heading, &cells);
    if found["complete"] == false {
        print::say("There is more than one review goes through: these are not all.");
    }
}
