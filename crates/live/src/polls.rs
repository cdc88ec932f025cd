//! Polls (docs/spec/signalling.md 6.7).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::{
    NewPollRequest, Poll, PollOption, PollVote, UpdatePollResponse, VotePollRequest,
};
use prost::Message;
use uuid::Uuid;

use crate::input::{ConnectionId, NewPoll};
use crate::limits::Limits;
use crate::output::{Answer, EntryKind, Refusal};
use crate::peer::Peer;
use crate::room::{Asked, Deadline, Outcome, Room, Turn};

/// Votes are told at most so often: each change of a poll is the whole of it, to everybody. In large
/// meetings, where everybody who has voted has a frame of their own, more seldom.
const VOTES_MS: i64 = 300;
/// So many clients make it as long again.
const VOTES_PEERS: usize = 1_000;
/// Those who have voted and are not named are counted up to here.
const MAX_ANONYMOUS_ENTRIES: usize = 1_000;

/// A poll, and what is written of it.
#[derive(Debug)]
struct Held {
    /// With every vote; of an anonymous one who has voted, in the order of their ids, and not for what.
    poll: Poll,
    /// The same, encoded.
    whole: Bytes,
    /// Who has voted, where that decides what somebody sees.
    voters: BTreeSet<String>,
}

impl From<Poll> for Held {
    fn from(poll: Poll) -> Self {
        let decides = poll.hide_votes && !poll.anonymous;
        let voters = poll.votes.iter().filter(|_| decides);
        Self {
            whole: poll.encode_to_vec().into(),
            voters: voters.cloned().collect(),
            poll,
        }
    }
}

impl Held {
    fn has_voted(&self, user: &str) -> bool {
        let votes = &self.poll.votes;
        if self.poll.anonymous {
            votes
                .binary_search_by(|voter| voter.as_str().cmp(user))
                .is_ok()
        } else if self.poll.hide_votes {
            self.voters.contains(user)
        } else {
            votes.iter().any(|voter| voter == user)
        }
    }
}

/// The polls of a session, oldest first, with every vote.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    all: Vec<Held>,
    /// The bytes of all, which clients read in one reply.
    bytes: usize,
    /// The places of those with votes that only the voters were told of.
    voted: BTreeSet<usize>,
}

impl Polls {
    /// Takes a poll of the records. Its id.
    pub(crate) fn restore(&mut self, encoded: &[u8]) -> Option<Uuid> {
        let mut poll = Poll::decode(encoded).ok()?;
        if poll.anonymous {
            forget_voters(&mut poll);
        }
        let id = poll.poll_id.parse().ok();
        // Ids are drawn in the order of time.
        let at = self
            .all
            .partition_point(|other| other.poll.poll_id < poll.poll_id);
        let held = Held::from(poll);
        self.bytes += held.whole.len();
        self.all.insert(at, held);
        id
    }

    /// Puts a poll in the place of one that was there, or of none.
    fn put(&mut self, at: usize, poll: Poll, limits: &Limits) -> Outcome {
        let held = Held::from(poll);
        let old = self.all.get(at).map_or(0, |old| old.whole.len());
        let bytes = self.bytes - old + held.whole.len();
        if bytes > limits.reply_bytes {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes = bytes;
        match self.all.get_mut(at) {
            Some(place) => *place = held,
            None => self.all.push(held),
        }
        Ok(())
    }
}

/// Of an anonymous poll nobody is to know who voted for what, neither by its content nor by the order
/// in which people voted.
fn forget_voters(poll: &mut Poll) {
    for option in &mut poll.options {
        option.votes.clear();
    }
    poll.votes.sort_unstable();
}

/// What somebody may see of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    /// Who voted for what.
    Whole,
    /// How many voted for what, and whether oneself has voted.
    Counts { voted: bool },
    /// How many have voted, as long as one has not.
    Hidden,
}

impl Visibility {
    /// Polls of the REST API have no creator.
    fn of(held: &Held, user: &str) -> Self {
        let poll = &held.poll;
        if !poll.anonymous && !poll.hide_votes {
            return Self::Whole;
        }
        let voted = held.has_voted(user);
        let creator = !user.is_empty() && poll.created_by_user_id == user;
        match (poll.anonymous, poll.hide_votes && !voted && !creator) {
            (_, true) => Self::Hidden,
            (true, false) => Self::Counts { voted },
            (false, false) => Self::Whole,
        }
    }
}

/// A poll as a person may see it. Clients show how long the list of those who have voted is, and look
/// whether they are on it: others have a place on it without a name.
fn visible_to(poll: &Poll, visibility: Visibility, user: &str) -> Poll {
    if visibility == Visibility::Whole {
        return poll.clone();
    }
    let own = visibility == Visibility::Counts { voted: true };
    let others = (poll.votes.len() - usize::from(own)).min(MAX_ANONYMOUS_ENTRIES);
    let option = |option: &PollOption| PollOption {
        text: option.text.clone(),
        count: option
            .count
            .filter(|_| visibility != Visibility::Hidden)
            .or(Some(0)),
        votes: Vec::new(),
    };
    Poll {
        options: poll.options.iter().map(option).collect(),
        votes: own
            .then(|| user.to_owned())
            .into_iter()
            .chain(std::iter::repeat_n(String::new(), others))
            .collect(),
        poll_id: poll.poll_id.clone(),
        created_by: poll.created_by.clone(),
        created_by_user_id: poll.created_by_user_id.clone(),
        question: poll.question.clone(),
        hide_votes: poll.hide_votes,
        anonymous: poll.anonymous,
    }
}

