//! Random clients, with invariants that are checked after each action.
//!
//! `PARLOR_SIMULATIONS` sets the number of runs (default below), `PARLOR_SEED` their seed. A
//! failing run is shrunk before it is printed.

mod media;
mod scenario;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use parlor_live::{Answer, ChatMessage, Command, ConnectionId, Limits, Rate, Record};
use parlor_protocol::signal::event;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;

use self::scenario::{Scenario, profile_of, scenarios};
use crate::client::{Client, STORE};
use crate::model::{Model, OPTIONS, PeerState};
use crate::world::{Effects, Received, World, meeting};

/// Number of clients of each participant.
const CLIENTS: u8 = 2;
const PARTICIPANTS: u8 = 6;
const RUNS: u32 = 1500;
const STEPS: usize = 80;
/// Maximum delay until privileged participants learn of a change of the waiting list.
const LIST_MS: i64 = 200;

/// Events that every run of the test must have seen both accepted and rejected.
const ACCEPTED_AND_REJECTED: &[u32] = &[
    event::JOIN_ROOM,
    event::SEND_MESSAGE_TO_ROOM,
    event::SEND_MESSAGE_TO_PEERS,
    event::EDIT_MESSAGE,
    event::DELETE_MESSAGE,
    event::PIN_MESSAGE,
    event::CREATE_POLL,
    event::VOTE_POLL,
    event::STORE_INSERT_KEYS,
    event::STORE_DELETE_KEYS,
    event::BROADCAST_MESSAGE,
    event::BROADCAST_TO_ENTITY,
    event::ACCEPT_WAITING_ROOM_REQUESTS,
    event::DENY_WAITING_ROOM_REQUESTS,
    event::REQUEST_STAGE_ACCESS,
    event::CANCEL_STAGE_REQUEST,
    event::GRANT_STAGE_ACCESS,
    event::DENY_STAGE_ACCESS,
    event::JOIN_STAGE,
    event::LEAVE_STAGE,
    event::KICK,
    event::KICK_ALL,
    event::UPDATE_USER_PRESET,
    event::MEDIA_JOIN_COMPLETE,
    event::PRODUCE,
    event::TOGGLE_PRODUCER,
    event::CLOSE_PRODUCER,
    event::CONSUME,
    event::HOST_CONTROL_PEER,
    event::HOST_CONTROL_ALL,
    event::PIN_PEER,
    event::CHANGE_DISPLAY_NAME,
];

/// One action: its kind, and three numbers that select its targets and arguments.
pub(crate) type Action = (u8, u8, u8, u8);

/// A request that waits for the media plane.
pub(crate) struct Order {
    pub(crate) slot: usize,
    pub(crate) socket: ConnectionId,
    pub(crate) event: u32,
    /// The peer's media was closed after the request.
    pub(crate) void: bool,
}

pub(crate) struct Simulation {
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) clients: Vec<Client>,
    /// The slot of each connection, until its peer is kicked.
    pub(crate) sockets: BTreeMap<ConnectionId, usize>,
    /// Requests without a reply of the media plane, in order.
    pub(crate) orders: Vec<Order>,
    before: Vec<(bool, Option<ConnectionId>)>,
    /// The waiting list, and when privileged participants have received it.
    waiting: (BTreeSet<String>, i64),
    /// The events that were requested, and whether they were accepted.
    seen: BTreeSet<(u32, bool)>,
}

impl Simulation {
    fn new(scenario: &Scenario) -> Self {
        let none = Rate {
            count: 0,
            per_ms: 0,
        };
        let limits = Limits {
            openings: none,
            frames: none,
            changes: none,
            reads: none,
            chat: none,
            chat_files: none,
            broadcasts: none,
            stores: none,
            chat_reads: none,
            store_reads: none,
            poll_rate: none,
            permission_updates: none,
            media: none,
            media_orders: 1000,
            consumers: 1000,
            ..Limits::default()
        };
        let mut meeting = meeting();
        meeting.persist_chat = scenario.persist_chat;
        let participants = (0..PARTICIPANTS).map(|n| profile_of(scenario, n)).collect();
        let model = Model::of(participants, CLIENTS);
        Self {
            world: World::of(meeting, limits),
            clients: model.slots().map(|_| Client::default()).collect(),
            before: model.slots().map(|_| (false, None)).collect(),
            model,
            sockets: BTreeMap::new(),
            orders: Vec::new(),
            waiting: (BTreeSet::new(), 0),
            seen: BTreeSet::new(),
        }
    }

