//! Roles: names for sets of scopes. Four are built in; the configuration may name more.

use std::collections::BTreeMap;

use super::scope::{Scope, ScopeSet};

/// The name of a role: 1–64 characters of `a-z A-Z 0-9 _ . -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct RoleName(String);

/// The text cannot name a role.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("a role's name is 1–64 letters, digits, '_', '.' or '-'")]
pub struct NotARoleName;

impl RoleName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RoleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for RoleName {
    type Err = NotARoleName;

    fn from_str(text: &str) -> Result<Self, NotARoleName> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        fits.then(|| Self(text.to_owned())).ok_or(NotARoleName)
    }
}

/// The roles with their meaning in `contract.md` §1.
pub const BUILT_IN: [(&str, ScopeSet); 4] = [
    ("admin", ScopeSet::of(&[Scope::All])),
    ("operator", ScopeSet::of(&[Scope::Control, Scope::Write, Scope::Read])),
    ("viewer", ScopeSet::of(&[Scope::Read])),
    ("auditor", ScopeSet::of(&[Scope::Read, Scope::Audit])),
];

/// Every role this server knows, built in and configured.
#[derive(Debug, Clone)]
pub struct Roles(BTreeMap<RoleName, ScopeSet>);

impl Default for Roles {
    fn default() -> Self {
        let named = BUILT_IN.into_iter().map(|(name, scopes)| (RoleName(name.to_owned()), scopes));
        Self(named.collect())
    }
}

impl Roles {
    /// Adds one of the configuration's own. A built-in name keeps its meaning and is refused.
    pub fn define(&mut self, name: RoleName, scopes: ScopeSet) -> bool {
        let new = !self.0.contains_key(&name);
        if new {
            self.0.insert(name, scopes);
        }
        new
    }

    /// What the role grants, if there is such a role.
    pub fn scopes_of(&self, name: &str) -> Option<ScopeSet> {
        self.0.iter().find(|(known, _)| known.as_str() == name).map(|(_, scopes)| *scopes)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&RoleName, ScopeSet)> {
        self.0.iter().map(|(name, scopes)| (name, *scopes))
    }

    /// `admin, auditor, operator, viewer`, for messages.
    pub fn listing(&self) -> String {
        self.0.keys().map(RoleName::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_in_role_cannot_be_redefined() {
        let mut roles = Roles::default();
        assert!(!roles.define("viewer".parse().unwrap(), ScopeSet::of(&[Scope::All])));
        assert_eq!(roles.scopes_of("viewer"), Some(ScopeSet::of(&[Scope::Read])));
        assert!(roles.define("deployer".parse().unwrap(), ScopeSet::of(&[Scope::Control])));
        assert_eq!(roles.listing(), "admin, auditor, deployer, operator, viewer");
    }
}
