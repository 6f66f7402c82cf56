//! Where the `enterprise` verbs act: on the local database, as whoever may open it, or on a server with a
//! token. Both answer in the API's JSON, so that there is one way to print.

use std::{sync::Arc, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Failure, evidence::Asked, print, review::Question, sources};
use crate::{
    actions::{App, audit, evidence, review, tokens, vouching},
    config::Sources,
    config::server::Database,
    domain::{
        event::Origin,
        identity::{Caller, Identity, Right},
        scope::{Scope, ScopeSet},
        screen,
        time::{Clock, Moment},
    },
    store::{ledger::Filter, tokens::Page},
    web::api::{
        audit::{CountView, EntryView},
        review::{ReviewView, since_by_default},
        tokens::{NewTokenView, TokenView},
    },
};

/// Where to act.
#[derive(Debug, Clone, Args)]
pub(super) struct Target {
    /// Act on this server, with the token in LOKI_TOKEN, instead of the local database
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
}

/// The local database or a server.
pub(super) enum Backend {
    Local(Arc<App>, Arc<Identity>),
    Server { url: String, token: String, http: reqwest::Client },
}

/// What a new token shall be.
pub(super) struct NewToken {
    pub(super) name: String,
    pub(super) scopes: Option<String>,
    pub(super) role: Option<String>,
    pub(super) days: Option<u32>,
}

impl Backend {
    pub(super) async fn open(common: &Common, target: &Target) -> Result<Self, Failure> {
        let sources = sources(common);
        match &target.server {
            None => Self::local(&sources).await,
            Some(url) => {
                let missing = || {
                    Failure::new("LOKI_TOKEN is not set").hint("export LOKI_TOKEN=loki_… with a token of that server")
                };
                let token = sources.env.get("LOKI_TOKEN").cloned().ok_or_else(missing)?;
                let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
                Ok(Self::Server { url: url.trim_end_matches('/').to_owned(), token, http })
            }
        }
    }

    /// As [`Self::open`], for whoever acts on what is there: nothing is made where nothing is.
    pub(super) async fn existing(common: &Common, target: &Target) -> Result<Self, Failure> {
        if target.server.is_none() {
            existing_database(&sources(common))?;
        }
        Self::open(common, target).await
    }

    async fn local(sources: &Sources) -> Result<Self, Failure> {
        let (app, who) = local_app(sources).await?;
        Ok(Self::Local(app, who))
    }

    /// Commits what waits.
    pub(super) async fn close(self) {
        if let Self::Local(app, _) = self {
            app.close().await;
        }
    }

