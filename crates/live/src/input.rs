//! Inputs of a room.

use bytes::Bytes;
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::{Permissions, ViewType};

use crate::output::{EntryKind, OrderId, PeerRecord, Refusal, SessionRecord};
use crate::{ChatFull, ChatMessage};

/// A socket. Ids are never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Correlates an [`crate::Answer`] with its [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Settings of the meeting.
#[derive(Debug, Clone, PartialEq)]
pub struct Meeting {
    /// Id of the meeting.
    pub id: MeetingId,
    /// Title of the meeting.
    pub title: String,
    /// Whether participants may join.
    pub active: bool,
    /// Whether chat messages outlive their session.
    pub persist_chat: bool,
    /// How long a session stays live after its last peer has left, in milliseconds.
    pub keep_alive_ms: i64,
    /// The parent meeting, if this is a breakout room.
    pub parent: Option<MeetingId>,
    /// Whether the meeting has breakout rooms.
    pub has_rooms: bool,
    /// Version of these settings. Increases with every change.
    pub version: i64,
}

impl Meeting {
    /// Whether the meeting is a breakout room or has breakout rooms.
    pub(crate) fn in_breakout_family(&self) -> bool {
        self.parent.is_some() || self.has_rooms
    }

    /// The parent meeting of this breakout room, or the meeting itself.
    pub(crate) fn family(&self) -> MeetingId {
        self.parent.unwrap_or(self.id)
    }
}

/// A peer whose token was verified when its socket opened.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerProfile {
    /// Id of the peer.
    pub peer: PeerId,
    /// Id of the participant; `user_id` in the protocol.
    pub participant: ParticipantId,
    /// The app's own id of the participant.
    pub custom_id: String,
    /// Display name.
    pub name: Option<String>,
    /// URL of the participant's picture.
    pub picture: Option<String>,
    /// Id of the participant's preset.
    pub preset: PresetId,
    /// Name of the preset.
    pub preset_name: String,
    /// The preset's kind of call.
    pub view: ViewType,
    /// Permissions of the preset.
    pub permissions: Permissions,
    /// Expiry of the token, in Unix seconds.
    pub token_expires: i64,
}

/// A reference to a participant in the REST API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ParticipantRef {
    /// Participant id.
    Id(ParticipantId),
    /// The app's own id.
    CustomId(String),
}

/// A poll to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPoll {
    /// The question.
    pub question: String,
    /// The options to choose from.
    pub options: Vec<String>,
    /// Whether votes are anonymous.
    pub anonymous: bool,
    /// Whether results are hidden from participants who have not voted.
    pub hide_votes: bool,
}

/// A command from the server. [`crate::Output::Answer`] with the same ticket answers it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// List the peers that have joined.
    ListPeers,
    /// List all peers of these participants, including those in the waiting room.
    FindPeers(Vec<ParticipantRef>),
    /// Remove all peers of these participants. They may return.
    Kick(Vec<ParticipantRef>),
    /// Remove all peers of these participants. Participants that are not present are ignored.
    KickIfPresent(Vec<ParticipantId>),
    /// Remove all peers, including those in the waiting room, and end the session.
    KickAll,
    /// Mute the microphones of these participants.
    Mute(Vec<ParticipantRef>),
    /// Mute all microphones.
    MuteAll {
        /// Whether participants may unmute themselves. Otherwise they stay muted for the rest of
        /// the session.
        allow_unmute: bool,
    },
    /// Create a poll.
    Poll(NewPoll),
    /// A participant was deleted and cannot join again. Peers that have joined stay until they
    /// leave, unless `drop` is set.
    ParticipantDeleted {
        /// Id of the participant.
        participant: ParticipantId,
        /// Whether to remove their peers as well.
        drop: bool,
    },
    /// The meeting's settings were updated. Ignored if older than the room's settings.
    MeetingUpdated(Meeting),
    /// The meeting was deleted: remove all peers, including those that have not joined, end the
    /// session and reject new peers.
    MeetingDeleted,
    /// Send a push to all joined peers (recordings, livestreams, captions, messages of other
    /// rooms).
    Push {
        /// Event number.
        event: u32,
        /// Encoded message.
        payload: Bytes,
    },
    /// Move participants to another meeting.
    Transfer {
        /// Target meeting.
        meeting: MeetingId,
        /// The participants, each with a join token for the target meeting.
        participants: Vec<(ParticipantId, String)>,
    },
    /// Whether new messages are currently rejected for reasons outside this meeting's chat.
    ChatFull(Option<ChatFull>),
    /// The server is shutting down: no peer leaves, and sockets are closed so that clients
    /// reconnect.
    Suspend,
}

