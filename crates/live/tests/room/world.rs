//! A room in virtual time, with its persisted records. Checks invariants after every input.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_live::{
    Answer, ChatMessage, CloseReason, Command, ConnectionId, DelegatedRequest, EntryKind, Input,
    InputContext, Limits, MediaOrder, Meeting, Monotonic, Output, PeerProfile, PeerRecord,
    PersistedState, Record, Room, SessionRecord, Ticket,
};
use parlor_protocol::ids::{PeerId, SessionId};
use parlor_protocol::signal::media::edge::ErrorResponse;
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::socket::plugin::PluginStoreItem;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use uuid::Uuid;

use crate::media_plane::MediaPlane;

/// A frame sent to a connection.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) to: ConnectionId,
    pub(crate) event: u32,
    pub(crate) id: Option<String>,
    pub(crate) payload: Bytes,
}

impl Received {
    pub(crate) fn decode<M: Message + Default>(&self) -> M {
        M::decode(self.payload.clone()).expect("the payload is the message of its event")
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self.event, event::ERROR | event::MEDIA_ERROR)
    }
}

/// The effects of one input.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) frames: Vec<Received>,
    pub(crate) closed: Vec<(ConnectionId, CloseReason)>,
    pub(crate) records: Vec<Record>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) media: Vec<MediaOrder>,
    pub(crate) delegated: Vec<DelegatedRequest>,
    /// Number of notifications to breakout rooms.
    pub(crate) breakout_notifications: usize,
}

impl Effects {
    /// The frames with this event that were sent to a connection.
    pub(crate) fn frames_to(&self, to: ConnectionId, event: u32) -> Vec<&Received> {
        let these = self.frames.iter();
        these
            .filter(|frame| frame.to == to && frame.event == event)
            .collect()
    }

    /// The events that were sent to a connection, in order.
    pub(crate) fn events(&self, to: ConnectionId) -> Vec<u32> {
        let these = self.frames.iter().filter(|frame| frame.to == to);
        these.map(|frame| frame.event).collect()
    }

    /// The only frame with this event that was sent to a connection.
    pub(crate) fn only_frame<M: Message + Default>(&self, to: ConnectionId, event: u32) -> M {
        let these = self.frames_to(to, event);
        assert_eq!(these.len(), 1, "{event} to {to:?} in {self:?}");
        these[0].decode()
    }
}

/// The result of a request: its replies and all other effects.
#[derive(Debug)]
pub(crate) struct RequestOutcome {
    pub(crate) id: String,
    pub(crate) replies: Vec<Received>,
    pub(crate) effects: Effects,
}

impl RequestOutcome {
    pub(crate) fn is_rejected(&self) -> bool {
        self.replies.iter().any(Received::is_error)
    }

    /// The error code in a media error, which clients parse as JSON.
    pub(crate) fn error_code(&self) -> String {
        let [reply] = self.replies.as_slice() else {
            panic!("one reply, not {self:?}")
        };
        assert_eq!(reply.event, event::MEDIA_ERROR, "{self:?}");
        let text = reply.decode::<ErrorResponse>().error_message;
        let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        error["errorCode"].as_str().expect("a code").to_owned()
    }

    /// The code of the error reply, or 0 for a media error, which has none.
    pub(crate) fn code(&self) -> i32 {
        let [reply] = self.replies.as_slice() else {
            panic!("one reply, not {self:?}")
        };
        match reply.event {
            event::ERROR => reply.decode::<ErrorMessage>().code.unwrap_or_default(),
            event::MEDIA_ERROR => {
                assert!(!reply.decode::<ErrorResponse>().error_message.is_empty());
                0
            }
            _ => panic!("an error, not {reply:?}"),
        }
    }

    /// The only reply.
    pub(crate) fn reply<M: Message + Default>(&self, event: u32) -> M {
        let [reply] = self.replies.as_slice() else {
            panic!("one reply, not {self:?}")
        };
        assert_eq!(reply.event, event, "{self:?}");
        reply.decode()
    }
}

/// The records that a room has persisted.
#[derive(Debug, Default)]
pub(crate) struct StoredRecords {
    pub(crate) sessions: BTreeMap<SessionId, SessionRecord>,
    pub(crate) peers: BTreeMap<(SessionId, PeerId), PeerRecord>,
    pub(crate) chat: BTreeMap<Uuid, ChatMessage>,
    pub(crate) entries: BTreeMap<(SessionId, EntryKind, String), Vec<u8>>,
}

