//! Making, listing, rotating and revoking tokens.

use std::time::Duration;

use super::{ActError, App};
use crate::{
    domain::{
        event::{EventName, NewEvent, Origin},
        identity::{Caller, Credential, Identity, ManageTokens, SignedIn},
        run::RunId,
        scope::{Scope, ScopeSet},
        time::Moment,
        token::{Token, TokenId, TokenName, TokenSecret, TokenState},
    },
    store::tokens::{Mint, Page, Revoke, Rotate},
};

/// What a token shall be.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// What to call it.
    pub name: TokenName,
    /// What it grants.
    pub grant: Grant,
    /// How many days it lives; `None`: the default.
    pub days: Option<u32>,
}

/// Scopes, by themselves or by a role's name.
#[derive(Debug, Clone)]
pub enum Grant {
    /// These.
    Scopes(ScopeSet),
    /// Those of this role.
    Role(String),
}

/// A token and the one sight of its secret.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// What its holder presents. Shown once and not kept.
    pub secret: TokenSecret,
}

/// The longest overlap of a rotation.
const LONGEST_GRACE_HOURS: u32 = 24 * 30;

/// Makes a token for whoever manages tokens. It belongs to the caller.
///
/// # Errors
/// [`ActError`].
pub async fn mint(
    app: &App,
    caller: &Caller<ManageTokens>,
    request: TokenRequest,
    from: &Origin,
) -> Result<Minted, ActError> {
    mint_for(app, caller.identity(), request, from).await
}

/// Makes a token for the signed-in person, within the scopes that they hold.
///
/// # Errors
/// [`ActError`].
pub async fn mint_own(
    app: &App,
    caller: &Caller<SignedIn>,
    request: TokenRequest,
    from: &Origin,
) -> Result<Minted, ActError> {
    mint_for(app, caller.identity(), request, from).await
}

async fn mint_for(app: &App, who: &Identity, request: TokenRequest, from: &Origin) -> Result<Minted, ActError> {
    let (scopes, role) = resolve(app, request.grant)?;
    if !who.scopes.covers(scopes) {
        return Err(ActError::TooWide { held: who.scopes });
    }
    let now = app.now();
    is_fresh_enough(app, who, scopes, now)?;
    let (owner, limit) = match &who.credential {
        Credential::Session { .. } => (who.actor.id.clone(), Some(app.settings.auth.max_active_per_user)),
        Credential::Token(id) => (id.as_str().to_owned(), None),
        Credential::Certificate(_) | Credential::Workload(_) | Credential::PresharedKey(_) => {
            (who.actor.id.clone(), None)
        }
        Credential::Terminal => ("local".to_owned(), None),
    };
    let lifetime = app.settings.auth.lifetimes.grant(request.days);
    let lifetime = lifetime.map_err(|e| ActError::Invalid { field: "expires_days", message: e.to_string() })?;
    let secret = TokenSecret::from_random(app.entropy.bytes());
    let token = Token {
        id: TokenId::from_random(app.entropy.bytes()),
        name: request.name,
        owner,
        owner_name: who.actor.name.clone(),
        scopes,
        role,
        created_at: now,
        expires_at: lifetime.ends(now),
        revoked_at: None,
        replaced_by: None,
        last_used_at: None,
        last_used_from: None,
        used_scopes: ScopeSet::EMPTY,
        watched_since: now,
    };
    let event = about(EventName::TokenCreated, now, who, &token, from)
        .with("scopes", scopes.to_string())
        .with("expires_at", token.expires_at.map(Moment::rfc3339));
    let act = Mint { token: token.clone(), digest: secret.digest(), limit, event };
    app.store.act(act).await??;
    Ok(Minted { token, secret })
}

/// A new secret that may do everything is given to a browser only soon after a sign-in.
fn is_fresh_enough(app: &App, who: &Identity, scopes: ScopeSet, now: Moment) -> Result<(), ActError> {
    match &who.credential {
        Credential::Session { proven_at, .. }
            if scopes.allows(Scope::All) && now >= proven_at.plus(app.settings.auth.sessions.fresh) =>
        {
            Err(ActError::NeedsFreshSignIn)
        }
        _ => Ok(()),
    }
}

fn resolve(app: &App, grant: Grant) -> Result<(ScopeSet, Option<String>), ActError> {
    match grant {
        Grant::Scopes(scopes) if scopes.is_empty() => Err(ActError::Invalid {
            field: "scopes",
            message: "name at least one of *, control, write, read, audit".into(),
        }),
        Grant::Scopes(scopes) => Ok((scopes, None)),
        Grant::Role(name) => match app.settings.auth.roles.scopes_of(&name) {
            Some(scopes) => Ok((scopes, Some(name))),
            None => {
                let message = format!("there is no such role; roles are {}", app.settings.auth.roles.listing());
                Err(ActError::Invalid { field: "role", message })
            }
        },
    }
}

