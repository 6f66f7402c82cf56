//! lokid, an app, and a proxy between them and the world.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    door::{Client as _, Door, WithSession},
    echo::{Arrived, Echo},
    front::{Front, Proxy},
};

/// The app's.
pub(crate) const HOST: &str = "app.localhost";

/// `lax.localhost` is another app, for what happens to a request that names it on its way to the first.
const APPS: &str = "[{host: app.localhost, public: [/public], rules: [{path: /admin, roles: [admin]}, {scope: read}]},
    {host: lax.localhost, public: [/admin], rules: [{scope: read}]}]";

/// Turns each story into two tests, one through each proxy.
macro_rules! through_each_proxy {
    ($($(#[$doc:meta])* async fn $story:ident($proxy:ident) $body:block)+) => {$(
        $(#[$doc])*
        async fn $story($proxy: $crate::front::Proxy) $body

        mod $story {
            use $crate::front::Proxy;

            #[actix_web::test]
            async fn nginx() {
                super::$story(Proxy::Nginx).await;
            }

            #[actix_web::test]
            async fn caddy() {
                super::$story(Proxy::Caddy).await;
            }
        }
    )+};
}

pub(crate) struct Site {
    pub(crate) door: Door,
    pub(crate) app: Echo,
    front: Front,
}

/// What the proxy answered, and what reached the app before it did.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) arrived: Vec<Arrived>,
}

impl Reply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        let pairs = head.lines().filter_map(|line| line.split_once(':'));
        pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The one request that reached the app.
    #[track_caller]
    pub(crate) fn passed(mut self) -> Arrived {
        assert_eq!((self.status, self.arrived.len()), (200, 1), "{self:?}");
        self.arrived.remove(0)
    }

    /// The status of an answer before which nothing reached the app.
    #[track_caller]
    pub(crate) fn stopped(&self) -> u16 {
        assert!(self.arrived.is_empty(), "{self:?}");
        self.status
    }
}

impl Site {
    pub(crate) async fn open(proxy: Proxy) -> Self {
        Self::open_with(proxy, APPS).await
    }

    /// With other apps.
    pub(crate) async fn open_with(proxy: Proxy, apps: &str) -> Self {
        let env = [
            ("LOKI_SERVER_TRUSTED_PROXIES", "127.0.0.1"),
            ("LOKI_FORWARD_AUTH_COOKIE_DOMAIN", "localhost"),
            ("LOKI_FORWARD_AUTH_APPS", apps),
            ("LOKI_LIMITS_BAD_CREDENTIALS", "10000/s"),
        ];
        let (door, app) = (Door::open(&env).await, Echo::start().await);
        let front = Front::start(proxy, &printed(proxy, &env, door.port), app.port).await;
        Self { door, app, front }
    }

    /// Sends `GET`, with these header lines.
    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", target.as_bytes(), headers).await
    }

    /// Sends a request as it is written here.
    pub(crate) async fn send(&self, method: &str, target: &[u8], headers: &[(&str, &str)]) -> Reply {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
        let host = if headers.iter().any(|(name, _)| *name == "Host") { "" } else { "Host: app.localhost\r\n" };
        let rest = format!(" HTTP/1.1\r\n{host}Connection: close\r\n{lines}\r\n");
        self.raw(&[method.as_bytes(), b" ", target, rest.as_bytes()].concat()).await
    }

    /// Sends `POST`, with these header lines and this body.
    pub(crate) async fn post(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
        let head = format!("POST {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{lines}\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn raw(&self, request: &[u8]) -> Reply {
        let mut socket = TcpStream::connect(("127.0.0.1", self.front.port)).await.unwrap();
        // A proxy that has said no may close before it has read everything.
        let _ = socket.write_all(request).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut bytes)).await;
        assert!(read.is_ok(), "no answer to {:?}: {}", String::from_utf8_lossy(request), self.front.output());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Reply { status, text, arrived: self.app.take() }
    }

    /// Somebody signed in, with these claims beside Ann's usual ones.
    pub(crate) async fn ann(&self, claims: Value) -> WithSession<'_> {
        self.door.provider.behave();
        self.door.provider.change(|script| {
            for (name, value) in claims.as_object().unwrap() {
                script.claims[name] = value.clone();
            }
        });
        let answer = self.door.sign_in(&[]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        self.door.session_of(&answer)
    }
}

/// The cookie for other apps, `name=value`, as a browser gets it on its way to the app.
pub(crate) async fn door_cookie(person: &WithSession<'_>) -> String {
    let led = person.get("/auth/continue?to=http%3A%2F%2Fapp.localhost%2Fx").await;
    assert_eq!((led.status, led.header("location")), (303, "http://app.localhost/x"), "{}", led.text);
    led.cookie("loki_door").expect("a cookie for other apps")
}

/// What the binary prints with the configuration that the door has.
fn printed(proxy: Proxy, env: &[(&str, &str)], port: u16) -> String {
    let name = format!("{proxy:?}").to_lowercase();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lokid"));
    command.args(["proxy-config", &name, "--host", HOST]).env_clear().env("LOKI_SERVER_PORT", port.to_string());
    let output = command.envs(env.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
