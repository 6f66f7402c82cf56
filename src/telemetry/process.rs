//! What the process takes of its machine, as Linux says it (`proc(5)`). Elsewhere there is nothing to say.

use std::fs;

use super::metrics::Reading;

/// The kernel counts processor time for programs in hundredths of a second, whatever its own tick is.
const TICKS: f64 = 100.0;

/// Memory, files and time, under the names that every Prometheus client uses.
pub fn readings() -> Vec<Reading> {
    let numbers = [
        ("process_resident_memory_bytes", "Resident memory", resident()),
        ("process_open_fds", "Open file descriptors", open_files()),
        ("process_max_fds", "The most file descriptors that may be open", most_files()),
    ];
    let gauges = numbers.into_iter().filter_map(|(name, help, value)| Some(Reading::one(name, help, value?)));
    let time = cpu().map(|s| Reading::one("process_cpu_seconds", "Processor time", s).counted());
    gauges.chain(time).collect()
}

fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().split(' ').next()?.parse::<f64>().ok()? * 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "a count of files is far below 2^52")]
fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() - 1) as f64)
}

fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

fn cpu() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold spaces; fields 14 and 15 are wanted.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Some(times.sum::<Result<f64, _>>().ok()? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_files_and_time() {
        assert!(resident().unwrap() > 1e6 && cpu().is_some());
        assert!(open_files().unwrap() >= 3.0 && open_files() <= most_files());
    }
}
