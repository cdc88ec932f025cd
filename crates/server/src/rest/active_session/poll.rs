//! `POST …/active-session/poll`: creates a poll.

use garde::Validate;
use http::Method;
use parlor_live::{Answer, Command, NewPoll};
use parlor_protocol::signal::socket::polls::{Poll as WirePoll, PollOption, PollVote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{save_response, send_command, unexpected_answer};
use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::meetings::MeetingPath;

/// Maximum number of options.
const OPTIONS_MAX: usize = 50;
/// Maximum length of the question and of an option, in characters.
const TEXT_MAX: usize = 500;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/poll",
        "createPoll",
        handle,
    )
    .created()
    .describe(
        "Create a poll",
        "Creates a poll in the live session and shows it to all participants.",
    )
}

/// The poll to create.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "NewPoll")]
struct PollParams {
    /// The question.
    #[garde(length(chars, min = 1, max = TEXT_MAX))]
    question: String,
    /// The options to choose from.
    #[garde(length(min = 2, max = OPTIONS_MAX), inner(length(chars, min = 1, max = TEXT_MAX)))]
    options: Vec<String>,
    /// Whether votes are anonymous: no one can see who voted for which option. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    anonymous: bool,
    /// Whether participants see the votes only after they have voted. Defaults to `false`.
    #[garde(skip)]
    #[serde(default)]
    hide_votes: bool,
}

/// A created poll.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "CreatedPoll")]
struct CreatedPoll {
    /// Always `poll`.
    action: &'static str,
    /// The created poll.
    poll: Poll,
}

/// A poll in a session.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Poll")]
struct Poll {
    /// Unique identifier of the poll.
    id: String,
    /// The question.
    question: String,
    /// The options to choose from, with their votes.
    options: Vec<PollChoice>,
    /// Whether votes are anonymous: no one can see who voted for which option.
    anonymous: bool,
    /// Whether participants see the votes only after they have voted.
    hide_votes: bool,
    /// Display name of the poll's creator.
    created_by: String,
    /// Ids of the participants who have voted.
    voted: Vec<String>,
}

/// An option of a poll, with its votes.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "PollOption")]
struct PollChoice {
    /// Text of the option.
    text: String,
    /// Number of votes for the option.
    count: u64,
    /// The votes for the option.
    votes: Vec<ChoiceVote>,
}

/// A participant's vote for an option.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "PollVote")]
struct ChoiceVote {
    /// Id of the participant who voted.
    id: String,
    /// Display name of the participant.
    name: String,
}

impl From<WirePoll> for Poll {
    fn from(poll: WirePoll) -> Self {
        let vote = |vote: PollVote| ChoiceVote {
            id: vote.user_id,
            name: vote.name,
        };
        let choice = |option: PollOption| PollChoice {
            text: option.text,
            count: option.count.unwrap_or_default(),
            votes: option.votes.into_iter().map(vote).collect(),
        };
        Self {
            id: poll.poll_id,
            question: poll.question,
            options: poll.options.into_iter().map(choice).collect(),
            anonymous: poll.anonymous,
            hide_votes: poll.hide_votes,
            created_by: poll.created_by,
            voted: poll.votes,
        }
    }
}

async fn handle(call: Call<MeetingPath, Empty, PollParams>) -> Result<Data<CreatedPoll>, ApiError> {
    let poll = NewPoll {
        question: call.body.question.clone(),
        options: call.body.options.clone(),
        anonymous: call.body.anonymous,
        hide_votes: call.body.hide_votes,
    };
    match send_command(&call, Command::Poll(poll)).await? {
        Answer::Poll(poll) => {
            let created = CreatedPoll {
                action: "poll",
                poll: Poll::from(*poll),
            };
            save_response(&call, Data(created)).await
        }
        _ => Err(unexpected_answer()),
    }
}
