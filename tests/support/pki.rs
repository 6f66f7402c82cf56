//! An authority of a test's own, the certificates that it issues, and some that nobody should issue.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use lokid::{
    domain::time::{Clock, Moment},
    pki::{
        ca::Authority,
        files,
        leaf::{KeyKind, Leaf, Pair, Usage},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// The name of seeds/000's client.
pub(crate) const CLIENT: &str = "loki-backoffice";
const DAY: Duration = Duration::from_hours(24);

/// A directory with an authority and a server's certificate.
pub(crate) struct Certs {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
    now: Moment,
}

/// A client's certificate and key, as files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

pub(crate) fn server_leaf() -> Leaf {
    let dns = vec!["localhost".parse().unwrap()];
    let ips = vec!["127.0.0.1".parse().unwrap()];
    Leaf { common_name: "loki-backend".into(), dns, ips, uris: vec![], usage: Usage::Server, revoked_at: None }
}

pub(crate) fn client_leaf(name: &str) -> Leaf {
    Leaf { common_name: name.into(), dns: vec![], ips: vec![], uris: vec![], usage: Usage::Client, revoked_at: None }
}

impl Certs {
    pub(crate) fn new() -> Self {
        let (dir, now) = (tempfile::tempdir().unwrap(), Clock::system().now());
        let ca = Authority::create("Loki CA", KeyKind::P256, 100 * DAY, now.minus(60 * DAY)).unwrap();
        fs::write(dir.path().join(files::CA_CERT), &ca.cert).unwrap();
        fs::write(dir.path().join(files::CA_KEY), ca.key.as_bytes()).unwrap();
        let authority = Authority::load(dir.path()).unwrap().unwrap();
        let certs = Self { dir, authority, now };
        certs.show(&certs.authority.issue(&server_leaf(), KeyKind::P256, 30 * DAY, now).unwrap());
        certs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a pair where the server finds it.
    pub(crate) fn show(&self, pair: &Pair) {
        fs::write(self.path(files::SERVER_KEY), pair.key.as_bytes()).unwrap();
        fs::write(self.path(files::SERVER_CERT), &pair.cert).unwrap();
    }

    pub(crate) fn put(&self, name: &str, cert: &str, key: &str) -> Files {
        let files = Files { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    /// A certificate of this authority that is valid for `days` from `from` days on.
    pub(crate) fn issue(&self, name: &str, leaf: &Leaf, from: i64, days: u32) -> Files {
        let while_ = DAY * u32::try_from(from.unsigned_abs()).unwrap();
        let start = if from < 0 { self.now.minus(while_) } else { self.now.plus(while_) };
        let pair = self.authority.issue(leaf, KeyKind::P256, DAY * days, start).unwrap();
        self.put(name, &pair.cert, &pair.key)
    }

    /// One of somebody else's authority, which may bear the same name.
    pub(crate) fn foreign(&self, name: &str, authority: &str) -> Files {
        let ca = Authority::create(authority, KeyKind::P256, 100 * DAY, self.now).unwrap();
        let other = Authority::read(&ca.cert, &ca.key, "other").unwrap();
        let pair = other.issue(&client_leaf(CLIENT), KeyKind::P256, DAY, self.now).unwrap();
        self.put(name, &pair.cert, &pair.key)
    }

    /// One that says nothing of what it is for.
    pub(crate) fn without_usage(&self, name: &str) -> Files {
        let (params, key) = (params(CLIENT), KeyPair::generate().unwrap());
        let made = params.signed_by(&key, &self.issuer()).unwrap();
        self.put(name, &made.pem(), &key.serialize_pem())
    }

    /// One that vouches for itself.
    pub(crate) fn self_signed(&self, name: &str) -> Files {
        let (mut params, key) = (params(CLIENT), KeyPair::generate().unwrap());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.self_signed(&key).unwrap();
        self.put(name, &made.pem(), &key.serialize_pem())
    }

    /// One below an authority that this one, which may sign leaves only, has signed.
    pub(crate) fn too_deep(&self, name: &str) -> Files {
        let mut above = params("Loki Sub CA");
        above.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        above.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let (above_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let above_cert = above.signed_by(&above_key, &self.issuer()).unwrap();
        let mut own = params(CLIENT);
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = own.signed_by(&key, &Issuer::new(above, above_key)).unwrap();
        self.put(name, &format!("{}{}", made.pem(), above_cert.pem()), &key.serialize_pem())
    }

    /// One with so many authorities between it and another one, which allows `limit` of them. With that one's PEM.
    pub(crate) fn below(&self, name: &str, limit: BasicConstraints, between: usize) -> (String, Files) {
        let authority = |name: &str, limit| {
            let mut params = params(name);
            params.is_ca = IsCa::Ca(limit);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let (top, top_key) = (authority("Top CA", limit), KeyPair::generate().unwrap());
        let top_pem = top.self_signed(&top_key).unwrap().pem();
        let (mut issuer, mut chain) = (Issuer::new(top, top_key), String::new());
        for at in 0..between {
            let key = KeyPair::generate().unwrap();
            let next = authority(&format!("CA {at}"), BasicConstraints::Unconstrained);
            chain.insert_str(0, &next.signed_by(&key, &issuer).unwrap().pem());
            issuer = Issuer::new(next, key);
        }
        let (mut own, key) = (params(CLIENT), KeyPair::generate().unwrap());
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        chain.insert_str(0, &own.signed_by(&key, &issuer).unwrap().pem());
        (top_pem, self.put(name, &chain, &key.serialize_pem()))
    }

    /// As seeds/000 makes it, line by line: without extensions, so X.509 version 1.
    pub(crate) fn of_the_recipe(&self, name: &str) -> Files {
        let (csr, config) = (self.path("client.csr"), self.path("client.cnf"));
        fs::write(&config, format!("[req]\nprompt = no\ndistinguished_name = dn\n[dn]\nCN = {CLIENT}\n")).unwrap();
        let files = Files { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        let shown = |path: &Path| path.display().to_string();
        openssl(&["genrsa", "-out", &shown(&files.key), "2048"]);
        openssl(&["req", "-new", "-key", &shown(&files.key), "-out", &shown(&csr), "-config", &shown(&config)]);
        let (ca, ca_key) = (shown(&self.path(files::CA_CERT)), shown(&self.path(files::CA_KEY)));
        let sign = ["x509", "-req", "-in", &shown(&csr), "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let cert = shown(&files.cert);
        openssl(&[&sign[..], &["-out", &cert, "-days", "825", "-sha256"]].concat());
        files
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        let (pem, key) = (self.path(files::CA_CERT), self.path(files::CA_KEY));
        let key = KeyPair::from_pem(&fs::read_to_string(key).unwrap()).unwrap();
        Issuer::from_ca_cert_pem(&fs::read_to_string(pem).unwrap(), key).unwrap()
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Debian's openssl.
pub(crate) fn openssl(words: &[&str]) -> Output {
    let done = Command::new("openssl").args(words).output().unwrap();
    assert!(done.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    done
}
