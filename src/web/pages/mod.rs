//! Server-rendered pages. Each works without JavaScript; nothing is inline, so the policy can forbid it.

pub(super) mod account;
pub(super) mod audit;
mod audit_chart;
pub(super) mod audit_entry;
pub(super) mod certificates;
mod chart;
pub(super) mod error;
pub(super) mod explain;
pub(super) mod keys;
pub(super) mod login;
pub(super) mod logout;
mod nodes;
pub(super) mod overview;
pub(super) mod people;
pub(super) mod review;
pub(super) mod runs;
pub(super) mod tasks;
pub(super) mod tokens;

use std::sync::Arc;

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_SECURITY_POLICY, HeaderValue},
    },
};
use askama::Template;
use url::Url;

use super::{Web, assets, csrf, problem::Problem};
use crate::{
    authn::session::KnownSession,
    domain::{identity::Identity, scope::Scope, time::Moment},
};

/// What every page shows around its content.
pub(super) struct Shell {
    /// The page's own title.
    title: String,
    /// The link of the navigation that leads here.
    active: &'static str,
    /// Who is signed in.
    who: Option<Who>,
    /// The version of the static files.
    version: &'static str,
    /// Reload after so many seconds, when the page follows something.
    reload: Option<u32>,
}

struct Who {
    name: String,
    role: String,
    /// The token of this session's forms; empty without a session.
    csrf: String,
    links: Vec<(&'static str, &'static str)>,
}

impl Shell {
    /// For somebody who is known.
    fn of(web: &Web, req: &HttpRequest, who: &Identity, title: &str, active: &'static str) -> Self {
        let session = known_session(req);
        let mut links = vec![];
        if who.scopes.allows(Scope::Read) {
            links.push(("/", "Overview"));
            links.push(("/runs", "Runs"));
            links.push(("/tasks", "Tasks"));
        }
        if session.is_some() {
            links.push(("/tokens", "Tokens"));
        }
        if who.scopes.allows(Scope::Audit) {
            links.push(("/audit", "Audit"));
            links.push(("/review", "Review"));
        }
        if who.scopes.allows(Scope::All) {
            links.push(("/people", "People"));
            links.push(("/keys", "Keys"));
            links.push(("/certificates", "Certificates"));
            if !web.app.settings.auth.issuers.is_empty() {
                links.push(("/explain-token", "Explain"));
            }
        }
        if session.is_some() {
            links.push(("/account", "Account"));
        }
        let shown = Who {
            name: who.actor.name.clone(),
            role: who.role.clone().unwrap_or_default(),
            csrf: session.map(|s| csrf::token(web, &s.session)).unwrap_or_default(),
            links,
        };
        Self { who: Some(shown), ..Self::for_anybody(title, active) }
    }

    /// For whoever comes.
    fn for_anybody(title: &str, active: &'static str) -> Self {
        Self { title: title.to_owned(), active, who: None, version: &assets::VERSION, reload: None }
    }

    /// Whether the navigation of who is signed in leads there.
    fn leads_to(&self, path: &str) -> bool {
        self.who.as_ref().is_some_and(|who| who.links.iter().any(|(to, _)| *to == path))
    }

    fn csrf(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.csrf)
    }
}

/// The session that the permit was given for.
fn known_session(req: &HttpRequest) -> Option<Arc<KnownSession>> {
    req.extensions().get::<Arc<KnownSession>>().cloned()
}

/// The CSRF token that a form of this session must carry.
fn form_token(web: &Web, req: &HttpRequest) -> Result<String, Problem> {
    let session = known_session(req).ok_or_else(Problem::unauthenticated)?;
    Ok(csrf::token(web, &session.session))
}

/// A page as an answer.
fn html<T: Template>(web: &Web, status: StatusCode, page: &T) -> Result<HttpResponse, Problem> {
    let text = page.render().map_err(|e| {
        tracing::error!(error = %e, "a page could not be rendered");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made")
    })?;
    let mut answer = HttpResponse::build(status);
    answer.content_type("text/html; charset=utf-8").insert_header((CONTENT_SECURITY_POLICY, csp(web)));
    Ok(answer.body(text))
}

/// The policy of pages. A sign-out's form is answered by a redirect to the provider, so its origin is
/// among those that forms may lead to.
pub(super) fn csp(web: &Web) -> HeaderValue {
    let origin = |issuer: &str| Url::parse(issuer).ok().map(|url| url.origin().ascii_serialization());
    let providers: Vec<String> =
        web.app.providers.iter().flat_map(|p| p.origins()).filter_map(|o| origin(&o)).collect();
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
        providers.join(" ")
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Where to sign in, and come back to the page that was asked for.
pub(super) fn login_path(req: &HttpRequest) -> String {
    let asked = req.uri().path_and_query().map_or("/", |p| p.as_str());
    if asked == "/" || !req.method().is_safe() || asked.len() > 1024 {
        return "/login".into();
    }
    format!("/login?{}", url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", asked).finish())
}

/// A moment as pages show it: machine-readable, and in words of the same length everywhere.
pub(super) struct When {
    /// RFC 3339.
    machine: String,
    /// `2026-11-22 19:05:00`, UTC.
    people: String,
}

impl From<Moment> for When {
    fn from(moment: Moment) -> Self {
        Self { machine: moment.rfc3339(), people: moment.for_people() }
    }
}

/// A session in a list.
pub(super) struct SessionView {
    id: String,
    provider: String,
    role: String,
    began: When,
    seen: When,
    ip: String,
    browser: String,
    current: bool,
}

impl SessionView {
    fn of(found: &crate::store::sessions::SessionOfPerson, current: Option<&str>) -> Self {
        let s = &found.session;
        Self {
            id: s.id.to_string(),
            provider: s.provider.clone(),
            role: s.role.clone(),
            began: s.signed_in_at.into(),
            seen: s.last_seen_at.into(),
            ip: s.ip.clone().unwrap_or_default(),
            browser: browser(s.user_agent.as_deref().unwrap_or_default()),
            current: current == Some(s.id.as_str()),
        }
    }
}

/// `Firefox on Linux`, or the beginning of what the browser calls itself.
fn browser(user_agent: &str) -> String {
    let first =
        |table: &[(&str, &'static str)]| table.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, n)| *n);
    let name = first(&[("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari")]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        _ => user_agent.chars().take(40).collect(),
    }
}
