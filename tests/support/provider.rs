//! An OpenID provider that does as its [`Script`] says: by default everything right, and any one thing
//! wrong when a test changes it. It signs by hand, so that no library stands between it and a bad token.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::digest;
use futures_util::StreamExt as _;
use lokid::domain::time::Clock;
use serde_json::{Value, json};

pub(crate) use crate::jose::*;

pub(crate) const CLIENT_ID: &str = "lokid-test";
pub(crate) const ACCESS_TOKEN: &str = "access-token-of-the-test";
pub(crate) const REFRESH_TOKEN: &str = "refresh-token-of-the-test";

/// An answer other than the good one.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, content type, body.
    Text(u16, &'static str, String),
    /// 302 to the good answer, at another path.
    Redirect,
    /// 256 MiB.
    Endless,
    /// None.
    Hang,
}

/// What the provider says.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) discovery: Value,
    pub(crate) discovery_reply: Option<Reply>,
    pub(crate) keys: Value,
    pub(crate) keys_reply: Option<Reply>,
    pub(crate) header: Value,
    pub(crate) sign: Sign,
    /// Of the ID token.
    pub(crate) claims: Value,
    /// The token endpoint's answer; the ID token is put in.
    pub(crate) token: Value,
    pub(crate) token_reply: Option<Reply>,
    pub(crate) userinfo: Value,
    pub(crate) userinfo_reply: Option<Reply>,
    /// The parameters of the authorization response; `state` is put in.
    pub(crate) answer: Vec<(String, String)>,
    /// The challenge of the authorization request under way.
    pub(crate) challenge: String,
}

#[derive(Clone)]
pub(crate) struct Provider(Arc<Shared>);

struct Shared {
    issuer: String,
    clock: OnceLock<Clock>,
    script: Mutex<Option<Script>>,
    calls: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    /// Starts on a free port of loopback.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let shared =
            Arc::new(Shared { issuer, clock: OnceLock::new(), script: Mutex::default(), calls: Mutex::default() });
        let state = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || App::new().app_data(state.clone()).default_service(web::to(answer)));
        actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        Self(shared)
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Tells the time and begins with everything right.
    pub(crate) fn follow(&self, clock: &Clock) {
        let _ = self.0.clock.set(clock.clone());
        self.behave();
    }

    pub(crate) fn now(&self) -> i64 {
        self.0.clock.get().unwrap().now().seconds()
    }

    /// Everything right again.
    pub(crate) fn behave(&self) {
        let (at, now) = (|path: &str| format!("{}{path}", self.issuer()), self.now());
        let script = Script {
            discovery: json!({
                "issuer": self.issuer(),
                "authorization_endpoint": at("/authorize"),
                "token_endpoint": at("/token"),
                "userinfo_endpoint": at("/userinfo"),
                "jwks_uri": at("/jwks"),
                "end_session_endpoint": at("/end"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "authorization_response_iss_parameter_supported": true,
            }),
            discovery_reply: None,
            keys: json!({"keys": [main_jwk()]}),
            keys_reply: None,
            header: json!({"alg": "RS256", "kid": "main"}),
            sign: Sign::Main,
            claims: json!({
                "iss": self.issuer(), "sub": "ann", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
                "auth_time": now, "sid": "sid-1", "name": "Ann", "email": "ann@example.org",
                "email_verified": true, "groups": ["admins"],
            }),
            token: json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300}),
            token_reply: None,
            userinfo: json!({"sub": "ann"}),
            userinfo_reply: None,
            answer: vec![("code".into(), "the-code".into()), ("iss".into(), self.issuer().into())],
            challenge: String::new(),
        };
        *lock(&self.0.script) = Some(script);
    }

    /// Changes what it says.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(lock(&self.0.script).as_mut().unwrap());
    }

    pub(crate) fn script(&self) -> Script {
        lock(&self.0.script).clone().unwrap()
    }

    /// How often a path was asked for.
    pub(crate) fn calls(&self, path: &str) -> usize {
        lock(&self.0.calls).iter().filter(|called| *called == path).count()
    }

    /// A good logout token's claims.
    pub(crate) fn logout_claims(&self, jti: &str) -> Value {
        json!({
            "iss": self.issuer(), "aud": CLIENT_ID, "iat": self.now(), "exp": self.now() + 120, "jti": jti,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sub": "ann", "sid": "sid-1",
        })
    }
}

async fn answer(shared: web::Data<Shared>, req: HttpRequest, body: web::Bytes) -> HttpResponse {
    let path = req.path().trim_end_matches("-elsewhere").to_owned();
    let moved = req.path() != path;
    lock(&shared.calls).push(req.path().to_owned());
    let script = lock(&shared.script).clone().unwrap();
    let (good, other) = match path.as_str() {
        "/.well-known/openid-configuration" => (Ok(script.discovery), script.discovery_reply),
        "/jwks" => (Ok(script.keys), script.keys_reply),
        "/userinfo" => (Ok(script.userinfo), script.userinfo_reply),
        "/token" => (token(&script, &body), script.token_reply),
        _ => (Err("not_found"), None),
    };
    match other.filter(|_| !moved) {
        Some(Reply::Text(status, kind, text)) => {
            let status = status.try_into().unwrap();
            HttpResponse::build(status).content_type(kind).body(text)
        }
        Some(Reply::Redirect) => {
            HttpResponse::Found().insert_header(("location", format!("{path}-elsewhere"))).finish()
        }
        Some(Reply::Endless) => HttpResponse::Ok().content_type("application/json").streaming(endless(shared)),
        Some(Reply::Hang) => std::future::pending().await,
        None => match good {
            Ok(value) => HttpResponse::Ok().json(value),
            Err(error) => HttpResponse::BadRequest().json(json!({"error": error})),
        },
    }
}

/// 256 MiB of white space, counted by the MiB.
fn endless(shared: web::Data<Shared>) -> impl futures_util::Stream<Item = Result<web::Bytes, actix_web::Error>> {
    let piece = web::Bytes::from(vec![b' '; 1 << 20]);
    futures_util::stream::iter(0..256).map(move |_| {
        lock(&shared.calls).push("one MiB".into());
        Ok(piece.clone())
    })
}

/// The token endpoint: PKCE is checked for a code, and the refresh token for a refresh.
fn token(script: &Script, body: &[u8]) -> Result<Value, &'static str> {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
    let good = match field("grant_type") {
        "authorization_code" => {
            text(digest::digest(&digest::SHA256, field("code_verifier").as_bytes()).as_ref()) == script.challenge
                && field("code") == "the-code"
        }
        "refresh_token" => field("refresh_token") == REFRESH_TOKEN,
        _ => false,
    };
    if !good {
        return Err("invalid_grant");
    }
    let mut token = script.token.clone();
    if token.get("id_token").is_none() {
        token["id_token"] = jws(&script.header, &script.claims, script.sign).into();
    }
    if token["id_token"].is_null() {
        token.as_object_mut().unwrap().remove("id_token");
    }
    Ok(token)
}
