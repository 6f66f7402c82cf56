//! Sessions that are under way: read with their refresh, listed, ended from here and from the provider.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{
    ActError, App,
    sign_in::{admit, person_of, seal},
};
use crate::{
    authn::{CredentialRefused, session::KnownSession},
    domain::{
        event::{Actor, ActorKind, EventName, NewEvent, Origin, Outcome},
        identity::{Caller, Credential, Identity, ManagePeople, SignedIn},
        person::PersonId,
        session::{Session, SessionId},
    },
    keys::seal::Purpose,
    oidc::{OidcError, Provider, ProviderTokens, Vouched, callback::RefreshError, logout::unverified_issuer},
    store::sessions::{End, Lease, Refreshed, SessionOfPerson, TryAgain, Which},
};

/// While one request re-reads the claims, others go on with the old ones for this long.
const LEASE: Duration = Duration::from_secs(30);

/// Whose session it is, by the SHA-256 of its secret, with claims not older than the provider's interval (as far as
/// the provider can be asked).
///
/// # Errors
/// [`CredentialRefused`].
pub async fn resolve(app: &App, digest: [u8; 32]) -> Result<Arc<KnownSession>, CredentialRefused> {
    let known = app.authn.by_session(digest).await?;
    if refreshed(app, &known).await { app.authn.by_session(digest).await } else { Ok(known) }
}

/// As [`resolve`], by the content of the cookie that other apps of the same parent domain see.
///
/// # Errors
/// [`CredentialRefused`].
pub async fn resolve_door(app: &App, secret: &str) -> Result<Arc<KnownSession>, CredentialRefused> {
    let known = app.authn.by_door(secret).await?;
    if refreshed(app, &known).await { app.authn.by_door(secret).await } else { Ok(known) }
}

/// Has claims read again that are too old. Answers whether something changed.
async fn refreshed(app: &App, known: &KnownSession) -> bool {
    let Some(provider) = app.providers.find(&known.session.provider) else { return false };
    if app.now().since(known.session.claims_at) < provider.settings().refresh_interval {
        return false;
    }
    // Boxed: a request that need not ask should not carry the room for it.
    Box::pin(refresh(app, provider, known)).await.unwrap_or_else(|e| {
        tracing::warn!(error = %e, session = %known.session.id, "a session's claims could not be stored");
        false
    })
}

/// As [`resolve`], if nobody needs to be asked. `None` says nothing.
pub fn resolve_known(app: &App, digest: &[u8; 32]) -> Option<Arc<KnownSession>> {
    let known = app.authn.by_known_session(digest)?;
    let age = app.now().since(known.session.claims_at);
    let provider = app.providers.find(&known.session.provider);
    provider.is_none_or(|provider| age < provider.settings().refresh_interval).then_some(known)
}

/// Asks the provider again, if nobody else does at this moment. Answers whether something changed.
async fn refresh(app: &App, provider: &Provider, known: &KnownSession) -> Result<bool, ActError> {
    let (id, now) = (&known.session.id, app.now());
    if tokens_of(app, id).await?.refresh.is_none() {
        return Ok(false);
    }
    let (until, claims_at) = (now.plus(LEASE), known.session.claims_at);
    if !app.store.act(Lease { id: id.clone(), now, until, claims_at }).await? {
        return Ok(false);
    }
    // Read under the lease: a refresh token that somebody has just used must not be used again.
    let kept = tokens_of(app, id).await?;
    let Some(person) = app.store.person(&known.session.person).await? else { return Ok(false) };
    match provider.refresh(&kept, &person.subject).await {
        Ok(vouched) => store_refreshed(app, provider, known, &vouched).await.map(|()| true),
        Err(RefreshError::Revoked(e)) => {
            let event = ended_by(app, Actor::new(ActorKind::Provider, provider.id(), provider.name()))
                .because(Outcome::Success, "grant_over")
                .with("detail", e.to_string());
            app.store.act(End { which: Which::One(id.clone()), once: None, event }).await?;
            Ok(true)
        }
        // The provider may be down: the session goes on as it is, and is asked for again a little later.
        Err(RefreshError::Later(e)) => {
            let at = app.now().plus(provider.settings().refresh_interval.min(LEASE));
            app.store.act(TryAgain { id: id.clone(), at }).await?;
            tracing::warn!(provider = provider.id(), error = %e, "a session's claims could not be read again");
            Ok(false)
        }
    }
}