    /// Sends a request and checks the reply: this event, no reply, or an error. Returns `None`
    /// after an error; otherwise the reply and the effects, to be settled once the model has been
    /// updated.
    pub(crate) fn request(
        &mut self,
        slot: usize,
        event: u32,
        message: &impl Message,
        should: Result<Option<u32>, ()>,
    ) -> Option<(Option<Received>, Effects)> {
        let from = self.model.peers[slot].socket?;
        let outcome = self.world.request(from, event, message);
        let replied = outcome.replies.first().map(|reply| reply.event);
        self.seen.insert((event, should.is_ok()));
        if let Ok(expected) = should {
            assert_eq!(
                replied, expected,
                "the reply to {event}: {:?}",
                outcome.replies
            );
            Some((outcome.replies.into_iter().next(), outcome.effects))
        } else {
            assert!(
                outcome.is_rejected(),
                "{event} was not rejected: {outcome:?}"
            );
            let effects = &outcome.effects;
            assert_eq!(
                effects.frames.len(),
                1,
                "a rejected request sends more than its error: {effects:?}"
            );
            let nothing = effects.records.is_empty() && effects.media.is_empty();
            assert!(nothing && effects.delegated.is_empty() && effects.closed.is_empty());
            self.settle(&outcome.effects);
            None
        }
    }

    /// Delivers frames to the clients and compares everything with the model, which has been
    /// updated already.
    pub(crate) fn settle(&mut self, effects: &Effects) {
        let (now, now_ms) = (self.world.now(), self.world.monotonic_ms);
        self.model.expire(now);
        self.model.enforce_permissions();
        for frame in &effects.frames {
            let slot = *self
                .sockets
                .get(&frame.to)
                .expect("a connection of a client");
            let (was_inside, was_here) = self.before[slot];
            let peer = &self.model.peers[slot];
            let here = [was_here, peer.socket].contains(&Some(frame.to));
            assert!(here, "a connection without a peer receives {frame:?}");
            let for_all = matches!(
                frame.event,
                event::WAITING_ROOM_REQUEST_ACCEPTED
                    | event::WAITING_ROOM_REQUEST_DENIED
                    | event::KICK
                    | event::KICK_ALL
                    | event::UPDATE_USER_PRESET
                    | event::ERROR
            );
            let inside = was_inside || peer.state == PeerState::Inside;
            assert!(
                inside || for_all || frame.id.is_some(),
                "{:?} receives {frame:?}",
                peer.state
            );
            let of_polls = matches!(frame.event, event::CREATE_POLL | event::VOTE_POLL);
            assert!(
                !of_polls || frame.id.is_some() || self.model.permissions(slot).polls.can_view,
                "{slot} may not see polls, and receives {frame:?}"
            );
            self.clients[slot].receive(&peer.id, frame);
        }
        for (socket, _) in &effects.closed {
            let slot = self
                .sockets
                .remove(socket)
                .expect("a connection of a client");
            if self.model.peers[slot].socket == Some(*socket) {
                let peer = &self.model.peers[slot];
                assert_eq!(peer.state, PeerState::Rejected);
                let since_ms = now_ms - peer.rejected_ms;
                assert!(
                    since_ms >= self.world.limits.rejected_ms,
                    "{slot} is disconnected too early"
                );
                self.model.leave(slot, PeerState::Absent, now);
            }
        }
        for record in &effects.records {
            if matches!(record, Record::Session(session) if session.ended_ms.is_some()) {
                self.model.session_ended(self.world.meeting.persist_chat);
            }
        }
        for slot in self.model.slots() {
            let peer = &self.model.peers[slot];
            let stays = peer.socket.is_some() && self.clients[slot].kicked;
            assert!(!stays, "{slot} was kicked, but is {:?}", peer.state);
            self.before[slot] = (peer.state == PeerState::Inside, peer.socket);
        }
        let waiting = self.model.waiting();
        if waiting != self.waiting.0 {
            self.waiting = (waiting, now_ms + LIST_MS);
        }
        self.check_records();
        self.check_plane();
        self.check_clients();
    }

