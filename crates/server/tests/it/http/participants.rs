//! `/meetings/{meeting_id}/participants`.

mod add;
mod bulk;
mod churn;
mod list;
mod one;
mod path;
mod tokens;

use serde_json::{Value, json};

/// Returns the smallest body that adds a participant.
pub(crate) fn new_participant(custom_id: &str) -> Value {
    json!({ "custom_participant_id": custom_id, "preset_name": "group_call_host" })
}

/// Returns the same body with one field added or replaced.
pub(crate) fn new_participant_with(custom_id: &str, field: &str, value: impl Into<Value>) -> Value {
    let mut body = new_participant(custom_id);
    body[field] = value.into();
    body
}
