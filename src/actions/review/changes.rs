//! Who lost or gained a right since a moment, from the audit log.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use super::{ActError, App, MOST, PIECE, Review};
use crate::{
    domain::{
        event::EventName::{
            self, RoleChanged, SessionEnded, SignInSucceeded, TokenCreated, TokenExpired, TokenRevoked, TokenRotated,
        },
        identity::{Caller, ReadAudit},
        ledger::Entry,
        run::RunId,
        scope::ScopeSet,
        time::Moment,
        token::TokenId,
    },
    store::ledger::Filter,
};

/// A right that somebody lost or gained.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Change {
    /// The entry of the audit log that says so.
    pub seq: i64,
    /// When (RFC 3339).
    pub time: String,
    /// `gained`, `lost`, or `changed` where some of both.
    pub change: &'static str,
    /// `person` or `token`.
    pub kind: &'static str,
    /// Whose.
    pub id: String,
    /// What to call them.
    pub name: String,
    /// What they had: a role or scopes.
    pub from: Option<String>,
    /// What they have.
    pub to: Option<String>,
    /// Who did it.
    pub by: String,
    /// What happened.
    pub why: String,
}

impl Change {
    /// The names of its cells.
    pub const COLUMNS: &[&str] = &["seq", "time", "change", "kind", "id", "name", "from", "to", "by", "why"];

    fn of(entry: &Entry, kind: &'static str) -> Self {
        Self {
            seq: entry.seq,
            time: entry.time.rfc3339(),
            change: "changed",
            kind,
            id: entry.resource_id.clone(),
            name: String::new(),
            from: None,
            to: None,
            by: entry.actor_name.clone(),
            why: String::new(),
        }
    }
}

/// The events that say anything about rights.
const TELLING: [EventName; 7] =
    [TokenCreated, TokenRotated, TokenRevoked, TokenExpired, RoleChanged, SignInSucceeded, SessionEnded];

/// Nodes' clocks differ by less than this, so the log is not quite in the order of its times.
const SKEW: Duration = Duration::from_hours(1);
/// So many people are looked for in the log from before.
const MOST_LOOKED_UP: usize = 500;

/// Rights lost or gained since a moment, newest first.
///
/// # Errors
/// [`ActError`].
pub async fn changes(app: &App, _: &Caller<ReadAudit>, since: Moment) -> Result<Review<Change>, ActError> {
    let (mut entries, mut complete) = (Vec::new(), true);
    for name in TELLING {
        complete &= gather(app, name, since, &mut entries).await?;
    }
    entries.sort_by_key(|entry| entry.seq);
    let mut told = Told { app, roles: HashMap::new(), looked_up: 0 };
    let mut rows = Vec::new();
    for entry in &entries {
        rows.extend(told.change(entry).await?);
    }
    rows.reverse();
    Ok(Review { rows, complete: complete && told.looked_up <= MOST_LOOKED_UP })
}

/// Reads the entries of an event backwards until they are too old. Answers whether that are all.
async fn gather(app: &App, name: EventName, since: Moment, into: &mut Vec<Entry>) -> Result<bool, ActError> {
    let (mut before, mut left) = (None, MOST);
    loop {
        let filter = Filter { event: Some(name.as_str().to_owned()), before, ..Filter::default() };
        let found = app.store.audit_page(&filter, PIECE).await?;
        let is_last = i64::try_from(found.len()).is_ok_and(|n| n < PIECE)
            || found.last().is_some_and(|last| last.time < since.minus(SKEW));
        before = found.last().map(|last| last.seq);
        left = left.saturating_sub(found.len());
        into.extend(found.into_iter().filter(|entry| entry.time >= since));
        if is_last || left == 0 {
            return Ok(is_last);
        }
    }
}

/// What the log has told so far.
struct Told<'a> {
    app: &'a App,
    /// The last role that was told of each person.
    roles: HashMap<String, String>,
    looked_up: usize,
}

