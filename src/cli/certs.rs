//! `lokid certs`: the files of an authority, a server and a client, and whether they are as they should be.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Common, Done, Failure,
    backend::{local_app, permit},
    certs_check, print, sources,
};
use crate::{
    actions::{background::LOOK_AT_KEYS, certificates},
    config::Settings,
    domain::{
        dns::DomainName,
        event::Origin,
        time::{Clock, Moment},
    },
    pki::{
        ca::Authority,
        files::{self, File, NotWritten},
        leaf::{KeyKind, Leaf, Pair, Usage, generate_pem},
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make the authority that signs the others: ca.pem and ca.key
    Ca {
        /// What it is called
        #[arg(long, default_value = "Loki CA")]
        name: String,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=7300))]
        days: u32,
        #[command(flatten)]
        how: How,
    },
    /// Make the certificate of a server: server.pem and server.key
    Server {
        /// Its common name
        #[arg(long, default_value = "loki-backend")]
        name: String,
        /// One more host name that it serves; beside localhost, backend and the host of server.public_url
        #[arg(long, value_name = "HOST")]
        dns: Vec<String>,
        /// One more address that it serves; beside 127.0.0.1, ::1 and 0.0.0.0
        #[arg(long, value_name = "ADDRESS")]
        ip: Vec<IpAddr>,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        #[command(flatten)]
        how: How,
    },
    /// Make the certificate of a client: client.pem and client.key
    Client {
        /// Its common name, by which a rule of enterprise.auth.mtls can know it
        #[arg(long, default_value = "loki-backoffice")]
        name: String,
        /// A URI by which a rule can know it, such as spiffe://example.org/ci/build
        #[arg(long, value_name = "URI")]
        uri: Vec<String>,
        /// A host name by which a rule can know it
        #[arg(long, value_name = "HOST")]
        dns: Vec<String>,
        /// Write NAME.pem and NAME.key instead
        #[arg(long, value_name = "NAME")]
        out: Option<String>,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        #[command(flatten)]
        how: How,
    },
    /// Make the key pair that signs assertions: jwt/private.key and jwt/public.key
    Jwt {
        #[command(flatten)]
        how: How,
    },
    /// Revoke a certificate that the authority in certs_dir signed; the server must know the same database
    Revoke {
        /// The certificate
        file: PathBuf,
    },
    /// Say whether certificates are as lokid and other programs want them
    Verify {
        /// Certificates to look at [default: every one of the directory's own]
        files: Vec<PathBuf>,
        /// Where the files are [default: certs_dir, else certs]
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
    },
}

/// Where and how to make files.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Where to write [default: certs_dir, else certs]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// A key of RSA with 4096 bits instead of P-256
    #[arg(long)]
    rsa: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

impl How {
    const fn kind(&self) -> KeyKind {
        if self.rsa { KeyKind::Rsa4096 } else { KeyKind::P256 }
    }
}

/// The directory that is meant.
fn directory(asked: Option<&PathBuf>, settings: &Settings) -> PathBuf {
    asked.or(settings.certificates.dir.as_ref()).cloned().unwrap_or_else(|| PathBuf::from("certs"))
}

fn days(number: u32) -> Duration {
    Duration::from_hours(24 * u64::from(number))
}

impl Verb {
    pub(super) async fn run(self, common: &Common) -> Done {
        if let Self::Revoke { file } = &self {
            return revoke(common, file).await;
        }
        let settings = sources(common).load()?;
        let now = Clock::system().now();
        match self {
            Self::Ca { name, days: number, how } => {
                let made = Authority::create(&name, how.kind(), days(number), now)?;
                let dir = directory(how.dir.as_ref(), &settings);
                let said = format!("The authority {name:?}");
                put(common, &dir, (files::CA_CERT, files::CA_KEY), &made, how.force, &said)?;
                next(common, "Keep ca.key where only the issuing machine can read it. Next: lokid certs server");
            }
            Self::Server { name, dns, ip, days: number, how } => {
                let leaf = server_leaf(&name, &dns, &ip, &settings)?;
                let dir = issue(common, &settings, &how, (files::SERVER_CERT, files::SERVER_KEY), &leaf, number, now)?;
                let hint = format!("Serve with it: LOKI_TLS_ENABLED=true LOKI_CERTS_DIR={} lokid start", dir.display());
                next(common, &hint);
            }
            Self::Client { name, uri, dns, out, days: number, how } => {
                let leaf = Leaf {
                    common_name: name,
                    dns: domains(&dns)?,
                    ips: Vec::new(),
                    uris: uri,
                    usage: Usage::Client,
                    revoked_at: None,
                };
                let own = out.as_deref().map(own_files).transpose()?;
                let names = own.as_ref().map_or((files::CLIENT_CERT, files::CLIENT_KEY), |(c, k)| (c, k));
                issue(common, &settings, &how, names, &leaf, number, now)?;
                next(common, &format!("Give it something to do: enterprise.auth.mtls: [{}]", example(&leaf)));
            }
            Self::Jwt { how } => {
                let (private, public) = generate_pem(how.kind())?;
                let set = [
                    File { name: files::JWT_PRIVATE, text: &private, secret: true },
                    File { name: files::JWT_PUBLIC, text: &public, secret: false },
                ];
                let dir = directory(how.dir.as_ref(), &settings);
                let paths = files::write(&dir, &set, how.force).map_err(not_written)?;
                say(common, "The key pair that signs assertions", &paths, None);
                next(
                    common,
                    "lokid signs with it when certs_dir names this directory and no other signing key is set.",
                );
            }
            Self::Verify { files, dir } => {
                return certs_check::run(common, &directory(dir.as_ref(), &settings), files, now);
            }
            Self::Revoke { .. } => {}
        }
        Ok(())
    }
}

