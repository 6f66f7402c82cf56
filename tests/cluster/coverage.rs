//! The events that only processes can make: each act leaves exactly one.

use std::{collections::BTreeMap, process::Command, time::Duration};

use super::{
    covered::BY_PROCESSES,
    nats::{Fleet, LEADER, Nats, events},
    server::{Site, until},
};

const SECONDS: Duration = Duration::from_secs(15);

/// How often each of them is in the log.
fn counts(site: &Site) -> BTreeMap<&'static str, usize> {
    BY_PROCESSES.iter().map(|event| (event.as_str(), events(site, event.as_str()).len())).collect()
}

/// Waits until this event is there once more, and looks that none of the others came with it but those of `with`.
fn once(site: &Site, before: &BTreeMap<&'static str, usize>, event: &str, with: &[&str]) {
    assert!(until(SECONDS, || events(site, event).len() > before[event]), "no {event}");
    for (name, count) in counts(site) {
        let more = usize::from(name == event || with.contains(&name));
        assert_eq!(count, before[name] + more, "{name} beside {event}");
    }
}

#[test]
fn each_act_of_a_process_leaves_one_event() {
    let (nats, fleet) = (Nats::start(), Fleet::new());
    let site = fleet.node("a", &nats, &[LEADER]);
    let none = BY_PROCESSES.iter().map(|event| (event.as_str(), 0)).collect();
    let mut server = site.start();
    once(&site, &none, "server.start", &["config.load"]);

    // A value that is no ring is refused, and ours put in its place.
    let (runtime, before) = (actix_web::rt::System::new(), counts(&site));
    let good = runtime.block_on(nats.value()).value;
    runtime.block_on(nats.put(b"no ring"));
    assert!(until(SECONDS, || runtime.block_on(nats.value()).value == good), "not put right");
    once(&site, &before, "key.sync", &["key.refuse"]);

    let before = counts(&site);
    let told = Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert!(told.success() && server.child.wait().unwrap().success());
    once(&site, &before, "server.stop", &[]);
    let seen = counts(&site);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}
