//! A room in virtual time, and what it keeps. Rules that hold after every input are checked here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_live::{
    Answer, At, ChatMessage, Closing, Command, ConnectionId, Delegated, EntryKind, Input, Limits,
    MediaOrder, Meeting, Monotonic, Newcomer, Output, Past, PeerRecord, Record, Room,
    SessionRecord, Ticket,
};
use parlor_protocol::ids::{PeerId, SessionId};
use parlor_protocol::signal::media::edge::ErrorResponse;
use parlor_protocol::signal::socket::api::ErrorMessage;
use parlor_protocol::signal::socket::plugin::PluginStoreItem;
use parlor_protocol::signal::{Envelope, event};
use prost::Message;
use uuid::Uuid;

use crate::plane::Plane;

/// A frame that somebody was sent.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) to: ConnectionId,
    pub(crate) event: u32,
    pub(crate) id: Option<String>,
    pub(crate) payload: Bytes,
}

impl Received {
    pub(crate) fn read<M: Message + Default>(&self) -> M {
        M::decode(self.payload.clone()).expect("the payload is the message of its event")
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self.event, event::ERROR | event::MEDIA_ERROR)
    }
}

/// What came of one input.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) frames: Vec<Received>,
    pub(crate) closed: Vec<(ConnectionId, Closing)>,
    pub(crate) kept: Vec<Record>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) media: Vec<MediaOrder>,
    pub(crate) delegated: Vec<Delegated>,
    /// How often connected meetings are told who is here.
    pub(crate) told_connected: usize,
}

impl Done {
    /// The frames with this event that a socket got.
    pub(crate) fn of(&self, to: ConnectionId, event: u32) -> Vec<&Received> {
        let these = self.frames.iter();
        these
            .filter(|frame| frame.to == to && frame.event == event)
            .collect()
    }

    /// The events that a socket got, in order.
    pub(crate) fn events(&self, to: ConnectionId) -> Vec<u32> {
        let these = self.frames.iter().filter(|frame| frame.to == to);
        these.map(|frame| frame.event).collect()
    }

    /// The only frame with this event that a socket got.
    pub(crate) fn one<M: Message + Default>(&self, to: ConnectionId, event: u32) -> M {
        let these = self.of(to, event);
        assert_eq!(these.len(), 1, "{event} to {to:?} in {self:?}");
        these[0].read()
    }
}

/// What came of a request: its reply, and everything else.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) replies: Vec<Received>,
    pub(crate) done: Done,
}

impl Asked {
    pub(crate) fn refused(&self) -> bool {
        self.replies.iter().any(Received::is_error)
    }

    /// What the refusal of the media plane says, which clients read as JSON.
    pub(crate) fn error_code(&self) -> String {
        let [reply] = self.replies.as_slice() else {
            panic!("one reply, not {self:?}")
        };
        assert_eq!(reply.event, event::MEDIA_ERROR, "{self:?}");
        let text = reply.read::<ErrorResponse>().error_message;
        let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        error["errorCode"].as_str().expect("a code").to_owned()
    }