/// A decoded frame from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Event number.
    pub event: u32,
    /// Correlation id that the reply must carry.
    pub id: Option<String>,
    /// Encoded message.
    pub payload: Bytes,
}

/// The media plane's answer to a successful order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaAnswer {
    /// Answer to [`crate::MediaOrder::Open`].
    Opened {
        /// Id of the transport.
        transport: String,
        /// The SDP answer.
        answer: String,
    },
    /// Answer to [`crate::MediaOrder::Produce`]: the SDP answer.
    Produced(String),
    /// Answer to [`crate::MediaOrder::CloseProducer`]: the SDP answer.
    ProducerClosed(String),
    /// Answer to [`crate::MediaOrder::Consume`].
    Consumed {
        /// The mid of each requested track, in order; `None` if the track no longer exists.
        mids: Vec<Option<String>>,
        /// The SDP offer, if negotiation is needed.
        offer: Option<String>,
    },
    /// Answer to [`crate::MediaOrder::ApplyAnswer`].
    AnswerApplied,
    /// Answer to [`crate::MediaOrder::CloseConsumers`]: the SDP answer.
    ConsumersClosed(String),
}

/// An input of a room.
#[derive(Debug)]
pub enum Input {
    /// A socket opened. If the peer is already known, it reconnects and its older socket is closed.
    Opened {
        /// The socket.
        connection: ConnectionId,
        /// The profile of its peer.
        profile: Box<PeerProfile>,
    },
    /// A binary frame arrived.
    Frame {
        /// The socket it arrived on.
        connection: ConnectionId,
        /// The frame.
        bytes: Bytes,
    },
    /// A socket closed.
    Closed {
        /// The socket.
        connection: ConnectionId,
        /// Whether the client closed it with code 1000 or 1001, which means that the peer leaves.
        /// Otherwise it may reconnect within the grace period.
        leaving: bool,
    },
    /// A command from the server.
    Command {
        /// Correlates the answer.
        ticket: Ticket,
        /// The command.
        command: Command,
    },
    /// The media plane has answered an order.
    Media {
        /// Id of the order.
        order: OrderId,
        /// The answer, or why the order failed.
        outcome: Result<MediaAnswer, Refusal>,
    },
    /// The media plane has closed an idle transport, together with its tracks.
    TransportFreed {
        /// Peer that owned the transport.
        peer: PeerId,
        /// Whether the client published on it; otherwise it received.
        publishes: bool,
        /// Id of the transport. The peer may have a newer one.
        transport: String,
    },
    /// The active speakers have changed: most recent speaker first.
    ActiveSpeakers(Vec<PeerId>),
    /// Time has passed.
    Tick,
}

/// The persisted state of a meeting from which its room is restored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PersistedState {
    /// A session that has not ended, because the server stopped or crashed.
    pub session: Option<SessionRecord>,
    /// Peers of that session, including those that have left.
    pub peers: Vec<PeerRecord>,
    /// Other entries of that session.
    pub entries: Vec<(EntryKind, String, Vec<u8>)>,
    /// Messages, oldest first: those of that session, or all if chat persists.
    pub chat: Vec<ChatMessage>,
    /// Size of all messages of the meeting, in bytes, as counted by [`ChatMessage::stored_bytes`].
    pub chat_bytes: u64,
    /// Initial state of [`Command::ChatFull`].
    pub chat_full: Option<ChatFull>,
    /// When the previous server was last known to run, in Unix milliseconds.
    pub last_alive_ms: i64,
    /// Latest time recorded by the meeting's earlier sessions, in Unix milliseconds; 0 if there are
    /// none.
    pub earlier_ms: i64,
}

impl PersistedState {
    /// Id of the session that continues, if any.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// Latest time in the records. [`PersistedState::last_alive_ms`] does not count.
    pub(crate) fn latest_ms(&self) -> i64 {
        let session = self.session.iter().map(|session| session.started_ms);
        let of_peer = |peer: &PeerRecord| peer.left_ms.unwrap_or(peer.entered_ms);
        let peers = self.peers.iter().map(of_peer);
        let chat = self.chat.iter().map(|message| message.at_ms);
        let all = session.chain(peers).chain(chat);
        all.max().unwrap_or_default().max(self.earlier_ms)
    }
}
