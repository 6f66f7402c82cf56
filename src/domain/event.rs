//! Audit events: their names, how durable each must be, and what one says.

use super::time::Moment;

/// How an event relates to the act that it records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Commits with the act, or the act does not happen.
    MustRecord,
    /// Goes through a bounded queue; what does not fit is counted in an explicit gap.
    RecordOrCount,
}

/// How much an event matters to whoever reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The normal course of things.
    Info,
    /// Worth a look.
    Warning,
}

impl Level {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $level:ident, $durability:ident;)+) => {
        /// Every event that lokid records (`contract.md` §8).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventName { $($(#[$doc])* $name),+ }

        impl EventName {
            /// All of them.
            pub const EVERY: &[Self] = &[$(Self::$name),+];

            /// As stored, filtered and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// How much it matters.
            pub const fn level(self) -> Level {
                match self { $(Self::$name => Level::$level),+ }
            }

            /// Whether it must commit with its act.
            pub const fn durability(self) -> Durability {
                match self { $(Self::$name => Durability::$durability),+ }
            }
        }
    };
}

events! {
    /// A person signed in.
    SignInSucceeded = "auth.oidc.success", Info, MustRecord;
    /// A sign-in failed.
    SignInFailed = "auth.oidc.fail", Warning, RecordOrCount;
    /// A person, or the provider for them, signed out.
    SignedOut = "auth.logout", Info, MustRecord;
    /// A credential was refused.
    CredentialRefused = "auth.fail", Warning, RecordOrCount;
    /// A token was made.
    TokenCreated = "auth.token.create", Info, MustRecord;
    /// A token was used (once per token and interval).
    TokenUsed = "auth.token.use", Info, RecordOrCount;
    /// A token was replaced by a new one.
    TokenRotated = "auth.token.rotate", Info, MustRecord;
    /// A token was revoked.
    TokenRevoked = "auth.token.revoke", Info, MustRecord;
    /// A token's time ended.
    TokenExpired = "auth.token.expire", Info, MustRecord;
    /// A session ended otherwise than by its own person's sign-out.
    SessionEnded = "session.end", Info, MustRecord;
    /// A person's role changed at the provider.
    RoleChanged = "auth.role.change", Info, MustRecord;
    /// A known caller asked for what it may not do.
    PermissionDenied = "permission.denied", Warning, RecordOrCount;
    /// A caller was too fast.
    RateLimited = "rate.limited", Warning, RecordOrCount;
    /// A run was asked for.
    RunStarted = "run.start", Info, MustRecord;
    /// A run got its turn, and its process a token.
    RunLaunched = "run.launch", Info, MustRecord;
    /// A run waits again: its process was never started.
    RunRequeued = "run.requeue", Warning, MustRecord;
    /// Runs that were over for long were forgotten, with their logs.
    RunsForgotten = "run.forget", Info, MustRecord;
    /// A run was asked to end.
    RunStopped = "run.stop", Info, MustRecord;
    /// A run's processes were stopped where they were.
    RunPaused = "run.pause", Info, MustRecord;
    /// They go on.
    RunResumed = "run.resume", Info, MustRecord;
    /// A run said how far it is.
    RunReported = "run.progress", Info, MustRecord;
    /// A run came to its end, by itself or because it was stopped.
    RunCompleted = "run.complete", Info, MustRecord;
    /// A run did not come to a good end.
    RunFailed = "run.fail", Warning, MustRecord;
    /// A task was made.
    TaskCreated = "task.create", Info, MustRecord;
    /// A task was changed.
    TaskUpdated = "task.update", Info, MustRecord;
    /// A task went to another column or place.
    TaskMoved = "task.move", Info, MustRecord;
    /// A task was deleted.
    TaskDeleted = "task.delete", Info, MustRecord;
    /// A signing key is published from now on.
    KeyAdded = "key.add", Info, MustRecord;
    /// Another key signs from now on.
    KeyPromoted = "key.promote", Info, MustRecord;
    /// A signing key is no longer published.
    KeyRemoved = "key.remove", Info, MustRecord;
    /// This node's signing keys and those that the nodes share differed, and one side took the other's.
    KeysSynced = "key.sync", Warning, MustRecord;
    /// Signing keys that came from elsewhere were not taken.
    KeysRefused = "key.refuse", Warning, MustRecord;
    /// A certificate was issued.
    CertificateIssued = "certificate.issue", Info, MustRecord;
    /// A certificate that is there was handed out again, with its private key.
    CertificateFetched = "certificate.fetch", Info, RecordOrCount;
    /// An issued certificate was revoked.
    CertificateRevoked = "certificate.revoke", Info, MustRecord;
    /// The files of the TLS listener changed and were read again.
    CertificateLoaded = "certificate.load", Info, MustRecord;
    /// A server read its settings.
    ConfigLoaded = "config.load", Info, MustRecord;
    /// Somebody verified the log.
    AuditVerified = "audit.verify", Info, RecordOrCount;
    /// The head of the log was signed.
    AuditCheckpointed = "audit.checkpoint", Info, MustRecord;
    /// Somebody exported the log.
    AuditExported = "audit.export", Info, MustRecord;
    /// Entries grew too old and were taken out.
    AuditRetained = "audit.retention", Info, MustRecord;
    /// Events were lost: how many is in the details.
    AuditGap = "audit.gap", Warning, MustRecord;
    /// A server started.
    ServerStarted = "server.start", Info, MustRecord;
    /// A server stopped.
    ServerStopped = "server.stop", Info, MustRecord;
    /// A node was not heard of for its lease, and its runs were marked.
    NodeLost = "node.lost", Warning, MustRecord;
}

