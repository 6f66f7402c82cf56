//! Who may do what, and through which rule.

use std::collections::HashMap;

use super::{ActError, App, PIECE, Review, all, usable_tokens};
use crate::{
    domain::{
        identity::{Caller, ReadAudit},
        person::PersonId,
        scope::{Scope, ScopeSet},
        token::{Token, TokenId},
    },
    store::review::{LatestSession, PersonWithRights},
};

/// What may hold rights: people and tokens, and the rules of the configuration by which others get some.
pub const KINDS: [&str; 6] = ["person", "token", "psk", "certificate", "workload", "rule"];

/// Somebody, something, or whoever fits a rule, and what they may do.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Holder {
    /// `person`, `token`, `psk`, `certificate` (a rule for client certificates), `workload` (a rule for tokens of an
    /// issuer) or `rule` (what gives people a role when they sign in).
    pub kind: &'static str,
    /// A public id, or where in the configuration the rule stands.
    pub id: String,
    /// What to call them; of a rule, whom it fits.
    pub name: String,
    /// The role, where one was given by name.
    pub role: Option<String>,
    /// What they may do.
    #[schema(value_type = Vec<String>)]
    pub scopes: ScopeSet,
    /// What gives it to them.
    pub rule: String,
    /// `signed in`, `signed out`, `usable`, `configured`.
    pub state: &'static str,
    /// Of a token: what it grants beyond what its owner may do at present.
    #[schema(value_type = Vec<String>)]
    pub beyond_owner: ScopeSet,
    /// What else a reviewer should know.
    pub remark: String,
}

impl Holder {
    /// The names of its cells.
    pub const COLUMNS: &[&str] = &["kind", "id", "name", "role", "scopes", "rule", "state", "beyond_owner", "remark"];

    fn configured(kind: &'static str, id: String, name: String, role: Option<&str>, scopes: ScopeSet) -> Self {
        Self {
            kind,
            rule: "the configuration".to_owned(),
            id,
            name,
            role: role.map(str::to_owned),
            scopes,
            state: "configured",
            beyond_owner: ScopeSet::EMPTY,
            remark: String::new(),
        }
    }
}

/// Which holders to show.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// Only this one of [`KINDS`].
    pub kind: Option<String>,
    /// Only who may do what asks for this scope.
    pub scope: Option<Scope>,
    /// Only tokens that grant more than their owner may do.
    pub beyond_owner: bool,
}

impl Chosen {
    fn takes(&self, holder: &Holder) -> bool {
        self.kind.as_ref().is_none_or(|kind| holder.kind == kind)
            && self.scope.is_none_or(|scope| holder.scopes.allows(scope))
            && (!self.beyond_owner || !holder.beyond_owner.is_empty())
    }
}

/// Who may do what: people by their latest session, usable tokens, and the rules of the configuration.
///
/// # Errors
/// [`ActError`].
pub async fn holders(app: &App, _: &Caller<ReadAudit>, chosen: &Chosen) -> Result<Review<Holder>, ActError> {
    let people = people(app).await?;
    let tokens = usable_tokens(app).await?;
    let complete = people.complete && tokens.complete;
    let owners = Owners::of(app, &people.rows, &tokens.rows);
    let mut rows: Vec<Holder> = people.rows.iter().map(|person| of_person(app, person)).collect();
    for token in &tokens.rows {
        rows.push(owners.of_token(app, token).await?);
    }
    rows.extend(configured(app));
    rows.retain(|holder| chosen.takes(holder));
    Ok(Review { rows, complete })
}

async fn people(app: &App) -> Result<Review<PersonWithRights>, ActError> {
    all(async |last: Option<&PersonWithRights>| {
        app.store.people_with_rights(last.map_or("", |last| last.id.as_str()), PIECE).await
    })
    .await
}

fn is_live(app: &App, session: &LatestSession) -> bool {
    let (limits, now) = (&app.settings.auth.sessions, app.now());
    session.ended_at.is_none()
        && session.signed_in_at > now.minus(limits.absolute)
        && session.last_seen_at > now.minus(limits.idle)
}

/// What somebody may do, or could after their next sign-in if their provider and the rules say the same as then.
fn scopes_of(app: &App, session: &LatestSession) -> ScopeSet {
    if is_live(app, session) {
        return session.scopes;
    }
    app.settings.auth.roles.scopes_of(&session.role).unwrap_or_default()
}

