//! A room that receives arbitrary inputs from several clients, crashes, and is restored from its
//! records.
//!
//! The input is a list of steps: a byte for the action, a byte for the client, and the action's
//! arguments.
#![no_main]

#[path = "room/fixture.rs"]
mod fixture;
#[path = "room/requests.rs"]
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_live::{
    ChatMessage, Command, ConnectionId, EntryKind, Input, InputContext, Limits, MediaAnswer,
    MediaOrder, Monotonic, NewPoll, OrderId, Output, ParticipantRef, PeerProfile, PeerRecord,
    PersistedState, Record, Refusal, Room, SessionRecord, Ticket,
};
use parlor_protocol::ids::{MeetingId, PeerId};
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use uuid::Uuid;

use fixture::{START_MS, meeting, next_uuid, user};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut script = Script(bytes);
    while let Some(step) = script.byte() {
        world.step(step, &mut script);
    }
});

/// The remaining input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte, or 0 at the end.
    fn any(&mut self) -> u8 {
        self.byte().unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        self.any() & 1 == 0
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.any()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// Number of participants, each with different permissions.
const PARTICIPANTS: u8 = 6;
/// Number of clients of each participant.
const CLIENTS: u8 = 2;

/// The records, as the database would store them.
#[derive(Default)]
struct StoredRecords {
    session: Option<SessionRecord>,
    peers: BTreeMap<PeerId, PeerRecord>,
    chat: BTreeMap<Uuid, ChatMessage>,
    entries: BTreeMap<(EntryKind, String), Vec<u8>>,
}

struct World {
    room: Room,
    now_ms: i64,
    next_id: u128,
    next_connection: u64,
    /// Open connections and the participant of each.
    open: BTreeMap<ConnectionId, u8>,
    /// Connections that wait for a reply of the media plane.
    orders: BTreeMap<OrderId, ConnectionId>,
    records: StoredRecords,
}

impl World {
    fn new() -> Self {
        let (mut next_id, now_ms) = (1, START_MS);
        let room = open(PersistedState::default(), now_ms, &mut next_id);
        let (open, records) = (BTreeMap::new(), StoredRecords::default());
        Self {
            room,
            now_ms,
            next_id,
            next_connection: 0,
            open,
            orders: BTreeMap::new(),
            records,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let target = script.any();
        let connections: Vec<ConnectionId> = self.open.keys().copied().collect();
        let connection = connections
            .get(usize::from(target) % connections.len().max(1))
            .copied();
        match (step % 16, connection) {
            (0 | 1, _) => self.connect(target),
            (2, Some(connection)) => {
                self.open.remove(&connection);
                self.handle(Input::Closed {
                    connection,
                    leaving: step & 16 != 0,
                });
            }
            (3, _) => {
                self.now_ms += i64::from(target) * i64::from(script.any()) * 10;
                self.handle(Input::Tick);
                let now = Monotonic::from_ms(self.now_ms);
                let wakes_later = self.room.next_deadline().is_none_or(|wake| wake > now);
                assert!(wakes_later, "a room must not request another tick at once");
            }
            (4, _) => self.command(target, script),
            (5, _) => self.restart(step & 16 != 0),
            (6, Some(connection)) => self.frame(connection, Bytes::copy_from_slice(script.bytes())),
            (7, Some(connection)) => {
                let (number, _) = event::ALL[usize::from(script.any()) % event::ALL.len()];
                let payload = Bytes::copy_from_slice(script.bytes());
                self.request(connection, number, payload);
            }
            (_, Some(connection)) => {
                let (number, payload) = requests::valid_request(&self.records, script);
                self.request(connection, number, payload.into());
            }
            _ => {}
        }
    }

    fn connect(&mut self, target: u8) {
        if self.open.len() > 20 {
            return;
        }
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let profile = Box::new(profile(
            target % PARTICIPANTS,
            target / PARTICIPANTS % CLIENTS,
        ));
        self.open.insert(connection, target);
        self.handle(Input::Opened {
            connection,
            profile,
        });
        self.request(connection, event::JOIN_ROOM, Bytes::new());
    }

    fn request(&mut self, connection: ConnectionId, number: u32, payload: Bytes) {
        self.frame(connection, fixture::frame(number, payload));
    }

    fn frame(&mut self, connection: ConnectionId, bytes: Bytes) {
        if self.open.contains_key(&connection) {
            self.handle(Input::Frame { connection, bytes });
        }
    }

    fn command(&mut self, which: u8, script: &mut Script<'_>) {
        let person = |script: &mut Script<'_>| match script.any() {
            255 => ParticipantRef::CustomId(script.text()),
            number => ParticipantRef::Id(user(number % PARTICIPANTS)),
        };
        let command = match which % 13 {
            0 => Command::ListPeers,
            1 => Command::Kick(vec![person(script), person(script)]),
            2 => Command::KickAll,
            3 => Command::Mute(vec![person(script)]),
            4 => Command::MuteAll {
                allow_unmute: script.flag(),
            },
            5 => Command::Poll(NewPoll {
                question: script.text(),
                options: vec![script.text(), script.text()],
                anonymous: script.flag(),
                hide_votes: false,
            }),
            6 => Command::ParticipantDeleted {
                participant: user(script.any() % PARTICIPANTS),
                drop: script.flag(),
            },
            7 => {
                let mut changed = meeting();
                changed.active = script.flag();
                changed.title = script.text();
                Command::MeetingUpdated(changed)
            }
            8 => Command::Push {
                event: event::TRANSCRIPT,
                payload: Bytes::copy_from_slice(script.bytes()),
            },
            10 => Command::MeetingDeleted,
            11 => Command::FindPeers(vec![person(script), person(script)]),
            12 => Command::KickIfPresent(vec![user(script.any() % PARTICIPANTS)]),
            _ => Command::Transfer {
                meeting: MeetingId::from_uuid(Uuid::from_u128(7)),
                participants: vec![(user(script.any() % PARTICIPANTS), script.text())],
            },
        };
        self.handle(Input::Command {
            ticket: Ticket(1),
            command,
        });
    }

    /// The process shuts down or crashes, which closes all connections.
    fn restart(&mut self, gracefully: bool) {
        if gracefully {
            self.handle(Input::Command {
                ticket: Ticket(1),
                command: Command::Suspend,
            });
            assert!(self.open.is_empty(), "{:?} are left open", self.open);
        }
        self.open.clear();
        let records = &self.records;
        let persisted = PersistedState {
            session: records.session.clone(),
            peers: records.peers.values().cloned().collect(),
            entries: records
                .entries
                .iter()
                .map(|((kind, key), value)| (*kind, key.clone(), value.clone()))
                .collect(),
            chat: records.chat.values().cloned().collect(),
            chat_bytes: records.chat.values().map(ChatMessage::stored_bytes).sum(),
            chat_full: None,
            last_alive_ms: self.now_ms,
            earlier_ms: 0,
        };
        self.orders.clear();
        self.room = open(persisted, self.now_ms, &mut self.next_id);
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        let (requester, answers) = match &input {
            Input::Frame { connection, .. } => (Some(*connection), 0),
            Input::Media { order, .. } => (self.orders.remove(order), 0),
            Input::Command { .. } => (None, 1),
            Input::Opened { .. }
            | Input::Closed { .. }
            | Input::TransportFreed { .. }
            | Input::ActiveSpeakers(_)
            | Input::Tick => (None, 0),
        };
        let next_id = &mut self.next_id;
        let mut ids = |_: i64| next_uuid(next_id);
        let mut context = InputContext {
            now_ms: self.now_ms,
            monotonic: Monotonic::from_ms(self.now_ms),
            ids: &mut ids,
        };
        self.room.handle(&mut context, input, &mut out);
        assert!(
            self.room.cost() <= self.room.max_cost(),
            "{}",
            self.room.cost()
        );
        let answered = out.iter().filter(|one| matches!(one, Output::Answer(..)));
        assert_eq!(answered.count(), answers, "{out:?}");
        let replies: Vec<_> = out.iter().filter_map(replied_to).collect();
        let expected = requester.filter(|_| !replies.is_empty());
        assert!(
            replies.iter().copied().eq(expected),
            "{requester:?} sent the request, {replies:?} got a reply"
        );
        let mut done = Vec::new();
        for output in out {
            if let Output::Media(order) = &output {
                done.extend(self.media(order, requester));
            }
            self.check(output);
        }
        for (order, outcome) in done {
            self.handle(Input::Media { order, outcome });
        }
    }

    /// The media plane's reply to an order, if it has one.
    fn media(
        &mut self,
        order: &MediaOrder,
        requester: Option<ConnectionId>,
    ) -> Option<(OrderId, Result<MediaAnswer, Refusal>)> {
        let sdp = || "v=0".to_owned();
        let (order, answer) = match order {
            MediaOrder::Open { order, .. } => {
                let transport = "t".to_owned();
                let answer = sdp();
                (*order, MediaAnswer::Opened { transport, answer })
            }
            MediaOrder::Produce { order, .. } => (*order, MediaAnswer::Produced(sdp())),
            MediaOrder::CloseProducer { order, .. } => {
                ((*order)?, MediaAnswer::ProducerClosed(sdp()))
            }
            MediaOrder::Consume { order, wanted, .. } => {
                let mids = (0..wanted.len()).map(|line| (line % 5 > 0).then(|| line.to_string()));
                let mids = mids.collect();
                let offer = Some(sdp());
                (*order, MediaAnswer::Consumed { mids, offer })
            }
            MediaOrder::ApplyAnswer { order, .. } => (*order, MediaAnswer::AnswerApplied),
            MediaOrder::CloseConsumers { order, .. } => {
                (*order, MediaAnswer::ConsumersClosed(sdp()))
            }
            MediaOrder::Admit { .. }
            | MediaOrder::Pause { .. }
            | MediaOrder::PreferLayers { .. }
            | MediaOrder::Revoke { .. }
            | MediaOrder::Pin { .. }
            | MediaOrder::Close { .. } => return None,
        };
        let requester = requester.expect("an order has a requester");
        assert!(
            self.orders.insert(order, requester).is_none(),
            "{order:?} is duplicated"
        );
        let outcome = match self.orders.len() % 7 {
            6 => Err(Refusal::new(410, "there is no such transport")),
            _ => Ok(answer),
        };
        Some((order, outcome))
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Send { to, frame, .. } => {
                let envelope = Envelope::decode(frame).expect("a frame decodes");
                assert!(envelope.payload.is_some(), "clients require a payload");
                assert!(!to.is_empty());
                let distinct: BTreeSet<&ConnectionId> = to.iter().collect();
                assert_eq!(distinct.len(), to.len(), "a connection gets two copies");
                for connection in &to {
                    assert!(
                        self.open.contains_key(connection),
                        "{connection:?} is closed"
                    );
                }
            }
            Output::Close { connection, .. } => {
                let was_open = self.open.remove(&connection);
                assert!(was_open.is_some(), "{connection:?} was already closed");
            }
            Output::Persist(record) => self.apply(record),
            Output::Media(_)
            | Output::Answer(..)
            | Output::Delegate(_)
            | Output::NotifyBreakoutRooms { .. } => {}
        }
    }

    fn apply(&mut self, record: Record) {
        let live = self.records.session.as_ref().map(|session| session.id);
        match record {
            Record::Session(session) => {
                assert!(
                    session.live <= session.peak && session.peak <= session.total,
                    "{session:?}"
                );
                assert!(session.live >= 0 && session.consumed_ms >= 0, "{session:?}");
                assert!(
                    live.is_none_or(|live| live == session.id),
                    "one live session"
                );
                if let Some(ended_ms) = session.ended_ms {
                    assert!(
                        session.live == 0 && ended_ms >= session.started_ms,
                        "{session:?}"
                    );
                    let open = self
                        .records
                        .peers
                        .values()
                        .find(|peer| peer.left_ms.is_none());
                    assert!(
                        open.is_none(),
                        "{open:?} is still inside a session that has ended"
                    );
                    self.records = StoredRecords::default();
                } else {
                    self.records.session = Some(session);
                }
            }
            Record::Peer(peer) => {
                let times_are_ordered = peer
                    .left_ms
                    .is_none_or(|left_ms| left_ms >= peer.entered_ms);
                assert!(
                    times_are_ordered && peer.entered_ms >= peer.joined_ms,
                    "{peer:?}"
                );
                self.records.peers.insert(peer.peer, peer);
            }
            Record::Chat(message) => {
                assert_eq!(
                    live,
                    Some(message.session),
                    "a message of a session that is not live"
                );
                self.records.chat.insert(message.id, message);
            }
            Record::ChatDeleted(id) => {
                self.records.chat.remove(&id);
            }
            Record::Entry {
                kind,
                key,
                value: Some(value),
                ..
            } => {
                self.records.entries.insert((kind, key), value.to_vec());
            }
            Record::Entry {
                kind,
                key,
                value: None,
                ..
            } => {
                self.records.entries.remove(&(kind, key));
            }
        }
    }
}

