//! `DELETE …/apps/{app_id}`: deletes an app and everything in it. An extension.

use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Error, FromRow, Statement, Unit, values};

use super::App;
use crate::http::{ApiError, Call, Data, Endpoint};
use crate::purges::{PURGE, WHOLE_APP};
use crate::state::ServerState;

pub(super) static DELETE: Statement = Statement::new(
    "apps.delete",
    "DELETE FROM apps WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::DELETE, "/apps/{app_id}", "deleteApp", handle).on_account().describe(
        "Delete an app",
        "Permanently deletes the app with its meetings, participants and presets, and ends its live sessions. All of its \
         join tokens stop working immediately. Returns the deleted app. Not available in RealtimeKit.",
    )
}

async fn handle(call: Call) -> Result<Data<App>, ApiError> {
    let deleted = delete(&call.state, call.account, call.app).await?;
    deleted.map(Data).ok_or_else(|| ApiError::missing("app"))
}

/// Deletes an app. Returns `None` when there is no such app.
///
/// # Errors
/// When the database fails.
pub(crate) async fn delete(
    state: &ServerState,
    account: AccountId,
    app: AppId,
) -> Result<Option<App>, Error> {
    let unit = Unit::default()
        .exactly_one(&DELETE, values![account.uuid(), app.uuid()])
        .then(&PURGE, values![app.uuid(), WHOLE_APP, state.clock.now_ms()]);
    let committed = state.db.commit(unit).await;
    state.owners.forget(app);
    match committed {
        Ok(rows) => {
            state.live.send_to_app(app, &Command::MeetingDeleted);
            let deleted = rows.into_iter().flatten().next();
            deleted.map(App::from_row).transpose()
        }
        Err(Error::WrongCount { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
