//! `GET …/apps/{app_id}`: returns one app.

use http::Method;
use parlor_store::{Statement, values};

use super::App;
use crate::http::{ApiError, Call, Data, Endpoint};

pub(super) static GET: Statement = Statement::new(
    "apps.get",
    "SELECT id, name, created_at FROM apps WHERE account_id = $1 AND id = $2",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/apps/{app_id}", "getApp", handle)
        .on_account()
        .describe("Get an app", "Retrieves an app of the account.")
}

async fn handle(call: Call) -> Result<Data<App>, ApiError> {
    let found = call
        .state
        .db
        .read::<App>(&GET, values![call.account.uuid(), call.app.uuid()])
        .await?
        .pop();
    found.map(Data).ok_or_else(|| ApiError::missing("app"))
}