impl StoredRecords {
    /// Checks that ids and times never go backwards, whatever the clock does.
    fn check_order(&self, record: &Record) {
        let (new, said_ms) = match record {
            Record::Session(session) if !self.sessions.contains_key(&session.id) => {
                let ended = self
                    .sessions
                    .values()
                    .filter_map(|earlier| earlier.ended_ms);
                assert!(ended.max() <= Some(session.started_ms), "{session:?}");
                (session.id.uuid(), None)
            }
            Record::Chat(message) if !self.chat.contains_key(&message.id) => {
                (message.id, Some(message.at_ms))
            }
            Record::Entry {
                session,
                kind: EntryKind::Poll,
                key,
                value: Some(_),
            } if !self.has_poll(*session, key) => (key.parse().expect("an id"), None),
            _ => return,
        };
        let sessions = self.sessions.keys().map(|id| id.uuid());
        let polls = self.entries.keys();
        let polls = polls.filter(|(_, kind, _)| *kind == EntryKind::Poll);
        let polls = polls.map(|(_, _, key)| key.parse().expect("an id"));
        // The last message is the latest one, because each message was checked when it was added.
        let last = self.chat.last_key_value();
        let ids = sessions.chain(last.map(|(id, _)| *id)).chain(polls);
        assert!(ids.max() < Some(new), "{record:?}");
        let latest_ms = last.map(|(_, message)| message.at_ms);
        assert!(said_ms.is_none() || latest_ms < said_ms, "{record:?}");
    }

    fn has_poll(&self, session: SessionId, id: &str) -> bool {
        let key = (session, EntryKind::Poll, id.to_owned());
        self.entries.contains_key(&key)
    }

    fn apply(&mut self, record: &Record) {
        self.check_order(record);
        let over = |session: SessionId| {
            let record = self.sessions.get(&session);
            record.is_some_and(|session| session.ended_ms.is_some())
        };
        match record {
            Record::Session(session) => {
                assert!(
                    !over(session.id),
                    "a record of an ended session: {session:?}"
                );
                assert!(
                    session.live <= session.peak && session.peak <= session.total,
                    "{session:?}"
                );
                assert!(
                    session
                        .ended_ms
                        .is_none_or(|ended| ended >= session.started_ms)
                );
                self.sessions.insert(session.id, session.clone());
            }
            Record::Peer(peer) => {
                assert!(
                    !over(peer.session),
                    "a record of an ended session: {peer:?}"
                );
                assert!(peer.joined_ms <= peer.entered_ms && peer.created_ms <= peer.joined_ms);
                assert!(peer.left_ms.is_none_or(|left| left >= peer.entered_ms));
                if let Some(old) = self.peers.get(&(peer.session, peer.peer)) {
                    assert_eq!(
                        old.participant, peer.participant,
                        "the peer belongs to another participant"
                    );
                    assert_eq!(old.joined_ms, peer.joined_ms, "{old:?} became {peer:?}");
                    assert!(
                        old.consumed_ms <= peer.consumed_ms,
                        "{old:?} became {peer:?}"
                    );
                }
                self.peers.insert((peer.session, peer.peer), peer.clone());
            }
            Record::Chat(message) => {
                self.chat.insert(message.id, message.clone());
            }
            Record::ChatDeleted(id) => {
                self.chat.remove(id).expect("the message was persisted");
            }
            Record::Entry {
                session,
                kind,
                key,
                value,
            } => {
                assert!(!over(*session), "an entry of an ended session: {record:?}");
                let key = (*session, *kind, key.clone());
                match value {
                    Some(value) => self.entries.insert(key, value.to_vec()),
                    None => self.entries.remove(&key),
                };
            }
        }
    }

    /// The live session.
    pub(crate) fn live(&self) -> Option<&SessionRecord> {
        let mut live = self
            .sessions
            .values()
            .filter(|session| session.ended_ms.is_none());
        let found = live.next();
        assert!(
            live.next().is_none(),
            "two sessions are live: {:?}",
            self.sessions
        );
        found
    }

    /// The latest time in all records.
    fn latest_ms(&self) -> i64 {
        let sessions = self.sessions.values().cloned().map(Record::Session);
        let peers = self.peers.values().cloned().map(Record::Peer);
        let chat = self.chat.values().cloned().map(Record::Chat);
        let times = sessions.chain(peers).chain(chat);
        let times = times.map(|record| time_of(&record));
        // Entries of ended sessions are not later than the sessions' ends.
        let live = self.live().map(|session| session.id);
        let entries = self.entries.iter();
        let entries = entries.filter(|((session, _, _), _)| Some(*session) == live);
        let entries = entries.map(|((_, kind, key), value)| time_of_entry(*kind, key, value));
        times.chain(entries).max().unwrap_or(0)
    }

