//! Client certificates: ten of them, of which one gets in; what a good one may do; what changes while the server
//! runs. The client is Debian's curl, which checks little of what it shows itself.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use lokid::{
    actions::{certificates, listener::Watch},
    domain::{
        event::Origin,
        identity::Identity,
        ledger::Entry,
        time::{Clock, Moment},
    },
    pki::{
        leaf::KeyKind,
        read::{Facts, chain},
    },
};
use rcgen::BasicConstraints;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned,
    client::ResolvesClientCert,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use serde_json::Value;

use crate::{
    door::Door,
    pki::{CLIENT, Certs, Files, client_leaf, server_leaf, with_the_other_signature},
};

/// A door that takes certificates of `certs`' authority.
pub(crate) async fn door(certs: &Certs, more: &[(&str, &str)]) -> Door {
    let (dir, ca) = (certs.dir.path().display().to_string(), certs.path("ca.pem").display().to_string());
    let rules =
        format!("[{{cn: {CLIENT}, role: operator}}, {{uri: 'spiffe://example.org/ci/*', name: ci, scopes: [read]}}]");
    let usual = [
        ("LOKI_TLS_ENABLED", "true"),
        ("LOKI_CERTS_DIR", &*dir),
        ("LOKI_TLS_CLIENT_CA", &*ca),
        ("LOKI_AUTH_MTLS", &*rules),
        ("LOKI_LIMITS_BAD_CREDENTIALS", "off"),
    ];
    let all: Vec<(&str, &str)> = usual.into_iter().chain(more.iter().copied()).collect();
    Door::open(&all).await
}

struct Heard {
    /// 0 when the handshake failed.
    status: u16,
    text: String,
    /// What curl says.
    said: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {} {}", self.status, self.text, self.said))
    }
}

/// curl with this certificate.
async fn curl(door: &Door, certs: &Certs, who: Option<&Files>, path: &str, more: &[&str]) -> Heard {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
    command.arg("--cacert").arg(certs.path("ca.pem")).args(more);
    if let Some(Files { cert, key }) = who {
        command.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    command.arg(format!("https://localhost:{}{path}", door.port));
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    let (text, status) = out.rsplit_once('\n').unwrap();
    Heard { status: status.parse().unwrap(), text: text.into(), said: String::from_utf8(done.stderr).unwrap() }
}

async fn me(door: &Door, certs: &Certs, who: &Files) -> Heard {
    curl(door, certs, Some(who), "/api/me", &[]).await
}

/// Revokes a certificate as `lokid certs revoke` does. Answers whether that was news.
async fn revoke(door: &Door, files: &Files) -> bool {
    let admin = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();
    let pem = fs::read_to_string(&files.cert).unwrap();
    certificates::revoke_given(&door.app, &admin, &pem, &Origin::default()).await.unwrap()
}

/// The names and serial in a certificate.
fn facts(files: &Files) -> Facts {
    Facts::read(&chain(&files.cert).unwrap()[0]).unwrap()
}

async fn last_refusal(door: &Door) -> Entry {
    door.audit("auth.fail").await.remove(0)
}

#[actix_web::test]
async fn of_ten_certificates_the_good_one_gets_in_and_each_other_is_recorded_with_its_reason() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    let revoked = certs.issue("revoked", &client_leaf(CLIENT), 0, 1);
    revoke(&door, &revoked).await;
    let accepted = me(&door, &certs, &good).await.json();
    assert_eq!((&accepted["kind"], &accepted["id"]), (&"certificate".into(), &format!("CN={CLIENT}").into()));
    assert_eq!((&accepted["authenticated_by"], &accepted["role"]), (&"certificate".into(), &"operator".into()));
    assert!(door.audit("auth.fail").await.is_empty());

    let mut server = server_leaf();
    server.common_name = CLIENT.into();
    for (name, who, reason) in [
        ("other authority", certs.foreign("foreign", "Another CA"), "certificate_unknown_issuer"),
        ("other authority of the same name", certs.foreign("same-name", "Loki CA"), "certificate_bad_signature"),
        ("expired", certs.issue("expired", &client_leaf(CLIENT), -10, 5), "certificate_expired"),
        ("not yet valid", certs.issue("early", &client_leaf(CLIENT), 10, 5), "certificate_not_yet_valid"),
        ("a server's", certs.issue("a-server", &server, 0, 1), "certificate_not_for_clients"),
        ("without a use", certs.without_usage("useless"), "certificate_not_for_clients"),
        ("version 1", certs.of_the_recipe("v1"), "certificate_version"),
        ("revoked", revoked, "certificate_revoked"),
        ("too deep", certs.too_deep("deep"), "certificate_chain_too_deep"),
        ("self-signed", certs.self_signed("self"), "certificate_self_signed"),
    ] {
        let refused = me(&door, &certs, &who).await;
        assert_eq!(refused.status, 0, "{name}: {}", refused.text);
        let entry = last_refusal(&door).await;
        assert_eq!((entry.reason.as_str(), entry.outcome.as_str()), (reason, "denied"), "{name}: {}", entry.details);
        assert!(entry.details.contains(CLIENT), "{name}: {}", entry.details);
    }
    // The authority vouches for these, but no rule knows their names.
    for other in ["loki-backoffice2", "xloki-backoffice", "Loki-Backoffice", "loki"] {
        let refused = me(&door, &certs, &certs.issue("other", &client_leaf(other), 0, 1)).await;
        assert_eq!(refused.status, 401, "{other}: {}", refused.text);
        assert!(refused.text.contains("no rule of enterprise.auth.mtls") && refused.text.contains(other));
        assert_eq!(last_refusal(&door).await.reason, "certificate_no_rule");
    }
    assert_eq!(me(&door, &certs, &good).await.status, 200);
}

