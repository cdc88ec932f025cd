//! The printed table.

use std::fmt::Write;
use std::time::Duration;

use crate::measure::Times;

/// One row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) title: String,
    /// Number of open sockets.
    pub(crate) peers: usize,
    /// Number of operations.
    pub(crate) done: usize,
    /// Total duration.
    pub(crate) took: Duration,
    /// Duration of each operation.
    pub(crate) times: Times,
    /// Number of frames received by clients.
    pub(crate) frames: usize,
    /// CPU time of the server.
    pub(crate) cpu: Option<Duration>,
    /// Memory of the server per peer or session, in bytes.
    pub(crate) bytes_each: Option<u64>,
    /// Number of open descriptors of the server.
    pub(crate) descriptors: Option<usize>,
    /// Whether the previous row is the ceiling of this one.
    pub(crate) has_ceiling: bool,
    /// Remark.
    pub(crate) remark: String,
}

/// Formats all rows as Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | peers | done | per s | p50 ms | p99 ms | frames/s | CPU µs/frame | KB each | fds | of ceiling: rate, p50, CPU | |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n",
    );
    for (index, row) in rows.iter().enumerate() {
        let ceiling = index
            .checked_sub(1)
            .filter(|_| row.has_ceiling)
            .map(|index| &rows[index]);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {} | {} | {:.0} | {} | {} | {} | {} | {} |",
            row.title,
            row.peers,
            row.done,
            row.rate(row.done),
            millis(row.times.quantile(0.5)),
            millis(row.times.quantile(0.99)),
            row.rate(row.frames),
            row.cpu_micros()
                .map_or(String::new(), |micros| format!("{micros:.2}")),
            row.bytes_each.map_or(String::new(), |bytes| format!(
                "{}.{}",
                bytes / 1000,
                bytes % 1000 / 100
            )),
            row.descriptors
                .map_or(String::new(), |count| count.to_string()),
            ceiling.map_or(String::new(), |ceiling| row.ratios(ceiling)),
            row.remark,
        );
    }
    text
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn rate(&self, count: usize) -> f64 {
        if self.took.is_zero() {
            return 0.0;
        }
        count as f64 / self.took.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn cpu_micros(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| self.frames > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / self.frames as f64)
    }

    fn ratios(&self, ceiling: &Self) -> String {
        let rate = self.rate(self.frames) / ceiling.rate(ceiling.frames);
        let p50 = |row: &Self| {
            row.times
                .quantile(0.5)
                .map_or(f64::NAN, |time| time.as_secs_f64())
        };
        let cpu = |row: &Self| row.cpu_micros().unwrap_or(f64::NAN);
        format!(
            "{rate:.2}, {:.2}, {:.2}",
            p50(self) / p50(ceiling),
            cpu(self) / cpu(ceiling)
        )
    }
}

fn millis(time: Option<Duration>) -> String {
    time.map_or(String::new(), |time| {
        format!("{:.2}", time.as_secs_f64() * 1e3)
    })
}
