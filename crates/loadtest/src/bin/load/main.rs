//! Loads the signalling of a real server and prints one Markdown table.
//!
//! Joins and chat stand beside the ceiling of the same run: a server that does nothing but answer
//! and pass on frames of the same sizes to the same number of sockets. Ratios compare; absolute
//! figures do not.

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
    // Both ends of every socket are on this machine; each process needs a descriptor for its own.
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
    // One thread: the generator takes one core at most and leaves the other to the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&options, descriptors))
}

async fn run(options: &Options, descriptors: u64) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    for mode in &options.task.modes {
        eprintln!("{mode} …");
        let report = modes::run(mode, options, descriptors).await?;
        rows.extend(report.rows);
        faults.extend(report.faults);
    }
    println!("{}", table::markdown(&rows));
    if cfg!(debug_assertions) {
        println!("This was a debug build: the figures say nothing.");
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