    /// The code of the refusal; 0 when the media plane refuses, which has none.
    pub(crate) fn code(&self) -> i32 {
        let [reply] = self.replies.as_slice() else {
            panic!("one reply, not {self:?}")
        };
        match reply.event {
            event::ERROR => reply.read::<ErrorMessage>().code.unwrap_or_default(),
            event::MEDIA_ERROR => {
                assert!(!reply.read::<ErrorResponse>().error_message.is_empty());
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
        reply.read()
    }
}

/// What a room has kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) sessions: BTreeMap<SessionId, SessionRecord>,
    pub(crate) peers: BTreeMap<(SessionId, PeerId), PeerRecord>,
    pub(crate) chat: BTreeMap<Uuid, ChatMessage>,
    pub(crate) entries: BTreeMap<(SessionId, EntryKind, String), Vec<u8>>,
}

impl Kept {
    /// Ids and times never go backwards, whatever the clock does.
    fn must_be_later(&self, record: &Record) {
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
        // Of the messages the last one is the latest: so it was when each of them came.
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
        self.must_be_later(record);
        let over = |session: SessionId| {
            let record = self.sessions.get(&session);
            record.is_some_and(|session| session.ended_ms.is_some())
        };
        match record {
            Record::Session(session) => {
                assert!(
                    !over(session.id),
                    "a record of a session that has ended: {session:?}"
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
                    "a record of a session that has ended: {peer:?}"
                );
                assert!(peer.joined_ms <= peer.entered_ms && peer.created_ms <= peer.joined_ms);
                assert!(peer.left_ms.is_none_or(|left| left >= peer.entered_ms));
                if let Some(old) = self.peers.get(&(peer.session, peer.peer)) {
                    assert_eq!(old.participant, peer.participant, "a peer of somebody else");
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
                self.chat.remove(id).expect("the message was kept");
            }
            Record::Entry {
                session,
                kind,
                key,
                value,
            } => {
                assert!(
                    !over(*session),
                    "an entry of a session that has ended: {record:?}"
                );
                let place = (*session, *kind, key.clone());
                match value {
                    Some(value) => self.entries.insert(place, value.to_vec()),
                    None => self.entries.remove(&place),
                };
            }
        }
    }

    /// The session that was not ended.
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

    /// The latest time of all records.
    fn latest_ms(&self) -> i64 {
        let sessions = self.sessions.values().cloned().map(Record::Session);
        let peers = self.peers.values().cloned().map(Record::Peer);
        let chat = self.chat.values().cloned().map(Record::Chat);
        let times = sessions.chain(peers).chain(chat);
        let times = times.map(|record| time_of(&record));
        // The entries of earlier sessions are not later than their ends.
        let live = self.live().map(|session| session.id);
        let entries = self.entries.iter();
        let entries = entries.filter(|((session, _, _), _)| Some(*session) == live);
        let entries = entries.map(|((_, kind, key), value)| time_of_entry(*kind, key, value));
        times.chain(entries).max().unwrap_or(0)
    }

    /// What a server finds that starts after this one.
    pub(crate) fn past(&self, persist_chat: bool, last_alive_ms: i64) -> Past {
        let session = self.live().cloned();
        let id = session.as_ref().map(|session| session.id);
        let here = |of: &SessionId| Some(*of) == id;
        let mut chat: Vec<ChatMessage> = self.chat.values().cloned().collect();
        chat.retain(|message| persist_chat || here(&message.session));
        chat.sort_by_key(|message| message.at_ms);
        let peers = self.peers.values().filter(|peer| here(&peer.session));
        Past {
            chat_bytes: self.chat.values().map(ChatMessage::stored_bytes).sum(),
            chat_full: None,
            peers: peers.cloned().collect(),
            entries: (self.entries.iter())
                .filter(|((of, _, _), _)| here(of))
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

/// A moment on both times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) room_ms: i64,
    pub(crate) monotonic_ms: i64,
}

/// A room, the time, and every socket.
pub(crate) struct World {
    pub(crate) room: Room,
    pub(crate) meeting: Meeting,
    pub(crate) limits: Limits,
    pub(crate) plane: Plane,
    /// What the clock shows.
    pub(crate) now_ms: i64,
    /// The time that nobody sets.
    pub(crate) monotonic_ms: i64,
    /// When the server started, on that time: to the room it began then.
    started_ms: i64,
    /// The time that the room should give.
    pub(crate) room_ms: i64,
    pub(crate) kept: Kept,
    pub(crate) open: BTreeSet<ConnectionId>,
    /// Everything that came out, when it is wanted.
    pub(crate) tape: Option<String>,
    drawn: u64,
    connections: u64,
    requests: u64,
}

pub(crate) const START_MS: i64 = 1_800_000_000_000;
/// What the time that nobody sets is when a server starts.
const STARTED: Monotonic = Monotonic::from_ms(7_000);

/// A socket of somebody who has joined.
pub(crate) fn join(world: &mut World, who: &Newcomer) -> ConnectionId {
    let (socket, _) = world.connect(who);
    assert!(!world.ask(socket, event::JOIN_ROOM, &()).refused());
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
        let mut drawn = 0;
        let mut at = At {
            now_ms: START_MS,
            monotonic: STARTED,
            ids: &mut |ms| draw(ms, &mut drawn),
        };
        let room = Room::open(meeting.clone(), limits.clone(), Past::default(), &mut at);
        Self {
            room,
            meeting,
            limits,
            plane: Plane::default(),
            now_ms: START_MS,
            monotonic_ms: 0,
            started_ms: 0,
            room_ms: START_MS,
            kept: Kept::default(),
            open: BTreeSet::new(),
            tape: None,
            drawn,
            connections: 0,
            requests: 0,
        }
    }

    /// The server dies, and another one starts.
    pub(crate) fn crash(&mut self, last_alive_ms: i64) {
        self.crash_for(last_alive_ms, 0, 0);
    }

    /// The server dies, and another one starts after a while, in which the clock was set as well.
    pub(crate) fn crash_for(&mut self, last_alive_ms: i64, down_ms: i64, step_ms: i64) {
        self.now_ms += down_ms + step_ms;
        self.monotonic_ms += down_ms;
        let past = self.kept.past(self.meeting.persist_chat, last_alive_ms);
        self.room_ms = self.now_ms.max(self.kept.latest_ms() + 1);
        // Ids are counted anew, and so is the time that nobody sets.
        (self.drawn, self.started_ms) = (0, self.monotonic_ms);
        let drawn = &mut self.drawn;
        let mut at = At {
            now_ms: self.now_ms,
            monotonic: STARTED,
            ids: &mut |ms| draw(ms, drawn),
        };
        self.room = Room::open(self.meeting.clone(), self.limits.clone(), past, &mut at);
        self.open.clear();
        self.plane = Plane::default();
    }

    /// One input, at this time.
    pub(crate) fn take(&mut self, input: Input) -> Done {
        let outputs = self.handle_untaken(input);
        self.see_all(outputs)
    }

    /// The room takes an input; what it wants done is not done yet.
    pub(crate) fn handle_untaken(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.room_ms = self.room_ms.max(self.now_ms);
        let monotonic = self.monotonic();
        let drawn = &mut self.drawn;
        let mut at = At {
            now_ms: self.now_ms,
            monotonic,
            ids: &mut |ms| draw(ms, drawn),
        };
        if let Input::Closed { connection, .. } = &input {
            self.open.remove(connection);
        }
        self.room.handle(&mut at, input, &mut outputs);
        outputs
    }

    /// What the room wants done is done.
    pub(crate) fn see_all(&mut self, outputs: Vec<Output>) -> Done {
        assert!(
            self.room.cost() <= self.room.most_cost(),
            "{}",
            self.room.cost()
        );
        let now = self.monotonic();
        let wake = self.room.wake_at();
        assert!(
            wake.is_none_or(|wake| wake > now) || self.room.is_over(),
            "it wants to be woken at {wake:?}, and it is {now:?}"
        );
        if let Some(tape) = &mut self.tape {
            use std::fmt::Write;
            writeln!(tape, "{outputs:?}").expect("a String takes everything");
        }
        let kept = |output: &Output| matches!(output, Output::Keep(_));
        assert!(
            outputs.iter().rev().is_sorted_by_key(kept),
            "somebody is told before it is kept: {outputs:?}"
        );
        let mut done = Done::default();
        for output in outputs {
            self.see(&mut done, output);
        }
        done
    }

    fn see(&mut self, done: &mut Done, output: Output) {
        match output {
            Output::Send { to, frame, .. } => {
                let envelope = Envelope::decode(frame).expect("a frame is an envelope");
                let payload = envelope.payload.expect("every frame has a payload");
                assert!(!to.is_empty(), "a frame for nobody: {}", envelope.event);
                for to in to {
                    assert!(
                        self.open.contains(&to),
                        "{} to the closed {to:?}",
                        envelope.event
                    );
                    done.frames.push(Received {
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
                    "{connection:?} was closed already"
                );
                done.closed.push((connection, closing));
            }
            Output::Keep(record) => {
                self.kept.apply(&record);
                // The end of a session, and messages of one moment, may come after the clock.
                if matches!(&record, Record::Session(_) | Record::Chat(_)) {
                    self.room_ms = self.room_ms.max(time_of(&record));
                }
                done.kept.push(record);
            }
            Output::Media(order) => {
                self.plane.take(&order);
                done.media.push(order);
            }
            Output::Answer(_, answer) => done.answers.push(answer),
            Output::Delegate(task) => done.delegated.push(*task),
            Output::TellConnected { .. } => done.told_connected += 1,
        }
    }

    pub(crate) fn connect(&mut self, who: &Newcomer) -> (ConnectionId, Done) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.open.insert(connection);
        let who = Box::new(who.clone());
        (connection, self.take(Input::Opened { connection, who }))
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, goodbye: bool) -> Done {
        self.take(Input::Closed {
            connection,
            goodbye,
        })
    }

    /// A request with an id.
    pub(crate) fn ask(&mut self, from: ConnectionId, event: u32, message: &impl Message) -> Asked {
        self.requests += 1;
        let id = format!("peer-{:x}", self.requests);
        let done = self.raw(from, event, Some(id.clone()), message);
        let mut replies = Vec::new();
        for frame in &done.frames {
            if frame.id.as_ref() == Some(&id) {
                assert_eq!(frame.to, from, "a reply to somebody else");
                replies.push(frame.clone());
            } else {
                assert!(frame.id.is_none(), "a push with an id: {frame:?}");
            }
        }
        assert!(replies.len() < 2, "two replies: {replies:?}");
        Asked { id, replies, done }
    }

    /// A request whose outputs are not done yet.
    pub(crate) fn untaken(
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
        self.handle_untaken(Input::Frame { connection, bytes })
    }

    pub(crate) fn raw(
        &mut self,
        connection: ConnectionId,
        event: u32,
        id: Option<String>,
        message: &impl Message,
    ) -> Done {
        let envelope = Envelope {
            event,
            id,
            payload: Some(message.encode_to_vec().into()),
            metadata: Some(Bytes::from_static(b"{}")),
        };
        let bytes = envelope.encode_to_vec().into();
        self.take(Input::Frame { connection, bytes })
    }

    pub(crate) fn command(&mut self, command: Command) -> (Answer, Done) {
        let ticket = Ticket(self.requests);
        let mut done = self.take(Input::Command { ticket, command });
        assert_eq!(done.answers.len(), 1);
        (done.answers.remove(0), done)
    }

    /// Time passes, in one jump.
    pub(crate) fn pass(&mut self, ms: i64) -> Done {
        self.now_ms += ms;
        self.monotonic_ms += ms;
        self.take(Input::Tick)
    }

    /// The time that limits and timers go by, as the room is told it.
    pub(crate) fn monotonic(&self) -> Monotonic {
        STARTED.after(self.monotonic_ms - self.started_ms)
    }

    /// This moment on both times.
    pub(crate) fn now(&self) -> Now {
        Now {
            room_ms: self.room_ms,
            monotonic_ms: self.monotonic_ms,
        }
    }

    /// In how long the room wants to be woken.
    pub(crate) fn wakes_in(&self) -> Option<i64> {
        let now = STARTED.after(self.monotonic_ms - self.started_ms);
        self.room.wake_at().map(|wake| wake.since(now))
    }

    /// The clock is set.
    pub(crate) fn step(&mut self, ms: i64) -> Done {
        self.now_ms += ms;
        self.take(Input::Tick)
    }
}

/// As the server draws them: the time, and a count.
fn draw(ms: i64, drawn: &mut u64) -> Uuid {
    *drawn += 1;
    Uuid::from_u128(u128::try_from(ms).expect("after 1970") << 80 | u128::from(*drawn))
}

/// The time in an entry, if it has one.
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
