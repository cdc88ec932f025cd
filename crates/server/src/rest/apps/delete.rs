//! `DELETE …/apps/{app_id}`: delete an app and all that is in it. An extension.

use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Error, FromRow, Statement, Unit, values};

use super::App;
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::purges::{PURGE, WHOLE_APP};
use crate::state::Parlor;

pub(super) static DELETE: Statement = Statement::new(
    "apps.delete",
    "DELETE FROM apps WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/apps/{app_id}", "deleteApp", answer).on_account().describe(
        "Delete an app",
        "Deletes the app with its meetings, participants and presets; every join token of it stops working at once. \
         Answers with the deleted app. Not in RealtimeKit.",
    )
}

async fn answer(call: Call) -> Result<Data<App>, ApiError> {
    let deleted = delete(&call.parlor, call.account, call.app).await?;
    deleted.map(Data).ok_or_else(|| ApiError::missing("app"))
}

/// Deletes an app; `None` when there is no such app.
///
/// # Errors
/// When the database fails.
pub(crate) async fn delete(
    parlor: &Parlor,
    account: AccountId,
    app: AppId,
) -> Result<Option<App>, Error> {
    let unit = Unit::default()
        .exactly_one(&DELETE, values![account.uuid(), app.uuid()])
        .then(
            &PURGE,
            values![app.uuid(), WHOLE_APP, parlor.clock.now_ms()],
        );
    let committed = parlor.db.commit(unit).await;
    parlor.owners.forget(app);
    match committed {
        Ok(rows) => {
            parlor.live.tell_app(app, &Command::Gone);
            let deleted = rows.into_iter().flatten().next();
            deleted.map(App::from_row).transpose()
        }
        Err(Error::WrongCount { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
