//! What a room is told.

use bytes::Bytes;
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId, SessionId};
use parlor_protocol::preset::{Permissions, ViewType};

use crate::output::{EntryKind, OrderId, PeerRecord, Refusal, SessionRecord};
use crate::{ChatFull, ChatMessage};

/// One socket. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Ties an [`crate::Answer`] to the [`Command`] it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the records say about the meeting.
#[derive(Debug, Clone, PartialEq)]
pub struct Meeting {
    /// Its id.
    pub id: MeetingId,
    /// What people call it.
    pub title: String,
    /// New people may join.
    pub active: bool,
    /// Messages outlive their session.
    pub persist_chat: bool,
    /// How long a session outlives its last peer, in milliseconds.
    pub keep_alive_ms: i64,
    /// The meeting this is a breakout room of.
    pub parent: Option<MeetingId>,
    /// It has breakout rooms.
    pub has_rooms: bool,
    /// Grows with every change of it, so that of two the later one is known.
    pub version: i64,
}

impl Meeting {
    /// Others are told who is in it: it is a breakout room, or has some.
    pub(crate) fn is_connected(&self) -> bool {
        self.parent.is_some() || self.has_rooms
    }

    /// The meeting that its breakout rooms, and those it is one of, belong to.
    pub(crate) fn family(&self) -> MeetingId {
        self.parent.unwrap_or(self.id)
    }
}

/// Somebody whose token was checked, at the moment their socket opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Newcomer {
    /// The client.
    pub peer: PeerId,
    /// The person: what the protocol calls `user_id`.
    pub participant: ParticipantId,
    /// The app's own id of this person.
    pub custom_id: String,
    /// Shown to others.
    pub name: Option<String>,
    /// URL of a picture.
    pub picture: Option<String>,
    /// The preset they were added with.
    pub preset: PresetId,
    /// Its name.
    pub preset_name: String,
    /// What kind of call they see.
    pub view: ViewType,
    /// What the preset lets them do.
    pub permissions: Permissions,
    /// When the token they came with expires, Unix seconds.
    pub token_expires: i64,
}

/// A person, as the REST API names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Person {
    /// By participant id.
    Id(ParticipantId),
    /// By the app's own id.
    CustomId(String),
}

/// A question to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPoll {
    /// The question.
    pub question: String,
    /// The answers to choose from.
    pub options: Vec<String>,
    /// Nobody learns who voted for what.
    pub anonymous: bool,
    /// Results are not shown before one has voted.
    pub hide_votes: bool,
}

/// What the server itself asks of a room. Answered by [`crate::Output::Answer`] with the same ticket.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Who is there.
    Who,
    /// Which of these people are there, those who wait included: every peer of theirs.
    Present(Vec<Person>),
    /// Remove every peer of these people. They may come back.
    Kick(Vec<Person>),
    /// Remove every peer of those of these people who are there.
    KickPresent(Vec<ParticipantId>),
    /// Remove everybody and end the session. Peers that only wait go too.
    KickAll,
    /// Take the microphone from these people.
    Mute(Vec<Person>),
    /// Take the microphone from everybody; when they may not unmute, for the rest of the session.
    MuteAll {
        /// Whether they may turn it on again.
        allow_unmute: bool,
    },
    /// Ask everybody.
    Poll(NewPoll),
    /// A participant was deleted. Whoever of them is inside stays until they leave, or is thrown out
    /// when `drop` says so; nobody of them joins again.
    Removed {
        /// Who.
        participant: ParticipantId,
        /// Whether they are thrown out as well.
        drop: bool,
    },
    /// The meeting was changed. What is older than what the room knows is ignored.
    Changed(Meeting),
    /// The meeting was deleted: remove everybody, those who have not joined as well, end the session
    /// and take nobody in any more.
    Gone,
    /// Send a push to everybody inside (recordings, livestreams, captions, other rooms' messages).
    Push {
        /// The event.
        event: u32,
        /// Its message, encoded.
        payload: Bytes,
    },
    /// Send people to another meeting.
    Transfer {
        /// Where to.
        meeting: MeetingId,
        /// Who, and what each of them joins it with.
        people: Vec<(ParticipantId, String)>,
    },
    /// Whether messages are refused for now, because of what is stored besides this meeting's chat.
    ChatFull(Option<ChatFull>),
    /// The server stops: nobody leaves, sockets are closed so that clients come back.
    Suspend,
}

