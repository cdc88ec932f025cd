//! `PATCH …/meetings/{meeting_id}`: change some fields of a meeting.

use garde::Validate;
use http::Method;
use parlor_live::Command;
use parlor_protocol::ids::{AppId, MeetingId};
use parlor_protocol::{MeetingSettings, MeetingStatus};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Meeting, OneMeeting, TITLE_MAX, rewrite, rooms};
use crate::http::{ApiError, Call, Data, Endpoint, Patch, checked};
use crate::rooms::records;
use crate::state::Parlor;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(Method::PATCH, "/meetings/{meeting_id}", "updateMeeting", answer).describe(
        "Change a meeting",
        "Changes what is sent and nothing else, at any depth; null brings a field back to its default. With `status` \
         INACTIVE nobody can join the meeting and its breakout rooms any more; those who are inside stay, unless `kick` \
         says otherwise.",
    )
}

/// How.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Manner {
    /// When the status is set to INACTIVE, throw everybody out as well. Not in RealtimeKit.
    #[garde(skip)]
    #[serde(default)]
    kick: bool,
}

/// What to change: any field of a meeting.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct MeetingPatch {
    /// What people call it; null takes the title away.
    #[garde(custom(Patch::at_most(TITLE_MAX)))]
    #[serde(default)]
    #[schemars(with = "Option<String>", length(max = TITLE_MAX))]
    title: Patch<String>,
    /// Whether people can join.
    #[garde(skip)]
    #[serde(default)]
    status: Option<MeetingStatus>,
    /// Any other setting.
    #[garde(skip)]
    #[serde(flatten)]
    #[schemars(schema_with = "settings_patch")]
    settings: Map<String, Value>,
}

/// The settings, with the nested ones open: null at any depth brings a default back.
fn settings_patch(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = MeetingSettings::json_schema(generator);
    for part in ["recording_config", "ai_config"] {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{part}")) {
            *property = json!({
                "type": ["object", "null"],
                "additionalProperties": true,
                "description": format!("Parts of the `{part}` that a meeting is created with."),
            });
        }
    }
    schema
}

async fn answer(call: Call<OneMeeting, Manner, MeetingPatch>) -> Result<Data<Meeting>, ApiError> {
    let (parlor, app, id, patch) = (&call.parlor, call.app, call.path.meeting_id, &call.body);
    let change = |meeting: &mut Meeting| {
        if let Some(title) = patch.title.change() {
            meeting.title = title.cloned();
        }
        meeting.status = patch.status.unwrap_or(meeting.status);
        if !patch.settings.is_empty() {
            let merged = meeting
                .settings
                .merged(Value::Object(patch.settings.clone()));
            meeting.settings = checked::<MeetingSettings>(merged)?;
        }
        Ok(())
    };
    let meeting = rewrite(parlor, app, id, call.now_ms, change).await?;
    records::tell_changed(&parlor.live, app, id).await;
    if let Some(status) = patch.status {
        let kick = call.query.kick && status == MeetingStatus::Inactive;
        tell_family(parlor, app, id, kick).await;
    }
    Ok(Data(meeting))
}

/// The status was set: whether people can join the breakout rooms depends on it as well, and whoever was
/// moved to one is thrown out with everybody else. The change has been made, so a database that fails
/// meanwhile is no failure of it.
async fn tell_family(parlor: &Parlor, app: AppId, id: MeetingId, kick: bool) {
    if kick {
        parlor.live.tell(app, id, Command::KickAll);
    }
    match rooms(parlor, app, id).await {
        Ok(found) => {
            for room in found.rooms {
                records::tell_changed(&parlor.live, app, room).await;
                if kick {
                    parlor.live.tell(app, room, Command::KickAll);
                }
            }
        }
        Err(error) => {
            tracing::warn!(?error, meeting = %id, "the breakout rooms could not be told of a change");
        }
    }
}
