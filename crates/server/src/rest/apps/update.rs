//! `PATCH …/apps/{app_id}`: renames an app. An extension.

use http::Method;
use parlor_store::{FromRow, Statement, Unit, values};

use super::{App, AppParams};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};

pub(super) static RENAME: Statement = Statement::new(
    "apps.rename",
    "UPDATE apps SET name = $3 WHERE account_id = $1 AND id = $2 RETURNING id, name, created_at",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/apps/{app_id}", "updateApp", handle)
        .on_account()
        .describe(
            "Rename an app",
            "Changes the display name of an app. Not available in RealtimeKit.",
        )
}

async fn handle(call: Call<Empty, Empty, AppParams>) -> Result<Data<App>, ApiError> {
    let row = values![
        call.account.uuid(),
        call.app.uuid(),
        call.body.name.as_str()
    ];
    let rows = call
        .state
        .db
        .commit(Unit::default().then(&RENAME, row))
        .await?;
    let row = rows
        .into_iter()
        .flatten()
        .next()
        .ok_or_else(|| ApiError::missing("app"))?;
    Ok(Data(App::from_row(row)?))
}
