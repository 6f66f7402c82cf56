//! Whether a request for an app behind the same door may pass. The server asks for every request of a
//! reverse proxy, `lokid check-access` for one that somebody has in mind.

use std::borrow::Cow;

use crate::{
    config::apps::Apps,
    domain::{
        identity::Identity,
        path::{Ambiguous, PlainPath},
        protected::{NoWay, ProtectedApp, Way},
        screen,
    },
};

/// A request for an app, as the proxy describes it.
#[derive(Debug, Clone)]
pub struct Asked<'r> {
    /// `GET`, …
    pub method: Cow<'r, str>,
    /// The app's host, with a port if the request named one.
    pub host: Cow<'r, str>,
    /// Path and query, as they were sent.
    pub target: Cow<'r, str>,
}

/// Why a request does not pass, whoever sends it or for this caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// Nobody configured the app.
    #[error("no app is configured for {0:?} (forward_auth.apps)")]
    NoApp(String),
    /// The path can be read in several ways.
    #[error("{0}")]
    Path(#[from] Ambiguous),
    /// The app's rules.
    #[error("{why}")]
    Rule {
        /// The app.
        host: String,
        /// Why.
        why: NoWay,
    },
}

impl Barred {
    /// A stable word for the audit log.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoApp(_) => "unknown_app",
            Self::Path(_) => "ambiguous_path",
            Self::Rule { why, .. } => why.reason(),
        }
    }
}

/// The app that a request is for, and what stands in its way before anybody is asked who they are.
///
/// # Errors
/// [`Barred`] when nobody may pass.
pub fn way<'a>(apps: &'a Apps, asked: &Asked<'_>) -> Result<(&'a ProtectedApp, Way<'a>), Barred> {
    let unknown = || Barred::NoApp(screen::harmless(&asked.host, 100));
    let app = apps.at(&asked.host).ok_or_else(unknown)?;
    let path = PlainPath::read(&asked.target)?;
    let way = app.way(&asked.method, &path).map_err(|why| Barred::Rule { host: app.host.clone(), why })?;
    Ok((app, way))
}

/// Whether this caller may go a [`way`].
///
/// # Errors
/// [`Barred`] says what is missing.
pub fn pass(app: &ProtectedApp, way: &Way<'_>, who: &Identity) -> Result<(), Barred> {
    match way {
        Way::Public => Ok(()),
        Way::Ruled(number, rule) => {
            app.admits(*number, rule, who).map_err(|why| Barred::Rule { host: app.host.clone(), why })
        }
    }
}
