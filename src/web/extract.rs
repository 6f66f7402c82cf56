//! A request's credential → a permit. Exactly one credential is read: the session cookie, the `Authorization`
//! header, or the connection's client certificate when a rule knows it. Every refusal is recorded, without the credential.

use std::sync::Arc;

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web::Data};
use futures_util::future::{Either, LocalBoxFuture, Ready, ready};

use super::{
    Web,
    client::{Client, origin},
    csrf,
    peer::Peer,
    problem::Problem,
    refusals::{counted, credential_refused, over, refusal, refused, too_fast},
};
use crate::{
    actions::{listener, sessions},
    authn::{CredentialRefused, session::KnownSession, workload::LONGEST},
    domain::{
        event::{EventName, NewEvent, Outcome},
        identity::{Access, Caller, Credential, Identity, Right},
        screen,
    },
};

impl<R: Right> FromRequest for Caller<R> {
    type Error = Problem;
    type Future = Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let web = shared(req);
        let known = known_automation(&web, req).or_else(|| known_session(&web, req)).or_else(|| known_certificate(req));
        if let Some(identity) = known {
            return Either::Left(ready(permit(&web, req, identity)));
        }
        let req = req.clone();
        Either::Right(Box::pin(async move {
            let identity = identify(&web, &req).await?;
            permit(&web, &req, identity)
        }))
    }
}

/// The holder of the one credential, if that is a token or key whose holder is known without asking anybody.
fn known_automation(web: &Web, req: &HttpRequest) -> Option<Arc<Identity>> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let (Some(value), None) = (headers.next(), headers.next()) else { return None };
    if Web::has_session_cookie(req) || Peer::known(req).is_some() {
        return None;
    }
    known_presented(web, req, Presented::read(value.as_bytes())?)
}

/// The holder of a token or key, if that can be said without asking anybody.
fn known_presented(web: &Web, req: &HttpRequest, presented: Presented<'_>) -> Option<Arc<Identity>> {
    let ip = Client::of(req).ip;
    match presented {
        Presented::Bearer(token) if token.starts_with(OURS) => web.app.authn.by_known_token(token, ip),
        Presented::Bearer(jwt) => web.app.authn.by_known_jwt(jwt),
        Presented::Key(key) => web.app.authn.by_preshared_key(key, ip).ok(),
    }
}

/// The person of the one credential, if that is a session that is known without asking anybody.
fn known_session(web: &Web, req: &HttpRequest) -> Option<Arc<Identity>> {
    if req.headers().contains_key(AUTHORIZATION) || Peer::known(req).is_some() {
        return None;
    }
    let known = sessions::resolve_known(&web.app, &web.session_digest(req)?)?;
    csrf::check(web, req, &known.session).ok()?;
    let identity = Arc::clone(&known.identity);
    req.extensions_mut().insert(known);
    Some(identity)
}

/// The holder of the connection's certificate, if that is the one credential and still good.
fn known_certificate(req: &HttpRequest) -> Option<Arc<Identity>> {
    let (peer, identity) = Peer::known(req)?;
    if req.headers().contains_key(AUTHORIZATION) || Web::has_session_cookie(req) || !req.method().is_safe() {
        return None;
    }
    peer.still_good().ok().map(|()| Arc::clone(identity))
}

/// The permit for `R`, or the refusal, recorded.
fn permit<R: Right>(web: &Web, req: &HttpRequest, identity: Arc<Identity>) -> Result<Caller<R>, Problem> {
    web.limits.api.check(web.limits.key_of(key(&identity))).map_err(|e| too_fast(web, req, &identity.actor, e))?;
    Client::is_known_by(req, identity.credential.kind());
    let actor = Arc::clone(&identity);
    let permit = identity.acting_as::<R>();
    if let (Ok(_), Access::Scope(scope)) = (&permit, R::NEEDS) {
        web.app.authn.needed(&actor, scope);
    }
    permit.map_err(|refusal| {
        let event = NewEvent::new(web.app.now(), EventName::PermissionDenied, actor.actor.clone());
        let needed = match refusal.needs {
            Access::Scope(scope) => scope.as_str(),
            _ => "a signed-in person",
        };
        let event = event.because(Outcome::Denied, "insufficient_scope").with("needs", needed);
        web.app.note(event.with("route", route(req)), &origin(req));
        refusal.into()
    })
}