fn about(name: EventName, now: Moment, who: &Identity, token: &Token, from: &Origin) -> NewEvent {
    let event = NewEvent::new(now, name, who.actor.clone()).on("token", token.id.as_str());
    event.from(from).with("name", token.name.as_str())
}

/// A page of everybody's tokens.
///
/// # Errors
/// [`ActError`].
pub async fn list(app: &App, _: &Caller<ManageTokens>, page: &Page) -> Result<Vec<Token>, ActError> {
    Ok(app.store.tokens(page, app.now()).await?)
}

/// A page of the signed-in person's own tokens.
///
/// # Errors
/// [`ActError`].
pub async fn list_own(app: &App, caller: &Caller<SignedIn>, page: Page) -> Result<Vec<Token>, ActError> {
    let page = Page { owner: Some(caller.identity().actor.id.clone()), ..page };
    Ok(app.store.tokens(&page, app.now()).await?)
}

/// One token by id, or by a name that is unambiguous.
///
/// # Errors
/// [`ActError::NotFound`], [`ActError::Ambiguous`].
pub async fn find(app: &App, _: &Caller<ManageTokens>, which: &str) -> Result<Token, ActError> {
    let not_found = || ActError::NotFound { what: "token", which: which.chars().take(80).collect() };
    if let Ok(id) = which.parse::<TokenId>() {
        return app.store.token(&id).await?.ok_or_else(not_found);
    }
    let name: TokenName = which.parse().map_err(|_| not_found())?;
    let mut found = app.store.tokens_named(name.as_str(), None, app.now()).await?;
    match found.len() {
        0 => Err(not_found()),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<_> = found.iter().map(|t| format!("{} (of {})", t.id, t.owner_name)).collect();
            Err(ActError::Ambiguous(name.as_str().to_owned(), ids.join(", ")))
        }
    }
}

/// One of the signed-in person's own tokens. Somebody else's is as good as none.
///
/// # Errors
/// [`ActError::NotFound`].
pub async fn find_own(app: &App, caller: &Caller<SignedIn>, id: &str) -> Result<Token, ActError> {
    let not_found = || ActError::NotFound { what: "token", which: id.chars().take(80).collect() };
    let token = app.store.token(&id.parse().map_err(|_| not_found())?).await?.ok_or_else(not_found)?;
    let who = caller.identity();
    if token.owner == who.actor.id || who.scopes.allows(Scope::All) { Ok(token) } else { Err(not_found()) }
}

/// Revokes a token that one of the `find` functions gave. Answers whether it was this call that did.
///
/// # Errors
/// [`ActError`].
pub async fn revoke(app: &App, who: &Identity, token: &Token, from: &Origin) -> Result<bool, ActError> {
    let event = about(EventName::TokenRevoked, app.now(), who, token, from);
    Ok(app.store.act(Revoke { id: token.id.clone(), event }).await?)
}

/// Puts a new token in the place of one that a `find` function gave: same name, scopes and remaining life.
/// The old one works until the grace ends.
///
/// # Errors
/// [`ActError::Conflict`] when it is revoked, expired or replaced already.
pub async fn rotate(
    app: &App,
    who: &Identity,
    old: &Token,
    grace_hours: u32,
    from: &Origin,
) -> Result<Minted, ActError> {
    if grace_hours > LONGEST_GRACE_HOURS {
        let message = format!("expected a whole number of hours from 0 to {LONGEST_GRACE_HOURS}");
        return Err(ActError::Invalid { field: "grace_period_hours", message });
    }
    if !who.scopes.covers(old.scopes) {
        return Err(ActError::TooWide { held: who.scopes });
    }
    if old.owner.parse::<RunId>().is_ok() {
        return Err(ActError::Conflict(format!(
            "the token {} is a run's own and ends with it; it cannot be rotated",
            old.id
        )));
    }
    let now = app.now();
    is_fresh_enough(app, who, old.scopes, now)?;
    let state = old.state(now);
    if state != TokenState::Active {
        return Err(ActError::Conflict(format!("the token {} is {} and cannot be rotated", old.id, state.word())));
    }
    let grace_ends = now.plus(Duration::from_secs(u64::from(grace_hours) * 3600));
    let old_ends_at = old.expires_at.map_or(grace_ends, |at| at.min(grace_ends));
    let secret = TokenSecret::from_random(app.entropy.bytes());
    let token = Token {
        id: TokenId::from_random(app.entropy.bytes()),
        created_at: now,
        last_used_at: None,
        last_used_from: None,
        used_scopes: ScopeSet::EMPTY,
        watched_since: now,
        ..old.clone()
    };
    let event = about(EventName::TokenRotated, now, who, old, from)
        .with("new_id", token.id.as_str())
        .with("old_ends_at", old_ends_at.rfc3339());
    let act = Rotate { old: old.id.clone(), old_ends_at, token: token.clone(), digest: secret.digest(), event };
    if app.store.act(act).await? {
        Ok(Minted { token, secret })
    } else {
        Err(ActError::Conflict(format!("the token {} was revoked or rotated just now", old.id)))
    }
}
