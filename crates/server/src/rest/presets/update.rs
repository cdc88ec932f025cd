//! `PATCH …/presets/{preset_id}`: change parts of a preset.

use garde::Validate;
use http::Method;
use parlor_protocol::preset::PresetBody;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{NAME_MAX, OnePreset, Preset, rewrite};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing, checked};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/presets/{preset_id}", "updatePreset", answer).may_conflict().describe(
        "Change a preset",
        "Changes what is sent and nothing else, at any depth; null brings a field back to its default. \
         People who join afterwards get the new permissions.",
    )
}

/// What to change: any part of a preset.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct PresetPatch {
    /// A new name, unique in the app.
    #[garde(length(chars, min = 1, max = NAME_MAX))]
    #[serde(default)]
    name: Option<String>,
    /// Parts of `config`.
    #[garde(skip)]
    #[serde(default)]
    config: Option<Map<String, Value>>,
    /// Parts of `permissions`.
    #[garde(skip)]
    #[serde(default)]
    permissions: Option<Map<String, Value>>,
    /// Parts of `ui`.
    #[garde(skip)]
    #[serde(default)]
    ui: Option<Map<String, Value>>,
}

async fn answer(call: Call<OnePreset, Nothing, PresetPatch>) -> Result<Data<Preset>, ApiError> {
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
        Ok((name, checked::<PresetBody>(body)?))
    };
    rewrite(
        &call.parlor,
        call.app,
        call.path.preset_id,
        call.now_ms,
        change,
    )
    .await
    .map(Data)
}