    pub(super) async fn create_token(&self, new: NewToken) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                let grant = match (new.scopes, new.role) {
                    (Some(scopes), None) => tokens::Grant::Scopes(scopes.parse::<ScopeSet>()?),
                    (None, Some(role)) => tokens::Grant::Role(role),
                    _ => {
                        return Err(
                            Failure::new("say what the token grants").hint("--scopes read,write or --role viewer")
                        );
                    }
                };
                let name = new.name.parse().map_err(|e| Failure::new(format!("the name {:?} {e}", new.name)))?;
                let request = tokens::TokenRequest { name, grant, days: new.days };
                let minted = tokens::mint(app, &permit(who)?, request, &Origin::default()).await?;
                Ok(serde_json::to_value(NewTokenView::of(&minted, app.now()))?)
            }
            Self::Server { .. } => {
                let mut body = json!({"name": new.name});
                if let Some(scopes) = new.scopes {
                    body["scopes"] = scopes.split([',', ' ']).filter(|s| !s.is_empty()).collect();
                }
                if let Some(role) = new.role {
                    body["role"] = role.into();
                }
                if let Some(days) = new.days {
                    body["expires_days"] = days.into();
                }
                self.call("POST", "/api/enterprise/tokens", Some(body)).await
            }
        }
    }

    pub(super) async fn tokens(&self, with_ended: bool) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                let page = Page { owner: None, with_ended, before: None, limit: 1000 };
                let found = tokens::list(app, &permit(who)?, &page).await?;
                let now = app.now();
                Ok(serde_json::to_value(found.iter().map(|t| TokenView::of(t, now)).collect::<Vec<_>>())?)
            }
            Self::Server { .. } => {
                self.call("GET", &format!("/api/enterprise/tokens?limit=1000&include_revoked={with_ended}"), None).await
            }
        }
    }

    pub(super) async fn revoke(&self, which: &str) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                let token = tokens::find(app, &permit(who)?, which).await?;
                tokens::revoke(app, who, &token, &Origin::default()).await?;
                app.store.until_others_have_heard().await;
                Ok(json!({"status": "ok", "action": "revoke", "identifier": token.id.as_str()}))
            }
            Self::Server { .. } => {
                self.call("DELETE", &format!("/api/enterprise/tokens/{}", escaped(which)), None).await
            }
        }
    }

    pub(super) async fn rotate(&self, which: &str, grace_hours: u32) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                let old = tokens::find(app, &permit(who)?, which).await?;
                let minted = tokens::rotate(app, who, &old, grace_hours, &Origin::default()).await?;
                Ok(serde_json::to_value(NewTokenView::of(&minted, app.now()))?)
            }
            Self::Server { .. } => {
                let path = format!("/api/enterprise/tokens/{}/rotate", escaped(which));
                self.call("POST", &path, Some(json!({"grace_period_hours": grace_hours}))).await
            }
        }
    }

    /// Entries of the log, oldest first: those after `after`, or the last `limit`.
    pub(super) async fn audit(
        &self,
        event: Option<&str>,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Value>, Failure> {
        let mut entries: Vec<Value> = match self {
            Self::Local(app, who) => {
                let filter = Filter { event: event.map(str::to_owned), after, ..Filter::default() };
                let found = audit::page(app, &permit(who)?, &filter, limit).await?;
                found.into_iter().map(|e| serde_json::to_value(EntryView::of(e))).collect::<Result<_, _>>()?
            }
            Self::Server { .. } => {
                let event = event.map(|e| format!("&event={}", escaped(e))).unwrap_or_default();
                let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
                let page = self.call("GET", &format!("/api/audit?limit={limit}{event}{after}"), None).await?;
                page["entries"].as_array().cloned().unwrap_or_default()
            }
        };
        entries.sort_by_key(|e| e["seq"].as_i64().unwrap_or(0));
        Ok(entries)
    }

    pub(super) async fn summary(&self) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                let counts = audit::summary(app, &permit(who)?, Moment::from_millis(i64::MIN)).await?;
                Ok(serde_json::to_value(counts.into_iter().map(CountView::of).collect::<Vec<_>>())?)
            }
            Self::Server { .. } => self.call("GET", "/api/audit/summary", None).await,
        }
    }

    pub(super) async fn verify(&self) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => {
                Ok(serde_json::to_value(audit::verify(app, &permit(who)?, &Origin::default()).await?)?)
            }
            // A long log takes as long as it takes.
            Self::Server { .. } => self.call_for(NO_END, "GET", "/api/audit/verify", None).await,
        }
    }

    /// The rows of a review of rights.
    pub(super) async fn review(&self, question: &Question) -> Result<Value, Failure> {
        match (self, question) {
            (Self::Local(app, who), Question::Access(chosen, _)) => {
                let found = review::holders(app, &permit(who)?, chosen).await?;
                Ok(serde_json::to_value(ReviewView::of(found, app.now()))?)
            }
            (Self::Local(app, who), Question::Tokens(days, finding)) => {
                let found = review::tokens(app, &permit(who)?, *days, *finding).await?;
                Ok(serde_json::to_value(ReviewView::of(found, app.now()))?)
            }
            (Self::Local(app, who), Question::Changes(since)) => {
                let since = since.unwrap_or_else(|| since_by_default(app.now()));
                let found = review::changes(app, &permit(who)?, since).await?;
                Ok(serde_json::to_value(ReviewView::of(found, app.now()))?)
            }
            (Self::Server { .. }, Question::Access(_, query)) => {
                self.call("GET", &format!("/api/review/access?{query}"), None).await
            }
            (Self::Server { .. }, Question::Tokens(days, finding)) => {
                let finding = finding.map(|f| format!("&finding={}", f.as_str())).unwrap_or_default();
                self.call("GET", &format!("/api/review/tokens?days={days}{finding}"), None).await
            }
            (Self::Server { .. }, Question::Changes(since)) => {
                let since = since.map(|at| format!("?since={}", escaped(&at.rfc3339()))).unwrap_or_default();
                self.call("GET", &format!("/api/review/changes{since}"), None).await
            }
        }
    }

    /// Opens a stream of server-sent events that has no end of its own.
    pub(super) async fn stream(&self, path: &str, last: Option<&str>) -> Result<reqwest::Response, Failure> {
        let Self::Server { url, token, http } = self else { return Err(Failure::new("not a server")) };
        let mut request = http.get(format!("{url}{path}")).bearer_auth(token).timeout(NO_END);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.map_err(|e| unreachable_at(url, e))?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    /// Public keys that signed anything about the log.
    pub(super) async fn evidence_keys(&self) -> Result<Value, Failure> {
        match self {
            Self::Local(app, who) => Ok(vouching::keys(app, &permit(who)?).await?.jwks()),
            Self::Server { .. } => self.call("GET", "/api/audit/keys", None).await,
        }
    }

    /// Writes an export, piece by piece.
    pub(super) async fn export(&self, asked: &Asked, out: &mut impl std::io::Write) -> Result<(), Failure> {
        match self {
            Self::Local(app, who) => {
                let mut export = evidence::export(app, &permit(who)?, asked.wanted()?, &Origin::default()).await?;
                while let Some(piece) = export.piece().await? {
                    out.write_all(&piece)?;
                }
            }
            Self::Server { url, token, http } => {
                let address = format!("{url}/api/audit/export?{}", asked.query());

                let mut answer = http.get(address).bearer_auth(token).timeout(NO_END).send().await?;
                if !answer.status().is_success() {
                    return Err(refusal(answer).await);
                }
                while let Some(piece) = answer.chunk().await? {
                    out.write_all(&piece)?;
                }
            }
        }
        Ok(out.flush()?)
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        self.call_for(PATIENCE, method, path, body).await
    }

    async fn call_for(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let Self::Server { url, token, http } = self else { return Err(Failure::new("not a server")) };
        let request = http.request(method.parse()?, format!("{url}{path}")).bearer_auth(token);
        let mut request = request.timeout(patience);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|e| unreachable_at(url, e))?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        Ok(serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null))
    }
}

