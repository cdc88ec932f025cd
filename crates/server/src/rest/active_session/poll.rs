//! `POST …/active-session/poll`: ask everybody.

use garde::Validate;
use http::Method;
use parlor_live::{Answer, Command, NewPoll};
use parlor_protocol::signal::socket::polls::{Poll as WirePoll, PollOption, PollVote};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ask, remembered, unexpected};
use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::meetings::OneMeeting;

/// The most options.
const OPTIONS_MAX: usize = 50;
/// The longest question or option, in characters.
const TEXT_MAX: usize = 500;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::POST,
        "/meetings/{meeting_id}/active-session/poll",
        "createPoll",
        answer,
    )
    .created()
    .describe("Create a poll", "Asks everybody inside.")
}

/// What to ask.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Asking {
    /// The question.
    #[garde(length(chars, min = 1, max = TEXT_MAX))]
    question: String,
    /// The answers to choose from.
    #[garde(length(min = 2, max = OPTIONS_MAX), inner(length(chars, min = 1, max = TEXT_MAX)))]
    options: Vec<String>,
    /// Nobody learns who voted for what.
    #[garde(skip)]
    #[serde(default)]
    anonymous: bool,
    /// The votes are not shown before one has voted.
    #[garde(skip)]
    #[serde(default)]
    hide_votes: bool,
}

/// What was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Asked {
    /// Always `poll`.
    action: &'static str,
    /// The poll.
    poll: Poll,
}

/// A poll.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Poll {
    /// Its id.
    id: String,
    /// The question.
    question: String,
    /// The answers to choose from.
    options: Vec<Choice>,
    /// Nobody learns who voted for what.
    anonymous: bool,
    /// The votes are not shown before one has voted.
    hide_votes: bool,
    /// Who asked; a name.
    created_by: String,
    /// Who has voted: participants' ids.
    voted: Vec<String>,
}

/// An answer to choose.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Choice {
    /// The answer.
    text: String,
    /// Votes for it.
    count: u64,
    /// Who voted for it.
    votes: Vec<Vote>,
}

/// Somebody's vote.
#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Vote {
    /// The participant's id.
    id: String,
    /// Their name.
    name: String,
}

impl From<WirePoll> for Poll {
    fn from(poll: WirePoll) -> Self {
        let vote = |vote: PollVote| Vote {
            id: vote.user_id,
            name: vote.name,
        };
        let choice = |option: PollOption| Choice {
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

async fn answer(call: Call<OneMeeting, Nothing, Asking>) -> Result<Data<Asked>, ApiError> {
    let poll = NewPoll {
        question: call.body.question.clone(),
        options: call.body.options.clone(),
        anonymous: call.body.anonymous,
        hide_votes: call.body.hide_votes,
    };
    match ask(&call, Command::Poll(poll)).await? {
        Answer::Poll(poll) => {
            let reply = Asked {
                action: "poll",
                poll: Poll::from(*poll),
            };
            remembered(&call, Data(reply)).await
        }
        _ => Err(unexpected()),
    }
}