#[actix_web::test]
async fn a_chain_is_as_deep_as_the_authority_at_its_end_allows() {
    let certs = Certs::new();
    for (limit, between, gets_in) in [
        (BasicConstraints::Constrained(0), 0, true),
        (BasicConstraints::Constrained(0), 1, false),
        (BasicConstraints::Constrained(1), 1, true),
        (BasicConstraints::Constrained(1), 2, false),
        (BasicConstraints::Unconstrained, 5, true),
        (BasicConstraints::Unconstrained, 7, false),
    ] {
        let what = format!("{between} below {limit:?}");
        let (top, client) = certs.below("deep", limit, between);
        fs::write(certs.path("top.pem"), top).unwrap();
        let door = door(&certs, &[("LOKI_TLS_CLIENT_CA", &certs.path("top.pem").display().to_string())]).await;
        assert_eq!(me(&door, &certs, &client).await.status == 200, gets_in, "{what}");
        if !gets_in {
            assert_eq!(last_refusal(&door).await.reason, "certificate_chain_too_deep", "{what}");
        }
    }
}

/// Shows a certificate and signs with a key of its own.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What a server answers to somebody who shows this certificate with this key; empty when it hangs up.
fn show(port: u16, certs: &Certs, cert: &Path, key: &Path) -> String {
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain(&certs.path("ca.pem")).unwrap().remove(0)).unwrap();
    let thief = Thief(Arc::new(CertifiedKey::new(chain(cert).unwrap(), key)));
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_cert_resolver(Arc::new(thief));
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    let request = format!("GET /api/me HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    let mut heard = Vec::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut heard));
    String::from_utf8(heard).unwrap()
}

