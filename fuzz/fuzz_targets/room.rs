//! A room that is told anything by several clients, dies, and is opened again from its records.
//!
//! The input is a script: a byte that says what happens, a byte that says to whom, and what it needs.
#![no_main]

#[path = "room/fixture.rs"]
mod fixture;
#[path = "room/requests.rs"]
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_live::{
    At, ChatMessage, Command, ConnectionId, EntryKind, Input, Limits, MediaAnswer, MediaOrder,
    Monotonic, NewPoll, Newcomer, OrderId, Output, Past, PeerRecord, Person, Record, Refusal, Room,
    SessionRecord, Ticket,
};
use parlor_protocol::ids::{MeetingId, PeerId};
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use uuid::Uuid;

use fixture::{START_MS, draw, meeting, user};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut script = Script(bytes);
    while let Some(act) = script.byte() {
        world.act(act, &mut script);
    }
});

/// What is left of the input.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A byte, or nought when there is none.
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

/// People, each with other permissions.
const PEOPLE: u8 = 6;
/// Clients of each of them.
const CLIENTS: u8 = 2;

/// The records, as a database would hold them.
#[derive(Default)]
struct Kept {
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
    /// Sockets that are open, and whose they are.
    open: BTreeMap<ConnectionId, u8>,
    /// Who asked for what the media plane has not answered.
    orders: BTreeMap<OrderId, ConnectionId>,
    kept: Kept,
}

impl World {
    fn new() -> Self {
        let (mut next_id, now_ms) = (1, START_MS);
        let room = open(Past::default(), now_ms, &mut next_id);
        let (open, kept) = (BTreeMap::new(), Kept::default());
        Self {
            room,
            now_ms,
            next_id,
            next_connection: 0,
            open,
            orders: BTreeMap::new(),
            kept,
        }
    }

    fn act(&mut self, act: u8, script: &mut Script<'_>) {
        let whom = script.any();
        let connections: Vec<ConnectionId> = self.open.keys().copied().collect();
        let connection = connections
            .get(usize::from(whom) % connections.len().max(1))
            .copied();
        match (act % 16, connection) {
            (0 | 1, _) => self.arrive(whom),
            (2, Some(connection)) => {
                self.open.remove(&connection);
                self.tell(Input::Closed {
                    connection,
                    goodbye: act & 16 != 0,
                });
            }
            (3, _) => {
                self.now_ms += i64::from(whom) * i64::from(script.any()) * 10;
                self.tell(Input::Tick);
                let now = Monotonic::from_ms(self.now_ms);
                let wakes_later = self.room.wake_at().is_none_or(|wake| wake > now);
                assert!(
                    wakes_later,
                    "a room that has just ticked must not ask for it again"
                );
            }
            (4, _) => self.command(whom, script),
            (5, _) => self.restart(act & 16 != 0),
            (6, Some(connection)) => self.frame(connection, Bytes::copy_from_slice(script.bytes())),
            (7, Some(connection)) => {
                let (number, _) = event::ALL[usize::from(script.any()) % event::ALL.len()];
                let payload = Bytes::copy_from_slice(script.bytes());
                self.request(connection, number, payload);
            }
            (_, Some(connection)) => {
                let (number, payload) = requests::sensible(&self.kept, script);
                self.request(connection, number, payload.into());
            }
            _ => {}
        }
    }

    fn arrive(&mut self, whom: u8) {
        if self.open.len() > 20 {
            return;
        }
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let who = Box::new(newcomer(whom % PEOPLE, whom / PEOPLE % CLIENTS));
        self.open.insert(connection, whom);
        self.tell(Input::Opened { connection, who });
        self.request(connection, event::JOIN_ROOM, Bytes::new());
    }

    fn request(&mut self, connection: ConnectionId, number: u32, payload: Bytes) {
        self.frame(connection, fixture::frame(number, payload));
    }

    fn frame(&mut self, connection: ConnectionId, bytes: Bytes) {
        if self.open.contains_key(&connection) {
            self.tell(Input::Frame { connection, bytes });
        }
    }

