//! Measures the control plane and prints a Markdown table.
//!
//! Every cell is compared with the ceiling of the same run: a POST that the same server only parses
//! and responds to, measured before and after each cell. The ratios to the ceiling are comparable
//! between machines; absolute figures are not.

mod cells;
mod fsync;
mod load;
mod mint;
mod options;
mod table;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use parlor_testkit::{Postgres, ServerProcess};

use crate::options::Options;

fn main() -> Result<ExitCode> {
    let Some(options) = Options::from_arguments(env::args().skip(1))? else {
        print!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    // Single-threaded: the generator uses at most one core and leaves the other to the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<ExitCode> {
    let binary = match &options.server {
        Some(binary) => binary.clone(),
        None => build_server()?,
    };
    let mut rows = Vec::new();
    let idle = idle_bytes(&binary).await?;
    if options.database.includes("sqlite") {
        let server = bench_server(&binary);
        rows.extend(cells::measure("SQLite", server, options).await?);
    }
    if options.database.includes("postgres") {
        if Postgres::is_installed() {
            let postgres = Postgres::start().await?;
            let server = bench_server(&binary).database(&postgres.database().await?);
            rows.extend(cells::measure("PostgreSQL", server, options).await?);
        } else {
            println!("PostgreSQL is skipped because its server programs are not installed.\n");
        }
    }
    println!("{}", table::markdown(&rows));
    println!("{}", mint::line(&binary, options.measured));
    println!("Idle RSS after start: {} MB", table::megabytes(idle));
    let size = fs::metadata(&binary)?.len();
    println!("Binary: {} MB", table::megabytes(size));
    if cfg!(debug_assertions) {
        println!("This was a debug build: the figures are meaningless.");
    }
    let failures: usize = rows.iter().map(|row| row.run.failures).sum();
    if failures > 0 {
        println!("{failures} requests failed: the run is not valid.");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn bench_server(binary: &PathBuf) -> parlor_testkit::server::Builder {
    ServerProcess::builder(binary).environment("PARLOR_BENCH_ECHO", "1")
}

/// Returns the memory of a server that has just started and has received no requests.
async fn idle_bytes(binary: &PathBuf) -> Result<u64> {
    let server = ServerProcess::builder(binary).start().await?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    server.process().resident()
}

/// Builds the server in the same profile as this program, and returns its path.
fn build_server() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--package", "parlor-server", "--bin", "parlor"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    build.args(["--manifest-path", manifest]);
    ensure!(build.status()?.success(), "the server build failed");
    let own = env::current_exe()?;
    let folder = own
        .parent()
        .context("the program has no parent directory")?;
    Ok(folder.join("parlor"))
}