    /// The state that a restarted server loads.
    pub(crate) fn persisted_state(&self, persist_chat: bool, last_alive_ms: i64) -> PersistedState {
        let session = self.live().cloned();
        let id = session.as_ref().map(|session| session.id);
        let is_live = |of: &SessionId| Some(*of) == id;
        let mut chat: Vec<ChatMessage> = self.chat.values().cloned().collect();
        chat.retain(|message| persist_chat || is_live(&message.session));
        chat.sort_by_key(|message| message.at_ms);
        let peers = self.peers.values().filter(|peer| is_live(&peer.session));
        PersistedState {
            chat_bytes: self.chat.values().map(ChatMessage::stored_bytes).sum(),
            chat_full: None,
            peers: peers.cloned().collect(),
            entries: (self.entries.iter())
                .filter(|((of, _, _), _)| is_live(of))
                .map(|((_, kind, key), value)| (*kind, key.clone(), value.clone()))
                .collect(),
            chat,
            last_alive_ms,
            earlier_ms: (self.sessions.values())
                .filter_map(|session| session.ended_ms)
                .max()
                .unwrap_or_default(),
            session,
        }
    }
}

/// A point in time, in room time and in monotonic time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) room_ms: i64,
    pub(crate) monotonic_ms: i64,
}

/// A room, its clocks and its connections.
pub(crate) struct World {
    pub(crate) room: Room,
    pub(crate) meeting: Meeting,
    pub(crate) limits: Limits,
    pub(crate) media_plane: MediaPlane,
    /// The wall clock, in Unix milliseconds.
    pub(crate) now_ms: i64,
    /// The monotonic clock, in milliseconds.
    pub(crate) monotonic_ms: i64,
    /// When the server started, on the monotonic clock. The room's monotonic time starts there.
    started_ms: i64,
    /// The time that the room is expected to use.
    pub(crate) room_ms: i64,
    pub(crate) records: StoredRecords,
    pub(crate) open: BTreeSet<ConnectionId>,
    /// All outputs, if traced.
    pub(crate) trace: Option<String>,
    ids_generated: u64,
    connections: u64,
    requests: u64,
}

pub(crate) const START_MS: i64 = 1_800_000_000_000;
/// The monotonic time at which a server starts.
const STARTED: Monotonic = Monotonic::from_ms(7_000);

/// Connects a participant and joins the room.
pub(crate) fn join(world: &mut World, profile: &PeerProfile) -> ConnectionId {
    let (socket, _) = world.connect(profile);
    assert!(!world.request(socket, event::JOIN_ROOM, &()).is_rejected());
    socket
}

