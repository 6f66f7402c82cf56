//! The disk's own pace: `fdatasync` after a 4 KiB overwrite in place, one after the other.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// How long one measurement takes.
const WHILE: Duration = Duration::from_millis(700);

/// Syncs in a second.
pub(crate) fn rate(dir: &Path) -> f64 {
    let file = File::create(dir.join("syncs")).expect("a file");
    let block = [0x5a; 4096];
    for at in 0..256 {
        file.write_all_at(&block, at * 4096).expect("room on the disk");
    }
    file.sync_all().expect("syncs");
    let (start, mut times) = (Instant::now(), 0_u32);
    while start.elapsed() < WHILE {
        file.write_all_at(&block, u64::from(times % 256) * 4096).expect("room on the disk");
        file.sync_data().expect("syncs");
        times += 1;
    }
    f64::from(times) / start.elapsed().as_secs_f64()
}
