//! `POST …/apps`: creates an app with the seven default presets.

use http::Method;
use parlor_protocol::ids::{AccountId, AppId};
use parlor_store::{Statement, Unit, values};
use schemars::JsonSchema;
use serde::Serialize;

use super::{App, AppParams};
use crate::clock::{Clock, rfc3339};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::presets;
use crate::state::ServerState;

pub(super) static INSERT: Statement = Statement::new(
    "apps.insert",
    "INSERT INTO apps (account_id, id, name, created_at)
     SELECT a.id, $2, $3, $4 FROM accounts a WHERE a.id = $1",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::POST, "/apps", "createApp", handle)
        .on_account()
        .describe(
            "Create an app",
            "Creates an app in the account. A new app contains the seven default presets. An API token that is restricted to \
             some apps cannot create apps.",
        )
}

/// A created app, nested the way the official SDKs declare it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CreatedApp")]
struct CreatedApp {
    /// The created app.
    app: App,
}

async fn handle(call: Call<Empty, Empty, AppParams>) -> Result<Data<CreatedApp>, ApiError> {
    if call.caller.token.app_ids.is_some() {
        return Err(ApiError::forbidden());
    }
    let (unit, app) = insert(
        Unit::default(),
        &call.state.clock,
        call.account,
        &call.body.name,
        call.now_ms,
    );
    let respond = move |_: &[_]| Ok(Data(CreatedApp { app: app.clone() }));
    Ok(call.commit(unit, respond).await?)
}

/// Creates an app without a request, for the command line and the first start.
///
/// # Errors
/// `WrongCount` when the account does not exist.
pub async fn create(
    state: &ServerState,
    account: AccountId,
    name: &str,
) -> Result<App, parlor_store::Error> {
    let now_ms = state.clock.now_ms();
    let (unit, app) = insert(Unit::default(), &state.clock, account, name, now_ms);
    state.db.commit(unit).await?;
    Ok(app)
}

/// Adds a new app to a unit, which is rolled back if the account does not exist.
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
