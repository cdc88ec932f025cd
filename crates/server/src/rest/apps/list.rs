//! `GET …/apps`: lists the account's apps.

use garde::Validate;
use http::Method;
use parlor_protocol::ids::AccountId;
use parlor_store::{Error, Statement, values};
use schemars::JsonSchema;
use serde::Deserialize;

use super::App;
use crate::http::{ApiError, Call, Empty, Endpoint, Page};
use crate::paging::{PageNo, PerPage, SortOrder, Window};
use crate::state::ServerState;

pub(super) static LIST: Statement = Statement::new(
    "apps.list",
    "SELECT id, name, created_at FROM apps WHERE account_id = $1 ORDER BY id LIMIT 10000",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/apps", "listApps", handle)
        .on_account()
        .describe(
            "List apps",
            "Returns the apps of the account, newest first. An API token that is restricted to some apps sees only those.",
        )
}

/// Filters and paging of the list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    #[garde(dive)]
    #[serde(default)]
    page_no: PageNo,
    #[garde(dive)]
    #[serde(default)]
    per_page: PerPage,
    /// Returns only apps whose name contains this text, ignoring case.
    #[garde(length(chars, max = 125))]
    #[serde(default)]
    search: Option<String>,
    /// Sort direction by creation time. Defaults to `DESC`, newest first.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

async fn handle(call: Call<Empty, Filter>) -> Result<Page<App>, ApiError> {
    let mut apps = all(&call.state, call.account).await?;
    apps.retain(|app| call.caller.token.can_access(app.id));
    if let Some(search) = &call.query.search {
        let search = search.to_lowercase();
        apps.retain(|app| app.name.to_lowercase().contains(&search));
    }
    Ok(Window::new(call.query.page_no, call.query.per_page).cut(apps, call.query.sort_order))
}

/// Lists the apps of an account, oldest first, up to 10,000.
///
/// # Errors
/// When the database fails.
pub(crate) async fn all(state: &ServerState, account: AccountId) -> Result<Vec<App>, Error> {
    state.db.scan(&LIST, values![account.uuid()]).await
}
