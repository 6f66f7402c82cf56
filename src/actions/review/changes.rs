//! Who lost or gained a right since a moment, from the audit log.

use std::collections::HashMap;

use serde_json::Value;

use super::{ActError, App, PIECE, Review, all};
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

/// So many people are looked for in the log from before.
const MOST_LOOKED_UP: usize = 500;

/// Rights lost or gained since a moment, newest first. One at a time is made: each reads a good part of the log.
///
/// # Errors
/// [`ActError`].
pub async fn changes(app: &App, _: &Caller<ReadAudit>, since: Moment) -> Result<Review<Change>, ActError> {
    let _turn = app.reviews.lock().await;
    let (mut entries, mut complete) = (Vec::new(), true);
    for name in TELLING {
        let filter = Filter { start: Some(since), ..of(name) };
        let found = gather(app, filter).await?;
        complete &= found.complete;
        entries.extend(found.rows);
    }
    entries.sort_by_key(|entry| entry.seq);
    let mut told =
        Told { app, since, roles: HashMap::new(), before: None, looked_up: 0, scopes: HashMap::new(), complete };
    let mut rows = Vec::new();
    for entry in &entries {
        rows.extend(told.change(entry).await?);
    }
    rows.reverse();
    Ok(Review { rows, complete: told.complete && told.looked_up <= MOST_LOOKED_UP })
}

fn of(name: EventName) -> Filter {
    Filter { event: Some(name.as_str().to_owned()), ..Filter::default() }
}

/// The entries that fit, newest first.
async fn gather(app: &App, filter: Filter) -> Result<Review<Entry>, ActError> {
    all(async |last: Option<&Entry>| {
        let before = last.map_or(filter.before, |last| Some(last.seq));
        app.store.audit_page(&Filter { before, ..filter.clone() }, PIECE).await
    })
    .await
}

/// What the log has told so far.
struct Told<'a> {
    app: &'a App,
    since: Moment,
    /// The last role that was told of each person; none for somebody who is not admitted any more.
    roles: HashMap<String, Option<String>>,
    /// The same from before, as far as the provider told it while they were signed in, and at which place.
    before: Option<HashMap<String, (i64, Option<String>)>>,
    looked_up: usize,
    scopes: HashMap<String, Option<String>>,
    complete: bool,
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
                self.roles.insert(entry.resource_id.clone(), Some(to.clone()));
                Some(Change { name, why: why.unwrap_or_default(), ..self.role(Change::of(entry, "person"), from, to) })
            }
            Some(SignInSucceeded) => self.sign_in(entry, text("role").unwrap_or_default(), text("rule")).await?,
            Some(SessionEnded) if entry.reason == "not_admitted" => {
                let id = text("person").unwrap_or_default();
                let from = self.role_of(&id, entry.seq).await?;
                self.roles.insert(id.clone(), None);
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
        let from = self.role_of(&entry.actor_id, entry.seq).await?;
        self.roles.insert(entry.actor_id.clone(), Some(to.clone()));
        if from.as_ref() == Some(&to) {
            return Ok(None);
        }
        let what = if from.is_none() { "first sign-in" } else { "signed in" };
        let why = rule.map_or_else(|| what.to_owned(), |rule| format!("{what}: {rule}"));
        let whose =
            Change { id: entry.actor_id.clone(), name: entry.actor_name.clone(), why, ..Change::of(entry, "person") };
        Ok(Some(self.role(whose, from, to)))
    }

    /// The role that the log told last of somebody before a place.
    async fn role_of(&mut self, person: &str, seq: i64) -> Result<Option<String>, ActError> {
        if let Some(role) = self.roles.get(person) {
            return Ok(role.clone());
        }
        self.looked_up += 1;
        if self.looked_up > MOST_LOOKED_UP {
            return Ok(None);
        }
        let filter = Filter { actor: Some(person.to_owned()), before: Some(seq), ..of(SignInSucceeded) };
        let signed_in = self.app.store.audit_page(&filter, 1).await?.pop();
        let by_sign_in = signed_in.map(|entry| (entry.seq, detail(&entry, "role")));
        let by_provider = self.told_before().await?.get(person).cloned();
        Ok(by_sign_in.into_iter().chain(by_provider).max_by_key(|(seq, _)| *seq).and_then(|(_, role)| role))
    }

    /// What the provider told of people before the moment, while they were signed in.
    async fn told_before(&mut self) -> Result<&HashMap<String, (i64, Option<String>)>, ActError> {
        if self.before.is_none() {
            let mut entries = Vec::new();
            for name in [RoleChanged, SessionEnded] {
                let filter = Filter { end: Some(self.since), ..of(name) };
                let found = gather(self.app, filter).await?;
                self.complete &= found.complete;
                entries.extend(found.rows);
            }
            entries.sort_by_key(|entry| entry.seq);
            let told = entries.iter().filter_map(|entry| match EventName::find(&entry.event)? {
                RoleChanged => Some((entry.resource_id.clone(), (entry.seq, detail(entry, "to")))),
                _ if entry.reason == "not_admitted" => Some((detail(entry, "person")?, (entry.seq, None))),
                _ => None,
            });
            self.before = Some(told.collect());
        }
        Ok(self.before.get_or_insert_default())
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

    async fn scopes_of(&mut self, id: &str) -> Result<Option<String>, ActError> {
        if let Some(known) = self.scopes.get(id) {
            return Ok(known.clone());
        }
        let Ok(token) = id.parse::<TokenId>() else { return Ok(None) };
        let scopes = self.app.store.token(&token).await?.map(|token| token.scopes.to_string());
        self.scopes.insert(id.to_owned(), scopes.clone());
        Ok(scopes)
    }
}

fn detail(entry: &Entry, name: &str) -> Option<String> {
    let details: Value = serde_json::from_str(&entry.details).ok()?;
    details[name].as_str().map(str::to_owned)
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
