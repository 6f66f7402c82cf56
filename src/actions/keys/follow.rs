//! Following the ring that the nodes share while a server runs.
//!
//! A ring counts by its revision, which is sealed with it. What does not open, or is older than what this node holds, is
//! refused with an event; the ring that was good stays, and takes its place in the bucket again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use super::{
    ring::{ShareRefused, is_newer, keyring, published, tell},
    share::Held,
    watch::{by_system, observe, rotate_when_due},
};
use crate::{
    actions::App,
    cluster::bucket::{Bucket, BucketError, Found},
    domain::event::{Actor, EventName},
    store::StoreError,
};

/// A node notices within this long that the ring changed.
pub const LOOK: Duration = Duration::from_secs(2);
/// A ring that was refused is replaced by ours at most this often.
const HEAL: Duration = Duration::from_secs(10);

/// What this node saw last in the bucket.
#[derive(Debug, Default)]
pub struct Follower {
    has_observed: bool,
    /// The number of a value that was refused already.
    refused: Option<u64>,
    healed: Option<Instant>,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookFailed {
    /// NATS.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The events could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Follower {
    /// Takes a ring that changed, together with the events that say what changed. One that is no good keeps the old.
    ///
    /// # Errors
    /// [`LookFailed`]: the old ring stays then, and the next look tries again.
    pub async fn look(&mut self, app: &App) -> Result<(), LookFailed> {
        let Some(share) = &app.share else { return Ok(()) };
        let bucket = share.bucket().await?;
        let mut held = share.held.lock().await;
        let Some(held) = held.as_mut() else { return Ok(()) };
        let Some(found) = bucket.get().await? else {
            if let Some(number) = bucket.create(&held.sealed).await? {
                held.number = Some(number);
                let (by, why) = ((app.now(), Actor::system()), "the bucket held none");
                tell(&app.store, by, EventName::KeysSynced, &held.ring, why).await?;
            }
            return Ok(());
        };
        // Both: a bucket that was made anew counts from the beginning.
        if held.number == Some(found.number) && held.sealed == found.value {
            share.set_disputed(false);
            return self.note_first(app).await;
        }
        match share.open(&found.value, &share.in_nats()) {
            Ok((ring, keys)) if is_newer(&ring, &held.ring) => {
                let new = match published(&app.store, keys, share.in_nats()).await {
                    Ok(keys) => keyring(keys),
                    Err(ShareRefused::Store(e)) => return Err(e.into()),
                    Err(e) => return self.refuse(app, bucket, held, (&found, &e.to_string(), true)).await,
                };
                observe(app, new.keys(), by_system(app)).await?;
                share.keep(&found.value);
                app.keys.store(Arc::new(new));
                *held = Held { ring, sealed: found.value, number: Some(found.number) };
                self.has_observed = true;
                share.set_disputed(false);
            }
            Ok((ring, _)) if ring == held.ring => {
                // Sealed anew, perhaps under another token.
                share.keep(&found.value);
                (held.sealed, held.number) = (found.value, Some(found.number));
                share.set_disputed(false);
                self.note_first(app).await?;
            }
            Ok((ring, _)) => {
                let why = format!("revision {} is older than {}", ring.revision, held.ring.revision);
                self.refuse(app, bucket, held, (&found, &why, true)).await?;
            }
            Err(e) => {
                share.set_disputed(true);
                self.refuse(app, bucket, held, (&found, &e.to_string(), !e.may_be_right())).await?;
            }
        }
        Ok(())
    }

    /// Writes down, once, the ring that this node started with: when NATS has said that it counts. A node that started from
    /// an old copy would otherwise take back what others have done meanwhile.
    async fn note_first(&mut self, app: &App) -> Result<(), LookFailed> {
        if !self.has_observed {
            observe(app, app.keys.load_full().keys(), by_system(app)).await?;
            self.has_observed = true;
        }
        Ok(())
    }

    /// Says once that a value is no good, and puts ours in its place.
    async fn refuse(
        &mut self,
        app: &App,
        bucket: &Bucket,
        held: &mut Held,
        (found, why, heals): (&Found, &str, bool),
    ) -> Result<(), LookFailed> {
        if self.refused != Some(found.number) {
            tracing::error!(why, "signing keys from NATS were refused; this node's stay");
            tell(&app.store, (app.now(), Actor::system()), EventName::KeysRefused, &held.ring, why).await?;
            self.refused = Some(found.number);
        }
        if !heals || self.healed.is_some_and(|at| at.elapsed() < HEAL) {
            return Ok(());
        }
        self.healed = Some(Instant::now());
        if let Some(number) = bucket.replace(&held.sealed, found.number).await? {
            held.number = Some(number);
            tracing::warn!(kid = %held.ring.kid, "this node's signing keys were put into NATS again");
            tell(
                &app.store,
                (app.now(), Actor::system()),
                EventName::KeysSynced,
                &held.ring,
                "the bucket's were refused",
            )
            .await?;
        }
        Ok(())
    }
}

/// Follows the ring, and rotates it when it is time, until the task is dropped.
pub async fn follow(app: &App) {
    let Some(share) = &app.share else { return };
    let (mut follower, mut tick) = (Follower::default(), tokio::time::interval(LOOK));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let looked = follower.look(app).await;
        match (&looked, share.set_away(matches!(looked, Err(LookFailed::Bucket(_))))) {
            (Err(e), true) => tracing::warn!(error = %e, "the signing keys cannot be followed; they stay as they are"),
            (Ok(()), true) => tracing::info!("the signing keys are followed again"),
            (Err(e), false) => tracing::debug!(error = %e, "the signing keys cannot be followed"),
            (Ok(()), false) => {}
        }
        if let Some(every) = share.settings.rotate_every
            && looked.is_ok()
            && let Err(e) = rotate_when_due(app, every).await
        {
            tracing::warn!(error = %e, "the rotation waits for the database");
        }
    }
}
