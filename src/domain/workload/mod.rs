//! What a signed token of a configured issuer may do here: rules over its claims, tried in order; the first that
//! holds decides, and without one nobody gets in. Values are compared whole, never searched for a part.

mod condition;
pub mod preset;

use std::{sync::Arc, time::Duration};

use serde_json::Value;

pub use condition::{Condition, Test, near_miss};
pub use preset::Preset;

use super::{
    claim::{ClaimPath, Claims},
    dns::DomainPattern,
    scope::ScopeSet,
    screen,
};

/// What holds for every token of one issuer.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What is known of this kind of issuer.
    pub preset: Option<Preset>,
    /// Where the issuer writes what a token was given (its own scopes or roles).
    pub scopes_claim: ClaimPath,
    /// All of these must be there, whatever rule holds.
    pub required_scopes: Vec<String>,
    /// Tried in this order.
    pub rules: Vec<Rule>,
    /// GitHub Actions: also jobs that ran for `pull_request_target`, which anybody can set off.
    pub allow_pull_request_target: bool,
}

/// One way in.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the audit log calls it.
    pub name: String,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
    /// All of these must be among the token's own scopes.
    pub required_scopes: Vec<String>,
    /// The role that it gives, if it was named by one.
    pub role: Option<String>,
    /// What it gives.
    pub scopes: ScopeSet,
    /// How long a `loki_` token lives for which such a token is exchanged.
    pub exchange_life: Duration,
    /// For which domains it gives certificates.
    pub domains: Domains,
}

/// For which domains a rule gives certificates.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    /// These; with a claim, the most that it may name.
    pub patterns: Arc<[DomainPattern]>,
    /// Those that this claim of the token names: a text or an array of them.
    pub claim: Option<ClaimPath>,
}

impl Domains {
    /// What a token gets. A name in its claim that is no domain, is `*`, or goes beyond the rule's patterns, counts
    /// for nothing.
    pub fn of(&self, claims: &Claims) -> Arc<[DomainPattern]> {
        let Some(claim) = &self.claim else { return Arc::clone(&self.patterns) };
        let named: Vec<&str> = match claim.find(claims) {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).take(MOST_DOMAINS).collect(),
            _ => Vec::new(),
        };
        let is_within =
            |named: &DomainPattern| self.patterns.is_empty() || self.patterns.iter().any(|own| own.covers(named));
        let patterns = named.into_iter().filter_map(|name| name.parse().ok());
        patterns.filter(|named| *named != DomainPattern::Any).filter(is_within).collect()
    }
}

/// Of a longer claim the rest counts for nothing.
const MOST_DOMAINS: usize = 100;

/// Why a token whose signature and times are right does not get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotGranted {
    /// The preset refuses it, whatever the rules say.
    Preset(&'static str),
    /// It lacks these scopes of its issuer.
    Scopes(Vec<String>),
    /// No rule holds.
    NoRule,
}

impl Policy {
    /// The first rule that holds.
    ///
    /// # Errors
    /// [`NotGranted`].
    pub fn decide(&self, claims: &Claims) -> Result<&Rule, NotGranted> {
        if let Some(why) = self.forbidden(claims) {
            return Err(NotGranted::Preset(why));
        }
        let missing = self.missing(&self.required_scopes, claims);
        if !missing.is_empty() {
            return Err(NotGranted::Scopes(missing));
        }
        let mut lacking = None;
        for rule in self.rules.iter().filter(|rule| self.conditions_hold(rule, claims)) {
            let missing = self.missing(&rule.required_scopes, claims);
            if missing.is_empty() {
                return Ok(rule);
            }
            lacking.get_or_insert(missing);
        }
        Err(lacking.map_or(NotGranted::NoRule, NotGranted::Scopes))
    }

