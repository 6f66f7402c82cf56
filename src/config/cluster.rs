//! More than one node: what this one is called, and how the signing keys reach it (seeds/004).

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use url::Url;

use super::{
    psk::random_bytes,
    server::{Database, Secret, is_loopback_host},
    values::Place,
};

/// This node among others.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What it is called; the machine's name if nothing is set.
    pub node: Option<String>,
    /// A node that was not heard of for so long is taken for dead.
    pub lease: Duration,
}

/// How the signing keys are handed from node to node.
#[derive(Debug, Clone)]
pub struct Share {
    /// NATS servers.
    pub servers: Vec<String>,
    /// Their certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// A file of credentials.
    pub credentials_file: Option<PathBuf>,
    /// Name and password.
    pub user: Option<(String, Secret)>,
    /// The bucket.
    pub bucket: String,
    /// The key in it.
    pub key: String,
    /// Copies of the bucket.
    pub replicas: usize,
    /// Bootstrap tokens: the first seals, all open.
    pub tokens: Vec<Secret>,
    /// Whether this node makes the first key where there is none.
    pub leader: bool,
    /// How long it waits for one otherwise.
    pub wait: Duration,
    /// Its copy.
    pub file: PathBuf,
    /// Replaced after so long, if set.
    pub rotate_every: Option<Duration>,
}

/// 128 bits.
const LEAST_BYTES: usize = 16;

pub(super) fn read(place: Place<'_>) -> Cluster {
    let node = place.text("cluster.node");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if node.as_ref().is_some_and(|node| node.len() > 64 || !node.chars().all(fits)) {
        place.fault("cluster.node", "expected up to 64 letters, digits, -, _, . and :");
    }
    let lease = place.duration("cluster.lease").unwrap_or(Duration::from_secs(30));
    if lease < Duration::from_secs(2) {
        place.fault("cluster.lease", "must be at least 2s: nodes are heard of three times in this while");
    }
    Cluster { node, lease }
}

/// `None` without `cluster.nats_url`.
pub(super) fn read_share(place: Place<'_>, database: &Database) -> Option<Share> {
    let servers = place.list("cluster.nats_url");
    if servers.is_empty() {
        for key in ["bootstrap_token_file", "nats_ca_file", "nats_credentials_file", "nats_user", "key_file"] {
            let key = format!("cluster.{key}");
            if place.text(&key).is_some() {
                place.fault(&key, "is of no use without cluster.nats_url");
            }
        }
        return None;
    }
    for server in &servers {
        if let Err(message) = check_server(server) {
            place.fault("cluster.nats_url", message);
        }
    }
    for key in ["signing_key", "signing_key_file"] {
        if place.text(key).is_some() {
            place.fault(key, "and cluster.nats_url are both set; the keys come from one of them");
        }
    }
    let file = |key: &str| place.text(key).map(PathBuf::from);
    let (user, password) = (place.text("cluster.nats_user"), place.text("cluster.nats_password"));
    if user.is_some() != password.is_some() {
        place.fault("cluster.nats_user", "and cluster.nats_password belong together");
    }
    let name = |key: &str, with_dots: bool| {
        let text = place.required(key);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || (with_dots && c == '.');
        if !text.chars().all(fits) || text.starts_with('.') || text.ends_with('.') || text.len() > 128 {
            place.fault(key, "expected up to 128 letters, digits, - and _");
        }
        text
    };
    let beside = match database {
        Database::Sqlite(path) => path.parent().map(|dir| dir.join("cluster/ring")),
        Database::Postgres(_) => None,
    };
    Some(Share {
        ca_file: file("cluster.nats_ca_file"),
        credentials_file: file("cluster.nats_credentials_file"),
        user: user.zip(password).map(|(user, password)| (user, Secret::new(password))),
        bucket: name("cluster.bucket", false),
        key: name("cluster.key", true),
        replicas: place.number("cluster.nats_replicas").unwrap_or(1),
        tokens: read_tokens(place),
        leader: place.flag("cluster.leader"),
        wait: place.duration("cluster.wait").unwrap_or(Duration::from_secs(30)),
        file: file("cluster.key_file").or(beside).unwrap_or_else(|| ".loki/cluster/ring".into()),
        rotate_every: place.duration("keys.rotate_every"),
        servers,
    })
}

fn check_server(text: &str) -> Result<(), String> {
    const EXPECTED: &str = "expected tls://HOST:PORT, or nats://HOST:PORT on loopback";
    let url = Url::parse(text).map_err(|_| EXPECTED.to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a password; set cluster.nats_user and cluster.nats_password_file".into());
    }
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "tls" if !host.is_empty() => Ok(()),
        "nats" if is_loopback_host(host) => Ok(()),
        "nats" if !host.is_empty() => Err(format!("{text} is not encrypted; {EXPECTED}")),
        _ => Err(EXPECTED.to_owned()),
    }
}

/// One token in a line; the first seals. A file that others can read is no secret's place.
fn read_tokens(place: Place<'_>) -> Vec<Secret> {
    const KEY: &str = "cluster.bootstrap_token_file";
    let path = place.required(KEY);
    if path.is_empty() {
        return Vec::new();
    }
    let read =
        fs::metadata(&path).and_then(|about| Ok((about.permissions().mode() & 0o777, fs::read_to_string(&path)?)));
    let (mode, text) = match read {
        Ok(read) => read,
        Err(e) => {
            place.fault(
                KEY,
                format!(
                    "{path} cannot be read: {e}; copy it from another node, or for the first node of all make one with: \
                     lokid cluster token generate --out {path}"
                ),
            );
            return Vec::new();
        }
    };
    if mode & 0o077 != 0 {
        place
            .fault(KEY, format!("{path} has the mode {mode:o}, so others can read it; expected 600: chmod 600 {path}"));
    }
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    if lines.is_empty() || lines.len() > 2 {
        place.fault(
            KEY,
            format!("{path} holds {} tokens; expected one, or two during a rotation (the new one first)", lines.len()),
        );
    }
    for (at, line) in lines.iter().enumerate() {
        if let Err(why) = random_bytes(line, LEAST_BYTES) {
            place.fault(KEY, format!("token {} in {path} {why}; make one with: lokid cluster token generate", at + 1));
        }
    }
    lines.into_iter().map(Secret::new).collect()
}
