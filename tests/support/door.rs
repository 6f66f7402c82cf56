//! A lokid on its own database and port.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lokid::{
    actions::{App, happenings, runs::foreman, tokens},
    config::Sources,
    domain::{event::Origin, identity::Identity, ledger::Entry, time::Clock, token::TokenId},
    store::ledger::Filter,
    web::server,
};
use url::Url;

pub(crate) use crate::clients::*;
use crate::provider::{CLIENT_ID, Provider};

/// The door under test.
pub(crate) struct Door {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Clock,
    pub(crate) provider: Provider,
    pub(crate) port: u16,
    /// Where metrics are served without a credential.
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// Kept as long as the door is open.
    dir: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
}

static COUNTER: AtomicUsize = AtomicUsize::new(0);

impl Door {
    /// With these variables beside the usual ones.
    pub(crate) async fn open(env: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (provider, clock) = (Provider::start(), Clock::standing_at(Clock::system().now()));
        provider.follow(&clock);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let mut all: BTreeMap<String, String> = [
            ("LOKI_SERVER_PORT", port.to_string()),
            ("LOKI_SERVER_WORKERS", "1".into()),
            ("LOKI_DATABASE_URL", format!("sqlite://{}", dir.path().join("loki.db").display())),
            ("LOKI_OIDC_ISSUER", provider.issuer().into()),
            ("LOKI_OIDC_CLIENT_ID", CLIENT_ID.into()),
            ("LOKI_RUNS_WORKSPACE", dir.path().join("work").display().to_string()),
            ("LOKI_RBAC_OIDC_ROLE_MAPPING", "{admins: admin, operators: operator, auditors: auditor}".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all.retain(|_, value| !value.is_empty());
        let mut settings = Sources { file: None, flags: Vec::new(), env: all }.load().unwrap();
        settings.runs.supervisor = env!("CARGO_BIN_EXE_lokid").into();
        let app = App::start(settings, clock.clone(), true).await.unwrap();
        let (running, shared) = server::serve(Arc::clone(&app), listener).unwrap();
        actix_web::rt::spawn(running);
        let for_metrics = server::bind_metrics(app.settings.metrics_listen).unwrap();
        let metrics = for_metrics.as_ref().map(|listener| listener.local_addr().unwrap());
        if let Some(listener) = for_metrics {
            actix_web::rt::spawn(server::serve_metrics(shared, listener).unwrap());
        }
        foreman::begin(&app);
        actix_web::rt::spawn(happenings::run(Arc::clone(&app)));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { app, clock, provider, port, metrics, dir, http }
    }

    /// A file of the workspace.
    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A token with these scopes, made at the terminal.
    pub(crate) async fn token(&self, scopes: &str) -> WithToken<'_> {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        self.named_token(&format!("token {n}"), scopes, Some(30)).await
    }

    pub(crate) async fn named_token(&self, name: &str, scopes: &str, days: Option<u32>) -> WithToken<'_> {
        let caller = Arc::new(Identity::at_the_terminal("tester")).acting_as().unwrap();
        let grant = tokens::Grant::Scopes(scopes.parse().unwrap());
        let request = tokens::TokenRequest { name: name.parse().unwrap(), grant, days };
        let minted = tokens::mint(&self.app, &caller, request, &Origin::default()).await.unwrap();
        WithToken { door: self, secret: minted.secret.reveal().to_owned(), id: minted.token.id }
    }

    /// Somebody who holds this secret.
    pub(crate) fn holder(&self, secret: &str) -> WithToken<'_> {
        WithToken { door: self, secret: secret.to_owned(), id: TokenId::from_random([0; 12]) }
    }

    /// Somebody of this group, signed in at the provider.
    pub(crate) async fn person(&self, sub: &str, group: &str) -> WithSession<'_> {
        self.provider.behave();
        self.provider.change(|s| {
            s.claims["sub"] = sub.into();
            s.claims["name"] = sub.into();
            s.claims["groups"] = serde_json::json!([group]);
            s.claims["sid"] = format!("sid-of-{sub}").into();
        });
        let answer = self.sign_in(&[]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        self.session_of(&answer)
    }

    /// The browser that got this answer.
    pub(crate) fn session_of(&self, answer: &Answer) -> WithSession<'_> {
        WithSession { door: self, cookie: answer.cookie("loki_session").expect("a session cookie") }
    }

    /// Begins a sign-in: the authorization request, and the cookie that binds it to this browser.
    pub(crate) async fn begin(&self, query: &str) -> (Url, String) {
        let begun = Anonymous(self).get(&format!("/auth/oidc/login{query}")).await;
        assert_eq!(begun.status, 303, "{}", begun.text);
        let url = Url::parse(begun.header("location")).unwrap();
        (url, begun.cookie("loki_signin_").expect("a cookie for the sign-in"))
    }

    /// A whole sign-in with what the provider's script says; `headers` go with the callback.
    pub(crate) async fn sign_in(&self, headers: &[(&str, &str)]) -> Answer {
        let (url, cookie) = self.begin("?return_to=/account").await;
        let query = self.consent(&url);
        self.come_back(&query, &cookie, headers).await
    }

    /// What the provider does with an authorization request: remembers it, and sends back with an answer.
    pub(crate) fn consent(&self, url: &Url) -> String {
        let asked = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned()).unwrap();
        assert_eq!(asked("code_challenge_method"), "S256");
        self.provider.change(|s| {
            s.challenge = asked("code_challenge");
            if s.claims.get("nonce").is_none() {
                s.claims["nonce"] = asked("nonce").into();
            }
        });
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", &asked("state"));
        query.extend_pairs(self.provider.script().answer);
        query.finish()
    }

    pub(crate) async fn come_back(&self, query: &str, cookie: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Anonymous(self).ask("GET", &format!("/auth/oidc/callback?{query}")).header("cookie", cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }

    /// Entries of the audit log of this event, newest first.
    pub(crate) async fn audit(&self, event: &str) -> Vec<Entry> {
        self.app.events.flush().await;
        let filter = Filter { event: Some(event.to_owned()), ..Filter::default() };
        self.app.store.audit_page(&filter, 10_000).await.unwrap()
    }

    /// How many sessions live.
    pub(crate) async fn live_sessions(&self) -> i64 {
        let (limits, now) = (&self.app.settings.auth.sessions, self.clock.now());
        self.app.store.live_sessions(now.minus(limits.absolute), now.minus(limits.idle)).await.unwrap()
    }
}
