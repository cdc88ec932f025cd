//! Outputs of a room.

use bytes::Bytes;
use parlor_protocol::Source;
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId, ProducerId, SessionId};
use parlor_protocol::preset::ViewType;
use parlor_protocol::signal::socket::polls::Poll;

use crate::ChatMessage;
use crate::input::{ConnectionId, Request, Ticket};

/// An output of a room. Outputs are processed in order; those that follow an [`Output::Persist`]
/// wait for it. Among the outputs of one input, the records come first.
#[derive(Debug)]
pub enum Output {
    /// Send a binary frame.
    Send {
        /// Receiving sockets.
        to: Vec<ConnectionId>,
        /// The frame.
        frame: Bytes,
        /// How soon to send it.
        pace: Pace,
    },
    /// Close a socket after its pending frames were sent.
    Close {
        /// The socket.
        connection: ConnectionId,
        /// Close code and reason.
        closing: CloseReason,
    },
    /// Persist a record.
    Persist(Record),
    /// Send an order to the media plane.
    Media(MediaOrder),
    /// Answer a command.
    Answer(Ticket, Answer),
    /// Perform a request that needs the database or other rooms, and reply to the peer.
    Delegate(Box<DelegatedRequest>),
    /// A participant has entered or left: notify all peers of the parent meeting and its breakout
    /// rooms.
    NotifyBreakoutRooms {
        /// The parent meeting.
        parent: MeetingId,
    },
}

impl Output {
    /// Cost of creating and delivering the output, in cost units.
    pub(crate) fn cost_units(&self) -> usize {
        match self {
            Self::Send { to, frame, .. } => 1 + to.len() + frame.len() / BYTES_PER_COST_UNIT,
            Self::Persist(Record::Chat(message)) => 1 + message.payload.len() / BYTES_PER_COST_UNIT,
            Self::Persist(Record::Entry { key, value, .. }) => {
                let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
                1 + bytes / BYTES_PER_COST_UNIT
            }
            Self::Delegate(task) => 1 + task.request.payload.len() / BYTES_PER_COST_UNIT,
            _ => 1,
        }
    }
}

/// Number of copied bytes that cost one unit.
pub(crate) const BYTES_PER_COST_UNIT: usize = 256;

/// How soon a frame is sent. Frames on one socket stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Immediately.
    Now,
    /// It may be delayed by some milliseconds to be batched with others, for example pushes about
    /// peers that join and leave.
    Soon,
}

/// WebSocket close code and reason (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// 1000: the client does not reconnect.
    Final(&'static str),
    /// 1012: the client reconnects.
    Reconnect(&'static str),
}

impl CloseReason {
    /// Close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Final(_) => 1000,
            Self::Reconnect(_) => 1012,
        }
    }

    /// Human-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Final(reason) | Self::Reconnect(reason) => reason,
        }
    }
}

/// A record to persist. Each record is complete and has a key, so writing it twice is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Current state of the session. Only the last of several in a row matters.
    Session(SessionRecord),
    /// Current state of a peer.
    Peer(PeerRecord),
    /// Current state of a message.
    Chat(ChatMessage),
    /// A message was deleted.
    ChatDeleted(uuid::Uuid),
    /// Other state that must survive a crash until the session ends. `None` removes it.
    Entry {
        /// The session.
        session: SessionId,
        /// Kind of entry.
        kind: EntryKind,
        /// Key within its kind.
        key: String,
        /// Encoded value.
        value: Option<Bytes>,
    },
}

/// A session: one live run of the meeting.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// Id of the session.
    pub id: SessionId,
    /// Title of the meeting at the start.
    pub title: String,
    /// Time of the first join, in Unix milliseconds.
    pub started_ms: i64,
    /// End, in Unix milliseconds. `None` while the session is live.
    pub ended_ms: Option<i64>,
    /// Current number of joined peers.
    pub live: i64,
    /// Maximum number of peers that were joined at the same time.
    pub peak: i64,
    /// Total number of peers that have joined.
    pub total: i64,
    /// Total time of completed stays of all peers, in milliseconds.
    pub consumed_ms: i64,
}

