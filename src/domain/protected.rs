//! Apps behind the same door: which of them there are, and who may go where in each.
//!
//! The first rule whose path and method fit decides, alone; where none fits, nobody passes. What a rule
//! names of different kinds (scope, roles, groups, people) must all hold; within a list one is enough.

use std::fmt;

use super::{
    identity::{Credential, Identity},
    path::{PlainPath, Subtree},
    scope::Scope,
};

/// An app that a reverse proxy asks us about.
#[derive(Debug, Clone)]
pub struct ProtectedApp {
    /// Its host in lower case, with a port only if it was configured with one.
    pub host: String,
    /// What is open to everybody, without headers about anybody.
    pub public: Vec<Subtree>,
    /// Methods that pass at all; empty: every one.
    pub methods: Vec<String>,
    /// Whether `loki_` tokens and pre-shared keys, which live long, are refused.
    pub deny_static_tokens: bool,
    /// Names of the headers that say who is asking.
    pub dialect: Dialect,
    /// Who may go where.
    pub rules: Vec<AccessRule>,
}

/// Names of identity headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `X-Auth-Request-User`, `-Email`, `-Groups`, `-Preferred-Username`.
    AuthRequest,
    /// `Remote-User`, `-Email`, `-Groups`, `-Name`.
    Remote,
}

/// Who may go to a part of an app.
#[derive(Debug, Clone)]
pub struct AccessRule {
    /// Where it applies.
    pub path: Subtree,
    /// For which methods; empty: every one.
    pub methods: Vec<String>,
    /// A scope that is needed.
    pub scope: Option<Scope>,
    /// One of these roles is needed.
    pub roles: Vec<String>,
    /// One of these groups is needed.
    pub groups: Vec<String>,
    /// One of these people: a verified e-mail address or a public id.
    pub people: Vec<String>,
}

/// What is decided before anybody is asked who they are.
#[derive(Debug)]
pub enum Way<'a> {
    /// Open to everybody.
    Public,
    /// For those whom this rule admits; its number from 1.
    Ruled(usize, &'a AccessRule),
}

/// Why nobody, or not this caller, may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWay {
    /// The app does not take the method.
    Method,
    /// No rule fits the path and method.
    NoRule,
    /// A rule fits, and this is what the caller lacks.
    Lacking {
        /// The rule's number, from 1.
        rule: usize,
        /// What it asks for.
        needs: String,
    },
    /// The app takes no `loki_` tokens and no pre-shared keys.
    StaticToken,
}

impl NoWay {
    /// A stable word for the audit log.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::NoRule => "no_rule",
            Self::Lacking { .. } => "rule_not_met",
            Self::StaticToken => "static_token",
        }
    }
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("the app does not take this method"),
            Self::NoRule => f.write_str("no rule of the app fits this address, so nobody passes"),
            Self::Lacking { rule, needs } => write!(f, "rule {rule} asks for {needs}"),
            Self::StaticToken => f.write_str("the app takes no loki_ tokens and no pre-shared keys, which live long"),
        }
    }
}

impl ProtectedApp {
    /// Whether requests for `host` (with or without its port) are for this app.
    pub fn is_at(&self, host: &str) -> bool {
        let without_port = || match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        self.host.eq_ignore_ascii_case(host) || self.host.eq_ignore_ascii_case(without_port())
    }

    /// What stands in a request's way, before the caller is known.
    ///
    /// # Errors
    /// [`NoWay`] when nobody may pass.
    pub fn way(&self, method: &str, path: &PlainPath) -> Result<Way<'_>, NoWay> {
        if !takes(&self.methods, method) {
            return Err(NoWay::Method);
        }
        // Something protected inside something public stays protected, whatever the order and the method.
        let public = self.public.iter().filter(|p| p.holds_exactly(path)).map(Subtree::depth).max();
        let ruled = self.rules.iter().filter(|rule| rule.path.holds(path)).map(|rule| rule.path.depth()).max();
        if public.is_some() && public > ruled {
            return Ok(Way::Public);
        }
        let fits = |rule: &AccessRule| takes(&rule.methods, method) && rule.path.holds(path);
        let found = self.rules.iter().enumerate().find(|(_, rule)| fits(rule));
        found.map(|(at, rule)| Way::Ruled(at + 1, rule)).ok_or(NoWay::NoRule)
    }

    /// Whether the caller may pass a rule.
    ///
    /// # Errors
    /// [`NoWay`] says what is missing.
    pub fn admits(&self, number: usize, rule: &AccessRule, who: &Identity) -> Result<(), NoWay> {
        if self.deny_static_tokens && matches!(who.credential, Credential::Token(_) | Credential::PresharedKey(_)) {
            return Err(NoWay::StaticToken);
        }
        if rule.admits(who) { Ok(()) } else { Err(NoWay::Lacking { rule: number, needs: rule.to_string() }) }
    }

    /// Whether the caller may pass any rule at all, which makes the app one of theirs.
    pub fn is_open_to(&self, who: &Identity) -> bool {
        self.rules.iter().enumerate().any(|(at, rule)| self.admits(at + 1, rule, who).is_ok())
    }
}

fn takes(methods: &[String], method: &str) -> bool {
    methods.is_empty() || methods.iter().any(|m| m == method)
}

