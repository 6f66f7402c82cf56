//! One condition on one claim. A claim that is not there fulfils none, not even a negative one.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::Preset;
use crate::domain::claim::{ClaimPath, Claims};

/// What one claim must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Which claim.
    pub claim: ClaimPath,
    /// What it must be.
    pub test: Test,
}

/// A test of a value; of an array, one entry must pass (with [`Test::NoneOf`]: every one).
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// One of these values, with its type.
    OneOf(Vec<Value>),
    /// None of these values.
    NoneOf(Vec<Value>),
    /// A text that begins so.
    Prefix(String),
    /// A text that fits as a whole; `*` is any number of any characters.
    Glob(String),
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::NoneOf(unwanted), Value::Array(entries)) => entries.iter().all(|entry| !unwanted.contains(entry)),
            (Self::NoneOf(unwanted), value) => !unwanted.contains(value),
            (_, Value::Array(entries)) => entries.iter().any(|entry| self.fits(entry)),
            _ => self.fits(value),
        }
    }

    fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::OneOf(wanted), value) => wanted.contains(value),
            (Self::Prefix(start), Value::String(text)) => text.starts_with(start.as_str()),
            (Self::Glob(pattern), Value::String(text)) => glob(pattern, text),
            _ => false,
        }
    }

    /// Whether it accepts (nearly) everything, and so says nothing about who comes.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Prefix(start) => start.is_empty(),
            Self::Glob(pattern) => pattern.bytes().all(|b| b == b'*'),
            Self::NoneOf(_) => true,
            Self::OneOf(_) => false,
        }
    }

    /// Whether it fixes the owner's id that GitHub's newer subjects name: `repo:acme@7/app@42:…`.
    pub fn names_ids(&self) -> bool {
        let owner_is_whole = |start: &str| start.split_once('@').is_some_and(|(_, rest)| rest.contains('/'));
        match self {
            Self::OneOf(values) => values.iter().all(|value| value.as_str().is_some_and(owner_is_whole)),
            Self::Prefix(start) => owner_is_whole(start),
            Self::Glob(pattern) => owner_is_whole(pattern.split('*').next().unwrap_or_default()),
            Self::NoneOf(_) => false,
        }
    }

    /// Where a wildcard follows something else than the end of a name: `acme*` is also `acme-evil`.
    pub fn has_open_name(&self) -> bool {
        let (start, goes_on) = match self {
            Self::Prefix(start) => (start.as_str(), true),
            Self::Glob(pattern) => {
                pattern.split_once('*').map_or((pattern.as_str(), false), |(start, _)| (start, true))
            }
            _ => return false,
        };
        goes_on && !start.ends_with(['/', ':', '@', '-', '.', '#'])
    }
}

impl Condition {
    /// Whether the claims fulfil it.
    pub fn holds(&self, preset: Option<Preset>, claims: &Claims) -> bool {
        let Some(value) = self.claim.find(claims) else { return false };
        let vouched = preset != Some(Preset::Google)
            || self.claim.as_str() != "email"
            || claims.get("email_verified") == Some(&Value::Bool(true));
        vouched
            && match (preset, self.claim.as_str(), value) {
                (Some(Preset::GithubActions), "sub", Value::String(sub)) => self.holds_for_sub(sub, claims),
                _ => self.test.holds(value),
            }
    }

    /// GitHub writes one subject in two ways; a rule may be written in either.
    fn holds_for_sub(&self, sub: &str, claims: &Claims) -> bool {
        let mut spellings = super::preset::spellings(sub, claims).into_iter().map(Value::String);
        match self.test {
            Test::NoneOf(_) => spellings.all(|sub| self.test.holds(&sub)),
            _ => spellings.any(|sub| self.test.holds(&sub)),
        }
    }

    /// Whether a number or truth value with this spelling is among the values.
    fn has_number(&self, text: &str) -> bool {
        let (Test::OneOf(values) | Test::NoneOf(values)) = &self.test else { return false };
        let spelling = |value: &Value| if value.is_string() { String::new() } else { value.to_string() };
        values.iter().any(|value| spelling(value) == text)
    }

    /// The claim as it is, for an explanation.
    pub fn actual(&self, claims: &Claims) -> String {
        self.claim.find(claims).map_or_else(|| "not there".to_owned(), ToString::to_string)
    }

    /// What is nearly right about a claim that does not fulfil it.
    pub fn near_miss(&self, claims: &Claims) -> Option<&'static str> {
        let actual = self.claim.find(claims)?;
        if self.claim.as_str() == "email" && self.test.holds(actual) {
            return Some("the address counts only with email_verified: true");
        }
        match &self.test {
            Test::OneOf(wanted) => wanted.iter().find_map(|wanted| near_miss(wanted, actual)),
            _ => None,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claim = self.claim.as_str();
        // A number that also stands for its text is said once.
        let is_said = |text: &Value| text.as_str().is_some_and(|text| self.has_number(text));
        let list = |values: &[Value]| {
            values.iter().filter(|v| !is_said(v)).map(Value::to_string).collect::<Vec<_>>().join(" or ")
        };
        match &self.test {
            Test::OneOf(values) => write!(f, "{claim} is {}", list(values)),
            Test::NoneOf(values) => write!(f, "{claim} is there and not {}", list(values)),
            Test::Prefix(start) => write!(f, "{claim} begins with {start:?}"),
            Test::Glob(pattern) => write!(f, "{claim} fits {pattern:?}"),
        }
    }
}