impl EventName {
    /// The event of this name, if lokid records one.
    pub fn find(text: &str) -> Option<Self> {
        Self::EVERY.iter().copied().find(|name| name.as_str() == text)
    }
}

/// What kind of somebody acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// A person in a browser.
    Person,
    /// The holder of a token.
    Token,
    /// The holder of a client certificate.
    Certificate,
    /// The bearer of a configured issuer's token.
    Workload,
    /// Whoever holds a pre-shared key.
    PresharedKey,
    /// Somebody at the machine's own terminal.
    Terminal,
    /// An identity provider.
    Provider,
    /// lokid itself.
    System,
    /// Somebody who did not say who.
    Anonymous,
}

impl ActorKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Workload => "workload",
            Self::PresharedKey => "psk",
            Self::Terminal => "terminal",
            Self::Provider => "provider",
            Self::System => "system",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// What kind of somebody.
    pub kind: ActorKind,
    /// Their public id; empty for nobody.
    pub id: String,
    /// What to call them.
    pub name: String,
}

impl Actor {
    /// Somebody.
    pub fn new(kind: ActorKind, id: &str, name: &str) -> Self {
        Self { kind, id: id.to_owned(), name: name.to_owned() }
    }

    /// lokid itself.
    pub fn system() -> Self {
        Self::new(ActorKind::System, "lokid", "lokid")
    }

    /// Nobody known.
    pub fn anonymous() -> Self {
        Self::new(ActorKind::Anonymous, "", "")
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried and did not work.
    Failure,
    /// It was not allowed.
    Denied,
}

impl Outcome {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }

    /// The outcome of this name.
    pub fn find(text: &str) -> Option<Self> {
        [Self::Success, Self::Failure, Self::Denied].into_iter().find(|o| o.as_str() == text)
    }
}

/// From where a request came, as far as the audit log keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The id of the request, as in the `X-Request-Id` answer.
    pub request_id: Option<String>,
    /// The true client's address.
    pub ip: Option<String>,
    /// The caller's program, cut to 256 characters.
    pub user_agent: Option<String>,
}

/// An event that is not in the log yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// When it happened.
    pub time: Moment,
    /// What happened.
    pub name: EventName,
    /// Who did it.
    pub actor: Actor,
    /// The kind of thing it was done to; empty for none.
    pub resource_kind: &'static str,
    /// That thing's public id; empty for none.
    pub resource_id: String,
    /// How it went.
    pub outcome: Outcome,
    /// Why it went so; empty when that goes without saying.
    pub reason: String,
    /// From where it came.
    pub origin: Origin,
    /// What else is worth keeping, as a JSON object. Never a secret.
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl NewEvent {
    /// A successful event about nothing in particular; the builder methods say the rest.
    pub fn new(time: Moment, name: EventName, actor: Actor) -> Self {
        Self {
            time,
            name,
            actor,
            resource_kind: "",
            resource_id: String::new(),
            outcome: Outcome::Success,
            reason: String::new(),
            origin: Origin::default(),
            details: serde_json::Map::new(),
        }
    }

    /// What it was done to.
    #[must_use]
    pub fn on(mut self, kind: &'static str, id: impl Into<String>) -> Self {
        self.resource_kind = kind;
        self.resource_id = id.into();
        self
    }

    /// That it did not go well, and why.
    #[must_use]
    pub fn because(mut self, outcome: Outcome, reason: impl Into<String>) -> Self {
        self.outcome = outcome;
        self.reason = reason.into();
        self
    }

    /// From where it came.
    #[must_use]
    pub fn from(mut self, origin: &Origin) -> Self {
        self.origin = origin.clone();
        self
    }

    /// One more thing worth keeping.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}
