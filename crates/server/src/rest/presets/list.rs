//! `GET …/presets`: the app's presets.

use garde::Validate;
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PresetSummary, names};
use crate::http::{ApiError, Call, Endpoint, Nothing, Page};
use crate::paging::{PAGE_NO_MAX, PER_PAGE_MAX, SortOrder, Window};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::GET, "/presets", "listPresets", answer).describe(
        "List presets",
        "The app's presets, newest first, without what is in them.",
    )
}

/// Which presets to list.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Filter {
    /// The page; 0 and 1 are the first.
    #[garde(range(max = PAGE_NO_MAX))]
    #[serde(default)]
    page_no: Option<u32>,
    /// Items on a page; 20 when absent.
    #[garde(range(max = PER_PAGE_MAX))]
    #[serde(default)]
    per_page: Option<u32>,
    /// Part of the name, in any case.
    #[garde(length(chars, max = 256))]
    #[serde(default)]
    search: Option<String>,
    /// By creation time; newest first when absent.
    #[garde(skip)]
    #[serde(default)]
    sort_order: SortOrder,
}

async fn answer(call: Call<Nothing, Filter>) -> Result<Page<PresetSummary>, ApiError> {
    let mut presets = names(&call.parlor, call.app).await?;
    if let Some(search) = &call.query.search {
        let search = search.to_lowercase();
        presets.retain(|preset| preset.name.to_lowercase().contains(&search));
    }
    Ok(Window::new(call.query.page_no, call.query.per_page).cut(presets, call.query.sort_order))
}
