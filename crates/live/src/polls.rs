//! Polls (contract: signalling, section 6.7).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, Poll, PollOption, PollVote, UpdatePollResponse,
    VotePollRequest,
};
use prost::Message;

use crate::input::NewPoll;
use crate::limits::Limits;
use crate::output::{Answer, EntryKind, Refusal};
use crate::peer::Peer;
use crate::room::{Asked, Outcome, Room, Turn};

/// The polls of a session, oldest first, with every vote.
#[derive(Debug, Default)]
pub(crate) struct Polls(Vec<Poll>);

impl Polls {
    pub(crate) fn restore(&mut self, encoded: &[u8]) {
        if let Ok(poll) = Poll::decode(encoded) {
            // Ids are drawn in the order of time.
            let at = self.0.partition_point(|other| other.poll_id < poll.poll_id);
            self.0.insert(at, poll);
        }
    }
}

/// A poll as a person may see it: who voted for what in an anonymous poll only its creator does.
fn seen_by(poll: &Poll, user: &str) -> Poll {
    if poll.anonymous && poll.created_by_user_id != user {
        stripped(poll)
    } else {
        poll.clone()
    }
}

/// A poll without who voted for what. Polls of the REST API have no creator who might know.
fn stripped(poll: &Poll) -> Poll {
    let mut stripped = poll.clone();
    for option in &mut stripped.options {
        option.votes.clear();
    }
    stripped
}

fn checked(limits: &Limits, poll: &NewPoll) -> Outcome {
    let fits = |text: &String| {
        !text.trim().is_empty() && text.chars().count() <= limits.poll_text && !text.contains('\0')
    };
    if !fits(&poll.question) || !poll.options.iter().all(fits) {
        let message = format!(
            "a question and its options have 1 to {} characters",
            limits.poll_text
        );
        return Err(Refusal::new(400, message));
    }
    if !(2..=limits.poll_options).contains(&poll.options.len()) {
        let message = format!("a poll has 2 to {} options", limits.poll_options);
        return Err(Refusal::new(400, message));
    }
    Ok(())
}

impl Room {
    /// `createPoll`.
    pub(crate) fn create_poll(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: NewPollRequest = asked.request.message()?;
        let rate = self.limits.poll_rate;
        let me = self.inside(asked.seat)?;
        if !me.permissions.polls.can_create {
            return Err(Refusal::forbidden("polls.can_create"));
        }
        let (name, user) = (me.name.clone(), me.user().to_string());
        let new = NewPoll {
            question: request.question,
            options: request.options,
            anonymous: request.anonymous,
            hide_votes: request.hide_votes,
        };
        checked(&self.limits, &new)?;
        if !self.peers[asked.seat].left.polls.take(rate, turn.now_ms) {
            return Err(Refusal::new(429, "too many polls: slow down"));
        }
        let poll = self.add_poll(turn, new, name, user)?;
        self.tell_poll(turn, event::CREATE_POLL, &poll, Some(asked));
        Ok(())
    }

    /// A poll by the REST API.
    pub(crate) fn poll_from_outside(&mut self, turn: &mut Turn<'_>, new: NewPoll) -> Answer {
        if !self.session.live {
            return Answer::NoSession;
        }
        let poll = checked(&self.limits, &new)
            .and_then(|()| self.add_poll(turn, new, String::new(), String::new()));
        match poll {
            Ok(poll) => {
                self.tell_poll(turn, event::CREATE_POLL, &poll, None);
                Answer::Poll(Box::new(poll))
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// `getPolls`.
    pub(crate) fn list_polls(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let me = &self.peers[asked.seat];
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let user = me.user().to_string();
        let polls = if me.is_inside() {
            self.polls
                .0
                .iter()
                .map(|poll| seen_by(poll, &user))
                .collect()
        } else {
            Vec::new()
        };
        asked.reply(turn, &GetPollsResponse { polls });
        Ok(())
    }

    /// `votePoll`: one vote for each person.
    pub(crate) fn vote(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: VotePollRequest = asked.request.message()?;
        let me = self.inside(asked.seat)?;
        if !me.permissions.polls.can_vote {
            return Err(Refusal::forbidden("polls.can_vote"));
        }
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let (user, name) = (me.user().to_string(), me.name.clone());
        let mut polls = self.polls.0.iter_mut();
        let poll = polls
            .find(|poll| poll.poll_id == request.poll_id)
            .ok_or_else(|| Refusal::new(404, "there is no such poll"))?;
        if poll.votes.contains(&user) {
            return Err(Refusal::new(409, "you have voted already"));
        }
        let option = usize::try_from(request.index).ok();
        let option = option
            .and_then(|index| poll.options.get_mut(index))
            .ok_or_else(|| Refusal::new(400, "the poll has no such option"))?;
        option.count = Some(option.count() + 1);
        option.votes.push(PollVote {
            user_id: user.clone(),
            name,
        });
        poll.votes.push(user);
        let poll = poll.clone();
        self.keep_poll(turn, &poll);
        self.tell_poll(turn, event::VOTE_POLL, &poll, Some(asked));
        Ok(())
    }

    fn add_poll(
        &mut self,
        turn: &mut Turn<'_>,
        new: NewPoll,
        created_by: String,
        created_by_user_id: String,
    ) -> Result<Poll, Refusal> {
        if self.polls.0.len() >= self.limits.polls {
            return Err(Refusal::new(409, "this session has too many polls"));
        }
        let options = new.options.into_iter().map(|text| PollOption {
            text,
            // Explicitly, because clients do not read an absent count as none.
            count: Some(0),
            votes: Vec::new(),
        });
        let poll = Poll {
            poll_id: turn.id().to_string(),
            created_by,
            created_by_user_id,
            question: new.question,
            options: options.collect(),
            hide_votes: new.hide_votes,
            anonymous: new.anonymous,
            votes: Vec::new(),
        };
        self.polls.0.push(poll.clone());
        self.keep_poll(turn, &poll);
        Ok(poll)
    }

    fn keep_poll(&self, turn: &mut Turn<'_>, poll: &Poll) {
        let kept = Some(poll.encode_to_vec());
        self.keep_entry(turn, EntryKind::Poll, poll.poll_id.clone(), kept);
    }

    /// Everybody who may see polls learns of a change, who made it included.
    fn tell_poll(&self, turn: &mut Turn<'_>, event: u32, poll: &Poll, asked: Option<&Asked<'_>>) {
        let creator = |peer: &Peer| peer.user().to_string() == poll.created_by_user_id;
        let asking = asked.map(|asked| asked.connection);
        let views = |peer: &Peer| {
            let here = peer.is_inside() && peer.permissions.polls.can_view;
            here && (peer.connection != asking || asking.is_none())
        };
        let whole = UpdatePollResponse {
            poll: Some(poll.clone()),
        };
        let stripped = UpdatePollResponse {
            poll: Some(stripped(poll)),
        };
        if poll.anonymous {
            let (creators, others) = (
                self.peers.sockets(|peer| views(peer) && creator(peer)),
                self.peers.sockets(|peer| views(peer) && !creator(peer)),
            );
            turn.push(creators, event, &whole);
            turn.push(others, event, &stripped);
        } else {
            turn.push(self.peers.sockets(views), event, &whole);
        }
        if let Some(asked) = asked {
            let mine = !poll.anonymous || creator(&self.peers[asked.seat]);
            asked.reply_on(turn, event, if mine { &whole } else { &stripped });
        }
    }
}
