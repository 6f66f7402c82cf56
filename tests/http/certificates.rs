//! `/api/certificate`: who gets which, the curl line of seeds/002, and what revoking does.

use std::{fs, process::Command, sync::Arc, time::Duration};

use lokid::{
    actions::{App, tokens},
    config::Sources,
    domain::{event::Origin, identity::Identity, time::Clock},
    pki::read::Facts,
};
use serde_json::{Value, json};

use crate::{
    door::{Anonymous, Answer, Client, Door, WithToken, answer},
    pki::{Certs, openssl},
};

pub(crate) const OBTAIN: &str = "/api/certificate";
const RENEW: &str = "/api/certificate/renew";
const DAY: Duration = Duration::from_hours(24);

/// A token on a database on which no server runs yet: rules name tokens by their ids.
async fn token_before(url: &str, scopes: &str) -> (String, String) {
    let env = [("LOKI_DATABASE_URL".to_owned(), url.to_owned())].into();
    let settings = Sources { file: None, flags: vec![], env }.load().unwrap();
    let app = App::start(settings, Clock::system(), false).await.unwrap();
    let caller = Arc::new(Identity::at_the_terminal("tester")).acting_as().unwrap();
    let grant = tokens::Grant::Scopes(scopes.parse().unwrap());
    let request = tokens::TokenRequest { name: "host".parse().unwrap(), grant, days: Some(300) };
    let minted = tokens::mint(&app, &caller, request, &Origin::default()).await.unwrap();
    app.close().await;
    (minted.secret.reveal().to_owned(), minted.token.id.to_string())
}

/// A door with an authority, and the secret of a token that may have `*.example.com` and `backend`.
pub(crate) async fn door(certs: &Certs, more: &[(&str, &str)]) -> (Door, String) {
    let dir = certs.dir.path().display().to_string();
    let url = format!("sqlite://{}", certs.path("loki.db").display());
    let (secret, id) = token_before(&url, "write").await;
    let allow = format!(
        "[{{tokens: [{id}], domains: ['*.example.com', backend]}}, {{roles: [operator], domains: [op.example]}}]"
    );
    let usual = [("LOKI_CERTS_DIR", &*dir), ("LOKI_DATABASE_URL", &*url), ("LOKI_CERTIFICATES_ALLOW", &*allow)];
    let all: Vec<(&str, &str)> = usual.into_iter().chain(more.iter().copied()).collect();
    (Door::open(&all).await, secret)
}

async fn ask(who: &WithToken<'_>, path: &str, domain: &str) -> Answer {
    who.post(path, &json!({"domain": domain})).await
}

async fn got(who: &WithToken<'_>, path: &str, domain: &str) -> Value {
    let answer = ask(who, path, domain).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn facts(issued: &Value) -> Facts {
    let chain = lokid::pki::read::chain_of(issued["certificate"].as_str().unwrap().as_bytes(), "answer").unwrap();
    Facts::read(&chain[0]).unwrap()
}

#[actix_web::test]
async fn a_caller_gets_a_certificate_that_serves_its_domain_with_its_key() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    let answer = ask(&host, OBTAIN, "Deep.In.Example.COM").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.text);
    let issued = answer.json();
    let mut fields: Vec<&String> = issued.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["cached", "certificate", "domain", "issuerCert", "notAfter", "notBefore", "privateKey"]);
    assert_eq!((&issued["domain"], &issued["cached"]), (&"deep.in.example.com".into(), &false.into()));

    let write = |name: &str, field: &str| fs::write(certs.path(name), issued[field].as_str().unwrap()).unwrap();
    write("leaf.pem", "certificate");
    write("leaf.key", "privateKey");
    write("issuer.pem", "issuerCert");
    let path = |name: &str| certs.path(name).display().to_string();
    let verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "deep.in.example.com"];
    openssl(&[&verify[..], &["-CAfile", &path("issuer.pem"), &path("leaf.pem")]].concat());
    let public = |words: &[&str]| openssl(words).stdout;
    assert_eq!(
        public(&["x509", "-in", &path("leaf.pem"), "-noout", "-pubkey"]),
        public(&["pkey", "-in", &path("leaf.key"), "-pubout"])
    );
    let text = String::from_utf8(openssl(&["x509", "-in", &path("leaf.pem"), "-noout", "-text"]).stdout).unwrap();
    for part in ["P-256", "CA:FALSE", "TLS Web Server Authentication", "/.well-known/crl.der", "Version: 3"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("TLS Web Client Authentication"), "a host is not to pass as a client: {text}");
    let facts = facts(&issued);
    assert_eq!(
        (facts.not_after.rfc3339(), facts.not_before.rfc3339()),
        (text_of(&issued, "notAfter"), text_of(&issued, "notBefore"))
    );

    let log = door.audit("certificate.issue").await;
    assert_eq!((log.len(), log[0].actor_name.as_str()), (1, "host"));
    assert!(
        log[0].details.contains(&facts.serial) && log[0].details.contains("deep.in.example.com"),
        "{}",
        log[0].details
    );
    let database = fs::read(certs.path("loki.db")).unwrap();
    let wal = fs::read(certs.path("loki.db-wal")).unwrap_or_default();
    let secret = issued["privateKey"].as_str().unwrap().lines().nth(1).unwrap().as_bytes().to_vec();
    assert!(![database, wal].concat().windows(secret.len()).any(|window| window == secret), "kept in clear");
}

fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn the_curl_line_of_the_documents_works() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let script = format!(
        "ACCESS_TOKEN={secret}\ncurl -s -X POST http://localhost:{}/api/certificate \\\n -H \"Authorization: Bearer $ACCESS_TOKEN\" \\\n \
         -H \"Content-Type: application/json\" \\\n -d '{{\"domain\": \"app.example.com\"}}'",
        door.port
    );
    let done = tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &script]).output().unwrap())
        .await
        .unwrap();
    let issued: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(issued["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"), "{issued}");
    assert!(issued["privateKey"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
}

#[actix_web::test]
async fn the_same_is_handed_out_until_the_window_and_then_another() {
    let certs = Certs::new();
    let (door, secret) =
        door(&certs, &[("LOKI_CERTIFICATES_LIFETIME", "20d"), ("LOKI_CERTIFICATES_RENEW_BEFORE", "5d")]).await;
    let host = door.holder(&secret);
    let first = got(&host, OBTAIN, "a.example.com").await;
    let again = got(&host, OBTAIN, "a.example.com").await;
    assert_eq!((&again["privateKey"], &again["certificate"]), (&first["privateKey"], &first["certificate"]));
    assert_eq!(again["cached"], true);
    let fetched = &door.audit("certificate.fetch").await;
    assert_eq!((fetched.len(), fetched[0].actor_name.as_str()), (1, "host"), "who got the key is recorded");
    assert_ne!(got(&host, OBTAIN, "b.example.com").await["certificate"], first["certificate"]);
    door.clock.advance(DAY * 14 + Duration::from_mins(24 * 60 - 1));
    assert_eq!(got(&host, OBTAIN, "a.example.com").await["cached"], true);
    door.clock.advance(Duration::from_mins(2));
    let second = got(&host, OBTAIN, "a.example.com").await;
    assert_eq!(second["cached"], false);
    assert_ne!(second["privateKey"], first["privateKey"]);
    assert_eq!(got(&host, OBTAIN, "a.example.com").await["certificate"], second["certificate"]);
    assert_eq!(door.audit("certificate.issue").await.len(), 3);
}

#[actix_web::test]
async fn a_renewal_makes_another_at_once_but_not_too_often() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    let first = got(&host, RENEW, "a.example.com").await;
    let refused = ask(&host, RENEW, "a.example.com").await;
    refused.problem(429);
    assert_eq!(refused.json()["code"], "renew_too_soon");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3_590..=3_601).contains(&wait), "{wait}");
    assert_eq!(got(&host, OBTAIN, "a.example.com").await["certificate"], first["certificate"]);
    assert_eq!(got(&host, RENEW, "b.example.com").await["cached"], false, "another domain's time is its own");
    door.clock.advance(Duration::from_secs(wait));
    let second = got(&host, RENEW, "a.example.com").await;
    assert_ne!(second["privateKey"], first["privateKey"]);
    assert_eq!(got(&host, OBTAIN, "a.example.com").await["certificate"], second["certificate"]);
}

#[actix_web::test]
async fn callers_at_the_same_moment_get_one_and_the_same() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    let all = futures_util::future::join_all((0..20).map(|_| got(&host, OBTAIN, "a.example.com"))).await;
    for one in &all {
        assert_eq!((&one["certificate"], &one["privateKey"]), (&all[0]["certificate"], &all[0]["privateKey"]));
    }
    assert_eq!(all.iter().filter(|one| one["cached"] == false).count(), 1);
    assert_eq!(door.audit("certificate.issue").await.len(), 1);
    door.clock.advance(DAY);
    let renewed = futures_util::future::join_all((0..20).map(|_| ask(&host, RENEW, "a.example.com"))).await;
    let made = renewed.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((made, renewed.iter().filter(|answer| answer.status == 429).count()), (1, 19));
    assert_eq!(door.audit("certificate.issue").await.len(), 2);
}

