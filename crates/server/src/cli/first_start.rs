//! The first start: creates an account, an API token and an app in one commit, and prints commands
//! to try.

use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Error, Unit};

use super::manage::new_account_id;
use crate::config::Settings;
use crate::identity::accounts;
use crate::identity::api_tokens::{self, NewToken};
use crate::rest::apps;
use crate::state::ServerState;

/// Creates the first account, API token and app, if there is no account yet. One transaction
/// creates all of them, so a start that is killed leaves all or nothing. When several nodes start
/// at once on one empty database, they create them once if the account ID is set; otherwise each
/// node may create its own account.
///
/// # Errors
/// When the database fails or the settings are malformed.
pub(super) async fn prepare(
    state: &ServerState,
    settings: &Settings,
) -> anyhow::Result<Option<Created>> {
    if let Some((account, secret)) = settings.first_account()? {
        let created = create(state, account, &secret).await?;
        if created.is_none() {
            ensure_token(state, account, &secret).await?;
        }
        return Ok(created.map(|app| Created {
            account,
            secret: None,
            app,
        }));
    }
    if !accounts::list(&state.db).await?.is_empty() {
        return Ok(None);
    }
    let (account, secret) = (
        AccountId::from_uuid(new_account_id(state)),
        api_tokens::new_secret(),
    );
    let created = create(state, account, &secret).await?;
    Ok(created.map(|app| Created {
        account,
        secret: Some(secret),
        app,
    }))
}

fn first_token(account: AccountId) -> NewToken {
    NewToken {
        account,
        name: "first".to_owned(),
        permissions: vec!["Realtime Admin".to_owned()],
        apps: None,
        expires_in_secs: None,
    }
}

/// Creates the account, the API token and the app. Returns `None` when the account exists already.
async fn create(
    state: &ServerState,
    account: AccountId,
    secret: &str,
) -> Result<Option<AppId>, Error> {
    let now_ms = state.clock.now_ms();
    let unit = accounts::insert(Unit::default(), account, "first", now_ms);
    let (unit, _) = api_tokens::insert(unit, &state.clock, first_token(account), secret, now_ms);
    let (unit, app) = apps::insert(unit, &state.clock, account, "first", now_ms);
    match state.db.commit(unit).await {
        Ok(_) => Ok(Some(app.id)),
        Err(Error::WrongCount { step: 0 }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds the configured token to the account if it differs from the one of an earlier start. Both
/// tokens work then.
async fn ensure_token(state: &ServerState, account: AccountId, secret: &str) -> anyhow::Result<()> {
    match state.tokens.create(first_token(account), secret).await {
        Ok(_) => Ok(()),
        Err(Error::Conflict { .. }) => {
            let token = state.tokens.by_secret(secret).await?;
            let ours = token.is_some_and(|token| token.account_id == account);
            anyhow::ensure!(ours, "PARLOR_API_TOKEN is a token of a different account");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// What the first start created.
pub(super) struct Created {
    account: AccountId,
    secret: Option<String>,
    app: AppId,
}

impl Created {
    /// The text to print, with commands that can be pasted into a shell.
    pub(super) fn text(&self, origin: &str) -> String {
        let Self { account, app, .. } = self;
        let secret = self.secret.as_deref().unwrap_or("$PARLOR_API_TOKEN");
        let note = if self.secret.is_some() {
            "   (shown only once; keep it)"
        } else {
            ""
        };
        format!(
            r#"
Parlor is ready at {origin}   (API reference: {origin}/docs)

  account    {account}
  API token  {secret}{note}
  app        {app}

Create a meeting and add a participant:

  export PARLOR={origin}/client/v4/accounts/{account}/realtime/kit/{app}
  export PARLOR_TOKEN={secret}
  export MEETING=$(curl -s "$PARLOR/meetings" -H "Authorization: Bearer $PARLOR_TOKEN" \
    -H 'Content-Type: application/json' -d '{{"title": "Hello"}}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  curl -s "$PARLOR/meetings/$MEETING/participants" -H "Authorization: Bearer $PARLOR_TOKEN" \
    -H 'Content-Type: application/json' \
    -d '{{"custom_participant_id": "me", "preset_name": "group_call_host", "name": "Me"}}'

The response contains a token. Use it to join in a browser:

  {origin}/meet?authToken=TOKEN

"#
        )
    }
}