impl AccessRule {
    fn admits(&self, who: &Identity) -> bool {
        let one_of = |wanted: &[String], has: &dyn Fn(&str) -> bool| wanted.is_empty() || wanted.iter().any(|w| has(w));
        self.scope.is_none_or(|scope| who.scopes.allows(scope))
            && one_of(&self.roles, &|role| who.role.as_deref() == Some(role))
            && one_of(&self.groups, &|group| who.groups.iter().any(|g| g == group))
            && one_of(&self.people, &|person| {
                who.actor.id == person || who.verified_email().is_some_and(|email| email.eq_ignore_ascii_case(person))
            })
    }
}

/// What it asks for.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |kind: &str, items: &[String]| (!items.is_empty()).then(|| format!("{kind} {}", items.join(" or ")));
        let parts = [
            self.scope.map(|scope| format!("scope {}", scope.as_str())),
            list("role", &self.roles),
            list("group", &self.groups),
            list("person", &self.people),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::scope::ScopeSet;

    fn rule(path: &str) -> AccessRule {
        AccessRule {
            path: Subtree::read(path).unwrap(),
            methods: vec![],
            scope: Some(Scope::Read),
            roles: vec![],
            groups: vec![],
            people: vec![],
        }
    }

    fn app(public: &[&str], rules: Vec<AccessRule>) -> ProtectedApp {
        ProtectedApp {
            host: "app.example".into(),
            public: public.iter().map(|p| Subtree::read(p).unwrap()).collect(),
            methods: vec![],
            deny_static_tokens: false,
            dialect: Dialect::AuthRequest,
            rules,
        }
    }

    fn way(app: &ProtectedApp, method: &str, path: &str) -> String {
        match app.way(method, &PlainPath::read(path).unwrap()) {
            Ok(Way::Public) => "public".into(),
            Ok(Way::Ruled(at, _)) => format!("rule {at}"),
            Err(e) => e.reason().into(),
        }
    }

    #[test]
    fn the_first_fitting_rule_decides_and_without_one_nobody_passes() {
        let mut only_get = rule("/admin");
        only_get.methods = vec!["GET".into()];
        let app = app(&["/healthz", "/static"], vec![only_get, rule("/admin"), rule("/app"), rule("/static/secret")]);
        assert_eq!(way(&app, "GET", "/admin/x"), "rule 1");
        assert_eq!(way(&app, "POST", "/ADMIN"), "rule 2");
        assert_eq!(way(&app, "GET", "/app"), "rule 3");
        assert_eq!(way(&app, "GET", "/elsewhere"), "no_rule");
        assert_eq!(way(&app, "GET", "/static/app.css"), "public");
        assert_eq!(way(&app, "GET", "/static/Secret/x"), "rule 4");
        assert_eq!(way(&app, "GET", "/Static/app.css"), "no_rule");
        assert_eq!(way(&app, "GET", "/healthzz"), "no_rule");
    }

    #[test]
    fn a_method_that_the_app_does_not_take_stops_before_everything() {
        let mut app = app(&["/healthz"], vec![rule("/")]);
        app.methods = vec!["GET".into(), "HEAD".into()];
        assert_eq!(way(&app, "OPTIONS", "/healthz"), "method_not_allowed");
        assert_eq!(way(&app, "get", "/healthz"), "method_not_allowed");
        assert_eq!(way(&app, "HEAD", "/healthz"), "public");
    }

    #[test]
    fn every_kind_that_a_rule_names_must_hold() {
        let mut who = Identity::at_the_terminal("ann");
        who.scopes = ScopeSet::of(&[Scope::Read]);
        who.role = Some("viewer".into());
        who.groups = vec!["dev".into()];
        who.email = Some("Ann@example.com".into());
        let who = |change: &dyn Fn(&mut Identity)| {
            let mut who = who.clone();
            change(&mut who);
            Arc::new(who)
        };
        let mut wanted = rule("/");
        wanted.groups = vec!["ops".into(), "dev".into()];
        wanted.people = vec!["ann@example.com".into()];
        let app = app(&[], vec![wanted]);
        let admits = |who: Arc<Identity>| app.admits(1, &app.rules[0], &who);
        assert!(admits(who(&|w| w.email_verified = true)).is_ok());
        let refused = admits(who(&|_| {})).unwrap_err();
        assert_eq!(refused.to_string(), "rule 1 asks for scope read and group ops or dev and person ann@example.com");
        assert!(
            admits(who(&|w| {
                w.email_verified = true;
                w.groups.clear();
            }))
            .is_err()
        );
        assert!(
            admits(who(&|w| {
                w.email_verified = true;
                w.scopes = ScopeSet::EMPTY;
            }))
            .is_err()
        );
    }

    #[test]
    fn a_host_fits_with_and_without_its_port_and_in_any_case() {
        let app = app(&[], vec![]);
        for host in ["app.example", "APP.example:8443", "app.example:443"] {
            assert!(app.is_at(host), "{host}");
        }
        for host in ["app.example.", "app.example.evil", "evil-app.example", "app.example:x", "app.example:", ""] {
            assert!(!app.is_at(host), "{host}");
        }
    }
}
