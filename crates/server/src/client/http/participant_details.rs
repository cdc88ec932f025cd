//! GET /v2/internals/participant-details: a client's first call, whose response it relies on
//! afterwards (docs/spec/signalling.md 3.3).

use axum::extract::Request;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{authenticate, json};
use crate::http::ApiError;
use crate::rest::participants::JoinContext;
use crate::state::ServerState;

/// The SDK's name for a participant without one.
const DEFAULT_NAME: &str = "Participant";

pub(super) async fn handle(state: &ServerState, request: Request) -> Result<Response, ApiError> {
    let joining = authenticate(state, request.headers()).await?;
    if !joining.meeting_active {
        let message = "Access denied: this meeting is inactive, nobody can join it";
        return Err(ApiError::forbidden_with(message));
    }
    Ok(json(&json!({"success": true, "data": details(&joining)})))
}

/// In most places, a null makes the SDK fail or retry for minutes; absent fields do not.
fn details(joining: &JoinContext) -> Value {
    let participant = &joining.participant;
    let name = participant.name.as_deref().filter(|name| !name.is_empty());
    let mut person = json!({
        "id": participant.id,
        "name": name.unwrap_or(DEFAULT_NAME),
        "custom_participant_id": participant.custom_participant_id,
        "organization_id": joining.claims.org_id,
        "email": "",
        "logged_in": true,
        "scope": [],
    });
    if let Some(picture) = &participant.picture {
        person["picture"] = json!(picture);
    }
    let mut preset = json!(*joining.preset);
    preset["id"] = json!(participant.preset_id);
    preset["name"] = json!(participant.preset_name);
    preset["version"] = json!(joining.preset_version.to_string());
    without_nulls(&mut preset);
    json!({
        "participant": person,
        "preset": preset,
        "meeting": {"title": joining.meeting_title.as_deref().unwrap_or_default()},
    })
}

/// Removes nulls: the plugins' configuration is arbitrary JSON from the customer and may contain
/// some.
fn without_nulls(value: &mut Value) {
    let is_set = |_: &String, value: &mut Value| !value.is_null();
    match value {
        Value::Object(fields) => {
            Map::retain(fields, is_set);
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(without_nulls);
        }
        _ => {}
    }
}
