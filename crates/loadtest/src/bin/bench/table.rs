//! The printed table.

use std::fmt::Write;
use std::time::Duration;

use crate::load::Run;

/// One measured cell.
#[derive(Debug)]
pub(crate) struct Row {
    /// Database of the server.
    pub(crate) database: &'static str,
    /// What was measured.
    pub(crate) title: String,
    /// Number of connections.
    pub(crate) connections: usize,
    /// Result.
    pub(crate) run: Run,
    /// Median duration of a disk sync, if the latency is compared with it.
    pub(crate) fsync: Option<Duration>,
}

impl Row {
    /// Title of the ceiling.
    pub(crate) const ECHO: &str = "echo";
}

/// Formats all rows as Markdown. The ceiling is measured around every cell and shown once, as the
/// mean.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| database | cell | connections | req/s | of echo | p50 ms | p99 ms | p99.9 ms \
         | CPU µs/req | RSS MB | p50 in fsyncs |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut shown = "";
    for (index, row) in rows.iter().enumerate() {
        let is_echo = row.title == Row::ECHO;
        if is_echo && shown == row.database {
            continue;
        }
        shown = row.database;
        let run = &row.run;
        let rate = if is_echo {
            mean_echo(rows, row.database)
        } else {
            run.rate()
        };
        let ceiling = if is_echo { rate } else { ceiling(rows, index) };
        let fsyncs = row.fsync.map_or(String::new(), |fsync| {
            let times = run.quantile(0.5).as_secs_f64() / fsync.as_secs_f64();
            format!("{times:.2} × {:.3} ms", fsync.as_secs_f64() * 1e3)
        });
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {rate:.0} | {:.2} | {} | {} | {} | {:.1} | {} | {fsyncs} |",
            row.database,
            row.title,
            row.connections,
            rate / ceiling,
            millis(run.quantile(0.5)),
            millis(run.quantile(0.99)),
            millis(run.quantile(0.999)),
            run.cpu_micros(),
            megabytes(run.resident_bytes),
        );
    }
    text
}

/// Formats bytes in megabytes, with one decimal.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// Returns the mean of the ceilings measured just before and just after this cell.
fn ceiling(rows: &[Row], index: usize) -> f64 {
    let is_echo = |row: &&Row| row.title == Row::ECHO && row.database == rows[index].database;
    let before = rows[..index].iter().rfind(is_echo);
    let after = rows[index..].iter().find(is_echo);
    mean(before.into_iter().chain(after))
}

fn mean_echo(rows: &[Row], database: &str) -> f64 {
    mean(
        rows.iter()
            .filter(|row| row.title == Row::ECHO && row.database == database),
    )
}

fn mean<'a>(rows: impl Iterator<Item = &'a Row>) -> f64 {
    let (sum, count) = rows.fold((0.0, 0.0), |(sum, count), row| {
        (sum + row.run.rate(), count + 1.0)
    });
    sum / count
}
