//! A lokid on its own database and port, and the clients that come to it. A client's type says who calls.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lokid::{
    actions::{App, tokens},
    config::Sources,
    domain::{event::Origin, identity::Identity, ledger::Entry, time::Clock, token::TokenId},
    store::ledger::Filter,
    web::server,
};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use url::Url;

use crate::provider::{CLIENT_ID, Provider};

/// The door under test.
pub(crate) struct Door {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Clock,
    pub(crate) provider: Provider,
    pub(crate) port: u16,
    _dir: tempfile::TempDir,
    http: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    /// `name=value` of a cookie that is set.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let lines = self.headers.get_all("set-cookie").iter().filter_map(|v| v.to_str().ok());
        let mut pairs = lines.filter_map(|line| line.split(';').next());
        let is_it = |found: &str| found == name || (name.ends_with('_') && found.starts_with(name));
        pairs.find(|pair| pair.split('=').next().is_some_and(is_it)).map(str::to_owned)
    }

    /// The detail of a problem, after a look at its form.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        assert!(body["instance"].as_str().unwrap().ends_with(self.header("x-request-id")), "{body}");
        body["detail"].as_str().unwrap().to_owned()
    }

    /// The body with the request's id taken out.
    pub(crate) fn shape(&self) -> String {
        let id = self.header("x-request-id");
        format!("{} {}\n{}", self.status, self.header("content-type"), self.text.replace(id, "ID"))
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text: answer.text().await.unwrap() }
}

/// Somebody who calls.
pub(crate) trait Client {
    fn door(&self) -> &Door;

    /// Puts this caller's credential on a request.
    fn dress(&self, request: RequestBuilder) -> RequestBuilder;

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.dress(self.door().http.request(method, self.door().at(path)))
    }

    async fn get(&self, path: &str) -> Answer {
        answer(self.ask("GET", path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.ask("POST", path).json(body)).await
    }
}

/// Nobody known.
pub(crate) struct Anonymous<'d>(pub(crate) &'d Door);

/// The holder of a token.
pub(crate) struct WithToken<'d> {
    door: &'d Door,
    pub(crate) secret: String,
    pub(crate) id: TokenId,
}

/// A signed-in browser.
pub(crate) struct WithSession<'d> {
    door: &'d Door,
    /// `name=value`.
    pub(crate) cookie: String,
}

impl Client for Anonymous<'_> {
    fn door(&self) -> &Door {
        self.0
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request
    }
}

impl Client for WithToken<'_> {
    fn door(&self) -> &Door {
        self.door
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.secret)
    }
}

impl Client for WithSession<'_> {
    fn door(&self) -> &Door {
        self.door
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("cookie", &self.cookie)
    }
}

impl WithSession<'_> {
    /// The token of this session's forms, as its pages hold it.
    pub(crate) async fn csrf(&self) -> String {
        let page = self.get("/account").await;
        assert_eq!(page.status, 200, "{}", page.text);
        field(&page.text, "csrf")
    }

    /// Sends a form as this session's own pages do.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let all: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        answer(self.ask("POST", path).header("sec-fetch-site", "same-origin").form(&all)).await
    }
}

/// The value of a hidden field in a page.
pub(crate) fn field(page: &str, name: &str) -> String {
    let rest = page.split(&format!("name=\"{name}\" value=\"")).nth(1);
    rest.and_then(|r| r.split('"').next()).unwrap_or_else(|| panic!("no field {name} in {page}")).to_owned()
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
        let mut all: BTreeMap<String, String> = [
            ("LOKI_SERVER_PORT", port.to_string()),
            ("LOKI_SERVER_WORKERS", "1".into()),
            ("LOKI_DATABASE_URL", format!("sqlite://{}", dir.path().join("loki.db").display())),
            ("LOKI_OIDC_ISSUER", provider.issuer().into()),
            ("LOKI_OIDC_CLIENT_ID", CLIENT_ID.into()),
            ("LOKI_RBAC_OIDC_ROLE_MAPPING", "{admins: admin, operators: operator, auditors: auditor}".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all.retain(|_, value| !value.is_empty());
        let settings = Sources { file: None, flags: Vec::new(), env: all }.load().unwrap();
        let app = App::start(settings, clock.clone(), true).await.unwrap();
        let (running, _) = server::serve(Arc::clone(&app), listener).unwrap();
        actix_web::rt::spawn(running);
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { app, clock, provider, port, _dir: dir, http }
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

impl WithSession<'_> {
    /// The status of `/api/me`, after a look at who it says.
    pub(crate) async fn door_says_ann(&self) -> u16 {
        let me = self.get("/api/me").await;
        assert_eq!(me.json()["name"], "Ann");
        me.status
    }
}
