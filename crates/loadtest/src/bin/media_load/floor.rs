//! The minimum cost of forwarding on this machine, as a row of the table.

use std::time::Duration;

use anyhow::Result;
use parlor_testkit::media::floor;

use crate::modes::Load;
use crate::options::Options;
use crate::table::{Row, quantiles};

/// Forwards the same load without encryption.
pub(crate) fn measure(options: &Options, load: &Load) -> Result<Vec<Row>> {
    let time = Duration::from_secs(options.seconds());
    let floor = floor::measure(&load.sources(), load.subscribers, time, options.sample)?;
    Ok(vec![Row {
        title: load.title.clone(),
        server: "floor",
        publishers: load.publishers,
        subscribers: load.subscribers,
        took: time,
        packets_in: floor.packets_in,
        packets_out: floor.packets_out,
        expected: floor.packets_in * load.subscribers as u64,
        cpu: Some(floor.cpu),
        busiest: Some(floor.cpu),
        latency: quantiles(floor.latencies_ns),
        remark: "unencrypted, one system call per packet".to_owned(),
        ..Row::default()
    }])
}
