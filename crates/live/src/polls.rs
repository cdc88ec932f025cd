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
use crate::peer::{Peer, Slot};
use crate::room::{Deadline, Outcome, RequestContext, Room, Step};
use view::{Held, View, Visibility};

/// Minimum interval between pushes of votes, in milliseconds. Each push contains the whole poll.
/// The interval is longer in large meetings, since each voter of an anonymous poll needs an
/// individual frame.
const VOTES_MS: i64 = 300;
/// Number of further peers that lengthen the interval by another [`VOTES_MS`].
const VOTES_PEERS: usize = 1_000;

/// The polls of a session, oldest first, with all votes.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    all: Vec<Held>,
    /// Encoded size of all polls, in bytes. Clients read them in one reply.
    bytes: usize,
    /// Indexes of polls with votes that have not been pushed.
    voted: BTreeSet<usize>,
    /// Indexes of polls that are being pushed.
    due: BTreeSet<usize>,
    /// Peers that still need an individual frame, with the index of the poll.
    personal: Vec<(Slot, usize)>,
}

impl Polls {
    /// Restores a poll and returns its id.
    pub(crate) fn restore(&mut self, encoded: &[u8]) -> Option<Uuid> {
        let mut poll = Poll::decode(encoded).ok()?;
        if poll.anonymous {
            anonymize(&mut poll);
        }
        let id = poll.poll_id.parse().ok();
        // Ids are generated in chronological order.
        let index = self
            .all
            .partition_point(|other| other.poll.poll_id < poll.poll_id);
        let held = Held::from(poll);
        self.bytes += held.whole.len();
        self.all.insert(index, held);
        id
    }

