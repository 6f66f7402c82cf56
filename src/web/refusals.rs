//! Requests that are refused for their credential, or for coming too fast: counted, recorded while they are not too many,
//! and turned into an answer.

use actix_web::HttpRequest;

use super::{
    Web,
    client::{Client, origin},
    extract::route,
    limits::{Limiter, TooFast},
    problem::Problem,
};
use crate::{
    authn::CredentialRefused,
    domain::event::{Actor, EventName, NewEvent, Outcome},
};

/// What a credential that is not good answers.
pub(super) fn credential_refused(web: &Web, req: &HttpRequest, e: CredentialRefused) -> Problem {
    if let CredentialRefused::Unavailable(_) = e {
        return e.into();
    }
    let mut event = refusal(web, req, e.reason());
    if let CredentialRefused::ExpiredToken { id, .. } | CredentialRefused::RevokedToken { id, .. } = &e {
        event = event.on("token", id.as_str());
    }
    counted(web, req, event, e.into())
}

/// A refused credential, recorded and counted.
pub(super) fn refused(web: &Web, req: &HttpRequest, reason: &str, problem: Problem) -> Problem {
    counted(web, req, refusal(web, req, reason), problem)
}

/// A session that was ours and has ended counts as a request without a credential.
pub(super) fn over(web: &Web, req: &HttpRequest) -> Problem {
    match web.limits.peer.check(web.limits.key_of_ip(Client::of(req).ip)) {
        Ok(()) => {
            web.app.note(refusal(web, req, "no_session"), &origin(req));
            Problem::unauthenticated()
        }
        Err(fast) => too_fast(web, req, &Actor::anonymous(), fast),
    }
}

/// The event of a refused credential, not recorded yet.
pub(super) fn refusal(web: &Web, req: &HttpRequest, reason: &str) -> NewEvent {
    let event = NewEvent::new(web.app.now(), EventName::CredentialRefused, Actor::anonymous());
    event.because(Outcome::Denied, reason).with("route", route(req))
}

/// Counts a refused credential of this address, and records it while it is not one too many.
pub(super) fn counted(web: &Web, req: &HttpRequest, event: NewEvent, problem: Problem) -> Problem {
    match web.limits.bad_credentials.check(web.limits.key_of_ip(Client::of(req).ip)) {
        Ok(()) => {
            web.app.note(event, &origin(req));
            problem
        }
        Err(fast) => too_fast(web, req, &Actor::anonymous(), fast),
    }
}

/// Counts a request by its client, whoever that is.
pub(super) fn count_client(web: &Web, req: &HttpRequest, limiter: &Limiter) -> Result<(), Problem> {
    let key = web.limits.key_of_ip(Client::of(req).ip);
    limiter.check(key).map_err(|e| too_fast(web, req, &Actor::anonymous(), e))
}

/// Records an excess (once a minute for each key) and turns it into an answer.
pub(super) fn too_fast(web: &Web, req: &HttpRequest, actor: &Actor, e: TooFast) -> Problem {
    web.app.metrics.limited(e.name);
    if e.worth_telling {
        let event = NewEvent::new(web.app.now(), EventName::RateLimited, actor.clone());
        web.app.note(event.because(Outcome::Denied, e.name).with("route", route(req)), &origin(req));
    }
    e.into()
}
