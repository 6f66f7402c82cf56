//! Doors for other apps: forward-auth, the way back to an app after signing in, assertions.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
    },
    web::Data,
};
use url::Url;

use super::{
    Web,
    api::Query,
    client::origin,
    extract,
    forward::{self, Original},
    front::shows_credential,
    pages,
    problem::Problem,
    refusals,
};
use crate::{
    actions::{access, assertion},
    authn::CredentialRefused,
    domain::{
        event::{Actor, EventName, NewEvent, Outcome},
        identity::{Caller, Identity, Known},
        protected::{AccessRule, Dialect, NoWay, ProtectedApp, Way},
        session::door_secret,
    },
};

/// What a proxy may add to the address: `redirect=no` for nginx, whose `auth_request` knows only 2xx, 401
/// and 403; the address to sign in at then comes in a header.
const SIGN_IN_AT: HeaderName = HeaderName::from_static("x-loki-sign-in");
const ASSERTION: HeaderName = HeaderName::from_static("x-loki-jwt-assertion");
const ASSERTION_ALIAS: HeaderName = HeaderName::from_static("x-pomerium-jwt-assertion");

/// Longer addresses are not come back to; the app's own root is.
const LONGEST_RETURN: usize = 600;

/// `GET /auth/verify`: may this request pass, and who is asking? 200 with every identity header, 401, 302 to
/// sign in, 403, 503.
pub(super) async fn verify(web: Data<Web>, req: HttpRequest) -> HttpResponse {
    match answer(&web, &req).await {
        Ok(answer) => answer,
        Err(mut problem) => {
            problem.status = forward::status_for(&req, problem.status);
            // No page: it would be shown under the app's own address, without its style.
            let mut answer = HttpResponse::build(problem.status);
            for (name, value) in &problem.headers {
                answer.append_header((name.clone(), value.as_str()));
            }
            answer.insert_header((CONTENT_TYPE, "application/problem+json"));
            answer.body(problem.json(&super::client::Client::of(&req).request_id))
        }
    }
}

async fn answer(web: &Web, req: &HttpRequest) -> Result<HttpResponse, Problem> {
    let original = forward::read(web, req).map_err(|why| {
        if let Err(too_fast) = count(web, req) {
            return too_fast;
        }
        let event = barred_event(web, Actor::anonymous(), why.reason());
        web.app.note(event.with("peer", peer(req)), &origin(req));
        Problem::new(StatusCode::FORBIDDEN, why.to_string())
    })?;
    let asked = &original.asked;
    let (app, way) = access::way(&web.app.settings.apps, asked).map_err(|why| match count(web, req) {
        Ok(()) => barred(web, req, &original, Actor::anonymous(), &why),
        Err(too_fast) => too_fast,
    })?;
    if matches!(way, Way::Public) {
        return Ok(Pass::of(app, None, "").answer());
    }
    let identified_by = extract::identify_for_app(web, req).await;
    let who = identified_by
        .and_then(|who| who.ok_or_else(Problem::unauthenticated))
        .map_err(|problem| at_sign_in(web, req, &original, problem))?;
    access::pass(app, &way, &who).map_err(|why| barred(web, req, &original, who.actor.clone(), &why))?;
    if let Way::Ruled(_, AccessRule { scope: Some(scope), .. }) = &way {
        web.app.authn.needed(&who, *scope);
    }
    let kept = assertion::assert(&web.app, &web.passes, &who, app, |made| Pass::of(app, Some(&who), &made.jws));
    Ok(kept.ready.answer())
}

/// Counts a request that nobody's rule lets pass by its client. The front has counted those without a
/// credential; one that is shown is no way around it.
fn count(web: &Web, req: &HttpRequest) -> Result<(), Problem> {
    if shows_credential(req) { refusals::count_client(web, req, &web.limits.peer) } else { Ok(()) }
}

fn peer(req: &HttpRequest) -> String {
    req.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default()
}

fn barred_event(web: &Web, actor: Actor, reason: &'static str) -> NewEvent {
    NewEvent::new(web.app.now(), EventName::PermissionDenied, actor).because(Outcome::Denied, reason)
}

