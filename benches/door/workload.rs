//! Workload tokens: an issuer that publishes one key, many tokens of it, and what its signatures alone cost.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{encoding::AsDer as _, rsa, signature::Ed25519KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use lokid::{
    domain::time::Clock,
    issuers::jwk::{Algorithm, KeySet},
    keys::sign::SigningKey,
};
use serde_json::json;

const AUDIENCE: &str = "https://bench.example";
/// How long signatures alone are verified.
const WHILE: Duration = Duration::from_secs(2);

/// What its key set does when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Keys,
    Failing,
    Empty,
    Hanging,
}

/// An issuer on loopback, for as long as this process lives.
pub(crate) struct Issuer {
    mood: Arc<Mutex<Mood>>,
    looks: Arc<AtomicU64>,
    pub(crate) alg: &'static str,
    url: String,
    key: SigningKey,
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der))
}

impl Issuer {
    pub(crate) fn start(alg: &'static str) -> Self {
        let key = match alg {
            "RS256" => {
                let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
                SigningKey::read_one(&pem(pair.as_der().expect("it can be written down").as_ref()))
            }
            "EdDSA" => {
                let pair = Ed25519KeyPair::generate().expect("a key");
                SigningKey::read_one(&pem(pair.to_pkcs8v1().expect("it can be written down").as_ref()))
            }
            _ => Ok(SigningKey::generate()),
        };
        let key = key.expect("a key that was just made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let keys = json!({"keys": [key.jwk()]}).to_string();
        let (mood, looks) = (Arc::new(Mutex::new(Mood::Keys)), Arc::new(AtomicU64::new(0)));
        let (present, seen) = (Arc::clone(&mood), Arc::clone(&looks));
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                seen.fetch_add(1, Relaxed);
                let _ = stream.read(&mut [0; 4096]);
                let mood = *present.lock().expect("a mood");
                let (status, body) = match mood {
                    Mood::Keys => ("200 OK", keys.as_str()),
                    Mood::Failing => ("500 Internal Server Error", ""),
                    Mood::Empty => ("200 OK", r#"{"keys":[]}"#),
                    Mood::Hanging => {
                        hanging.push(stream);
                        continue;
                    }
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close");
                let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { mood, looks, alg, url, key }
    }

    /// Another mood.
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().expect("a mood") = mood;
    }

    /// How often its keys were asked for.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Relaxed)
    }

    /// A token of its name, signed with a key that it does not publish.
    pub(crate) fn bad_token(&self, stranger: &SigningKey, now: i64, n: u32) -> String {
        let claims = json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "stranger", "iat": now, "exp": now + 3600, "jti": n.to_string(),
        });
        stranger.sign("JWT", &claims)
    }

    /// How a server is told of it.
    pub(crate) fn entry(&self) -> String {
        json!({"issuer": self.url, "jwks_url": format!("{}/keys", self.url), "audience": AUDIENCE}).to_string()
    }

    /// A file with the headers of so many tokens that differ.
    pub(crate) fn tokens(&self, dir: &Path, count: usize) -> PathBuf {
        let now = Clock::system().now().seconds();
        let mut text = String::new();
        for n in 0..count {
            let claims = json!({
                "iss": self.url, "aud": AUDIENCE, "sub": "repo:acme/app:ref:refs/heads/main", "iat": now, "nbf": now,
                "exp": now + 3600, "jti": format!("{n:032x}"), "repository": "acme/app", "repository_id": "42",
            });
            text.push_str("authorization: Bearer ");
            text.push_str(&self.key.sign("JWT", &claims));
            text.push('\n');
        }
        let path = dir.join(format!("jwt-{}-{count}", self.alg));
        fs::write(&path, text).expect("the file can be written");
        path
    }

    /// Verifications in a second of the file's signatures and of nothing else, on core 0.
    pub(crate) fn bare_rate(&self, dir: &Path, tokens: &Path) -> f64 {
        let keys = dir.join("keys.json");
        fs::write(&keys, json!({"keys": [self.key.jwk()]}).to_string()).expect("the file can be written");
        let own = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(own).args(["signatures", self.alg]).arg(keys).arg(tokens);
        let output = command.output().expect("taskset starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Prints the rate, for [`Issuer::bare_rate`].
#[expect(clippy::cast_precision_loss, reason = "a count to be read, not to be reckoned with")]
pub(crate) fn measure(alg: &str, keys: &Path, tokens: &Path) {
    let keys = serde_json::from_slice(&fs::read(keys).expect("the keys")).expect("JSON");
    let keys = KeySet::read(&keys).expect("a key set");
    let kid = keys.kids().next().map(str::to_owned);
    let algorithm = Algorithm::named(alg).expect("an algorithm");
    let text = fs::read_to_string(tokens).expect("the tokens");
    let part = |line: &str| {
        let (signed, signature) = line.rsplit_once('.').expect("three parts");
        let signed = signed.rsplit_once(' ').map_or(signed, |(_, signed)| signed);
        (signed.to_owned(), BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64url"))
    };
    let all: Vec<_> = text.lines().take(1000).map(part).collect();
    let (start, mut times) = (Instant::now(), 0_u64);
    while start.elapsed() < WHILE {
        for (signed, signature) in &all {
            keys.verify(algorithm, kid.as_deref(), signed.as_bytes(), signature).expect("a good signature");
        }
        times += all.len() as u64;
    }
    println!("{}", times as f64 / start.elapsed().as_secs_f64());
}
