//! What each verb says of itself, and how wrong usage ends.

use insta::assert_snapshot;
use serde_json::json;

use crate::Home;

#[test]
fn every_verb_explains_itself() {
    let home = Home::new();
    assert_snapshot!(home.ok("--help").out, @r#"
    The door in front of a team's dashboards and APIs

    Usage: lokid [OPTIONS] <COMMAND>

    Commands:
      start          Serve
      demo           Everything on an embedded default, with four people to sign in as
      enterprise     Tokens and the audit log
      run            Runs of a server: start, stop, list, follow their logs
      keys           Signing keys
      certs          Certificates of an authority, a server and clients
      psk            Pre-shared keys
      cluster        Several nodes: the bootstrap token, the keys that they share, who they are
      explain-token  Say which check a signed token of a CI job or a cloud machine passes, and which not
      proxy-config   Print what a reverse proxy must be told so that it asks lokid about every request
      check-access   Say which rule lets somebody into an app behind the door, or does not
      config         Look at the configuration
      doctor         Check configuration, database, providers and clock, or a reverse proxy
      completions    Print completions for a shell
      help           Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  Configuration file [default: .loki/config.yaml, then
                           ~/.config/loki/config.yaml]
          --json           Print JSON for programs
      -h, --help           Print help
      -V, --version        Print version
    "#);
}

#[test]
fn the_verbs_that_serve_explain_themselves() {
    let home = Home::new();
    assert_snapshot!(home.ok("start --help").out, @r#"
    Serve

    Usage: lokid start [OPTIONS] [PRD]

    Arguments:
      [PRD]  Also start one run, from this PRD

    Options:
          --listen <ADDRESS>  Address to listen on: host, host:port or :port
          --config <FILE>     Configuration file [default: .loki/config.yaml, then
                              ~/.config/loki/config.yaml]
          --json              Print JSON for programs
      -h, --help              Print help

    Exit codes: 0 ended in order, 1 did not start, 2 wrong usage, 10 PostgreSQL was not reached, 11 NATS
    was not reached, 12 no leader published a signing key in time, 13 the bootstrap token is another
    one, 14 another server has this node's name.
    "#);
    assert_snapshot!(home.ok("demo --help").out, @r#"
    Everything on an embedded default, with four people to sign in as

    Usage: lokid demo [OPTIONS]

    Options:
          --dir <DIRECTORY>  Keep the data in this directory [default: a temporary one that is removed
                             at the end]
          --port <PORT>      Port to listen on; 0 picks a free one [default: 57374]
          --open             Open the page in a browser
          --config <FILE>    Configuration file [default: .loki/config.yaml, then
                             ~/.config/loki/config.yaml]
          --json             Print JSON for programs
      -h, --help             Print help
    "#);
    assert_snapshot!(home.ok("enterprise token generate --help").out, @r#"
    Make a token; its secret is shown once

    Usage: lokid enterprise token generate [OPTIONS] <NAME>

    Arguments:
      <NAME>  What to call it

    Options:
          --scopes <SCOPES>  Scopes, separated by commas: *, control, write, read, audit
          --role <ROLE>      A role: admin, operator, viewer, auditor or one of your own
          --expires <DAYS>   Days until it expires [default: enterprise.tokens.default_expiration_days]
          --server <URL>     Act on this server, with the token in LOKI_TOKEN, instead of the local
                             database
          --config <FILE>    Configuration file [default: .loki/config.yaml, then
                             ~/.config/loki/config.yaml]
          --json             Print JSON for programs
      -h, --help             Print help
    "#);
    assert_snapshot!(home.ok("enterprise token rotate --help").out, @r#"
    Put a new token in the place of an old one

    Usage: lokid enterprise token rotate [OPTIONS] <TOKEN>

    Arguments:
      <TOKEN>  Name or id

    Options:
          --grace <HOURS>  How long the old one still works [default: 24]
          --server <URL>   Act on this server, with the token in LOKI_TOKEN, instead of the local
                           database
          --config <FILE>  Configuration file [default: .loki/config.yaml, then
                           ~/.config/loki/config.yaml]
          --json           Print JSON for programs
      -h, --help           Print help
    "#);
    assert_snapshot!(home.ok("enterprise audit tail --help").out, @r#"
    Show the last entries

    Usage: lokid enterprise audit tail [OPTIONS]

    Options:
      -f, --follow         Go on with every new entry until interrupted
          --event <EVENT>  Only this event, such as auth.fail, or the beginning of one and *, such as
                           'auth.*'
          --after <SEQ>    Begin behind this entry, for example where an earlier --follow ended
      -n, --lines <LINES>  How many [default: 20]
          --server <URL>   Act on this server, with the token in LOKI_TOKEN, instead of the local
                           database
          --config <FILE>  Configuration file [default: .loki/config.yaml, then
                           ~/.config/loki/config.yaml]
          --json           Print JSON for programs
      -h, --help           Print help
    "#);
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "help leaves nothing behind");
}

#[test]
fn every_other_verb_shows_its_usage() {
    let home = Home::new();
    for verb in [
        "enterprise",
        "enterprise status",
        "enterprise token",
        "enterprise token list",
        "enterprise token revoke",
        "enterprise audit",
        "enterprise audit summary",
        "enterprise audit verify",
        "enterprise audit export",
        "enterprise audit retain",
        "enterprise audit keys",
        "keys",
        "keys generate",
        "keys list",
        "keys jwks",
        "keys rotate",
        "keys rotate add",
        "keys rotate promote",
        "keys rotate remove",
        "keys revoke",
        "certs",
        "certs ca",
        "certs server",
        "certs client",
        "certs jwt",
        "certs revoke",
        "certs verify",
        "psk",
        "psk generate",
        "explain-token",
        "check-access",
        "proxy-config",
        "config",
        "config check",
        "config show",
        "config reference",
        "doctor",
        "completions",
    ] {
        assert!(home.ok(&format!("{verb} --help")).out.contains("Usage: lokid"), "{verb}");
    }
}

#[test]
fn wrong_usage_is_2_a_refusal_is_1_and_help_leads_on() {
    let home = Home::new();
    for wrong in [
        "",
        "nothing",
        "start --port x",
        "enterprise token generate",
        "enterprise token generate a --scopes read --role viewer",
        "enterprise token generate a --expires soon",
        "enterprise audit tail -n 0",
        "enterprise audit tail -n -1",
        "enterprise token generate a --expires -1",
        "enterprise token rotate a --grace -1",
    ] {
        let ended = home.run(wrong);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{wrong}: {}", ended.shown());
        assert!(!ended.err.contains("unexpected argument '-1'"), "a number is not taken for an option: {}", ended.err);
    }
    for refused in [
        "enterprise token generate a --scopes root",
        "enterprise token generate a --role owner",
        "enterprise token generate a --expires 0",
        "enterprise token revoke nobody",
        "enterprise token rotate nobody",
        "enterprise token generate tok-1",
        "enterprise audit tail --event nothing",
        "--config missing.yaml config check",
    ] {
        let ended = home.run(refused);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{refused}: {}", ended.shown());
        assert!(ended.err.starts_with("lokid: "), "{}", ended.err);
    }
    assert_eq!(home.ok("enterprise token list --all --json").json(), json!([]));
}
