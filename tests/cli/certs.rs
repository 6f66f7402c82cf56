//! `lokid certs`: the files of seeds/000, judged by Debian's openssl.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::Home;

/// What openssl says of files in the home.
fn openssl(home: &Home, words: &str) -> (bool, String) {
    let done = Command::new("openssl").args(words.split_whitespace()).current_dir(home.path()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text)
}

#[track_caller]
fn shown(home: &Home, words: &str) -> String {
    let (done, text) = openssl(home, words);
    assert!(done, "openssl {words}: {text}");
    text
}

fn made(home: &Home, kind: &str) {
    for verb in ["ca", "server", "client", "jwt"] {
        home.ok(&format!("certs {verb} {kind}"));
    }
}

fn mode(home: &Home, name: &str) -> u32 {
    fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777
}

const KEYS: [&str; 4] = ["ca.key", "server.key", "client.key", "jwt/private.key"];
const OPEN: [&str; 4] = ["ca.pem", "server.pem", "client.pem", "jwt/public.key"];

#[test]
fn the_files_of_the_documents_are_made_and_openssl_verifies_them() {
    for kind in ["", "--rsa"] {
        let home = Home::new();
        made(&home, kind);
        for name in ["server", "client"] {
            let said = shown(&home, &format!("verify -CAfile certs/ca.pem certs/{name}.pem"));
            assert_eq!(said, format!("certs/{name}.pem: OK\n"), "{kind}");
            shown(&home, &format!("verify -x509_strict -purpose ssl{name} -CAfile certs/ca.pem certs/{name}.pem"));
            let other = if name == "server" { "client" } else { "server" };
            let (passes, _) =
                openssl(&home, &format!("verify -purpose ssl{other} -CAfile certs/ca.pem certs/{name}.pem"));
            assert!(!passes, "{name} is not to pass as {other}");
        }
        let text = shown(&home, "x509 -in certs/server.pem -noout -text");
        let key = if kind.is_empty() { "P-256" } else { "(4096 bit)" };
        for part in
            ["Version: 3 (0x2)", "CA:FALSE", "TLS Web Server Authentication", "DNS:localhost", "DNS:backend", key]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = shown(&home, "x509 -in certs/client.pem -noout -text");
        for part in ["Version: 3 (0x2)", "CN = loki-backoffice", "CA:FALSE", "TLS Web Client Authentication", key] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = shown(&home, "x509 -in certs/ca.pem -noout -text");
        assert!(text.contains("CN = Loki CA") && text.contains("CA:TRUE, pathlen:0"), "{text}");
        assert_eq!(
            shown(&home, "pkey -in certs/jwt/private.key -pubout"),
            shown(&home, "pkey -pubin -in certs/jwt/public.key")
        );
        assert_eq!(
            (KEYS.map(|n| mode(&home, &format!("certs/{n}"))), OPEN.map(|n| mode(&home, &format!("certs/{n}")))),
            ([0o600; 4], [0o644; 4])
        );
        assert_eq!(home.ok("certs verify").out.lines().filter(|line| line.starts_with("ok")).count(), 3);
    }
}

#[test]
fn nothing_is_overwritten_unless_force_is_said() {
    let home = Home::new();
    made(&home, "");
    let read = |name: &str| fs::read(home.path().join("certs").join(name)).unwrap();
    let before: Vec<_> = KEYS.iter().chain(&OPEN).map(|name| read(name)).collect();
    for verb in ["ca", "server", "client", "jwt"] {
        let refused = home.run(&format!("certs {verb}"));
        assert_eq!(refused.code, 1, "{}", refused.shown());
        assert!(refused.err.contains("is there already") && refused.err.contains("--force"), "{}", refused.err);
    }
    assert_eq!(KEYS.iter().chain(&OPEN).map(|name| read(name)).collect::<Vec<_>>(), before);
    let first = read("client.pem");
    home.ok("certs client --force");
    assert_ne!(read("client.pem"), first);
    fs::remove_file(home.path().join("certs/client.pem")).unwrap();
    assert_eq!(home.run("certs client").code, 1, "a key without its certificate is somebody's too");
    home.ok("certs client --name other --out other");
    shown(&home, "verify -CAfile certs/ca.pem certs/other.pem");
    for name in ["../x", "ca", "server", "", ".x", "a/b"] {
        assert_ne!(home.command("certs client --out").arg(name).output().unwrap().status.code(), Some(0), "{name:?}");
    }
}