/// A peer of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRecord {
    /// The session.
    pub session: SessionId,
    /// Id of the peer.
    pub peer: PeerId,
    /// Id of the participant.
    pub participant: ParticipantId,
    /// The app's own id of the participant.
    pub custom_id: String,
    /// Display name.
    pub name: Option<String>,
    /// URL of the participant's picture.
    pub picture: Option<String>,
    /// Id of the preset.
    pub preset: PresetId,
    /// Name of the preset.
    pub preset_name: String,
    /// The preset's kind of call.
    pub view: ViewType,
    /// When the first socket opened, in Unix milliseconds.
    pub created_ms: i64,
    /// When the peer first joined, in Unix milliseconds.
    pub joined_ms: i64,
    /// When the peer last entered, in Unix milliseconds. Differs from `joined_ms` if it left and
    /// returned.
    pub entered_ms: i64,
    /// When the peer left, in Unix milliseconds. `None` while it is joined.
    pub left_ms: Option<i64>,
    /// Total time of completed stays, in milliseconds.
    pub consumed_ms: i64,
}

/// The kind of a [`Record::Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A poll: protobuf `socket.polls.Poll`. The key is its id.
    Poll,
    /// A key of a store: protobuf `socket.plugin.PluginStoreItem`. The key is `plugin id`, U+001F,
    /// `store name`, U+001F, `key`.
    Store,
    /// A participant was admitted from the waiting room. The key is the participant's id.
    Admitted,
    /// A peer's stage status: one byte, `StageType`. The key is the peer's id.
    Stage,
    /// Changes to a participant's permissions: protobuf `PresetUpdates`, merged. The key is the
    /// participant's id.
    Permissions,
}

impl EntryKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Poll,
        Self::Store,
        Self::Admitted,
        Self::Stage,
        Self::Permissions,
    ];

    /// Name of the kind in the records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Store => "store",
            Self::Admitted => "admitted",
            Self::Stage => "stage",
            Self::Permissions => "permissions",
        }
    }

    /// Parses the name of a kind.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Correlates an answer of the media plane with its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// A track that a peer subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The track.
    pub producer: ProducerId,
    /// Peer that publishes it.
    pub publisher: PeerId,
    /// The rid of the preferred simulcast layer.
    pub preferred_rid: Option<String>,
}

