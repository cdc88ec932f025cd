//! The command line.

mod first_start;
mod healthcheck;
mod licenses;
mod manage;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Settings;
use crate::state::ServerState;

/// A self-hosted meeting server: a drop-in replacement for Cloudflare RealtimeKit
///
/// Without a command, starts the server. The first start creates an account, an API token and an
/// app, and prints them with commands to try.
#[derive(Debug, Parser)]
#[command(name = "parlor", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the licenses of the software in this binary
    #[arg(long)]
    licenses: bool,
    #[command(flatten)]
    settings: Settings,
}

const AFTER_HELP: &str = "\
Examples:
  parlor                                          serve on http://localhost:8787, data in ./data
  parlor serve --listen 0.0.0.0:8787 --database postgres://parlor@db/parlor
  parlor token create --account ID --name ci --expires-in 86400
  parlor app list --account ID --json

Every setting is also an environment variable (PARLOR_LISTEN, …) and a key of the TOML file given by
--config. Flags override the environment, and the environment overrides the file.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server (the default without a command)
    Serve,
    /// Create, list and revoke API tokens
    #[command(subcommand)]
    Token(manage::Token),
    /// Create, list and delete apps
    #[command(subcommand)]
    App(manage::App),
    /// Create and list accounts
    #[command(subcommand)]
    Account(manage::Account),
    /// List and rotate the keys that sign join tokens
    #[command(subcommand)]
    Key(manage::Key),
    /// Check that the server on this machine is ready: exits with 0 or 1
    ///
    /// Asks /readyz over plain HTTP at the address that --listen names.
    Healthcheck {
        /// Ask /healthz instead, which does not depend on the database
        #[arg(long)]
        live: bool,
    },
    /// Print the settings in effect, with secrets hidden
    Config,
    /// Print the OpenAPI description
    Openapi,
    /// Sign join tokens for some seconds and print the rate (for the benchmark)
    #[command(hide = true)]
    MintBench {
        /// Duration, in seconds
        seconds: u64,
    },
}

/// Parses the command line and runs the command.
pub fn run() -> ExitCode {
    let Cli {
        command,
        licenses,
        settings,
    } = Cli::parse();
    if licenses {
        return licenses::print();
    }
    match settings
        .with_file()
        .and_then(|settings| dispatch(command, &settings))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parlor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Option<Command>, settings: &Settings) -> anyhow::Result<()> {
    match command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(settings),
        Command::Token(command) => {
            with_database(settings, false, async |state| command.run(&state).await)
        }
        Command::App(command) => {
            with_database(settings, false, async |state| command.run(&state).await)
        }
        Command::Account(command) => {
            let may_create = matches!(command, manage::Account::Create { .. });
            with_database(settings, may_create, async |state| {
                command.run(&state).await
            })
        }
        Command::Key(command) => {
            with_database(settings, false, async |state| command.run(&state).await)
        }
        Command::Healthcheck { live } => {
            healthcheck::run(settings, if live { "/healthz" } else { "/readyz" })
        }
        Command::Config => {
            print!("{}", settings.to_toml()?);
            Ok(())
        }
        Command::MintBench { seconds } => {
            let rate = crate::rest::participants::measure_token_signing(
                std::time::Duration::from_secs(seconds),
            );
            println!("{rate:.0} tokens/s");
            Ok(())
        }
        Command::Openapi => {
            println!("{:#}", crate::rest::openapi::document(&settings.limits()?));
            Ok(())
        }
    }
}

/// Opens the database and runs a command on it. A server may be running on the same database.
fn with_database(
    settings: &Settings,
    may_create: bool,
    command: impl AsyncFnOnce(ServerState) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let location = if may_create {
            settings.database_location()?
        } else {
            settings.existing_database_location()?
        };
        let state = ServerState::open(&location, settings.limits()?).await?;
        let db = state.db.clone();
        let result = command(state).await;
        db.close().await;
        result
    })
}
