//! How a signing key comes and goes: `next → active → retiring → gone`.
//!
//! Verifiers keep the key set for a while, and assertions live for a while. So a key is published before it
//! signs for as long as anybody may hold an older key set, and stays published after it signed for as long
//! as anything that it signed may be shown.

use std::time::Duration;

use super::{node::Node, time::Moment};

/// Verifiers may keep the key set this long (`Cache-Control` of `/.well-known/jwks.json`).
pub const KEY_SET_LIVES: Duration = Duration::from_mins(1);
/// The longest life of an assertion.
pub const ASSERTION_LIVES: Duration = Duration::from_mins(5);
/// Clocks differ by less than this, and a server notices a change in less.
pub const SKEW: Duration = Duration::from_mins(1);

/// A node that lives but does not say that it publishes a key holds up the key's promotion for so long.
pub const CONFIRM_WITHIN: Duration = Duration::from_mins(10);

/// Where a key is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, does not sign yet.
    Next,
    /// Signs.
    Active,
    /// Published, signs no more.
    Retiring,
    /// Not published any more.
    Gone,
}

impl KeyState {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        }
    }
}

/// A key's way so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its name (RFC 7638 thumbprint, hexadecimal).
    pub kid: String,
    /// `ES256`, …
    pub alg: String,
    /// Since when it is published.
    pub added_at: Moment,
    /// Since when it signs, or signed.
    pub active_at: Option<Moment>,
    /// Since when it signs no more.
    pub retired_at: Option<Moment>,
    /// Since when it is not published any more.
    pub gone_at: Option<Moment>,
    /// Whether it went because it must not be trusted any more.
    pub revoked: bool,
}

/// A step that must not be taken (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// Somebody may still hold a key set without it.
    #[error("key {kid} may sign from {at} on: until then verifiers may hold a key set without it")]
    Promote {
        /// Which.
        kid: String,
        /// When it is safe.
        at: Moment,
    },
    /// A node does not publish it yet.
    #[error("key {kid} may sign once {nodes} publishes it too, or from {at} on")]
    Confirm {
        /// Which.
        kid: String,
        /// Who does not.
        nodes: String,
        /// When nobody is waited for any longer.
        at: Moment,
    },
    /// Something that it signed may still be shown.
    #[error("key {kid} may be removed from {at} on: until then something that it signed may still be shown")]
    Remove {
        /// Which.
        kid: String,
        /// When it is safe.
        at: Moment,
    },
}

impl KeyRecord {
    /// Where it is.
    pub const fn state(&self) -> KeyState {
        match (self.gone_at, self.retired_at, self.active_at) {
            (Some(_), _, _) => KeyState::Gone,
            (None, Some(_), _) => KeyState::Retiring,
            (None, None, Some(_)) => KeyState::Active,
            (None, None, None) => KeyState::Next,
        }
    }

    /// Since when it is there.
    pub fn since(&self) -> Moment {
        self.gone_at.or(self.retired_at).or(self.active_at).unwrap_or(self.added_at)
    }

    /// From when on it may sign.
    pub fn may_sign_at(&self) -> Moment {
        self.added_at.plus(KEY_SET_LIVES + SKEW)
    }

    /// From when on nothing that it signed is valid any more. One that never signed can go at once; the
    /// one that signs cannot.
    pub fn may_go_at(&self) -> Option<Moment> {
        match self.state() {
            KeyState::Next | KeyState::Gone => Some(self.added_at),
            KeyState::Active => None,
            KeyState::Retiring => self.retired_at.map(|at| at.plus(ASSERTION_LIVES + SKEW)),
        }
    }

    /// What is safe to do with it, or when that will be.
    pub fn outlook(&self, now: Moment) -> String {
        match (self.state(), self.may_go_at()) {
            (KeyState::Next, _) if self.may_sign_at() <= now => "may sign: promote it".into(),
            (KeyState::Next, _) => format!("may sign from {} UTC", self.may_sign_at().for_people()),
            (KeyState::Active, _) => "signs".into(),
            (KeyState::Retiring, Some(at)) if at > now => format!("may go from {} UTC", at.for_people()),
            (KeyState::Retiring, _) => "may go: remove it".into(),
            (KeyState::Gone, _) => String::new(),
        }
    }

    /// Whether it may sign now. A ring without a signing key has nothing to wait for.
    ///
    /// # Errors
    /// [`NotYet`] says when.
    pub fn check_promote(&self, now: Moment) -> Result<(), NotYet> {
        let at = self.may_sign_at();
        if at <= now { Ok(()) } else { Err(NotYet::Promote { kid: self.kid.clone(), at }) }
    }

    /// Whether it may go now.
    ///
    /// # Errors
    /// [`NotYet`] says when.
    pub fn check_remove(&self, now: Moment) -> Result<(), NotYet> {
        match self.may_go_at() {
            Some(at) if at > now => Err(NotYet::Remove { kid: self.kid.clone(), at }),
            _ => Ok(()),
        }
    }
}

/// Why a step was not taken; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepRefused {
    /// It is too early.
    #[error(transparent)]
    NotYet(#[from] NotYet),
    /// There is no such key.
    #[error("there is no published key {0:?}")]
    Unknown(String),
    /// It is not at the place from which this step leads on.
    #[error("key {kid} is {}: {why}", .state.as_str())]
    Misplaced {
        /// Which.
        kid: String,
        /// Where it is.
        state: KeyState,
        /// What would be right.
        why: &'static str,
    },
    /// Another key is next already, or signs already.
    #[error("key {0} is next already; promote it, or take it out by its name")]
    NextAlready(String),
    /// Another node was first.
    #[error("a key signs already")]
    SignsAlready,
}

