//! `lokid keys`

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Common, Done, Failure,
    backend::{local_app, permit},
    print, sources, write_secret,
};
use crate::{
    actions::{
        App,
        background::LOOK_AT_KEYS,
        keys::{Asked, Ring, Source, file, list, rotate},
    },
    config::server::Signing,
    domain::{
        event::Origin,
        identity::{Caller, ManageKeys},
        rotation::{KeyRecord, KeyState},
        time::Moment,
    },
    keys::sign::SigningKey,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a P-256 key (ES256)
    Generate {
        /// Write it to this file, readable by its owner only, instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the keys, where each is on its way, and what is safe next
    List {
        /// Also those that are gone
        #[arg(long)]
        all: bool,
    },
    /// Print the key set that verifiers see
    Jwks,
    /// Take the next step of a rotation; refused while it is too early
    #[command(subcommand)]
    Rotate(Step),
    /// Take a key out at once because it must not be trusted any more
    Revoke {
        /// Its name, or the first eight digits of it
        kid: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Step {
    /// Publish a new key, which does not sign yet
    Add,
    /// Let the next key sign
    Promote {
        /// Its name, or the first eight digits of it [default: the next key]
        kid: Option<String>,
        /// Also when verifiers may not have seen it yet
        #[arg(long)]
        force: bool,
    },
    /// Take a key out of the key set
    Remove {
        /// Its name, or the first eight digits of it [default: the retiring key]
        kid: Option<String>,
        /// Also when something that it signed may still be shown
        #[arg(long)]
        force: bool,
    },
}

impl Step {
    fn asked(self) -> (Asked, bool) {
        match self {
            Self::Add => (Asked::Add, false),
            Self::Promote { kid, force } => (Asked::Promote(kid), force),
            Self::Remove { kid, force } => (Asked::Remove(kid), force),
        }
    }
}

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        if let Self::Generate { out } = self {
            return generate(common, out);
        }
        let (app, who) = local_app(&sources(common)).await?;
        let permitted = permit::<ManageKeys>(&who)?;
        let done = match self {
            Self::Generate { .. } => Ok(()),
            Self::List { all } => show(common, &app, &permitted, all).await,
            Self::Jwks => jwks(&app),
            Self::Rotate(step) => {
                let (asked, force) = step.asked();
                take(common, &app, &permitted, asked, force).await
            }
            Self::Revoke { kid } => take(common, &app, &permitted, Asked::Revoke(kid), false).await,
        };
        app.close().await;
        done
    }
}

const NO_KEY: &str = "no signing key is configured: each process makes one for itself, which is not published";
const HINT: &str = "set server.secret to have lokid keep its keys, or: lokid keys generate --out signing.pem, then set signing_key_file";

fn jwks(app: &App) -> Done {
    let set: Value = serde_json::from_str(app.keys.load().jwks())?;
    print::json(&set);
    Ok(())
}

/// The keys as the database knows them; those of a ring that no server has used yet have no past.
async fn records(app: &App, who: &Caller<ManageKeys>) -> Result<(Ring, Vec<String>), Failure> {
    let ring = list(app, who).await?;
    let unseen = app.keys.load();
    let unseen = unseen.keys().iter().filter(|_| !unseen.is_ephemeral()).map(|k| k.kid().to_owned());
    let known = |kid: &String| ring.keys.iter().any(|k| k.kid == *kid && k.state() != KeyState::Gone);
    let unseen = unseen.filter(|kid| !known(kid)).collect();
    Ok((ring, unseen))
}

async fn show(common: &Common, app: &App, who: &Caller<ManageKeys>, all: bool) -> Done {
    let (ring, unseen) = records(app, who).await?;
    let shown: Vec<&KeyRecord> = ring.keys.iter().filter(|k| all || k.state() != KeyState::Gone).collect();
    if ring.source == Source::Ephemeral && shown.is_empty() {
        return Err(Failure::new(NO_KEY).hint(HINT));
    }
    if common.json {
        let view = |k: &&KeyRecord| {
            json!({
                "kid": k.kid, "alg": k.alg, "state": k.state().as_str(), "since": k.since().rfc3339(),
                "may_sign_at": (k.state() == KeyState::Next).then(|| k.may_sign_at().rfc3339()),
                "may_go_at": k.may_go_at().filter(|_| k.state() == KeyState::Retiring).map(Moment::rfc3339),
            })
        };
        let unseen = unseen.iter().map(|kid| json!({"kid": kid, "state": "not yet used by a server"}));
        print::json(&shown.iter().map(view).chain(unseen).collect());
        return Ok(());
    }
    let row = |k: &&KeyRecord| {
        vec![k.kid.clone(), k.alg.clone(), k.state().as_str().into(), k.since().for_people(), k.outlook(app.now())]
    };
    let mut rows: Vec<_> = shown.iter().map(row).collect();
    let dash = || "–".to_owned();
    rows.extend(
        unseen.into_iter().map(|kid| vec![kid, dash(), "new".into(), dash(), "no server has used it yet".into()]),
    );
    print::table(&["KID", "ALG", "STATE", "SINCE", "NEXT"], &rows);
    Ok(())
}

async fn take(common: &Common, app: &Arc<App>, who: &Caller<ManageKeys>, asked: Asked, force: bool) -> Done {
    let too_early = |e: &str| e.contains("may be removed from") || e.contains("may sign from");
    let hinted = |failure: Failure| {
        let hint =
            too_early(&failure.message).then(|| "--force does it now; verifiers may fail for that long".to_owned());
        Failure { hint: hint.or(failure.hint), ..failure }
    };
    let revoked = matches!(asked, Asked::Revoke(_));
    match &app.settings.signing {
        Signing::File(path) => {
            file::rotate(app, who, path, &asked, force).await.map_err(|e| hinted(e.into()))?;
        }
        _ => rotate(app, who, asked, force, &Origin::default()).await.map_err(|e| hinted(e.into()))?,
    }
    if revoked {
        // "At once" is when a running server has noticed.
        tokio::time::sleep(LOOK_AT_KEYS + Duration::from_millis(250)).await;
        let note = "The key is revoked, and a running server has taken it out of the key set. Verifiers may hold the old set \
             for another minute (its max-age).";
        eprintln!("{note}");
    }
    show(common, app, who, false).await
}

fn generate(common: &Common, out: Option<PathBuf>) -> Done {
    let key = SigningKey::generate();
    let Some(path) = out else {
        print::out(key.to_pem().trim_end());
        return Ok(());
    };
    write_secret(&path, &key.to_pem())?;
    if common.json {
        print::json(&json!({"kid": key.kid(), "alg": key.alg(), "file": path.display().to_string()}));
    } else {
        print::out(&format!("Key {} ({}) is in {}.", key.kid(), key.alg(), path.display()));
        print::out("Use it with signing_key_file or SIGNING_KEY_FILE.");
    }
    Ok(())
}
