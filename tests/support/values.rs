//! Values to put into a store: each call makes another one.

use lokid::{
    domain::{
        entropy::Entropy,
        event::{Actor, ActorKind, EventName, NewEvent},
        person::{Person, PersonId},
        scope::{Scope, ScopeSet},
        session::{Session, SessionId, SessionSecret},
        time::Moment,
        token::{Token, TokenDigest, TokenId, TokenSecret},
    },
    store::{sessions, tokens},
};

/// Where the tests' time begins; seconds are counted from it.
pub(crate) fn at(seconds: i64) -> Moment {
    Moment::from_millis(1_800_000_000_000 + seconds * 1000)
}

/// Everything that is older than this is not older than the tests.
pub(crate) fn long_ago() -> Moment {
    Moment::from_millis(0)
}

pub(crate) fn event(name: EventName) -> NewEvent {
    NewEvent::new(at(0), name, Actor::new(ActorKind::Terminal, "local", "ann"))
}

pub(crate) fn event_at(name: EventName, time: Moment) -> NewEvent {
    NewEvent { time, ..event(name) }
}

/// A token of `owner` that was made at [`at`]`(0)` and does not end.
pub(crate) fn token(owner: &str, name: &str) -> (Token, TokenDigest) {
    let token = Token {
        id: TokenId::from_random(Entropy.bytes()),
        name: name.parse().unwrap(),
        owner: owner.to_owned(),
        owner_name: format!("{owner} by name"),
        scopes: ScopeSet::of(&[Scope::Read, Scope::Audit]),
        role: Some("auditor".to_owned()),
        created_at: at(0),
        expires_at: None,
        revoked_at: None,
        replaced_by: None,
        last_used_at: None,
        last_used_from: None,
        used_scopes: ScopeSet::EMPTY,
        watched_since: at(0),
    };
    (token, TokenSecret::from_random(Entropy.bytes()).digest())
}

pub(crate) fn mint((token, digest): (Token, TokenDigest)) -> tokens::Mint {
    let event = event_at(EventName::TokenCreated, token.created_at).on("token", token.id.as_str());
    tokens::Mint { token, digest, limit: None, event }
}

pub(crate) fn revoke(id: &TokenId, seconds: i64) -> tokens::Revoke {
    let event = event_at(EventName::TokenRevoked, at(seconds)).on("token", id.as_str());
    tokens::Revoke { id: id.clone(), event }
}

pub(crate) fn person(subject: &str) -> Person {
    Person {
        id: PersonId::from_random(Entropy.bytes()),
        issuer: "https://idp.example".to_owned(),
        subject: subject.to_owned(),
        email: Some(format!("{subject}@example.com")),
        email_verified: true,
        name: Some(format!("{subject} by name")),
        username: Some(subject.to_owned()),
        first_seen_at: at(0),
        last_seen_at: at(0),
    }
}

/// A sign-in of `subject` within the provider's session `sid`, finished at [`at`]`(seconds)`.
pub(crate) fn sign_in(subject: &str, sid: Option<&str>, seconds: i64) -> sessions::Open {
    let mut person = person(subject);
    person.last_seen_at = at(seconds);
    let secret = SessionSecret::from_random(Entropy.bytes());
    let session = Session {
        id: SessionId::from_random(Entropy.bytes()),
        person: person.id.clone(),
        provider: "main".to_owned(),
        provider_sid: sid.map(str::to_owned),
        role: "operator".to_owned(),
        scopes: ScopeSet::of(&[Scope::Control]),
        rule: "rule 1".to_owned(),
        groups: vec!["ops".to_owned(), "team with spaces".to_owned()],
        signed_in_at: at(seconds),
        proven_at: at(seconds),
        last_seen_at: at(seconds),
        ended_at: None,
        claims_at: at(seconds),
        ip: Some("192.0.2.7".to_owned()),
        user_agent: Some("Browser/1".to_owned()),
    };
    let event = event_at(EventName::SignInSucceeded, at(seconds));
    let once = (session.id.to_string(), at(seconds + 600));
    let sealed = Some(vec![1, 2, 3]);
    sessions::Open {
        person,
        session,
        digest: secret.digest(),
        door_digest: secret.door_digest(),
        sealed,
        replaces: None,
        once,
        event,
    }
}

pub(crate) fn end(which: sessions::Which, seconds: i64) -> sessions::End {
    sessions::End { which, once: None, event: event_at(EventName::SessionEnded, at(seconds)) }
}
