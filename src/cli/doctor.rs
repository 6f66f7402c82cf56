//! `lokid doctor`: is everything there that the configuration names?

use std::{path::Path, sync::Arc};

use clap::Args;

use super::{Common, Done, Failure, print, proxy_check, sources};
use crate::{
    actions::{App, keys, listener},
    audit::anchor,
    config::server::Database,
    domain::{
        identity::{Identity, ManageKeys, ReadAudit},
        time::{Clock, Moment},
    },
    pki::tls::Shown,
};

/// Earlier than this no clock can be right.
const BUILT_AFTER: Moment = Moment::from_seconds(1_790_000_000);

/// One thing that was looked at.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) good: bool,
    pub(super) says: String,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also send made-up headers through a reverse proxy: a protected address of an app behind it
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Stand in for the app at this address and look at what arrives there (with a token in LOKI_TOKEN)
    #[arg(long, value_name = "IP:PORT", requires = "proxy")]
    upstream: Option<std::net::SocketAddr>,
}

pub(super) async fn run(common: &Common, doctor: Doctor) -> Done {
    let sources = sources(common);
    let settings = sources.load()?;
    if let Some(url) = &doctor.proxy {
        let token = sources.env.get("LOKI_TOKEN").map(String::as_str);
        let target = proxy_check::Target { url, upstream: doctor.upstream, token };
        return show(common, &proxy_check::look(&settings, &target).await?);
    }
    let says = match settings.warnings.len() {
        0 => "valid".to_owned(),
        n => format!("valid, with {n} warning{}: lokid config check", if n == 1 { "" } else { "s" }),
    };
    let mut checks = vec![Check { name: "configuration".into(), good: true, says }];
    let clock = Clock::system();
    let now = clock.now();
    checks.push(Check { name: "clock".into(), good: now > BUILT_AFTER, says: now.rfc3339() });
    if let Some(tls) = &settings.server.tls {
        let shown = Shown::load(&tls.cert, &tls.key).map_err(|e| e.to_string());
        let timely = shown.and_then(|shown| shown.facts.check_time(now).map(|()| shown));
        let says = timely
            .as_ref()
            .map_or_else(Clone::clone, |shown| format!("the certificate ends {}", shown.facts.not_after));
        checks.push(Check { name: "tls".into(), good: timely.is_ok(), says });
        if let Some(clients) = &tls.clients {
            let found = listener::check(clients, now).map_err(|e| e.to_string());
            let says = found.as_ref().map_or_else(Clone::clone, |n| format!("authorities of client certificates: {n}"));
            checks.push(Check { name: "client certificates".into(), good: found.is_ok(), says });
        }
    }
    match App::start(settings, clock, false).await {
        Ok(app) => {
            checks.extend(look(&app).await);
            app.close().await;
        }
        Err(e) => checks.push(Check { name: "start".into(), good: false, says: Failure::from(e).message }),
    }
    show(common, &checks)
}

