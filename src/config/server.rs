//! Listening, the outside address, the database and the logs.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use url::{Host, Url};
use zeroize::Zeroizing;

use super::{
    cluster::{Share, read_share},
    values::Place,
};

/// A text that is not shown. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where to listen and what the outside is called.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address or name to listen on.
    pub host: String,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// The address by which people come.
    pub public_url: Url,
    /// More values that `Host` may have.
    pub allowed_hosts: Vec<String>,
    /// Whose forwarding headers count.
    pub trusted_proxies: Vec<Network>,
    /// Worker threads, if set.
    pub workers: Option<usize>,
    /// Connections at once for each worker.
    pub max_connections: usize,
    /// Seals cookies and the like, if set.
    pub secret: Option<Secret>,
    /// Certificate and key, when HTTPS is served.
    pub tls: Option<Tls>,
}

/// Files of the certificate that the server shows.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Chain, PEM.
    pub cert: PathBuf,
    /// Key, PEM.
    pub key: PathBuf,
    /// Whose client certificates are taken, if they are asked for.
    pub clients: Option<Clients>,
}

/// What is asked of clients in the handshake.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Authorities, PEM.
    pub authorities: PathBuf,
    /// Lists of revoked certificates, PEM.
    pub lists: Option<PathBuf>,
    /// Whether nobody connects without a certificate.
    pub required: bool,
}

impl Server {
    /// Host and port of the outside address, as a browser sends them in `Host`.
    pub fn authority(&self) -> String {
        let host = self.public_url.host_str().unwrap_or_default().to_ascii_lowercase();
        self.public_url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// Whether only this machine can reach the listener.
    pub fn is_on_loopback(&self) -> bool {
        is_loopback_host(&self.host)
    }
}

/// Where the data is.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the URL holds a password.
    Postgres(Secret),
}

/// Where our signing keys are.
#[derive(Debug, Clone)]
pub enum Signing {
    /// In this file, which is watched.
    File(PathBuf),
    /// Given with the settings.
    Given(Secret),
    /// In the database, sealed under `server.secret`; replaced after a while, if one is set.
    Kept(Option<Duration>),
    /// Handed from node to node through NATS, with a copy on this node's disk.
    Shared(Box<Share>),
    /// Nowhere: the process makes one for itself.
    Ephemeral,
}

/// How logs are written.
#[derive(Debug, Clone)]
pub struct Log {
    /// `error` … `trace`.
    pub level: String,
    /// JSON lines.
    pub json: bool,
}

/// An address with how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address that came mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.bits),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.bits),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected an address (10.1.2.3) or a network (10.0.0.0/8)";
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| EXPECTED)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |b| b.parse().map_err(|_| EXPECTED))?;
        if bits == 0 || bits > most {
            return Err("a network has 1 to 32 (IPv4) or 128 (IPv6) bits; everybody cannot be trusted");
        }
        Ok(Self { address, bits })
    }
}

/// `localhost`, `127.0.0.0/8`, `::1`.
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether a URL may be called: `https`, or `http` on loopback, without credentials or fragment.
pub fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("an absolute URL ({e})"))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => is_loopback_host(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("an absolute URL with a host".into()),
    };
    match url.scheme() {
        _ if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() => {
            Err("a URL without user, password or #".into())
        }
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("an https:// URL (http:// is accepted on loopback only)".into()),
    }
}

pub(super) fn read_server(place: Place<'_>) -> Server {
    let port = place.number("server.port").unwrap_or_default();
    let scheme = if place.flag("server.tls.enabled") { "https" } else { "http" };
    let fallback = || Url::parse(&format!("{scheme}://localhost:{port}")).expect("a fixed form");
    let public_url = place.text("server.public_url").and_then(|t| check_url(&t).ok()).unwrap_or_else(fallback);
    if public_url.path() != "/" || public_url.query().is_some() {
        place.fault("server.public_url", "must end after host and port: lokid serves its paths from the root");
    }
    let secret = place.text("server.secret");
    if secret.as_ref().is_some_and(|s| s.trim().len() < 32) {
        place.fault("server.secret", "must have at least 32 characters; try: openssl rand -base64 32");
    }
    let hosts: Vec<String> = place.list("server.allowed_hosts").iter().map(|h| h.to_ascii_lowercase()).collect();
    if let Some(wrong) = hosts.iter().find(|h| h.contains('/') || h.contains('*')) {
        place.fault("server.allowed_hosts", format!("{wrong:?} is not a name or name:port"));
    }
    let proxies = place.list("server.trusted_proxies");
    let network = |text: &String| {
        text.parse().map_err(|e: &str| place.fault("server.trusted_proxies", format!("{text:?}: {e}"))).ok()
    };
    Server {
        host: place.required("server.host"),
        port,
        public_url,
        allowed_hosts: hosts,
        trusted_proxies: proxies.iter().filter_map(network).collect(),
        workers: place.number("server.workers"),
        max_connections: place.number("server.max_connections").unwrap_or(10_000),
        secret: secret.map(Secret::new),
        tls: read_tls(place),
    }
}

