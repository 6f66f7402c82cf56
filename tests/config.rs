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
