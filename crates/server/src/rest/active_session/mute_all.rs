//! `POST …/active-session/mute-all`: take the microphone from everybody.

use garde::Validate;
use http::Method;
use parlor_live::{Answer, Command};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ask, remembered, unexpected};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::meetings::OneMeeting;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/mute-all",
        "muteAllParticipants",
        answer,
    )
    .describe(
        "Mute everybody",
        "Takes the microphone from everybody inside.",
    )
}

/// How.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Muting {
    /// Whether they may turn it on again. When not, they cannot for the rest of the session.
    #[garde(skip)]
    allow_unmute: bool,
}

/// What was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct MutedAll {
    /// Always `mute-all`.
    action: &'static str,
    /// How many were muted.
    #[schemars(range(min = 0))]
    muted_participants_count: usize,
}

async fn answer(call: Call<OneMeeting, Nothing, Muting>) -> Result<Data<MutedAll>, ApiError> {
    let command = Command::MuteAll {
        allow_unmute: call.body.allow_unmute,
    };
    match ask(&call, command).await? {
        Answer::Count(muted_participants_count) => {
            let reply = MutedAll {
                action: "mute-all",
                muted_participants_count,
            };
            remembered(&call, Data(reply)).await
        }
        _ => Err(unexpected()),
    }
}
