//! `lokid check-access` and `lokid proxy-config`: which rule decides, and what a proxy must be told.

use lokid::store::{Database, Place, Store};

use crate::{
    Home,
    keys::configured,
    values::{at, sign_in},
};

const APPS: &str = "
server: { trusted_proxies: [127.0.0.1] }
forward_auth:
  apps:
    - host: grafana.example.com
      public: [/health]
      methods: [GET, POST]
      rules: [{ path: /admin, groups: [keepers] }, { path: /, scope: read }]
    - host: wiki.example.com
      headers: remote
      rules: [{ path: /team, groups: [ops] }]
";
const PROXIES: [&str; 4] = ["nginx", "traefik", "caddy", "envoy"];
const IDENTITY: [&str; 10] = [
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "remote-user",
    "remote-email",
    "remote-groups",
    "remote-name",
    "x-loki-jwt-assertion",
    "x-pomerium-jwt-assertion",
];

/// A home where Ann, an operator of the group ops, is signed in.
async fn with_ann() -> Home {
    let home = configured(APPS);
    let database = Database::Sqlite(home.path().join(".loki/loki.db"));
    let store = Store::open(Place { database, node: "test".to_owned(), is_server: false }).await.unwrap();
    let now = lokid::domain::time::Clock::system().now();
    store.act(sign_in("ann", None, now.seconds() - at(0).seconds())).await.unwrap().unwrap();
    store.close().await;
    home
}

/// The exit code and the reason.
fn asked(home: &Home, words: &str) -> (i32, String) {
    let ended = home.run(&format!("check-access {words}"));
    let json = home.run(&format!("check-access --json {words}"));
    assert_eq!((json.code, json.json()["passes"].as_bool()), (ended.code, Some(ended.code == 0)), "{words}");
    assert_eq!(ended.out.starts_with("passes: "), ended.code == 0, "{words}: {}", ended.out);
    (ended.code, ended.out)
}

#[actix_web::test]
async fn the_rule_that_decides_is_named_and_the_exit_code_is_the_decision() {
    let home = with_ann().await;
    let (grafana, wiki) = ("https://grafana.example.com", "https://wiki.example.com");
    let ann = "--as ann@example.com";
    for (words, code, why) in [
        (format!("--url {grafana}/health"), 0, "the path is public"),
        (format!("--url {grafana}/health/x"), 0, "the path is public"),
        (format!("--url {grafana}/healthy"), 1, "nobody is signed in"),
        (
            format!("--url {grafana}/a"),
            1,
            "rule 2 of grafana.example.com (/) asks for scope read, and nobody is signed in",
        ),
        (format!("{ann} --url {grafana}/a"), 0, "rule 2 of grafana.example.com"),
        (format!("{ann} --url {grafana}"), 0, "rule 2"),
        (format!("{ann} --url {grafana}/a?b=/admin"), 0, "rule 2"),
        (format!("{ann} --url {grafana}/admin"), 1, "rule 1 of grafana.example.com (/admin) asks for"),
        (format!("{ann} --url {grafana}/ADMIN/x"), 1, "rule 1"),
        (format!("{ann} --url {wiki}/team/x"), 0, "groups ops"),
        (format!("{ann} --url {wiki}/x"), 1, "does not pass"),
        (format!("{ann} --method POST --url {grafana}/a"), 0, "rule 2"),
        (format!("{ann} --method DELETE --url {grafana}/a"), 1, "does not pass"),
        (format!("{ann} --url https://a.example.com/"), 1, "no app is configured for \"a.example.com\""),
    ] {
        let (ended, said) = asked(&home, &words);
        assert!(ended == code && said.contains(why), "{words}: {ended} {said}");
    }
}

/// What a URL parser would tidy up must be refused as the server refuses it.
#[actix_web::test]
async fn a_path_that_programs_read_in_different_ways_does_not_pass() {
    let home = with_ann().await;
    let url = "--as ann@example.com --url https://grafana.example.com";
    for path in ["/a/../health", "/a/./b", "/%2e%2e/health", "//health", "/a%2fb", "/a;b", "/health/..%2fadmin"] {
        let (code, said) = asked(&home, &format!("{url}{path}"));
        assert_eq!(code, 1, "{path}: {said}");
        assert!(said.contains("which programs read in different ways"), "{path}: {said}");
    }
    assert_eq!(asked(&home, &format!("{url}/a/b")).0, 0);
}

#[actix_web::test]
async fn what_is_no_address_or_nobody_known_is_refused_with_a_hint() {
    let home = with_ann().await;
    for wrong in ["--url nonsense", "--url /health", "--as bob@example.com --url https://grafana.example.com/a"] {
        let ended = home.run(&format!("check-access {wrong}"));
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{wrong}");
        assert!(ended.err.contains("hint: "), "{wrong}: {}", ended.err);
    }
    assert_eq!(home.run("check-access").code, 2);
    home.ok("check-access --as ann@example.com --url https://grafana.example.com/a");
}

/// Whether a line names the header, and not only as a part of another name.
fn names(text: &str, header: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.split(|c| !word(c)).any(|found| found.trim_start_matches('-') == header)
}

#[test]
fn every_proxy_is_told_of_every_identity_header_of_both_dialects_for_each_app() {
    let home = configured(APPS);
    for proxy in PROXIES {
        for (app, other) in [("grafana.example.com", "wiki.example.com"), ("wiki.example.com", "grafana.example.com")] {
            let text = home.ok(&format!("proxy-config {proxy} --host {app}")).out;
            for name in IDENTITY {
                assert!(names(&text, name), "{proxy} {app}: {name}");
                // nginx drops names with underscores by itself, and Caddy with one line for all of them.
                let underscored = name.replace('-', "_");
                let by_itself = proxy == "nginx" || (proxy == "caddy" && text.contains("request_header -*_*"));
                assert!(by_itself || names(&text, &underscored), "{proxy} {app}: {underscored}");
            }
            assert!(text.contains(app) && !text.contains(other) && text.contains("/auth/verify"), "{proxy}: {text}");
        }
        let both = home.ok(&format!("proxy-config {proxy}")).out;
        assert!(both.contains("grafana.example.com") && both.contains("wiki.example.com"), "{proxy}");
    }
}

#[test]
fn an_app_that_is_not_configured_has_no_proxy_configuration() {
    let home = configured(APPS);
    for proxy in PROXIES {
        let refused = home.run(&format!("proxy-config {proxy} --host a.example.com"));
        assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{proxy}");
        assert!(refused.err.contains("a.example.com") && refused.err.contains("forward_auth.apps"), "{}", refused.err);
        home.ok(&format!("proxy-config {proxy} --host wiki.example.com"));
    }
    assert_eq!(home.run("proxy-config apache").code, 2);
    assert!(Home::new().run("proxy-config nginx").err.contains("no app is configured"));
}