async fn store_refreshed(
    app: &App,
    provider: &Provider,
    known: &KnownSession,
    vouched: &Vouched,
) -> Result<(), ActError> {
    let old = &known.session;
    let now = app.now();
    let person = person_of(app, provider.issuer(), &vouched.subject, &vouched.claims);
    let admitted = match admit(app, provider.id(), &vouched.claims) {
        Ok(admitted) => admitted,
        Err(e) => {
            let event = ended_by(app, Actor::new(ActorKind::Provider, provider.id(), provider.name()))
                .because(Outcome::Success, "not_admitted")
                .with("detail", e.to_string());
            app.store.act(End { which: Which::One(old.id.clone()), once: None, event }).await?;
            return Ok(());
        }
    };
    let changed = (admitted.role != old.role || admitted.scopes != old.scopes).then(|| {
        let actor = Actor::new(ActorKind::Provider, provider.id(), provider.name());
        NewEvent::new(now, EventName::RoleChanged, actor)
            .on("person", old.person.as_str())
            .with("session", old.id.as_str())
            .with("from", old.role.clone())
            .with("to", admitted.role.clone())
            .with("rule", admitted.why.clone())
    });
    app.store
        .act(Refreshed {
            id: old.id.clone(),
            person,
            role: admitted.role,
            scopes: admitted.scopes,
            rule: admitted.why,
            groups: admitted.groups,
            sealed: Some(seal(app, &vouched.tokens)),
            at: now,
            changed,
        })
        .await?;
    Ok(())
}

/// The provider's tokens of a session; none when there are none or they do not open any more.
async fn tokens_of(app: &App, id: &SessionId) -> Result<ProviderTokens, ActError> {
    let sealed = app.store.sealed_of(id).await?.unwrap_or_default();
    let opened = app.sealer.open(Purpose::ProviderTokens, &sealed).ok();
    Ok(opened.and_then(|plain| serde_json::from_slice(&plain).ok()).unwrap_or_default())
}

fn ended_by(app: &App, actor: Actor) -> NewEvent {
    NewEvent::new(app.now(), EventName::SessionEnded, actor)
}

/// Signs the caller out here. Answers where the browser goes so that the provider's session ends too.
///
/// # Errors
/// [`ActError`]; the session is still there then.
pub async fn sign_out(app: &App, session: &Session, who: &Identity, from: &Origin) -> Result<Option<Url>, ActError> {
    let tokens = tokens_of(app, &session.id).await?;
    let event = NewEvent::new(app.now(), EventName::SignedOut, who.actor.clone()).from(from);
    app.store.act(End { which: Which::One(session.id.clone()), once: None, event }).await?;
    let Some(provider) = app.providers.find(&session.provider) else { return Ok(None) };
    let back = app.settings.server.public_url.join("/login?signed_out=1").expect("a fixed path");
    Ok(provider.logout_url(tokens.id.as_deref(), &back).await)
}

/// The caller's own live sessions.
///
/// # Errors
/// [`ActError`].
pub async fn own(app: &App, caller: &Caller<SignedIn>) -> Result<Vec<SessionOfPerson>, ActError> {
    let id = caller.identity().actor.id.parse().map_err(|_| nobody(&caller.identity().actor.id))?;
    of(app, &id).await
}

/// A person's live sessions.
///
/// # Errors
/// [`ActError`].
pub async fn of_person(
    app: &App,
    _: &Caller<ManagePeople>,
    person: &PersonId,
) -> Result<Vec<SessionOfPerson>, ActError> {
    of(app, person).await
}

async fn of(app: &App, person: &PersonId) -> Result<Vec<SessionOfPerson>, ActError> {
    let limits = &app.settings.auth.sessions;
    let now = app.now();
    Ok(app.store.sessions_of(person, now.minus(limits.absolute), now.minus(limits.idle)).await?)
}