fn read_tls(place: Place<'_>) -> Option<Tls> {
    let enabled = place.flag("server.tls.enabled");
    let authorities = place.text("server.tls.client_ca").map(PathBuf::from);
    if authorities.is_some() && !enabled {
        place.fault("server.tls.client_ca", "is of no use without server.tls.enabled: true");
    }
    if authorities.is_none() && place.text("server.tls.client_crl").is_some() {
        place.fault("server.tls.client_crl", "is of no use without server.tls.client_ca");
    }
    let required = place.text("server.tls.client_auth").as_deref() == Some("required");
    if authorities.is_none() && required {
        place.fault("server.tls.client_auth", "required needs server.tls.client_ca, the authorities to trust");
    }
    let dir = place.text("certs_dir").map(PathBuf::from);
    let file = |key: &str, usual: &str| match (place.text(key), &dir) {
        (None, Some(dir)) => dir.join(usual),
        _ => PathBuf::from(place.required(key)),
    };
    let lists = place.text("server.tls.client_crl").map(PathBuf::from);
    enabled.then(|| Tls {
        cert: file("server.tls.cert", "server.pem"),
        key: file("server.tls.key", "server.key"),
        clients: authorities.map(|authorities| Clients { authorities, lists, required }),
    })
}

pub(super) fn read_database(place: Place<'_>) -> Database {
    let url = place.required("database.url");
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') || path == ":memory:" {
            place.fault("database.url", "expected sqlite://PATH of a file");
        }
        return Database::Sqlite(PathBuf::from(path));
    }
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        place.fault("database.url", "expected sqlite://PATH or postgres://USER@HOST/NAME");
    }
    Database::Postgres(Secret::new(url))
}

pub(super) fn read_signing(place: Place<'_>, database: &Database) -> Signing {
    let every = place.duration("keys.rotate_every");
    if every.is_some_and(|every| every < Duration::from_hours(1)) {
        place.fault("keys.rotate_every", "must be at least 1h: a rotation itself takes minutes");
    }
    if let Some(share) = read_share(place, database) {
        return Signing::Shared(Box::new(share));
    }
    // seeds/000's file, where it is.
    let of_certs = place.text("certs_dir").map(|dir| PathBuf::from(dir).join("jwt/private.key"));
    let signing = match (place.text("signing_key_file"), place.text("signing_key"), of_certs) {
        (Some(file), _, _) => Signing::File(PathBuf::from(file)),
        (None, Some(text), _) => Signing::Given(Secret::new(text)),
        (None, None, Some(file)) if file.is_file() => Signing::File(file),
        _ if place.text("server.secret").is_some() => Signing::Kept(every),
        _ => Signing::Ephemeral,
    };
    if every.is_some() && !matches!(signing, Signing::Kept(_)) {
        place.fault(
            "keys.rotate_every",
            "is for keys that lokid keeps: set server.secret, or cluster.nats_url, and no signing_key",
        );
    }
    signing
}

pub(super) fn read_log(place: Place<'_>) -> Log {
    Log { level: place.required("log.level"), json: place.text("log.format").as_deref() == Some("json") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let net: Network = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.1".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().is_err() && "proxy".parse::<Network>().is_err());
    }

    #[test]
    fn urls_with_traps_are_refused() {
        for wrong in
            ["http://a.example", "https://u:p@a.example", "ftp://a", "/x", "https://", "http://localhost.evil.example"]
        {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
        assert!(check_url("https://a.example/x").is_ok() && check_url("http://[::1]:1").is_ok());
    }
}
