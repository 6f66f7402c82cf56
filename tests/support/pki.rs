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
        self.below_top(name, authority("Top CA", limit), between)
    }

    /// One straight below an authority whose time is over. With that one's PEM.
    pub(crate) fn below_expired(&self, name: &str) -> (String, Files) {
        let mut top = authority("Top CA", BasicConstraints::Unconstrained);
        (top.not_before, top.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        self.below_top(name, top, 0)
    }

    /// A certificate that nobody signed who is called so: an authority `subject` below `issuer`.
    pub(crate) fn made_up(subject: &str, issuer: &str) -> String {
        let above = Issuer::new(authority(issuer, BasicConstraints::Unconstrained), KeyPair::generate().unwrap());
        let key = KeyPair::generate().unwrap();
        authority(subject, BasicConstraints::Unconstrained).signed_by(&key, &above).unwrap().pem()
    }

    fn below_top(&self, name: &str, top: CertificateParams, between: usize) -> (String, Files) {
        let top_key = KeyPair::generate().unwrap();
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

fn authority(name: &str, limit: BasicConstraints) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(limit);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// The same certificate under another signature that is good too: of ECDSA not only (r, s) but also (r, n − s). It takes no key
/// to make it.
pub(crate) fn with_the_other_signature(der: &[u8]) -> String {
    const ORDER: &str = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let (_, cert) = x509_parser::parse_x509_certificate(der).unwrap();
    let signature = &cert.signature_value.data;
    let (r, rest) = signature[4..].split_at(usize::from(signature[3]));
    let s = &rest[2..];
    let order = data_encoding::HEXUPPER.decode(ORDER.as_bytes()).unwrap();
    let (mut other, mut borrow) = (order.clone(), 0_i16);
    let digit = |bytes: &[u8], at: usize| bytes.iter().rev().nth(at).map_or(0, |b| i16::from(*b));
    for at in 0..order.len() {
        let difference = digit(&order, at) - digit(s, at) - borrow;
        borrow = i16::from(difference < 0);
        other[order.len() - 1 - at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let first = other.iter().position(|b| *b != 0).unwrap();
    let mut other = other.split_off(first);
    if other[0] >= 0x80 {
        other.insert(0, 0);
    }
    let within = |tag: u8, content: &[u8]| -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(content.len()) {
            Ok(short) if short < 0x80 => out.push(short),
            Ok(long) => out.extend([0x81, long]),
            Err(_) => out.extend([0x82].into_iter().chain(u16::try_from(content.len()).unwrap().to_be_bytes())),
        }
        out.extend_from_slice(content);
        out
    };
    let signature = within(0x30, &[within(2, r), within(2, &other)].concat());
    let bits = within(3, &[vec![0], signature].concat());
    let whole = within(0x30, &[cert.tbs_certificate.as_ref(), ECDSA_WITH_SHA256, &bits].concat());
    let text = data_encoding::BASE64.encode(&whole);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
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