#[actix_web::test]
async fn a_domain_that_no_rule_gives_is_refused_and_recorded() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    for other in ["example.com", "aexample.com", "example.com.evil.example", "op.example", "localhost"] {
        let refused = ask(&host, OBTAIN, other).await;
        refused.problem(403);
        assert_eq!(refused.json()["code"], "domain_not_allowed", "{other}");
        let denied = &door.audit("permission.denied").await[0];
        assert_eq!((denied.reason.as_str(), denied.actor_name.as_str()), ("domain_not_allowed", "host"));
        assert!(denied.details.contains(other), "{}", denied.details);
        ask(&host, RENEW, other).await.problem(403);
    }
    // Everything may be done with `*` but what a rule has to say; and a token's role is its maker's choice.
    ask(&door.token("*").await, OBTAIN, "a.example.com").await.problem(403);
    let admin = door.token("*").await;
    let made = admin.post("/api/enterprise/tokens", &json!({"name": "as operator", "role": "operator"})).await.json();
    ask(&door.holder(made["token"].as_str().unwrap()), OBTAIN, "op.example").await.problem(403);
    ask(&door.token("read audit").await, OBTAIN, "a.example.com").await.problem(403);
    assert!(door.audit("certificate.issue").await.is_empty());
    assert_eq!(got(&host, OBTAIN, "a.example.com").await["cached"], false);
    assert_eq!(got(&host, OBTAIN, "backend").await["domain"], "backend");
    // A person's role comes from a rule.
    let person = door.person("bob", "operators").await;
    let csrf = person.csrf().await;
    let request = person.ask("POST", OBTAIN).header("sec-fetch-site", "same-origin").header("x-csrf-token", csrf);
    assert_eq!(answer(request.json(&json!({"domain": "op.example"}))).await.status, 200);
}

#[actix_web::test]
async fn what_is_no_domain_is_422_and_what_is_no_body_neither() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    for wrong in [
        "",
        "*.example.com",
        "a_b.example.com",
        "a..example.com",
        "127.0.0.1",
        "a.example.com.",
        "https://a.example.com",
        "\u{0}",
        "b\u{fc}cher.example.com",
    ] {
        let refused = ask(&host, OBTAIN, wrong).await;
        assert!(refused.problem(422).starts_with("domain: "), "{wrong:?}: {}", refused.text);
    }
    for body in
        [json!({}), json!({"domain": 7}), json!({"domain": "a.example.com", "days": 9}), json!(["a.example.com"])]
    {
        host.post(OBTAIN, &body).await.problem(422);
    }
    answer(host.ask("POST", OBTAIN).form(&[("domain", "a.example.com")])).await.problem(415);
    Anonymous(&door).post(OBTAIN, &json!({"domain": "a.example.com"})).await.problem(401);
    assert!(door.audit("certificate.issue").await.is_empty());
}