    fn command(&mut self, which: u8, script: &mut Script<'_>) {
        let person = |script: &mut Script<'_>| match script.any() {
            255 => Person::CustomId(script.text()),
            number => Person::Id(user(number % PEOPLE)),
        };
        let command = match which % 13 {
            0 => Command::Who,
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
            6 => Command::Removed {
                participant: user(script.any() % PEOPLE),
                drop: script.flag(),
            },
            7 => {
                let mut changed = meeting();
                changed.active = script.flag();
                changed.title = script.text();
                Command::Changed(changed)
            }
            8 => Command::Push {
                event: event::TRANSCRIPT,
                payload: Bytes::copy_from_slice(script.bytes()),
            },
            10 => Command::Gone,
            11 => Command::Present(vec![person(script), person(script)]),
            12 => Command::KickPresent(vec![user(script.any() % PEOPLE)]),
            _ => Command::Transfer {
                meeting: MeetingId::from_uuid(Uuid::from_u128(7)),
                people: vec![(user(script.any() % PEOPLE), script.text())],
            },
        };
        self.tell(Input::Command {
            ticket: Ticket(1),
            command,
        });
    }

    /// The process stops or dies; whoever was there has no socket any more.
    fn restart(&mut self, in_good_order: bool) {
        if in_good_order {
            self.tell(Input::Command {
                ticket: Ticket(1),
                command: Command::Suspend,
            });
            assert!(self.open.is_empty(), "{:?} are left open", self.open);
        }
        self.open.clear();
        let kept = &self.kept;
        let past = Past {
            session: kept.session.clone(),
            peers: kept.peers.values().cloned().collect(),
            entries: kept
                .entries
                .iter()
                .map(|((kind, key), value)| (*kind, key.clone(), value.clone()))
                .collect(),
            chat: kept.chat.values().cloned().collect(),
            chat_bytes: kept.chat.values().map(ChatMessage::stored_bytes).sum(),
            chat_full: None,
            last_alive_ms: self.now_ms,
            earlier_ms: 0,
        };
        self.orders.clear();
        self.room = open(past, self.now_ms, &mut self.next_id);
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        let (asker, answers) = match &input {
            Input::Frame { connection, .. } => (Some(*connection), 0),
            Input::Media { order, .. } => (self.orders.remove(order), 0),
            Input::Command { .. } => (None, 1),
            Input::Opened { .. }
            | Input::Closed { .. }
            | Input::Freed { .. }
            | Input::Speaking(_)
            | Input::Tick => (None, 0),
        };
        let next_id = &mut self.next_id;
        let mut ids = |_: i64| draw(next_id);
        let mut at = At {
            now_ms: self.now_ms,
            monotonic: Monotonic::from_ms(self.now_ms),
            ids: &mut ids,
        };
        self.room.handle(&mut at, input, &mut out);
        assert!(
            self.room.cost() <= self.room.most_cost(),
            "{}",
            self.room.cost()
        );
        let answered = out.iter().filter(|one| matches!(one, Output::Answer(..)));
        assert_eq!(answered.count(), answers, "{out:?}");
        let replies: Vec<_> = out.iter().filter_map(replied_to).collect();
        let expected = asker.filter(|_| !replies.is_empty());
        assert!(
            replies.iter().copied().eq(expected),
            "{asker:?} asked, {replies:?} got a reply"
        );
        let mut done = Vec::new();
        for output in out {
            if let Output::Media(order) = &output {
                done.extend(self.media(order, asker));
            }
            self.check(output);
        }
        for (order, outcome) in done {
            self.tell(Input::Media { order, outcome });
        }
    }

    /// What the media plane says to an order, if it says anything.
    fn media(
        &mut self,
        order: &MediaOrder,
        asker: Option<ConnectionId>,
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
            MediaOrder::Answered { order, .. } => (*order, MediaAnswer::Agreed),
            MediaOrder::CloseConsumers { order, .. } => {
                (*order, MediaAnswer::ConsumersClosed(sdp()))
            }
            MediaOrder::Admit { .. }
            | MediaOrder::Pause { .. }
            | MediaOrder::Prefer { .. }
            | MediaOrder::Revoke { .. }
            | MediaOrder::Pin { .. }
            | MediaOrder::Close { .. } => return None,
        };
        let asker = asker.expect("somebody asked for it");
        assert!(
            self.orders.insert(order, asker).is_none(),
            "{order:?} twice"
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
                let envelope = Envelope::decode(frame).expect("a frame can be read");
                assert!(envelope.payload.is_some(), "clients fail without a payload");
                assert!(!to.is_empty());
                let distinct: BTreeSet<&ConnectionId> = to.iter().collect();
                assert_eq!(distinct.len(), to.len(), "one copy for each");
                for connection in &to {
                    assert!(
                        self.open.contains_key(connection),
                        "{connection:?} is closed"
                    );
                }
            }
            Output::Close { connection, .. } => {
                let was_open = self.open.remove(&connection);
                assert!(was_open.is_some(), "{connection:?} was closed before");
            }
            Output::Keep(record) => self.keep(record),
            Output::Media(_)
            | Output::Answer(..)
            | Output::Delegate(_)
            | Output::TellConnected { .. } => {}
        }
    }

    fn keep(&mut self, record: Record) {
        let live = self.kept.session.as_ref().map(|session| session.id);
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
                    let open = self.kept.peers.values().find(|peer| peer.left_ms.is_none());
                    assert!(
                        open.is_none(),
                        "{open:?} is inside a session that has ended"
                    );
                    self.kept = Kept::default();
                } else {
                    self.kept.session = Some(session);
                }
            }
            Record::Peer(peer) => {
                let is_in_order = peer
                    .left_ms
                    .is_none_or(|left_ms| left_ms >= peer.entered_ms);
                assert!(is_in_order && peer.entered_ms >= peer.joined_ms, "{peer:?}");
                self.kept.peers.insert(peer.peer, peer);
            }
            Record::Chat(message) => {
                assert_eq!(
                    live,
                    Some(message.session),
                    "a message of a session that is not live"
                );
                self.kept.chat.insert(message.id, message);
            }
            Record::ChatDeleted(id) => {
                self.kept.chat.remove(&id);
            }
            Record::Entry {
                kind,
                key,
                value: Some(value),
                ..
            } => {
                self.kept.entries.insert((kind, key), value.to_vec());
            }
            Record::Entry {
                kind,
                key,
                value: None,
                ..
            } => {
                self.kept.entries.remove(&(kind, key));
            }
        }
    }
}

/// Who gets a reply; pushes have no id.
fn replied_to(output: &Output) -> Option<ConnectionId> {
    let Output::Send { to, frame, .. } = output else {
        return None;
    };
    let envelope = Envelope::decode(frame.clone()).expect("a frame can be read");
    envelope.id?;
    assert_eq!(to.len(), 1, "a reply is for one");
    to.first().copied()
}

fn open(past: Past, now_ms: i64, next_id: &mut u128) -> Room {
    let limits = Limits {
        peers: 10,
        chat_held: 8,
        polls: 4,
        ..Limits::default()
    };
    fixture::open(meeting(), limits, past, now_ms, next_id)
}

fn newcomer(person: u8, number: u8) -> Newcomer {
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
    fixture::newcomer(person, number, view, permissions)
}
