//! Which events need a process of lokid's own, or several, to be recorded. Every other is made by `http/coverage.rs`.

use lokid::domain::event::EventName;

/// Made by `cluster/coverage.rs`.
pub(crate) const BY_PROCESSES: [EventName; 5] = [
    EventName::ServerStarted,
    EventName::ConfigLoaded,
    EventName::ServerStopped,
    EventName::KeysSynced,
    EventName::KeysRefused,
];
