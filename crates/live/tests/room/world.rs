//! A room in virtual time, and what it keeps. Rules that hold after every input are checked here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_live::{
    Answer, At, ChatMessage, Closing, Command, ConnectionId, Delegated, EntryKind, Input, Limits,
    MediaOrder, Meeting, Newcomer, Output, Past, PeerRecord, Record, Room, SessionRecord, Ticket,
};
use parlor_protocol::ids::{PeerId, SessionId};
use parlor_protocol::signal::media::edge::ErrorResponse;
use parlor_protocol::signal::socket::api::ErrorMessage;
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
    fn apply(&mut self, record: &Record) {
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
                    Some(value) => self.entries.insert(place, value.clone()),
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
            peers: peers.cloned().collect(),
            entries: (self.entries.iter())
                .filter(|((of, _, _), _)| here(of))
                .map(|((_, kind, key), value)| (*kind, key.clone(), value.clone()))
                .collect(),
            chat,
            last_alive_ms,
            session,
        }
    }
}

/// A room, the time, and every socket.
pub(crate) struct World {
    pub(crate) room: Room,
    pub(crate) meeting: Meeting,
    pub(crate) limits: Limits,
    pub(crate) plane: Plane,
    pub(crate) now_ms: i64,
    pub(crate) kept: Kept,
    pub(crate) open: BTreeSet<ConnectionId>,
    /// Everything that came out, when it is wanted.
    pub(crate) tape: Option<String>,
    drawn: u128,
    connections: u64,
    requests: u64,
}

pub(crate) const START_MS: i64 = 1_800_000_000_000;

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
        let mut drawn = 1 << 64;
        let mut at = At {
            now_ms: START_MS,
            ids: &mut || draw(&mut drawn),
        };
        let room = Room::open(meeting.clone(), limits.clone(), Past::default(), &mut at);
        Self {
            room,
            meeting,
            limits,
            plane: Plane::default(),
            now_ms: START_MS,
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
        let past = self.kept.past(self.meeting.persist_chat, last_alive_ms);
        let drawn = &mut self.drawn;
        let mut at = At {
            now_ms: self.now_ms,
            ids: &mut || draw(drawn),
        };
        self.room = Room::open(self.meeting.clone(), self.limits.clone(), past, &mut at);
        self.open.clear();
        self.plane = Plane::default();
    }

    /// One input, at this time.
    pub(crate) fn take(&mut self, input: Input) -> Done {
        let mut outputs = Vec::new();
        let drawn = &mut self.drawn;
        let mut at = At {
            now_ms: self.now_ms,
            ids: &mut || draw(drawn),
        };
        if let Input::Closed { connection, .. } = &input {
            self.open.remove(connection);
        }
        self.room.handle(&mut at, input, &mut outputs);
        let wake = self.room.wake_at();
        assert!(
            wake.is_none_or(|wake| wake > self.now_ms) || self.room.is_over(),
            "it wants to be woken at {wake:?}, and it is {}",
            self.now_ms
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
        self.take(Input::Tick)
    }
}

fn draw(drawn: &mut u128) -> Uuid {
    *drawn += 1;
    Uuid::from_u128(*drawn)
}
