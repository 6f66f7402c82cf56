//! How fast callers may be: `governor`, keyed by the true client (IPv6 by /64) before authentication and
//! by identity after it. State is in memory, of this node or, with what the others say ([`shared`]), of all of them.

pub mod shared;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::Mutex,
    time::Duration,
};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::DashMapStateStore,
};

use crate::{
    config::limits::{Limits, Rate},
    domain::spread::Spread,
    keys::seal::KeyedHash,
};

/// Keys come out of a keyed hash ([`Limiters::key_of`]) and are not hashed again.
type Keyed = RateLimiter<u64, DashMapStateStore<u64, Spread>, DefaultClock>;

/// One limit with its name in the audit log and the documentation.
pub struct Limiter {
    /// `sign_in`, `api`, …
    pub name: &'static str,
    rate: Option<(Rate, Keyed)>,
    /// Keys whose excess was recorded lately: one event a minute for each.
    told: moka::sync::Cache<u64, ()>,
    /// What was let in since the other nodes were told, where they are.
    spent: Option<Mutex<HashMap<u64, u32>>>,
}

/// The caller is too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFast {
    /// Which limit.
    pub name: &'static str,
    /// How many in its while.
    pub count: u32,
    /// When to try again.
    pub retry_after: Duration,
    /// Whether this is the first excess in a while, and so worth an event.
    pub worth_telling: bool,
}

/// How a caller becomes a number.
enum Keys {
    /// Of this process only.
    Own(RandomState),
    /// The same on every node.
    Shared(Box<KeyedHash>),
}

/// All limits.
pub struct Limiters {
    keys: Keys,
    /// Requests of one address without a valid credential.
    pub peer: Limiter,
    /// Sign-ins one address may begin.
    pub sign_in: Limiter,
    /// Sign-ins one address may finish.
    pub callback: Limiter,
    /// Refused credentials of one address.
    pub bad_credentials: Limiter,
    /// Tokens one caller may make.
    pub token_creation: Limiter,
    /// Certificates one caller may ask for.
    pub certificates: Limiter,
    /// Requests of one caller.
    pub api: Limiter,
    /// Requests of one caller to other apps.
    pub forward_auth: Limiter,
}

impl Limiter {
    fn new(name: &'static str, rate: Option<Rate>, is_shared: bool) -> Self {
        let quota = |rate: Rate| {
            let step = rate.per / rate.count.get();
            Quota::with_period(step)
                .map(|q| (rate, RateLimiter::dashmap_with_hasher(q.allow_burst(rate.count), Spread::default())))
        };
        let told = moka::sync::Cache::builder().max_capacity(100_000).time_to_live(Duration::from_mins(1)).build();
        Self { name, rate: rate.and_then(quota), told, spent: is_shared.then(Mutex::default) }
    }

    /// Counts one.
    ///
    /// # Errors
    /// [`TooFast`] when that is one too many.
    pub fn check(&self, key: u64) -> Result<(), TooFast> {
        let Some((rate, limiter)) = &self.rate else { return Ok(()) };
        let refuse = |until: NotUntil<_>| {
            let retry_after = until.wait_time_from(DefaultClock::default().now()).max(Duration::from_secs(1));
            self.too_fast(rate, key, retry_after)
        };
        limiter.check_key(&key).map_err(refuse)?;
        if let Some(spent) = self.spent.as_ref().and_then(|spent| spent.lock().ok()).as_mut() {
            *spent.entry(key).or_default() += 1;
        }
        Ok(())
    }

    /// Takes what was let in since the last time.
    fn take_spent(&self) -> HashMap<u64, u32> {
        let spent = self.spent.as_ref().and_then(|spent| spent.lock().ok());
        spent.map(|mut spent| std::mem::take(&mut *spent)).unwrap_or_default()
    }

    /// Counts what another node let in.
    fn count(&self, key: u64, times: u32) {
        if let Some((_, limiter)) = &self.rate {
            // As much as fits; what is beyond is spent already.
            let _ = (0..times).try_for_each(|_| limiter.check_key(&key));
        }
    }