#[actix_web::test]
async fn a_good_certificate_without_its_key_is_worth_nothing() {
    let certs = Arc::new(Certs::new());
    let door = door(&certs, &[]).await;
    let (good, own) = (certs.issue("good", &client_leaf(CLIENT), 0, 1), certs.issue("own", &client_leaf("own"), 0, 1));
    let port = door.port;
    let shown = async |cert: &Files, key: &Files| {
        let (certs, cert, key) = (Arc::clone(&certs), cert.cert.clone(), key.key.clone());
        tokio::task::spawn_blocking(move || show(port, &certs, &cert, &key)).await.unwrap()
    };
    assert_eq!(shown(&good, &own).await, "");
    let entry = last_refusal(&door).await;
    assert_eq!((entry.reason.as_str(), entry.resource_id), ("certificate_not_proven", hex(&facts(&good).fingerprint)));
    assert!(shown(&good, &good).await.starts_with("HTTP/1.1 200"));
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[actix_web::test]
async fn a_version_1_certificate_is_answered_in_the_log_with_the_command_that_makes_it_anew() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    assert_eq!(me(&door, &certs, &certs.of_the_recipe("v1")).await.status, 0);
    let details = last_refusal(&door).await.details;
    assert!(
        details.contains("version 1") && details.contains("lokid certs client --name loki-backoffice --force"),
        "{details}"
    );
    assert_eq!(me(&door, &certs, &certs.issue("v3", &client_leaf(CLIENT), 0, 1)).await.status, 200);
}

#[actix_web::test]
async fn a_certificate_may_be_optional_or_required() {
    let certs = Certs::new();
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    let optional = door(&certs, &[]).await;
    assert_eq!(curl(&optional, &certs, None, "/api/me", &[]).await.status, 401);
    assert_eq!(curl(&optional, &certs, None, "/healthz", &[]).await.status, 200);
    let required = door(&certs, &[("LOKI_TLS_CLIENT_AUTH", "required")]).await;
    let without = curl(&required, &certs, None, "/healthz", &[]).await;
    assert!(without.status == 0 && without.said.contains("certificate required"), "{}", without.said);
    assert_eq!(curl(&required, &certs, Some(&good), "/healthz", &[]).await.status, 200);
    // Whom no rule knows is let in to show another credential.
    let token = format!("authorization: Bearer {}", required.token("read").await.secret);
    let stranger = certs.issue("stranger", &client_leaf("stranger"), 0, 1);
    let heard = curl(&required, &certs, Some(&stranger), "/api/me", &["-H", &token]).await.json();
    assert_eq!(heard["kind"], "token");
}

#[actix_web::test]
async fn names_lead_to_rights_by_the_first_rule_and_no_further() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let mut leaf = client_leaf(CLIENT);
    leaf.uris = vec!["spiffe://example.org/ci/build".into()];
    let ci = certs.issue("ci", &leaf, 0, 1);
    let heard = me(&door, &certs, &ci).await.json();
    assert_eq!((&heard["id"], &heard["name"]), (&"URI:spiffe://example.org/ci/build".into(), &"ci".into()));
    assert_eq!((&heard["scopes"], &heard["role"]), (&serde_json::json!(["read"]), &Value::Null));
    let json = ["-H", "content-type: application/json", "-d", r#"{"title":"t"}"#];
    assert_eq!(curl(&door, &certs, Some(&ci), "/api/tasks", &json).await.status, 403);
    let denied = &door.audit("permission.denied").await[0];
    assert_eq!(
        (denied.actor_kind.as_str(), denied.actor_id.as_str()),
        ("certificate", "URI:spiffe://example.org/ci/build")
    );
    let operator = certs.issue("operator", &client_leaf(CLIENT), 0, 1);
    assert_eq!(curl(&door, &certs, Some(&operator), "/api/tasks", &json).await.status, 201);
    assert_eq!(door.audit("task.create").await[0].actor_id, format!("CN={CLIENT}"));
    // A browser would send the certificate along with another site's form.
    let cross = [&json[..], &["-H", "sec-fetch-site: cross-site"]].concat();
    assert_eq!(curl(&door, &certs, Some(&operator), "/api/tasks", &cross).await.status, 403);
    let own = [&json[..], &["-H", "sec-fetch-site: same-origin"]].concat();
    assert_eq!(curl(&door, &certs, Some(&operator), "/api/tasks", &own).await.status, 201);
}