/// A server that has not answered after so long will not.
const PATIENCE: Duration = Duration::from_secs(30);
/// A request with this limit lasts as long as it is read.
const NO_END: Duration = Duration::from_hours(24 * 365);

fn unreachable_at(url: &str, e: reqwest::Error) -> Failure {
    Failure::from(e.without_url()).hint(format!("is lokid reachable at {url}?"))
}

/// What a server says that it will not do.
async fn refusal(answer: reqwest::Response) -> Failure {
    let status = answer.status();
    let value: Value = answer.json().await.unwrap_or(Value::Null);
    let detail = value["detail"].as_str().unwrap_or("the server gave no reason");
    Failure::new(format!("the server answered {status}: {detail}"))
}

/// Whether the database is there: a log that is looked for in the wrong directory is not a whole one without entries.
pub(super) fn existing_database(sources: &Sources) -> Result<(), Failure> {
    let Database::Sqlite(path) = sources.load()?.database else { return Ok(()) };
    if path.exists() {
        return Ok(());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let hint = format!("the working directory is {}; database.url says which file it is", here.display());
    Err(Failure::new(format!("there is no database {}", path.display())).hint(hint))
}

/// The local database, and whoever may open it.
pub(super) async fn local_app(sources: &Sources) -> Result<(Arc<App>, Arc<Identity>), Failure> {
    let settings = sources.load()?;
    let app = App::start(settings, Clock::system(), false).await?;
    let user = sources.env.get("USER").or_else(|| sources.env.get("LOGNAME")).map_or("terminal", String::as_str);
    let user = screen::harmless(user, 64);
    Ok((app, Arc::new(Identity::at_the_terminal(&user))))
}

pub(super) fn permit<R: Right>(who: &Arc<Identity>) -> Result<Caller<R>, Failure> {
    Arc::clone(who).acting_as().map_err(|_| Failure::new("this is not permitted at the terminal"))
}

/// A text as one segment or value of a URL.
fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// `lokid enterprise status`
pub(super) async fn status(common: &Common, target: &Target) -> Result<(), Failure> {
    let backend = Backend::existing(common, target).await?;
    let value = match &backend {
        Backend::Server { .. } => backend.call("GET", "/api/status", None).await?,
        Backend::Local(app, _) => {
            let now = app.now();
            let head = app.store.audit_head().await?;
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "database": app.store.engine().as_str(),
                "auth_enabled": app.settings.auth.enabled,
                "providers": app.settings.auth.providers.iter().map(|p| p.issuer.clone()).collect::<Vec<_>>(),
                "active_tokens": app.store.active_tokens(now).await?,
                "audit_entries": head.seq,
                "roles": app.settings.auth.roles.iter().map(|(n, s)| (n.as_str().to_owned(), s.iter().map(Scope::as_str).collect::<Vec<_>>().into())).collect::<serde_json::Map<_, Value>>(),
            })
        }
    };
    if common.json {
        print::json(&value);
    } else if let Value::Object(fields) = &value {
        let rows: Vec<_> =
            fields.iter().map(|(name, value)| vec![name.replace('_', " "), print::cell(value)]).collect();
        print::table(&["", ""], &rows);
    }
    backend.close().await;
    Ok(())
}
