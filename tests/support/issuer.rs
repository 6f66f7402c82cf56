//! An issuer of workload tokens on loopback: it publishes what it is told, counts who asks, and signs by hand with
//! keys of every type, so that no library stands between it and a bad token.

use std::{
    net::TcpListener,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use lokid::domain::time::Clock;
use serde_json::{Value, json};

use crate::jose::text;

/// A key of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Rsa,
    P256,
    P384,
    Ed25519,
    /// RSA of 2048 bits that nobody publishes.
    Stranger,
}

struct Pairs {
    rsa: rsa::KeyPair,
    stranger: rsa::KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs {
    rsa: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(),
    stranger: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed25519: Ed25519KeyPair::generate().unwrap(),
});

impl Key {
    pub(crate) const PUBLISHED: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::Ed25519];

    pub(crate) const fn kid(self) -> &'static str {
        match self {
            Self::Rsa | Self::Stranger => "rsa",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }

    pub(crate) const fn alg(self) -> &'static str {
        match self {
            Self::Rsa | Self::Stranger => "RS256",
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }

    pub(crate) fn jwk(self) -> Value {
        let rsa = |pair: &rsa::KeyPair| {
            let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
            let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
            json!({"kty": "RSA", "n": text(n), "e": text(e)})
        };
        let ec = |pair: &EcdsaKeyPair, curve: &str, length: usize| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(length);
            json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
        };
        let mut jwk = match self {
            Self::Rsa => rsa(&PAIRS.rsa),
            Self::Stranger => rsa(&PAIRS.stranger),
            Self::P256 => ec(&PAIRS.p256, "P-256", 32),
            Self::P384 => ec(&PAIRS.p384, "P-384", 48),
            Self::Ed25519 => json!({"kty": "OKP", "crv": "Ed25519", "x": text(PAIRS.ed25519.public_key().as_ref())}),
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.kid().into();
        jwk
    }

    /// The signature of this key under an algorithm of its type.
    pub(crate) fn sign(self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |pair: &rsa::KeyPair| {
            let encoding: &'static dyn signature::RsaEncoding = match alg {
                "RS384" => &signature::RSA_PKCS1_SHA384,
                "RS512" => &signature::RSA_PKCS1_SHA512,
                "PS256" => &signature::RSA_PSS_SHA256,
                "PS384" => &signature::RSA_PSS_SHA384,
                "PS512" => &signature::RSA_PSS_SHA512,
                _ => &signature::RSA_PKCS1_SHA256,
            };
            let mut out = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &random, message, &mut out).unwrap();
            out
        };
        match self {
            Self::Rsa => rsa(&PAIRS.rsa),
            Self::Stranger => rsa(&PAIRS.stranger),
            Self::P256 => PAIRS.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::P384 => PAIRS.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519 => PAIRS.ed25519.sign(message).as_ref().to_vec(),
        }
    }
}

/// A compact JWS of any header and claims.
pub(crate) fn signed(header: &Value, claims: &Value, key: Key) -> String {
    signed_texts(&header.to_string(), &claims.to_string(), header["alg"].as_str().unwrap_or(key.alg()), key)
}

/// A compact JWS of texts that need not be JSON.
pub(crate) fn signed_texts(header: &str, claims: &str, alg: &str, key: Key) -> String {
    let message = format!("{}.{}", text(header.as_bytes()), text(claims.as_bytes()));
    let signature = key.sign(alg, message.as_bytes());
    format!("{message}.{}", text(&signature))
}

/// How the key set is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Says {
    Keys,
    Status(u16),
    Text(String),
    Redirect,
    Hang,
    /// More than is read of any document.
    Huge,
}

struct Script {
    discovery: Value,
    discovery_says: Says,
    keys: Value,
    keys_say: Says,
    cache_control: String,
    calls: Vec<String>,
}

/// The issuer. Its address is the origin; [`Issuer::at`] adds a path to it.
#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) origin: String,
    script: Arc<Mutex<Script>>,
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Issuer {
    /// Starts on a free port of loopback. It publishes `issuer` and `jwks_uri` and nothing else.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let script = Script {
            discovery: json!({"issuer": origin, "jwks_uri": format!("{origin}/keys")}),
            discovery_says: Says::Keys,
            keys: json!({"keys": Key::PUBLISHED.map(Key::jwk)}),
            keys_say: Says::Keys,
            cache_control: String::new(),
            calls: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let state = web::Data::from(Arc::clone(&script));
        let server = HttpServer::new(move || App::new().app_data(state.clone()).default_service(web::to(answer)));
        actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        Self { origin, script }
    }

    /// The issuer of this name: discovery says so from now on.
    pub(crate) fn named(&self, path: &str) -> String {
        let name = format!("{}{path}", self.origin);
        lock(&self.script).discovery["issuer"] = name.clone().into();
        name
    }

    pub(crate) fn publish(&self, keys: Value) {
        lock(&self.script).keys = json!({ "keys": keys });
    }

    pub(crate) fn discovery(&self, document: Value) {
        lock(&self.script).discovery = document;
    }

    pub(crate) fn keys_say(&self, says: Says) {
        lock(&self.script).keys_say = says;
    }

    pub(crate) fn discovery_says(&self, says: Says) {
        lock(&self.script).discovery_says = says;
    }

    pub(crate) fn cache_control(&self, value: &str) {
        value.clone_into(&mut lock(&self.script).cache_control);
    }

    /// How often the key set was asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.calls("/keys")
    }

    pub(crate) fn calls(&self, end: &str) -> usize {
        lock(&self.script).calls.iter().filter(|path| path.ends_with(end)).count()
    }
}

async fn answer(script: web::Data<Mutex<Script>>, req: HttpRequest) -> HttpResponse {
    let path = req.path().to_owned();
    let (good, says, cache_control) = {
        let mut script = lock(&script);
        script.calls.push(path.clone());
        let (good, says) = if path.ends_with("/.well-known/openid-configuration") {
            (script.discovery.clone(), script.discovery_says.clone())
        } else {
            (script.keys.clone(), script.keys_say.clone())
        };
        (good, says, script.cache_control.clone())
    };
    let mut answer = HttpResponse::Ok();
    if !cache_control.is_empty() {
        answer.insert_header(("cache-control", cache_control));
    }
    match says {
        Says::Keys => answer.json(good),
        Says::Status(status) => HttpResponse::build(status.try_into().unwrap()).body("no"),
        Says::Text(body) => answer.content_type("text/html").body(body),
        Says::Redirect => HttpResponse::Found().insert_header(("location", format!("{path}?elsewhere"))).finish(),
        Says::Hang => std::future::pending().await,
        Says::Huge => answer.content_type("application/json").body(vec![b' '; 3 << 20]),
    }
}

/// Claims that every issuer writes, at the present moment of a clock.
pub(crate) fn claims(iss: &str, aud: &str, sub: &str, clock: &Clock) -> Value {
    let now = clock.now().seconds();
    json!({"iss": iss, "aud": aud, "sub": sub, "iat": now, "nbf": now, "exp": now + 300})
}

/// The usual header of a key.
pub(crate) fn header(key: Key) -> Value {
    json!({"alg": key.alg(), "kid": key.kid(), "typ": "JWT"})
}

/// A token that is right in everything.
pub(crate) fn token(claims: &Value, key: Key) -> String {
    signed(&header(key), claims, key)
}

/// Longer than any cool-down.
pub(crate) const COOL_DOWN: Duration = Duration::from_secs(10);
