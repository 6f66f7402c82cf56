//! `lokid config`: every fault at once, values with their origins, and the reference in the documentation.

use insta::assert_snapshot;

use crate::Home;

fn write(home: &Home, yaml: &str) {
    std::fs::create_dir_all(home.path().join(".loki")).unwrap();
    std::fs::write(home.path().join(".loki/config.yaml"), yaml).unwrap();
}

#[test]
fn all_faults_are_reported_at_once_with_their_places() {
    let home = Home::new();
    write(
        &home,
        "server:\n  prot: 1\n  port: 99999\nenterprise:\n  tokens: {max_active_per_user: many}\nlog: {level: loud}\n",
    );
    let found =
        home.run_with("config check", &[("LOKI_TLS_ENABLED", "maybe"), ("LOKI_OIDC_ISSUER", "http://idp.example")]);
    assert_snapshot!(found.shown(), @r#"
    exit 1
    lokid: the configuration has 7 faults:
      server.prot (.loki/config.yaml:2): there is no such key; did you mean server.port?
      server.port (.loki/config.yaml:3): "99999" is not right; expected a whole number from 0 to 65535
      server.tls.enabled (LOKI_TLS_ENABLED): "maybe" is not right; expected true or false
      enterprise.tokens.max_active_per_user (.loki/config.yaml:5): "many" is not right; expected a whole number from 1 to 100000
      enterprise.auth.oidc[0].issuer (LOKI_OIDC_ISSUER): "http://idp.example" is not right; expected an https:// URL (http:// is accepted on loopback only)
      log.level (.loki/config.yaml:6): "loud" is not right; expected one of error, warn, info, debug, trace
      enterprise.auth.oidc[0].client_id (default): must be set
    hint: lokid config reference lists every key
    "#);
    let as_json = home.run("config check --json");
    assert_eq!((as_json.code, &as_json.json()["valid"]), (1, &serde_json::json!(false)));
    assert_eq!(as_json.json()["faults"].as_array().unwrap().len(), 4);
    for verb in ["start", "enterprise token list", "config show", "doctor"] {
        assert_eq!(home.run(verb).code, 1, "{verb} with faults");
    }
    assert!(!home.path().join(".loki/loki.db").exists(), "nothing was begun");
    write(&home, "server:\n  port: 9999\n");
    assert_eq!(home.ok("config check").out, "The configuration is valid (.loki/config.yaml).\n");
}

#[test]
fn an_unknown_key_is_refused_and_a_near_one_is_named() {
    let home = Home::new();
    write(&home, "server:\n  hosts: a\n");
    let found = home.run("config check");
    assert_eq!(found.code, 1);
    assert!(
        found.err.contains("server.hosts (.loki/config.yaml:2): there is no such key; did you mean server.host?"),
        "{}",
        found.err
    );
    let odd = Home::new().run_with("config check", &[("LOKI_SERVER_PROT", "1")]);
    assert_eq!(odd.code, 0);
    assert!(odd.err.contains("LOKI_SERVER_PROT is not one that lokid reads"), "{}", odd.err);
}

#[test]
fn shown_values_have_an_origin_and_secrets_are_hidden() {
    let home = Home::new();
    write(&home, "server:\n  port: 9999\n");
    let secret = "0123456789abcdef0123456789abcdef";
    let shown =
        home.run_with("config show --json", &[("LOKI_SERVER_SECRET", secret), ("LOKI_SERVER_HOST", "127.0.0.2")]);
    assert!(!shown.out.contains(secret) && !shown.err.contains(secret));
    let values = shown.json();
    let origin = |key: &str| {
        let found = values.as_array().unwrap().iter().find(|v| v["key"] == key).unwrap();
        found["origin"].as_str().unwrap().to_owned()
    };
    assert_eq!(origin("server.port"), ".loki/config.yaml:2");
    assert_eq!(
        (origin("server.host"), origin("server.secret")),
        ("LOKI_SERVER_HOST".into(), "LOKI_SERVER_SECRET".into())
    );
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn the_reference_in_the_documentation_is_the_one_that_is_printed() {
    let home = Home::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(home.ok("config reference").out, written, "lokid config reference > docs/configuration.md");
}
