//! What every request passes: an id, the true client, the host check, a limit for those who show no
//! credential, protection from a panicking handler, security headers, and the answer to every error.

use std::{
    borrow::Cow,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use actix_web::{
    Error, HttpMessage as _, HttpResponse, ResponseError as _,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, LOCATION},
    },
    middleware::Next,
    web::{Bytes, Data},
};
use futures_util::FutureExt as _;

use super::{
    Web, client,
    client::{Client, NOBODY, RequestId},
    cookies::Shown,
    extract, forward, pages,
    peer::Peer,
    problem::Problem,
    refusals, routes,
};
use crate::{
    domain::{event::Actor, screen},
    telemetry::requests::Answered,
};

/// For everything that is not a page: nothing may be loaded, framed or run.
const STRICT_CSP: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Checked when this is compiled: a value made at run time is looked through byte by byte.
const fn fixed(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

const EVERY_ANSWER: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
    (header::X_FRAME_OPTIONS, fixed("DENY")),
    (header::REFERRER_POLICY, fixed("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
    (RESOURCE_POLICY, fixed("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        fixed("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CROSS_ORIGIN: HeaderValue = fixed("cross-origin");
const STRICT: HeaderValue = fixed(STRICT_CSP);
const NO_STORE: HeaderValue = fixed("no-store");
const A_YEAR: HeaderValue = fixed("max-age=31536000");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most that all names and values of a request's headers may have.
const MOST_HEADER_BYTES: usize = 32 * 1024;

/// Requests since the start, for ids.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The front.
pub(super) async fn front<B: MessageBody + 'static>(
    web: Data<Web>,
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let began = Instant::now();
    let fits = fits(&req);
    let has_cookies = fits.is_ok() && req.headers().contains_key(header::COOKIE);
    let client = Client {
        request_id: new_id(web.app.started_at.millis()),
        ip: client::true_ip(req.head(), &web.app.settings.server.trusted_proxies),
        cookies: if has_cookies { web.keep_own_cookies(req.headers_mut()) } else { Shown::default() },
        began,
        credential: NOBODY,
    };
    req.extensions_mut().insert(client);
    if let Err(mut problem) = fits.and_then(|()| admit(&web, &req, &client)) {
        let (req, _) = req.into_parts();
        problem.status = forward::status_for(&req, problem.status);
        let answer = render(&web, &req, &client, &problem);
        return Ok(finish(&web, ServiceResponse::new(req, answer).map_into_right_body(), &client));
    }
    let method = req.method().clone();
    // The router needs the request to itself, so nothing of it can be kept here for a panic's answer.
    let answered = AssertUnwindSafe(next.call(req)).catch_unwind().await;
    let problem = match answered {
        Ok(Ok(answer)) => {
            let problem = answer.response().extensions().get::<Problem>().cloned();
            let Some(problem) = problem else { return Ok(finish(&web, as_shown(answer), &client)) };
            let request = answer.request().clone();
            let answer = render(&web, &request, &client, &problem);
            return Ok(finish(&web, ServiceResponse::new(request, answer).map_into_right_body(), &client));
        }
        Ok(Err(e)) => of_actix(&e),
        Err(_) => {
            tracing::error!(request_id = &*client.request_id, "a handler panicked");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, BROKEN)
        }
    };
    let mut answer = json_answer(&problem, &client);
    seal_headers(&web, answer.headers_mut(), &client);
    count(&web, usize::MAX, &method, problem.status, &client);
    Err(actix_web::error::InternalError::from_response(problem, answer).into())
}

const BROKEN: &str = "something went wrong here; the log has the request's id";

/// Sixteen hexadecimal digits: unique within a node, and telling nothing.
fn new_id(seed: i64) -> RequestId {
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    // The finaliser of SplitMix64: a bijection, so ids do not repeat.
    let mut z = n.wrapping_add(seed.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    RequestId::of(z ^ (z >> 31))
}

/// Whether the headers are short enough to be read. actix-web's own limit is 128 KiB and cannot be set.
fn fits(req: &ServiceRequest) -> Result<(), Problem> {
    let length: usize = req.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if length > MOST_HEADER_BYTES {
        let detail = format!("the headers of a request have at most {MOST_HEADER_BYTES} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail));
    }
    Ok(())
}

/// Whether the request gets any further.
fn admit(web: &Web, req: &ServiceRequest, client: &Client) -> Result<(), Problem> {
    // Probes come with whatever address they know; these two tell nothing and change nothing.
    let is_probe = is_probe(req);
    if !is_probe && !forward::is_asked_about_others(req.uri().path()) {
        is_for_us(web, req)?;
    }
    if !shows_credential(req.request()) && !is_probe {
        let key = web.limits.key_of_ip(client.ip);
        web.limits.peer.check(key).map_err(|e| refusals::too_fast(web, req.request(), &Actor::anonymous(), e))?;
    }
    Ok(())
}

/// Whether the request names one of our own hosts, once.
fn is_for_us(web: &Web, req: &ServiceRequest) -> Result<(), Problem> {
    let mut hosts = req.headers().get_all(header::HOST);
    let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or_default();
    let same_authority = req.uri().authority().is_none_or(|a| web.knows_host(a.as_str()));
    if hosts.next().is_some() || !web.knows_host(host) || !same_authority {
        let shown = screen::harmless(host, 100);
        let detail = format!("this server is not called {shown:?}; add it to server.allowed_hosts if it should be");
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    Ok(())
}

fn is_probe(req: &ServiceRequest) -> bool {
    matches!(req.uri().path(), "/healthz" | "/readyz" | "/health" | "/live" | "/ready")
}

/// Around doors that look at no credential: one that is shown there is no way around the limit that
/// [`admit`] applies to those who show none.
pub(super) async fn count_peer<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let web = extract::shared(req.request());
    if shows_credential(req.request()) && !is_probe(&req) {
        let key = web.limits.key_of_ip(Client::of(req.request()).ip);
        if let Err(e) = web.limits.peer.check(key) {
            let problem = refusals::too_fast(&web, req.request(), &Actor::anonymous(), e);
            return Ok(req.into_response(problem.error_response()).map_into_right_body());
        }
    }
    next.call(req).await.map(ServiceResponse::map_into_left_body)
}

/// Whether a request carries something that looks like a credential of ours, good or not.
pub(super) fn shows_credential(req: &actix_web::HttpRequest) -> bool {
    req.headers().contains_key(AUTHORIZATION)
        || Web::has_session_cookie(req)
        || Web::has_door_cookie(req)
        || Peer::known(req).is_some()
}

/// Errors that actix-web itself makes (a path that cannot be decoded, a broken request).
fn of_actix(e: &Error) -> Problem {
    let status = e.as_response_error().status_code();
    match e.as_error::<Problem>() {
        Some(problem) => problem.clone(),
        None if status.is_client_error() => Problem::new(status, "the request cannot be read"),
        None => {
            tracing::error!(error = %e, "a request failed");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, BROKEN)
        }
    }
}

/// A problem as the one who asked can read it.
fn render(web: &Web, req: &actix_web::HttpRequest, client: &Client, problem: &Problem) -> HttpResponse {
    let wants_page = wants_page(req);
    if wants_page && problem.status == StatusCode::UNAUTHORIZED && problem.sign_in_helps {
        return HttpResponse::SeeOther().insert_header((LOCATION, pages::login_path(req))).finish();
    }
    if wants_page && problem.fresh_sign_in {
        return pages::error::fresh_sign_in(web, req);
    }
    if wants_page {
        let mut answer = problem.error_response();
        let page = pages::error::page(web, problem, &client.request_id);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, pages::csp(web));
        return answer.set_body(screen::page(&page).into_owned()).map_into_boxed_body();
    }
    json_answer(problem, client)
}

/// A page without what a screen acts on. Here, because every template shows something that somebody else wrote.
fn as_shown<B: MessageBody + 'static>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        return answer.map_into_left_body();
    }
    answer.map_body(|_, body| match body.try_into_bytes() {
        Ok(page) => EitherBody::right(BoxBody::new(match std::str::from_utf8(&page).map(screen::page) {
            Ok(Cow::Owned(shown)) => Bytes::from(shown),
            _ => page,
        })),
        Err(body) => EitherBody::left(body),
    })
}

fn json_answer(problem: &Problem, client: &Client) -> HttpResponse {
    let mut answer = problem.error_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    answer.set_body(problem.json(&client.request_id)).map_into_boxed_body()
}

/// A browser that navigates, without a credential of automation, outside the API.
fn wants_page(req: &actix_web::HttpRequest) -> bool {
    let accepts_html =
        req.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"));
    let is_api = req.match_pattern().is_some_and(|p| p.starts_with("/api/"));
    accepts_html && !is_api && !req.headers().contains_key(AUTHORIZATION)
}

fn finish<B: MessageBody>(web: &Web, mut answer: ServiceResponse<B>, client: &Client) -> ServiceResponse<B> {
    seal_headers(web, answer.headers_mut(), client);
    let (req, status) = (answer.request(), answer.status());
    count(web, routes::number_of(req), req.method(), status, &Client::of(req));
    tracing::debug!(
        request_id = &*client.request_id,
        ip = %client.ip,
        route = answer.request().match_pattern().unwrap_or_default(),
        method = %answer.request().method(),
        status = answer.status().as_u16(),
        "answered"
    );
    answer
}

fn count(web: &Web, route: usize, method: &Method, status: StatusCode, client: &Client) {
    web.requests.count(&Answered {
        route,
        method: method.as_str(),
        status: status.as_u16(),
        credential: client.credential,
        took: client.began.elapsed(),
    });
}

/// The headers that no answer goes without.
fn seal_headers(web: &Web, headers: &mut header::HeaderMap, client: &Client) {
    let for_anybody = headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.reserve(EVERY_ANSWER.len() + 4);
    for (name, value) in EVERY_ANSWER {
        headers.insert(name, value);
    }
    if for_anybody {
        headers.insert(RESOURCE_POLICY, CROSS_ORIGIN);
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, STRICT);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
    }
    if web.https_only {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR);
    }
    if let Ok(id) = HeaderValue::from_str(&client.request_id) {
        headers.insert(REQUEST_ID, id);
    }
}