async fn look(app: &App) -> Vec<Check> {
    let mut checks = Vec::new();
    let answered = app.store.ping().await;
    let place = match &app.settings.database {
        Database::Sqlite(path) => format!("sqlite, {}", path.display()),
        Database::Postgres(_) => app.store.engine().as_str().to_owned(),
    };
    let says = answered.as_ref().map_or_else(ToString::to_string, |()| place);
    checks.push(Check { name: "database".into(), good: answered.is_ok(), says });
    let who = Arc::new(Identity::at_the_terminal("doctor"));
    checks.extend(signing_keys(app, &who).await);
    if let Ok(caller) = who.acting_as::<ReadAudit>() {
        let (good, says) = if app.share.is_some() && app.keys.load().is_ephemeral() {
            // Without them every checkpoint looks like a stranger's.
            (false, "not checked: that needs the signing keys, see above".to_owned())
        } else {
            match crate::actions::audit::verify(app, &caller, &crate::domain::event::Origin::default()).await {
                Ok(v) if v.valid && v.head_seq == 0 => (true, "no entry yet".to_owned()),
                Ok(v) if v.valid => (true, format!("{} entries, chain whole", v.entries)),
                Ok(v) => (false, v.fault.unwrap_or_default()),
                Err(e) => (false, e.to_string()),
            }
        };
        checks.push(Check { name: "audit log".into(), good, says });
    }
    if let Some(path) = &app.settings.audit.anchor_file {
        let (good, says) = match anchor::read(path) {
            Ok(anchors) if !anchors.is_empty() => (true, format!("{} in {}", anchors.len(), path.display())),
            Ok(_) if path.parent().is_none_or(Path::is_dir) => (true, format!("none yet in {}", path.display())),
            Ok(_) => (false, format!("there is no directory for {} (enterprise.audit.anchor_file)", path.display())),
            Err(e) => (false, format!("{}: {e}", path.display())),
        };
        checks.push(Check { name: "anchors".into(), good, says });
    }
    for provider in app.providers.iter() {
        let probed = provider.probe().await;
        let says = probed.as_ref().map_or_else(ToString::to_string, |()| "metadata and keys can be read".to_owned());
        let name = format!("provider {}", provider.id());
        checks.push(Check { name, good: probed.is_ok(), says: format!("{}: {says}", provider.issuer()) });
    }
    for (issuer, read) in app.authn.workloads.look().await {
        let says = match &read {
            Ok(keys) => format!("{keys} keys can be read"),
            Err(e) => e.to_string(),
        };
        checks.push(Check { name: format!("issuer {issuer}"), good: read.is_ok(), says });
    }
    checks
}

/// The keys that sign, and the places where nodes share them.
async fn signing_keys(app: &App, who: &Arc<Identity>) -> Vec<Check> {
    let mut checks = Vec::new();
    let (kept, apps) = (keys::source(&app.settings) == keys::Source::Kept, !app.settings.apps.apps.is_empty());
    let ring = app.keys.load();
    let is_first_start = app.store.signing_keys().await.is_ok_and(|keys| keys.is_empty());
    let (good, says) = match (ring.is_ephemeral(), kept) {
        (false, _) => (true, format!("{} published, {} signs", ring.keys().len(), ring.signing().kid())),
        (true, true) if is_first_start => (true, "none yet: the first start makes one".into()),
        (true, true) => (false, "those in the database do not open with this server.secret".into()),
        (true, false) if app.share.is_some() => (false, "not read: see the places below".into()),
        (true, false) => (!apps, "for assertions none is kept: each start makes new ones (set server.secret)".into()),
    };
    checks.push(Check { name: "signing keys".into(), good, says });
    if let Ok(caller) = Arc::clone(who).acting_as::<ManageKeys>()
        && app.share.is_some()
        && let Ok(found) = keys::shared::overview(app, &caller).await
    {
        let says = |place: &Result<Option<keys::shared::Seen>, _>| match place {
            Ok(Some(seen)) => (true, format!("revision {}, {} keys", seen.revision, seen.keys.len())),
            Ok(None) => (true, "none yet".to_owned()),
            Err(e) => (false, ToString::to_string(e)),
        };
        for (name, place) in [("keys in NATS", &found.nats), ("this node's copy of the keys", &found.copy)] {
            let (good, says) = says(place);
            checks.push(Check { name: name.into(), good, says });
        }
    }
    checks
}

fn show(common: &Common, checks: &[Check]) -> Done {
    let bad = checks.iter().filter(|c| !c.good).count();
    if common.json {
        let value = |c: &Check| serde_json::json!({"check": c.name, "good": c.good, "says": c.says});
        print::json(&checks.iter().map(value).collect());
    } else {
        let row = |c: &Check| {
            vec![if c.good { "ok" } else { "BAD" }.to_owned(), c.name.clone(), print::plain(&c.says, false)]
        };
        print::table(&["", "CHECK", ""], &checks.iter().map(row).collect::<Vec<_>>());
    }
    if bad == 0 { Ok(()) } else { Err(Failure::new(format!("{bad} of {} checks failed", checks.len()))) }
}