fn barred(web: &Web, req: &HttpRequest, original: &Original<'_>, actor: Actor, why: &access::Barred) -> Problem {
    let asked = &original.asked;
    // Cut, and without the query, which may hold secrets of the app.
    let path: String = asked.target.split('?').next().unwrap_or_default().chars().take(200).collect();
    let event = barred_event(web, actor, why.reason())
        .on("app", &*asked.host)
        .with("method", &*asked.method)
        .with("path", path)
        .with("why", why.to_string());
    web.app.note(event, &origin(req));
    // Who is let in instead is for the audit log and `lokid check-access`, not for whoever is refused.
    let said = match why {
        access::Barred::Rule { host, why: NoWay::Lacking { rule, .. } } => {
            format!("rule {rule} of {host} does not admit you")
        }
        other => other.to_string(),
    };
    Problem::new(StatusCode::FORBIDDEN, said)
}

/// A browser that nobody is signed in with, or nobody any more, goes to sign in; everybody else gets 401.
fn at_sign_in(web: &Web, req: &HttpRequest, original: &Original<'_>, problem: Problem) -> Problem {
    if problem.status != StatusCode::UNAUTHORIZED || !original.is_navigation(req) {
        return problem;
    }
    let url = sign_in_at(web, original);
    if forward::redirects(req) {
        return Problem::new(StatusCode::FOUND, "sign in").with(LOCATION, url);
    }
    problem.with(SIGN_IN_AT, url)
}

fn sign_in_at(web: &Web, original: &Original<'_>) -> String {
    let asked = original.url();
    let back =
        if asked.len() <= LONGEST_RETURN { asked } else { format!("{}://{}/", original.scheme, original.asked.host) };
    let mut url = web.app.settings.server.public_url.join("/auth/continue").expect("a fixed path");
    url.query_pairs_mut().append_pair("to", &back);
    url.into()
}

/// What an app hears of whoever passes, ready to be sent. Every identity header is there, empty when it is not
/// known: what a client sent under its name must not survive the proxy.
pub(super) struct Pass([(HeaderName, HeaderValue); 6]);

impl Pass {
    fn of(app: &ProtectedApp, who: Option<&Identity>, assertion: &str) -> Self {
        // A value that no header can carry is not known, rather than another one.
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
        let [user, email, groups, called] = identity_headers(app.dialect, who).map(|(name, text)| (name, value(&text)));
        let assertion = value(assertion);
        Self([user, email, groups, called, (ASSERTION, assertion.clone()), (ASSERTION_ALIAS, assertion)])
    }

    /// 200.
    fn answer(&self) -> HttpResponse {
        let mut answer = HttpResponse::new(StatusCode::OK);
        let headers = answer.headers_mut();
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
        answer
    }
}

/// The names of both dialects: user, e-mail, groups, and what to call them.
pub(crate) const fn header_names(dialect: Dialect) -> [&'static str; 4] {
    match dialect {
        Dialect::AuthRequest => [
            "x-auth-request-user",
            "x-auth-request-email",
            "x-auth-request-groups",
            "x-auth-request-preferred-username",
        ],
        Dialect::Remote => ["remote-user", "remote-email", "remote-groups", "remote-name"],
    }
}

fn identity_headers(dialect: Dialect, who: Option<&Identity>) -> [(HeaderName, String); 4] {
    let [user, email, groups, name] = header_names(dialect).map(HeaderName::from_static);
    let Some(who) = who else { return [user, email, groups, name].map(|header| (header, String::new())) };
    // A name with a comma would read as two groups; the assertion has all of them.
    let listed = who.groups.iter().filter(|g| !g.contains(',')).map(String::as_str).collect::<Vec<_>>().join(",");
    let called = match dialect {
        Dialect::AuthRequest => who.username.clone().unwrap_or_default(),
        Dialect::Remote => who.actor.name.clone(),
    };
    [
        (user, who.actor.id.clone()),
        (email, who.verified_email().unwrap_or_default().to_owned()),
        (groups, listed),
        (name, called),
    ]
}