    fn check_records(&mut self) {
        let (answer, effects) = self.world.command(Command::ListPeers);
        assert!(
            effects.frames.is_empty() && effects.records.is_empty(),
            "{effects:?}"
        );
        let Answer::Peers(session, present) = answer else {
            panic!("{answer:?}")
        };
        let model = &self.model;
        let present: BTreeSet<_> = present.into_iter().map(|profile| profile.peer).collect();
        let insiders = model.insiders();
        let inside: BTreeSet<_> = insiders
            .iter()
            .map(|slot| model.peers[*slot].profile.peer)
            .collect();
        assert_eq!(present, inside, "the peers inside");
        assert_eq!(session.is_some(), model.live);
        assert_eq!(
            self.world.records.live(),
            session.as_ref(),
            "the session record"
        );
        let stored = (self.world.records.chat.values()).map(ChatMessage::stored_bytes);
        assert_eq!(self.world.room.stored_chat_bytes(), stored.sum::<u64>());
        let Some(session) = session else { return };
        if let Some(emptied_ms) = model.emptied_ms {
            let due_ms = emptied_ms + self.world.meeting.keep_alive_ms;
            assert!(
                due_ms > self.world.monotonic_ms,
                "the session outlives its keep-alive"
            );
        }
        let joined = model
            .slots()
            .filter(|slot| !model.peers[*slot].stays.is_empty());
        let joined: Vec<usize> = joined.collect();
        let consumed: i64 = joined.iter().map(|slot| model.consumed_ms(*slot)).sum();
        let counts =
            [insiders.len(), model.peak, joined.len()].map(|n| i64::try_from(n).expect("few"));
        assert_eq!([session.live, session.peak, session.total], counts);
        assert_eq!(session.consumed_ms, consumed, "the time of all peers");
        for slot in joined {
            let (peer, stays) = (&model.peers[slot], &model.peers[slot].stays);
            let record = &self.world.records.peers[&(session.id, peer.profile.peer)];
            let last = *stays.last().expect("the peer has entered");
            assert_eq!(record.joined_ms, stays[0].entered_ms);
            assert_eq!(record.entered_ms, last.entered_ms);
            assert_eq!(record.left_ms, last.left_ms);
            assert_eq!(record.consumed_ms, model.consumed_ms(slot));
        }
    }

    fn check_clients(&self) {
        for slot in self.model.insiders() {
            if self.model.peers[slot].socket.is_some() {
                self.check_roster(slot);
                self.check_chat(slot);
                self.check_polls(slot);
                self.check_shared(slot);
                self.check_tracks(slot);
            }
        }
    }

    fn check_roster(&self, viewer: usize) {
        let model = &self.model;
        let Some(roster) = &self.clients[viewer].roster else {
            return;
        };
        let mut roster = roster.clone();
        // The specification does not define whether peers that have not reconnected are listed.
        // Hidden peers are never listed.
        let unseen = model.slots().filter(|slot| model.peers[*slot].unseen);
        for slot in unseen {
            let shown = roster.remove(&model.peer_id(slot)).is_some();
            assert!(
                !(shown && model.permissions(slot).hidden_participant),
                "{slot} is hidden"
            );
        }
        let seen = model.slots().filter(|slot| !model.peers[*slot].unseen);
        let seen = seen.filter(|slot| model.can_see(viewer, *slot));
        let seen: BTreeMap<_, _> = seen
            .map(|slot| (model.peer_id(slot), model.peers[slot].stage))
            .collect();
        assert_eq!(roster, seen, "the peers visible to {viewer}");
    }

    fn check_chat(&self, slot: usize) {
        let Some(chat) = &self.clients[slot].chat else {
            return;
        };
        let model = &self.model;
        let readable = model
            .messages
            .iter()
            .filter(|message| model.can_read(slot, message));
        let readable: Vec<_> = readable
            .map(|message| {
                let to: BTreeSet<_> = message
                    .to
                    .iter()
                    .map(|participant| model.user(*participant))
                    .collect();
                let flags = (message.pinned, message.edited);
                (message.id.clone(), message.payload.clone(), flags, to)
            })
            .collect();
        let read: Vec<_> = (chat.iter())
            .map(|message| {
                let to = message.target_user_ids.iter().cloned().collect();
                let flags = (message.pinned, message.is_edited);
                (message.chat_id.clone(), message.payload.clone(), flags, to)
            })
            .collect();
        assert_eq!(read, readable, "the chat of {slot}");
        assert!(
            chat.iter()
                .all(|one| one.created_at_ms() / 1000 == one.created_at)
        );
        assert!(chat.is_sorted_by(|one, next| one.created_at_ms() < next.created_at_ms()));
    }

