//! The printed table.

use std::fmt::Write as _;
use std::time::Duration;

/// One row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) title: String,
    /// Name of the server.
    pub(crate) server: &'static str,
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    /// Measured time.
    pub(crate) took: Duration,
    /// Number of media packets sent by publishers.
    pub(crate) packets_in: u64,
    /// Number of media packets received by subscribers.
    pub(crate) packets_out: u64,
    /// Number of packets that subscribers should have received; 0 when unknown, as with simulcast.
    pub(crate) expected: u64,
    /// Number of lost packets, by gaps in the sequence numbers.
    pub(crate) lost: u64,
    /// CPU time of the server.
    pub(crate) cpu: Option<Duration>,
    /// CPU time of the server's busiest thread.
    pub(crate) busiest: Option<Duration>,
    /// CPU time of the generator.
    pub(crate) own_cpu: Option<Duration>,
    /// Latency from the publisher's send to the subscriber's socket.
    pub(crate) latency: Option<Quantiles>,
    /// Memory of the server per client, in bytes.
    pub(crate) bytes_each: Option<u64>,
    /// Remark.
    pub(crate) remark: String,
}

/// Quantiles of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: u32,
    pub(crate) p99: u32,
    pub(crate) p999: u32,
}

/// Returns the quantiles of these values, or `None` when there are none.
pub(crate) fn quantiles(mut values: Vec<u32>) -> Option<Quantiles> {
    values.sort_unstable();
    let at = |per_mille: usize| {
        let index = (values.len() * per_mille).div_ceil(1000).saturating_sub(1);
        values.get(index).copied()
    };
    Some(Quantiles {
        p50: at(500)?,
        p99: at(990)?,
        p999: at(999)?,
    })
}

/// Formats all rows as Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | server | pubs | subs | in/s | out/s | CPU µs/packet | CPU % | busiest thread % | generator % | p50 µs | p99 µs | p99.9 µs | lost % | missing % | kB each | |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let latency = |pick: fn(Quantiles) -> u32| {
            row.latency
                .map_or(String::new(), |found| micros(pick(found)))
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.title,
            row.server,
            row.publishers,
            row.subscribers,
            row.rate(row.packets_in),
            row.rate(row.packets_out),
            row.cpu_each(),
            row.percent(row.cpu),
            row.percent(row.busiest),
            row.percent(row.own_cpu),
            latency(|found| found.p50),
            latency(|found| found.p99),
            latency(|found| found.p999),
            part(row.lost, row.lost + row.packets_out),
            part(row.expected.saturating_sub(row.packets_out), row.expected),
            row.bytes_each.map_or(String::new(), |bytes| format!(
                "{}.{}",
                bytes / 1000,
                bytes % 1000 / 100
            )),
            row.remark,
        );
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
impl Row {
    fn rate(&self, count: u64) -> String {
        if self.took.is_zero() || count == 0 {
            return String::new();
        }
        format!("{:.0}", count as f64 / self.took.as_secs_f64())
    }

    /// Returns the CPU time of the server per received packet, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| self.packets_out > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / self.packets_out as f64)
    }

    fn cpu_each(&self) -> String {
        self.cpu_micros()
            .map_or(String::new(), |micros| format!("{micros:.2}"))
    }

    fn percent(&self, cpu: Option<Duration>) -> String {
        if self.took.is_zero() {
            return String::new();
        }
        cpu.map_or(String::new(), |cpu| {
            format!("{:.0}", cpu.as_secs_f64() / self.took.as_secs_f64() * 100.0)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn part(some: u64, all: u64) -> String {
    if all == 0 {
        return String::new();
    }
    format!("{:.3}", some as f64 / all as f64 * 100.0)
}

fn micros(nanoseconds: u32) -> String {
    format!("{}.{}", nanoseconds / 1000, nanoseconds % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let found = quantiles((1..=1000).rev().collect()).expect("some");
        assert_eq!((found.p50, found.p99, found.p999), (500, 990, 999));
        assert_eq!(quantiles(vec![7]).map(|found| found.p999), Some(7));
        assert_eq!(quantiles(Vec::new()), None);
    }
}