async fn revoke(common: &Common, file: &Path) -> Done {
    let pem = std::fs::read_to_string(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    let (app, who) = local_app(&sources(common)).await?;
    let done = certificates::revoke_given(&app, &permit(&who)?, &pem, &Origin::default()).await;
    app.close().await;
    let is_new = done?;
    // "Revoked" is when a running server has noticed.
    tokio::time::sleep(LOOK_AT_KEYS + Duration::from_millis(250)).await;
    if common.json {
        print::json(&json!({"revoked": true, "now": is_new}));
    } else if is_new {
        print::out(&format!("{} is revoked. It stands in /.well-known/crl.pem and gets in no more.", file.display()));
    } else {
        print::out(&format!("{} was revoked before.", file.display()));
    }
    Ok(())
}

fn domains(texts: &[String]) -> Result<Vec<DomainName>, Failure> {
    texts.iter().map(|text| text.parse().map_err(|e| Failure::new(format!("{text:?}: {e}")))).collect()
}

/// The names of seeds/000, and the one by which people come.
fn server_leaf(name: &str, dns: &[String], ip: &[IpAddr], settings: &Settings) -> Result<Leaf, Failure> {
    let mut names = domains(&["localhost".into(), "backend".into()])?;
    let mut ips: Vec<IpAddr> = ["127.0.0.1", "::1", "0.0.0.0"].iter().filter_map(|ip| ip.parse().ok()).collect();
    match settings.server.public_url.host() {
        Some(url::Host::Domain(host)) => names.extend(host.parse::<DomainName>()),
        Some(url::Host::Ipv4(own)) => ips.push(own.into()),
        Some(url::Host::Ipv6(own)) => ips.push(own.into()),
        None => {}
    }
    names.extend(domains(dns)?);
    ips.extend(ip);
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.as_str().to_owned()));
    let mut seen = std::collections::BTreeSet::new();
    ips.retain(|ip| seen.insert(*ip));
    Ok(Leaf { common_name: name.into(), dns: names, ips, uris: Vec::new(), usage: Usage::Server, revoked_at: None })
}

fn own_files(name: &str) -> Result<(String, String), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let taken = ["ca", "server"].contains(&name);
    if name.is_empty() || name.starts_with('.') || taken || !name.chars().all(plain) {
        return Err(Failure::new(format!("{name:?} cannot name files here")).hint("use letters, digits, - and _"));
    }
    Ok((format!("{name}.pem"), format!("{name}.key")))
}

fn example(leaf: &Leaf) -> String {
    match (leaf.uris.first(), leaf.dns.first()) {
        (Some(uri), _) => format!("{{uri: {uri:?}, role: viewer}}"),
        (None, Some(dns)) => format!("{{dns: {dns}, role: viewer}}"),
        (None, None) => format!("{{cn: {}, role: viewer}}", leaf.common_name),
    }
}

fn issue(
    common: &Common,
    settings: &Settings,
    how: &How,
    names: (&str, &str),
    leaf: &Leaf,
    number: u32,
    now: Moment,
) -> Result<PathBuf, Failure> {
    let dir = directory(how.dir.as_ref(), settings);
    let missing = || {
        Failure::new(format!("there is no authority in {} (ca.pem and ca.key)", dir.display()))
            .hint("make one first: lokid certs ca")
    };
    let authority = Authority::load(&dir)?.ok_or_else(missing)?;
    let made = authority.issue(leaf, how.kind(), days(number), now)?;
    let kind = if leaf.usage == Usage::Server { "server" } else { "client" };
    let said = format!("The certificate of the {kind} {:?}", leaf.common_name);
    put(common, &dir, names, &made, how.force, &said)?;
    Ok(dir)
}

fn put(
    common: &Common,
    dir: &Path,
    (cert, key): (&str, &str),
    made: &Pair,
    force: bool,
    what: &str,
) -> Result<(), Failure> {
    let set = [File { name: cert, text: &made.cert, secret: false }, File { name: key, text: &made.key, secret: true }];
    let paths = files::write(dir, &set, force).map_err(not_written)?;
    say(common, what, &paths, Some(made.not_after));
    Ok(())
}

fn not_written(e: NotWritten) -> Failure {
    let hint = matches!(e, NotWritten::Exists(_));
    let failure = Failure::from(e);
    if hint {
        failure.hint("--force replaces it; whoever relies on the old one must then get the new one")
    } else {
        failure
    }
}

fn say(common: &Common, what: &str, paths: &[PathBuf], until: Option<Moment>) {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if common.json {
        print::json(&json!({"files": shown, "not_after": until.map(Moment::rfc3339)}));
        return;
    }
    let until = until.map(|at| format!(", valid until {}", at.date())).unwrap_or_default();
    print::out(&format!("{what} is in {}{until}.", shown.join(" and ")));
}

fn next(common: &Common, text: &str) {
    if !common.json {
        print::out(text);
    }
}
