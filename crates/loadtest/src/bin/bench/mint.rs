//! The rate of signing join tokens: the server's own loop, without HTTP and without a database.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Returns the line under the table: tokens per second on one thread, and the time per token.
pub(crate) fn line(binary: &Path, time: Duration) -> String {
    match rate(binary, time) {
        Ok(rate) => format!(
            "Mint token alone: {rate:.0} tokens/s, {:.1} µs each",
            1e6 / rate
        ),
        Err(error) => format!("Mint token alone: missing, {error:#}"),
    }
}

fn rate(binary: &Path, time: Duration) -> Result<f64> {
    // The command takes whole seconds.
    let seconds = time.as_secs().max(1).to_string();
    let output = Command::new(binary)
        .args(["mint-bench", &seconds])
        .output()
        .with_context(|| format!("{} does not start", binary.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`mint-bench` failed: {}",
        errors.trim()
    );
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(printed: &str) -> Result<f64> {
    let rate = printed.trim().strip_suffix(" tokens/s");
    let rate: f64 = rate
        .with_context(|| format!("`mint-bench` printed {printed:?}"))?
        .parse()?;
    ensure!(
        rate.is_finite() && rate > 0.0,
        "`mint-bench` measured {rate}"
    );
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_parsed_and_anything_else_is_an_error() -> Result<()> {
        assert!((parse("25000 tokens/s\n")? - 25_000.0).abs() < 1e-9);
        for wrong in ["", "0 tokens/s", "NaN tokens/s", "25000", "many tokens/s"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        Ok(())
    }

    #[test]
    fn a_server_without_the_command_is_reported() {
        let line = line(Path::new("/bin/false"), Duration::ZERO);
        assert!(line.contains("missing"), "{line}");
    }
}