#[actix_web::test]
async fn a_rules_domains_are_its_holders_and_what_is_issued_never_passes_as_a_client() {
    let certs = Certs::new();
    let rules = format!(
        "[{{cn: {CLIENT}, role: operator, domains: ['*.hosts.example']}}, {{dns: '*.hosts.example', role: admin}}]"
    );
    let door = door(&certs, &[("LOKI_AUTH_MTLS", &rules)]).await;
    let holder = certs.issue("holder", &client_leaf(CLIENT), 0, 1);
    let ask = async |domain: &str| {
        let body = format!(r#"{{"domain":"{domain}"}}"#);
        let json = ["-H", "content-type: application/json", "-d", &body];
        curl(&door, &certs, Some(&holder), "/api/certificate", &json).await
    };
    assert_eq!(ask("hosts.example").await.status, 403);
    let issued = ask("web.hosts.example").await.json();
    let text = |field: &str| issued[field].as_str().unwrap();
    let host = certs.put("host", text("certificate"), text("privateKey"));
    assert_eq!(me(&door, &certs, &host).await.status, 0);
    assert_eq!(last_refusal(&door).await.reason, "certificate_not_for_clients");
    let mut leaf = client_leaf("web");
    leaf.dns = vec!["web.hosts.example".parse().unwrap()];
    assert_eq!(me(&door, &certs, &certs.issue("web", &leaf, 0, 1)).await.json()["role"], "admin");
}

#[actix_web::test]
async fn two_credentials_are_one_too_many() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    let token = format!("authorization: Bearer {}", door.token("read").await.secret);
    for more in [["-H", &*token], ["-H", "cookie: __Host-loki_session=x"]] {
        let refused = curl(&door, &certs, Some(&good), "/api/me", &more).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains("the client certificate (CN=loki-backoffice)"), "{}", refused.text);
        assert_eq!(last_refusal(&door).await.reason, "two_credentials");
    }
    assert_eq!(curl(&door, &certs, None, "/api/me", &["-H", &token]).await.json()["kind"], "token");
    assert_eq!(me(&door, &certs, &good).await.json()["kind"], "certificate");
}

