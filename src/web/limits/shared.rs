//! Limits that all nodes count together. Each node tells the others five times a second whom it let in how often, and
//! counts what it is told as if it had let them in itself. So a caller who spreads over the nodes gets, for that long, what
//! each of them has left; asking an engine about every request would cost a round trip for each, also in a flood.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::MissedTickBehavior,
};

use super::Limiters;
use crate::{actions::App, store::told::LONGEST, web::Web};

/// How often the others are told.
const TELL: Duration = Duration::from_millis(200);

/// Tells and hears until the task is dropped; nothing, where limits are each node's own.
pub async fn run(web: &Web) {
    if !web.app.settings.limits.shared {
        return;
    }
    tokio::join!(tell(&web.app, &web.limits), hear(&web.app, &web.limits, web.app.store.words()));
}

async fn tell(app: &App, limits: &Limiters) {
    let mut tick = tokio::time::interval(TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for word in spent(limits, app.store.node()) {
            // A word that is not passed on is not told later: it would count against another moment.
            if let Err(e) = app.store.tell(&word).await {
                tracing::debug!(error = %e, "the other nodes were not told whom this one let in");
            }
        }
    }
}

async fn hear(app: &App, limits: &Limiters, mut told: Receiver<Arc<str>>) {
    loop {
        match told.recv().await {
            Ok(word) => count(limits, app.store.node(), &word),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// What was let in since the last time, as words: the node, then `LIMIT.KEY.TIMES` for each.
fn spent(limits: &Limiters, node: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (number, limiter) in limits.every().into_iter().enumerate() {
        for (key, times) in limiter.take_spent() {
            if words.last().is_none_or(|word| word.len() > LONGEST - 64) {
                words.push(node.to_owned());
            }
            if let Some(word) = words.last_mut() {
                let _ = write!(word, " {number}.{key:x}.{times}");
            }
        }
    }
    words
}

/// Counts what another node says. What is not understood comes from another version, and is left out.
fn count(limits: &Limiters, us: &str, word: &str) {
    let mut parts = word.split(' ');
    if parts.next() == Some(us) {
        return;
    }
    for (number, key, times) in parts.filter_map(read) {
        if let Some(limiter) = limits.every().get(number) {
            limiter.count(key, times);
        }
    }
}

fn read(part: &str) -> Option<(usize, u64, u32)> {
    let mut fields = part.split('.');
    let (number, key, times) = (fields.next()?, fields.next()?, fields.next()?);
    Some((number.parse().ok()?, u64::from_str_radix(key, 16).ok()?, times.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Sources, keys::seal::Sealer};

    fn node(secret: &[u8]) -> Limiters {
        let env = [("LOKI_LIMITS_API".to_owned(), "10/h".to_owned())].into();
        let settings = Sources { env, ..Sources::default() }.load().unwrap();
        Limiters::new(&settings.limits, Some(Sealer::new(secret).keyed_hash(b"limits")))
    }

    #[test]
    fn what_one_node_let_in_counts_on_the_other_and_not_twice_on_itself() {
        let (a, b) = (node(&[1; 32]), node(&[1; 32]));
        let key = a.key_of("tok-1");
        assert_eq!(key, b.key_of("tok-1"));
        assert!((0..7).all(|_| a.api.check(key).is_ok()));
        let words = spent(&a, "a");
        assert_eq!(words.len(), 1);
        for node in [("a", &a), ("b", &b)] {
            words.iter().for_each(|word| count(node.1, node.0, word));
        }
        for limits in [&a, &b] {
            assert!((0..3).all(|_| limits.api.check(key).is_ok()));
            assert!(limits.api.check(key).is_err());
            assert!(limits.api.check(a.key_of("tok-2")).is_ok());
        }
        assert!(spent(&a, "a")[0].contains(".3"), "told of once: {:?}", spent(&a, "a"));
    }

    #[test]
    fn many_callers_are_told_of_in_several_words_and_nonsense_is_left_out() {
        let a = node(&[1; 32]);
        (0..2000).for_each(|n| a.api.check(n).unwrap());
        let words = spent(&a, "a");
        assert!(words.len() > 1 && words.iter().all(|word| word.len() <= LONGEST));
        let b = node(&[1; 32]);
        for word in ["", "a", "a x", "a 6.1", "a 99.1.1", "a 6.zz.1", "a 6.1.-1", "a 6.1.4294967295"] {
            count(&b, "b", word);
        }
        assert!(b.api.check(1).is_err() && b.api.check(2).is_ok());
    }
}