fn nobody(which: &str) -> ActError {
    ActError::NotFound { what: "person", which: which.chars().take(80).collect() }
}

/// Ends one session: one's own, or anybody's for whoever manages people.
///
/// # Errors
/// [`ActError::NotFound`] when there is none or it is not the caller's to end.
pub async fn end_one(app: &App, caller: &Caller<SignedIn>, id: &str, from: &Origin) -> Result<(), ActError> {
    let not_found = || ActError::NotFound { what: "session", which: id.chars().take(80).collect() };
    let session_id: SessionId = id.parse().map_err(|_| not_found())?;
    let found = app.store.session(&session_id).await?.ok_or_else(not_found)?;
    let who = caller.identity();
    let mine = found.session.person.as_str() == who.actor.id;
    if !mine && !who.scopes.allows(crate::domain::scope::Scope::All) {
        return Err(not_found());
    }
    let event = ended_by(app, who.actor.clone()).from(from);
    app.store.act(End { which: Which::One(session_id), once: None, event }).await?;
    Ok(())
}

/// Ends all sessions of the caller, this one included.
///
/// # Errors
/// [`ActError`].
pub async fn end_everywhere(app: &App, caller: &Caller<SignedIn>, from: &Origin) -> Result<usize, ActError> {
    let who = caller.identity();
    let person = who.actor.id.parse().map_err(|_| nobody(&who.actor.id))?;
    let event = NewEvent::new(app.now(), EventName::SignedOut, who.actor.clone())
        .from(from)
        .because(Outcome::Success, "everywhere");
    let ended = app.store.act(End { which: Which::OfPerson(person), once: None, event }).await?;
    Ok(ended.unwrap_or_default().len())
}

/// Ends all sessions of a person.
///
/// # Errors
/// [`ActError`].
pub async fn end_all_of(
    app: &App,
    caller: &Caller<ManagePeople>,
    person: &PersonId,
    from: &Origin,
) -> Result<usize, ActError> {
    let event = ended_by(app, caller.identity().actor.clone()).from(from);
    let ended = app.store.act(End { which: Which::OfPerson(person.clone()), once: None, event }).await?;
    Ok(ended.unwrap_or_default().len())
}

/// Back-channel logout: a provider says that sessions are over. Done twice, it is refused the second time.
///
/// # Errors
/// [`ActError::Oidc`] when the token is not acceptable; [`ActError::Store`] when it cannot be carried out.
pub async fn back_channel(app: &App, logout_token: &str, from: &Origin) -> Result<usize, ActError> {
    let done = try_back_channel(app, logout_token, from).await;
    if let Err(ActError::Oidc(e)) = &done {
        let event = NewEvent::new(app.now(), EventName::CredentialRefused, Actor::anonymous());
        let event = event.because(Outcome::Denied, "logout_token").with("detail", e.to_string());
        app.note(event, from);
    }
    done
}

async fn try_back_channel(app: &App, logout_token: &str, from: &Origin) -> Result<usize, ActError> {
    let issuer =
        unverified_issuer(logout_token).ok_or_else(|| OidcError::Check("this is not a logout token".into()))?;
    let provider = app.providers.by_issuer(&issuer);
    let provider = provider.ok_or_else(|| OidcError::Check("its issuer is not one of ours".into()))?;
    let checked = provider.verify_logout_token(logout_token).await?;
    let actor = Actor::new(ActorKind::Provider, provider.id(), provider.name());
    let event =
        NewEvent::new(app.now(), EventName::SignedOut, actor).from(from).because(Outcome::Success, "back_channel");
    let which = Which::OfProvider { issuer, subject: checked.subject, sid: checked.sid };
    let once = Some((checked.jti, checked.expires_at));
    match app.store.act(End { which, once, event }).await? {
        Some(ended) => Ok(ended.len()),
        None => Err(OidcError::Check("this logout token was used before".into()).into()),
    }
}

/// The session that an identity came with.
pub fn session_of(who: &Identity) -> Option<&SessionId> {
    match &who.credential {
        Credential::Session { id, .. } => Some(id),
        _ => None,
    }
}