#[actix_web::test]
async fn what_was_revoked_is_refused_on_connections_that_are_open_and_on_new_ones() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    let other = certs.issue("other", &client_leaf(CLIENT), 0, 1);
    let identity = [fs::read(&good.cert).unwrap(), fs::read(&good.key).unwrap()].concat();
    let ca = reqwest::Certificate::from_pem(&fs::read(certs.path("ca.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).pool_max_idle_per_host(1);
    let client = client.identity(reqwest::Identity::from_pem(&identity).unwrap()).build().unwrap();
    let ask = async || client.get(format!("https://localhost:{}/api/me", door.port)).send().await;
    assert_eq!(ask().await.unwrap().status().as_u16(), 200);

    assert!(revoke(&door, &good).await);
    let refused = ask().await.unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    assert!(refused.text().await.unwrap().contains("it was revoked"));
    assert_eq!(last_refusal(&door).await.reason, "certificate_revoked");
    assert_eq!(me(&door, &certs, &good).await.status, 0, "and no session is resumed");
    assert_eq!(me(&door, &certs, &other).await.status, 200);
    assert!(!revoke(&door, &good).await, "once is enough");
    let admin = Arc::new(Identity::at_the_terminal("ann")).acting_as().unwrap();
    let foreign = fs::read_to_string(certs.foreign("foreign", "Loki CA").cert).unwrap();
    assert!(certificates::revoke_given(&door.app, &admin, &foreign, &Origin::default()).await.is_err());
    assert_eq!(door.audit("certificate.revoke").await.len(), 1);
    // It stands in the list for others, too.
    let list = curl(&door, &certs, None, "/.well-known/crl.pem", &[]).await;
    fs::write(certs.path("now.pem"), &list.text).unwrap();
    let shown = |name: &str| certs.path(name).display().to_string();
    let verify = |cert: &str| {
        let words = ["verify", "-crl_check", "-CRLfile", &shown("now.pem"), "-CAfile", &shown("ca.pem"), &shown(cert)];
        Command::new("openssl").args(words).output().unwrap().status.success()
    };
    assert!(!verify("good.pem") && verify("other.pem"), "{}", list.text);
}

#[actix_web::test]
async fn a_revoked_certificate_stays_revoked_under_another_signature_that_is_good_too() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    for revoke_which in 0..2 {
        let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
        let altered = with_the_other_signature(&chain(&good.cert).unwrap()[0]);
        let altered = certs.put("altered", &altered, &fs::read_to_string(&good.key).unwrap());
        assert_ne!(facts(&altered).fingerprint, facts(&good).fingerprint);
        let both = [good, altered];
        for files in &both {
            assert_eq!(me(&door, &certs, files).await.status, 200, "it is as good as the other");
        }
        assert!(revoke(&door, &both[revoke_which]).await);
        for files in &both {
            assert_eq!(me(&door, &certs, files).await.status, 0);
            assert_eq!(last_refusal(&door).await.reason, "certificate_revoked");
        }
    }
}

#[actix_web::test]
async fn certificates_that_a_client_makes_up_do_not_make_its_chain_shorter() {
    let certs = Certs::new();
    let (top, client) = certs.below("deep", BasicConstraints::Constrained(1), 2);
    fs::write(certs.path("top.pem"), top).unwrap();
    let door = door(&certs, &[("LOKI_TLS_CLIENT_CA", &certs.path("top.pem").display().to_string())]).await;
    let sent = fs::read_to_string(&client.cert).unwrap();
    let (own, above) = sent.split_at(sent.find("-----END CERTIFICATE-----\n").unwrap() + 26);
    for made_up in [Certs::made_up("CA 1", "Top CA"), Certs::made_up("Top CA", "Top CA")] {
        fs::write(&client.cert, format!("{own}{made_up}{above}")).unwrap();
        assert_eq!(me(&door, &certs, &client).await.status, 0);
        assert_eq!(last_refusal(&door).await.reason, "certificate_chain_too_deep");
    }
}

#[actix_web::test]
async fn an_authority_whose_time_is_over_lets_nobody_in() {
    let certs = Certs::new();
    let (top, client) = certs.below_expired("late");
    fs::write(certs.path("top.pem"), top).unwrap();
    let with = [("LOKI_TLS_CLIENT_CA", &*certs.path("top.pem").display().to_string())];
    let door = door(&certs, &with).await;
    assert_eq!(me(&door, &certs, &client).await.status, 0);
    assert_eq!(last_refusal(&door).await.reason, "certificate_authority_expired");
}

#[actix_web::test]
async fn lists_of_revoked_certificates_are_heeded_followed_and_not_believed_for_ever() {
    let certs = Certs::new();
    let (good, bad) =
        (certs.issue("good", &client_leaf(CLIENT), 0, 30), certs.issue("bad", &client_leaf(CLIENT), 0, 30));
    let list = |files: &[&Files], now: Moment| {
        let revoked: Vec<_> = files.iter().map(|f| (facts(f).serial, now)).collect();
        fs::write(certs.path("crl.pem"), certs.authority.revocation_list(&revoked, now).unwrap().pem).unwrap();
    };
    list(&[&bad], Clock::system().now());
    let door = door(&certs, &[("LOKI_TLS_CLIENT_CRL", &certs.path("crl.pem").display().to_string())]).await;
    let mut watch = Watch::default();
    watch.look(&door.app).await.unwrap();
    assert_eq!((me(&door, &certs, &good).await.status, me(&door, &certs, &bad).await.status), (200, 0));
    assert_eq!(last_refusal(&door).await.reason, "certificate_revoked");
    list(&[&bad, &good], door.clock.now());
    watch.look(&door.app).await.unwrap();
    assert_eq!(me(&door, &certs, &good).await.status, 0);
    list(&[], door.clock.now());
    watch.look(&door.app).await.unwrap();
    assert_eq!((me(&door, &certs, &good).await.status, me(&door, &certs, &bad).await.status), (200, 200));

    fs::write(certs.path("crl.pem"), "nonsense").unwrap();
    for _ in 0..2 {
        watch.look(&door.app).await.unwrap();
    }
    assert!(door.audit("certificate.load").await[0].details.contains("there is no list of revoked certificates"));
    assert_eq!(me(&door, &certs, &good).await.status, 200, "the last good list stays");
    assert_eq!(me(&door, &certs, &certs.too_deep("deep")).await.status, 0);
    assert_eq!(last_refusal(&door).await.reason, "certificate_revocation_unknown");
    door.clock.advance(Duration::from_hours(24 * 8));
    assert_eq!(me(&door, &certs, &good).await.status, 0);
    assert_eq!(last_refusal(&door).await.reason, "certificate_revocation_list_expired");
    list(&[], door.clock.now());
    watch.look(&door.app).await.unwrap();
    assert_eq!(me(&door, &certs, &good).await.status, 200);
}

#[actix_web::test]
async fn a_stream_ends_with_the_certificate_that_opened_it() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let (good, other) =
        (certs.issue("good", &client_leaf(CLIENT), 0, 1), certs.issue("other", &client_leaf(CLIENT), 0, 1));
    let open = async |files: &Files| {
        let identity = [fs::read(&files.cert).unwrap(), fs::read(&files.key).unwrap()].concat();
        let ca = reqwest::Certificate::from_pem(&fs::read(certs.path("ca.pem")).unwrap()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]);
        let client = client.identity(reqwest::Identity::from_pem(&identity).unwrap()).build().unwrap();
        let answer = client.get(format!("https://localhost:{}/api/events", door.port)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer
    };
    let (ends, stays) = (open(&good).await, open(&other).await);
    assert!(revoke(&door, &good).await);
    let ended = tokio::time::timeout(Duration::from_secs(20), ends.bytes()).await;
    assert!(ended.is_ok(), "the stream of a revoked certificate goes on");
    let waited = tokio::time::timeout(Duration::from_secs(2), stays.bytes()).await;
    assert!(waited.is_err(), "the stream of a good one has ended");
}

