//! The lower bound of a durable write: the duration of one disk sync.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Number of measured syncs.
const SAMPLES: usize = 300;

/// Returns the median time to append 4 KiB to a file in `folder` and sync its content.
pub(crate) fn median(folder: &Path) -> Result<Duration> {
    let path = folder.join("fsync.probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        samples.push(begin.elapsed());
    }
    std::fs::remove_file(path)?;
    samples.sort_unstable();
    Ok(samples[SAMPLES / 2])
}
