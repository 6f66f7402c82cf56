//! What a process is: how fast it is ready, how much memory it holds, how large its file is.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::server::{Site, until};

/// Resident memory in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib / 1024.0)
}

/// Milliseconds from the start of the process until it answers that it is ready, and its memory a little later.
pub(crate) fn start(site: &Site) -> (f64, f64) {
    let start = Instant::now();
    let server = site.spawn();
    let mut http = server.http();
    let ready = until(Duration::from_secs(10), || http.get("/readyz", &[]).is_ok_and(|a| a.status == 200));
    assert!(ready, "{}", fs::read_to_string(site.output()).unwrap_or_default());
    let taken = start.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    (taken.as_secs_f64() * 1000.0, resident(server.child.id()))
}

/// Stops a process of ours (SIGSTOP), or lets it go on.
pub(crate) fn pause(pid: u32, stop: bool) {
    let signal = if stop { "-STOP" } else { "-CONT" };
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
}

#[expect(clippy::cast_precision_loss, reason = "a size to be read, not to be reckoned with")]
/// MiB of the binary as it was built (the release profile strips it).
pub(crate) fn binary() -> f64 {
    fs::metadata(env!("CARGO_BIN_EXE_lokid")).map_or(f64::NAN, |m| m.len() as f64 / f64::from(1 << 20))
}
