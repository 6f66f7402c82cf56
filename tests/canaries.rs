//! What the real server holds or is sent, and where it must not come to light: its log at its most talkative in both
//! forms, the audit log, metrics, pages, errors, and the database. Each test names what was planted and where it looked.

use std::{fs, sync::mpsc, thread};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64;
use lokid::domain::{screen, time::Clock};
use serde_json::json;

#[path = "durability/http.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod http;
#[path = "support/issuer.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod issuer;
#[path = "support/jose.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod jose;
#[path = "support/provider.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod provider;
#[path = "durability/server.rs"]
mod server;

use http::Answer;
use issuer::{Issuer, Key};
use provider::{ACCESS_TOKEN, CLIENT_ID, Provider, REFRESH_TOKEN};
use server::{ROOT, Server, Site};

const TOKENS: &str = "/api/enterprise/tokens";
const PAGES: [&str; 9] =
    ["/", "/audit", "/tokens", "/people", "/keys", "/account", "/tasks", "/runs", "/explain-token"];

/// A server that was told every secret there is, and everything that it says.
struct Scene {
    dir: tempfile::TempDir,
    site: Site,
    server: Server,
    provider: Provider,
    issuer: Issuer,
    /// The secret of a token that may do everything.
    root: String,
    /// Names of secrets, and the secrets.
    planted: Vec<(&'static str, String)>,
    /// Places where somebody reads, and what stands there.
    shown: Vec<(String, String)>,
}

/// A provider and an issuer that serve as long as this process lives.
fn others() -> (Provider, Issuer) {
    let (say, hear) = mpsc::channel();
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            say.send((Provider::start(), Issuer::start())).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let (provider, issuer) = hear.recv().unwrap();
    provider.follow(&Clock::system());
    (provider, issuer)
}

fn canary(name: &str) -> String {
    format!("canary-{name}-Zq8vW2xK9fR4tY7u-long-enough-for-every-rule")
}

/// A private key as PEM, and a line of it.
fn signing_key() -> (String, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let text = BASE64.encode(pair.to_pkcs8v1().unwrap().as_ref());
    (format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"), text)
}

impl Scene {
    fn open(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (provider, issuer) = others();
        let mut site = Site::new(dir.path());
        let psk = BASE64.encode(b"canary-psk-32-random-bytes-of-it");
        let (pem, line) = signing_key();
        let entry = json!({"issuer": issuer.origin, "audience": "lokid", "rules": [{"scopes": ["read"]}]});
        site.env = vec![
            ("LOKI_LOG_LEVEL", "trace".into()),
            ("LOKI_LOG_FORMAT", format.into()),
            ("LOKI_OIDC_ISSUER", provider.issuer().into()),
            ("LOKI_OIDC_CLIENT_ID", CLIENT_ID.into()),
            ("LOKI_OIDC_CLIENT_SECRET", canary("client-secret")),
            ("LOKI_OIDC_SCOPES", "openid offline_access".into()),
            ("LOKI_RBAC_OIDC_ROLE_MAPPING", "{admins: admin}".into()),
            ("LOKI_SERVER_SECRET", canary("server-secret")),
            ("LOKI_PSK_KEY", psk.clone()),
            ("LOKI_JWT_ISSUERS", entry.to_string()),
            ("SIGNING_KEY", pem),
        ];
        let mut planted: Vec<_> = ["client-secret", "server-secret"].map(|name| (name, canary(name))).into();
        planted.extend([("pre-shared key", psk), ("private key", line)]);
        let root = site.token(ROOT);
        planted.push(("token", root.clone()));
        let server = site.start();
        Self { dir, site, server, provider, issuer, root, planted, shown: Vec::new() }
    }

    /// Sends something and keeps what is answered.
    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let answer = self.server.http().send(method, path, headers, body).unwrap();
        let place = format!("{method} {}: {}", path.split('?').next().unwrap(), answer.status);
        self.shown.push((place, answer.body.clone()));
        answer
    }

    /// What a credential is answered: planted, and either let in or refused.
    fn presents(&mut self, name: &'static str, scheme: &str, secret: &str, status: u16) {
        let answer = self.send("GET", "/api/me", &[("authorization", &format!("{scheme} {secret}"))], "");
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        self.planted.push((name, secret.to_owned()));
    }

    /// The session's cookie of somebody who signed in.
    fn sign_in(&mut self) -> String {
        self.provider.change(|s| s.token["refresh_token"] = REFRESH_TOKEN.into());
        let sent = [("code", "the-code"), ("access token", ACCESS_TOKEN), ("refresh token", REFRESH_TOKEN)];
        self.planted.extend(sent.map(|(name, secret)| (name, secret.to_owned())));
        let begun = self.send("GET", "/auth/oidc/login", &[], "");
        let cookie = begun.cookie("loki_signin_").unwrap();
        let asked = url::Url::parse(begun.header("location").unwrap()).unwrap();
        let of = |name: &str| asked.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
        self.provider.change(|s| {
            s.challenge = of("code_challenge");
            s.claims["nonce"] = of("nonce").into();
        });
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("state", &of("state")).extend_pairs(self.provider.script().answer);
        let done = self.send("GET", &format!("/auth/oidc/callback?{}", query.finish()), &[("cookie", &cookie)], "");
        let session = done.cookie("loki_session").unwrap_or_else(|| panic!("no sign-in: {done:?}"));
        self.planted.push(("session", session.split_once('=').unwrap().1.to_owned()));
        session
    }

    /// Looks everywhere, once the server was told to end.
    fn look_everywhere(&mut self, session: &str) {
        for page in PAGES {
            let answer = self.send("GET", page, &[("cookie", session), ("accept", "text/html")], "");
            assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        }
        let bearer = format!("Bearer {}", self.root);
        let metrics = self.send("GET", "/metrics", &[("authorization", &bearer)], "");
        assert!(metrics.body.contains("lokid_"), "{metrics:?}");
        let log = self.send("GET", "/api/audit?limit=1000", &[("authorization", &bearer)], "");
        assert!(log.json()["entries"].as_array().unwrap().len() > 5, "{}", log.body);
        for words in [&["enterprise", "audit", "tail"][..], &["enterprise", "audit", "export"], &["config", "show"]] {
            let done = self.site.command(words).output().unwrap();
            assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
            for stream in [&done.stdout, &done.stderr] {
                self.shown.push((format!("lokid {}", words.join(" ")), String::from_utf8_lossy(stream).into_owned()));
            }
        }
        let told = std::process::Command::new("kill").arg(self.server.child.id().to_string()).status().unwrap();
        assert!(told.success() && self.server.child.wait().unwrap().success());
        let output = fs::read_to_string(self.site.output()).unwrap();
        assert!(output.matches("answered").count() > 20, "the log is at its most talkative: {output}");
        self.shown.push(("the server's log".into(), output));
    }

    /// The bytes of the database.
    fn database(&self) -> Vec<u8> {
        let files = ["loki.db", "loki.db-wal"].map(|name| fs::read(self.dir.path().join(name)).unwrap_or_default());
        files.concat()
    }
}

fn no_secret_comes_to_light(format: &str) {
    let mut scene = Scene::open(format);
    let session = scene.sign_in();
    let (clock, origin) = (Clock::system(), scene.issuer.origin.clone());
    let workload = issuer::token(&issuer::claims(&origin, "lokid", "ci", &clock), Key::P256);
    let stranger = issuer::token(&issuer::claims(&origin, "lokid", "ci", &clock), Key::Stranger);
    let psk = scene.planted.iter().find(|(name, _)| *name == "pre-shared key").unwrap().1.clone();
    let root = scene.root.clone();
    scene.presents("a token that is let in", "Bearer", &root, 200);
    scene.presents("a pre-shared key that is let in", "APIKey", &psk, 200);
    scene.presents("another pre-shared key", "APIKey", &canary("wrong-psk"), 401);
    scene.presents("a password", "Basic", &canary("password"), 401);
    for (name, jwt, status) in [("a workload's token", workload, 200), ("a stranger's token", stranger, 401)] {
        scene.presents(name, "Bearer", &jwt, status);
        scene.planted.push(("a workload's signature", jwt.rsplit_once('.').unwrap().1.to_owned()));
    }
    let bearer = format!("Bearer {root}");
    let made = scene.server.http().call(&root, "POST", TOKENS, r#"{"name":"ci","scopes":["read"]}"#).unwrap().json();
    let revoked = made["token"].as_str().unwrap();
    scene.server.http().call(&root, "DELETE", &format!("{TOKENS}/ci"), "").unwrap();
    scene.presents("a revoked token", "Bearer", revoked, 401);
    let typo = format!("{}x", &root[..root.len() - 1]);
    scene.presents("a token with a typo", "Bearer", &typo, 401);
    let pem = format!("-----BEGIN PRIVATE KEY-----{}", canary("pem"));
    let form = ("content-type", "application/x-www-form-urlencoded");
    let auth = ("authorization", bearer.as_str());
    for (name, path, header, body) in [
        ("header", "/api/me", ("x-secret", canary("header")), String::new()),
        ("api-key", "/api/me", ("x-api-key", canary("api-key")), String::new()),
        ("pem", "/api/me", ("x-key", pem), String::new()),
        ("cookie", "/api/me", ("cookie", format!("loki_session={}", canary("cookie"))), String::new()),
        ("query", &format!("/api/me?access_token={}", canary("query")), ("x-a", "b".into()), String::new()),
        ("login-link", &format!("/login/local/{}", canary("login-link")), ("x-a", "b".into()), String::new()),
        ("idempotency", "/api/tasks", ("idempotency-key", canary("idempotency")), "{".into()),
        ("body", "/api/tasks", ("x-a", "b".into()), canary("body")),
        ("logout", "/auth/oidc/backchannel-logout", ("x-a", "b".into()), format!("logout_token={}", canary("logout"))),
    ] {
        let is_post = !body.is_empty();
        let kind = if path.starts_with("/auth") { form } else { ("content-type", "application/json") };
        let headers = [(header.0, header.1.as_str()), kind, auth];
        let headers = if name == "cookie" || name == "logout" { &headers[..2] } else { &headers[..] };
        scene.send(if is_post { "POST" } else { "GET" }, path, headers, &body);
        scene.planted.push((name, canary(name)));
    }
    scene.look_everywhere(&session);
    assert!(scene.planted.len() >= 24, "{} secrets are planted", scene.planted.len());
    for (name, secret) in &scene.planted {
        for (place, text) in &scene.shown {
            let at = text.find(secret.as_str());
            assert_eq!(at, None, "{name} in {place}: …{}", &text[at.unwrap_or(0).saturating_sub(100)..][..200]);
        }
        let (bytes, kept) = (secret.as_bytes(), scene.database());
        assert!(!kept.windows(bytes.len()).any(|window| window == bytes), "{name} in the database");
    }
}

#[test]
fn no_secret_comes_to_light_with_lines_of_text() {
    no_secret_comes_to_light("text");
}

#[test]
fn no_secret_comes_to_light_with_lines_of_json() {
    no_secret_comes_to_light("json");
}

#[test]
fn the_bootstrap_token_and_the_password_of_nats_do_not_come_to_light() {
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let mut site = Site::new(dir.path());
        let token = site.run(&["cluster", "token", "generate"]);
        let token = token.split_whitespace().find(|word| word.len() > 30).expect("a token").to_owned();
        fs::write(dir.path().join("bootstrap"), &token).unwrap();
        site.env = vec![
            ("LOKI_LOG_LEVEL", "trace".into()),
            ("LOKI_LOG_FORMAT", format.into()),
            ("LOKI_CLUSTER_NATS_URL", "nats://127.0.0.1:9".into()),
            ("LOKI_CLUSTER_NATS_USER", "lokid".into()),
            ("LOKI_CLUSTER_NATS_PASSWORD", canary("nats-password")),
            ("LOKI_CLUSTER_BOOTSTRAP_TOKEN_FILE", dir.path().join("bootstrap").display().to_string()),
            ("LOKI_CLUSTER_WAIT", "1s".into()),
        ];
        fs::set_permissions(dir.path().join("bootstrap"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(site.spawn().child.wait().unwrap().code(), Some(11));
        let said = fs::read_to_string(site.output()).unwrap();
        assert!(said.contains("127.0.0.1:9"), "{said}");
        for secret in [token, canary("nats-password")] {
            assert!(!said.contains(&secret), "{secret} in {said}");
        }
    }
}

/// What turns a screen red, breaks a line, moves its title, and turns round what follows.
const ODD: &str = "a\u{1b}[31mb\u{9b}7mc\u{202e}d\u{2066}e\u{7}f";

#[test]
fn nothing_that_a_screen_acts_on_gets_to_a_page_a_terminal_or_a_log() {
    for format in ["text", "json"] {
        let mut scene = Scene::open(format);
        scene.provider.change(|s| {
            s.claims["name"] = ODD.into();
            s.claims["groups"] = json!(["admins", ODD]);
            s.claims["email"] = format!("{ODD}@example.org").into();
        });
        let session = scene.sign_in();
        let root = format!("Bearer {}", scene.root);
        let escaped = url::form_urlencoded::byte_serialize(ODD.as_bytes()).collect::<String>().replace('+', "%20");
        // As bytes of a header, which may hold everything but control characters.
        let marked: String = ODD.chars().filter(|c| !c.is_ascii_control()).collect();
        let (name, json) = (json!({"name": ODD, "scopes": ["read"]}).to_string(), ("content-type", "application/json"));
        let task = json!({"title": "t", "description": ODD}).to_string();
        let sub = issuer::claims(&scene.issuer.origin, "lokid", ODD, &Clock::system());
        let odd_token = format!("Bearer {}", issuer::token(&sub, Key::P256));
        for (place, method, path, headers, body) in [
            (
                "user agent",
                "GET",
                "/api/audit",
                vec![("user-agent", marked.as_str()), ("authorization", "Basic x")],
                "",
            ),
            ("host", "GET", "/api/me", vec![("x-forwarded-host", marked.as_str()), ("authorization", &root)], ""),
            ("path", "GET", &format!("/{escaped}"), vec![("authorization", &root)], ""),
            ("resource", "DELETE", &format!("{TOKENS}/{escaped}"), vec![("authorization", &root)], ""),
            ("filter", "GET", &format!("/api/audit?event={escaped}"), vec![("authorization", &root)], ""),
            ("parameter", "GET", &format!("/api/audit?{escaped}=1"), vec![("authorization", &root)], ""),
            ("page's filter", "GET", &format!("/audit?event={escaped}"), vec![("cookie", &session)], ""),
            ("provider", "GET", &format!("/auth/oidc/callback?error={escaped}&state=x"), vec![], ""),
            ("return_to", "GET", &format!("/login?return_to=/{escaped}"), vec![("accept", "text/html")], ""),
            ("token's name", "POST", TOKENS, vec![("authorization", &root), json], &name),
            ("task", "POST", "/api/tasks", vec![("authorization", &root), json], &task),
            ("subject", "GET", "/api/me", vec![("authorization", &odd_token)], ""),
        ] {
            let answer = scene.send(method, path, &headers, body);
            assert!(answer.status < 500, "{place}: {answer:?}");
            let (_, text) = scene.shown.pop().unwrap();
            scene.shown.push((place.to_owned(), text));
        }
        scene.look_everywhere(&session);
        for (place, text) in &scene.shown {
            let acts = |c: char| screen::acts(c) && !matches!(c, '\n' | '\t');
            let at = text.find(acts);
            assert_eq!(
                at,
                None,
                "{place} ({format}): …{:?}",
                text[at.unwrap_or(0)..].chars().take(80).collect::<String>()
            );
        }
    }
}