/// In what two values that are not the same differ, when it is so little that it is probably a mistake.
pub fn near_miss(wanted: &Value, actual: &Value) -> Option<&'static str> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    if let Value::Array(entries) = actual {
        return entries.iter().find_map(|entry| near_miss(wanted, entry));
    }
    let (a, b) = (text(wanted)?, text(actual)?);
    match () {
        () if wanted == actual => None,
        () if a == b => Some("one is a text, the other is not"),
        () if a.trim_end_matches('/') == b.trim_end_matches('/') => Some("they differ by a slash at the end"),
        () if a.eq_ignore_ascii_case(&b) => Some("they differ in upper and lower case only"),
        () if a.trim() == b.trim() => Some("they differ by white space"),
        () if entra_tenant(&a).is_some() && entra_tenant(&a) == entra_tenant(&b) => Some(
            "both are of one Entra tenant: tokens of version 1.0 and 2.0 have different issuers; set preset: entra",
        ),
        () => None,
    }
}

/// The tenant of an issuer of Entra ID, of either version.
pub(super) fn entra_tenant(issuer: &str) -> Option<Cow<'_, str>> {
    let v1 = issuer.strip_prefix("https://sts.windows.net/").map(|rest| rest.trim_end_matches('/'));
    let v2 = || issuer.trim_end_matches('/').strip_suffix("/v2.0")?.rsplit('/').next();
    v1.or_else(v2).filter(|tenant| !tenant.is_empty() && !tenant.contains('/')).map(Cow::Borrowed)
}

/// Whether `text` fits `pattern` as a whole. Linear in the text for each star.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(test: Test, value: Value) -> bool {
        let claims = json!({ "c": value }).as_object().unwrap().clone();
        Condition { claim: ClaimPath::new("c"), test }.holds(None, &claims)
    }

    #[test]
    fn a_glob_is_about_the_whole_value() {
        let fits = |pattern: &str, text: &str| holds(Test::Glob(pattern.into()), json!(text));
        assert!(fits("refs/heads/*", "refs/heads/release/1") && fits("*", "") && fits("a*c*e", "abcde"));
        assert!(fits("a", "a") && fits("*a*", "a") && fits("a**b", "ab"));
        for (pattern, text) in [
            ("refs/heads/*", "x refs/heads/main"),
            ("refs/heads/main", "refs/heads/main2"),
            ("a*a", "a"),
            ("a*b", "abc"),
            ("repo:acme/*:main", "repo:acme/x:mainx"),
            ("A*", "abc"),
            ("", "x"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        assert!(!holds(Test::Glob("*".into()), json!(7)) && holds(Test::Glob("b*".into()), json!(["a", "bc"])));
    }

    #[test]
    fn types_count_and_what_is_not_there_fulfils_nothing() {
        let one = |value: Value| Test::OneOf(vec![value]);
        assert!(holds(one(json!("a")), json!("a")) && holds(one(json!("a")), json!(["b", "a"])));
        for near in [json!("A"), json!("a "), json!("ab"), json!([["a"]]), json!({"a": 1}), json!(null)] {
            assert!(!holds(one(json!("a")), near.clone()), "{near}");
        }
        assert!(!holds(one(json!(1)), json!("1")) && !holds(one(json!(true)), json!("true")));
        let none = Test::NoneOf(vec![json!("bad")]);
        assert!(holds(none.clone(), json!("good")) && holds(none.clone(), json!(["good", "fair"])));
        assert!(!holds(none.clone(), json!("bad")) && !holds(none.clone(), json!(["good", "bad"])));
        assert!(!Condition { claim: ClaimPath::new("c"), test: none }.holds(None, &Claims::new()));
    }

    #[test]
    fn googles_address_counts_when_google_vouches_for_it() {
        let condition = Condition { claim: ClaimPath::new("email"), test: Test::OneOf(vec![json!("a@b.c")]) };
        let claims =
            |verified: Value| json!({"email": "a@b.c", "email_verified": verified}).as_object().unwrap().clone();
        assert!(condition.holds(Some(Preset::Google), &claims(json!(true))));
        assert!(!condition.holds(Some(Preset::Google), &claims(json!("true"))));
        assert!(!condition.holds(Some(Preset::Google), &claims(json!(null))));
    }

    #[test]
    fn near_misses_are_named() {
        let of = |a: Value, b: Value| near_miss(&a, &b).unwrap_or_default().to_owned();
        assert!(of(json!("https://a.b/"), json!("https://a.b")).contains("slash"));
        assert!(of(json!(7), json!("7")).contains("text") && of(json!("Acme"), json!("acme")).contains("case"));
        let (v1, v2) = ("https://sts.windows.net/t-1/", "https://login.microsoftonline.com/t-1/v2.0");
        assert!(of(json!(v2), json!(v1)).contains("Entra") && of(json!(v1), json!(v2)).contains("Entra"));
        assert_eq!(near_miss(&json!("a"), &json!("b")), None);
    }

    proptest! {
        #[test]
        fn a_glob_fits_what_was_put_in_for_its_stars(parts in proptest::collection::vec("[a-c/:]{0,5}", 1..5), fill in "[a-c/:]{0,6}") {
            prop_assert!(glob(&parts.join("*"), &parts.join(&fill)));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in "\\PC{0,30}", text in "\\PC{0,60}") {
            let _ = glob(&pattern, &text);
        }
    }
}
