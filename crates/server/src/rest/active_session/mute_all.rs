//! `POST …/active-session/mute-all`: mutes all participants.

use garde::Validate;
use http::Method;
use parlor_live::{Answer, Command};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{save_response, send_command, unexpected_answer};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::meetings::MeetingPath;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/mute-all",
        "muteAllParticipants",
        handle,
    )
    .describe(
        "Mute all participants",
        "Turns off the microphones of all participants in the session.",
    )
}

/// Options of muting all participants.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "MuteAllParams")]
struct MuteAllParams {
    /// Whether participants can turn their microphones on again. If `false`, they cannot for the
    /// rest of the session.
    #[garde(skip)]
    allow_unmute: bool,
}

/// The result of muting all participants.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "MuteAllResult")]
struct MuteAllResult {
    /// Always `mute-all`.
    action: &'static str,
    /// Number of participants that were muted.
    #[schemars(range(min = 0))]
    muted_participants_count: usize,
}

async fn handle(
    call: Call<MeetingPath, Empty, MuteAllParams>,
) -> Result<Data<MuteAllResult>, ApiError> {
    let command = Command::MuteAll {
        allow_unmute: call.body.allow_unmute,
    };
    match send_command(&call, command).await? {
        Answer::Count(muted_participants_count) => {
            let result = MuteAllResult {
                action: "mute-all",
                muted_participants_count,
            };
            save_response(&call, Data(result)).await
        }
        _ => Err(unexpected_answer()),
    }
}
