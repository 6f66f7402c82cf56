//! What an operator can get wrong in the configuration without a fault being the answer.

use std::{collections::BTreeMap, io::Write as _};

use lokid::config::{Settings, Sources, reference};

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

const PSK: &str = "9b1f0a77c3d25e6688e1ab04f7329c5d10cafe8142b3d96e7714a85fbb20e3c9";

#[test]
fn issuers_and_keys_may_be_written_as_in_the_document_that_people_come_from() {
    let flat = "auth:\n  issuerUrl: https://t.auth0.com\n  audience: a\n  requiredScopes: ['read:certificates', 'write:certificates']\n";
    let named = "auth:\n  method: jwt\n  jwt:\n    issuerUrl: https://t.auth0.com\n    audience: a\n    requiredScopes: ['read:certificates', 'write:certificates']\n";
    let ours = "enterprise: {auth: {jwt: {issuer: 'https://t.auth0.com', audience: a, required_scopes: ['read:certificates', 'write:certificates']}}}";
    let mixed = "enterprise: {auth: {jwt: [{issuerUrl: 'https://t.auth0.com', audience: [a], requiredScopes: ['read:certificates', 'write:certificates']}]}}";
    for yaml in [flat, named, ours, mixed] {
        let issuers = load(yaml).unwrap().auth.issuers;
        assert_eq!((issuers.len(), issuers[0].issuer.as_str()), (1, "https://t.auth0.com"), "{yaml}");
        assert_eq!(issuers[0].policy.required_scopes, ["read:certificates", "write:certificates"]);
        assert_eq!((issuers[0].id.as_str(), issuers[0].policy.rules.len()), ("t.auth0.com", 1));
    }
    let key = load(&format!("auth: {{method: psk, psk: {{key: {PSK}}}}}")).unwrap().auth.preshared_keys;
    assert_eq!((key[0].name.as_str(), key[0].scopes.to_string().as_str()), ("main", "read"));
    for (yaml, says) in [
        (
            "auth: {issuerUrl: 'https://a.example', audience: a}\nenterprise: {auth: {jwt: {issuer: 'https://b.example', audience: a}}}",
            "keep one of them",
        ),
        ("auth: {jwt: {issuer: 'https://a.example', issuerUrl: 'https://b.example', audience: a}}", "issuerUrl"),
        ("auth: {method: oauth}", "auth.method"),
        ("auth: {issuerURL: 'https://a.example', audience: a}", "no such key"),
    ] {
        assert!(load(yaml).unwrap_err().contains(says), "{yaml}");
    }
}

#[test]
fn a_wrong_issuer_is_refused_with_the_name_of_the_key() {
    let entry = |more: &str| load(&format!("enterprise: {{auth: {{jwt: {{issuer: 'https://a.example', {more}}}}}}}"));
    assert!(entry("audience: a").is_ok());
    for (more, key) in [
        ("id: a", "enterprise.auth.jwt[0].audience"),
        ("audience: ['*']", "enterprise.auth.jwt[0].audience"),
        ("audience: a, role: owner", "enterprise.auth.jwt[0].role"),
        ("audience: a, role: admin", "enterprise.auth.jwt[0].role"),
        ("audience: a, role: viewer, scopes: [read]", "enterprise.auth.jwt[0].role"),
        ("audience: a, id: PSK", "enterprise.auth.jwt[0].id"),
        ("audience: a, preset: jenkins", "enterprise.auth.jwt[0].preset"),
        ("audience: a, exchange_lifetime: 30d", "enterprise.auth.jwt[0].exchange_lifetime"),
        ("audience: a, jwks_url: 'http://a.example/k'", "enterprise.auth.jwt[0].jwks_url"),
        ("audience: a, rules: [{claims: {sub: {regex: x}}}]", "enterprise.auth.jwt[0].rules[0].claims"),
        ("audience: a, rules: [{claims: {sub: {glob: x, not: y}}}]", "enterprise.auth.jwt[0].rules[0].claims"),
        ("audience: a, rules: [{claims: {sub: []}}]", "enterprise.auth.jwt[0].rules[0].claims"),
        ("audience: a, rules: [{claims: [sub]}]", "enterprise.auth.jwt[0].rules[0].claims"),
        ("audience: a, rules: [{claim: sub}]", "enterprise.auth.jwt[0].rules[0].claim"),
        ("audience: a, rules: [{scopes: ['*']}]", "enterprise.auth.jwt[0].rules[0].scopes"),
        ("audience: a, at_most: [root]", "enterprise.auth.jwt[0].at_most"),
    ] {
        let faults = entry(more).unwrap_err();
        assert!(faults.contains(key), "{more}: {faults}");
    }
    assert!(entry("audience: a, at_most: ['*'], role: admin").is_ok());
    let whole = |yaml: &str| load(yaml).unwrap_err();
    let two = "enterprise: {auth: {jwt: [{issuer: 'https://a.example', audience: a}, {issuer: 'https://a.example/', audience: b, id: b}]}}";
    assert!(whole(two).contains("already the issuer"));
    let own = "server: {public_url: 'https://loki.example'}\nenterprise: {auth: {jwt: {issuer: 'https://loki.example', audience: a}}}";
    assert!(whole(own).contains("lokid itself"));
    let sign_in = "enterprise: {auth: {oidc: {issuer: 'https://a.example', client_id: c}, jwt: {issuer: 'https://a.example', audience: c}}}";
    assert!(whole(sign_in).contains("people sign in"));
    assert!(load(&sign_in.replace("audience: c", "audience: api")).is_ok());
    let http = "enterprise: {auth: {jwt: {issuer: 'http://a.example', audience: a}}}";
    assert!(whole(http).contains("https"));
}