/// `GET /auth/continue?to=URL`: back to an app, after signing in where that is needed. Only to hosts of
/// configured apps, so nobody can be led elsewhere.
pub(super) async fn go_on(web: Data<Web>, req: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["to"])?;
    let to = app_url(&web, query.text("to").unwrap_or_default())?;
    match extract::session(&web, &req).await {
        Ok(_) => {}
        Err(CredentialRefused::Unavailable(e)) => return Err(e.into()),
        Err(_) => return Ok(to_sign_in(&req)),
    }
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((LOCATION, to.as_str()));
    if let Some(domain) = &web.app.settings.apps.cookie_domain {
        let secret = web.session_secret(&req).ok_or_else(Problem::unauthenticated)?;
        let door = door_secret(&secret);
        // A session of before this cookie existed has none: signing in again gives it one.
        match web.app.authn.by_door(&door).await {
            Ok(_) => {}
            Err(CredentialRefused::Unavailable(e)) => return Err(e.into()),
            Err(_) => return Ok(to_sign_in(&req)),
        }
        answer.cookie(web.door_cookie(door, domain));
    }
    Ok(answer.finish())
}

fn to_sign_in(req: &HttpRequest) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, pages::login_path(req))).finish()
}

/// The address of a configured app, read as a browser reads it.
fn app_url(web: &Web, text: &str) -> Result<Url, Problem> {
    let apps = &web.app.settings.apps;
    let expected = || Problem::invalid("to", "expected the address of an app of forward_auth.apps");
    let plain = text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'\\');
    let url = Url::parse(text).ok().filter(|_| plain).ok_or_else(expected)?;
    let own = &web.app.settings.server.public_url;
    let is_safe_scheme = url.scheme() == "https" || (url.scheme() == "http" && own.scheme() == "http");
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let name = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let host = url.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
    if !is_safe_scheme || !bare || apps.at(&host).is_none() {
        return Err(expected());
    }
    if !apps.knows_people_at(&name, &web.app.settings.server) {
        let detail = format!(
            "people cannot be signed in at {name}: set forward_auth.cookie_domain to the parent domain that it shares with lokid"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(url)
}

impl Web {
    /// Takes the cookie of other apps away, where there is one.
    pub(super) fn door_cookie_removal(&self) -> Option<Cookie<'static>> {
        let mut cookie = self.door_cookie(String::new(), self.app.settings.apps.cookie_domain.as_deref()?);
        cookie.make_removal();
        Some(cookie)
    }

    /// The cookie by which other apps of the parent domain know a person. Good for `/auth/verify` only.
    fn door_cookie(&self, secret: String, domain: &str) -> Cookie<'static> {
        Cookie::build(self.door_cookie_name(), secret)
            .domain(domain.to_owned())
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .finish()
    }
}

/// An assertion, for whoever carries it to an app themselves.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct AssertionView {
    /// The compact JWS, with `typ` `loki-assertion+jwt`.
    assertion: String,
    /// The app that it is for.
    audience: String,
    /// When it ends (RFC 3339).
    expires_at: String,
}

/// A signed statement of who the caller is, for one app.
#[utoipa::path(get, path = "/auth/assertion", tag = "verifiers", params(("app" = String, Query, description = "The app's host")),
    responses((status = 200, body = AssertionView), (status = 401), (status = 403), (status = 404)))]
pub(super) async fn fetch(web: Data<Web>, caller: Caller<Known>, req: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::read(req.query_string(), &["app"])?;
    let host = query.text("app").ok_or_else(|| Problem::invalid("app", "expected the host of an app"))?;
    let (of, who) = (assertion::app_of(&web.app, &caller, host)?, caller.shared());
    let kept = assertion::assert(&web.app, &web.passes, &who, of, |made| Pass::of(of, Some(&who), &made.jws));
    let made = &kept.assertion;
    let view =
        AssertionView { assertion: made.jws.clone(), audience: of.host.clone(), expires_at: made.expires_at.rfc3339() };
    Ok(HttpResponse::Ok().json(view))
}
