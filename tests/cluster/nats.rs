//! A real NATS server with JetStream, on a port and a directory of its own, and nodes that hand each other keys through it.

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use async_nats::jetstream::{self, kv};
use serde_json::Value;

use super::{
    http::Http,
    server::{Server, Site, until},
};

/// A server that can be ended and started again on the same port and data.
pub(crate) struct Nats {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    config: Option<PathBuf>,
    child: Option<Child>,
}

/// The password of the user `lokid`, where there is one.
pub(crate) const PASSWORD: &str = "nats-password-that-no-log-may-hold";

impl Nats {
    pub(crate) fn start() -> Self {
        let mut nats = Self::on(tempfile::tempdir().unwrap());
        nats.start_again();
        nats
    }

    /// As `deploy/cluster` has it, with TLS and a password; with `server.pem` and `server.key` of this directory.
    pub(crate) fn as_deployed(dir: tempfile::TempDir) -> Self {
        let mut nats = Self::on(dir);
        let here = |name: &str| nats.dir.path().join(name).display().to_string();
        let whole = include_str!("../../deploy/cluster/nats.conf");
        let text = [
            ("0.0.0.0:4222", format!("127.0.0.1:{}", nats.port)),
            ("/data", here("jetstream")),
            ("/etc/nats/server.pem", here("server.pem")),
            ("/etc/nats/server.key", here("server.key")),
        ]
        .into_iter()
        .fold(whole.to_owned(), |text, (what, by)| {
            assert!(text.contains(what), "{what} in {text}");
            text.replace(what, &by)
        });
        let config = nats.dir.path().join("nats.conf");
        fs::write(&config, text).unwrap();
        nats.config = Some(config);
        nats.start_again();
        nats
    }

    /// With more in its configuration.
    pub(crate) fn configured(more: &str) -> Self {
        let mut nats = Self::on(tempfile::tempdir().unwrap());
        let store = nats.dir.path().join("jetstream").display().to_string();
        nats.configure(&format!("jetstream {{ store_dir: {store} }}\n{more}"));
        nats
    }

    pub(crate) fn without_jetstream() -> Self {
        let mut nats = Self::on(tempfile::tempdir().unwrap());
        nats.configure("");
        nats
    }

    fn configure(&mut self, text: &str) {
        let config = self.dir.path().join("nats.conf");
        fs::write(&config, format!("listen: 127.0.0.1:{}\n{text}", self.port)).unwrap();
        self.config = Some(config);
        self.start_again();
    }

    fn on(dir: tempfile::TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port, config: None, child: None }
    }

    pub(crate) fn start_again(&mut self) {
        let (port, store) = (self.port.to_string(), self.dir.path().join("jetstream").display().to_string());
        let arguments = match &self.config {
            Some(config) => vec!["-c", config.to_str().unwrap()],
            None => vec!["-a", "127.0.0.1", "-p", &port, "-js", "-sd", &store],
        };
        // Debian keeps it where only root's PATH leads.
        let child = Command::new("nats-server")
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NATS_PASSWORD", PASSWORD)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed (Debian: apt-get install nats-server)");
        self.child = Some(child);
        // The server speaks first.
        let speaks = || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
            let mut word = [0; 4];
            stream.read_exact(&mut word).is_ok() && &word == b"INFO"
        };
        assert!(until(Duration::from_secs(20), speaks), "NATS does not answer");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The bucket, as a stranger with access to NATS sees it.
    pub(crate) async fn bucket(&self, name: &str) -> kv::Store {
        let client = async_nats::connect(self.url()).await.unwrap();
        jetstream::new(client).get_key_value(name).await.unwrap()
    }

    pub(crate) async fn value(&self) -> kv::Entry {
        self.bucket("loki-jwt-key").await.entry("signing-key").await.unwrap().unwrap()
    }

    pub(crate) async fn put(&self, value: &[u8]) {
        self.bucket("loki-jwt-key").await.put("signing-key", value.to_vec().into()).await.unwrap();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Nodes that share a bootstrap token.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) token: PathBuf,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("bootstrap");
        let fleet = Self { dir, token };
        fleet.write_tokens(&[&new_token(1)]);
        fleet
    }

    /// What is in the nodes' file of bootstrap tokens.
    pub(crate) fn write_tokens(&self, tokens: &[&str]) {
        fs::write(&self.token, tokens.join("\n")).unwrap();
        fs::set_permissions(&self.token, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A node on a directory and SQLite file of its own.
    pub(crate) fn node(&self, name: &str, nats: &Nats, env: &[(&'static str, &str)]) -> Site {
        let dir = self.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        let mut site = Site::new(&dir);
        site.env.push(("LOKI_CLUSTER_NODE", name.to_owned()));
        site.env.push(("LOKI_CLUSTER_NATS_URL", nats.url()));
        site.env.push(("LOKI_CLUSTER_BOOTSTRAP_TOKEN_FILE", self.token.display().to_string()));
        site.env.extend(env.iter().map(|(name, value)| (*name, (*value).to_owned())));
        site
    }
}

pub(crate) const LEADER: (&str, &str) = ("LOKI_CLUSTER_LEADER", "true");

/// A token that is random enough, and always the same.
pub(crate) fn new_token(seed: u8) -> String {
    let bytes: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(37).wrapping_add(seed)).collect();
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}

/// The names of the keys that a server publishes; the first signs.
pub(crate) fn published(http: &mut Http) -> Vec<String> {
    let set: Value = http.get("/.well-known/jwks.json", &[]).unwrap().json();
    let keys = set["keys"].as_array().unwrap_or_else(|| panic!("no key set: {set}"));
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a server publishes just these keys.
pub(crate) fn until_published(server: &Server, keys: &[String], within: Duration) {
    let mut http = server.http();
    let mut last = Vec::new();
    let same = until(within, || {
        last = published(&mut http);
        last == keys
    });
    assert!(same, "publishes {last:?} and not {keys:?}");
}

/// Audit entries of this event, as the command line lists them.
pub(crate) fn events(site: &Site, event: &str) -> Vec<Value> {
    let text = site.run(&["--json", "enterprise", "audit", "tail", "--event", event]);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// How a server ended that could not start: its exit code and what it said.
pub(crate) fn does_not_start(site: &Site) -> (i32, String) {
    let mut server = site.spawn();
    let code = server.child.wait().unwrap().code().unwrap();
    (code, fs::read_to_string(site.output()).unwrap())
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What a verb says that is refused.
pub(crate) fn refuses(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?} was not refused: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
