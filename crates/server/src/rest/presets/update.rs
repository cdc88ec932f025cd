//! `PATCH …/presets/{preset_id}`: updates some fields of a preset.

use garde::Validate;
use http::Method;
use parlor_protocol::preset::PresetBody;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{NAME_MAX, Preset, PresetPath, rewrite};
use crate::http::{ApiError, Call, Data, Empty, Endpoint, parse_value};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/presets/{preset_id}", "updatePreset", handle).may_conflict().describe(
        "Update a preset",
        "Updates the fields that are sent, at any depth, and leaves all others unchanged. `null` resets a field to its \
         default. Participants who join afterwards get the new permissions.",
    )
}

/// The fields of a preset to update. Absent fields do not change.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "PresetPatch")]
struct PresetPatch {
    /// New name of the preset, unique in the app and case-sensitive.
    #[garde(length(chars, min = 1, max = NAME_MAX))]
    #[serde(default)]
    name: Option<String>,
    /// The fields of `config` to update.
    #[garde(skip)]
    #[serde(default)]
    config: Option<Map<String, Value>>,
    /// The fields of `permissions` to update.
    #[garde(skip)]
    #[serde(default)]
    permissions: Option<Map<String, Value>>,
    /// The fields of `ui` to update.
    #[garde(skip)]
    #[serde(default)]
    ui: Option<Map<String, Value>>,
}

async fn handle(call: Call<PresetPath, Empty, PresetPatch>) -> Result<Data<Preset>, ApiError> {
    let patch = &call.body;
    let change = |preset: &Preset| {
        let name = patch
            .name
            .clone()
            .unwrap_or_else(|| preset.summary.name.clone());
        let mut body = json!(preset.body);
        let parts = [
            ("config", &patch.config),
            ("permissions", &patch.permissions),
            ("ui", &patch.ui),
        ];
        for (part, changes) in parts {
            if let Some(changes) = changes {
                parlor_protocol::merge_patch(&mut body[part], Value::Object(changes.clone()));
            }
        }
        Ok((name, parse_value::<PresetBody>(body)?))
    };
    rewrite(
        &call.state,
        call.app,
        call.path.preset_id,
        call.now_ms,
        change,
    )
    .await
    .map(Data)
}
