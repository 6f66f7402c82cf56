//! Apps behind the same door, and the domain that they share with lokid.

use super::{
    server::{Server, is_loopback_host},
    values::Place,
};
use crate::domain::{
    path::Subtree,
    protected::{AccessRule, Dialect, ProtectedApp},
    role::Roles,
};

/// What reverse proxies ask about.
#[derive(Debug, Clone, Default)]
pub struct Apps {
    /// Every app, with hosts that differ.
    pub apps: Vec<ProtectedApp>,
    /// The parent domain of lokid and the apps, in lower case, if they share their sign-in.
    pub cookie_domain: Option<String>,
}

impl Apps {
    /// The app at this host.
    pub fn at(&self, host: &str) -> Option<&ProtectedApp> {
        let exact = self.apps.iter().find(|app| app.host.eq_ignore_ascii_case(host));
        exact.or_else(|| self.apps.iter().find(|app| app.is_at(host)))
    }
}

impl Apps {
    /// Whether people who are signed in at lokid can be known at `name`, a host without a port.
    pub fn knows_people_at(&self, name: &str, server: &Server) -> bool {
        let is_own = server.public_url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(name));
        is_own || self.cookie_domain.as_deref().is_some_and(|domain| is_below(name, domain))
    }

    /// What works for tokens only.
    pub(super) fn warnings(&self, server: &Server) -> impl Iterator<Item = String> {
        let name = |app: &ProtectedApp| app.host.split(':').next().unwrap_or_default().to_owned();
        let unknown = self.apps.iter().filter(move |app| !self.knows_people_at(&name(app), server));
        unknown.map(|app| {
            let works = if app.deny_static_tokens { "and it refuses tokens: nobody gets in" } else { "only tokens work there" };
            format!(
                "forward_auth: people cannot be signed in at {}, {works}; set forward_auth.cookie_domain to the parent domain \
                 that it shares with server.public_url",
                app.host
            )
        })
    }
}

