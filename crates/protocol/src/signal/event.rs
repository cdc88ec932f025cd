//! Event numbers: `domain << 16 | number` for the room (0), chat (1), stores (2), polls (3) and
//! presets (5), `0x0300_0000 | number` for media. The tables are docs/spec/signalling.md 5
//! and docs/spec/media.md 0.1.

macro_rules! events {
    ($($(#[$doc:meta])* $NAME:ident = $number:expr;)*) => {
        $($(#[$doc])* pub const $NAME: u32 = $number;)*

        /// Every number and its name.
        pub const ALL: &[(u32, &str)] = &[$(($NAME, stringify!($NAME))),*];
    };
}

const CHAT: u32 = 1 << 16;
const STORE: u32 = 2 << 16;
const POLLS: u32 = 3 << 16;
const PRESET: u32 = 5 << 16;
const MEDIA: u32 = 0x0300_0000;

events! {
    /// One peer, by id.
    GET_PEER_INFO = 0;
    /// Everybody in the room, or a page of a search.
    GET_ROOM_PEERS_INFO = 2;
    /// A peer joins: reply to it, push to the others.
    JOIN_ROOM = 3;
    /// Push: a peer has left.
    LEAVE_ROOM = 4;
    /// Title, session and start of the room.
    GET_ROOM_INFO = 5;
    /// Push: the livestream runs.
    STARTED_LIVESTREAM = 8;
    /// Push: the livestream has ended.
    STOPPED_LIVESTREAM = 9;
    /// Push: the livestream has failed.
    ERRORED_LIVESTREAM = 10;
    /// Who asks to come on the stage: the complete list.
    GET_STAGE_REQUESTS = 12;
    /// Ask to come on the stage.
    REQUEST_STAGE_ACCESS = 13;
    /// Take that back.
    CANCEL_STAGE_REQUEST = 14;
    /// Let somebody on the stage.
    GRANT_STAGE_ACCESS = 15;
    /// Do not.
    DENY_STAGE_ACCESS = 16;
    /// Push: how many watch.
    ROOM_PEER_COUNT = 17;
    /// Go on the stage; answered on [`PEER_STAGE_STATUS_UPDATE`].
    JOIN_STAGE = 18;
    /// Leave the stage, or send somebody off it.
    LEAVE_STAGE = 19;
    /// The breakout rooms and who is in them.
    GET_CONNECTED_ROOMS_DUMP = 20;
    /// Make breakout rooms.
    CREATE_CONNECTED_ROOMS = 21;
    /// Remove breakout rooms.
    DELETE_CONNECTED_ROOMS = 22;
    /// Move people between breakout rooms.
    MOVE_PEERS = 23;
    /// Push: go to another meeting, with this token.
    TRANSFER_PEER = 24;
    /// Push: somebody was moved.
    MOVED_PEER = 25;
    /// Push: breakout rooms were made or renamed.
    CONNECTED_ROOMS_UPDATED = 26;
    /// Push: breakout rooms were removed.
    CONNECTED_ROOMS_DELETED = 27;
    /// Everybody who was ever added to the meeting.
    GET_ALL_ADDED_PARTICIPANTS = 28;
    /// A message of the app to everybody in the room.
    BROADCAST_MESSAGE = 29;
    /// Remove peers. Whoever receives it leaves.
    KICK = 30;
    /// Remove everybody. Whoever receives it leaves.
    KICK_ALL = 31;
    /// Push: a line of captions.
    TRANSCRIPT = 32;
    /// Who waits: the complete list.
    GET_WAITING_ROOM_REQUESTS = 33;
    /// Let people in.
    ACCEPT_WAITING_ROOM_REQUESTS = 34;
    /// Push: you were let in.
    WAITING_ROOM_REQUEST_ACCEPTED = 35;
    /// Turn people away.
    DENY_WAITING_ROOM_REQUESTS = 36;
    /// Push: you were turned away.
    WAITING_ROOM_REQUEST_DENIED = 37;
    /// Push: where somebody stands with the stage.
    PEER_STAGE_STATUS_UPDATE = 38;
    /// A message of the app to some peers, or to other rooms.
    BROADCAST_TO_ENTITY = 39;
    /// Push: a recording runs.
    RECORDING_STARTED = 40;
    /// Push: a recording has ended.
    RECORDING_STOPPED = 41;
    /// Push: a recording pauses.
    RECORDING_PAUSED = 42;
    /// Who is on the stage, may come, and asks.
    GET_ROOM_STAGE_STATE = 43;
    /// Push: a livestream is being set up.
    LIVESTREAMING_INVOKED = 44;
    /// Error reply to the request with the same id.
    ERROR = 65_535;
    /// The chat so far.
    GET_MESSAGES = CHAT;
    /// Say something to everybody.
    SEND_MESSAGE_TO_ROOM = CHAT + 1;
    /// Say something to some.
    SEND_MESSAGE_TO_PEERS = CHAT + 2;
    /// Change an own message.
    EDIT_MESSAGE = CHAT + 3;
    /// Remove a message.
    DELETE_MESSAGE = CHAT + 4;
    /// A page of the chat.
    GET_PAGINATED_MESSAGES = CHAT + 5;
    /// Search in the chat.
    SEARCH_CHANNEL_MESSAGES = CHAT + 7;
    /// Pin a message.
    PIN_MESSAGE = CHAT + 10;
    /// Set keys of a store.
    STORE_INSERT_KEYS = STORE + 9;
    /// Read a store.
    STORE_GET_KEYS = STORE + 10;
    /// Remove keys of a store.
    STORE_DELETE_KEYS = STORE + 11;
    /// Remove a store.
    STORE_DELETE = STORE + 12;
    /// Ask everybody a question.
    CREATE_POLL = POLLS;
    /// The questions so far.
    GET_POLLS = POLLS + 1;
    /// Answer a question.
    VOTE_POLL = POLLS + 2;
    /// Push: a question has changed.
    UPDATE_POLL = POLLS + 3;
    /// What somebody may do.
    GET_USER_PRESETS = PRESET;
    /// Change what somebody may do.
    UPDATE_USER_PRESET = PRESET + 1;
    /// Make a transport: an SDP offer in, an answer out.
    CREATE_TRANSPORT = MEDIA + 1;
    /// Publish a track.
    PRODUCE = MEDIA + 2;
    /// Subscribe to tracks.
    CONSUME = MEDIA + 3;
    /// Pause or resume an own track.
    TOGGLE_PRODUCER = MEDIA + 4;
    /// Pause or resume a subscription. No known client sends it.
    TOGGLE_CONSUMER = MEDIA + 5;
    /// Stop publishing a track.
    CLOSE_PRODUCER = MEDIA + 6;
    /// Stop subscriptions.
    CLOSE_CONSUMER = MEDIA + 7;
    /// Which layer of a track to receive.
    UPDATE_SIMULCAST = MEDIA + 8;
    /// The client is about to make its transports.
    MEDIA_JOIN = MEDIA + 16;
    /// The client closes its transports.
    MEDIA_LEAVE = MEDIA + 17;
    /// Who is heard. Clients have no use for it any more.
    SELECTED_PEERS = MEDIA + 18;
    /// Keep one peer in view for everybody.
    PIN_PEER = MEDIA + 19;
    /// Both transports are connected: snapshot of what is published.
    MEDIA_JOIN_COMPLETE = MEDIA + 20;
    /// Push: a peer may publish from now on.
    MEDIA_PEER_JOINED = MEDIA + 25;
    /// Push: a peer publishes no more.
    MEDIA_PEER_LEFT = MEDIA + 26;
    /// Push: a track is published.
    PRODUCER_CREATED = MEDIA + 27;
    /// Push: a track is paused or resumed.
    PRODUCER_TOGGLED = MEDIA + 28;
    /// Push: a track is gone.
    PRODUCER_CLOSED = MEDIA + 29;
    /// Push: who is kept in view; nobody when empty.
    PEER_PINNED = MEDIA + 30;
    /// Push: join the media room again, and publish what was published.
    MEDIA_ROOM_TERMINATED = MEDIA + 36;
    /// Push: who speaks.
    SELECTED_PEERS_DIFF = MEDIA + 40;
    /// The answer to an SDP offer of ours.
    RENEGOTIATE = MEDIA + 50;
    /// Error reply of the media plane.
    MEDIA_ERROR = MEDIA + 60;
    /// A new name in the middle of a call.
    CHANGE_DISPLAY_NAME = MEDIA + 92;
    /// Mute somebody else.
    HOST_CONTROL_PEER = MEDIA + 93;
    /// Mute everybody else.
    HOST_CONTROL_ALL = MEDIA + 94;
    /// How loud the own microphone is.
    AUDIO_ACTIVITY = MEDIA + 100;
}

/// The name of an event, for logs and metrics.
pub fn name(event: u32) -> Option<&'static str> {
    ALL.iter()
        .find(|(number, _)| *number == event)
        .map(|(_, name)| *name)
}
