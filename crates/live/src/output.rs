//! What a room wants done.

use bytes::Bytes;
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::socket::polls::Poll;

use crate::ChatMessage;
use crate::input::{ConnectionId, Request, Ticket};

/// One thing to do. Outputs are done in order; what follows a [`Output::Keep`] waits for it. Of each
/// input, what is to be kept comes first.
#[derive(Debug)]
pub enum Output {
    /// Send a binary frame to these sockets.
    Send {
        /// To whom.
        to: Vec<ConnectionId>,
        /// What.
        frame: Bytes,
        /// How soon.
        pace: Pace,
    },
    /// Close a socket, after what was sent to it.
    Close {
        /// Which.
        connection: ConnectionId,
        /// How.
        closing: Closing,
    },
    /// Keep a record.
    Keep(Record),
    /// Tell the media plane.
    Media(MediaOrder),
    /// Answer a command.
    Answer(Ticket, Answer),
    /// Do what needs the records or other rooms, and answer the peer.
    Delegate(Box<Delegated>),
    /// Somebody has come or gone: tell everybody in this meeting and its breakout rooms, of which
    /// this room is one.
    TellConnected {
        /// The meeting that the breakout rooms belong to.
        parent: MeetingId,
    },
}

/// How soon a frame must be on its way. Frames to one socket keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Now,
    /// It may wait some milliseconds for others to be sent with it: what many people are told of
    /// each who comes and goes.
    Soon,
}

/// Why a socket is closed, as a WebSocket close code and reason (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// 1000: the client does not come back.
    Final(&'static str),
    /// 1012: the client reconnects.
    Again(&'static str),
}

impl Closing {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Final(_) => 1000,
            Self::Again(_) => 1012,
        }
    }

    /// The reason, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Final(reason) | Self::Again(reason) => reason,
        }
    }
}

/// Something to keep. Every record is whole and has a key, so that keeping it twice is keeping it once.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The session as it is now. Of several in a row only the last matters.
    Session(SessionRecord),
    /// A peer as it is now.
    Peer(PeerRecord),
    /// A message as it is now.
    Chat(ChatMessage),
    /// A message is gone.
    ChatDeleted(uuid::Uuid),
    /// Something else that must survive a crash, until the session ends. `None` removes it.
    Entry {
        /// The session.
        session: SessionId,
        /// What it is.
        kind: EntryKind,
        /// Which of its kind.
        key: String,
        /// Its content.
        value: Option<Vec<u8>>,
    },
}

/// A session: one live run of the meeting.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// What the meeting was called.
    pub title: String,
    /// The first join, Unix milliseconds.
    pub started_ms: i64,
    /// The end. While it is absent the session is live.
    pub ended_ms: Option<i64>,
    /// Peers inside now.
    pub live: i64,
    /// The most there were at once.
    pub peak: i64,
    /// Peers there ever were.
    pub total: i64,
    /// Sum over its peers of the time inside, milliseconds, of those stays that have ended.
    pub consumed_ms: i64,
}

/// A peer of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRecord {
    /// The session.
    pub session: SessionId,
    /// The client.
    pub peer: PeerId,
    /// The person.
    pub participant: ParticipantId,
    /// The app's own id of the person.
    pub custom_id: String,
    /// The name that was shown.
    pub name: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
    /// The preset.
    pub preset: PresetId,
    /// Its name.
    pub preset_name: String,
    /// What kind of call they saw.
    pub view: ViewType,
    /// When the socket first opened, Unix milliseconds.
    pub created_ms: i64,
    /// When it first joined.
    pub joined_ms: i64,
    /// When it came in for the last time: differs from `joined_ms` for those who left and came back.
    pub entered_ms: i64,
    /// When it left. While it is absent the peer is inside.
    pub left_ms: Option<i64>,
    /// The time inside of those stays that have ended, milliseconds.
    pub consumed_ms: i64,
}

/// What an [`Record::Entry`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A poll: protobuf `socket.polls.Poll`. The key is its id.
    Poll,
    /// A key of a store: protobuf `socket.plugin.PluginStoreItem`. The key is `plugin id`, U+001F, `store name`, U+001F, `key`.
    Store,
    /// Somebody was let in from the waiting room. The key is the participant's id.
    Admitted,
    /// Where a peer stands with the stage: one byte, `StageType`. The key is the peer's id.
    Stage,
    /// What was changed about somebody's permissions: protobuf `PresetUpdates`, merged. The key is the participant's id.
    Permissions,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Poll,
        Self::Store,
        Self::Admitted,
        Self::Stage,
        Self::Permissions,
    ];

    /// The word in the records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Store => "store",
            Self::Admitted => "admitted",
            Self::Stage => "stage",
            Self::Permissions => "permissions",
        }
    }

    /// The kind of a word in the records.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// An order to the media plane.
#[derive(Debug)]
pub enum MediaOrder {
    /// Make a transport, in place of the peer's older one of that direction; answer with [`crate::Input::Transport`].
    Open {
        /// Whose.
        peer: PeerId,
        /// The socket that asked.
        connection: ConnectionId,
        /// The request to answer.
        request: Request,
        /// The client publishes on it; otherwise it receives.
        publishes: bool,
        /// The SDP offer.
        offer: String,
    },
    /// The peer is gone: free everything of it.
    Close {
        /// Whose.
        peer: PeerId,
    },
}

/// Something a peer asked for, was found to be allowed to, and that only the server can do.
#[derive(Debug)]
pub struct Delegated {
    /// Who asked.
    pub peer: PeerId,
    /// The person.
    pub participant: ParticipantId,
    /// The socket to answer on.
    pub connection: ConnectionId,
    /// What was asked: one of the events of breakout rooms, a broadcast to other rooms, or to empty
    /// them all, which is not answered.
    pub request: Request,
}

/// Somebody inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The client.
    pub peer: PeerId,
    /// The person.
    pub participant: ParticipantId,
    /// The app's own id of the person.
    pub custom_id: String,
    /// The name shown.
    pub name: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
    /// The preset.
    pub preset: PresetId,
    /// Everybody may be told of them: they are neither hidden nor the audience of a livestream.
    pub shown: bool,
}

/// What came of a [`crate::Command`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Done.
    Done,
    /// No session is live.
    NoSession,
    /// Nobody like that is inside. The name of the first that was not found.
    Nobody(String),
    /// These people, each once.
    People(Vec<ParticipantId>),
    /// So many peers.
    Count(usize),
    /// Who is inside, and the session.
    Who(Option<SessionRecord>, Vec<Present>),
    /// The poll that was made.
    Poll(Box<Poll>),
    /// It cannot be done, and why.
    Refused(Refusal),
}

/// Why a request is refused. The peer learns the message; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Like an HTTP status: 400, 403, 404, 409, 413, 429, 501.
    pub code: i32,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// 403: the permission that is missing.
    pub fn forbidden(permission: &str) -> Self {
        Self::new(403, format!("this needs the permission {permission}"))
    }
}
