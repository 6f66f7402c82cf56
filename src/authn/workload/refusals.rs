//! The last refused tokens of configured issuers, without their signatures, for the administrator who is asked why.
//! Bounded, and those whose signature was right have a place of their own: nobody can push them out with noise.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::domain::{claim::Claims, time::Moment};

/// How many of each sort are kept.
const MOST: usize = 12;

/// A token that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its number, for whoever wants to have it explained.
    pub id: u64,
    /// When it was last refused.
    pub at: Moment,
    /// How often in a row.
    pub times: u64,
    /// The short name of its issuer.
    pub issuer: String,
    /// Why, in the audit log's word.
    pub reason: &'static str,
    /// Whether its signature was right.
    pub is_signed: bool,
    /// Its header.
    pub header: Claims,
    /// Its claims.
    pub claims: Claims,
}

#[derive(Default)]
struct Kept {
    last_id: u64,
    signed: VecDeque<Refusal>,
    other: VecDeque<Refusal>,
}

/// What is kept.
#[derive(Default)]
pub struct Refusals(Mutex<Kept>);

impl Refusals {
    /// Keeps one; of the same bearer and reason the latest.
    pub(super) fn add(&self, mut new: Refusal) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last_id += 1;
        new.id = kept.last_id;
        let list = if new.is_signed { &mut kept.signed } else { &mut kept.other };
        let same = |old: &Refusal| {
            old.issuer == new.issuer && old.reason == new.reason && old.claims.get("sub") == new.claims.get("sub")
        };
        if let Some(at) = list.iter().position(same) {
            new.times += list.remove(at).map_or(0, |old| old.times);
        }
        list.push_front(new);
        list.truncate(MOST);
    }

    /// All of them: those with a right signature first, the latest first.
    pub fn list(&self) -> Vec<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.signed.iter().chain(&kept.other).cloned().collect()
    }

    /// The one of this number, if it is still kept.
    pub fn find(&self, id: u64) -> Option<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.signed.iter().chain(&kept.other).find(|refusal| refusal.id == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(sub: usize, is_signed: bool) -> Refusal {
        Refusal {
            id: 0,
            at: Moment::from_millis(0),
            times: 1,
            issuer: "i".into(),
            reason: "expired",
            is_signed,
            header: Claims::new(),
            claims: json!({"sub": sub.to_string()}).as_object().unwrap().clone(),
        }
    }

    #[test]
    fn noise_does_not_push_out_what_an_issuer_signed() {
        let kept = Refusals::default();
        kept.add(refusal(1, true));
        (0..1000).for_each(|n| kept.add(refusal(n, false)));
        let list = kept.list();
        assert_eq!((list.len(), list[0].is_signed, &list[0].claims["sub"]), (MOST + 1, true, &json!("1")));
        assert_eq!(list[1].claims["sub"], "999");
        kept.add(refusal(1, true));
        assert_eq!((kept.list()[0].times, kept.list().len()), (2, MOST + 1));
        assert_eq!(kept.find(kept.list()[0].id).unwrap().claims["sub"], "1");
        assert!(kept.find(0).is_none());
    }
}
