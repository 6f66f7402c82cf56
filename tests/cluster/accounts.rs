//! NATS with accounts, as `nsc` makes them: a file of credentials in place of a password.

use std::{fs, path::PathBuf};

use data_encoding::BASE64URL_NOPAD;
use lokid::domain::time::Clock;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{
    nats::{Fleet, LEADER, Nats, does_not_start, published},
    server::Site,
};

/// A statement of NATS about `subject`: claims that `issuer` signs.
fn states(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = json!({
        "jti": name, "iat": Clock::system().now().seconds(), "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": name, "nats": nats,
    });
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

fn account(operator: &KeyPair, account: &KeyPair, name: &str, storage: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
    });
    states(operator, account, name, &json!({"type": "account", "version": 2, "limits": limits}))
}

/// A user of an account, as the file that `nsc generate creds` writes, and its seed.
fn credentials(fleet: &Fleet, account: &KeyPair, name: &str) -> (PathBuf, String) {
    let user = KeyPair::new_user();
    let may = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let (jwt, seed) = (states(account, &user, name, &may), user.seed().unwrap());
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let path = fleet.dir.path().join(format!("{name}.creds"));
    fs::write(&path, text).unwrap();
    (path, seed)
}

#[test]
fn a_node_comes_in_with_credentials_of_the_account_and_not_with_those_of_another() {
    let [operator, system, ours, theirs] =
        [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_account()];
    let root = states(&operator, &operator, "operator", &json!({"type": "operator", "version": 2}));
    let known = [(&system, "SYS", 0), (&ours, "LOKID", -1)]
        .map(|(key, name, storage)| format!("  {}: {}\n", key.public_key(), account(&operator, key, name, storage)));
    let nats = Nats::configured(&format!(
        "operator: {root}\nresolver: MEMORY\nsystem_account: {}\nresolver_preload: {{\n{}}}\n",
        system.public_key(),
        known.concat()
    ));
    let fleet = Fleet::new();
    let node = |name: &str, file: &str| -> Site {
        let env = [
            LEADER,
            ("LOKI_CLUSTER_WAIT", "1s"),
            ("LOKI_LOG_LEVEL", "trace"),
            ("LOKI_CLUSTER_NATS_CREDENTIALS_FILE", file),
        ];
        fleet.node(name, &nats, &env)
    };
    let (file, seed) = credentials(&fleet, &ours, "good");
    let (strangers, _) = credentials(&fleet, &theirs, "stranger");
    for (name, file, why) in [
        ("a", strangers.to_str().unwrap(), "refuses"),
        ("b", "/nowhere.creds", "cluster.nats_credentials_file /nowhere.creds"),
    ] {
        let (code, said) = does_not_start(&node(name, file));
        assert!(code == 11 && said.contains(why), "{code} {said}");
    }
    let site = node("c", file.to_str().unwrap());
    let server = site.start();
    assert_eq!(published(&mut server.http()).len(), 1);
    drop(server);
    let said = fs::read_to_string(site.output()).unwrap();
    assert!(said.contains("DEBUG") && !said.contains(&seed), "{said}");
}

#[test]
fn nats_without_jetstream_is_named_as_that() {
    let (nats, fleet) = (Nats::without_jetstream(), Fleet::new());
    let (code, said) = does_not_start(&fleet.node("a", &nats, &[LEADER, ("LOKI_CLUSTER_WAIT", "1s")]));
    assert!(
        code == 11 && said.contains("JetStream does not answer") && said.contains("nats-server -js"),
        "{code} {said}"
    );
}
