//! Polls (docs/spec/signalling.md 6.7).

mod view;

use std::collections::BTreeSet;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::{
    NewPollRequest, Poll, PollOption, PollVote, VotePollRequest,
};
use prost::Message;
use uuid::Uuid;

use crate::input::{ConnectionId, NewPoll};
use crate::limits::Limits;
use crate::output::{Answer, EntryKind, Refusal};
use crate::peer::{Peer, Seat};
use crate::room::{Deadline, Outcome, RequestContext, Room, Turn};
use view::{Held, View, Visibility};

/// Votes are told at most so often: each change of a poll is the whole of it, to everybody. In large
/// meetings, where everybody who has voted has a frame of their own, more seldom.
const VOTES_MS: i64 = 300;
/// So many clients make it as long again.
const VOTES_PEERS: usize = 1_000;

/// The polls of a session, oldest first, with every vote.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    all: Vec<Held>,
    /// The bytes of all, which clients read in one reply.
    bytes: usize,
    /// The places of those with votes that only the voters were told of.
    voted: BTreeSet<usize>,
    /// Of these everybody is being told.
    due: BTreeSet<usize>,
    /// Those who are still to be told of one of them, each in a frame of their own, and which.
    personal: Vec<(Seat, usize)>,
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

    /// Adds a poll, as long as a quarter of what clients read in one reply is left for votes.
    fn add(&mut self, poll: Poll, limits: &Limits) -> Outcome {
        let held = Held::from(poll);
        if self.bytes + held.whole.len() > limits.poll_bytes / 4 * 3 {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes += held.whole.len();
        self.all.push(held);
        Ok(())
    }

    /// Puts a poll in the place of one that was there, with one vote less.
    fn put(&mut self, at: usize, poll: Poll, limits: &Limits) -> Outcome {
        let held = Held::from(poll);
        let bytes = self.bytes - self.all[at].whole.len() + held.whole.len();
        if bytes > limits.poll_bytes {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes = bytes;
        self.all[at] = held;
        Ok(())
    }

    /// Everybody is being told how polls stand.
    fn is_telling(&self) -> bool {
        !self.due.is_empty() || !self.personal.is_empty()
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
    pub(crate) fn create_poll(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
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
    pub(crate) fn list_polls(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        let me = &self.peers[asked.seat];
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let user = me.user().to_string();
        let polls = if me.is_inside() {
            &*self.polls.all
        } else {
            &[]
        };
        self.steps.add(polls.len());
        let views = polls.iter().map(|held| View::of(held, &user));
        view::reply(turn, asked, &views.collect::<Vec<_>>());
        Ok(())
    }

    /// `votePoll`: one vote for each person.
    pub(crate) fn vote(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
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
        if self.polls.voted.is_empty() && !self.polls.is_telling() {
            self.tell_votes_soon(turn);
        }
        self.polls.voted.insert(at);
        Ok(())
    }

    fn tell_votes_soon(&mut self, turn: &Turn<'_>) {
        let times = 1 + self.peers.len() / VOTES_PEERS;
        let in_ms = VOTES_MS.saturating_mul(i64::try_from(times).unwrap_or(i64::MAX));
        self.at(turn.monotonic.after(in_ms), Deadline::Votes);
    }

    /// Everybody learns how polls stand that were voted on.
    pub(crate) fn tell_votes(&mut self, turn: &mut Turn<'_>) {
        if let Some((seat, at)) = self.polls.personal.pop() {
            self.tell_voter(turn, seat, at);
        } else {
            if self.polls.due.is_empty() {
                self.polls.due = std::mem::take(&mut self.polls.voted);
            }
            if let Some(at) = self.polls.due.pop_first() {
                self.polls.personal = self.tell_poll(turn, event::VOTE_POLL, at, None);
            }
        }
        // One poll, or one of those with frames of their own, at a time: the next one is told at
        // once, or in the next slice.
        if self.polls.is_telling() {
            self.at(turn.monotonic, Deadline::Votes);
        } else if !self.polls.voted.is_empty() {
            self.tell_votes_soon(turn);
        }
    }

    /// Somebody who has voted in an anonymous poll learns how it stands.
    fn tell_voter(&self, turn: &mut Turn<'_>, seat: Seat, at: usize) {
        let peer = self.peers.get(seat).filter(|peer| views_polls(peer));
        let socket = peer.and_then(|peer| peer.connection);
        if let (Some(peer), Some(socket)) = (peer, socket) {
            let (held, user) = (&self.polls.all[at], peer.user().to_string());
            let view = View::of(held, &user);
            view::push(turn, vec![socket], event::VOTE_POLL, view);
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
        self.polls.add(poll.clone(), &self.limits)?;
        self.keep_poll(turn, count);
        Ok(poll)
    }

    fn keep_poll(&self, turn: &mut Turn<'_>, at: usize) {
        let held = &self.polls.all[at];
        let kept = Some(held.whole.clone());
        self.keep_entry(turn, EntryKind::Poll, held.poll.poll_id.clone(), kept);
    }

    /// Who changed a poll gets it as a reply.
    fn reply_poll(&self, turn: &mut Turn<'_>, asked: &RequestContext<'_>, at: usize) {
        let user = self.peers[asked.seat].user().to_string();
        let view = View::of(&self.polls.all[at], &user);
        view::reply(turn, asked, &[view]);
    }

    /// Everybody who may see polls learns of a change, but who has it from a reply, and those who need
    /// a frame of their own because they have voted in an anonymous poll: these are returned.
    fn tell_poll(
        &self,
        turn: &mut Turn<'_>,
        event: u32,
        at: usize,
        but: Option<ConnectionId>,
    ) -> Vec<(Seat, usize)> {
        let held = &self.polls.all[at];
        let (mut whole, mut counts, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        let mut personal = Vec::new();
        for (seat, peer) in self.peers.iter().filter(|(_, peer)| views_polls(peer)) {
            let Some(socket) = peer.connection.filter(|socket| but != Some(*socket)) else {
                continue;
            };
            match Visibility::of(held, &peer.user().to_string()) {
                Visibility::Whole => whole.push(socket),
                Visibility::Hidden => hidden.push(socket),
                Visibility::Counts { voted: false } => counts.push(socket),
                Visibility::Counts { voted: true } => personal.push((seat, at)),
            }
        }
        for (to, visibility) in [
            (whole, Visibility::Whole),
            (hidden, Visibility::Hidden),
            (counts, Visibility::Counts { voted: false }),
        ] {
            view::push(turn, to, event, View::with(held, visibility, ""));
        }
        personal
    }
}

/// Whether somebody is told of polls.
fn views_polls(peer: &Peer) -> bool {
    peer.is_inside() && peer.permissions.polls.can_view
}
