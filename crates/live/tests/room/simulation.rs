//! Many random clients, and what has to be true after each thing that they do.
//!
//! `PARLOR_SIMULATIONS` says how many runs (default below), `PARLOR_SEED` which ones. A run that
//! fails is printed at its shortest.

mod media;
mod scene;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use parlor_live::{Answer, ChatMessage, Command, ConnectionId, Limits, Rate, Record};
use parlor_protocol::signal::event;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;

use self::scene::{Scene, newcomer, scenes};
use crate::client::{Client, STORE};
use crate::truth::{OPTIONS, Place, Truth};
use crate::world::{Done, Received, World, meeting};

/// Clients of each person.
const CLIENTS: u8 = 2;
const PEOPLE: u8 = 6;
const RUNS: u32 = 1500;
const STEPS: usize = 80;
/// How long those who decide may not know that somebody waits.
const LIST_MS: i64 = 200;

/// What clients may do or not: every run of the test has to see both.
const DONE_AND_REFUSED: &[u32] = &[
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

/// One thing that happens: what, and three numbers that say to whom and how.
pub(crate) type Act = (u8, u8, u8, u8);

/// A request that waits for the media plane.
pub(crate) struct Order {
    pub(crate) slot: usize,
    pub(crate) socket: ConnectionId,
    pub(crate) event: u32,
    /// Everything of the peer has been closed since.
    pub(crate) void: bool,
}

pub(crate) struct Simulation {
    pub(crate) world: World,
    pub(crate) truth: Truth,
    pub(crate) clients: Vec<Client>,
    /// Whose each socket is, or was until its peer was thrown out.
    pub(crate) sockets: BTreeMap<ConnectionId, usize>,
    /// What the media plane has not answered, in its order.
    pub(crate) orders: Vec<Order>,
    before: Vec<(bool, Option<ConnectionId>)>,
    /// Who waits, and from when on those who decide know it.
    waiting: (BTreeSet<String>, i64),
    /// What was asked, and whether it was done.
    seen: BTreeSet<(u32, bool)>,
}

impl Simulation {
    fn new(scene: &Scene) -> Self {
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
        meeting.persist_chat = scene.persist_chat;
        let people = (0..PEOPLE).map(|n| newcomer(scene, n)).collect();
        let truth = Truth::of(people, CLIENTS);
        Self {
            world: World::of(meeting, limits),
            clients: truth.slots().map(|_| Client::default()).collect(),
            before: truth.slots().map(|_| (false, None)).collect(),
            truth,
            sockets: BTreeMap::new(),
            orders: Vec::new(),
            waiting: (BTreeSet::new(), 0),
            seen: BTreeSet::new(),
        }
    }

    /// Asks, and compares what comes with what should: a reply on that event, none, or a refusal.
    /// Nothing comes back when it was refused; otherwise what came of it, to settle once the truth
    /// has changed.
    pub(crate) fn ask(
        &mut self,
        slot: usize,
        event: u32,
        message: &impl Message,
        should: Result<Option<u32>, ()>,
    ) -> Option<(Option<Received>, Done)> {
        let from = self.truth.peers[slot].socket?;
        let asked = self.world.ask(from, event, message);
        let replied = asked.replies.first().map(|reply| reply.event);
        self.seen.insert((event, should.is_ok()));
        if let Ok(expected) = should {
            assert_eq!(
                replied, expected,
                "the reply to {event}: {:?}",
                asked.replies
            );
            Some((asked.replies.into_iter().next(), asked.done))
        } else {
            assert!(asked.refused(), "{event} was not refused: {asked:?}");
            let done = &asked.done;
            assert_eq!(
                done.frames.len(),
                1,
                "somebody learns of a refusal: {done:?}"
            );
            let nothing = done.kept.is_empty() && done.media.is_empty();
            assert!(nothing && done.delegated.is_empty() && done.closed.is_empty());
            self.settle(&asked.done);
            None
        }
    }

    /// Clients take what they were sent, and everything is compared. The truth has changed already.
    pub(crate) fn settle(&mut self, done: &Done) {
        let (now, now_ms) = (self.world.now(), self.world.monotonic_ms);
        self.truth.expire(now);
        self.truth.hold();
        for frame in &done.frames {
            let slot = *self.sockets.get(&frame.to).expect("a socket of a client");
            let (was_inside, was_here) = self.before[slot];
            let peer = &self.truth.peers[slot];
            let here = [was_here, peer.socket].contains(&Some(frame.to));
            assert!(here, "a socket without a peer gets {frame:?}");
            let for_all = matches!(
                frame.event,
                event::WAITING_ROOM_REQUEST_ACCEPTED
                    | event::WAITING_ROOM_REQUEST_DENIED
                    | event::KICK
                    | event::KICK_ALL
                    | event::UPDATE_USER_PRESET
                    | event::ERROR
            );
            let inside = was_inside || peer.place == Place::Inside;
            assert!(
                inside || for_all || frame.id.is_some(),
                "{:?} gets {frame:?}",
                peer.place
            );
            let of_polls = matches!(frame.event, event::CREATE_POLL | event::VOTE_POLL);
            assert!(
                !of_polls || frame.id.is_some() || self.truth.may(slot).polls.can_view,
                "{slot} may not see polls, and gets {frame:?}"
            );
            self.clients[slot].receive(&peer.id, frame);
        }
        for (socket, _) in &done.closed {
            let slot = self.sockets.remove(socket).expect("a socket of a client");
            if self.truth.peers[slot].socket == Some(*socket) {
                let peer = &self.truth.peers[slot];
                assert_eq!(peer.place, Place::Rejected);
                let since_ms = now_ms - peer.rejected_ms;
                assert!(
                    since_ms >= self.world.limits.rejected_ms,
                    "{slot} goes early"
                );
                self.truth.leave(slot, Place::Gone, now);
            }
        }
        for record in &done.kept {
            if matches!(record, Record::Session(session) if session.ended_ms.is_some()) {
                self.truth.session_ended(self.world.meeting.persist_chat);
            }
        }
        for slot in self.truth.slots() {
            let peer = &self.truth.peers[slot];
            let stays = peer.socket.is_some() && self.clients[slot].out;
            assert!(!stays, "{slot} was told to go, and is {:?}", peer.place);
            self.before[slot] = (peer.place == Place::Inside, peer.socket);
        }
        let waiting = self.truth.waiting();
        if waiting != self.waiting.0 {
            self.waiting = (waiting, now_ms + LIST_MS);
        }
        self.check_records();
        self.check_plane();
        self.check_clients();
    }

    fn check_records(&mut self) {
        let (answer, done) = self.world.command(Command::Who);
        assert!(done.frames.is_empty() && done.kept.is_empty(), "{done:?}");
        let Answer::Who(session, present) = answer else {
            panic!("{answer:?}")
        };
        let truth = &self.truth;
        let present: BTreeSet<_> = present.into_iter().map(|who| who.peer).collect();
        let insiders = truth.insiders();
        let inside: BTreeSet<_> = insiders
            .iter()
            .map(|slot| truth.peers[*slot].who.peer)
            .collect();
        assert_eq!(present, inside, "who is inside");
        assert_eq!(session.is_some(), truth.live);
        assert_eq!(
            self.world.kept.live(),
            session.as_ref(),
            "what is kept of the session"
        );
        let stored = (self.world.kept.chat.values()).map(ChatMessage::stored_bytes);
        assert_eq!(self.world.room.stored_chat_bytes(), stored.sum::<u64>());
        let Some(session) = session else { return };
        if let Some(emptied_ms) = truth.emptied_ms {
            let due_ms = emptied_ms + self.world.meeting.keep_alive_ms;
            assert!(
                due_ms > self.world.monotonic_ms,
                "the session outlives its keep-alive"
            );
        }
        let came = truth
            .slots()
            .filter(|slot| !truth.peers[*slot].stays.is_empty());
        let came: Vec<usize> = came.collect();
        let consumed: i64 = came.iter().map(|slot| truth.consumed_ms(*slot)).sum();
        let counts =
            [insiders.len(), truth.peak, came.len()].map(|n| i64::try_from(n).expect("few"));
        assert_eq!([session.live, session.peak, session.total], counts);
        assert_eq!(session.consumed_ms, consumed, "the time of all peers");
        for slot in came {
            let (peer, stays) = (&truth.peers[slot], &truth.peers[slot].stays);
            let record = &self.world.kept.peers[&(session.id, peer.who.peer)];
            let last = *stays.last().expect("it came");
            assert_eq!(record.joined_ms, stays[0].entered_ms);
            assert_eq!(record.entered_ms, last.entered_ms);
            assert_eq!(record.left_ms, last.left_ms);
            assert_eq!(record.consumed_ms, truth.consumed_ms(slot));
        }
    }

    fn check_clients(&self) {
        for slot in self.truth.insiders() {
            if self.truth.peers[slot].socket.is_some() {
                self.check_roster(slot);
                self.check_chat(slot);
                self.check_polls(slot);
                self.check_shared(slot);
                self.check_tracks(slot);
            }
        }
    }

    fn check_roster(&self, viewer: usize) {
        let truth = &self.truth;
        let Some(roster) = &self.clients[viewer].roster else {
            return;
        };
        let mut roster = roster.clone();
        // Whether those are shown who have not come back yet is open; but never those who hide.
        let unseen = truth.slots().filter(|slot| truth.peers[*slot].unseen);
        for slot in unseen {
            let shown = roster.remove(&truth.peer_id(slot)).is_some();
            assert!(
                !(shown && truth.may(slot).hidden_participant),
                "{slot} hides"
            );
        }
        let seen = truth.slots().filter(|slot| !truth.peers[*slot].unseen);
        let seen = seen.filter(|slot| truth.sees(viewer, *slot));
        let seen: BTreeMap<_, _> = seen
            .map(|slot| (truth.peer_id(slot), truth.peers[slot].stage))
            .collect();
        assert_eq!(roster, seen, "whom {viewer} sees");
    }

    fn check_chat(&self, slot: usize) {
        let Some(chat) = &self.clients[slot].chat else {
            return;
        };
        let truth = &self.truth;
        let readable = truth
            .messages
            .iter()
            .filter(|message| truth.reads(slot, message));
        let readable: Vec<_> = readable
            .map(|message| {
                let to: BTreeSet<_> = message
                    .to
                    .iter()
                    .map(|person| truth.user(*person))
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
        let truth = &self.truth;
        assert_eq!(polls.len(), truth.polls.len(), "the polls of {slot}");
        for poll in &truth.polls {
            let seen = &polls[&poll.id];
            if poll.told_ms > self.world.monotonic_ms {
                continue;
            }
            let voters: Vec<_> = poll
                .votes
                .iter()
                .map(|(person, _)| truth.user(*person))
                .collect();
            let secret = poll.anonymous;
            if secret {
                let me = truth.user(truth.peers[slot].person);
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
                let those: Vec<_> = those.map(|(person, _)| truth.user(*person)).collect();
                let seen = &seen.options[option];
                assert_eq!(seen.count, Some(those.len() as u64));
                let named: Vec<_> = seen.votes.iter().map(|vote| vote.user_id.clone()).collect();
                let those = if secret { Vec::new() } else { those };
                assert_eq!(named, those, "who voted, as {slot} sees it");
            }
        }
    }

    fn check_shared(&self, slot: usize) {
        let (client, truth) = (&self.clients[slot], &self.truth);
        if let Some(store) = &client.store {
            let there = truth.stores.iter().filter(|((store, _), _)| store == STORE);
            let there: BTreeMap<_, _> = there
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(*store, there, "the store of {slot}");
        }
        let told = self.waiting.1 <= self.world.monotonic_ms;
        let list = client.waiting.as_ref();
        if let Some(waiting) = list.filter(|_| told && truth.decides(slot)) {
            assert_eq!(*waiting, truth.waiting(), "the waiting list of {slot}");
        }
    }
}

fn run(scene: &Scene, acts: &[Act], taped: bool) -> Simulation {
    let mut simulation = Simulation::new(scene);
    simulation.world.tape = taped.then(String::new);
    if scene.begun {
        simulation.begin();
    }
    for act in acts {
        simulation.act(*act);
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
        // On a busy machine a failure should be told before the runner's time is over.
        max_shrink_time: 20_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    proptest::collection::vec(any::<Act>(), 1..most)
}

#[test]
fn clients_and_the_room_agree_whatever_happens() {
    let runs = number("PARLOR_SIMULATIONS", RUNS);
    let seen = RefCell::new(BTreeSet::new());
    let outcome = runner(runs).run(&(scenes(), acts(STEPS)), |(scene, acts)| {
        seen.borrow_mut().extend(run(&scene, &acts, false).seen);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    let (done, refused) = (seen.iter().filter(|(_, done)| *done).count(), seen.len());
    println!("{done} events were done, {} refused", refused - done);
    // A simulation that only knocks at closed doors proves nothing.
    for event in DONE_AND_REFUSED {
        assert!(seen.contains(&(*event, true)), "{event} was never done");
        assert!(seen.contains(&(*event, false)), "{event} was never refused");
    }
}

#[test]
fn the_same_inputs_have_the_same_outputs() {
    let outcome = runner(60).run(&(scenes(), acts(STEPS)), |(scene, acts)| {
        let (one, other) = (run(&scene, &acts, true), run(&scene, &acts, true));
        prop_assert!(one.world.tape.is_some() && one.world.tape == other.world.tape);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
