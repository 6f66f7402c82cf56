//! Tokens that nobody seems to need, and scopes that nobody seems to need.

use std::{str::FromStr, time::Duration};

use super::{ActError, App, Review, usable_tokens};
use crate::domain::{
    identity::{Caller, ReadAudit},
    scope::ScopeSet,
    time::Moment,
    token::Token,
};

/// What there is to say about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It was not used for so many days.
    Unused,
    /// Some of its scopes were not needed in all the time that was watched, and that were so many days.
    Scopes,
}

impl Finding {
    /// As filters and programs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Scopes => "scopes",
        }
    }

    /// In few words.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Unused => "not used",
            Self::Scopes => "more than needed",
        }
    }
}

impl FromStr for Finding {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Unused, Self::Scopes].into_iter().find(|f| f.as_str() == text).ok_or(())
    }
}

/// A usable token, what it grants, and what of that was needed.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct TokenReview {
    /// Its public id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// What it grants.
    #[schema(value_type = Vec<String>)]
    pub scopes: ScopeSet,
    /// What its requests have needed since it is watched.
    #[schema(value_type = Vec<String>)]
    pub used_scopes: ScopeSet,
    /// Of what it grants, what was never needed.
    #[schema(value_type = Vec<String>)]
    pub unused_scopes: ScopeSet,
    /// The least that would have been enough.
    #[schema(value_type = Vec<String>)]
    pub enough: ScopeSet,
    /// Since when is noted what its requests need (RFC 3339); such a while is what it is judged after.
    pub watched_since: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it was last used (RFC 3339).
    pub last_used: Option<String>,
    /// Whole days since its last use, or since it was made.
    pub unused_days: u64,
    /// What there is to say about it.
    pub findings: Vec<Finding>,
}

impl TokenReview {
    /// The names of its cells.
    pub const COLUMNS: &[&str] = &[
        "id",
        "name",
        "owner",
        "scopes",
        "used_scopes",
        "unused_scopes",
        "enough",
        "watched_since",
        "created_at",
        "last_used",
        "unused_days",
        "findings",
    ];

    fn of(token: &Token, now: Moment, days: u32) -> Self {
        let long = Duration::from_secs(u64::from(days) * 86_400);
        let idle = now.since(token.last_used_at.unwrap_or(token.created_at));
        let enough = token.used_scopes.least();
        // A node of the version before, during an upgrade, makes tokens that nobody began to watch.
        let watched = Some(token.watched_since).filter(|since| *since >= token.created_at);
        // A scope that nothing was heard of for a short while may well be needed at the month's end.
        let is_judged = watched.is_some_and(|since| now.since(since) >= long);
        let is_broad = is_judged && !enough.covers(token.scopes);
        let findings = [(idle >= long, Finding::Unused), (is_broad, Finding::Scopes)];
        Self {
            id: token.id.to_string(),
            name: token.name.to_string(),
            owner: token.owner_name.clone(),
            scopes: token.scopes,
            used_scopes: token.used_scopes,
            unused_scopes: token.scopes.unused(token.used_scopes),
            enough,
            watched_since: watched.map(Moment::rfc3339),
            created_at: token.created_at.rfc3339(),
            last_used: token.last_used_at.map(Moment::rfc3339),
            unused_days: idle.as_secs() / 86_400,
            findings: findings.into_iter().filter_map(|(is_so, finding)| is_so.then_some(finding)).collect(),
        }
    }
}

/// Usable tokens with what there is to say about them, judged by `days`; with `only`, those of which that is said.
///
/// # Errors
/// [`ActError`].
pub async fn tokens(
    app: &App,
    _: &Caller<ReadAudit>,
    days: u32,
    only: Option<Finding>,
) -> Result<Review<TokenReview>, ActError> {
    let now = app.now();
    let all = usable_tokens(app).await?;
    let judged = all.rows.iter().map(|token| TokenReview::of(token, now, days));
    let rows = judged.filter(|row| only.is_none_or(|finding| row.findings.contains(&finding))).collect();
    Ok(Review { rows, complete: all.complete })
}