/// The published key of this name.
///
/// # Errors
/// [`StepRefused::Unknown`].
pub fn published<'k>(known: &'k [KeyRecord], kid: &str) -> Result<&'k KeyRecord, StepRefused> {
    let found = known.iter().find(|k| k.kid == kid && k.state() != KeyState::Gone);
    found.ok_or_else(|| StepRefused::Unknown(kid.to_owned()))
}

/// Whether a key may be added: one is next at a time.
///
/// # Errors
/// [`StepRefused::NextAlready`].
pub fn check_add(known: &[KeyRecord]) -> Result<(), StepRefused> {
    match known.iter().find(|k| k.state() == KeyState::Next) {
        Some(next) => Err(StepRefused::NextAlready(next.kid.clone())),
        None => Ok(()),
    }
}

/// The key, if it may sign now. With `force` also when that is too early.
///
/// # Errors
/// [`StepRefused`].
pub fn promotable<'k>(
    known: &'k [KeyRecord],
    kid: &str,
    force: bool,
    now: Moment,
) -> Result<&'k KeyRecord, StepRefused> {
    let key = published(known, kid)?;
    let why = match key.state() {
        KeyState::Next => None,
        KeyState::Active => Some("it signs already"),
        _ => Some("only the next key can be promoted"),
    };
    if let Some(why) = why {
        return Err(StepRefused::Misplaced { kid: kid.to_owned(), state: key.state(), why });
    }
    if !force {
        key.check_promote(now)?;
    }
    Ok(key)
}

/// Whether every node publishes the key, of those that live; or they were waited for long enough.
///
/// # Errors
/// [`NotYet::Confirm`] names those that do not.
pub fn confirmed(key: &KeyRecord, living: &[Node], now: Moment) -> Result<(), NotYet> {
    let at = key.added_at.plus(CONFIRM_WITHIN);
    let missing: Vec<_> = living.iter().filter(|node| !node.keys.contains(&key.kid)).map(|n| n.name.as_str()).collect();
    if missing.is_empty() || at <= now {
        return Ok(());
    }
    Err(NotYet::Confirm { kid: key.kid.clone(), nodes: missing.join(", "), at })
}

/// The key, if it may go now. With `force` also when that is too early.
///
/// # Errors
/// [`StepRefused`].
pub fn removable<'k>(
    known: &'k [KeyRecord],
    kid: &str,
    force: bool,
    now: Moment,
) -> Result<&'k KeyRecord, StepRefused> {
    let key = published(known, kid)?;
    if key.state() == KeyState::Active {
        let why = "promote another first, or revoke it";
        return Err(StepRefused::Misplaced { kid: kid.to_owned(), state: key.state(), why });
    }
    if !force {
        key.check_remove(now)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_before_it_signs_and_before_it_goes() {
        let at = |minutes: u64| Moment::from_seconds(0).plus(Duration::from_mins(minutes));
        let mut key = KeyRecord {
            kid: "k".into(),
            alg: "ES256".into(),
            added_at: at(0),
            active_at: None,
            retired_at: None,
            gone_at: None,
            revoked: false,
        };
        assert_eq!((key.state(), key.check_remove(at(0))), (KeyState::Next, Ok(())));
        assert_eq!(key.check_promote(at(1)).unwrap_err(), NotYet::Promote { kid: "k".into(), at: at(2) });
        assert!(key.check_promote(at(2)).is_ok());
        key.active_at = Some(at(2));
        assert_eq!((key.state(), key.may_go_at()), (KeyState::Active, None));
        key.retired_at = Some(at(10));
        assert_eq!(key.check_remove(at(15)).unwrap_err(), NotYet::Remove { kid: "k".into(), at: at(16) });
        assert!(key.check_remove(at(16)).is_ok());
        key.gone_at = Some(at(16));
        assert_eq!((key.state(), key.since()), (KeyState::Gone, at(16)));
    }

    #[test]
    fn a_key_waits_for_every_node_that_lives_but_not_for_ever() {
        let at = |minutes: u64| Moment::from_seconds(0).plus(Duration::from_mins(minutes));
        let key = KeyRecord {
            kid: "new".into(),
            alg: "ES256".into(),
            added_at: at(0),
            active_at: None,
            retired_at: None,
            gone_at: None,
            revoked: false,
        };
        let node = |name: &str, keys: &[&str]| Node {
            name: name.into(),
            version: "1".into(),
            keys: keys.iter().map(|kid| (*kid).to_owned()).collect(),
            started_at: at(0),
            seen_at: at(0),
            beats: 1,
            stopped_at: None,
        };
        let nodes = [node("a", &["old", "new"]), node("b", &["old"])];
        let refused = confirmed(&key, &nodes, at(9)).unwrap_err();
        assert_eq!(refused, NotYet::Confirm { kid: "new".into(), nodes: "b".into(), at: at(10) });
        assert_eq!(confirmed(&key, &nodes[..1], at(9)), Ok(()));
        assert_eq!(confirmed(&key, &nodes, at(10)), Ok(()));
    }
}