/// What every handler shares.
pub(super) fn shared(req: &HttpRequest) -> Data<Web> {
    req.app_data::<Data<Web>>().expect("the server was built with it").clone()
}

/// The route's pattern, which holds nothing that a caller wrote.
pub(super) fn route(req: &HttpRequest) -> String {
    format!("{} {}", req.method(), req.match_pattern().unwrap_or_default())
}

/// Who is calling.
async fn identify(web: &Web, req: &HttpRequest) -> Result<Arc<Identity>, Problem> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let (header, second) = (headers.next(), headers.next());
    let cookie = Web::has_session_cookie(req);
    let certificate = Peer::known(req);
    let shown = [header.is_some(), cookie, certificate.is_some()].into_iter().filter(|is_shown| *is_shown).count();
    if second.is_some() || shown > 1 {
        let expected = match certificate {
            Some((_, who)) => {
                format!("the client certificate ({}), Authorization, or the session cookie", who.actor.id)
            }
            None => "either Authorization, once, or the session cookie".to_owned(),
        };
        let problem = Problem::bad_request(format!("send one credential: {expected}"));
        return Err(refused(web, req, "two_credentials", problem));
    }
    if let Some((peer, who)) = certificate {
        return by_certificate(web, req, peer, who);
    }
    match header {
        Some(value) => {
            let presented = Presented::read(value.as_bytes());
            by_presented(web, req, presented.ok_or_else(|| unsupported(web, req))?).await
        }
        None if cookie => by_cookie(web, req).await,
        None if !web.app.settings.auth.enabled => {
            // Nobody is asked for anything, so this is all that keeps another site's page from acting.
            if !req.method().is_safe() {
                csrf::same_origin(web, req)?;
            }
            Ok(open_door())
        }
        None => match Peer::of(req) {
            Some(peer) => Err(unknown_certificate(web, req, peer)),
            None => Err(Problem::unauthenticated()),
        },
    }
}

/// A browser sends its certificate with whatever another site's page asks it to, so that page must not act.
fn by_certificate(web: &Web, req: &HttpRequest, peer: &Peer, who: &Arc<Identity>) -> Result<Arc<Identity>, Problem> {
    if !req.method().is_safe() {
        csrf::same_origin(web, req)?;
    }
    peer.still_good().map(|()| Arc::clone(who)).map_err(|e| {
        let event = listener::refusal(refusal(web, req, ""), &e, Some(&peer.certificate.facts));
        let problem = Problem::invalid_token(format!("the client certificate ({}) is not good: {e}", who.actor.id));
        counted(web, req, event.with("route", route(req)), problem)
    })
}

/// The authorities let the certificate in, but no rule says what its holder may do.
fn unknown_certificate(web: &Web, req: &HttpRequest, peer: &Peer) -> Problem {
    let facts = &peer.certificate.facts;
    let event = listener::describe(refusal(web, req, "certificate_no_rule"), facts);
    let names = screen::harmless(&facts.names.listing(), 200);
    let detail =
        format!("no rule of enterprise.auth.mtls knows your client certificate ({names}); send another credential");
    counted(web, req, event, Problem::invalid_token(detail))
}