    fn too_fast(&self, rate: &Rate, key: u64, retry_after: Duration) -> TooFast {
        let worth_telling = !self.told.contains_key(&key);
        if worth_telling {
            self.told.insert(key, ());
        }
        TooFast { name: self.name, count: rate.count.get(), retry_after, worth_telling }
    }

    fn forget_idle(&self) {
        if let Some((_, limiter)) = &self.rate {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

impl Limiters {
    /// As configured; `shared` makes the numbers of callers, where nodes tell each other of them.
    pub fn new(limits: &Limits, shared: Option<KeyedHash>) -> Self {
        let is_shared = shared.is_some();
        Self {
            keys: shared.map_or_else(|| Keys::Own(RandomState::new()), |keys| Keys::Shared(Box::new(keys))),
            peer: Limiter::new("peer", limits.peer, is_shared),
            sign_in: Limiter::new("sign_in", limits.sign_in, is_shared),
            callback: Limiter::new("callback", limits.callback, is_shared),
            bad_credentials: Limiter::new("bad_credentials", limits.bad_credentials, is_shared),
            token_creation: Limiter::new("token_creation", limits.token_creation, is_shared),
            certificates: Limiter::new("certificates", limits.certificates, is_shared),
            api: Limiter::new("api", limits.api, is_shared),
            forward_auth: Limiter::new("forward_auth", limits.forward_auth, is_shared),
        }
    }

    /// The key of an address: the address itself, or the /64 that it lies in.
    pub fn key_of_ip(&self, ip: IpAddr) -> u64 {
        let number = match ip.to_canonical() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() >> 64 | 1 << 127,
        };
        match &self.keys {
            Keys::Own(keys) => keys.hash_one(number),
            Keys::Shared(keys) => keys.number(&number.to_be_bytes()),
        }
    }

    /// The key of an identity.
    pub fn key_of(&self, identity: &str) -> u64 {
        match &self.keys {
            Keys::Own(keys) => keys.hash_one(identity),
            Keys::Shared(keys) => keys.number(identity.as_bytes()),
        }
    }

    /// All of them, in an order that every node has.
    fn every(&self) -> [&Limiter; 8] {
        let [peer, sign_in, callback, bad] = [&self.peer, &self.sign_in, &self.callback, &self.bad_credentials];
        [peer, sign_in, callback, bad, &self.token_creation, &self.certificates, &self.api, &self.forward_auth]
    }

    /// Forgets keys that have been quiet long enough to be as good as new.
    pub fn forget_idle(&self) {
        self.every().into_iter().for_each(Limiter::forget_idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(text: &str) -> Limiter {
        Limiter::new("test", Rate::parse(text).unwrap(), false)
    }

    #[test]
    fn the_whole_number_may_come_at_once_and_one_key_does_not_starve_another() {
        let limiter = limiter("3/h");
        assert!((0..3).all(|_| limiter.check(1).is_ok()));
        let refused = limiter.check(1).unwrap_err();
        assert!(refused.worth_telling && refused.retry_after > Duration::from_mins(19));
        assert!(!limiter.check(1).unwrap_err().worth_telling);
        assert!(limiter.check(2).is_ok());
    }

    #[test]
    fn off_means_no_limit_and_neighbours_in_one_network_share_a_key() {
        let off = limiter("off");
        assert!((0..10_000).all(|_| off.check(1).is_ok()));
        let keys = Keys::Own(RandomState::new());
        let all = Limiters {
            keys,
            peer: limiter("off"),
            sign_in: limiter("off"),
            callback: limiter("off"),
            bad_credentials: limiter("off"),
            token_creation: limiter("off"),
            certificates: limiter("off"),
            api: limiter("off"),
            forward_auth: limiter("off"),
        };
        let key = |ip: &str| all.key_of_ip(ip.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("1.2.3.4"), key("::ffff:1.2.3.4"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
    }
}
