//! What a room wants done.

use bytes::Bytes;
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId, ProducerId, SessionId};
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

impl Output {
    /// What it costs to make it and to hand it out.
    pub(crate) fn steps(&self) -> usize {
        match self {
            Self::Send { to, frame, .. } => 1 + to.len() + frame.len() / STEP_BYTES,
            Self::Keep(Record::Chat(message)) => 1 + message.payload.len() / STEP_BYTES,
            Self::Keep(Record::Entry { key, value, .. }) => {
                let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
                1 + bytes / STEP_BYTES
            }
            Self::Delegate(task) => 1 + task.request.payload.len() / STEP_BYTES,
            _ => 1,
        }
    }
}

/// So many bytes that are copied are a step.
pub(crate) const STEP_BYTES: usize = 256;

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
        value: Option<Bytes>,
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

/// Ties what the media plane answers to the order that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// Where a track comes from. A peer publishes one of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Its microphone.
    Microphone,
    /// Its camera.
    Camera,
    /// The picture of its screen.
    Screen,
    /// The sound that goes with its screen.
    ScreenAudio,
}

impl Source {
    /// Whether it belongs to a shared screen.
    pub fn is_screen(self) -> bool {
        matches!(self, Self::Screen | Self::ScreenAudio)
    }

    /// Whether it is heard; otherwise it is seen.
    pub fn is_audio(self) -> bool {
        matches!(self, Self::Microphone | Self::ScreenAudio)
    }
}

/// A track that somebody wants to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The track.
    pub producer: ProducerId,
    /// Who publishes it.
    pub publisher: PeerId,
    /// The rid of the layer that the client would like, of a camera that sends several.
    pub preferred_rid: Option<String>,
}

/// An order to the media plane. Orders are begun in the order in which they come; those with an
/// [`OrderId`] are answered with [`crate::Input::Media`], each once and in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOrder {
    /// Make a transport, in place of the peer's older one of that direction, which ends with its
    /// tracks.
    Open {
        /// To answer with.
        order: OrderId,
        /// Whose.
        peer: PeerId,
        /// Whose share it takes from.
        person: ParticipantId,
        /// Whether the peer has ever been let into the meeting.
        admitted: bool,
        /// The client publishes on it; otherwise it receives.
        publishes: bool,
        /// The SDP offer.
        offer: String,
    },
    /// The peer was let into the meeting. It may have transports since before.
    Admit {
        /// The peer that was let in.
        peer: PeerId,
    },
    /// Take a track from a client.
    Produce {
        /// To answer with.
        order: OrderId,
        /// Whose.
        peer: PeerId,
        /// The id of the transport.
        transport: String,
        /// What the track is called from now on.
        producer: ProducerId,
        /// Its line in the offer.
        mid: String,
        /// Where it comes from.
        source: Source,
        /// Nothing of it is forwarded for now.
        paused: bool,
        /// The SDP offer.
        offer: String,
    },
    /// End a track. It may be gone already; an offer is to be answered all the same.
    CloseProducer {
        /// To answer with, if there is an offer.
        order: Option<OrderId>,
        /// Whose.
        peer: PeerId,
        /// The track.
        producer: ProducerId,
        /// The SDP offer in which the client says the same.
        offer: Option<String>,
    },
    /// Forward nothing of a track for now, or go on with it.
    Pause {
        /// Whose.
        peer: PeerId,
        /// The track.
        producer: ProducerId,
        /// Whether nothing is forwarded.
        paused: bool,
    },
    /// Offer tracks of others to a client.
    Consume {
        /// To answer with.
        order: OrderId,
        /// Who receives.
        peer: PeerId,
        /// The id of the transport.
        transport: String,
        /// The tracks.
        wanted: Vec<Wanted>,
    },
    /// The client has answered the last offer of a [`MediaOrder::Consume`].
    Answered {
        /// To answer with.
        order: OrderId,
        /// Who receives.
        peer: PeerId,
        /// The id of the transport.
        transport: String,
        /// The SDP answer.
        answer: String,
    },
    /// End what a client receives on these lines.
    CloseConsumers {
        /// To answer with.
        order: OrderId,
        /// Who receives.
        peer: PeerId,
        /// The id of the transport.
        transport: String,
        /// The lines.
        mids: Vec<String>,
        /// The SDP offer in which the client says the same.
        offer: String,
    },
    /// The layers that a client would like: pairs of line and rid.
    Prefer {
        /// Who receives.
        peer: PeerId,
        /// The pairs.
        wishes: Vec<(String, String)>,
    },
    /// A client may not receive these tracks any more: nothing of them is sent to it from now on.
    Revoke {
        /// Who received.
        peer: PeerId,
        /// The tracks.
        producers: Vec<ProducerId>,
    },
    /// Whose picture comes before those of others where not all of them fit.
    Pin {
        /// Whose; nobody's.
        peer: Option<PeerId>,
    },
    /// The peer is gone: free everything of it.
    Close {
        /// Whose.
        peer: PeerId,
        /// Its client does not know, and believes in what it has until it sees that it is no more.
        away: bool,
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
    /// When the token expires that its socket was opened with, Unix seconds; nothing while it has no
    /// socket.
    pub token_expires: Option<i64>,
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
    /// Who is inside, or which of those who were asked for are here, and the session.
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
    /// Like an HTTP status: 400, 403, 404, 409, 413, 429, 501, 507; of the media plane also 410 for a
    /// transport that is gone, 422 for a description that cannot be used, 503.
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