/// A frame from a peer, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The event number.
    pub event: u32,
    /// What a reply must carry.
    pub id: Option<String>,
    /// The message, encoded.
    pub payload: Bytes,
}

/// What the media plane answers to an order that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaAnswer {
    /// To [`crate::MediaOrder::Open`].
    Opened {
        /// The id of the transport.
        transport: String,
        /// The SDP answer.
        answer: String,
    },
    /// To [`crate::MediaOrder::Produce`]: the SDP answer.
    Produced(String),
    /// To [`crate::MediaOrder::CloseProducer`]: the SDP answer.
    ProducerClosed(String),
    /// To [`crate::MediaOrder::Consume`].
    Consumed {
        /// The line of each that was wanted, in that order; nothing where the track is gone.
        mids: Vec<Option<String>>,
        /// The SDP offer, if there is anything to agree on.
        offer: Option<String>,
    },
    /// To [`crate::MediaOrder::Answered`].
    Agreed,
    /// To [`crate::MediaOrder::CloseConsumers`]: the SDP answer.
    ConsumersClosed(String),
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A socket opened. A peer that is known comes back; its older socket is closed.
    Opened {
        /// The socket.
        connection: ConnectionId,
        /// Who it is.
        who: Box<Newcomer>,
    },
    /// A binary frame arrived.
    Frame {
        /// From which socket.
        connection: ConnectionId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A socket is gone.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// The client said goodbye (close code 1000 or 1001 from it): it has left. Otherwise it may
        /// come back within the grace period.
        goodbye: bool,
    },
    /// The server asks for something.
    Command {
        /// To answer with.
        ticket: Ticket,
        /// What.
        command: Command,
    },
    /// The media plane has answered an order.
    Media {
        /// Which.
        order: OrderId,
        /// What it says, or why it was not done.
        outcome: Result<MediaAnswer, Refusal>,
    },
    /// The media plane has freed a transport by itself: its client has not been there for long. Its
    /// tracks went with it.
    Freed {
        /// Whose.
        peer: PeerId,
        /// The client published on it; otherwise it received.
        publishes: bool,
        /// Its id. The peer may have a newer one.
        transport: String,
    },
    /// Who speaks has changed: those who spoke last, the latest first.
    Speaking(Vec<PeerId>),
    /// Time has passed.
    Tick,
}

/// What the records hold of a meeting when its room is opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// A session that was not ended: the server stopped or crashed in it.
    pub session: Option<SessionRecord>,
    /// Its peers, those who have left as well.
    pub peers: Vec<PeerRecord>,
    /// What else it had kept.
    pub entries: Vec<(EntryKind, String, Vec<u8>)>,
    /// Messages, oldest first: of that session, or of all when they persist.
    pub chat: Vec<ChatMessage>,
    /// Bytes of all messages of the meeting, as [`ChatMessage::stored_bytes`] counts them.
    pub chat_bytes: u64,
    /// See [`Command::ChatFull`].
    pub chat_full: Option<ChatFull>,
    /// When that server was last known to run, Unix milliseconds.
    pub last_alive_ms: i64,
    /// The latest time of the meeting's earlier sessions, Unix milliseconds; 0 when there are none.
    pub earlier_ms: i64,
}

impl Past {
    /// The id of the session that goes on, if any.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The latest time that the meeting has in the records. [`Past::last_alive_ms`] is none of them.
    pub(crate) fn latest_ms(&self) -> i64 {
        let session = self.session.iter().map(|session| session.started_ms);
        let of_peer = |peer: &PeerRecord| peer.left_ms.unwrap_or(peer.entered_ms);
        let peers = self.peers.iter().map(of_peer);
        let chat = self.chat.iter().map(|message| message.at_ms);
        let all = session.chain(peers).chain(chat);
        all.max().unwrap_or_default().max(self.earlier_ms)
    }
}
