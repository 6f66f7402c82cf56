//! How fast callers may be: `governor`, keyed by the true client (IPv6 by /64) before authentication and
//! by identity after it. State is per node and in memory.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
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

/// All limits.
pub struct Limiters {
    keys: RandomState,
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
    fn new(name: &'static str, rate: Option<Rate>) -> Self {
        let quota = |rate: Rate| {
            let step = rate.per / rate.count.get();
            Quota::with_period(step)
                .map(|q| (rate, RateLimiter::dashmap_with_hasher(q.allow_burst(rate.count), Spread::default())))
        };
        let told = moka::sync::Cache::builder().max_capacity(100_000).time_to_live(Duration::from_mins(1)).build();
        Self { name, rate: rate.and_then(quota), told }
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
        limiter.check_key(&key).map_err(refuse)
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
    /// As configured.
    pub fn new(limits: &Limits) -> Self {
        Self {
            keys: RandomState::new(),
            peer: Limiter::new("peer", limits.peer),
            sign_in: Limiter::new("sign_in", limits.sign_in),
            callback: Limiter::new("callback", limits.callback),
            bad_credentials: Limiter::new("bad_credentials", limits.bad_credentials),
            token_creation: Limiter::new("token_creation", limits.token_creation),
            certificates: Limiter::new("certificates", limits.certificates),
            api: Limiter::new("api", limits.api),
            forward_auth: Limiter::new("forward_auth", limits.forward_auth),
        }
    }

    /// The key of an address: the address itself, or the /64 that it lies in.
    pub fn key_of_ip(&self, ip: IpAddr) -> u64 {
        self.keys.hash_one(match ip.to_canonical() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() >> 64 | 1 << 127,
        })
    }

    /// The key of an identity.
    pub fn key_of(&self, identity: &str) -> u64 {
        self.keys.hash_one(identity)
    }

    /// Forgets keys that have been quiet long enough to be as good as new.
    pub fn forget_idle(&self) {
        let by_peer = [&self.peer, &self.sign_in, &self.callback, &self.bad_credentials];
        let by_caller = [&self.token_creation, &self.certificates, &self.api, &self.forward_auth];
        by_peer.into_iter().chain(by_caller).for_each(Limiter::forget_idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(text: &str) -> Limiter {
        Limiter::new("test", Rate::parse(text).unwrap())
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
        let keys = RandomState::new();
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
