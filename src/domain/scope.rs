//! Scopes and the one hierarchy: `* ⊃ control ⊃ write ⊃ read`, with `audit` apart (within `*` only).

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU8, Ordering},
};

/// One scope, exactly as callers write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `*`: everything.
    All,
    /// `control`: start, stop, pause and resume runs.
    Control,
    /// `write`: create and change tasks and state.
    Write,
    /// `read`: dashboard, runs, tasks, logs, metrics.
    Read,
    /// `audit`: read, verify and export the audit log.
    Audit,
}

impl Scope {
    /// Every scope, in the order in which lists show them.
    pub const EVERY: [Self; 5] = [Self::Read, Self::Write, Self::Control, Self::Audit, Self::All];

    /// The exact text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Control => "control",
            Self::Write => "write",
            Self::Read => "read",
            Self::Audit => "audit",
        }
    }

    /// What it lets its holder do, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::All => "everything, including people and tokens",
            Self::Control => "start, stop, pause and resume runs; also write and read",
            Self::Write => "create and change tasks and state; also read",
            Self::Read => "dashboard, runs, tasks, logs, metrics",
            Self::Audit => "read, verify and export the audit log",
        }
    }

    const fn bit(self) -> u8 {
        1 << (self as u8)
    }

    /// Whether a holder of `self` may do what asks for `other`.
    pub const fn implies(self, other: Self) -> bool {
        match self {
            Self::All => true,
            Self::Control => matches!(other, Self::Control | Self::Write | Self::Read),
            Self::Write => matches!(other, Self::Write | Self::Read),
            Self::Read => matches!(other, Self::Read),
            Self::Audit => matches!(other, Self::Audit),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the five scopes.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("unknown scope {0:?}; scopes are exactly: *, control, write, read, audit")]
pub struct UnknownScope(pub String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let known = Self::EVERY.into_iter().find(|s| s.as_str() == text);
        known.ok_or_else(|| UnknownScope(text.chars().take(40).collect()))
    }
}

/// A set of scopes as they were granted (what they imply is worked out when asked).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope at all.
    pub const EMPTY: Self = Self(0);

    /// A set of exactly these.
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < scopes.len() {
            bits |= scopes[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Whether this very scope was granted.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether some granted scope implies `scope`.
    pub fn allows(self, scope: Scope) -> bool {
        self.iter().any(|held| held.implies(scope))
    }

    /// Whether a holder of `self` may hand out all of `other`.
    pub fn covers(self, other: Self) -> bool {
        other.iter().all(|scope| self.allows(scope))
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The fewest scopes that allow the same: without those that another one of the set implies.
    #[must_use]
    pub fn least(self) -> Self {
        let is_implied = |scope: &Scope| self.iter().any(|other| other != *scope && other.implies(*scope));
        self.iter().filter(|scope| !is_implied(scope)).collect()
    }

    /// Those of `self` without which a holder could have done all that `used` needed: a use counts for the weakest
    /// scope of the set that allows it.
    #[must_use]
    pub fn unused(self, used: Self) -> Self {
        let serves = |scope: Scope, need: Scope| {
            scope.implies(need)
                && !self.iter().any(|weaker| weaker != scope && scope.implies(weaker) && weaker.implies(need))
        };
        self.iter().filter(|scope| !used.iter().any(|need| serves(*scope, need))).collect()
    }

    /// Those of `self` that `other` does not allow.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        self.iter().filter(|scope| !other.allows(*scope)).collect()
    }

    /// Whether nothing was granted.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The granted scopes, in the order of [`Scope::EVERY`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::EVERY.into_iter().filter(move |s| self.contains(*s))
    }
}

/// The scopes that somebody's requests have needed, noted without a lock.
#[derive(Debug, Default)]
pub struct ScopesInUse(AtomicU8);

impl ScopesInUse {
    /// Beginning with these.
    pub const fn known(scopes: ScopeSet) -> Self {
        Self(AtomicU8::new(scopes.0))
    }

    /// Notes that a scope was needed. Answers whether that is new.
    pub fn note(&self, scope: Scope) -> bool {
        // Nearly always it is known, and then nothing is written to memory that other cores read.
        self.0.load(Ordering::Relaxed) & scope.bit() == 0
            && self.0.fetch_or(scope.bit(), Ordering::Relaxed) & scope.bit() == 0
    }
}

impl Clone for ScopesInUse {
    fn clone(&self) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed)))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, s| bits | s.bit()))
    }
}

/// Space-separated, the form in which a set is stored and in which RFC 6750 §3 writes it.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// Reads names that are separated by spaces or commas; each must be a scope.
impl FromStr for ScopeSet {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split([' ', ',']).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope::*, *};

    #[test]
    fn the_hierarchy_is_the_one_of_the_contract() {
        let table = [
            (All, [true, true, true, true, true]),
            (Control, [true, true, true, false, false]),
            (Write, [true, true, false, false, false]),
            (Read, [true, false, false, false, false]),
            (Audit, [false, false, false, true, false]),
        ];
        for (held, allowed) in table {
            for (asked, expected) in Scope::EVERY.into_iter().zip(allowed) {
                assert_eq!(held.implies(asked), expected, "{held} ⊃ {asked}");
            }
        }
    }

    #[test]
    fn scopes_are_exact_and_lower_case() {
        assert_eq!("read,write".parse(), Ok(ScopeSet::of(&[Write, Read])));
        for wrong in ["Read", "reads", "read;write", "admin", "**", "rеad"] {
            assert!(wrong.parse::<ScopeSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_use_counts_for_the_weakest_scope_that_allows_it() {
        let set = |text: &str| text.parse::<ScopeSet>().unwrap();
        for (granted, used, unused, least) in [
            ("read write control", "read", "write control", "read"),
            ("control", "read", "", "read"),
            ("*", "read audit", "", "read audit"),
            ("read audit", "read", "audit", "read"),
            ("* read", "write", "read", "write"),
            ("read", "", "read", ""),
            ("read write", "read write", "", "write"),
        ] {
            assert_eq!(set(granted).unused(set(used)), set(unused), "{granted} / {used}");
            assert_eq!(set(used).least(), set(least), "{used}");
        }
        assert_eq!(set("* read").beyond(set("control")), set("*"));
    }

    #[test]
    fn a_need_is_new_once() {
        let seen = ScopesInUse::known(ScopeSet::of(&[Read]));
        assert!(!seen.note(Read) && seen.note(Audit) && !seen.note(Audit));
        assert!(!seen.clone().note(Audit));
    }

    #[test]
    fn nobody_covers_what_they_lack() {
        let operator = ScopeSet::of(&[Control]);
        assert!(operator.covers(ScopeSet::of(&[Write, Read])));
        assert!(!operator.covers(ScopeSet::of(&[Audit])));
        assert!(ScopeSet::of(&[All]).covers(ScopeSet::of(&Scope::EVERY)));
    }
}