#[test]
fn rules_that_a_stranger_could_satisfy_are_warned_of() {
    let warnings = |preset: &str, issuer: &str, rule: &str| {
        let yaml = format!(
            "enterprise: {{auth: {{jwt: {{preset: {preset}, issuer: '{issuer}', audience: a, rules: [{rule}]}}}}}}"
        );
        load(&yaml).unwrap().warnings.join("; ")
    };
    let github = |rule: &str| warnings("github-actions", "https://token.actions.githubusercontent.com", rule);
    for open in [
        "{role: viewer}",
        "{claims: {ref: refs/heads/main}}",
        "{claims: {repository_id: {glob: '*'}}}",
        "{claims: {repository_owner_id: {not: 7}}}",
        "{claims: {actor: ann}}",
        "{claims: {job_workflow_ref: acme/ci/.github/workflows/x.yml@v1}}",
    ] {
        assert!(github(open).contains("any stranger"), "{open}: {}", github(open));
    }
    assert!(github("{claims: {repository: acme/app}}").contains("is a name"));
    assert!(github("{claims: {sub: {prefix: 'repo:acme'}}}").contains("may be called"));
    for pinned in [
        "{claims: {repository_id: 42}}",
        "{claims: {repository_owner_id: '7', ref: x}}",
        "{claims: {sub: 'repo:acme@7/app@42:ref:refs/heads/main'}}",
    ] {
        assert_eq!(github(pinned), "", "{pinned}");
    }
    let google = |rule: &str| warnings("google", "https://accounts.google.com", rule);
    assert!(
        google("{role: viewer}").contains("any stranger") && google("{claims: {email: a@b.c}}").contains("is a name")
    );
    assert_eq!(google("{claims: {sub: '1085', email: a@b.c}}"), "");
    let plain = |more: &str| {
        load(&format!("enterprise: {{auth: {{jwt: {{issuer: 'https://a.example', audience: a{more}}}}}}}"))
            .unwrap()
            .warnings
    };
    assert_eq!((plain("").len(), plain(", required_scopes: [x]").len()), (1, 0));
    let bare = load("enterprise: {auth: {jwt: {issuer: 'https://accounts.google.com', audience: a}}}").unwrap();
    assert!(bare.warnings[0].contains("preset: google"), "{:?}", bare.warnings);
    let entra =
        load("enterprise: {auth: {jwt: {issuer: 'https://login.microsoftonline.com/t-1/v2.0', audience: a}}}").unwrap();
    assert_eq!(entra.auth.issuers[0].aliases, ["https://sts.windows.net/t-1/"], "the preset goes without saying");
}

#[test]
fn a_weak_preshared_key_is_refused_and_never_shown() {
    let psk = |entry: &str| load(&format!("enterprise: {{auth: {{psk: {entry}}}}}"));
    for (entry, key) in [
        ("{key: your-secure-random-key-here}", "psk[0].key"),
        ("{name: x}", "psk[0].key"),
        (&*format!("{{key: {}}}", "ab".repeat(40)), "psk[0].key"),
        (&format!("{{key: {PSK}, next_key: short}}"), "psk[0].next_key"),
        (&format!("{{key: {PSK}, scopes: [root]}}"), "psk[0].scopes"),
        (&format!("{{key: {PSK}, scopes: [read], role: viewer}}"), "psk[0].role"),
        (&format!("{{key: {PSK}, role: owner}}"), "psk[0].role"),
        (&format!("{{key: {PSK}, name: 'a b'}}"), "psk[0].name"),
        (&format!("[{{key: {PSK}}}, {{key: {PSK}, name: b}}]"), "psk[1].key"),
    ] {
        let faults = psk(entry).unwrap_err();
        assert!(faults.contains(key) && !faults.contains("ababab") && !faults.contains(PSK), "{entry}: {faults}");
    }
    let settings = psk(&format!("{{key: {PSK}, role: operator}}")).unwrap();
    assert!(!format!("{settings:?}").contains(PSK) && !reference::show(&settings).contains(PSK));
    assert_eq!(settings.auth.preshared_keys[0].role.as_deref(), Some("operator"));
}

#[test]
fn what_a_rule_asks_of_claims_is_shown_with_its_line() {
    let yaml = "enterprise:\n  auth:\n    jwt:\n      issuer: https://a.example\n      audience: a\n      rules:\n        - claims: {sub: ann, ref: {glob: 'x/*'}}\n";
    let shown = reference::show(&load(yaml).unwrap());
    assert!(shown.contains("enterprise.auth.jwt[0].rules[0].claims.sub: ann"), "{shown}");
    assert!(shown.contains("enterprise.auth.jwt[0].rules[0].claims.ref.glob: x/*"), "{shown}");
}
