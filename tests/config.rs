//! What an operator can get wrong in the configuration without a fault being the answer.

use std::{collections::BTreeMap, io::Write as _};

use lokid::config::{Settings, Sources};

fn load(yaml: &str) -> Result<Settings, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), flags: vec![], env: BTreeMap::new() };
    sources.load().map_err(|faults| faults.to_string())
}

#[test]
fn a_key_written_as_a_path_is_a_fault_and_not_silently_without_effect() {
    assert!(load("enterprise.rbac.default_role: none").unwrap_err().contains("enterprise.rbac.default_role"));
    assert!(load("enterprise: {rbac.default_role: none}").unwrap_err().contains("below one another"));
    assert!(load("enterprise: {auth: {'oidc[]': {issuer: 'https://a.example'}}}").is_err());
    assert_eq!(load("enterprise: {rbac: {default_role: none}}").unwrap().auth.default_role, None);
}

#[test]
fn a_role_may_have_a_dot_in_its_name() {
    let roles = load("enterprise: {rbac: {roles: {ci.deploy: {scopes: [control]}}}}").unwrap().auth.roles;
    assert_eq!(roles.scopes_of("ci.deploy").unwrap().to_string(), "control");
    assert!(load("enterprise: {rbac: {roles: {ci.deploy: {scopes: []}}}}").is_err());
}

#[test]
fn no_time_at_all_is_no_duration() {
    assert!(load("enterprise: {sessions: {idle: 0s}}").unwrap_err().contains("enterprise.sessions.idle"));
    assert!(load("enterprise: {sessions: {idle: 1s}}").is_ok());
}

#[test]
fn sources_do_not_show_what_they_hold() {
    let secret = |name: &str| (name.to_owned(), "hunter2".to_owned());
    let env = [secret("LOKI_OIDC_CLIENT_SECRET"), secret("AWS_SECRET_ACCESS_KEY")].into();
    let flags = vec![("database.url", "postgres://u:hunter2@h/db".to_owned(), "--database")];
    let shown = format!("{:?}", Sources { file: None, flags, env });
    assert!(shown.contains("LOKI_OIDC_CLIENT_SECRET") && shown.contains("--database"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("AWS"), "{shown}");
}

#[test]
fn settings_of_certificates_that_do_nothing_or_too_much_are_faults() {
    let tls = "server: {tls: {enabled: true, cert: a.pem, key: a.key, client_ca: ca.pem}}\n";
    let rule = |rule: &str| load(&format!("{tls}enterprise: {{auth: {{mtls: [{rule}]}}}}"));
    for (wrong, says) in [
        ("{role: viewer}", "one of uri, dns and cn"),
        ("{cn: a, dns: b, role: viewer}", "one of uri, dns and cn"),
        ("{cn: a}", "a rule gives a role or scopes"),
        ("{cn: a, role: viewer, scopes: [read]}", "a rule gives a role or scopes"),
        ("{cn: a, role: nobody}", "is not a role"),
        ("{cn: a, scopes: [root]}", "unknown scope"),
        ("{dns: '*', role: viewer}", "would take every certificate"),
        ("{dns: 'a_b', role: viewer}", "enterprise.auth.mtls[0].dns"),
        ("{cn: a, role: viewer, domains: ['a.*']}", "wildcards are not issued"),
    ] {
        let refused = rule(wrong).unwrap_err();
        assert!(refused.contains(says), "{wrong}: {refused}");
    }
    let rules = rule("{cn: a, role: viewer}, {uri: 'spiffe://a/*', scopes: [read, audit], domains: ['*.a.example']}");
    assert_eq!(rules.unwrap().certificates.rules.len(), 2);
    for (wrong, says) in [
        ("enterprise: {auth: {mtls: [{cn: a, role: viewer}]}}", "no client is asked for a certificate"),
        ("server: {tls: {client_ca: ca.pem}}", "of no use without server.tls.enabled"),
        ("server: {tls: {client_crl: crl.pem}}", "of no use without server.tls.client_ca"),
        (
            "server: {tls: {enabled: true, cert: a, key: b, client_auth: required}}",
            "required needs server.tls.client_ca",
        ),
        ("server: {tls: {enabled: true}}", "server.tls.cert (default): must be set"),
        ("certificates: {allow: [{roles: [admin], domains: ['*']}]}", "set certs_dir"),
        ("certs_dir: c\ncertificates: {allow: [{domains: ['*']}]}", "for whom"),
        ("certs_dir: c\ncertificates: {allow: [{roles: [admin]}]}", "at least one domain"),
        ("certs_dir: c\ncertificates: {allow: [{roles: [boss], domains: [a]}]}", "no role \"boss\""),
        ("certs_dir: c\ncertificates: {allow: [{tokens: [ci-bot], domains: [a]}]}", "expected tok-"),
        ("certificates: {lifetime: 30d, renew_before: 30d}", "must be shorter than certificates.lifetime"),
    ] {
        let refused = load(wrong).unwrap_err();
        assert!(refused.contains(says), "{wrong}: {refused}");
    }
    let usual = load("certs_dir: c\nserver: {port: 9, tls: {enabled: true}}").unwrap();
    assert_eq!(usual.server.tls.unwrap().cert, std::path::Path::new("c/server.pem"));
    assert_eq!(usual.server.public_url.as_str(), "https://localhost:9/");
}
