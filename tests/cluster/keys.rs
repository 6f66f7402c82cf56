//! One signing key for all nodes: from a leader, from NATS, from disk; rotated for all of them.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{
    nats::{Fleet, LEADER, Nats, PASSWORD, does_not_start, events, mode, new_token, published, until_published},
    server::{Server, Site, until},
};

const SECONDS: Duration = Duration::from_secs(8);

fn kids(server: &Server) -> Vec<String> {
    published(&mut server.http())
}

fn is_ready(server: &Server) -> bool {
    server.http().get("/readyz", &[]).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_leader_and_two_followers_come_to_one_key_which_nats_holds_sealed() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let followers = [fleet.node("b", &nats, &[]), fleet.node("c", &nats, &[])];
    let waiting = followers.each_ref().map(Site::spawn);
    let site = fleet.node("a", &nats, &[LEADER]);
    let leader = site.start();
    let keys = kids(&leader);
    assert_eq!(keys.len(), 1);
    for follower in &waiting {
        assert!(until(Duration::from_secs(20), || is_ready(follower)), "a follower does not start");
        assert_eq!(kids(follower), keys);
    }
    let value = actix_web::rt::System::new().block_on(nats.value()).value;
    let text = String::from_utf8(value.to_vec()).unwrap();
    assert!(text.contains(&keys[0]) && !text.contains("PRIVATE"), "{text}");
    let sealed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let body = data_encoding::BASE64.decode(sealed["sealed"].as_str().unwrap().as_bytes()).unwrap();
    let clear = b"PRIVATE KEY";
    assert!(!body.windows(clear.len()).any(|part| part == clear));
    for site in [&site, &followers[0], &followers[1]] {
        let copy = site.dir.join("cluster/ring");
        assert_eq!((mode(&copy), mode(copy.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read(copy).unwrap(), text.as_bytes());
        assert_eq!(events(site, "key.promote").len(), 1);
    }
    let shown = site.run(&["cluster", "key", "show"]);
    assert!(shown.matches(&keys[0]).count() == 2, "{shown}");
}

#[test]
fn of_two_leaders_that_start_at_once_one_wins() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    for round in ["r1", "r2", "r3", "r4", "r5"] {
        let bucket = ("LOKI_CLUSTER_BUCKET", round);
        let sites = ["x", "y"].map(|name| fleet.node(&format!("{round}-{name}"), &nats, &[LEADER, bucket]));
        let servers = sites.each_ref().map(Site::spawn);
        for server in &servers {
            assert!(until(Duration::from_secs(20), || is_ready(server)), "a leader does not start");
        }
        let [a, b] = servers.each_ref().map(kids);
        assert_eq!(a, b, "{round}");
        assert_eq!(a.len(), 1, "{round}");
    }
}

#[test]
fn without_a_leader_a_node_gives_up_after_half_a_minute() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[]);
    let begun = Instant::now();
    let (code, said) = does_not_start(&site);
    let took = begun.elapsed();
    assert_eq!(code, 12, "{said}");
    assert!(said.contains("bucket loki-jwt-key, key signing-key") && said.contains("cluster.leader: true"), "{said}");
    assert!(took > Duration::from_secs(29) && took < Duration::from_secs(31), "{took:?}");
}

#[test]
fn another_bootstrap_token_is_refused_at_once_by_name() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let leader = fleet.node("a", &nats, &[LEADER]).start();
    fleet.write_tokens(&[&new_token(2)]);
    let site = fleet.node("b", &nats, &[LEADER]);
    let begun = Instant::now();
    let (code, said) = does_not_start(&site);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("sealed under the bootstrap token") && said.contains("bootstrap_token_file"), "{said}");
    assert!(!said.contains(&new_token(2)) && !site.dir.join("cluster/ring").exists());
    // During a rotation of the token both open.
    fleet.write_tokens(&[&new_token(2), &new_token(1)]);
    let follower = site.start();
    assert_eq!(kids(&follower), kids(&leader));
    // Sealed anew, the old one is of no use any more.
    site.run(&["cluster", "key", "publish"]);
    fleet.write_tokens(&[&new_token(2)]);
    let late = fleet.node("c", &nats, &[]);
    assert_eq!(kids(&late.start()), kids(&leader));
    fleet.write_tokens(&[&new_token(1)]);
    assert_eq!(does_not_start(&fleet.node("d", &nats, &[])).0, 13);
}