#[actix_web::test]
async fn a_revoked_certificate_is_listed_and_replaced() {
    let certs = Certs::new();
    let (door, secret) = door(&certs, &[]).await;
    let host = door.holder(&secret);
    let (first, other) = (got(&host, OBTAIN, "a.example.com").await, got(&host, OBTAIN, "b.example.com").await);
    let (revoked, kept) = (facts(&first).serial, facts(&other).serial);
    let listed = async || {
        let list = Anonymous(&door).get("/.well-known/crl.pem").await;
        assert_eq!(list.status, 200, "{}", list.text);
        fs::write(certs.path("crl.pem"), &list.text).unwrap();
        let path = |name: &str| certs.path(name).display().to_string();
        let text = openssl(&["crl", "-in", &path("crl.pem"), "-CAfile", &path("ca.pem"), "-noout", "-text"]);
        assert!(String::from_utf8_lossy(&text.stderr).contains("verify OK"), "the authority signed it");
        String::from_utf8(text.stdout).unwrap().to_ascii_lowercase()
    };
    assert!(listed().await.contains("no revoked certificates"));
    let admin = door.person("ann", "admins").await;
    let page = admin.get("/certificates").await;
    assert!(page.text.contains("a.example.com") && page.text.contains(&revoked), "{}", page.text);
    let row = &page.text[page.text.find("a.example.com").unwrap()..];
    let path = row.split("action=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(admin.submit(path, &[]).await.status, 303);
    let text = listed().await;
    assert!(text.contains(&revoked) && !text.contains(&kept), "{text}");
    let log = door.audit("certificate.revoke").await;
    assert_eq!((log.len(), log[0].actor_kind.as_str()), (1, "person"));
    assert!(log[0].details.contains(&revoked), "{}", log[0].details);
    assert_eq!(admin.submit(path, &[]).await.status, 303);
    assert_eq!(door.audit("certificate.revoke").await.len(), 1, "once is enough");
    admin.submit("/certificates/crt-aaaaaaaaaaaa/revoke", &[]).await.problem(404);

    let second = got(&host, OBTAIN, "a.example.com").await;
    assert_eq!(second["cached"], false);
    assert_ne!(second["privateKey"], first["privateKey"]);
    let der = reqwest::get(door.at("/.well-known/crl.der")).await.unwrap();
    assert_eq!(der.headers()["content-type"], "application/pkix-crl");
    fs::write(certs.path("crl.der"), der.bytes().await.unwrap()).unwrap();
    openssl(&["crl", "-inform", "DER", "-in", &certs.path("crl.der").display().to_string(), "-noout"]);
    for who in ["vic", "bob"] {
        let person = door.person(who, if who == "bob" { "operators" } else { "nobody" }).await;
        person.get("/certificates").await.problem(403);
    }
}

#[actix_web::test]
async fn the_same_key_is_handed_out_after_a_restart_but_never_opens_under_another_secret() {
    let certs = Certs::new();
    let (mine, other) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let signing = lokid::keys::sign::SigningKey::generate().to_pem();
    let (first_door, secret) = door(&certs, &[("LOKI_SERVER_SECRET", mine), ("SIGNING_KEY", &signing)]).await;
    let first = got(&first_door.holder(&secret), OBTAIN, "a.example.com").await;
    let id = first_door.app.settings.certificates.allow[0].tokens[0].to_string();
    first_door.app.close().await;
    let dir = certs.dir.path().display().to_string();
    let allow = format!("[{{tokens: [{id}], domains: ['*.example.com']}}]");
    let again = async |server_secret: &str| {
        // The first server's last task may still hold its own file.
        let copy = certs.path(&format!("copy-{server_secret}.db"));
        fs::copy(certs.path("loki.db"), &copy).unwrap();
        let url = format!("sqlite://{}", copy.display());
        let env = [
            ("LOKI_CERTS_DIR", &*dir),
            ("LOKI_DATABASE_URL", &*url),
            ("LOKI_CERTIFICATES_ALLOW", &*allow),
            ("LOKI_SERVER_SECRET", server_secret),
            ("SIGNING_KEY", &signing),
        ];
        let door = Door::open(&env).await;
        got(&door.holder(&secret), OBTAIN, "a.example.com").await
    };
    let same = again(mine).await;
    assert_eq!((&same["privateKey"], &same["cached"]), (&first["privateKey"], &true.into()));
    let new = again(other).await;
    assert_eq!(new["cached"], false);
    assert_ne!(new["privateKey"], first["privateKey"]);
}

#[actix_web::test]
async fn without_an_authority_nothing_is_issued_and_no_path_is_shown() {
    let empty = tempfile::tempdir().unwrap();
    let certs = Certs::new();
    let dir = empty.path().display().to_string();
    let (door, secret) = door(&certs, &[("LOKI_CERTS_DIR", &dir)]).await;
    let host = door.holder(&secret);
    assert!(ask(&host, OBTAIN, "a.example.com").await.problem(409).contains("lokid certs ca"));
    Anonymous(&door).get("/.well-known/crl.pem").await.problem(404);
    // A leaf is no authority, and half a pair neither.
    fs::copy(certs.path("server.pem"), empty.path().join("ca.pem")).unwrap();
    fs::copy(certs.path("server.key"), empty.path().join("ca.key")).unwrap();
    let refused = ask(&host, OBTAIN, "a.example.com").await.problem(409);
    assert!(!refused.contains(&dir), "{refused}");
    fs::copy(certs.path("ca.pem"), empty.path().join("ca.pem")).unwrap();
    ask(&host, OBTAIN, "a.example.com").await.problem(409);
    fs::copy(certs.path("ca.key"), empty.path().join("ca.key")).unwrap();
    assert_eq!(ask(&host, OBTAIN, "a.example.com").await.status, 200);
    // It outlives no authority.
    door.clock.advance(DAY * 50);
    ask(&host, OBTAIN, "b.example.com").await.problem(409);
}
