//! The session that a meeting has now: who is told what while it runs. Operations 46–51
//! (docs/spec/rest.md 1.8).

mod family;
mod get;
mod kick;
mod kick_all;
mod mute;
mod mute_all;
mod people;
mod poll;

use parlor_live::{Answer, Command, Refusal};
use parlor_protocol::ids::MeetingId;
use parlor_store::Unit;

use crate::http::{ApiError, Call, Data, Endpoint, Problem, Reply};
use crate::rest::meetings::OneMeeting;

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

/// The 404 of a meeting without a session, in the known words.
fn no_session(meeting: MeetingId) -> ApiError {
    let message = format!("No active session found for meeting_id {meeting}");
    ApiError::not_found(Problem::new(message))
}

/// The 404 of somebody who is not inside, in the known words.
fn nobody(id: &str) -> ApiError {
    ApiError::not_found(Problem::new(format!("No user found with id {id}")))
}

/// Asks the meeting's room.
///
/// # Errors
/// What the room would not do.
async fn ask<Q, B>(call: &Call<OneMeeting, Q, B>, command: Command) -> Result<Answer, ApiError> {
    let meeting = call.path.meeting_id;
    match call.parlor.live.command(call.app, meeting, command).await {
        Answer::NoSession => Err(no_session(meeting)),
        Answer::Nobody(id) => Err(nobody(&id)),
        Answer::Refused(refusal) => Err(refused(refusal)),
        answer => Ok(answer),
    }
}

fn refused(Refusal { code, message }: Refusal) -> ApiError {
    match code {
        400 | 413 => ApiError::bad_request(message),
        404 => ApiError::not_found(Problem::new(message)),
        409 => ApiError::conflict(Problem::new(message)),
        429 => ApiError::too_many_requests(1),
        _ => ApiError::internal(format!("a room refused with {code}: {message}")),
    }
}

/// The 500 of a room that answers another question. What it says is about people, who have no place
/// in a log.
fn unexpected() -> ApiError {
    ApiError::internal("a room gave the answer to another question")
}

/// Remembers the reply under the request's `Idempotency-Key`, if it has one. What the room did is
/// not in the same transaction: two requests with one key at the same moment may both be carried
/// out.
async fn remembered<T, Q, B>(
    call: &Call<OneMeeting, Q, B>,
    reply: Data<T>,
) -> Result<Data<T>, ApiError>
where
    Data<T>: Reply + Clone + Sync,
    T: Clone + Sync,
{
    if !call.is_idempotent() {
        return Ok(reply);
    }
    call.commit(Unit::default(), move |_| Ok(reply.clone()))
        .await
        .map_err(Into::into)
}
