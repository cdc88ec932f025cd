//! The command line.

mod first_start;
mod manage;
mod serving;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Settings;
use crate::state::Parlor;

/// Meetings as a service that anybody can run: a drop-in for Cloudflare RealtimeKit.
///
/// Without a command it serves. The first start makes an account, an API token and an app, and
/// prints them with lines to paste.
#[derive(Debug, Parser)]
#[command(name = "parlor", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

const AFTER_HELP: &str = "\
Examples:
  parlor                                          serve on http://localhost:8787, records in ./data
  parlor serve --listen 0.0.0.0:8787 --database postgres://parlor@db/parlor
  parlor token create --account ID --name ci --expires-in 86400
  parlor app list --account ID --json

Every setting is also an environment variable (PARLOR_LISTEN, …) and a key of the TOML file that
--config names; a flag wins over the environment, and the environment over the file.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API (this is what happens without a command)
    Serve,
    /// Make, list and revoke API tokens
    #[command(subcommand)]
    Token(manage::Token),
    /// Make, list and delete apps
    #[command(subcommand)]
    App(manage::App),
    /// Make and list accounts
    #[command(subcommand)]
    Account(manage::Account),
    /// List and rotate the keys that sign join tokens
    #[command(subcommand)]
    Key(manage::Key),
    /// Print the settings that are in force, with secrets hidden
    Config,
    /// Print the OpenAPI description
    Openapi,
    /// Sign join tokens for some seconds and print how many a second (for the benchmark)
    #[command(hide = true)]
    MintBench {
        /// How long
        seconds: u64,
    },
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let Cli { command, settings } = Cli::parse();
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
        Command::Serve => serving::run(settings),
        Command::Token(command) => {
            managed(settings, false, async |parlor| command.run(&parlor).await)
        }
        Command::App(command) => {
            managed(settings, false, async |parlor| command.run(&parlor).await)
        }
        Command::Account(command) => {
            let may_be_new = matches!(command, manage::Account::Create { .. });
            managed(settings, may_be_new, async |parlor| {
                command.run(&parlor).await
            })
        }
        Command::Key(command) => {
            managed(settings, false, async |parlor| command.run(&parlor).await)
        }
        Command::Config => {
            print!("{}", settings.shown()?);
            Ok(())
        }
        Command::MintBench { seconds } => {
            let rate = crate::rest::participants::mint_for(std::time::Duration::from_secs(seconds));
            println!("{rate:.0} tokens/s");
            Ok(())
        }
        Command::Openapi => {
            println!("{:#}", crate::rest::openapi::document(&settings.limits()?));
            Ok(())
        }
    }
}

/// Runs a command on the database directly; a server may be running on it.
fn managed(
    settings: &Settings,
    may_be_new: bool,
    command: impl AsyncFnOnce(Parlor) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let place = if may_be_new {
            settings.place()?
        } else {
            settings.existing_place()?
        };
        let parlor = Parlor::open(&place, settings.limits()?).await?;
        let db = parlor.db.clone();
        let done = command(parlor).await;
        db.close().await;
        done
    })
}
