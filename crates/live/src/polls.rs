//! Polls (contract: signalling, section 6.7).

use std::collections::BTreeSet;

use parlor_protocol::ids::ParticipantId;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::{
    GetPollsResponse, NewPollRequest, Poll, PollOption, PollVote, UpdatePollResponse,
    VotePollRequest,
};
use prost::Message;

use crate::input::{ConnectionId, NewPoll};
use crate::limits::Limits;
use crate::output::{Answer, EntryKind, Refusal};
use crate::peer::Peer;
use crate::room::{Asked, Deadline, Outcome, Room, Turn};

/// Votes are told at most so often: each change of a poll is the whole of it, to everybody.
const VOTES_MS: i64 = 300;

/// The polls of a session, oldest first, with every vote.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    all: Vec<Poll>,
    /// The bytes of all, which clients read in one reply.
    bytes: usize,
    /// The places of those with votes that only the voters were told of.
    voted: BTreeSet<usize>,
}

impl Polls {
    pub(crate) fn restore(&mut self, encoded: &[u8]) {
        if let Ok(poll) = Poll::decode(encoded) {
            // Ids are drawn in the order of time.
            let at = self
                .all
                .partition_point(|other| other.poll_id < poll.poll_id);
            self.bytes += poll.encoded_len();
            self.all.insert(at, poll);
        }
    }

    /// Puts a poll in the place of one that was there, or of none.
    fn put(&mut self, at: usize, poll: Poll, limits: &Limits) -> Outcome {
        let old = self.all.get(at).map_or(0, Message::encoded_len);
        let bytes = self.bytes - old + poll.encoded_len();
        if bytes > limits.reply_bytes {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes = bytes;
        match self.all.get_mut(at) {
            Some(place) => *place = poll,
            None => self.all.push(poll),
        }
        Ok(())
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
        let request: NewPollRequest = asked.message()?;
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
        let poll = self.add_poll(turn, new, name, user)?;
        self.tell_poll(turn, event::CREATE_POLL, &poll, Some(asked.connection));
        self.reply_poll(turn, asked, &poll);
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
            let polls = self.polls.all.iter();
            polls.map(|poll| seen_by(poll, &user)).collect()
        } else {
            Vec::new()
        };
        asked.reply(turn, &GetPollsResponse { polls });
        Ok(())
    }

    /// `votePoll`: one vote for each person.
    pub(crate) fn vote(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: VotePollRequest = asked.message()?;
        let me = self.inside(asked.seat)?;
        if !me.permissions.polls.can_vote {
            return Err(Refusal::forbidden("polls.can_vote"));
        }
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let (user, name) = (me.user().to_string(), me.name.clone());
        let mut polls = self.polls.all.iter();
        let at = polls
            .position(|poll| poll.poll_id == request.poll_id)
            .ok_or_else(|| Refusal::new(404, "there is no such poll"))?;
        let mut poll = self.polls.all[at].clone();
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
        self.polls.put(at, poll.clone(), &self.limits)?;
        self.keep_poll(turn, &poll);
        self.reply_poll(turn, asked, &poll);
        if self.polls.voted.is_empty() {
            self.at(turn.monotonic.after(VOTES_MS), Deadline::Votes);
        }
        self.polls.voted.insert(at);
        Ok(())
    }

    /// Everybody learns how polls stand that were voted on.
    pub(crate) fn tell_votes(&mut self, turn: &mut Turn<'_>) {
        for at in std::mem::take(&mut self.polls.voted) {
            self.tell_poll(turn, event::VOTE_POLL, &self.polls.all[at], None);
        }
    }

    fn add_poll(
        &mut self,
        turn: &mut Turn<'_>,
        new: NewPoll,
        created_by: String,
        created_by_user_id: String,
    ) -> Result<Poll, Refusal> {
        let count = self.polls.all.len();
        if count >= self.limits.polls {
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
        self.polls.put(count, poll.clone(), &self.limits)?;
        self.keep_poll(turn, &poll);
        Ok(poll)
    }

    fn keep_poll(&self, turn: &mut Turn<'_>, poll: &Poll) {
        let kept = Some(poll.encode_to_vec());
        self.keep_entry(turn, EntryKind::Poll, poll.poll_id.clone(), kept);
    }

    /// Who changed a poll gets it as a reply.
    fn reply_poll(&self, turn: &mut Turn<'_>, asked: &Asked<'_>, poll: &Poll) {
        let poll = Some(seen_by(poll, &self.peers[asked.seat].user().to_string()));
        asked.reply(turn, &UpdatePollResponse { poll });
    }

    /// Everybody who may see polls learns of a change, but who has it from a reply.
    fn tell_poll(&self, turn: &mut Turn<'_>, event: u32, poll: &Poll, but: Option<ConnectionId>) {
        let creator = poll.created_by_user_id.parse::<ParticipantId>().ok();
        let all = |peer: &Peer| !poll.anonymous || Some(peer.user()) == creator;
        let views = |peer: &Peer| {
            let here = peer.is_inside() && peer.permissions.polls.can_view;
            here && (but.is_none() || peer.connection != but)
        };
        let whole = self.peers.sockets(|peer| views(peer) && all(peer));
        if !whole.is_empty() {
            let poll = Some(poll.clone());
            turn.push(whole, event, &UpdatePollResponse { poll });
        }
        let less = self.peers.sockets(|peer| views(peer) && !all(peer));
        if !less.is_empty() {
            let poll = Some(stripped(poll));
            turn.push(less, event, &UpdatePollResponse { poll });
        }
    }
}