impl Told<'_> {
    async fn change(&mut self, entry: &Entry) -> Result<Option<Change>, ActError> {
        let details: Value = serde_json::from_str(&entry.details).unwrap_or_default();
        let text = |name: &str| details[name].as_str().map(str::to_owned);
        Ok(match EventName::find(&entry.event) {
            Some(RoleChanged) => {
                let to = text("to").unwrap_or_default();
                let why = text("rule").map(|rule| format!("the provider was asked again: {rule}"));
                let name = self.name_of(&entry.resource_id).await?;
                let from = text("from");
                self.roles.insert(entry.resource_id.clone(), to.clone());
                Some(Change { name, why: why.unwrap_or_default(), ..self.role(Change::of(entry, "person"), from, to) })
            }
            Some(SignInSucceeded) => self.sign_in(entry, text("role").unwrap_or_default(), text("rule")).await?,
            Some(SessionEnded) if entry.reason == "not_admitted" => {
                let id = text("person").unwrap_or_default();
                let from = self.roles.remove(&id);
                let (name, why) = (self.name_of(&id).await?, "is not admitted any more".to_owned());
                Some(Change { change: "lost", id, name, from, why, ..Change::of(entry, "person") })
            }
            // A run's own token comes and goes with the run.
            Some(TokenCreated | TokenRevoked) if entry.actor_kind == "system" && is_of_run(text("name")) => None,
            Some(TokenCreated) => {
                let (name, to) = (text("name").unwrap_or_default(), text("scopes"));
                Some(Change { change: "gained", name, to, why: "made".to_owned(), ..Change::of(entry, "token") })
            }
            Some(TokenRotated) => {
                let why = format!("rotated: {} takes its place", text("new_id").unwrap_or_default());
                let (scopes, name) = (self.scopes_of(&entry.resource_id).await?, text("name").unwrap_or_default());
                Some(Change { name, from: scopes.clone(), to: scopes, why, ..Change::of(entry, "token") })
            }
            Some(told @ (TokenRevoked | TokenExpired)) => {
                let why = if told == TokenRevoked { "revoked" } else { "expired" }.to_owned();
                let (from, name) = (self.scopes_of(&entry.resource_id).await?, text("name").unwrap_or_default());
                Some(Change { change: "lost", name, from, why, ..Change::of(entry, "token") })
            }
            _ => None,
        })
    }

    /// A sign-in tells of a change when the one before gave another role.
    async fn sign_in(&mut self, entry: &Entry, to: String, rule: Option<String>) -> Result<Option<Change>, ActError> {
        let known = self.roles.insert(entry.actor_id.clone(), to.clone());
        let from = match known {
            Some(role) => Some(role),
            None => self.role_before(entry).await?,
        };
        if from.as_ref() == Some(&to) {
            return Ok(None);
        }
        let what = if from.is_none() { "first sign-in" } else { "signed in" };
        let why = rule.map_or_else(|| what.to_owned(), |rule| format!("{what}: {rule}"));
        let whose =
            Change { id: entry.actor_id.clone(), name: entry.actor_name.clone(), why, ..Change::of(entry, "person") };
        Ok(Some(self.role(whose, from, to)))
    }

    /// The role that the log told last of somebody before this entry.
    async fn role_before(&mut self, entry: &Entry) -> Result<Option<String>, ActError> {
        self.looked_up += 1;
        if self.looked_up > MOST_LOOKED_UP {
            return Ok(None);
        }
        let (event, actor) = (Some(SignInSucceeded.as_str().to_owned()), Some(entry.actor_id.clone()));
        let filter = Filter { event, actor, before: Some(entry.seq), ..Filter::default() };
        let found = self.app.store.audit_page(&filter, 1).await?;
        let details = found.first().and_then(|before| serde_json::from_str::<Value>(&before.details).ok());
        Ok(details.and_then(|details| details["role"].as_str().map(str::to_owned)))
    }

    /// With the roles, and what they mean as the configuration is now.
    fn role(&self, change: Change, from: Option<String>, to: String) -> Change {
        let scopes = |role: &String| self.app.settings.auth.roles.scopes_of(role).unwrap_or_default();
        let (had, has) = (from.as_ref().map(scopes).unwrap_or_default(), scopes(&to));
        let change = Change { change: word(had, has), ..change };
        Change { from, to: Some(to), ..change }
    }

    async fn name_of(&self, id: &str) -> Result<String, ActError> {
        let Ok(id) = id.parse() else { return Ok(String::new()) };
        let person = self.app.store.person(&id).await?;
        Ok(person.map(|p| p.display_name().to_owned()).unwrap_or_default())
    }

    async fn scopes_of(&self, id: &str) -> Result<Option<String>, ActError> {
        let Ok(id) = id.parse::<TokenId>() else { return Ok(None) };
        Ok(self.app.store.token(&id).await?.map(|token| token.scopes.to_string()))
    }
}

fn is_of_run(name: Option<String>) -> bool {
    name.is_some_and(|name| name.parse::<RunId>().is_ok())
}

fn word(had: ScopeSet, has: ScopeSet) -> &'static str {
    match (has.covers(had), had.covers(has)) {
        (true, false) => "gained",
        (false, true) => "lost",
        _ => "changed",
    }
}