#[actix_web::test]
async fn a_certificate_that_expires_while_its_connection_is_open_is_no_credential_any_more() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    let identity = [fs::read(&good.cert).unwrap(), fs::read(&good.key).unwrap()].concat();
    let ca = reqwest::Certificate::from_pem(&fs::read(certs.path("ca.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]);
    let client = client.identity(reqwest::Identity::from_pem(&identity).unwrap()).build().unwrap();
    let ask = async || client.get(format!("https://localhost:{}/api/me", door.port)).send().await.unwrap().status();
    assert_eq!(ask().await.as_u16(), 200);
    door.clock.advance(Duration::from_hours(25));
    assert_eq!(ask().await.as_u16(), 401);
    assert_eq!(last_refusal(&door).await.reason, "certificate_expired");
}

/// The certificate that the server shows now.
async fn serial_shown(port: u16) -> String {
    let script = format!(
        "openssl s_client -connect localhost:{port} -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -serial"
    );
    let done =
        tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &script]).output().unwrap()).await.unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.trim().strip_prefix("serial=").unwrap_or_else(|| panic!("{text}")).to_ascii_lowercase()
}

#[actix_web::test]
async fn another_certificate_on_the_disk_is_shown_from_then_on_and_a_bad_one_never() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let mut watch = Watch::default();
    watch.look(&door.app).await.unwrap();
    let first = serial_shown(door.port).await;
    let now = door.clock.now();
    let day = Duration::from_hours(24);
    let next = certs.authority.issue(&server_leaf(), KeyKind::Rsa4096, day, now).unwrap();
    certs.show(&next);
    watch.look(&door.app).await.unwrap();
    assert_eq!(serial_shown(door.port).await, next.serial);
    assert_ne!(next.serial, first);
    let log = door.audit("certificate.load").await;
    assert_eq!((log.len(), log[0].outcome.as_str()), (1, "success"));
    assert!(log[0].details.contains(&next.serial), "{}", log[0].details);

    let other = certs.authority.issue(&server_leaf(), KeyKind::P256, day, now).unwrap();
    let past = certs.authority.issue(&server_leaf(), KeyKind::P256, day, now.minus(day * 9)).unwrap();
    let bad: [(&str, &str, &str); 5] = [
        (&other.cert, &next.key, "does not belong"),
        ("", &next.key, "there is no certificate"),
        (&other.cert, "", "there is no private key"),
        (&past.cert, &past.key, "it expired"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &next.key, "not a sound X.509"),
    ];
    for (told, (cert, key, why)) in bad.into_iter().enumerate() {
        fs::write(certs.path("server.pem"), cert).unwrap();
        fs::write(certs.path("server.key"), key).unwrap();
        watch.look(&door.app).await.unwrap();
        assert_eq!(door.audit("certificate.load").await.len(), told + 1, "{why}: it may be half written");
        for _ in 0..3 {
            watch.look(&door.app).await.unwrap();
        }
        let log = door.audit("certificate.load").await;
        assert_eq!((log.len(), log[0].outcome.as_str()), (told + 2, "failure"), "{why}: once");
        assert!(log[0].details.contains(why), "{why}: {}", log[0].details);
        assert_eq!(serial_shown(door.port).await, next.serial, "{why}");
    }
    certs.show(&other);
    watch.look(&door.app).await.unwrap();
    assert_eq!(serial_shown(door.port).await, other.serial);
}