/// Who sends a request that a proxy asks about: by the one credential of ours that it carries. A header
/// `Authorization` that holds no token of ours belongs to the app when the browser is known by its cookie.
///
/// # Errors
/// A credential that is not good, two of them, or one too many requests.
pub(super) async fn identify_for_app(web: &Web, req: &HttpRequest) -> Result<Option<Arc<Identity>>, Problem> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let (header, second) = (headers.next(), headers.next());
    let presented = header.and_then(|value| Presented::read(value.as_bytes()));
    let cookie = Web::has_session_cookie(req) || Web::has_door_cookie(req);
    // Without a cookie it is the one credential, whosever it is.
    let is_ours = cookie && presented.is_some_and(|presented| presented.is_ours(web));
    let who = match (header, cookie) {
        (None, false) => return Ok(None),
        _ if second.is_some() || is_ours => {
            let problem = Problem::bad_request("send one credential: either Authorization, once, or the cookie");
            return Err(refused(web, req, "two_credentials", problem));
        }
        // Boxed: a request of somebody who is known should not carry the room for asking.
        (_, true) => match web.session_digest(req).and_then(|digest| sessions::resolve_known(&web.app, &digest)) {
            Some(known) => Arc::clone(&known.identity),
            None => Box::pin(by_app_cookie(web, req)).await?,
        },
        (Some(_), false) => {
            let presented = presented.ok_or_else(|| unsupported(web, req))?;
            match known_presented(web, req, presented) {
                Some(known) => known,
                None => Box::pin(by_presented(web, req, presented)).await?,
            }
        }
    };
    web.limits.forward_auth.check(web.limits.key_of(key(&who))).map_err(|e| too_fast(web, req, &who.actor, e))?;
    Client::is_known_by(req, who.credential.kind());
    Ok(Some(who))
}

/// By lokid's own cookie where the browser sends it, else by the one for other apps.
async fn by_app_cookie(web: &Web, req: &HttpRequest) -> Result<Arc<Identity>, Problem> {
    let known = if Web::has_session_cookie(req) {
        session(web, req).await
    } else {
        match Web::door_secret(req) {
            Some(secret) => sessions::resolve_door(&web.app, &secret).await,
            None => Err(CredentialRefused::NoSession),
        }
    };
    match known {
        Ok(known) => Ok(Arc::clone(&known.identity)),
        Err(CredentialRefused::Unavailable(e)) => Err(e.into()),
        Err(_) => Err(over(web, req)),
    }
}

/// What a caller's requests are counted by.
pub(super) fn key(identity: &Identity) -> &str {
    match &identity.credential {
        Credential::Token(id) => id.as_str(),
        _ => &identity.actor.id,
    }
}

/// How tokens of ours begin.
const OURS: &str = "loki_";

