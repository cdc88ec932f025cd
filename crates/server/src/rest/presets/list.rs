//! `GET …/presets`: lists the app's presets.

use garde::Validate;
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PresetSummary, names};
use crate::http::{ApiError, Call, Empty, Endpoint, Page};
use crate::paging::{PageNo, PerPage, SortOrder, Window};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/presets", "listPresets", handle).describe(
        "List presets",
        "Returns the presets of the app without their contents, newest first.",
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
    /// Returns only presets whose name contains this text, ignoring case.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// Sort direction by creation time. Defaults to `DESC`, newest first.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

async fn handle(call: Call<Empty, Filter>) -> Result<Page<PresetSummary>, ApiError> {
    let mut presets = names(&call.state, call.app).await?;
    if let Some(search) = &call.query.search {
        let search = search.to_lowercase();
        presets.retain(|preset| preset.name.to_lowercase().contains(&search));
    }
    Ok(Window::new(call.query.page_no, call.query.per_page).cut(presets, call.query.sort_order))
}