    fn check_polls(&self, slot: usize) {
        let Some(polls) = &self.clients[slot].polls else {
            return;
        };
        let model = &self.model;
        assert_eq!(polls.len(), model.polls.len(), "the polls of {slot}");
        for poll in &model.polls {
            let seen = &polls[&poll.id];
            if poll.visible_ms > self.world.monotonic_ms {
                continue;
            }
            let voters: Vec<_> = poll
                .votes
                .iter()
                .map(|(participant, _)| model.user(*participant))
                .collect();
            let secret = poll.anonymous;
            if secret {
                let me = model.user(model.peers[slot].participant);
                let (mine, others): (Vec<_>, Vec<_>) =
                    seen.votes.iter().partition(|voter| **voter == me);
                assert_eq!(mine.len(), usize::from(voters.contains(&me)));
                assert!(
                    others.iter().all(|voter| voter.is_empty()),
                    "{slot} sees {others:?}"
                );
                assert_eq!(seen.votes.len(), voters.len());
            } else {
                assert_eq!(seen.votes, voters);
            }
            for option in 0..OPTIONS {
                let those = poll.votes.iter().filter(|(_, index)| *index == option);
                let those: Vec<_> = those
                    .map(|(participant, _)| model.user(*participant))
                    .collect();
                let seen = &seen.options[option];
                assert_eq!(seen.count, Some(those.len() as u64));
                let named: Vec<_> = seen.votes.iter().map(|vote| vote.user_id.clone()).collect();
                let those = if secret { Vec::new() } else { those };
                assert_eq!(named, those, "the voters that {slot} sees");
            }
        }
    }

    fn check_shared(&self, slot: usize) {
        let (client, model) = (&self.clients[slot], &self.model);
        if let Some(store) = &client.store {
            let existing = model.stores.iter().filter(|((store, _), _)| store == STORE);
            let existing: BTreeMap<_, _> = existing
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(*store, existing, "the store of {slot}");
        }
        let is_known = self.waiting.1 <= self.world.monotonic_ms;
        let list = client.waiting.as_ref();
        if let Some(waiting) = list.filter(|_| is_known && model.can_admit(slot)) {
            assert_eq!(*waiting, model.waiting(), "the waiting list of {slot}");
        }
    }
}

fn run(scenario: &Scenario, actions: &[Action], traced: bool) -> Simulation {
    let mut simulation = Simulation::new(scenario);
    simulation.world.trace = traced.then(String::new);
    if scenario.started {
        simulation.begin();
    }
    for action in actions {
        simulation.action(*action);
    }
    simulation
}

fn number(name: &str, default: u32) -> u32 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

fn runner(runs: u32) -> TestRunner {
    let seed = number("PARLOR_SEED", 1);
    println!("PARLOR_SEED={seed}, {runs} runs");
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: runs,
        failure_persistence: None,
        max_shrink_iters: 4000,
        // Leave time to report a failure before the test runner's timeout on a busy machine.
        max_shrink_time: 20_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn actions(max: usize) -> impl Strategy<Value = Vec<Action>> {
    proptest::collection::vec(any::<Action>(), 1..max)
}

#[test]
fn clients_and_the_room_agree_on_every_state() {
    let runs = number("PARLOR_SIMULATIONS", RUNS);
    let seen = RefCell::new(BTreeSet::new());
    let outcome = runner(runs).run(&(scenarios(), actions(STEPS)), |(scenario, actions)| {
        seen.borrow_mut()
            .extend(run(&scenario, &actions, false).seen);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    let (effects, rejected) = (
        seen.iter().filter(|(_, effects)| *effects).count(),
        seen.len(),
    );
    println!("{effects} events were done, {} refused", rejected - effects);
    // A simulation must also exercise accepted requests.
    for event in ACCEPTED_AND_REJECTED {
        assert!(seen.contains(&(*event, true)), "{event} was never accepted");
        assert!(
            seen.contains(&(*event, false)),
            "{event} was never rejected"
        );
    }
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let outcome = runner(60).run(&(scenarios(), actions(STEPS)), |(scenario, actions)| {
        let (one, other) = (
            run(&scenario, &actions, true),
            run(&scenario, &actions, true),
        );
        prop_assert!(one.world.trace.is_some() && one.world.trace == other.world.trace);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