/// An order to the media plane. Orders start in sequence. Each order with an [`OrderId`] is
/// answered exactly once with [`crate::Input::Media`]; the answers may arrive out of sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOrder {
    /// Open a transport. It replaces the peer's previous transport of the same direction, which is
    /// closed with its tracks.
    Open {
        /// Correlates the answer.
        order: OrderId,
        /// Peer that owns the transport.
        peer: PeerId,
        /// Participant whose quota the transport counts against.
        participant: ParticipantId,
        /// Whether the peer has ever been admitted to the meeting.
        admitted: bool,
        /// Whether the client publishes on it; otherwise it receives.
        publishes: bool,
        /// The SDP offer.
        offer: String,
    },
    /// The peer was admitted to the meeting. It may already have transports.
    Admit {
        /// The peer.
        peer: PeerId,
    },
    /// Publish a track.
    Produce {
        /// Correlates the answer.
        order: OrderId,
        /// The publisher.
        peer: PeerId,
        /// Id of the transport.
        transport: String,
        /// Id of the new producer.
        producer: ProducerId,
        /// The mid of its media section in the offer.
        mid: String,
        /// Source of the track.
        source: Source,
        /// Whether the track starts paused.
        paused: bool,
        /// The SDP offer.
        offer: String,
    },
    /// Close a track. It may no longer exist; an offer must be answered all the same.
    CloseProducer {
        /// Correlates the answer if there is an offer.
        order: Option<OrderId>,
        /// The publisher.
        peer: PeerId,
        /// The track.
        producer: ProducerId,
        /// The client's SDP offer without the track.
        offer: Option<String>,
    },
    /// Pause or resume forwarding of a track.
    Pause {
        /// The publisher.
        peer: PeerId,
        /// The track.
        producer: ProducerId,
        /// Whether forwarding is paused.
        paused: bool,
    },
    /// Subscribe a client to tracks.
    Consume {
        /// Correlates the answer.
        order: OrderId,
        /// The subscriber.
        peer: PeerId,
        /// Id of the transport.
        transport: String,
        /// The tracks.
        wanted: Vec<Subscription>,
    },
    /// Apply the client's answer to the last offer of a [`MediaOrder::Consume`].
    ApplyAnswer {
        /// Correlates the answer.
        order: OrderId,
        /// The subscriber.
        peer: PeerId,
        /// Id of the transport.
        transport: String,
        /// The SDP answer.
        answer: String,
    },
    /// Close the consumers on these media sections.
    CloseConsumers {
        /// Correlates the answer.
        order: OrderId,
        /// The subscriber.
        peer: PeerId,
        /// Id of the transport.
        transport: String,
        /// Mids of the media sections.
        mids: Vec<String>,
        /// The client's SDP offer without them.
        offer: String,
    },
    /// Set the preferred simulcast layers of a subscriber.
    PreferLayers {
        /// The subscriber.
        peer: PeerId,
        /// Pairs of mid and rid.
        layers: Vec<(String, String)>,
    },
    /// Stop forwarding these tracks to a subscriber that may no longer receive them.
    Revoke {
        /// The subscriber.
        peer: PeerId,
        /// The tracks.
        producers: Vec<ProducerId>,
    },
    /// Give one peer's video priority when bandwidth is short.
    Pin {
        /// The pinned peer; `None` unpins.
        peer: Option<PeerId>,
    },
    /// The peer has left: close all of its transports.
    Close {
        /// The peer.
        peer: PeerId,
        /// Whether the client has lost its connection and does not know that the peer has left. It
        /// uses its transports until it detects that they are closed.
        client_offline: bool,
    },
}

/// An authorized request that only the server can perform.
#[derive(Debug)]
pub struct DelegatedRequest {
    /// The requesting peer.
    pub peer: PeerId,
    /// The participant of this peer.
    pub participant: ParticipantId,
    /// Socket for the reply.
    pub connection: ConnectionId,
    /// The request: a breakout-room event, a broadcast to other rooms, or the removal of all peers
    /// across rooms, which gets no reply.
    pub request: Request,
}

/// A peer in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Id of the peer.
    pub peer: PeerId,
    /// Id of the participant.
    pub participant: ParticipantId,
    /// The app's own id of the participant.
    pub custom_id: String,
    /// Display name.
    pub name: Option<String>,
    /// URL of the participant's picture.
    pub picture: Option<String>,
    /// Id of the preset.
    pub preset: PresetId,
    /// Whether the peer is visible to all: neither hidden nor in the audience of a livestream.
    pub shown: bool,
    /// Expiry of the token that opened its socket, in Unix seconds; `None` while it has no socket.
    pub token_expires: Option<i64>,
}

/// Result of a [`crate::Command`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The command was carried out.
    Done,
    /// No session is live.
    NoSession,
    /// A participant was not found. Holds the first missing id.
    NotFound(String),
    /// The affected participants, each once.
    Participants(Vec<ParticipantId>),
    /// Number of affected peers.
    Count(usize),
    /// The live session and its joined peers, or the peers of the requested participants.
    Peers(Option<SessionRecord>, Vec<PeerSnapshot>),
    /// The poll that was created.
    Poll(Box<Poll>),
    /// The command failed.
    Refused(Refusal),
}

/// Why a request was rejected. The client receives the message; no state has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Status like in HTTP: 400, 403, 404, 409, 413, 429, 501, 507. The media plane also uses 410
    /// for a transport that no longer exists, 422 for an unusable session description, and 503.
    pub code: i32,
    /// Human-readable message.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// 403: a permission is missing.
    pub fn forbidden(permission: &str) -> Self {
        Self::new(403, format!("this requires the permission {permission}"))
    }
}
