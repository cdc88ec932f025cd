//! `PATCH …/meetings/{meeting_id}`: updates some fields of a meeting.

use garde::Validate;
use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::{MeetingSettings, MeetingStatus};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Meeting, MeetingPath, TITLE_MAX, rewrite, rooms};
use crate::http::{ApiError, Call, Data, Endpoint, Patch, parse_value};
use crate::rooms::records;
use crate::state::ServerState;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/meetings/{meeting_id}", "updateMeeting", handle).describe(
        "Update a meeting",
        "Updates the fields that are sent, at any depth, and leaves all others unchanged. `null` resets a field to its \
         default. Setting `status` to `INACTIVE` prevents anyone from joining the meeting or its breakout rooms; \
         participants who are already connected stay, unless `kick` is set.",
    )
}

/// Options of the update.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Options {
    /// Also disconnects all participants when the status is set to `INACTIVE`. Defaults to `false`.
    /// Not available in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    kick: bool,
}

/// The fields of a meeting to update. Absent fields do not change.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "MeetingPatch")]
struct MeetingPatch {
    /// Title of the meeting. `null` removes it.
    #[garde(custom(Patch::at_most(TITLE_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = TITLE_MAX))]
    title: Patch<String>,
    /// Whether participants can join the meeting.
    #[garde(skip)]
    #[serde(default)]
    status: Option<MeetingStatus>,
    /// The meeting's settings to update.
    #[garde(skip)]
    #[serde(flatten)]
    #[schemars(schema_with = "settings_patch")]
    settings: Map<String, Value>,
}

/// The schema of the settings in a patch. Nested objects are open, because null at any depth resets
/// a field to its default.
fn settings_patch(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = MeetingSettings::json_schema(generator);
    for part in ["recording_config", "ai_config"] {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{part}")) {
            *property = json!({
                "type": ["object", "null"],
                "additionalProperties": true,
                "description": format!("The fields of `{part}` to update. `null` resets a field to its default."),
            });
        }
    }
    schema
}

async fn handle(call: Call<MeetingPath, Options, MeetingPatch>) -> Result<Data<Meeting>, ApiError> {
    let (state, app, id, patch) = (&call.state, call.app, call.path.meeting_id, &call.body);
    let change = |meeting: &mut Meeting| {
        if let Some(title) = patch.title.change() {
            meeting.title = title.cloned();
        }
        meeting.status = patch.status.unwrap_or(meeting.status);
        if !patch.settings.is_empty() {
            let merged = meeting
                .settings
                .merged(Value::Object(patch.settings.clone()));
            meeting.settings = parse_value::<MeetingSettings>(merged)?;
        }
        Ok(())
    };
    let meeting = rewrite(state, app, id, call.now_ms, change).await?;
    records::notify_changed(&state.live, app, id).await;
    if let Some(status) = patch.status {
        let kick = call.query.kick && status == MeetingStatus::Inactive;
        notify_family(state, app, id, kick).await;
    }
    Ok(Data(meeting))
}

/// Notifies the breakout rooms of a status change, on which their own accessibility depends. With
/// `kick`, disconnects all participants, including those in breakout rooms. The change is already
/// committed, so a database error here does not fail the request.
async fn notify_family(state: &ServerState, app: AppId, id: MeetingId, kick: bool) {
    if kick {
        state.live.send(app, id, Command::KickAll);
    }
    match rooms(state, app, id).await {
        Ok(found) => {
            for room in found.rooms {
                records::notify_changed(&state.live, app, room).await;
                if kick {
                    state.live.send(app, room, Command::KickAll);
                }
            }
        }
        Err(error) => {
            tracing::warn!(?error, meeting = %id, "the breakout rooms could not be notified of a change");
        }
    }
}
