//! `POST …/apps`: make an app, with the seven default presets in it.

use http::Method;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Statement, Unit, values};
use schemars::JsonSchema;
use serde::Serialize;

use super::{App, AppName};
use crate::clock::{Clock, rfc3339};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::presets;
use crate::state::Parlor;

pub(super) static INSERT: Statement = Statement::new(
    "apps.insert",
    "INSERT INTO apps (account_id, id, name, created_at)
     SELECT a.id, $2, $3, $4 FROM accounts a WHERE a.id = $1",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/apps", "createApp", answer)
        .on_account()
        .describe(
            "Create an app",
            "Makes an app in the account. It starts with the seven default presets.",
        )
}

/// A new app, one level down: the shape that the official SDKs declare.
#[derive(Debug, Serialize, JsonSchema)]
struct CreatedApp {
    app: App,
}

async fn answer(call: Call<Nothing, Nothing, AppName>) -> Result<Data<CreatedApp>, ApiError> {
    if call.caller.token.app_ids.is_some() {
        return Err(ApiError::forbidden());
    }
    let (unit, app) = insert(
        Unit::default(),
        &call.parlor.clock,
        call.account,
        &call.body.name,
        call.now_ms,
    );
    let reply = move |_: &[_]| Ok(Data(CreatedApp { app: app.clone() }));
    Ok(call.commit(unit, reply).await?)
}

/// Makes an app without a request, for the command line and the first start.
///
/// # Errors
/// `WrongCount` when the account does not exist.
pub async fn create(
    parlor: &Parlor,
    account: AccountId,
    name: &str,
) -> Result<App, parlor_store::Error> {
    let now_ms = parlor.clock.now_ms();
    let (unit, app) = insert(Unit::default(), &parlor.clock, account, name, now_ms);
    parlor.db.commit(unit).await?;
    Ok(app)
}

/// Puts a new app on a unit, which is undone if the account does not exist.
pub(crate) fn insert(
    unit: Unit,
    clock: &Clock,
    account: AccountId,
    name: &str,
    now_ms: i64,
) -> (Unit, App) {
    let id = AppId::from_uuid(clock.new_id(now_ms));
    let unit = unit.exactly_one(&INSERT, values![account.uuid(), id.uuid(), name, now_ms]);
    let unit = presets::add_stock(unit, clock, id, now_ms);
    (
        unit,
        App {
            id,
            name: name.to_owned(),
            created_at: rfc3339(now_ms),
        },
    )
}