    /// What the preset refuses about the token.
    pub fn forbidden(&self, claims: &Claims) -> Option<&'static str> {
        let event = claims.get("event_name").and_then(Value::as_str);
        let pull_request = self.preset == Some(Preset::GithubActions) && event == Some("pull_request_target");
        (pull_request && !self.allow_pull_request_target).then_some(
            "jobs of pull_request_target run with the rights of the base repository for anybody's pull request",
        )
    }

    /// Whether all conditions of a rule hold.
    pub fn conditions_hold(&self, rule: &Rule, claims: &Claims) -> bool {
        rule.conditions.iter().all(|condition| condition.holds(self.preset, claims))
    }

    /// Which of `wanted` the token's own scopes lack.
    pub fn missing(&self, wanted: &[String], claims: &Claims) -> Vec<String> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let held = self.scopes_of(claims);
        wanted.iter().filter(|scope| !held.contains(&scope.as_str())).cloned().collect()
    }

    /// The token's own scopes: an array of texts, or a text of words separated by spaces (RFC 8693 §4.2).
    pub fn scopes_of<'c>(&self, claims: &'c Claims) -> Vec<&'c str> {
        match self.scopes_claim.find(claims) {
            Some(Value::String(text)) => text.split(' ').filter(|word| !word.is_empty()).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What to call the bearer: what the preset knows to be telling, else the subject.
    pub fn name_of(&self, claims: &Claims) -> String {
        let named = self.preset.map_or(&[][..], |preset| preset.traits().called);
        let text = |claim: &&str| ClaimPath::new(claim).find(claims).and_then(Value::as_str);
        let name = named.iter().find_map(text).or_else(|| text(&"sub")).unwrap_or_default();
        screen::harmless(name, 120)
    }

    /// What is worth keeping in the audit log when a token is exchanged: what it was built from, where it is known.
    pub fn provenance(&self, claims: &Claims) -> Vec<(&'static str, String)> {
        let recorded = self.preset.map_or(preset::RECORDED, |preset| preset.traits().recorded);
        let text = |value: &Value| match value {
            Value::String(text) => Some(screen::harmless(text, 200)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let found = |(name, claim): &(&'static str, &str)| Some((*name, text(ClaimPath::new(claim).find(claims)?)?));
        recorded.iter().filter_map(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn rule(name: &str, conditions: Vec<Condition>, required: &[&str]) -> Rule {
        Rule {
            name: name.into(),
            conditions,
            required_scopes: required.iter().map(|s| (*s).to_owned()).collect(),
            role: None,
            scopes: ScopeSet::EMPTY,
            exchange_life: Duration::from_mins(15),
            domains: Domains::default(),
        }
    }

    #[test]
    fn a_claim_names_domains_within_what_the_rule_allows() {
        let of = |patterns: &[&str], claim: Option<&str>, value: Value| {
            let patterns = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let domains = Domains { patterns, claim: claim.map(ClaimPath::new) };
            let found = domains.of(&claims(json!({"domains": value})));
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let claim = Some("domains");
        assert_eq!(of(&["*.a.example", "b.example"], None, json!("c.example")), "*.a.example b.example");
        assert_eq!(of(&[], claim, json!("C.example")), "c.example");
        assert_eq!(
            of(&[], claim, json!(["c.example", "*.d.example", "*", 7, "1.2.3.4", "not a name"])),
            "c.example *.d.example"
        );
        let bound = ["*.a.example", "b.example"];
        assert_eq!(
            of(&bound, claim, json!(["x.a.example", "*.y.a.example", "*.a.example"])),
            "x.a.example *.y.a.example *.a.example"
        );
        assert_eq!(of(&bound, claim, json!(["a.example", "*.example", "*.b.example", "xa.example", "*"])), "");
        assert_eq!(of(&bound, claim, json!({"b.example": true})), "");
        assert_eq!(of(&bound, Some("other"), json!("b.example")), "");
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        Policy {
            preset: None,
            scopes_claim: ClaimPath::new("scope"),
            required_scopes: vec![],
            rules,
            allow_pull_request_target: false,
        }
    }

    fn is(claim: &str, value: Value) -> Condition {
        Condition { claim: ClaimPath::new(claim), test: Test::OneOf(vec![value]) }
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_without_one_nobody_gets_in() {
        let policy = policy(vec![rule("a", vec![is("x", json!("1"))], &[]), rule("b", vec![is("y", json!("2"))], &[])]);
        assert_eq!(policy.decide(&claims(json!({"x": "1", "y": "2"}))).unwrap().name, "a");
        assert_eq!(policy.decide(&claims(json!({"x": "?", "y": "2"}))).unwrap().name, "b");
        assert_eq!(policy.decide(&claims(json!({"x": "2", "y": "1"}))).unwrap_err(), NotGranted::NoRule);
        assert_eq!(super::tests::policy(vec![]).decide(&Claims::new()).unwrap_err(), NotGranted::NoRule);
    }

    #[test]
    fn scopes_are_words_or_entries_and_never_parts_of_a_text() {
        let mut policy = policy(vec![rule("a", vec![], &[])]);
        policy.required_scopes = vec!["admin".into()];
        for scope in [json!("admin"), json!("read admin"), json!(["read", "admin"])] {
            assert!(policy.decide(&claims(json!({"scope": scope}))).is_ok(), "{scope}");
        }
        for scope in [
            json!("not-an-admin"),
            json!("administrator"),
            json!("read,admin"),
            json!("Admin"),
            json!("read\tadmin"),
            json!(["read admin"]),
            json!([["admin"]]),
            json!({"admin": true}),
            json!(null),
        ] {
            let refused = policy.decide(&claims(json!({"scope": scope}))).unwrap_err();
            assert_eq!(refused, NotGranted::Scopes(vec!["admin".into()]), "{scope}");
        }
        policy.scopes_claim = ClaimPath::new("roles");
        assert!(policy.decide(&claims(json!({"scope": "admin"}))).is_err());
        assert!(policy.decide(&claims(json!({"roles": ["admin"]}))).is_ok());
    }

    #[test]
    fn a_rules_own_scopes_are_part_of_its_match_and_named_when_only_they_are_missing() {
        let rules = vec![rule("w", vec![is("x", json!(1))], &["write"]), rule("r", vec![is("x", json!(1))], &["read"])];
        let policy = policy(rules);
        let with = |x: i64, scope: &str| claims(json!({"x": x, "scope": scope}));
        assert_eq!(policy.decide(&with(1, "read")).unwrap().name, "r");
        assert_eq!(policy.decide(&with(1, "read write")).unwrap().name, "w");
        assert_eq!(policy.decide(&with(1, "")).unwrap_err(), NotGranted::Scopes(vec!["write".into()]));
        assert_eq!(policy.decide(&with(2, "read write")).unwrap_err(), NotGranted::NoRule);
    }

    #[test]
    fn a_pull_request_of_anybody_is_no_job_of_the_repository() {
        let mut policy = policy(vec![rule("any", vec![], &[])]);
        policy.preset = Some(Preset::GithubActions);
        let event = |name: &str| claims(json!({"event_name": name}));
        assert!(policy.decide(&event("push")).is_ok());
        assert!(matches!(policy.decide(&event("pull_request_target")), Err(NotGranted::Preset(_))));
        policy.allow_pull_request_target = true;
        assert!(policy.decide(&event("pull_request_target")).is_ok());
    }
}
