//! `lokid psk` and `lokid explain-token`.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};

use crate::Home;

#[test]
fn a_new_preshared_key_is_one_that_the_configuration_takes() {
    let home = Home::new();
    let made = home.ok("psk generate");
    let key = made.out.trim();
    assert_eq!((made.out.lines().count(), BASE64.decode(key.as_bytes()).unwrap().len()), (1, 32));
    assert!(made.err.contains("APIKey") && !made.err.contains(key), "{}", made.err);
    let other = home.ok("psk generate --json").json()["key"].as_str().unwrap().to_owned();
    assert_ne!(key, other);
    assert_eq!(home.run_with("config check", &[("LOKI_PSK_KEY", key), ("LOKI_PSK_NEXT_KEY", &other)]).code, 0);
    let refused = home.run_with("config check", &[("LOKI_PSK_KEY", "too-short")]);
    assert!(
        refused.code == 1 && refused.err.contains("lokid psk generate") && !refused.err.contains("too-short"),
        "{}",
        refused.err
    );
}

const CONFIG: &str = "enterprise:\n  auth:\n    jwt:\n      preset: github-actions\n      audience: https://loki.example\n      jwks_url: http://127.0.0.1:9/keys\n      rules:\n        - {name: deploy, claims: {repository_id: 42}}\n";

fn jwt(iss: &str) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = json!({"iss": iss, "aud": "https://loki.example", "sub": "repo:acme/app:ref:refs/heads/main", "exp": 1, "repository_id": "43"});
    format!("{}.{}.AAAA", part(json!({"alg": "RS256", "kid": "a"})), part(claims))
}

#[test]
fn a_token_is_explained_check_by_check_and_its_refusal_is_the_exit_code() {
    let home = Home::new();
    std::fs::create_dir(home.path().join(".loki")).unwrap();
    std::fs::write(home.path().join(".loki/config.yaml"), CONFIG).unwrap();
    let token = jwt("https://token.actions.githubusercontent.com");
    let shown = home.run(&format!("explain-token {token}"));
    assert_eq!(shown.code, 1, "{}", shown.shown());
    let lines: Vec<Vec<&str>> = shown.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let outcome = |check: &str| lines.iter().find(|line| line.get(1) == Some(&check)).map(|line| line[0]);
    assert_eq!(
        (outcome("iss"), outcome("alg"), outcome("aud")),
        (Some("pass"), Some("pass"), Some("pass")),
        "{}",
        shown.out
    );
    assert_eq!((outcome("exp"), outcome("signature")), (Some("fail"), Some("unknown")), "{}", shown.out);
    assert!(shown.err.starts_with("lokid: the token is refused: the issuer's keys cannot be read"), "{}", shown.err);
    assert!(shown.out.contains("repository_id: \"43\""), "a rule is suggested: {}", shown.out);
    assert!(!shown.out.contains(&token) && !shown.err.contains(&token));

    let as_json = home.run(&format!("explain-token --json {}", jwt("https://token.actions.githubusercontent.com/x")));
    assert_eq!((as_json.code, &as_json.json()["accepted"]), (1, &json!(false)));
    assert_eq!(as_json.json()["checks"][0]["check"], "iss");
    let from_input = explained_from_input(&home, &token);
    let lines_but_of_time =
        |text: &str| text.lines().filter(|l| !l.contains("now")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines_but_of_time(&String::from_utf8(from_input.stdout).unwrap()), lines_but_of_time(&shown.out));
    assert_eq!(home.run("explain-token nonsense").code, 1);
    assert!(!home.path().join(".loki/loki.db").exists(), "no database is needed");
}

fn explained_from_input(home: &Home, token: &str) -> Output {
    let mut command = home.command("explain-token -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_configuration_says_which_rules_a_stranger_could_satisfy() {
    let home = Home::new();
    let file = home.path().join("open.yaml");
    std::fs::write(&file, CONFIG.replace("claims: {repository_id: 42}", "claims: {ref: refs/heads/main}")).unwrap();
    let checked = home.ok("--config open.yaml config check");
    assert!(
        checked.err.contains("warning: enterprise.auth.jwt[0], \"deploy\"") && checked.err.contains("any stranger"),
        "{}",
        checked.err
    );
    std::fs::write(&file, CONFIG).unwrap();
    assert_eq!(home.ok("--config open.yaml config check").err, "");
}