    /// Adds a poll, unless all polls together would exceed three quarters of the maximum size. The
    /// rest is reserved for votes.
    fn add(&mut self, poll: Poll, limits: &Limits) -> Outcome {
        let held = Held::from(poll);
        if self.bytes + held.whole.len() > limits.poll_bytes / 4 * 3 {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes += held.whole.len();
        self.all.push(held);
        Ok(())
    }

    /// Replaces a poll after a vote.
    fn replace(&mut self, index: usize, poll: Poll, limits: &Limits) -> Outcome {
        let held = Held::from(poll);
        let bytes = self.bytes - self.all[index].whole.len() + held.whole.len();
        if bytes > limits.poll_bytes {
            return Err(Refusal::new(409, "the polls of this session are full"));
        }
        self.bytes = bytes;
        self.all[index] = held;
        Ok(())
    }

    /// Whether polls are being pushed.
    fn is_pushing(&self) -> bool {
        !self.due.is_empty() || !self.personal.is_empty()
    }
}

/// Removes the votes and the order of the voters from an anonymous poll, since both reveal who
/// voted for which option.
fn anonymize(poll: &mut Poll) {
    for option in &mut poll.options {
        option.votes.clear();
    }
    poll.votes.sort_unstable();
}

fn validate(limits: &Limits, poll: &NewPoll) -> Outcome {
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
    pub(crate) fn create_poll(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let me = self.joined_peer(ctx.slot)?;
        if !me.permissions.polls.can_create {
            return Err(Refusal::forbidden("polls.can_create"));
        }
        let request: NewPollRequest = ctx.message()?;
        let (name, user) = (me.name.clone(), me.participant_id().to_string());
        let new = NewPoll {
            question: request.question,
            options: request.options,
            anonymous: request.anonymous,
            hide_votes: request.hide_votes,
        };
        validate(&self.limits, &new)?;
        self.add_poll(step, new, name, user)?;
        let index = self.polls.all.len() - 1;
        self.push_poll(step, event::CREATE_POLL, index, Some(ctx.connection));
        self.reply_poll(step, ctx, index);
        Ok(())
    }

    /// Creates a poll for the REST API.
    pub(crate) fn create_poll_from_api(&mut self, step: &mut Step<'_>, new: NewPoll) -> Answer {
        if !self.session.live {
            return Answer::NoSession;
        }
        let poll = validate(&self.limits, &new)
            .and_then(|()| self.add_poll(step, new, String::new(), String::new()));
        match poll {
            Ok(poll) => {
                self.push_poll(step, event::CREATE_POLL, self.polls.all.len() - 1, None);
                Answer::Poll(Box::new(poll))
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// `getPolls`.
    pub(crate) fn list_polls(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let me = &self.peers[ctx.slot];
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let user = me.participant_id().to_string();
        let polls = if me.has_joined() {
            &*self.polls.all
        } else {
            &[]
        };
        self.cost_units.add(polls.len());
        let views = polls.iter().map(|held| View::of(held, &user));
        view::reply(step, ctx, &views.collect::<Vec<_>>());
        Ok(())
    }

    /// `votePoll`: one vote per participant.
    pub(crate) fn vote(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let me = self.joined_peer(ctx.slot)?;
        if !me.permissions.polls.can_vote {
            return Err(Refusal::forbidden("polls.can_vote"));
        }
        if !me.permissions.polls.can_view {
            return Err(Refusal::forbidden("polls.can_view"));
        }
        let request: VotePollRequest = ctx.message()?;
        let (user, name) = (me.participant_id().to_string(), me.name.clone());
        let mut polls = self.polls.all.iter();
        let index = polls
            .position(|held| held.poll.poll_id == request.poll_id)
            .ok_or_else(|| Refusal::new(404, "there is no such poll"))?;
        let mut poll = self.polls.all[index].poll.clone();
        if self.polls.all[index].has_voted(&user) {
            return Err(Refusal::new(409, "you have already voted"));
        }
        let option = usize::try_from(request.index).ok();
        let option = option
            .and_then(|index| poll.options.get_mut(index))
            .ok_or_else(|| Refusal::new(400, "the poll has no such option"))?;
        option.count = Some(option.count() + 1);
        if poll.anonymous {
            let index = poll.votes.partition_point(|voter| *voter < user);
            poll.votes.insert(index, user);
        } else {
            option.votes.push(PollVote {
                user_id: user.clone(),
                name,
            });
            poll.votes.push(user);
        }
        self.polls.replace(index, poll, &self.limits)?;
        self.persist_poll(step, index);
        self.reply_poll(step, ctx, index);
        if self.polls.voted.is_empty() && !self.polls.is_pushing() {
            self.schedule_votes(step);
        }
        self.polls.voted.insert(index);
        Ok(())
    }

    fn schedule_votes(&mut self, step: &Step<'_>) {
        let times = 1 + self.peers.len() / VOTES_PEERS;
        let in_ms = VOTES_MS.saturating_mul(i64::try_from(times).unwrap_or(i64::MAX));
        self.schedule(step.monotonic.after(in_ms), Deadline::Votes);
    }

    /// Pushes polls that have new votes.
    pub(crate) fn push_votes(&mut self, step: &mut Step<'_>) {
        if let Some((slot, index)) = self.polls.personal.pop() {
            self.push_to_voter(step, slot, index);
        } else {
            if self.polls.due.is_empty() {
                self.polls.due = std::mem::take(&mut self.polls.voted);
            }
            if let Some(index) = self.polls.due.pop_first() {
                self.polls.personal = self.push_poll(step, event::VOTE_POLL, index, None);
            }
        }
        // Pushes one poll or one individual frame per call. The next one follows at once, or in the
        // next slice.
        if self.polls.is_pushing() {
            self.schedule(step.monotonic, Deadline::Votes);
        } else if !self.polls.voted.is_empty() {
            self.schedule_votes(step);
        }
    }

    /// Pushes an anonymous poll to a peer that has voted in it.
    fn push_to_voter(&self, step: &mut Step<'_>, slot: Slot, index: usize) {
        let peer = self.peers.get(slot).filter(|peer| views_polls(peer));
        let socket = peer.and_then(|peer| peer.connection);
        if let (Some(peer), Some(socket)) = (peer, socket) {
            let (held, user) = (&self.polls.all[index], peer.participant_id().to_string());
            let view = View::of(held, &user);
            view::push(step, vec![socket], event::VOTE_POLL, view);
        }
    }

    fn add_poll(
        &mut self,
        step: &mut Step<'_>,
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
            // Explicit zero, because clients do not treat an absent count as zero.
            count: Some(0),
            votes: Vec::new(),
        });
        let poll = Poll {
            poll_id: step.id().to_string(),
            created_by,
            created_by_user_id,
            question: new.question,
            options: options.collect(),
            hide_votes: new.hide_votes,
            anonymous: new.anonymous,
            votes: Vec::new(),
        };
        self.polls.add(poll.clone(), &self.limits)?;
        self.persist_poll(step, count);
        Ok(poll)
    }

    fn persist_poll(&self, step: &mut Step<'_>, index: usize) {
        let held = &self.polls.all[index];
        let encoded = Some(held.whole.clone());
        self.persist_entry(step, EntryKind::Poll, held.poll.poll_id.clone(), encoded);
    }

    /// Replies with the changed poll.
    fn reply_poll(&self, step: &mut Step<'_>, ctx: &RequestContext<'_>, index: usize) {
        let user = self.peers[ctx.slot].participant_id().to_string();
        let view = View::of(&self.polls.all[index], &user);
        view::reply(step, ctx, &[view]);
    }

    /// Pushes a poll to all peers that may view polls, except the requester, whose reply contains
    /// it. Returns the peers that need individual frames, because they have voted in an anonymous
    /// poll.
    fn push_poll(
        &self,
        step: &mut Step<'_>,
        event: u32,
        index: usize,
        except: Option<ConnectionId>,
    ) -> Vec<(Slot, usize)> {
        let held = &self.polls.all[index];
        let (mut whole, mut counts, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        let mut personal = Vec::new();
        for (slot, peer) in self.peers.iter().filter(|(_, peer)| views_polls(peer)) {
            let Some(socket) = peer.connection.filter(|socket| except != Some(*socket)) else {
                continue;
            };
            match Visibility::of(held, &peer.participant_id().to_string()) {
                Visibility::Whole => whole.push(socket),
                Visibility::Hidden => hidden.push(socket),
                Visibility::Counts { voted: false } => counts.push(socket),
                Visibility::Counts { voted: true } => personal.push((slot, index)),
            }
        }
        for (to, visibility) in [
            (whole, Visibility::Whole),
            (hidden, Visibility::Hidden),
            (counts, Visibility::Counts { voted: false }),
        ] {
            view::push(step, to, event, View::with(held, visibility, ""));
        }
        personal
    }
}

/// Whether a peer receives polls.
fn views_polls(peer: &Peer) -> bool {
    peer.has_joined() && peer.permissions.polls.can_view
}
