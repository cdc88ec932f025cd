//! Puts load on the signalling of a real server and prints a Markdown table.
//!
//! Each run measures joins and chat a second time on a ceiling: a minimal server that only replies
//! and forwards frames of the same sizes to the same number of sockets. The ratios to the ceiling
//! are comparable between machines; absolute figures are not.

mod bot;
mod ceiling;
mod measure;
mod modes;
mod options;
mod table;

use std::env;
use std::process::ExitCode;

use anyhow::Result;

use crate::options::Options;

fn main() -> Result<ExitCode> {
    // Each process needs one descriptor per socket.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)?;
    if env::args()
        .nth(1)
        .is_some_and(|first| first == ceiling::COMMAND)
    {
        return ceiling::main();
    }
    let Some(options) = Options::from_arguments(env::args().skip(1))? else {
        print!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    // Single-threaded: the generator uses at most one core and leaves the other to the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&options, descriptors))
}

async fn run(options: &Options, descriptors: u64) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    for mode in &options.common.modes {
        eprintln!("{mode} …");
        let report = modes::run(mode, options, descriptors).await?;
        rows.extend(report.rows);
        faults.extend(report.faults);
    }
    println!("{}", table::markdown(&rows));
    if cfg!(debug_assertions) {
        println!("This was a debug build: the figures are meaningless.");
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
