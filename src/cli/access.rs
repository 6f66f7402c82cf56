//! `lokid check-access`: which rule decides about a request that somebody has in mind.

use clap::Args;
use serde_json::json;
use url::Url;

use super::{Common, Done, Failure, backend::local_app, print, sources};
use crate::{
    actions::{
        App,
        access::{Asked, pass, way},
    },
    domain::{
        identity::{Identity, Profile},
        protected::Way,
    },
};

#[derive(Debug, Args)]
pub(super) struct CheckAccess {
    /// Whose request: an e-mail address or public id of somebody who is signed in; left out: nobody's
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
    /// What is asked for, such as `https://grafana.example.com/admin`
    #[arg(long)]
    url: String,
    /// With which method
    #[arg(long, default_value = "GET")]
    method: String,
}

impl CheckAccess {
    pub(super) async fn run(self, common: &Common) -> Done {
        let asked = asked(&self.method, &self.url)?;
        let (app, _) = local_app(&sources(common)).await?;
        let decided = self.decide(&app, &asked).await;
        app.close().await;
        let (passes, why) = decided?;
        if common.json {
            print::json(&json!({"passes": passes, "why": why, "host": asked.host, "method": asked.method}));
        } else {
            print::out(&format!("{}: {why}", if passes { "passes" } else { "does not pass" }));
        }
        if passes { Ok(()) } else { Err(Failure::new(format!("{} {} does not pass", asked.method, self.url))) }
    }

    async fn decide(&self, app: &App, asked: &Asked<'_>) -> Result<(bool, String), Failure> {
        let (of, way) = match way(&app.settings.apps, asked) {
            Ok(found) => found,
            Err(barred) => return Ok((false, barred.to_string())),
        };
        let (number, rule) = match &way {
            Way::Public => return Ok((true, "the path is public, for everybody".into())),
            Way::Ruled(number, rule) => (number, rule),
        };
        let asks = format!("rule {number} of {} ({}) asks for {rule}", of.host, rule.path.as_str());
        let Some(person) = &self.person else { return Ok((false, format!("{asks}, and nobody is signed in"))) };
        let who = find(app, person).await?;
        let holds = format!(
            "{} has role {}, scopes {}, groups {}",
            who.actor.name,
            who.role.as_deref().unwrap_or("none"),
            who.scopes,
            if who.groups.is_empty() { "none".to_owned() } else { who.groups.join(", ") }
        );
        Ok(match pass(of, &way, &who) {
            Ok(()) => (true, format!("{asks}; {holds}")),
            Err(_) => (false, format!("{asks}; {holds}")),
        })
    }
}

/// The request for an address, as a proxy would describe it.
pub(super) fn asked(method: &str, address: &str) -> Result<Asked<'static>, Failure> {
    let wrong =
        || Failure::new(format!("{address:?} is not an address")).hint("expected such as https://app.example.com/path");
    let url = Url::parse(address).map_err(|_| wrong())?;
    let name = url.host_str().ok_or_else(wrong)?;
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    // The path as it was written: a URL parser would tidy up what the rules must see.
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let target = rest.find(['/', '?', '#']).map_or("/", |at| &rest[at..]);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Asked { method: method.to_owned().into(), host: host.into(), target: target.into() })
}

/// Somebody as their latest live session knows them.
async fn find(app: &App, person: &str) -> Result<Identity, Failure> {
    let found = app.store.people_named(person).await?;
    let [one] = found.as_slice() else {
        let several = !found.is_empty();
        let message = if several { "several people have the address" } else { "nobody has signed in as" };
        return Err(Failure::new(format!("{message} {person:?}"))
            .hint("lokid knows people from their first sign-in on; a public id (usr-…) names one"));
    };
    let limits = &app.settings.auth.sessions;
    let now = app.now();
    let sessions = app.store.sessions_of(&one.id, now.minus(limits.absolute), now.minus(limits.idle)).await?;
    let session = sessions.into_iter().next().ok_or_else(|| {
        Failure::new(format!("{} is not signed in at present", one.display_name()))
            .hint("role and groups are known as of a sign-in; ask again while they are signed in")
    })?;
    let profile: Profile = session.profile;
    Ok(Identity::of_session(&session.session, profile, now.plus(limits.absolute)))
}
