//! The first start: an account, an API token and an app, in one commit, and lines to paste.

use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Error, Unit};

use super::manage::new_account_id;
use crate::config::Settings;
use crate::identity::accounts;
use crate::identity::api_tokens::{self, NewToken};
use crate::rest::apps;
use crate::state::Parlor;

/// Makes what is missing. Everything is in one transaction, so a start that is killed leaves all
/// of it or nothing. Several nodes that start at once on one empty database make it once if the
/// account's id is set; otherwise each may make an account of its own.
///
/// # Errors
/// When the database fails or the settings are malformed.
pub(super) async fn prepare(
    parlor: &Parlor,
    settings: &Settings,
) -> anyhow::Result<Option<Welcome>> {
    if let Some((account, secret)) = settings.first_account()? {
        let made = make(parlor, account, &secret).await?;
        if made.is_none() {
            keep_token(parlor, account, &secret).await?;
        }
        return Ok(made.map(|app| Welcome {
            account,
            secret: None,
            app,
        }));
    }
    if !accounts::list(&parlor.db).await?.is_empty() {
        return Ok(None);
    }
    let (account, secret) = (
        AccountId::from_uuid(new_account_id(parlor)),
        api_tokens::new_secret(),
    );
    let made = make(parlor, account, &secret).await?;
    Ok(made.map(|app| Welcome {
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

/// `None` when the account exists already.
async fn make(parlor: &Parlor, account: AccountId, secret: &str) -> Result<Option<AppId>, Error> {
    let now_ms = parlor.clock.now_ms();
    let unit = accounts::insert(Unit::default(), account, "first", now_ms);
    let (unit, _) = api_tokens::insert(unit, &parlor.clock, first_token(account), secret, now_ms);
    let (unit, app) = apps::insert(unit, &parlor.clock, account, "first", now_ms);
    match parlor.db.commit(unit).await {
        Ok(_) => Ok(Some(app.id)),
        Err(Error::WrongCount { step: 0 }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The token of an unattended install may be another one than last time: both work.
async fn keep_token(parlor: &Parlor, account: AccountId, secret: &str) -> anyhow::Result<()> {
    match parlor.tokens.create(first_token(account), secret).await {
        Ok(_) => Ok(()),
        Err(Error::Conflict { .. }) => {
            let token = parlor.tokens.by_secret(secret).await?;
            let ours = token.is_some_and(|token| token.account_id == account);
            anyhow::ensure!(ours, "PARLOR_API_TOKEN is a token of another account");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// What the first start made.
pub(super) struct Welcome {
    account: AccountId,
    secret: Option<String>,
    app: AppId,
}

impl Welcome {
    /// What to print, ready to paste.
    pub(super) fn text(&self, origin: &str) -> String {
        let Self { account, app, .. } = self;
        let secret = self.secret.as_deref().unwrap_or("$PARLOR_API_TOKEN");
        let note = if self.secret.is_some() {
            "   (shown this once; keep it)"
        } else {
            ""
        };
        format!(
            r#"
Parlor is ready on {origin}   (reference: {origin}/docs)

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

The answer holds a token. Join with it in a browser:

  {origin}/meet?authToken=TOKEN

"#
        )
    }
}
