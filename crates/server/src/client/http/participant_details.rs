//! GET /v2/internals/participant-details: the first call of a client, and what it takes for granted
//! afterwards (docs/spec/signalling.md 3.3).

use axum::extract::Request;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{json, visitor};
use crate::http::ApiError;
use crate::rest::participants::Joining;
use crate::state::Parlor;

/// What the SDK calls somebody without a name.
const NAMELESS: &str = "Participant";

pub(super) async fn answer(parlor: &Parlor, request: Request) -> Result<Response, ApiError> {
    let joining = visitor(parlor, request.headers()).await?;
    if !joining.meeting_active {
        let message = "Access denied: this meeting is inactive, nobody can join it";
        return Err(ApiError::denied(message));
    }
    Ok(json(&json!({"success": true, "data": details(&joining)})))
}

/// The SDK fails, or tries for minutes, on a null in most places; what is absent it can do without.
fn details(joining: &Joining) -> Value {
    let participant = &joining.participant;
    let name = participant.name.as_deref().filter(|name| !name.is_empty());
    let mut person = json!({
        "id": participant.id,
        "name": name.unwrap_or(NAMELESS),
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

/// What callers keep in the plugins' configuration has no shape of its own, and may hold nulls.
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
