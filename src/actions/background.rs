//! What goes on beside the requests: storing uses in batches, noting expiries, forgetting what is over.

use std::{sync::Arc, time::Duration};

use super::{App, evidence, keys::follow, nodes};
use crate::{
    authn::uses::Arrival,
    domain::event::{Actor, ActorKind, EventName, NewEvent, Origin},
    store::{
        Engine, StoreError,
        certificates::ForgetKeys,
        sessions::{Seen, Sweep},
        token_uses::{Touch, UseScopes},
        tokens::NoteExpiries,
    },
};

const WRITE_USES: Duration = Duration::from_secs(5);
const NOTE_EXPIRIES: Duration = Duration::from_secs(20);
/// A server notices within this long that its signing keys changed.
pub const LOOK_AT_KEYS: Duration = Duration::from_secs(2);
/// Whether the log's head is to be signed is looked at this often.
const SIGN: Duration = Duration::from_secs(1);
/// When what was written is written down this often, to find it by its time.
const NOTE_TIMES: Duration = Duration::from_secs(1);
const RETAIN: Duration = Duration::from_hours(1);
const SWEEP: Duration = Duration::from_mins(10);
/// Ended sessions stay readable for audits this long after they could have lasted.
const KEEP_SESSIONS: Duration = Duration::from_hours(24 * 30);

/// Runs until the task is dropped.
pub async fn run(app: Arc<App>) {
    tokio::join!(tend(&app), keep_in_bounds(&app), evidence::tell_sinks(&app), follow::follow(&app), be_a_node(&app));
}

/// Says three times in a lease that this node lives, apart from the rest: others must not take it for dead because
/// something else takes long.
async fn be_a_node(app: &App) {
    // On SQLite there is no other, and an idle server writes nothing.
    if app.store.engine() == Engine::Sqlite {
        return;
    }
    let mut beat = tokio::time::interval(app.settings.cluster.lease / 3);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut neighbours = nodes::Neighbours::default();
    loop {
        beat.tick().await;
        if let Err(e) = neighbours.look(app).await {
            tracing::warn!(error = %e, "this node could not say that it lives");
        }
    }
}

async fn tend(app: &App) {
    let mut uses = tokio::time::interval(WRITE_USES);
    let mut expiries = tokio::time::interval(NOTE_EXPIRIES);
    let mut sweep = tokio::time::interval(SWEEP);
    let mut look = tokio::time::interval(LOOK_AT_KEYS);
    let mut times = tokio::time::interval(NOTE_TIMES);
    let mut sign = tokio::time::interval(SIGN);
    if let Err(e) = evidence::compare_with_last_anchor(app).await {
        tracing::warn!(error = %e, "the last anchor could not be compared with the log");
    }
    let mut watch = super::keys::watch::Watch::default();
    let mut look_at_listener = tokio::time::interval(LOOK_AT_KEYS);
    let mut listener = super::listener::Watch::default();
    loop {
        let done = tokio::select! {
            _ = uses.tick() => write_uses(app).await,
            _ = expiries.tick() => note_expiries(app).await,
            _ = sweep.tick() => forget(app).await,
            _ = look.tick() => watch.look(app).await,
            _ = sign.tick() => evidence::sign(app, false).await.map(drop),
            _ = times.tick() => app.store.note_times().await.map(drop),
            _ = look_at_listener.tick() => listener.look(app).await,
        };
        if let Err(e) = done {
            tracing::warn!(error = %e, "background work waits for the database");
        }
    }
}

/// Stores when and from where tokens and sessions were used, and which scopes they needed. What cannot be stored now
/// is dropped: it is a convenience, and the next use is noted again. Scopes are kept, because they are not.
///
/// # Errors
/// When the database cannot take it.
pub async fn write_uses(app: &App) -> Result<(), StoreError> {
    let gathered = app.authn.uses.drain();
    for (id, name, at) in gathered.first_uses {
        let actor = Actor::new(ActorKind::Token, id.as_str(), name.as_str());
        let event = NewEvent::new(at, EventName::TokenUsed, actor).on("token", id.as_str());
        let ip = gathered.tokens.get(&id).map(|(_, from)| from.clone());
        app.note(event, &Origin { ip, ..Origin::default() });
    }
    for Arrival { actor, rule, at, from } in gathered.arrivals {
        let mut event = NewEvent::new(at, EventName::TokenUsed, actor);
        if !rule.is_empty() {
            event = event.with("rule", rule);
        }
        app.note(event, &Origin { ip: Some(from), ..Origin::default() });
    }
    let needed: Vec<_> = gathered.scopes.into_iter().collect();
    for piece in needed.chunks(500) {
        if let Err(e) = app.store.act(UseScopes { needed: piece.to_vec() }).await {
            app.authn.uses.keep_scopes(needed);
            return Err(e);
        }
    }
    let uses: Vec<_> = gathered.tokens.into_iter().map(|(id, (at, from))| (id, at, from)).collect();
    for piece in uses.chunks(500) {
        app.store.act(Touch { uses: piece.to_vec() }).await?;
    }
    let seen: Vec<_> = gathered.sessions.into_iter().collect();
    for piece in seen.chunks(500) {
        app.store.act(Seen { seen: piece.to_vec() }).await?;
    }
    Ok(())
}

/// Takes out of the log what grew too old, apart from the rest because the first time may take long.
async fn keep_in_bounds(app: &App) {
    let mut retain = tokio::time::interval(RETAIN);
    loop {
        retain.tick().await;
        match evidence::retain_by(app, (Actor::system(), Origin::default())).await {
            Ok(0) => {}
            Ok(taken) => tracing::info!(taken, "entries of the audit log grew too old and were taken out"),
            Err(e) => tracing::error!(error = %e, "retention stops until the next hour"),
        }
    }
}

/// Records the tokens whose time ended.
///
/// # Errors
/// When the database cannot take it.
pub async fn note_expiries(app: &App) -> Result<(), StoreError> {
    while app.store.act(NoteExpiries { now: app.now() }).await? == 100 {}
    Ok(())
}

async fn forget(app: &App) -> Result<(), StoreError> {
    let now = app.now();
    let sessions_before = now.minus(app.settings.auth.sessions.absolute).minus(KEEP_SESSIONS);
    super::runs::foreman::forget(app).await?;
    app.store.act(ForgetKeys { now }).await?;
    app.store.act(Sweep { now, sessions_before }).await
}
