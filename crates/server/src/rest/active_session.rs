//! Control of a meeting's live session: kick, mute and polls. Operations 46–51
//! (docs/spec/rest.md 1.8).

mod family;
mod get;
mod kick;
mod kick_all;
mod mute;
mod mute_all;
mod poll;
mod selection;

use parlor_live::{Answer, Command, Refusal};
use parlor_protocol::ids::MeetingId;
use parlor_store::Unit;

use crate::http::{ApiError, ApiResponse, Call, Data, Endpoint, Problem};
use crate::rest::meetings::MeetingPath;

/// The operations on active sessions.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get::endpoint(),
        kick::endpoint(),
        kick_all::endpoint(),
        mute::endpoint(),
        mute_all::endpoint(),
        poll::endpoint(),
    ]
}

/// The 404 for a meeting without a live session, with RealtimeKit's message.
fn no_session(meeting: MeetingId) -> ApiError {
    let message = format!("No active session found for meeting_id {meeting}");
    ApiError::not_found(Problem::new(message))
}

/// The 404 for a participant who is not in the session, with RealtimeKit's message.
fn unknown_participant(id: &str) -> ApiError {
    ApiError::not_found(Problem::new(format!("No user found with id {id}")))
}

/// Sends a command to the meeting's room and returns its answer.
///
/// # Errors
/// The error that corresponds to the room's refusal.
async fn send_command<Q, B>(
    call: &Call<MeetingPath, Q, B>,
    command: Command,
) -> Result<Answer, ApiError> {
    let meeting = call.path.meeting_id;
    match call.state.live.command(call.app, meeting, command).await {
        Answer::NoSession => Err(no_session(meeting)),
        Answer::NotFound(id) => Err(unknown_participant(&id)),
        Answer::Refused(refusal) => Err(refusal_error(refusal)),
        answer => Ok(answer),
    }
}

fn refusal_error(Refusal { code, message }: Refusal) -> ApiError {
    match code {
        400 | 413 => ApiError::bad_request(message),
        404 => ApiError::not_found(Problem::new(message)),
        409 => ApiError::conflict(Problem::new(message)),
        429 => ApiError::too_many_requests(1),
        _ => ApiError::internal(format!("a room refused with {code}: {message}")),
    }
}

/// The 500 for an answer that does not match the command. The answer itself is not logged, because
/// it contains personal data.
fn unexpected_answer() -> ApiError {
    ApiError::internal("a room's answer does not match the command")
}

/// Stores the response under the request's `Idempotency-Key`, if it has one. The room's action is
/// not part of the transaction, so two concurrent requests with the same key may both be executed.
async fn save_response<T, Q, B>(
    call: &Call<MeetingPath, Q, B>,
    response: Data<T>,
) -> Result<Data<T>, ApiError>
where
    Data<T>: ApiResponse + Clone + Sync,
    T: Clone + Sync,
{
    if !call.is_idempotent() {
        return Ok(response);
    }
    call.commit(Unit::default(), move |_| Ok(response.clone()))
        .await
        .map_err(Into::into)
}
