//! When may something that was read earlier still be believed?
//!
//! Every act that can take a right away advances the epoch *before* its answer leaves. Whoever caches
//! notes the epoch at which its read *began* and does not use what is from an older one. So a token can
//! be cached and yet never be accepted after the answer to its revocation.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crate::telemetry::metrics::Durations;

/// Counts losses of rights, and knows whether losses elsewhere would be heard of.
#[derive(Debug, Default)]
pub struct Rights {
    epoch: AtomicU64,
    deaf: AtomicBool,
    /// How long it took to hear of losses through other processes, where the engine tells of them.
    pub propagation: Durations,
}

/// How long a loss by another process may stay unheard.
pub(super) const LISTEN_INTERVAL: Duration = Duration::from_millis(200);

impl Rights {
    /// The present epoch; `None` while losses elsewhere would go unheard, so that nothing may be cached.
    pub fn epoch(&self) -> Option<u64> {
        (!self.deaf.load(Ordering::Acquire)).then(|| self.epoch.load(Ordering::Acquire))
    }

    /// Somebody lost a right.
    pub fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether losses by other processes are heard of. Going deaf and hearing again both end an epoch.
    pub(super) fn set_deaf(&self, deaf: bool) {
        if self.deaf.load(Ordering::Acquire) == deaf {
            return;
        }
        // Whoever read while nothing was heard must find another epoch when they may believe again.
        self.advance();
        self.deaf.store(deaf, Ordering::Release);
        self.advance();
    }
}
