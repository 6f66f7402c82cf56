//! Settings that are already valid. Text of a file, the environment and flags goes in; [`Settings`]
//! come out, or every fault at once with its origin.
//!
//! Order: flag, environment, file, default. This is the only room that reads the environment.

pub mod apps;
pub mod audit;
pub mod auth;
pub mod certificates;
pub mod cluster;
pub mod keys;
pub mod limits;
mod metrics;
pub mod psk;
pub mod raw;
pub mod reference;
pub mod runs;
mod seeds;
pub mod server;
mod values;
pub mod workloads;

use std::{cell::RefCell, collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

pub use values::{Fault, Faults};

use keys::{KEYS, Key, Kind};
use raw::{Node, Origin, Value};
use values::Place;

/// Everything an instance is told, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Listening and the outside address.
    pub server: server::Server,
    /// Where the data is.
    pub database: server::Database,
    /// How long to wait for it at the start.
    pub database_wait: Duration,
    /// Logs.
    pub log: server::Log,
    /// Where metrics are served without a credential, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Who may come in, and as what.
    pub auth: auth::Auth,
    /// Rates and sizes.
    pub limits: limits::Limits,
    /// Where our signing keys are.
    pub signing: server::Signing,
    /// This node among others.
    pub cluster: cluster::Cluster,
    /// Apps behind the same door.
    pub apps: apps::Apps,
    /// What a run is here.
    pub runs: runs::Runs,
    /// Client certificates, and those that we issue.
    pub certificates: certificates::Certificates,
    /// How many refusals may wait to be written.
    pub audit_queue: usize,
    /// Evidence, retention and sinks of the audit log.
    pub audit: audit::Audit,
    /// The tree these came from, for `config show`.
    pub effective: Vec<reference::Effective>,
    /// What is odd but not wrong.
    pub warnings: Vec<String>,
}

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`, if it was given.
    pub file: Option<PathBuf>,
    /// Flags that set keys: path, value and how the flag is written.
    pub flags: Vec<(&'static str, String, &'static str)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// Names only: the values of the environment and of flags may be secrets.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags: Vec<_> = self.flags.iter().map(|(_, _, flag)| flag).collect();
        let env: Vec<_> = self.env.keys().filter(|name| name.starts_with("LOKI_")).collect();
        f.debug_struct("Sources").field("file", &self.file).field("flags", &flags).field("env", &env).finish()
    }
}

impl Sources {
    /// The process's own environment, with these flags.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String, &'static str)>) -> Self {
        // `vars` would panic at a variable of somebody else that is not UTF-8.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self { file, flags, env: std::env::vars_os().filter_map(text).collect() }
    }

    /// The file that will be read: named by flag or variable, or the first of the usual places.
    pub fn chosen_file(&self) -> Option<PathBuf> {
        let named = self.file.clone().or_else(|| self.env.get("LOKI_CONFIG").map(PathBuf::from));
        named.or_else(|| {
            let home = self.env.get("HOME").map(|home| PathBuf::from(home).join(".config/loki/config.yaml"));
            let usual = [Some(PathBuf::from(".loki/config.yaml")), home];
            usual.into_iter().flatten().find(|path| path.is_file())
        })
    }

    /// Reads, overlays, checks.
    ///
    /// # Errors
    /// All [`Faults`] at once.
    pub fn load(&self) -> Result<Settings, Faults> {
        let mut faults = Vec::new();
        let mut root = self.read_file(&mut faults);
        seeds::translate(&mut root, &mut faults);
        self.overlay_env(&mut root, &mut faults);
        seeds::translate(&mut root, &mut faults);
        for (path, value, flag) in &self.flags {
            root.put(path, Node::scalar(value, Origin::Flag((*flag).to_owned())));
        }
        values::check(&root, "", "", &mut faults);
        let faults = RefCell::new(faults);
        let settings = build(Place::root(&root, &faults), &root, self.odd_variables(), &self.env);
        let faults = faults.into_inner();
        if faults.is_empty() { Ok(settings) } else { Err(Faults(faults)) }
    }

    fn read_file(&self, faults: &mut Vec<Fault>) -> Node {
        let empty = Node::map(Origin::Default);
        let Some(path) = self.chosen_file() else { return empty };
        let name = path.display().to_string();
        let at = |line: usize| Origin::File { path: name.clone(), line };
        let mut fault = |line, message| faults.push(Fault { key: "(file)".into(), origin: at(line), message });
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => {
                fault(0, format!("cannot be read: {e}"));
                return empty;
            }
        };
        match raw::parse(&text, &at) {
            Ok(Some(node @ Node { value: Value::Map(_), .. })) => node,
            Ok(None) => empty,
            Ok(Some(_)) => {
                fault(1, "expected sections such as server: and database:".into());
                empty
            }
            Err(e) => {
                fault(e.line, format!("not valid YAML: {}", e.message));
                empty
            }
        }
    }

    fn overlay_env(&self, root: &mut Node, faults: &mut Vec<Fault>) {
        for key in KEYS.iter().filter(|key| !key.env.is_empty()) {
            let origin = Origin::Env(key.env.to_owned());
            let mut fault = |message: String, origin: &Origin| {
                faults.push(Fault { key: key.path.into(), origin: origin.clone(), message });
            };
            let direct = self.env.get(key.env).filter(|v| !v.is_empty()).cloned();
            let file_variable = key.file_variable().unwrap_or_default();
            let from_file = self.env.get(&file_variable);
            let (text, origin) = match (direct, from_file) {
                (Some(_), Some(_)) => {
                    fault(format!("{} and {file_variable} are both set; set one of them", key.env), &origin);
                    continue;
                }
                (Some(text), None) => (text, origin),
                (None, Some(path)) => match std::fs::read_to_string(path) {
                    Ok(text) => (text.trim_end_matches(['\r', '\n']).to_owned(), Origin::Env(file_variable)),
                    Err(e) => {
                        fault(format!("the file {path:?} cannot be read: {e}"), &Origin::Env(file_variable));
                        continue;
                    }
                },
                (None, None) => continue,
            };
            match structured(key, &text, &origin) {
                Ok(node) => root.put(key.path, node),
                Err(message) => fault(message, &origin),
            }
        }
    }

    /// `LOKI_…` variables that mean nothing here: probably a typo.
    fn odd_variables(&self) -> Vec<String> {
        const OTHERS: [&str; 6] =
            ["LOKI_CONFIG", "LOKI_TOKEN", "LOKI_URL", "LOKI_RUN_ID", "LOKI_SERVER_URL", "LOKI_NO_COLOR"];
        let known = |name: &str| {
            OTHERS.contains(&name) || KEYS.iter().any(|k| k.env == name || k.file_variable().as_deref() == Some(name))
        };
        let odd = self.env.keys().filter(|name| name.starts_with("LOKI_") && !known(name));
        odd.map(|name| format!("the environment variable {name} is not one that lokid reads")).collect()
    }
}

/// A variable's text as the key's kind wants it: lists of mappings and mappings are YAML or JSON.
fn structured(key: &Key, text: &str, origin: &Origin) -> Result<Node, String> {
    let yaml = matches!(key.kind, Kind::Entries | Kind::Mapping | Kind::Named | Kind::Claims)
        || (key.kind == Kind::List && text.trim_start().starts_with('['));
    if !yaml {
        return Ok(Node::scalar(text, origin.clone()));
    }
    let parsed = raw::parse(text, &|_| origin.clone()).map_err(|e| format!("not valid YAML: {}", e.message))?;
    parsed.ok_or_else(|| "is empty".to_owned())
}

fn build(place: Place<'_>, root: &Node, mut warnings: Vec<String>, env: &BTreeMap<String, String>) -> Settings {
    let server = server::read_server(place);
    let database = server::read_database(place);
    let auth = auth::read(place, &server);
    let apps = apps::read(place, &server, &auth.roles);
    warnings.extend(apps.warnings(&server));
    warnings.extend(workloads::warnings(&auth.issuers));
    if place.flag("limits.shared") && matches!(database, server::Database::Sqlite(_)) {
        place.fault("limits.shared", "needs PostgreSQL (database.url): on SQLite there is one node");
    }
    if place.flag("limits.shared") && server.secret.is_none() {
        place
            .fault("limits.shared", "needs server.secret, the same on every node: callers are told of by a keyed hash");
    }
    let signing = server::read_signing(place, &database);
    if !apps.apps.is_empty() && matches!(signing, server::Signing::Ephemeral) {
        let warning = "forward_auth: assertions are signed with a key that is not published, so apps cannot verify them; set \
             server.secret or signing_key_file";
        warnings.push(warning.into());
    }
    let runs = runs::read(place, &server, &database, env);
    warnings.extend(runs.warnings(env));
    Settings {
        runs,
        audit: audit::read(place, &database),
        database_wait: place.duration("database.wait").unwrap_or_default(),
        database,
        log: server::read_log(place),
        metrics_listen: metrics::read(place),
        limits: limits::read(place),
        signing,
        cluster: cluster::read(place),
        audit_queue: place.number("enterprise.audit.queue").unwrap_or(8192),
        effective: reference::effective(root),
        certificates: certificates::read(place, &server, &auth.roles),
        apps,
        auth,
        server,
        warnings,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn sources(yaml: &str, env: &[(&str, &str)]) -> (Sources, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        (Sources { file: Some(file.path().to_owned()), flags: vec![], env }, file)
    }

    fn load(yaml: &str, env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let (sources, _file) = sources(yaml, env);
        let plain = |f: Fault| {
            let origin = match f.origin {
                Origin::File { line, .. } => format!("line {line}"),
                other => other.to_string(),
            };
            format!("{} ({origin}): {}", f.key, f.message)
        };
        sources.load().map_err(|faults| faults.0.into_iter().map(plain).collect())
    }

    #[test]
    fn nothing_set_is_a_valid_configuration() {
        let settings = load("", &[]).unwrap();
        assert_eq!(settings.server.port, 57374);
        assert_eq!(settings.server.public_url.as_str(), "http://localhost:57374/");
        assert!(settings.auth.providers.is_empty());
        assert_eq!(settings.auth.default_role.as_deref(), Some("viewer"));
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let (mut sources, _file) = sources("server: {port: 1, host: 127.0.0.2}", &[("LOKI_SERVER_PORT", "2")]);
        assert_eq!(sources.load().unwrap().server.port, 2);
        sources.flags.push(("server.port", "3".into(), "--port"));
        let settings = sources.load().unwrap();
        assert_eq!((settings.server.port, settings.server.host.as_str()), (3, "127.0.0.2"));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_origin() {
        let yaml = "server:\n  prot: 1\n  port: 99999\nenterprise:\n  sessions: {idle: 15}\nlog: {level: loud}\n";
        insta::assert_snapshot!(load(yaml, &[("LOKI_TLS_ENABLED", "maybe")]).unwrap_err().join("\n"), @r#"
        server.prot (line 2): there is no such key; did you mean server.port?
        server.port (line 3): "99999" is not right; expected a whole number from 0 to 65535
        server.tls.enabled (LOKI_TLS_ENABLED): "maybe" is not right; expected true or false
        enterprise.sessions.idle (line 5): "15" is not right; expected a number with a unit, such as 30s, 15m, 12h or 90d
        log.level (line 6): "loud" is not right; expected one of error, warn, info, debug, trace
        "#);
    }

    #[test]
    fn the_seeds_single_provider_is_a_list_of_one_and_its_variables_describe_the_first_entry() {
        let yaml = "enterprise:\n  auth:\n    oidc: {issuer: 'https://a.example', client_id: x}\n";
        let settings = load(yaml, &[("LOKI_OIDC_CLIENT_ID", "y"), ("LOKI_OIDC_SCOPES", "openid,email")]).unwrap();
        let provider = &settings.auth.providers[0];
        assert_eq!((provider.client_id.as_str(), provider.scopes.len()), ("y", 2));
        let only_env = [("LOKI_OIDC_ISSUER", "https://b.example/"), ("LOKI_OIDC_CLIENT_ID", "z")];
        assert_eq!(load("", &only_env).unwrap().auth.providers[0].issuer, "https://b.example/");
    }

    #[test]
    fn a_secret_may_come_from_a_file_but_not_from_both() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        writeln!(secret, "0123456789abcdef0123456789abcdef").unwrap();
        let path = secret.path().to_str().unwrap();
        assert!(load("", &[("LOKI_SERVER_SECRET_FILE", path)]).unwrap().server.secret.is_some());
        let both = [("LOKI_SERVER_SECRET_FILE", path), ("LOKI_SERVER_SECRET", "x")];
        assert!(load("", &both).unwrap_err()[0].contains("both set"));
    }

    #[test]
    fn http_issuers_and_open_doors_are_for_loopback_only() {
        let issuer =
            |url: &str| load(&format!("enterprise: {{auth: {{oidc: {{issuer: '{url}', client_id: x}}}}}}"), &[]);
        assert!(issuer("http://idp.example").unwrap_err()[0].contains("https"));
        assert!(issuer("http://127.0.0.1:9").is_ok() && issuer("https://idp.example").is_ok());
        let open = |host: &str, url: &str| {
            load(
                &format!("server: {{host: {host}, public_url: '{url}'}}\nenterprise: {{auth: {{enabled: false}}}}"),
                &[],
            )
        };
        assert!(open("0.0.0.0", "http://localhost:1").is_err());
        assert!(open("127.0.0.1", "https://x.example").is_err());
        assert!(open("127.0.0.1", "http://localhost:1").is_ok());
    }

    #[test]
    fn a_role_that_does_not_exist_is_a_fault() {
        let mapping = |role: &str| load(&format!("enterprise: {{rbac: {{oidc_role_mapping: {{ops: {role}}}}}}}"), &[]);
        assert!(mapping("oprator").unwrap_err()[0].contains("admin, auditor, operator, viewer"));
        assert!(mapping("operator").is_ok());
    }

    #[test]
    fn secrets_are_hidden_where_settings_are_shown() {
        let settings = load("", &[("LOKI_DATABASE_URL", "postgres://u:hunter2@h/db")]).unwrap();
        let shown = reference::show(&settings);
        assert!(shown.contains("LOKI_DATABASE_URL") && !shown.contains("hunter2"), "{shown}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
