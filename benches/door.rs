//! What the door costs: `make bench`. The release binary with one worker on core 0, load from core 1, three
//! interleaved runs, medians. Every bar is a ratio to something measured beside it in the same run: a bare
//! handler of the same build, or the disk's own sync rate. A bar that is missed is printed as missed.

#[path = "door/bare.rs"]
mod bare;
#[path = "door/events.rs"]
mod events;
#[path = "door/handshakes.rs"]
mod handshakes;
#[path = "../tests/durability/http.rs"]
#[expect(dead_code, reason = "shared with the durability tests")]
mod http;
#[path = "door/load.rs"]
mod load;
#[path = "door/measures.rs"]
mod measures;
#[path = "door/process.rs"]
mod process;
#[path = "door/runs.rs"]
mod runs;
#[path = "../tests/durability/server.rs"]
mod server;
#[path = "door/site.rs"]
mod site;
#[path = "door/storm.rs"]
mod storm;
#[path = "door/sync.rs"]
mod sync;
#[path = "door/table.rs"]
mod table;
#[path = "door/workload.rs"]
mod workload;

use std::process::{Command, ExitCode, Stdio};

/// Runs of each measure.
const RUNS: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare", port] => bare::serve(port.parse().expect("a port")),
        ["handshakes", kind, port, directory] => {
            handshakes::shake(kind, port.parse().expect("a port"), directory.as_ref());
        }
        ["handshakes", "--bench"] => table::print(&measures::handshakes()),
        ["signatures", alg, keys, tokens] => workload::measure(alg, keys.as_ref(), tokens.as_ref()),
        ["bearing", "--bench"] => table::print(&measures::bearing()),
        ["forwarding", "--bench"] => table::print(&measures::forwarding()),
        ["storm", "--bench"] => table::print(&storm::storm()),
        ["runs", "--bench"] => table::print(&runs::runs()),
        ["events", directory] => events::measure(directory.as_ref()),
        _ => return bench(),
    }
    ExitCode::SUCCESS
}

fn bench() -> ExitCode {
    for (program, package) in [("wrk", "wrk"), ("taskset", "util-linux")] {
        let found = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            eprintln!("the bench needs {program}: apt-get install {package}");
            return ExitCode::FAILURE;
        }
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("the bench needs two cores: one for the server, one for the load");
        return ExitCode::FAILURE;
    }
    let mut rows = measures::reading();
    rows.extend(measures::forwarding());
    rows.extend(measures::handshakes());
    rows.extend(measures::bearing());
    rows.extend(storm::storm());
    rows.extend(measures::writing());
    rows.extend(runs::runs());
    rows.extend(measures::standing());
    table::print(&rows);
    ExitCode::SUCCESS
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