/// What a header `Authorization` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presented<'h> {
    /// A token, ours or an issuer's.
    Bearer(&'h str),
    /// A pre-shared key.
    Key(&'h str),
}

impl<'h> Presented<'h> {
    /// RFC 9110 §11.1: scheme names do not regard case; RFC 6750 §2.1: one space, then the token.
    fn read(value: &'h [u8]) -> Option<Self> {
        let under = |scheme: &[u8]| {
            let (given, rest) = value.split_at_checked(scheme.len())?;
            let rest = std::str::from_utf8(rest).ok()?.trim_matches(' ');
            (given.eq_ignore_ascii_case(scheme) && (1..=LONGEST).contains(&rest.len())).then_some(rest)
        };
        under(b"bearer ").map(Self::Bearer).or_else(|| under(b"apikey ").map(Self::Key))
    }

    /// Whether it is meant for lokid, and not for the app behind it.
    fn is_ours(self, web: &Web) -> bool {
        match self {
            Self::Bearer(token) => token.starts_with(OURS) || web.app.authn.workloads.claims_to_be_ours(token),
            Self::Key(key) => web.app.authn.is_preshared_key(key),
        }
    }
}

fn unsupported(web: &Web, req: &HttpRequest) -> Problem {
    let problem = Problem::invalid_token("Authorization must be: Bearer and a token, or APIKey and a pre-shared key");
    refused(web, req, "unsupported_scheme", problem)
}

async fn by_presented(web: &Web, req: &HttpRequest, presented: Presented<'_>) -> Result<Arc<Identity>, Problem> {
    let ip = Client::of(req).ip;
    let known = match presented {
        Presented::Bearer(jwt) if !jwt.starts_with(OURS) && jwt.contains('.') => return by_jwt(web, req, jwt).await,
        Presented::Bearer(token) => web.app.authn.by_token(token, ip).await,
        Presented::Key(key) => web.app.authn.by_preshared_key(key, ip),
    };
    known.map_err(|e| credential_refused(web, req, e))
}

/// By a signed token of a configured issuer.
///
/// # Errors
/// The refusal, recorded and counted.
pub(super) async fn by_jwt(web: &Web, req: &HttpRequest, jwt: &str) -> Result<Arc<Identity>, Problem> {
    let known = web.app.authn.by_jwt(jwt, Client::of(req).ip).await;
    known.map_err(|e| credential_refused(web, req, e))
}

async fn by_cookie(web: &Web, req: &HttpRequest) -> Result<Arc<Identity>, Problem> {
    let known = session(web, req).await.map_err(|e| match e {
        CredentialRefused::NoSession if web.session_secret(req).is_none() => {
            refused(web, req, "forged_session", Problem::unauthenticated())
        }
        // An old cookie in a browser is no attack: the person signs in again.
        CredentialRefused::NoSession => over(web, req),
        other => other.into(),
    })?;
    csrf::check(web, req, &known.session)?;
    let identity = Arc::clone(&known.identity);
    req.extensions_mut().insert(known);
    Ok(identity)
}

/// The live session of this browser.
pub(super) async fn session(web: &Web, req: &HttpRequest) -> Result<Arc<KnownSession>, CredentialRefused> {
    let digest = web.session_digest(req).ok_or(CredentialRefused::NoSession)?;
    sessions::resolve(&web.app, digest).await
}

/// The credential of a request that stays open, and who it was when it came.
pub(super) struct Standing {
    req: HttpRequest,
    identity: Arc<Identity>,
    epoch: Option<u64>,
}

impl Standing {
    /// Of a caller whose request is answered with a stream.
    pub(super) fn of<R>(req: &HttpRequest, caller: &Caller<R>) -> Self {
        let epoch = shared(req).app.store.rights().epoch();
        Self { req: req.clone(), identity: caller.shared(), epoch }
    }

    /// Whether the credential would still be taken, for no less than it was. Asks only after a right was lost somewhere.
    pub(super) async fn still_holds(&mut self) -> bool {
        let web = shared(&self.req);
        if self.identity.expires_at.is_some_and(|at| at <= web.app.now()) {
            return false;
        }
        let session = self.req.extensions().get::<Arc<KnownSession>>().cloned();
        if session.is_some_and(|known| !web.app.authn.still_lives(&known)) {
            return false;
        }
        // Lists of revoked certificates change without a right being lost in the database.
        if Peer::known(&self.req).is_some_and(|(peer, _)| peer.still_good().is_err()) {
            return false;
        }
        let epoch = web.app.store.rights().epoch();
        if epoch.is_some() && epoch == self.epoch {
            return true;
        }
        match identify(&web, &self.req).await {
            Ok(now) => {
                self.epoch = epoch;
                now.scopes.covers(self.identity.scopes)
            }
            // While the database cannot say, the stream waits as everything does.
            Err(problem) => problem.status.is_server_error(),
        }
    }
}

/// With `enterprise.auth.enabled: false`, which is accepted on loopback only.
fn open_door() -> Arc<Identity> {
    let mut identity = Identity::at_the_terminal("sign-in is off");
    identity.role = Some("admin".into());
    Arc::new(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_ignores_case_and_the_token_is_taken_whole() {
        assert_eq!(Presented::read(b"Bearer abc"), Some(Presented::Bearer("abc")));
        assert_eq!(Presented::read(b"bEARER  abc "), Some(Presented::Bearer("abc")));
        assert_eq!(Presented::read(b"APIKey abc"), Some(Presented::Key("abc")));
        assert_eq!(Presented::read(b"apikey abc"), Some(Presented::Key("abc")));
        let long = format!("Bearer {}", "a".repeat(LONGEST + 1)).into_bytes();
        for wrong in [&b"Basic abc"[..], b"Bearer", b"Bearer ", b"Bearerabc", b"", b"Bearer \xff", b"APIKey", &long] {
            assert_eq!(Presented::read(wrong), None);
        }
    }
}
