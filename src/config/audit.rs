//! How the audit log proves itself, how long it is kept, and who is told of it.

use std::{path::PathBuf, time::Duration};

use url::Url;

use super::{
    server::{Database, check_url},
    values::Place,
};
use crate::domain::{checkpoint::Cadence, retention::Ages};

/// The audit log's settings.
#[derive(Debug, Clone)]
pub struct Audit {
    /// How often its head is signed.
    pub cadence: Cadence,
    /// Where checkpoints are kept outside the database.
    pub anchor_file: Option<PathBuf>,
    /// The NATS bucket in which they are kept too, where there is a NATS.
    pub anchor_bucket: Option<String>,
    /// How old entries become.
    pub ages: Ages,
    /// A syslog server.
    pub syslog: Option<Syslog>,
    /// An address that every entry is posted to.
    pub webhook: Option<Url>,
}

/// How a syslog server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram an entry (RFC 5426).
    Udp,
    /// Octet counting (RFC 6587 §3.4.1).
    Tcp,
    /// The same over TLS (RFC 5425).
    Tls,
}

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// How.
    pub transport: Transport,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// More certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
}

const EXPECTED: &str = "expected udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT";

fn syslog(text: &str, ca_file: Option<PathBuf>) -> Option<Syslog> {
    let url = Url::parse(text).ok()?;
    let (transport, port) = match url.scheme() {
        "udp" => (Transport::Udp, 514),
        "tcp" => (Transport::Tcp, 601),
        "tls" => (Transport::Tls, 6514),
        _ => return None,
    };
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|host| !host.is_empty() && bare && url.username().is_empty())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Syslog { transport, host, port: url.port().unwrap_or(port), ca_file })
}

fn anchor_bucket(place: Place<'_>) -> Option<String> {
    const KEY: &str = "enterprise.audit.anchor_bucket";
    let name = place.text(KEY).filter(|name| name != "none")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.len() > 128 || !name.chars().all(fits) {
        place.fault(KEY, "expected up to 128 letters, digits, - and _, or none");
    }
    Some(name)
}

pub(super) fn read(place: Place<'_>, database: &Database) -> Audit {
    let days = |key: &str| {
        let days: u64 = place.number(key).unwrap_or_default();
        (days > 0).then(|| Duration::from_hours(24 * days))
    };
    let ages = Ages { acts: days("enterprise.audit.retention_days"), noise: days("enterprise.audit.refusals_days") };
    let every = place.duration("enterprise.audit.checkpoint_every").unwrap_or(Duration::from_mins(5));
    let ca_file = place.text("enterprise.audit.syslog_ca_file").map(PathBuf::from);
    let syslog = place.text("enterprise.audit.syslog").and_then(|text| {
        let read = syslog(&text, ca_file);
        if read.is_none() {
            place.fault("enterprise.audit.syslog", EXPECTED);
        }
        read
    });
    // Beside the database it still notices when only the database is put back or written anew.
    let beside = || match database {
        Database::Sqlite(path) => Some(path.with_added_extension("anchor")),
        Database::Postgres(_) => None,
    };
    Audit {
        cadence: Cadence { every, entries: place.number("enterprise.audit.checkpoint_entries").unwrap_or(1000) },
        anchor_file: place.text("enterprise.audit.anchor_file").map(PathBuf::from).or_else(beside),
        anchor_bucket: anchor_bucket(place),
        ages,
        syslog,
        webhook: place.text("enterprise.audit.webhook").and_then(|text| check_url(&text).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_server_is_a_transport_a_host_and_a_port() {
        let read = |text: &str| syslog(text, None).map(|s| (s.transport, s.host, s.port));
        assert_eq!(read("udp://log.example"), Some((Transport::Udp, "log.example".into(), 514)));
        assert_eq!(read("tcp://[::1]:1601"), Some((Transport::Tcp, "::1".into(), 1601)));
        assert_eq!(read("tls://log.example"), Some((Transport::Tls, "log.example".into(), 6514)));
        for wrong in ["log.example", "http://log.example", "udp://", "tcp://a/path", "tls://u@a", "tcp://a?x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
