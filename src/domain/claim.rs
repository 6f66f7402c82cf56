//! Rules that map what a provider says of a person to a role. Typed strictly: `"1"` is not `1`, and
//! no text is ever searched for a part of itself.

use serde_json::{Map, Value};

/// Claims as they come from a checked ID token or UserInfo answer.
pub type Claims = Map<String, Value>;

/// Where a value stands among the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimPath {
    /// A top-level claim by its exact name (which may hold dots and slashes inside).
    Name(String),
    /// A JSON Pointer (RFC 6901), such as `/realm_access/roles`.
    Pointer(String),
}

impl ClaimPath {
    /// A text that begins with `/` is a pointer, any other a name.
    pub fn new(text: &str) -> Self {
        if text.starts_with('/') { Self::Pointer(text.to_owned()) } else { Self::Name(text.to_owned()) }
    }

    /// The value there, if there is one.
    pub fn find<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        match self {
            Self::Name(name) => claims.get(name),
            Self::Pointer(pointer) => {
                let mut parts = pointer.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~"));
                let first = claims.get(&parts.next()?)?;
                parts.try_fold(first, |value, part| value.as_object()?.get(&part))
            }
        }
    }

    /// The path as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(text) | Self::Pointer(text) => text,
        }
    }
}

/// When a rule applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// The claim is this value, or an array that holds it.
    Claim(ClaimPath, Value),
    /// The verified e-mail address is this one (compared without regard to ASCII case).
    Email(String),
    /// The verified e-mail address is at this domain.
    EmailDomain(String),
}

impl Condition {
    /// Whether the claims fulfil it.
    pub fn holds(&self, claims: &Claims) -> bool {
        match self {
            Self::Claim(path, wanted) => match path.find(claims) {
                Some(Value::Array(values)) => values.contains(wanted),
                Some(value) => value == wanted,
                None => false,
            },
            Self::Email(wanted) => verified_email(claims).is_some_and(|e| e.eq_ignore_ascii_case(wanted)),
            Self::EmailDomain(wanted) => verified_email(claims)
                .and_then(|e| e.rsplit_once('@'))
                .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(wanted)),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Claim(path, value) => write!(f, "{} has {value}", path.as_str()),
            Self::Email(email) => write!(f, "e-mail is {email}"),
            Self::EmailDomain(domain) => write!(f, "e-mail is at {domain}"),
        }
    }
}

/// The e-mail address, only when `email_verified` is the JSON value `true`.
pub fn verified_email(claims: &Claims) -> Option<&str> {
    let verified = claims.get("email_verified") == Some(&Value::Bool(true));
    claims.get("email")?.as_str().filter(|_| verified)
}

/// One rule: a condition and the role that it gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// When it applies.
    pub condition: Condition,
    /// The role's name; the configuration has checked that there is such a role.
    pub role: String,
    /// The provider that it is limited to, if it is.
    pub provider: Option<String>,
}

/// The role that somebody gets, and the sentence that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The role's name.
    pub role: String,
    /// `rule 2: groups has "admins"`, or that no rule matched.
    pub why: String,
}

/// The first rule that holds decides; without one, the default role.
pub fn grant(rules: &[Rule], default_role: &str, provider: &str, claims: &Claims) -> Granted {
    let mine = |rule: &Rule| rule.provider.as_deref().is_none_or(|p| p == provider);
    let found = rules.iter().enumerate().find(|(_, rule)| mine(rule) && rule.condition.holds(claims));
    match found {
        Some((at, rule)) => Granted { role: rule.role.clone(), why: format!("rule {}: {}", at + 1, rule.condition) },
        None => Granted { role: default_role.to_owned(), why: "no rule matched: the default role".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn values_are_compared_whole_and_with_their_type() {
        let groups = |v: Value| claims(json!({ "groups": v }));
        let admin = Condition::Claim(ClaimPath::new("groups"), json!("admin"));
        assert!(admin.holds(&groups(json!(["x", "admin"]))));
        assert!(admin.holds(&groups(json!("admin"))));
        for near in [json!("not an admin"), json!("admin x"), json!([["admin"]]), json!({"admin": true}), json!(null)] {
            assert!(!admin.holds(&groups(near)));
        }
        let number = Condition::Claim(ClaimPath::new("level"), json!(1));
        assert!(number.holds(&claims(json!({"level": 1}))) && !number.holds(&claims(json!({"level": "1"}))));
    }

    #[test]
    fn an_address_counts_only_when_it_is_verified() {
        let rule = Condition::Email("Ann@Example.com".into());
        assert!(rule.holds(&claims(json!({"email": "ann@example.com", "email_verified": true}))));
        for unverified in [json!(false), json!("true"), json!(1), json!(null)] {
            assert!(!rule.holds(&claims(json!({"email": "ann@example.com", "email_verified": unverified}))));
        }
        let domain = Condition::EmailDomain("example.com".into());
        assert!(domain.holds(&claims(json!({"email": "b@EXAMPLE.com", "email_verified": true}))));
        assert!(!domain.holds(&claims(json!({"email": "b@evil-example.com", "email_verified": true}))));
    }

    #[test]
    fn a_pointer_walks_objects_and_a_name_with_dots_is_a_name() {
        let given = claims(json!({"realm": {"roles": ["ops"]}, "https://x.y/roles": ["dev"]}));
        assert!(Condition::Claim(ClaimPath::new("/realm/roles"), json!("ops")).holds(&given));
        assert!(Condition::Claim(ClaimPath::new("https://x.y/roles"), json!("dev")).holds(&given));
        assert!(!Condition::Claim(ClaimPath::new("realm.roles"), json!("ops")).holds(&given));
    }

    #[test]
    fn the_first_matching_rule_decides_and_says_so() {
        let rule = |value: &str, role: &str| Rule {
            condition: Condition::Claim(ClaimPath::new("groups"), json!(value)),
            role: role.into(),
            provider: None,
        };
        let rules = [rule("ops", "operator"), rule("admins", "admin")];
        let both = claims(json!({"groups": ["admins", "ops"]}));
        assert_eq!(grant(&rules, "viewer", "main", &both).role, "operator");
        assert_eq!(grant(&rules, "viewer", "main", &both).why, "rule 1: groups has \"ops\"");
        assert_eq!(grant(&rules, "viewer", "main", &Claims::new()).role, "viewer");
    }
}
