//! What is looked up for a scrape: how much there is of what, and how old. Each room has a function here that
//! says its [`Reading`]s; one that grows something worth a series adds its own to [`ROOMS`].

use std::{pin::Pin, time::Duration};

use super::App;
use crate::{
    domain::{rotation::KeyState, run::RunState, task::TaskStatus, time::Moment},
    store::StoreError,
    telemetry::{metrics::Reading, process},
};

/// A token that ends within this while is one to think of.
pub const SOON: Duration = Duration::from_hours(24 * 7);
/// The database may take this long for all its answers; a scrape has to be quick.
const PATIENCE: Duration = Duration::from_secs(2);

type Counted<'a> = Pin<Box<dyn Future<Output = Result<Vec<Reading>, StoreError>> + Send + 'a>>;

/// Whoever asks the database. What cannot be said is left out of a scrape, and `lokid_database_up` is 0.
const ROOMS: &[for<'a> fn(&'a App) -> Counted<'a>] = &[
    |app| Box::pin(tokens(app)),
    |app| Box::pin(sessions(app)),
    |app| Box::pin(runs(app)),
    |app| Box::pin(tasks(app)),
    |app| Box::pin(ledger(app)),
    |app| Box::pin(signing_keys(app)),
];

/// Everything that is looked up.
pub async fn readings(app: &App) -> Vec<Reading> {
    let mut readings = instance(app);
    readings.extend(process::readings());
    let stored = tokio::time::timeout(PATIENCE, async {
        let mut stored = Vec::new();
        for room in ROOMS {
            stored.extend(room(app).await?);
        }
        Ok::<_, StoreError>(stored)
    });
    let stored = stored.await.ok().and_then(Result::ok);
    let up = Reading::one("lokid_database_up", "1 while the database answers", number(stored.is_some().into()));
    readings.push(up);
    readings.extend(stored.into_iter().flatten());
    readings
}

/// Counts stay far below the 2^52 up to which this is exact.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn number(count: i64) -> f64 {
    count as f64
}

fn instance(app: &App) -> Vec<Reading> {
    let now = app.now();
    let version = [(env!("CARGO_PKG_VERSION").to_owned(), 1.0)];
    let age = |at: Moment| now.since(at).as_secs_f64();
    let ages = app.providers.iter().filter_map(|p| Some((p.id().to_owned(), age(p.keys_read_at()?))));
    let lags = app.sinks.all();
    let waits = |sink: &str| lags.iter().find(|lag| lag.sink == sink).map_or(0, |lag| lag.waiting);
    let waiting = ["syslog", "webhook"].map(|sink| (sink.to_owned(), number(waits(sink))));
    let depth = i64::try_from(app.events.depth()).unwrap_or(i64::MAX);
    let lost = i64::try_from(app.events.lost()).unwrap_or(i64::MAX);
    vec![
        Reading::by("lokid_build_info", "1, by lokid's version", "version", version),
        Reading::one(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            number(app.started_at.millis()) / 1000.0,
        ),
        Reading::one("lokid_audit_queue_depth", "Events that wait to be written", number(depth)),
        Reading::one("lokid_audit_lost", "Events that did not fit the queue and are counted in a gap", number(lost))
            .counted(),
        Reading::by("lokid_audit_sink_waiting", "Entries that a sink was not told yet", "sink", waiting),
        Reading::by("lokid_provider_keys_age_seconds", "Since a provider's keys were read", "provider", ages),
    ]
}

async fn tokens(app: &App) -> Result<Vec<Reading>, StoreError> {
    let now = app.now();
    let active = app.store.active_tokens(now).await?;
    let soon = app.store.tokens_that_expire(now, now.plus(SOON)).await?;
    Ok(vec![
        Reading::one("lokid_tokens_active", "Tokens that can be used", number(active)),
        Reading::one("lokid_tokens_expiring", "Tokens that end within seven days", number(soon)),
    ])
}

async fn sessions(app: &App) -> Result<Vec<Reading>, StoreError> {
    let (limits, now) = (&app.settings.auth.sessions, app.now());
    let live = app.store.live_sessions(now.minus(limits.absolute), now.minus(limits.idle)).await?;
    Ok(vec![Reading::one("lokid_sessions_live", "Browsers that are signed in", number(live))])
}

async fn runs(app: &App) -> Result<Vec<Reading>, StoreError> {
    let found = app.store.count_runs().await?;
    let of = |state: &RunState| found.iter().find(|(known, _)| known == state).map_or(0, |(_, count)| *count);
    let values = RunState::EVERY.iter().map(|state| (state.as_str().to_owned(), number(of(state))));
    Ok(vec![Reading::by("lokid_runs", "Runs by state", "state", values)])
}

async fn tasks(app: &App) -> Result<Vec<Reading>, StoreError> {
    let mut values = Vec::new();
    for status in TaskStatus::EVERY {
        values.push((status.as_str().to_owned(), number(app.store.count_tasks(*status).await?)));
    }
    Ok(vec![Reading::by("lokid_tasks", "Tasks by state", "state", values)])
}

async fn ledger(app: &App) -> Result<Vec<Reading>, StoreError> {
    let head = app.store.audit_head().await?;
    Ok(vec![Reading::one("lokid_audit_head_seq", "Number of the last entry of the audit log", number(head.seq))])
}

async fn signing_keys(app: &App) -> Result<Vec<Reading>, StoreError> {
    let known = app.store.key_records().await?;
    let of = |state: KeyState| known.iter().filter(|key| key.state() == state).count();
    let count = |state: KeyState| number(i64::try_from(of(state)).unwrap_or(i64::MAX));
    let states = [KeyState::Next, KeyState::Active, KeyState::Retiring];
    let values = states.map(|state| (state.as_str().to_owned(), count(state)));
    Ok(vec![Reading::by("lokid_signing_keys", "Published signing keys by state", "state", values)])
}