fn of_person(app: &App, person: &PersonWithRights) -> Holder {
    let mut holder = Holder::configured("person", person.id.to_string(), person.name.clone(), None, ScopeSet::EMPTY);
    if let Some(email) = person.email.as_ref().filter(|email| **email != person.name) {
        holder.name = format!("{} <{email}>", person.name);
    }
    let Some(session) = &person.latest else {
        let remark = "has not signed in for so long that the role is not known any more".to_owned();
        return Holder { state: "signed out", rule: String::new(), remark, ..holder };
    };
    let live = is_live(app, session);
    let remark = match app.settings.auth.roles.scopes_of(&session.role) {
        _ if !live => "may do nothing now; this is what the role of the last sign-in gives",
        Some(scopes) if scopes == session.scopes => "",
        _ => "the configuration gives the role other scopes since the sign-in",
    };
    Holder {
        state: if live { "signed in" } else { "signed out" },
        role: Some(session.role.clone()),
        rule: format!("{} (at {})", session.rule, session.provider),
        scopes: scopes_of(app, session),
        remark: remark.to_owned(),
        ..holder
    }
}

/// What owners of tokens may do, by their ids.
struct Owners<'a> {
    people: HashMap<&'a str, Option<ScopeSet>>,
    tokens: HashMap<&'a str, ScopeSet>,
}

impl<'a> Owners<'a> {
    fn of(app: &App, people: &'a [PersonWithRights], tokens: &'a [Token]) -> Self {
        let scopes = |p: &PersonWithRights| p.latest.as_ref().map(|session| scopes_of(app, session));
        Self {
            people: people.iter().map(|p| (p.id.as_str(), scopes(p))).collect(),
            tokens: tokens.iter().map(|t| (t.id.as_str(), t.scopes)).collect(),
        }
    }

    async fn of_token(&self, app: &App, token: &Token) -> Result<Holder, ActError> {
        let owner = token.owner.as_str();
        let mut remark = format!("belongs to {}", token.owner_name);
        let held = match (self.people.get(owner), self.tokens.get(owner)) {
            (Some(held), _) => *held,
            (None, Some(held)) => Some(*held),
            (None, None) => match owner.parse::<TokenId>() {
                // The token that made it cannot be used any more.
                Ok(id) if app.store.token(&id).await?.is_some() => {
                    remark = format!("{remark}, a token that was revoked, or has expired, since");
                    Some(ScopeSet::EMPTY)
                }
                _ => None,
            },
        };
        if held.is_none() && owner.parse::<PersonId>().is_ok() {
            remark = format!("{remark}, of whom no role is known any more");
        }
        let by = token.role.as_ref().map_or("scopes chosen".to_owned(), |role| format!("role {role}"));
        Ok(Holder {
            kind: "token",
            id: token.id.to_string(),
            name: token.name.to_string(),
            role: token.role.clone(),
            scopes: token.scopes,
            rule: format!("{by} by {} on {}", token.owner_name, token.created_at.date()),
            state: "usable",
            beyond_owner: held.map_or(ScopeSet::EMPTY, |held| token.scopes.beyond(held)),
            remark,
        })
    }
}

/// The rules by which the configuration lets somebody in.
fn configured(app: &App) -> Vec<Holder> {
    let auth = &app.settings.auth;
    let mut all = Vec::new();
    for key in &auth.preshared_keys {
        let id = format!("enterprise.auth.psk {}", key.name);
        all.push(Holder::configured("psk", id, key.name.clone(), key.role.as_deref(), key.scopes));
    }
    for (at, rule) in app.settings.certificates.rules.iter().enumerate() {
        let whom = format!("certificates with {}", rule.pattern);
        let id = format!("enterprise.auth.mtls {}", at + 1);
        all.push(Holder::configured("certificate", id, whom, rule.role.as_deref(), rule.scopes));
    }
    for issuer in &auth.issuers {
        for rule in &issuer.policy.rules {
            let conditions: Vec<String> = rule.conditions.iter().map(ToString::to_string).collect();
            let whom = format!("{}: {}", issuer.id, conditions.join(" and "));
            let id = format!("{} / {}", issuer.id, rule.name);
            all.push(Holder::configured("workload", id, whom, rule.role.as_deref(), rule.scopes));
        }
    }
    let scopes = |role: &str| auth.roles.scopes_of(role).unwrap_or_default();
    for (at, rule) in auth.rules.iter().enumerate() {
        let at_provider = rule.provider.as_ref().map(|id| format!(" (at {id})")).unwrap_or_default();
        let whom = format!("people whose {}{at_provider}", rule.condition);
        all.push(Holder::configured("rule", format!("rule {}", at + 1), whom, Some(&rule.role), scopes(&rule.role)));
    }
    if let Some(role) = &auth.default_role {
        let (id, whom) = ("enterprise.rbac.default_role".to_owned(), "people whom no rule fits".to_owned());
        all.push(Holder::configured("rule", id, whom, Some(role), scopes(role)));
    }
    all
}
