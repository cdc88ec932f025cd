//! Measures an engine without sockets: nanoseconds and instructions per packet.
//!
//! Times depend on the machine. Instruction counts hardly do: valgrind counts them, and emulates
//! the same processor everywhere, so that CI can compare them with those of an earlier commit.

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::media::Source;
use parlor_testkit::media::memory::{self, Measured};

use crate::options::Options;

/// Environment variable that tells the copy of this program under valgrind which source to measure.
const INSIDE: &str = "PARLOR_MEDIA_LOAD_COUNTED";

/// Virtual time to run under valgrind, which is fifty times slower.
const COUNTED: Duration = Duration::from_secs(1);

/// Number of receivers under valgrind: handshakes are slow there, and the cost per packet does not
/// depend on the number.
const RECEIVERS: u16 = 20;

/// Pattern of the function whose instructions are counted.
const FUNCTION: &str = "*memory*measured*";

/// Measures and prints a table.
pub(crate) fn measure(options: &Options) -> Result<()> {
    let sources = [
        ("video", Source::video(options.kbps)),
        ("audio", Source::Voice { bytes: 90 }),
    ];
    if let Ok(wanted) = env::var(INSIDE) {
        let (_, source) = sources
            .into_iter()
            .find(|(name, _)| *name == wanted)
            .context("unknown source")?;
        let found = memory::measure(source, RECEIVERS, COUNTED)?;
        println!("{}", found.packets_out);
        return Ok(());
    }
    println!("| in memory | receivers | in | out | ns/packet | instructions/packet |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, source) in sources {
        let receivers = u16::try_from(options.video_subscribers())?;
        let time = Duration::from_secs(options.seconds());
        let found = memory::measure(source, receivers, time)?;
        let counted = instructions(name);
        let text = match &counted {
            Ok(count) => format!("{count:.0}"),
            Err(error) => format!("not counted: {error:#}"),
        };
        println!(
            "| {name} | {receivers} | {} | {} | {:.0} | {text} |",
            found.packets_in,
            found.packets_out,
            nanoseconds(&found),
        );
        if let Some(most) = options.most {
            let counted = counted?;
            ensure!(
                counted <= most,
                "{name}: {counted:.0} instructions per packet, more than {most}"
            );
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn nanoseconds(found: &Measured) -> f64 {
    found.took.as_secs_f64() * 1e9 / found.packets_out.max(1) as f64
}

/// Runs this program under valgrind and returns the instructions per packet.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn instructions(name: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={FUNCTION}"))
        .arg(env::current_exe()?)
        .arg("memory")
        .env(INSIDE, name)
        .output()
        .context("cannot run valgrind")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {errors}");
    let collected = errors
        .lines()
        .find_map(|line| Some(line.split_once("Collected :")?.1.trim()));
    let collected: u64 = collected.context("no instruction count")?.parse()?;
    ensure!(
        collected > 0,
        "the measured function was not found: build with CARGO_PROFILE_RELEASE_STRIP=none"
    );
    let packets = String::from_utf8_lossy(&output.stdout);
    let packets: u64 = packets.trim().parse()?;
    Ok(collected as f64 / packets.max(1) as f64)
}
