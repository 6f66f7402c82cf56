//! What every act needs, put together once at start.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    admin_link::AdminLink,
    certificates::{self, LastList},
    examination::Examinations,
    happenings::Happenings,
    keys::{self, KeysRefused, share::Share},
    listener::{Listener, ListenerRefused},
    nodes::LastBeat,
    runs::foreman::Foreman,
};
use crate::{
    audit::{EventQueue, sink::Lags},
    authn::{Authn, workload::Workloads},
    cluster::anchors::Anchors,
    config::{
        Settings,
        server::{Database, Signing},
    },
    domain::{
        entropy::Entropy,
        event::{NewEvent, Origin},
        time::{Clock, Moment},
    },
    issuers::http::CaRefused,
    keys::{keyring::Keyring, seal::Sealer},
    oidc::{Providers, provider::ProviderRefused},
    store::{OpenError, Store, open_place},
    telemetry::metrics::Metrics,
};

/// A running instance. Shared by all workers.
pub struct App {
    /// What it was told.
    pub settings: Settings,
    /// Its database.
    pub store: Store,
    /// Who is calling.
    pub authn: Authn,
    /// Identity providers.
    pub providers: Providers,
    /// The installation's secret.
    pub sealer: Sealer,
    /// Our signing keys.
    pub keys: ArcSwap<Keyring>,
    /// The way to them, where the nodes share them through NATS.
    pub share: Option<Share>,
    /// What the TLS listener shows and whom it lets in, if there is one.
    pub listener: Option<Listener>,
    /// The list of revoked certificates that was signed last.
    pub revocation_list: LastList,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Events that must not hold up a request.
    pub events: EventQueue,
    /// Who sees to the runs' processes.
    pub foreman: Foreman,
    /// What happens, for those who follow it.
    pub happenings: Happenings,
    /// Counts of what happened.
    pub metrics: Metrics,
    /// How those who are told of every entry are doing.
    pub sinks: Lags,
    /// The one-time sign-in link of the local administrator, if one was printed.
    pub admin_link: AdminLink,
    /// Where checkpoints are kept in NATS, if they are.
    pub anchors: Option<Arc<Anchors>>,
    /// The examination of the log that is under way.
    pub examinations: Examinations,
    /// Whose turn it is to review what the log tells of rights.
    pub reviews: tokio::sync::Mutex<()>,
    /// When it started.
    pub started_at: Moment,
    /// When it last told the other nodes that it lives.
    pub last_beat: LastBeat,
}

/// Why an instance cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A provider.
    #[error(transparent)]
    Provider(#[from] ProviderRefused),
    /// An issuer of workload tokens.
    #[error("enterprise.auth.jwt ({0}): ca_file: {1}")]
    Issuer(String, CaRefused),
    /// Its signing keys.
    #[error(transparent)]
    Keys(#[from] KeysRefused),
    /// The files of its TLS listener.
    #[error(transparent)]
    Listener(#[from] ListenerRefused),
    /// The file that holds its secret.
    #[error("the secret file {0} cannot be used: {1}")]
    Secret(String, std::io::Error),
}

/// Tokens and sessions that are kept in memory.
const CACHED: u64 = 200_000;
/// Between two tries to reach the database at the start.
const PAUSE: Duration = Duration::from_millis(500);

impl App {
    /// Opens the database and puts everything together.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings, clock: Clock, is_server: bool) -> Result<Arc<Self>, StartError> {
        let node = settings.cluster.node.clone().unwrap_or_else(machine_name);
        let store = open_store(&settings, &node, is_server).await?;
        let sealer = sealer(&settings)?;
        let share = match &settings.signing {
            Signing::Shared(share) => Some(Share::new(share, &node, is_server)),
            _ => None,
        };
        let anchors = anchors(&settings, &node);
        let ring = keys::ring(&settings, &store, &sealer, share.as_ref(), clock.now(), is_server).await?;
        let providers = Providers::new(&settings.auth.providers, &settings.server.public_url, &clock)?;
        let workloads = Workloads::new(&settings, &clock).map_err(|(id, e)| StartError::Issuer(id, e))?;
        let events = EventQueue::start(store.clone(), clock.clone(), settings.audit_queue);
        let tls = settings.server.tls.as_ref().filter(|_| is_server);
        let listener = tls.map(|tls| Listener::start(tls, &clock, &events)).transpose()?;
        let app = Arc::new(Self {
            authn: Authn::new(store.clone(), clock.clone(), &settings.auth, workloads, CACHED),
            events,
            listener,
            revocation_list: LastList::default(),
            started_at: clock.now(),
            last_beat: LastBeat::default(),
            sinks: Lags::default(),
            examinations: Examinations::default(),
            reviews: tokio::sync::Mutex::default(),
            anchors,
            admin_link: AdminLink::default(),
            foreman: Foreman::new(&settings.runs),
            happenings: Happenings::default(),
            entropy: Entropy,
            metrics: Metrics::default().with_propagation(&store.rights().propagation),
            keys: ArcSwap::from_pointee(ring),
            share,
            providers,
            sealer,
            store,
            clock,
            settings,
        });
        certificates::heed_revocations(&app).await.map_err(ListenerRefused::from)?;
        Ok(app)
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Records something that must not hold up a request.
    pub fn note(&self, event: NewEvent, origin: &Origin) {
        self.metrics.count(&event);
        self.events.record(event.from(origin));
    }

    /// Commits what waits and closes the database.
    pub async fn close(&self) {
        self.events.flush().await;
        self.store.close().await;
    }
}

/// A server may be started together with its database.
async fn open_store(settings: &Settings, node: &str, is_server: bool) -> Result<Store, OpenError> {
    let until = Instant::now() + if is_server { settings.database_wait } else { Duration::ZERO };
    loop {
        match Store::open(open_place(&settings.database, node, is_server)).await {
            Err(e @ OpenError::Connect { .. }) if Instant::now() < until => {
                tracing::warn!(error = %e, "waiting for the database");
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

fn anchors(settings: &Settings, node: &str) -> Option<Arc<Anchors>> {
    let Signing::Shared(shared) = &settings.signing else { return None };
    let bucket = settings.audit.anchor_bucket.as_ref()?;
    // On PostgreSQL all nodes write one log; a SQLite file is its node's own.
    let owner = match settings.database {
        Database::Postgres(_) => "shared".to_owned(),
        Database::Sqlite(_) => format!("node-{node}"),
    };
    Some(Arc::new(Anchors::new(keys::share::access(shared, node), bucket, &owner)))
}

fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "lokid".to_owned() } else { name.chars().take(64).collect() }
}

/// From the configuration; else from a file beside the SQLite database; else for this process only.
fn sealer(settings: &Settings) -> Result<Sealer, StartError> {
    match (&settings.server.secret, &settings.database) {
        (Some(secret), _) => Ok(Sealer::new(secret.reveal().as_bytes())),
        (None, Database::Sqlite(file)) => {
            let path = file.parent().unwrap_or(Path::new(".")).join("secret.key");
            Sealer::from_file(&path, Entropy).map_err(|e| StartError::Secret(path.display().to_string(), e))
        }
        (None, Database::Postgres(_)) => {
            tracing::warn!(
                "server.secret is not set: sessions end when this process does, and other nodes cannot read them. \
                 Set LOKI_SERVER_SECRET_FILE"
            );
            Ok(Sealer::new(&Entropy.bytes::<32>()))
        }
    }
}