/// Whether a host is the domain or lies below it.
fn is_below(name: &str, domain: &str) -> bool {
    name.to_ascii_lowercase().strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

pub(super) fn read(place: Place<'_>, server: &Server, roles: &Roles) -> Apps {
    let mut apps: Vec<ProtectedApp> = Vec::new();
    for entry in place.entries("forward_auth.apps", "forward_auth.apps[]") {
        let app = read_app(entry, roles);
        if apps.iter().any(|known| known.host == app.host) {
            entry.fault("host", format!("{:?} is listed twice", app.host));
        }
        if app.host == server.authority() {
            entry.fault("host", format!("{:?} is lokid's own address (server.public_url)", app.host));
        }
        let mixed =
            |known: &&ProtectedApp| known.host != app.host && (known.is_at(&app.host) || app.is_at(&known.host));
        if let Some(other) = apps.iter().find(mixed) {
            // A proxy that does not look at the port would let one pass by the other's rules.
            let message =
                format!("{:?} and {:?} overlap: list a name either with its ports or without", app.host, other.host);
            entry.fault("host", message);
        }
        apps.push(app);
    }
    if !apps.is_empty() && server.trusted_proxies.is_empty() {
        place.fault(
            "server.trusted_proxies",
            "must name the reverse proxy that asks at /auth/verify; nobody else's word about a request is believed",
        );
    }
    Apps { cookie_domain: read_domain(place, server), apps }
}

fn read_domain(place: Place<'_>, server: &Server) -> Option<String> {
    const KEY: &str = "forward_auth.cookie_domain";
    let domain = place.text(KEY)?.trim_start_matches('.').to_ascii_lowercase();
    let public = server.public_url.host_str().unwrap_or_default().to_ascii_lowercase();
    if !domain.contains('.') && !is_loopback_host(&domain) {
        place.fault(KEY, format!("{domain:?} is not a domain of yours; expected one such as example.com"));
    } else if !is_below(&public, &domain) {
        place.fault(KEY, format!("server.public_url ({public}) does not lie below {domain}"));
    }
    Some(domain)
}

fn read_app(place: Place<'_>, roles: &Roles) -> ProtectedApp {
    let host = place.required("host").to_ascii_lowercase();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_' | '[' | ']');
    if !host.is_empty() && (!host.chars().all(sound) || host.ends_with(['.', ':'])) {
        place.fault("host", format!("{host:?} is not a host name, with a port where it needs one"));
    }
    let rules: Vec<AccessRule> = place
        .entries("rules", "forward_auth.apps[].rules[]")
        .into_iter()
        .map(|entry| read_rule(entry, roles))
        .collect();
    if rules.is_empty() {
        place.fault("rules", "must have at least one rule; without one nobody passes");
    }
    check_reach(place, &rules);
    let public: Vec<Subtree> = place.list("public").iter().filter_map(|text| subtree(place, "public", text)).collect();
    if public.iter().any(|path| path.depth() == 0) {
        place.fault("public", "\"/\" would open the whole app; take it out of forward_auth instead");
    }
    if let Some(both) = public.iter().find(|path| rules.iter().any(|rule| rule.path == **path)) {
        place.fault("public", format!("{:?} is public and has a rule; which of them is meant?", both.as_str()));
    }
    ProtectedApp {
        host,
        public,
        methods: methods(place),
        deny_static_tokens: place.flag("deny_static_tokens"),
        dialect: if place.text("headers").as_deref() == Some("remote") {
            Dialect::Remote
        } else {
            Dialect::AuthRequest
        },
        rules,
    }
}

fn read_rule(place: Place<'_>, roles: &Roles) -> AccessRule {
    let path = place.text("path").and_then(|text| subtree(place, "path", &text));
    let rule = AccessRule {
        path: path.unwrap_or_else(|| Subtree::read("/").expect("the root is a path")),
        methods: methods(place),
        scope: place.text("scope").and_then(|text| text.parse().ok()),
        roles: place.list("roles"),
        groups: place.list("groups"),
        people: place.list("people"),
    };
    if rule.scope.is_none() && rule.roles.is_empty() && rule.groups.is_empty() && rule.people.is_empty() {
        place.fault("path", "the rule does not say who may pass; add scope, roles, groups or people");
    }
    if let Some(unknown) = rule.roles.iter().find(|role| roles.scopes_of(role).is_none()) {
        place.fault("roles", format!("there is no role {unknown:?}; there are {}", roles.listing()));
    }
    rule
}

/// A rule that an earlier one leaves nothing to is a mistake, and a dangerous one.
fn check_reach(place: Place<'_>, rules: &[AccessRule]) {
    for (at, rule) in rules.iter().enumerate() {
        let takes_all = |earlier: &AccessRule| {
            let methods = earlier.methods.is_empty()
                || (!rule.methods.is_empty() && rule.methods.iter().all(|m| earlier.methods.contains(m)));
            methods && earlier.path.covers(&rule.path)
        };
        // Of a path inside another one's, also a part that the outer rule takes first is a hole.
        let takes_some = |earlier: &AccessRule| {
            let methods = earlier.methods.is_empty()
                || rule.methods.is_empty()
                || rule.methods.iter().any(|m| earlier.methods.contains(m));
            methods && earlier.path.covers(&rule.path) && earlier.path != rule.path
        };
        if let Some(first) = rules[..at].iter().position(|earlier| !takes_all(earlier) && takes_some(earlier)) {
            let (first, at) = (first + 1, at + 1);
            let message =
                format!("rule {first} takes a part of rule {at}, whose path lies inside its own; put rule {at} first");
            place.fault("rules", message);
        }
        if let Some(first) = rules[..at].iter().position(takes_all) {
            let (first, at) = (first + 1, at + 1);
            place.fault(
                "rules",
                format!("rule {at} is never reached: rule {first} takes all of it; put rule {at} first"),
            );
        }
    }
}

fn subtree(place: Place<'_>, key: &str, text: &str) -> Option<Subtree> {
    Subtree::read(text).map_err(|e| place.fault(key, format!("{text:?}: {e}"))).ok()
}

fn methods(place: Place<'_>) -> Vec<String> {
    let methods = place.list("methods");
    let sound = |m: &String| !m.is_empty() && m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if let Some(wrong) = methods.iter().find(|m| !sound(m)) {
        place.fault("methods", format!("{wrong:?} is not a method; expected such as GET or POST"));
    }
    methods
}
