//! The commands that manage accounts, apps, API tokens and signing keys.

use clap::Subcommand;
use parlor_protocol::ids::{AccountId, AppId, TokenId};
use parlor_store::Error;
use serde::Serialize;
use uuid::Uuid;

use crate::http::auth::PERMISSIONS;
use crate::identity::api_tokens::NewToken;
use crate::identity::{accounts, api_tokens, signing_keys};
use crate::rest::apps;
use crate::state::ServerState;

/// `parlor token …`
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Create a token and print its secret, which is not shown again
    Create {
        /// ID of the account that the token belongs to
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Display name
        #[arg(long, default_value = "")]
        name: String,
        /// Permission to grant; operations require `Realtime Admin` or `Realtime`. May be repeated
        #[arg(long = "permission", value_name = "NAME", default_values_t = [String::from("Realtime Admin")])]
        permissions: Vec<String>,
        /// Restrict the token to this app. May be repeated
        #[arg(long = "app", value_name = "HEX")]
        apps: Vec<AppId>,
        /// Seconds until the token expires [default: never]
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u32>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens of an account, without their secrets
    List {
        /// ID of the account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token; running servers reject it within a second
    Revoke {
        /// ID of the token
        id: TokenId,
        /// ID of the account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor app …`
#[derive(Debug, Subcommand)]
pub(super) enum App {
    /// Create an app with the seven default presets
    Create {
        /// ID of the account that owns the app
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Display name
        #[arg(long)]
        name: String,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the apps of an account
    List {
        /// ID of the account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete an app and everything in it
    Delete {
        /// ID of the app
        id: AppId,
        /// ID of the account
        #[arg(long, value_name = "HEX")]
        account: AccountId,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor account …`
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Create an account
    Create {
        /// Display name
        #[arg(long, default_value = "")]
        name: String,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List all accounts
    List {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `parlor key …`
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List the keys; the one that is not retired signs new tokens
    List {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Start to sign with a new key; tokens signed with older keys keep working
    Rotate {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// A new token with its secret, which is shown only once.
#[derive(Serialize)]
struct TokenWithSecret {
    #[serde(flatten)]
    token: api_tokens::ApiToken,
    #[serde(rename = "token")]
    secret: String,
}

impl Token {
    pub(super) async fn run(self, state: &ServerState) -> anyhow::Result<()> {
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
                        "parlor: warning: no operation accepts a token without the permission {}",
                        PERMISSIONS.join(" or ")
                    );
                }
                let secret = api_tokens::new_secret();
                let token = state
                    .tokens
                    .create(new, &secret)
                    .await
                    .map_err(not_found("account"))?;
                let line = format!("{}  {secret}", token.id);
                show(json, &TokenWithSecret { token, secret }, &line)
            }
            Self::List { account, json } => {
                let tokens = state.tokens.list(account).await?;
                let status =
                    |token: &api_tokens::ApiToken| match (&token.revoked_at, &token.expires_at) {
                        (Some(at), _) => format!("revoked {at}"),
                        (None, Some(at)) => format!("expires {at}"),
                        (None, None) => "live".to_owned(),
                    };
                let line = |token: &api_tokens::ApiToken| {
                    format!(
                        "{}  {}  {}  [{}]",
                        token.id,
                        status(token),
                        token.name,
                        token.permissions.join(", ")
                    )
                };
                show_all(json, &tokens, line)
            }
            Self::Revoke { id, account, json } => {
                state
                    .tokens
                    .revoke(account, id)
                    .await
                    .map_err(not_found("active token"))?;
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
    pub(super) async fn run(self, state: &ServerState) -> anyhow::Result<()> {
        let line = |app: &apps::App| format!("{}  {}  {}", app.id, app.created_at, app.name);
        match self {
            Self::Create {
                account,
                name,
                json,
            } => {
                let app = apps::create(state, account, &name)
                    .await
                    .map_err(not_found("account"))?;
                show(json, &app, &line(&app))
            }
            Self::List { account, json } => show_all(json, &apps::all(state, account).await?, line),
            Self::Delete { id, account, json } => {
                let deleted = apps::delete(state, account, id).await?;
                let app = deleted.ok_or_else(|| anyhow::anyhow!("app not found"))?;
                show(json, &app, &line(&app))
            }
        }
    }
}

impl Account {
    pub(super) async fn run(self, state: &ServerState) -> anyhow::Result<()> {
        let line = |account: &accounts::Account| {
            format!("{}  {}  {}", account.id, account.created_at, account.name)
        };
        match self {
            Self::Create { name, json } => {
                let id = AccountId::from_uuid(new_account_id(state));
                let account = accounts::create(&state.db, id, &name, state.clock.now_ms()).await?;
                show(json, &account, &line(&account))
            }
            Self::List { json } => show_all(json, &accounts::list(&state.db).await?, line),
        }
    }
}

impl Key {
    pub(super) async fn run(self, state: &ServerState) -> anyhow::Result<()> {
        let line = |key: &signing_keys::KeySummary| {
            let status = key
                .retired_at
                .as_ref()
                .map_or("signs".to_owned(), |at| format!("retired {at}"));
            format!("{}  {}  {status}", key.id, key.created_at)
        };
        match self {
            Self::List { json } => show_all(json, &signing_keys::list(&state.db).await?, line),
            Self::Rotate { json } => {
                let key = signing_keys::rotate(&state.db, state.clock.now_ms()).await?;
                show(json, &key, &line(&key))
            }
        }
    }
}

/// Returns a new account ID. It is random, so that it reveals nothing.
pub(super) fn new_account_id(state: &ServerState) -> Uuid {
    state.clock.random_id()
}

/// Maps [`Error::WrongCount`], which means that no such row exists, to an error message.
fn not_found(what: &'static str) -> impl Fn(Error) -> anyhow::Error {
    move |error| match error {
        Error::WrongCount { .. } => anyhow::anyhow!("{what} not found"),
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