pub(crate) fn meeting() -> Meeting {
    Meeting {
        id: "0197f3a0-0000-7000-8000-00000000000a"
            .parse()
            .expect("an id"),
        title: "Stand-up".to_owned(),
        active: true,
        persist_chat: false,
        keep_alive_ms: 60_000,
        parent: None,
        has_rooms: false,
        version: 0,
    }
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::of(meeting(), limits)
    }

    pub(crate) fn of(meeting: Meeting, limits: Limits) -> Self {
        let mut ids_generated = 0;
        let mut context = InputContext {
            now_ms: START_MS,
            monotonic: STARTED,
            ids: &mut |ms| next_id(ms, &mut ids_generated),
        };
        let room = Room::open(
            meeting.clone(),
            limits.clone(),
            PersistedState::default(),
            &mut context,
        );
        Self {
            room,
            meeting,
            limits,
            media_plane: MediaPlane::default(),
            now_ms: START_MS,
            monotonic_ms: 0,
            started_ms: 0,
            room_ms: START_MS,
            records: StoredRecords::default(),
            open: BTreeSet::new(),
            trace: None,
            ids_generated,
            connections: 0,
            requests: 0,
        }
    }

    /// The server crashes and restarts at once.
    pub(crate) fn crash(&mut self, last_alive_ms: i64) {
        self.crash_for(last_alive_ms, 0, 0);
    }

    /// The server crashes and restarts after a while, and meanwhile the clock is stepped.
    pub(crate) fn crash_for(&mut self, last_alive_ms: i64, down_ms: i64, step_ms: i64) {
        self.now_ms += down_ms + step_ms;
        self.monotonic_ms += down_ms;
        let persisted = self
            .records
            .persisted_state(self.meeting.persist_chat, last_alive_ms);
        self.room_ms = self.now_ms.max(self.records.latest_ms() + 1);
        // Ids and monotonic time restart.
        (self.ids_generated, self.started_ms) = (0, self.monotonic_ms);
        let ids_generated = &mut self.ids_generated;
        let mut context = InputContext {
            now_ms: self.now_ms,
            monotonic: STARTED,
            ids: &mut |ms| next_id(ms, ids_generated),
        };
        self.room = Room::open(
            self.meeting.clone(),
            self.limits.clone(),
            persisted,
            &mut context,
        );
        self.open.clear();
        self.media_plane = MediaPlane::default();
    }

    /// Handles an input at the current time and applies the outputs.
    pub(crate) fn handle(&mut self, input: Input) -> Effects {
        let outputs = self.handle_deferred(input);
        self.apply_outputs(outputs)
    }

    /// Handles an input without applying the outputs.
    pub(crate) fn handle_deferred(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.room_ms = self.room_ms.max(self.now_ms);
        let monotonic = self.monotonic();
        let ids_generated = &mut self.ids_generated;
        let mut context = InputContext {
            now_ms: self.now_ms,
            monotonic,
            ids: &mut |ms| next_id(ms, ids_generated),
        };
        if let Input::Closed { connection, .. } = &input {
            self.open.remove(connection);
        }
        self.room.handle(&mut context, input, &mut outputs);
        outputs
    }

    /// Applies outputs and checks the room's invariants.
    pub(crate) fn apply_outputs(&mut self, outputs: Vec<Output>) -> Effects {
        assert!(
            self.room.cost() <= self.room.max_cost(),
            "{}",
            self.room.cost()
        );
        let now = self.monotonic();
        let wake = self.room.next_deadline();
        assert!(
            wake.is_none_or(|wake| wake > now) || self.room.is_finished(),
            "the room's deadline is {wake:?}, but it is already {now:?}"
        );
        if let Some(trace) = &mut self.trace {
            use std::fmt::Write;
            writeln!(trace, "{outputs:?}").expect("writing to a String cannot fail");
        }
        let is_record = |output: &Output| matches!(output, Output::Persist(_));
        assert!(
            outputs.iter().rev().is_sorted_by_key(is_record),
            "a frame is sent before a record is persisted: {outputs:?}"
        );
        let mut effects = Effects::default();
        for output in outputs {
            self.apply_output(&mut effects, output);
        }
        effects
    }

    fn apply_output(&mut self, effects: &mut Effects, output: Output) {
        match output {
            Output::Send { to, frame, .. } => {
                let envelope = Envelope::decode(frame).expect("a frame contains an envelope");
                let payload = envelope.payload.expect("every frame has a payload");
                assert!(
                    !to.is_empty(),
                    "a frame without receivers: {}",
                    envelope.event
                );
                for to in to {
                    assert!(
                        self.open.contains(&to),
                        "{} is sent to the closed {to:?}",
                        envelope.event
                    );
                    effects.frames.push(Received {
                        to,
                        event: envelope.event,
                        id: envelope.id.clone(),
                        payload: payload.clone(),
                    });
                }
            }
            Output::Close {
                connection,
                closing,
            } => {
                assert!(
                    self.open.remove(&connection),
                    "{connection:?} was already closed"
                );
                effects.closed.push((connection, closing));
            }
            Output::Persist(record) => {
                self.records.apply(&record);
                // The end of a session and messages of the same millisecond may be later than the
                // clock.
                if matches!(&record, Record::Session(_) | Record::Chat(_)) {
                    self.room_ms = self.room_ms.max(time_of(&record));
                }
                effects.records.push(record);
            }
            Output::Media(order) => {
                self.media_plane.accept(&order);
                effects.media.push(order);
            }
            Output::Answer(_, answer) => effects.answers.push(answer),
            Output::Delegate(task) => effects.delegated.push(*task),
            Output::NotifyBreakoutRooms { .. } => effects.breakout_notifications += 1,
        }
    }

    pub(crate) fn connect(&mut self, profile: &PeerProfile) -> (ConnectionId, Effects) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.open.insert(connection);
        let profile = Box::new(profile.clone());
        (
            connection,
            self.handle(Input::Opened {
                connection,
                profile,
            }),
        )
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, leaving: bool) -> Effects {
        self.handle(Input::Closed {
            connection,
            leaving,
        })
    }

    /// Sends a request with an id.
    pub(crate) fn request(
        &mut self,
        from: ConnectionId,
        event: u32,
        message: &impl Message,
    ) -> RequestOutcome {
        self.requests += 1;
        let id = format!("peer-{:x}", self.requests);
        let effects = self.send_raw(from, event, Some(id.clone()), message);
        let mut replies = Vec::new();
        for frame in &effects.frames {
            if frame.id.as_ref() == Some(&id) {
                assert_eq!(frame.to, from, "the reply went to another connection");
                replies.push(frame.clone());
            } else {
                assert!(frame.id.is_none(), "a push with an id: {frame:?}");
            }
        }
        assert!(replies.len() < 2, "two replies: {replies:?}");
        RequestOutcome {
            id,
            replies,
            effects,
        }
    }

    /// Sends a request without applying the outputs.
    pub(crate) fn request_deferred(
        &mut self,
        connection: ConnectionId,
        event: u32,
        message: &impl Message,
    ) -> Vec<Output> {
        let envelope = Envelope {
            event,
            id: Some("id".to_owned()),
            payload: Some(message.encode_to_vec().into()),
            metadata: None,
        };
        let bytes = envelope.encode_to_vec().into();
        self.handle_deferred(Input::Frame { connection, bytes })
    }

    pub(crate) fn send_raw(
        &mut self,
        connection: ConnectionId,
        event: u32,
        id: Option<String>,
        message: &impl Message,
    ) -> Effects {
        let envelope = Envelope {
            event,
            id,
            payload: Some(message.encode_to_vec().into()),
            metadata: Some(Bytes::from_static(b"{}")),
        };
        let bytes = envelope.encode_to_vec().into();
        self.handle(Input::Frame { connection, bytes })
    }

    pub(crate) fn command(&mut self, command: Command) -> (Answer, Effects) {
        let ticket = Ticket(self.requests);
        let mut effects = self.handle(Input::Command { ticket, command });
        assert_eq!(effects.answers.len(), 1);
        (effects.answers.remove(0), effects)
    }

    /// Advances time in one step.
    pub(crate) fn advance(&mut self, ms: i64) -> Effects {
        self.now_ms += ms;
        self.monotonic_ms += ms;
        self.handle(Input::Tick)
    }

    /// The monotonic time, as the room sees it.
    pub(crate) fn monotonic(&self) -> Monotonic {
        STARTED.after(self.monotonic_ms - self.started_ms)
    }

    /// The current time on both clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            room_ms: self.room_ms,
            monotonic_ms: self.monotonic_ms,
        }
    }

    /// Milliseconds until the room's next deadline.
    pub(crate) fn next_wake_ms(&self) -> Option<i64> {
        let now = STARTED.after(self.monotonic_ms - self.started_ms);
        self.room.next_deadline().map(|wake| wake.since(now))
    }

    /// Steps the wall clock.
    pub(crate) fn step_clock(&mut self, ms: i64) -> Effects {
        self.now_ms += ms;
        self.handle(Input::Tick)
    }
}

/// Generates ids like the server: the time followed by a counter.
fn next_id(ms: i64, ids_generated: &mut u64) -> Uuid {
    *ids_generated += 1;
    Uuid::from_u128(u128::try_from(ms).expect("after 1970") << 80 | u128::from(*ids_generated))
}

/// The time in an entry, or 0 if it has none.
fn time_of_entry(kind: EntryKind, key: &str, value: &[u8]) -> i64 {
    match kind {
        EntryKind::Poll => {
            let id: Uuid = key.parse().expect("an id");
            i64::try_from(id.as_u128() >> 80).expect("48 bits")
        }
        EntryKind::Store => {
            let item = PluginStoreItem::decode(value).expect("an item");
            item.timestamp.parse().expect("a time")
        }
        _ => 0,
    }
}

/// The latest time in a record.
fn time_of(record: &Record) -> i64 {
    match record {
        Record::Session(session) => session.ended_ms.unwrap_or(session.started_ms),
        Record::Peer(peer) => peer.left_ms.unwrap_or(peer.entered_ms),
        Record::Chat(message) => message.at_ms,
        Record::ChatDeleted(_) | Record::Entry { .. } => 0,
    }
}
