//! Accounts, apps, API tokens and signing keys from the command line.

use clap::Subcommand;
use parlor_protocol::ids::{AccountId, AppId, TokenId};
use parlor_store::Error;
use serde::Serialize;
use uuid::Uuid;

use crate::http::auth::PERMISSIONS;
use crate::identity::api_tokens::NewToken;
use crate::identity::{accounts, api_tokens, signing_keys};
use crate::rest::apps;
use crate::state::Parlor;

/// `parlor token …`
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token; its secret is shown this once
    Create {
        /// The account it acts for
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// What people call it
        #[arg(long, default_value = "")]
        name: String,
        /// What it may do; operations want `Realtime Admin` or `Realtime`
        #[arg(long = "permission", value_name = "NAME", default_values_t = [String::from("Realtime Admin")])]
        permissions: Vec<String>,
        /// Limit it to this app; may be given several times
        #[arg(long = "app", value_name = "HEX")]
        apps: Vec<AppId>,
        /// Seconds until it expires; never without it
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u32>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List an account's tokens, without secrets
    List {
        /// The account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; running servers notice within a second
    Revoke {
        /// The token's id
        id: TokenId,
        /// The account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor app …`
#[derive(Debug, Subcommand)]
pub(super) enum App {
    /// Make an app with the seven default presets
    Create {
        /// The account that owns it
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// What people call it
        #[arg(long)]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List an account's apps
    List {
        /// The account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete an app with everything in it
    Delete {
        /// The app's id
        id: AppId,
        /// The account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor account …`
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Make an account
    Create {
        /// What people call it
        #[arg(long, default_value = "")]
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the accounts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor key …`
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List the keys; the one that is not retired signs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign with a new key from now on; tokens of the old ones keep working
    Rotate {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A token at the one moment when its secret is shown.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    token: api_tokens::ApiToken,
    #[serde(rename = "token")]
    secret: String,
}

impl Token {
    pub(super) async fn run(self, parlor: &Parlor) -> anyhow::Result<()> {
        match self {
            Self::Create {
                account,
                name,
                permissions,
                apps,
                expires_in,
                json,
            } => {
                let apps = (!apps.is_empty()).then_some(apps);
                let new = NewToken {
                    account,
                    name,
                    permissions,
                    apps,
                    expires_in_secs: expires_in,
                };
                if !new
                    .permissions
                    .iter()
                    .any(|held| PERMISSIONS.contains(&held.as_str()))
                {
                    eprintln!(
                        "parlor: no operation accepts a token without {}",
                        PERMISSIONS.join(" or ")
                    );
                }
                let secret = api_tokens::new_secret();
                let token = parlor
                    .tokens
                    .create(new, &secret)
                    .await
                    .map_err(named("account"))?;
                let line = format!("{}  {secret}", token.id);
                show(json, &Shown { token, secret }, &line)
            }
            Self::List { account, json } => {
                let tokens = parlor.tokens.list(account).await?;
                let state =
                    |token: &api_tokens::ApiToken| match (&token.revoked_at, &token.expires_at) {
                        (Some(at), _) => format!("revoked {at}"),
                        (None, Some(at)) => format!("expires {at}"),
                        (None, None) => "live".to_owned(),
                    };
                let line = |token: &api_tokens::ApiToken| {
                    format!(
                        "{}  {}  {}  [{}]",
                        token.id,
                        state(token),
                        token.name,
                        token.permissions.join(", ")
                    )
                };
                show_all(json, &tokens, line)
            }
            Self::Revoke { id, account, json } => {
                parlor
                    .tokens
                    .revoke(account, id)
                    .await
                    .map_err(named("live token"))?;
                show(
                    json,
                    &serde_json::json!({"id": id, "revoked": true}),
                    &format!("{id}  revoked"),
                )
            }
        }
    }
}

impl App {
    pub(super) async fn run(self, parlor: &Parlor) -> anyhow::Result<()> {
        let line = |app: &apps::App| format!("{}  {}  {}", app.id, app.created_at, app.name);
        match self {
            Self::Create {
                account,
                name,
                json,
            } => {
                let app = apps::create(parlor, account, &name)
                    .await
                    .map_err(named("account"))?;
                show(json, &app, &line(&app))
            }
            Self::List { account, json } => {
                show_all(json, &apps::all(parlor, account).await?, line)
            }
            Self::Delete { id, account, json } => {
                let deleted = apps::delete(parlor, account, id).await?;
                let app = deleted.ok_or_else(|| anyhow::anyhow!("there is no such app"))?;
                show(json, &app, &line(&app))
            }
        }
    }
}

impl Account {
    pub(super) async fn run(self, parlor: &Parlor) -> anyhow::Result<()> {
        let line = |account: &accounts::Account| {
            format!("{}  {}  {}", account.id, account.created_at, account.name)
        };
        match self {
            Self::Create { name, json } => {
                let id = AccountId::from_uuid(new_account_id(parlor));
                let account =
                    accounts::create(&parlor.db, id, &name, parlor.clock.now_ms()).await?;
                show(json, &account, &line(&account))
            }
            Self::List { json } => show_all(json, &accounts::list(&parlor.db).await?, line),
        }
    }
}

impl Key {
    pub(super) async fn run(self, parlor: &Parlor) -> anyhow::Result<()> {
        let line = |key: &signing_keys::KeySummary| {
            let state = key
                .retired_at
                .as_ref()
                .map_or("signs".to_owned(), |at| format!("retired {at}"));
            format!("{}  {}  {state}", key.id, key.created_at)
        };
        match self {
            Self::List { json } => show_all(json, &signing_keys::list(&parlor.db).await?, line),
            Self::Rotate { json } => {
                let key = signing_keys::rotate(&parlor.db, parlor.clock.now_ms()).await?;
                show(json, &key, &line(&key))
            }
        }
    }
}

/// An account's id: random, so that it tells nothing.
pub(super) fn new_account_id(parlor: &Parlor) -> Uuid {
    parlor.clock.random_id()
}

/// A wrong count means that what the command is about does not exist.
fn named(what: &'static str) -> impl Fn(Error) -> anyhow::Error {
    move |error| match error {
        Error::WrongCount { .. } => anyhow::anyhow!("there is no such {what}"),
        other => other.into(),
    }
}

fn show(json: bool, value: &impl Serialize, line: &str) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(value)?);
    } else {
        println!("{line}");
    }
    Ok(())
}

fn show_all<T: Serialize>(
    json: bool,
    values: &[T],
    line: impl Fn(&T) -> String,
) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(values)?);
    } else {
        for value in values {
            println!("{}", line(value));
        }
    }
    Ok(())
}
