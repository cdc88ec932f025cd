//! `/meetings/{meeting_id}/participants`: people who may join.

mod add;
mod bulk;
mod churn;
mod list;
mod one;
mod path;
mod tokens;

use serde_json::{Value, json};

/// The smallest body that adds somebody.
pub(crate) fn person(custom_id: &str) -> Value {
    json!({ "custom_participant_id": custom_id, "preset_name": "group_call_host" })
}

/// The same with one more field, or another value of one.
pub(crate) fn person_with(custom_id: &str, field: &str, value: impl Into<Value>) -> Value {
    let mut person = person(custom_id);
    person[field] = value.into();
    person
}