#[test]
fn with_nats_away_a_node_starts_from_its_copy_and_one_without_says_what_is_missing() {
    let (mut nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER]);
    let mut server = site.start();
    let keys = kids(&server);
    server.kill();
    nats.kill();
    let server = site.start();
    assert_eq!(kids(&server), keys);
    let nats_is = |what: &str| {
        let ready = server.http().get("/readyz", &[]).unwrap();
        ready.status == 200 && ready.json()["nats"].as_str().is_some_and(|says| says.starts_with(what))
    };
    assert!(until(SECONDS, || nats_is("no answer")));
    let new = fleet.node("b", &nats, &[("LOKI_CLUSTER_WAIT", "1s")]);
    let (code, said) = does_not_start(&new);
    assert_eq!(code, 11, "{said}");
    assert!(said.contains(&nats.url()) && said.contains("cluster.nats_url"), "{said}");
    // What came after it began is found without a restart.
    nats.start_again();
    assert_eq!(kids(&new.start()), keys);
    assert!(until(SECONDS, || nats_is("ok")));
    site.run(&["keys", "rotate", "add"]);
    let both = [keys, published_next(&site)].concat();
    until_published(&server, &both, SECONDS);
}

/// The key that is next, as the command line lists it.
fn published_next(site: &Site) -> Vec<String> {
    let listed: serde_json::Value = serde_json::from_str(&site.run(&["--json", "keys", "list"])).unwrap();
    let next = listed.as_array().unwrap().iter().filter(|key| key["state"] == "next");
    next.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_rotation_reaches_every_node_also_when_nats_was_restarted_meanwhile() {
    let (mut nats, fleet) = (Nats::start(), Fleet::new());
    let (a, b) = (fleet.node("a", &nats, &[LEADER]), fleet.node("b", &nats, &[]));
    let (one, two) = (a.start(), b.start());
    let old = kids(&one);
    a.run(&["keys", "rotate", "add"]);
    let next = published_next(&a);
    let both = [old.clone(), next.clone()].concat();
    until_published(&one, &both, SECONDS);
    until_published(&two, &both, SECONDS);
    let refused = super::nats::refuses(&b, &["keys", "rotate", "promote"]);
    assert!(refused.contains("may sign from"), "{refused}");
    nats.kill();
    let refused = super::nats::refuses(&b, &["keys", "rotate", "promote", "--force"]);
    assert!(refused.contains("cluster.nats_url"), "{refused}");
    assert_eq!((kids(&one), kids(&two)), (both.clone(), both));
    nats.start_again();
    b.run(&["keys", "rotate", "promote", "--force"]);
    let turned = [next.clone(), old.clone()].concat();
    until_published(&one, &turned, SECONDS);
    until_published(&two, &turned, SECONDS);
    a.run(&["keys", "revoke", &old[0]]);
    until_published(&two, &next, SECONDS);
    // A node that was away takes the newer ring at its start, and says so.
    drop(two);
    a.run(&["keys", "rotate", "add"]);
    let two = b.start();
    assert_eq!(kids(&two).len(), 2);
    assert_eq!(events(&b, "key.sync").len(), 1);
}

#[test]
fn a_hundred_flaps_of_nats_leave_nothing_behind() {
    let (mut nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER]);
    let server = site.start();
    let keys = kids(&server);
    let (before, begun) = (processor_time(&server), Instant::now());
    for _ in 0..100 {
        nats.kill();
        nats.start_again();
    }
    let (spent, took) = (processor_time(&server).saturating_sub(before), begun.elapsed());
    println!("100 flaps in {took:?} cost the node {spent:?} of processor time");
    assert!(spent < took / 4, "{spent:?} of {took:?}");
    site.run(&["keys", "rotate", "add"]);
    until_published(&server, &[keys, published_next(&site)].concat(), SECONDS);
    let consumers = actix_web::rt::System::new()
        .block_on(async { nats.bucket("loki-jwt-key").await.stream.get_info().await.unwrap().state.consumer_count });
    assert_eq!(consumers, 0);
}