/// seeds/000 line by line; shells read `<(…)` in it, this writes files.
fn by_the_recipe(home: &Home) {
    fs::create_dir_all(home.path().join("certs")).unwrap();
    let names = "[alt_names]\nDNS.1 = localhost\nDNS.2 = backend\nIP.1 = 127.0.0.1\nIP.2 = 0.0.0.0\n";
    let write = |name: &str, text: String| fs::write(home.path().join(name), text).unwrap();
    write(
        "server.cnf",
        format!(
            "[req]\nprompt = no\nreq_extensions = req_ext\ndistinguished_name = dn\n[dn]\nCN = loki-backend\n[req_ext]\nsubjectAltName = @alt_names\n{names}"
        ),
    );
    write("server.ext", format!("subjectAltName = @alt_names\n{names}"));
    write("client.cnf", "[req]\nprompt = no\ndistinguished_name = dn\n[dn]\nCN = loki-backoffice\n".into());
    shown(home, "genrsa -out certs/ca.key 2048");
    let ca = [
        "req",
        "-new",
        "-x509",
        "-key",
        "certs/ca.key",
        "-sha256",
        "-subj",
        "/CN=Loki CA",
        "-out",
        "certs/ca.pem",
        "-days",
        "3650",
    ];
    assert!(Command::new("openssl").args(ca).current_dir(home.path()).status().unwrap().success());
    for (name, extensions) in [("server", " -extfile server.ext"), ("client", "")] {
        shown(home, &format!("genrsa -out certs/{name}.key 2048"));
        shown(home, &format!("req -new -key certs/{name}.key -out certs/{name}.csr -config {name}.cnf"));
        shown(
            home,
            &format!(
                "x509 -req -in certs/{name}.csr -CA certs/ca.pem -CAkey certs/ca.key -CAcreateserial -out certs/{name}.pem -days 825 -sha256{extensions}"
            ),
        );
    }
}

#[test]
fn a_certificate_of_the_recipe_is_named_with_the_command_that_makes_it_anew() {
    let home = Home::new();
    by_the_recipe(&home);
    let refused = home.run("certs verify");
    assert_eq!(refused.code, 1);
    let line = |name: &str| refused.out.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(line("ca.pem").starts_with("ok"), "{}", refused.out);
    assert!(line("client.pem").contains("X.509 version 1"), "{}", refused.out);
    assert!(line("client.pem").contains("lokid certs client --name loki-backoffice --force"), "{}", refused.out);
    // Its server's certificate is version 3, but says nothing of what it is for.
    assert!(line("server.pem").contains("lokid certs server --force"), "{}", refused.out);
    home.ok("certs client --name loki-backoffice --force");
    home.ok("certs server --force");
    assert_eq!(home.ok("certs verify --json").json().as_array().unwrap().len(), 3);
    shown(&home, "verify -CAfile certs/ca.pem certs/client.pem");
}

#[test]
fn what_does_not_belong_together_is_said() {
    let home = Home::new();
    let nothing = home.run("certs verify");
    assert!(nothing.err.contains("there is no certificate in certs") && nothing.code == 1, "{}", nothing.shown());
    let lone = home.run("certs server");
    assert!(lone.err.contains("hint: make one first: lokid certs ca"), "{}", lone.err);
    made(&home, "");
    home.ok("certs ca --dir other --name Loki");
    home.ok("certs client --dir other --out mallory");
    let foreign = home.run("certs verify other/mallory.pem");
    assert!(foreign.code == 1 && foreign.out.contains("no authority"), "{}", foreign.shown());
    fs::copy(home.path().join("certs/client.key"), home.path().join("certs/server.key")).unwrap();
    assert!(home.run("certs verify").out.contains("the private key does not belong to the certificate"));
    fs::copy(home.path().join("certs/client.pem"), home.path().join("certs/ca.pem")).unwrap();
    assert!(home.run("certs server --force").err.contains("not the certificate of an authority"));
    for wrong in
        ["certs client --uri \u{fc}", "certs server --dns a_b", "certs client --dns 127.0.0.1", "certs ca --days 0"]
    {
        assert_ne!(home.run(wrong).code, 0, "{wrong}");
    }
}

#[test]
fn a_clients_certificate_is_revoked_by_its_file_and_stands_in_the_list() {
    let home = Home::new();
    made(&home, "");
    fs::create_dir_all(home.path().join(".loki")).unwrap();
    fs::write(home.path().join(".loki/config.yaml"), "certs_dir: certs\n").unwrap();
    home.ok("certs ca --dir other");
    home.ok("certs client --dir other --out mallory");
    assert!(home.run("certs revoke other/mallory.pem").err.contains("not signed by the authority"));
    assert!(home.run("certs revoke missing.pem").err.contains("missing.pem"));
    assert!(home.ok("certs revoke certs/client.pem").out.contains("is revoked"));
    assert!(home.ok("certs revoke certs/client.pem").out.contains("was revoked before"));
    let log = home.ok("enterprise audit tail --event certificate.revoke --json").out;
    assert!(log.lines().count() == 1 && log.contains("CN=loki-backoffice"), "{log}");
    let serving = home.serve();
    let fetched = Command::new("curl").args(["-sf", &format!("{}/.well-known/crl.pem", serving.url)]).output().unwrap();
    fs::write(home.path().join("crl.pem"), fetched.stdout).unwrap();
    let verify = "verify -crl_check -CRLfile crl.pem -CAfile certs/ca.pem";
    let (passes, said) = openssl(&home, &format!("{verify} certs/client.pem"));
    assert!(!passes && said.contains("certificate revoked"), "{said}");
    shown(&home, &format!("{verify} certs/server.pem"));
}

#[test]
fn a_client_may_be_known_by_a_uri_or_a_host_name() {
    let home = Home::new();
    home.ok("certs ca");
    let said = home.ok("certs client --uri spiffe://example.org/ci/build --dns ci.example.org").out;
    assert!(said.contains(r#"{uri: "spiffe://example.org/ci/build", role: viewer}"#), "{said}");
    let text = shown(&home, "x509 -in certs/client.pem -noout -ext subjectAltName");
    assert!(text.contains("URI:spiffe://example.org/ci/build") && text.contains("DNS:ci.example.org"), "{text}");
}
