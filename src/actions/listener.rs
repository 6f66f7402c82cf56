//! The TLS listener's certificate and whom it lets in: read at the start, read again when a file changes, and told
//! of certificates that our own authority revoked. A bad file keeps what was there before, and says so.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use governor::{Quota, RateLimiter};
use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject as _};

use super::App;
use crate::{
    audit::EventQueue,
    config::server::{Clients, Tls},
    domain::{
        event::{Actor, EventName, NewEvent, Outcome},
        screen,
        time::{Clock, Moment},
    },
    pki::{
        PkiError,
        client::{Gate, Prepared, Trust, TrustRefused},
        read::{Facts, chain},
        refused::Refused,
        tls::{Display, Shown, server_config},
    },
    store::{StoreError, ledger::Append},
};

/// What the TLS listener shows and whom it lets in.
#[derive(Debug)]
pub struct Listener {
    files: Tls,
    display: Arc<Display>,
    /// Judges client certificates, where they are asked for.
    pub gate: Option<Arc<Gate>>,
}

/// The files of the listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerRefused {
    /// The certificate or its key.
    #[error("server.tls: {0}")]
    Pair(#[from] PkiError),
    /// The authorities of clients, or the lists of revoked certificates.
    #[error("server.tls.client_ca or client_crl: {0}")]
    Trust(#[from] TrustRefused),
    /// An authority that cannot be one.
    #[error("server.tls.client_ca: {0}")]
    Authority(PkiError),
    /// What was revoked is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The crypto provider.
    #[error("server.tls: {0}")]
    Provider(#[from] rustls::Error),
}

impl Listener {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ListenerRefused`].
    pub fn start(files: &Tls, clock: &Clock, events: &EventQueue) -> Result<Self, ListenerRefused> {
        let shown = Shown::load(&files.cert, &files.key)?;
        // It still serves clients that look away, and a page that can be reached says more than none.
        if let Err(e) = shown.facts.check_time(clock.now()) {
            tracing::error!(file = %files.cert.display(), "the server's certificate: {e}");
        }
        let gate = files.clients.as_ref().map(|clients| gate(clients, clock, events)).transpose()?;
        Ok(Self { files: files.clone(), display: Arc::new(Display::new(&shown)), gate: gate.map(Arc::new) })
    }

    /// What rustls has to know.
    ///
    /// # Errors
    /// When the crypto provider lacks what TLS needs.
    pub fn config(&self, clock: &Clock) -> Result<rustls::ServerConfig, ListenerRefused> {
        Ok(server_config(Arc::clone(&self.display), self.gate.clone(), clock)?)
    }
}

fn gate(clients: &Clients, clock: &Clock, events: &EventQueue) -> Result<Gate, ListenerRefused> {
    let (events, now) = (events.clone(), clock.clone());
    let often = RateLimiter::direct(Quota::per_second(MOST_TOLD));
    let told = moka::sync::Cache::builder().max_capacity(1000).time_to_live(TOLD_AGAIN).build();
    let tell = move |refused: &Refused, facts: Option<&Facts>| {
        let key = (refused.reason(), facts.map(|facts| facts.fingerprint));
        // A client that tries again and again is told of once in a while.
        if !told.entry(key).or_insert(()).is_fresh() {
            return;
        }
        // Whoever makes a new certificate for each try does not fill the log.
        if often.check().is_err() {
            return events.count_only();
        }
        tracing::warn!(subject = facts.map(|f| cut(&f.subject)), "a client certificate was refused: {refused}");
        let event = NewEvent::new(now.now(), EventName::CredentialRefused, Actor::anonymous());
        events.record(refusal(event, refused, facts));
    };
    Ok(Gate::new(&trust(clients, clock.now())?, clients.required, clock.clone(), Box::new(tell))?)
}

/// Refused handshakes that make an event of their own in a second.
const MOST_TOLD: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// A certificate that was refused makes an event once in this while.
const TOLD_AGAIN: std::time::Duration = std::time::Duration::from_mins(1);

/// An event that says which certificate was refused and why.
pub fn refusal(event: NewEvent, refused: &Refused, facts: Option<&Facts>) -> NewEvent {
    let event = event.because(Outcome::Denied, refused.reason()).with("route", "TLS handshake");
    let event = event.with("why", cut(&refused.to_string()));
    match facts {
        Some(facts) => describe(event, facts),
        None => event,
    }
}

/// Adds what a certificate says.
pub fn describe(event: NewEvent, facts: &Facts) -> NewEvent {
    let fingerprint = data_encoding::HEXLOWER.encode(&facts.fingerprint);
    event
        .on("certificate", fingerprint)
        .with("subject", cut(&facts.subject))
        .with("issuer", cut(&facts.issuer))
        .with("names", cut(&facts.names.listing()))
        .with("serial", facts.serial.as_str())
}

/// How many authorities of clients there are, if their files can be used.
///
/// # Errors
/// [`ListenerRefused`].
pub fn check(clients: &Clients, now: Moment) -> Result<usize, ListenerRefused> {
    let trust = trust(clients, now)?;
    Prepared::of(&trust)?;
    Ok(trust.authorities.len())
}

/// What strangers wrote, in a length that the log can bear.
fn cut(text: &str) -> String {
    text.chars().map(|c| if screen::acts(c) { '\u{fffd}' } else { c }).take(256).collect()
}

fn trust(clients: &Clients, now: Moment) -> Result<Trust, ListenerRefused> {
    let authorities = chain(&clients.authorities).map_err(ListenerRefused::Authority)?;
    for authority in &authorities {
        let name = clients.authorities.display().to_string();
        match Facts::read(authority) {
            Ok(facts) if facts.is_authority => {
                if let Err(e) = facts.check_time(now) {
                    tracing::error!(file = name, subject = facts.subject, "an authority of clients: {e}");
                }
            }
            Ok(facts) => {
                return Err(ListenerRefused::Authority(PkiError::NotAnAuthority(format!("{name}, {}", facts.subject))));
            }
            Err(e) => return Err(ListenerRefused::Authority(PkiError::Unreadable(name, e.to_string()))),
        }
    }
    let lists = clients.lists.as_deref().map(lists).transpose()?.unwrap_or_default();
    Ok(Trust { authorities, lists })
}

fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PkiError> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|e| PkiError::File(name.clone(), e))?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    let lists = lists.map_err(|e| PkiError::Unreadable(name.clone(), e.to_string()))?;
    if lists.is_empty() { Err(PkiError::Nothing(name, "list of revoked certificates (X509 CRL)")) } else { Ok(lists) }
}

/// Modification time and length of files.
type State = Vec<Option<(SystemTime, u64)>>;

fn state(files: &[&PathBuf]) -> State {
    files.iter().map(|f| std::fs::metadata(f).and_then(|m| Ok((m.modified()?, m.len()))).ok()).collect()
}

/// What was seen last of one set of files.
#[derive(Debug, Default)]
struct Seen {
    taken: Option<State>,
    /// Found bad once: perhaps half written.
    doubtful: Option<State>,
}

/// Whether files are to be read, and what to do about the result.
enum Look {
    Same,
    Changed(State),
}

impl Seen {
    fn look(&mut self, files: &[&PathBuf]) -> Look {
        let now = state(files);
        match &self.taken {
            // At the start they were read a moment ago.
            None => {
                self.taken = Some(now);
                Look::Same
            }
            Some(taken) if *taken == now => Look::Same,
            Some(_) => Look::Changed(now),
        }
    }

    fn take(&mut self, state: State) {
        (self.taken, self.doubtful) = (Some(state), None);
    }

    /// Whether a bad state is one that lasts. The first time it may be half written.
    fn lasts(&mut self, state: &State) -> bool {
        let lasts = self.doubtful.as_ref() == Some(state);
        self.doubtful = Some(state.clone());
        lasts
    }
}

/// Looks whether the listener's files changed.
#[derive(Debug, Default)]
pub struct Watch {
    pair: Seen,
    trust: Seen,
}

impl Watch {
    /// Takes files that changed, after the event that says so is stored; a bad one keeps the old, with an event too.
    ///
    /// # Errors
    /// When the event cannot be stored: the old ones stay then, and the next look tries again.
    pub async fn look(&mut self, app: &App) -> Result<(), StoreError> {
        let Some(listener) = &app.listener else { return Ok(()) };
        self.look_at_pair(app, listener).await?;
        if let (Some(gate), Some(clients)) = (&listener.gate, &listener.files.clients) {
            self.look_at_trust(app, gate, clients).await?;
            super::certificates::tell_revoked(app, gate).await?;
        }
        Ok(())
    }

    async fn look_at_pair(&mut self, app: &App, listener: &Listener) -> Result<(), StoreError> {
        let files = &listener.files;
        let Look::Changed(state) = self.pair.look(&[&files.cert, &files.key]) else { return Ok(()) };
        let read = Shown::load(&files.cert, &files.key).and_then(|shown| {
            let name = files.cert.display().to_string();
            shown.facts.check_time(app.now()).map_err(|e| PkiError::Time(name, e))?;
            Ok(shown)
        });
        match read {
            Ok(shown) => {
                let event = describe(loaded(app, "server"), &shown.facts);
                app.store.act(Append { events: vec![event] }).await?;
                listener.display.swap(&shown);
                tracing::info!(until = %shown.facts.not_after, "the server shows another certificate from now on");
                self.pair.take(state);
            }
            Err(e) if self.pair.lasts(&state) => {
                keep(app, "server", &e).await?;
                self.pair.take(state);
            }
            Err(_) => {}
        }
        Ok(())
    }

    async fn look_at_trust(&mut self, app: &App, gate: &Gate, clients: &Clients) -> Result<(), StoreError> {
        let files: Vec<&PathBuf> = std::iter::once(&clients.authorities).chain(&clients.lists).collect();
        let Look::Changed(state) = self.trust.look(&files) else { return Ok(()) };
        let read = trust(clients, app.now()).and_then(|trust| Ok((Prepared::of(&trust)?, trust)));
        match read {
            Ok((prepared, trust)) => {
                let event = loaded(app, "client_ca").with("authorities", trust.authorities.len());
                let event = event.with("lists", trust.lists.len());
                app.store.act(Append { events: vec![event] }).await?;
                gate.swap(prepared);
                self.trust.take(state);
            }
            Err(e) if self.trust.lasts(&state) => {
                keep(app, "client_ca", &e).await?;
                self.trust.take(state);
            }
            Err(_) => {}
        }
        Ok(())
    }
}

fn loaded(app: &App, what: &str) -> NewEvent {
    NewEvent::new(app.now(), EventName::CertificateLoaded, Actor::system()).with("files", what)
}

async fn keep(app: &App, what: &str, e: &(dyn std::error::Error + Sync)) -> Result<(), StoreError> {
    tracing::error!(error = %e, "a file of server.tls changed and cannot be used; what was read before stays");
    let event = loaded(app, what).because(Outcome::Failure, "unusable").with("why", cut(&e.to_string()));
    app.store.act(Append { events: vec![event] }).await
}