/// `GetPollsResponse` of polls that are encoded already: the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    polls: Vec<Bytes>,
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
        let me = self.inside(asked.seat)?;
        if !me.permissions.polls.can_create {
            return Err(Refusal::forbidden("polls.can_create"));
        }
        let request: NewPollRequest = asked.message()?;
        let (name, user) = (me.name.clone(), me.user().to_string());
        let new = NewPoll {
            question: request.question,
            options: request.options,
            anonymous: request.anonymous,
            hide_votes: request.hide_votes,
        };
        checked(&self.limits, &new)?;
        self.add_poll(turn, new, name, user)?;
        let at = self.polls.all.len() - 1;
        self.tell_poll(turn, event::CREATE_POLL, at, Some(asked.connection));
        self.reply_poll(turn, asked, at);
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
                self.tell_poll(turn, event::CREATE_POLL, self.polls.all.len() - 1, None);
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
            self.steps.add(self.polls.all.len());
            let polls = self.polls.all.iter();
            let seen = polls.map(|held| match Visibility::of(held, &user) {
                Visibility::Whole => held.whole.clone(),
                visibility => visible_to(&held.poll, visibility, &user)
                    .encode_to_vec()
                    .into(),
            });
            seen.collect()
        } else {
            Vec::new()
        };
        asked.reply(turn, &Listed { polls });
        Ok(())
    }

    /// `votePoll`: one vote for each person.
    pub(crate) fn vote(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let me = self.inside(asked.seat)?;
        if !me.permissions.polls.can_vote {
            return Err(Refusal::forbidden("polls.can_vote"));
        }
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let request: VotePollRequest = asked.message()?;
        let (user, name) = (me.user().to_string(), me.name.clone());
        let mut polls = self.polls.all.iter();
        let at = polls
            .position(|held| held.poll.poll_id == request.poll_id)
            .ok_or_else(|| Refusal::new(404, "there is no such poll"))?;
        let mut poll = self.polls.all[at].poll.clone();
        if self.polls.all[at].has_voted(&user) {
            return Err(Refusal::new(409, "you have voted already"));
        }
        let option = usize::try_from(request.index).ok();
        let option = option
            .and_then(|index| poll.options.get_mut(index))
            .ok_or_else(|| Refusal::new(400, "the poll has no such option"))?;
        option.count = Some(option.count() + 1);
        if poll.anonymous {
            let place = poll.votes.partition_point(|voter| *voter < user);
            poll.votes.insert(place, user);
        } else {
            option.votes.push(PollVote {
                user_id: user.clone(),
                name,
            });
            poll.votes.push(user);
        }
        self.polls.put(at, poll, &self.limits)?;
        self.keep_poll(turn, at);
        self.reply_poll(turn, asked, at);
        if self.polls.voted.is_empty() {
            let times = 1 + self.peers.len() / VOTES_PEERS;
            let in_ms = VOTES_MS.saturating_mul(i64::try_from(times).unwrap_or(i64::MAX));
            self.at(turn.monotonic.after(in_ms), Deadline::Votes);
        }
        self.polls.voted.insert(at);
        Ok(())
    }

    /// Everybody learns how polls stand that were voted on.
    pub(crate) fn tell_votes(&mut self, turn: &mut Turn<'_>) {
        if let Some(at) = self.polls.voted.pop_first() {
            self.tell_poll(turn, event::VOTE_POLL, at, None);
        }
        // One poll at a time: the next one is told at once, or in the next slice.
        if !self.polls.voted.is_empty() {
            self.at(turn.monotonic, Deadline::Votes);
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
        self.keep_poll(turn, count);
        Ok(poll)
    }

    fn keep_poll(&self, turn: &mut Turn<'_>, at: usize) {
        let held = &self.polls.all[at];
        let kept = Some(held.whole.to_vec());
        self.keep_entry(turn, EntryKind::Poll, held.poll.poll_id.clone(), kept);
    }

    /// Who changed a poll gets it as a reply.
    fn reply_poll(&self, turn: &mut Turn<'_>, asked: &Asked<'_>, at: usize) {
        let user = self.peers[asked.seat].user().to_string();
        let held = &self.polls.all[at];
        let poll = Some(visible_to(&held.poll, Visibility::of(held, &user), &user));
        asked.reply(turn, &UpdatePollResponse { poll });
    }

    /// Everybody who may see polls learns of a change, but who has it from a reply: each what they
    /// may see. Who has voted in an anonymous poll has a frame of their own.
    fn tell_poll(&self, turn: &mut Turn<'_>, event: u32, at: usize, but: Option<ConnectionId>) {
        let held = &self.polls.all[at];
        let views = |peer: &&Peer| {
            let here = peer.is_inside() && peer.permissions.polls.can_view;
            here && (but.is_none() || peer.connection != but)
        };
        let mut told = BTreeMap::<(u8, String), (Visibility, Vec<ConnectionId>)>::new();
        for peer in self.peers.iter().map(|(_, peer)| peer).filter(views) {
            let Some(socket) = peer.connection else {
                continue;
            };
            let user = peer.user().to_string();
            let visibility = Visibility::of(held, &user);
            let group = match visibility {
                Visibility::Whole => (0, String::new()),
                Visibility::Hidden => (1, String::new()),
                Visibility::Counts { voted: false } => (2, String::new()),
                Visibility::Counts { voted: true } => (3, user),
            };
            let (_, sockets) = told.entry(group).or_insert((visibility, Vec::new()));
            sockets.push(socket);
        }
        for ((_, user), (visibility, to)) in told {
            let poll = Some(visible_to(&held.poll, visibility, &user));
            turn.push(to, event, &UpdatePollResponse { poll });
        }
    }
}