/// User and system time of a process, in the kernel's hundredths of a second.
fn processor_time(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

#[test]
fn nats_as_it_is_deployed_asks_for_a_password_over_tls_that_names_it() {
    let (fleet, dir) = (Fleet::new(), tempfile::tempdir().unwrap());
    let certs = dir.path().to_str().unwrap();
    let tool = Site::new(fleet.dir.path());
    tool.run(&["certs", "ca", "--dir", certs]);
    tool.run(&["certs", "server", "--dir", certs, "--dns", "nats.localhost"]);
    let authority = dir.path().join("ca.pem").display().to_string();
    let nats = Nats::as_deployed(dir);
    let at = |host: &str| format!("tls://{host}:{}", nats.port);
    let with = |name: &str, url: &str, password: &'static str, authority: &str| {
        let mut site = fleet.node(name, &nats, &[LEADER, ("LOKI_CLUSTER_WAIT", "1s"), ("LOKI_LOG_LEVEL", "trace")]);
        site.env.push(("LOKI_CLUSTER_NATS_URL", url.to_owned()));
        site.env.push(("LOKI_CLUSTER_NATS_USER", "lokid".to_owned()));
        site.env.push(("LOKI_CLUSTER_NATS_PASSWORD", password.to_owned()));
        site.env.push(("LOKI_CLUSTER_NATS_CA_FILE", authority.to_owned()));
        site
    };
    let refused = |site: Site, why: &str| {
        let (code, said) = does_not_start(&site);
        assert!(code == 11 && said.contains("cluster.nats_") && said.contains(why), "{code} {said}");
        assert!(!said.contains(PASSWORD) && !said.contains("not the password"), "{said}");
    };
    let home = at("localhost");
    refused(with("a", &home, "not the password", &authority), "refuses");
    // A name that the certificate does not have, and an authority that did not sign it.
    refused(with("b", &at("127.0.0.2"), PASSWORD, &authority), "cannot be reached");
    let other = fleet.dir.path().join("others").display().to_string();
    tool.run(&["certs", "ca", "--dir", &other]);
    refused(with("c", &home, PASSWORD, &format!("{other}/ca.pem")), "cannot be reached");
    let site = with("d", &home, PASSWORD, &authority);
    let server = site.start();
    site.run(&["keys", "rotate", "add"]);
    assert!(until(SECONDS, || kids(&server).len() == 2));
    drop(server);
    let said = fs::read_to_string(site.output()).unwrap();
    assert!(said.contains("DEBUG") && !said.contains(PASSWORD) && !said.contains(&new_token(1)), "{said}");
}

#[test]
fn a_node_that_starts_from_an_old_copy_takes_nothing_back() {
    let Some(url) = actix_web::rt::System::new().block_on(super::postgres::fresh_database()) else { return };
    let (mut nats, fleet) = (Nats::start(), Fleet::new());
    let shared =
        [("LOKI_DATABASE_URL", url.as_str()), ("LOKI_SERVER_SECRET", "of both nodes, 32 characters or more"), LEADER];
    let (a, b) = (fleet.node("a", &nats, &shared), fleet.node("b", &nats, &shared));
    drop(a.start());
    let other = b.start();
    b.run(&["keys", "rotate", "add"]);
    assert!(until(SECONDS, || kids(&other).len() == 2));
    nats.kill();
    let late = a.start();
    assert_eq!(kids(&late).len(), 1);
    nats.start_again();
    until_published(&late, &kids(&other), SECONDS);
    assert_eq!((events(&a, "key.remove").len(), events(&a, "key.add").len()), (0, 2));
}
