//! Puts load on the media plane of a real server, and of Janus for comparison.
//!
//! | module | purpose |
//! |---|---|
//! | `modes` | The measurements. |
//! | `server` | Starts one of the two servers and joins its rooms. |
//! | `parlor`, `janus` | The clients of each server. |
//! | `floor` | The minimum cost of forwarding on this machine. |
//! | `soak` | Clients that join and leave for a long time, and a check for leaks. |
//! | `table` | The printed table. |

mod floor;
mod janus;
mod memory;
mod modes;
mod options;
mod parlor;
mod server;
mod soak;
mod table;

use std::env;
use std::process::ExitCode;

use anyhow::Result;

use crate::modes::Load;
use crate::options::{HELP, Kind, Options};
use crate::table::Row;

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<ExitCode> {
    let Some(options) = Options::from_arguments(env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(ExitCode::from(2));
    };
    // Each client needs a socket for each transport and one for the signalling.
    let wanted = 1 << 20;
    let limit = rlimit::Resource::NOFILE.get_hard()?.min(wanted);
    rlimit::increase_nofile_limit(limit)?;

    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut result = Ok(());
    for mode in &options.common.modes {
        result = run(mode, &options, &mut rows, &mut faults).await;
        if result.is_err() {
            break;
        }
    }
    // Measurements made before a failure are still valid.
    if !rows.is_empty() {
        print!("{}", table::markdown(&rows));
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    result.map(|()| ExitCode::from(u8::from(!faults.is_empty())))
}

async fn run(
    mode: &str,
    options: &Options,
    rows: &mut Vec<Row>,
    faults: &mut Vec<String>,
) -> Result<()> {
    let (video, audio) = (Load::video(options), Load::audio(options));
    match mode {
        "memory" => memory::measure(options)?,
        "floor" => rows.extend(floor::measure(options, &video)?),
        "compare" => {
            let mut both = options.clone();
            both.servers = vec![Kind::Parlor, Kind::Janus];
            for load in [&video, &audio] {
                rows.extend(floor::measure(&both, load)?);
                modes::forward(&both, load, rows).await?;
            }
            modes::peers(&both, rows).await?;
        }
        "video" => modes::forward(options, &video, rows).await?,
        "audio" => modes::forward(options, &audio, rows).await?,
        "soak" => faults.extend(soak::run(options).await?),
        _ => modes::peers(options, rows).await?,
    }
    Ok(())
}