#[actix_web::test]
async fn other_authorities_of_clients_are_taken_while_the_server_runs() {
    let certs = Certs::new();
    let ca = fs::read_to_string(certs.path("ca.pem")).unwrap();
    fs::write(certs.path("clients.pem"), &ca).unwrap();
    let door = door(&certs, &[("LOKI_TLS_CLIENT_CA", &*certs.path("clients.pem").display().to_string())]).await;
    let mut watch = Watch::default();
    watch.look(&door.app).await.unwrap();
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    assert_eq!(me(&door, &certs, &good).await.status, 200);
    let other = Certs::new();
    let theirs = other.issue("theirs", &client_leaf(CLIENT), 0, 1);
    assert_eq!(me(&door, &certs, &theirs).await.status, 0);

    fs::write(certs.path("clients.pem"), fs::read(certs.path("server.pem")).unwrap()).unwrap();
    for _ in 0..2 {
        watch.look(&door.app).await.unwrap();
    }
    assert!(door.audit("certificate.load").await[0].details.contains("not the certificate of an authority"));
    assert_eq!(me(&door, &certs, &good).await.status, 200, "a bad file keeps the old ones");

    fs::write(certs.path("clients.pem"), fs::read(other.path("ca.pem")).unwrap()).unwrap();
    watch.look(&door.app).await.unwrap();
    assert_eq!(me(&door, &certs, &theirs).await.status, 200);
    assert_eq!(me(&door, &certs, &good).await.status, 0);
}

#[actix_web::test]
async fn only_tls_1_3_and_1_2_with_aead_are_spoken() {
    let certs = Certs::new();
    let door = door(&certs, &[]).await;
    let good = certs.issue("good", &client_leaf(CLIENT), 0, 1);
    for more in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
        assert_eq!(curl(&door, &certs, Some(&good), "/api/me", more).await.status, 200, "{more:?}");
    }
    let port = door.port;
    let spoken = async |words: &str| {
        let script = format!("openssl s_client -connect localhost:{port} {words} </dev/null 2>&1");
        let done =
            tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &script]).output().unwrap()).await;
        String::from_utf8_lossy(&done.unwrap().stdout).contains("BEGIN CERTIFICATE")
    };
    assert!(spoken("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256").await);
    for weak in [
        "-tls1_1 -cipher ALL:@SECLEVEL=0",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA",
        "-tls1_2 -cipher AES128-GCM-SHA256",
    ] {
        assert!(!spoken(weak).await, "{weak}");
    }
}