/// The connection that a reply is sent to. Pushes have no id.
fn replied_to(output: &Output) -> Option<ConnectionId> {
    let Output::Send { to, frame, .. } = output else {
        return None;
    };
    let envelope = Envelope::decode(frame.clone()).expect("a frame decodes");
    envelope.id?;
    assert_eq!(to.len(), 1, "a reply has one receiver");
    to.first().copied()
}

fn open(persisted: PersistedState, now_ms: i64, next_id: &mut u128) -> Room {
    let limits = Limits {
        peers: 10,
        chat_held: 8,
        polls: 4,
        ..Limits::default()
    };
    fixture::open(meeting(), limits, persisted, now_ms, next_id)
}

fn profile(person: u8, number: u8) -> PeerProfile {
    let host = Permissions {
        accept_waiting_requests: true,
        can_accept_production_requests: true,
        can_change_participant_permissions: true,
        kick_participant: true,
        pin_participant: true,
        ..Permissions::default()
    };
    let viewer = Permissions {
        stage_enabled: true,
        stage_access: Some(MediaPermission::CanRequest),
        ..Permissions::default()
    };
    let (view, permissions) = match person {
        0 => (ViewType::GroupCall, host),
        1 => (ViewType::GroupCall, Permissions::default()),
        2 => (
            ViewType::GroupCall,
            Permissions {
                waiting_room_type: WaitingRoomType::SkipOnAccept,
                ..Permissions::default()
            },
        ),
        3 => (ViewType::Webinar, viewer),
        4 => (ViewType::Livestream, viewer),
        _ => (
            ViewType::GroupCall,
            Permissions {
                hidden_participant: true,
                ..Permissions::default()
            },
        ),
    };
    fixture::profile(person, number, view, permissions)
}
