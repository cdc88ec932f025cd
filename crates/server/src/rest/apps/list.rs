//! `GET …/apps`: the account's apps.

use garde::Validate;
use http::Method;
use parlor_protocol::ids::AccountId;
use parlor_store::{Error, Statement, values};
use schemars::JsonSchema;
use serde::Deserialize;

use super::App;
use crate::http::{ApiError, Call, Endpoint, Nothing, Page};
use crate::paging::{PAGE_NO_MAX, PER_PAGE_MAX, SortOrder, Window};
use crate::state::Parlor;

pub(super) static LIST: Statement = Statement::new(
    "apps.list",
    "SELECT id, name, created_at FROM apps WHERE account_id = $1 ORDER BY id LIMIT 10000",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/apps", "listApps", answer)
        .on_account()
        .describe(
            "List apps",
            "The account's apps, newest first. A token that is limited to some apps sees those.",
        )
}

/// Which apps to list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    /// The page, counted from 1.
    #[garde(range(max = PAGE_NO_MAX))]
    #[serde(default)]
    page_no: Option<u32>,
    /// Items on a page; 20 when absent.
    #[garde(range(max = PER_PAGE_MAX))]
    #[serde(default)]
    per_page: Option<u32>,
    /// Part of the name, in any case.
    #[garde(length(chars, max = 125))]
    #[serde(default)]
    search: Option<String>,
    /// By creation time; newest first when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

async fn answer(call: Call<Nothing, Filter>) -> Result<Page<App>, ApiError> {
    let mut apps = all(&call.parlor, call.account).await?;
    apps.retain(|app| call.caller.token.reaches(app.id));
    if let Some(search) = &call.query.search {
        let search = search.to_lowercase();
        apps.retain(|app| app.name.to_lowercase().contains(&search));
    }
    Ok(Window::new(call.query.page_no, call.query.per_page).cut(apps, call.query.sort_order))
}

/// Every app of an account, oldest first, up to 10,000.
///
/// # Errors
/// When the database fails.
pub(crate) async fn all(parlor: &Parlor, account: AccountId) -> Result<Vec<App>, Error> {
    parlor.db.scan(&LIST, values![account.uuid()]).await
}
