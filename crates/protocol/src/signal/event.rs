//! Event numbers: `domain << 16 | number` for the room (0), chat (1), stores (2), polls (3) and
//! presets (5), `0x0300_0000 | number` for media. The tables are docs/spec/signalling.md 5 and
//! docs/spec/media.md 0.1.

macro_rules! events {
    ($($(#[$doc:meta])* $NAME:ident = $number:expr;)*) => {
        $($(#[$doc])* pub const $NAME: u32 = $number;)*

        /// All event numbers with their names.
        pub const ALL: &[(u32, &str)] = &[$(($NAME, stringify!($NAME))),*];
    };
}

const CHAT: u32 = 1 << 16;
const STORE: u32 = 2 << 16;
const POLLS: u32 = 3 << 16;
const PRESET: u32 = 5 << 16;
const MEDIA: u32 = 0x0300_0000;

events! {
    /// Get one peer by id.
    GET_PEER_INFO = 0;
    /// Get all peers in the room, or a page of a search.
    GET_ROOM_PEERS_INFO = 2;
    /// Join the room. The other peers receive it as a push.
    JOIN_ROOM = 3;
    /// Push: a peer has left.
    LEAVE_ROOM = 4;
    /// Get the room's title, session and start time.
    GET_ROOM_INFO = 5;
    /// Push: the livestream has started.
    STARTED_LIVESTREAM = 8;
    /// Push: the livestream has ended.
    STOPPED_LIVESTREAM = 9;
    /// Push: the livestream has failed.
    ERRORED_LIVESTREAM = 10;
    /// Get the complete list of stage requests.
    GET_STAGE_REQUESTS = 12;
    /// Request stage access.
    REQUEST_STAGE_ACCESS = 13;
    /// Cancel a request for stage access.
    CANCEL_STAGE_REQUEST = 14;
    /// Grant stage access.
    GRANT_STAGE_ACCESS = 15;
    /// Deny stage access.
    DENY_STAGE_ACCESS = 16;
    /// Push: number of viewers.
    ROOM_PEER_COUNT = 17;
    /// Join the stage. The reply is [`PEER_STAGE_STATUS_UPDATE`].
    JOIN_STAGE = 18;
    /// Leave the stage, or remove other participants from it.
    LEAVE_STAGE = 19;
    /// Get the breakout rooms and their participants.
    GET_CONNECTED_ROOMS_DUMP = 20;
    /// Create breakout rooms.
    CREATE_CONNECTED_ROOMS = 21;
    /// Delete breakout rooms.
    DELETE_CONNECTED_ROOMS = 22;
    /// Move participants between breakout rooms.
    MOVE_PEERS = 23;
    /// Push: switch to another meeting with the enclosed token.
    TRANSFER_PEER = 24;
    /// Push: a participant was moved.
    MOVED_PEER = 25;
    /// Push: breakout rooms were created or renamed.
    CONNECTED_ROOMS_UPDATED = 26;
    /// Push: breakout rooms were deleted.
    CONNECTED_ROOMS_DELETED = 27;
    /// Get all participants ever added to the meeting.
    GET_ALL_ADDED_PARTICIPANTS = 28;
    /// Send a message of the app to all peers in the room.
    BROADCAST_MESSAGE = 29;
    /// Remove peers. Each receiver leaves.
    KICK = 30;
    /// Remove all peers. Each receiver leaves.
    KICK_ALL = 31;
    /// Push: a line of the transcript.
    TRANSCRIPT = 32;
    /// Get the complete waiting list.
    GET_WAITING_ROOM_REQUESTS = 33;
    /// Admit participants from the waiting room.
    ACCEPT_WAITING_ROOM_REQUESTS = 34;
    /// Push: the receiver was admitted.
    WAITING_ROOM_REQUEST_ACCEPTED = 35;
    /// Reject participants in the waiting room.
    DENY_WAITING_ROOM_REQUESTS = 36;
    /// Push: the receiver was rejected.
    WAITING_ROOM_REQUEST_DENIED = 37;
    /// Push: stage status of a peer.
    PEER_STAGE_STATUS_UPDATE = 38;
    /// Send a message of the app to some peers, or to other rooms.
    BROADCAST_TO_ENTITY = 39;
    /// Push: a recording has started.
    RECORDING_STARTED = 40;
    /// Push: a recording has stopped.
    RECORDING_STOPPED = 41;
    /// Push: a recording was paused.
    RECORDING_PAUSED = 42;
    /// Get the peers on the stage, with granted access and with pending requests.
    GET_ROOM_STAGE_STATE = 43;
    /// Push: a livestream is being set up.
    LIVESTREAMING_INVOKED = 44;
    /// Error reply to the request with the same id.
    ERROR = 65_535;
    /// Get the chat history.
    GET_MESSAGES = CHAT;
    /// Send a message to everyone.
    SEND_MESSAGE_TO_ROOM = CHAT + 1;
    /// Send a private message.
    SEND_MESSAGE_TO_PEERS = CHAT + 2;
    /// Edit one's own message.
    EDIT_MESSAGE = CHAT + 3;
    /// Delete a message.
    DELETE_MESSAGE = CHAT + 4;
    /// Get a page of the chat.
    GET_PAGINATED_MESSAGES = CHAT + 5;
    /// Search the chat.
    SEARCH_CHANNEL_MESSAGES = CHAT + 7;
    /// Pin a message.
    PIN_MESSAGE = CHAT + 10;
    /// Set keys of a store.
    STORE_INSERT_KEYS = STORE + 9;
    /// Get keys of a store.
    STORE_GET_KEYS = STORE + 10;
    /// Delete keys of a store.
    STORE_DELETE_KEYS = STORE + 11;
    /// Delete a store.
    STORE_DELETE = STORE + 12;
    /// Create a poll.
    CREATE_POLL = POLLS;
    /// Get all polls.
    GET_POLLS = POLLS + 1;
    /// Vote in a poll.
    VOTE_POLL = POLLS + 2;
    /// Push: a poll has changed.
    UPDATE_POLL = POLLS + 3;
    /// Get the permissions of participants.
    GET_USER_PRESETS = PRESET;
    /// Update the permissions of participants.
    UPDATE_USER_PRESET = PRESET + 1;
    /// Create a transport: SDP offer in the request, answer in the reply.
    CREATE_TRANSPORT = MEDIA + 1;
    /// Publish a track.
    PRODUCE = MEDIA + 2;
    /// Subscribe to tracks.
    CONSUME = MEDIA + 3;
    /// Pause or resume one's own track.
    TOGGLE_PRODUCER = MEDIA + 4;
    /// Pause or resume a subscription. No known client sends it.
    TOGGLE_CONSUMER = MEDIA + 5;
    /// Stop publishing a track.
    CLOSE_PRODUCER = MEDIA + 6;
    /// Close subscriptions.
    CLOSE_CONSUMER = MEDIA + 7;
    /// Select simulcast layers of received tracks.
    UPDATE_SIMULCAST = MEDIA + 8;
    /// Announce that the client is about to create its transports.
    MEDIA_JOIN = MEDIA + 16;
    /// Close the client's transports.
    MEDIA_LEAVE = MEDIA + 17;
    /// Push: the audible peers. Current clients ignore it.
    SELECTED_PEERS = MEDIA + 18;
    /// Pin a peer for everyone.
    PIN_PEER = MEDIA + 19;
    /// Announce that both transports are connected. The reply is a snapshot of all published
    /// tracks.
    MEDIA_JOIN_COMPLETE = MEDIA + 20;
    /// Push: a peer is ready to publish.
    MEDIA_PEER_JOINED = MEDIA + 25;
    /// Push: a peer has stopped publishing.
    MEDIA_PEER_LEFT = MEDIA + 26;
    /// Push: a track was published.
    PRODUCER_CREATED = MEDIA + 27;
    /// Push: a track was paused or resumed.
    PRODUCER_TOGGLED = MEDIA + 28;
    /// Push: a track was closed.
    PRODUCER_CLOSED = MEDIA + 29;
    /// Push: the pinned peer; empty if none.
    PEER_PINNED = MEDIA + 30;
    /// Push: rejoin the media room and publish again.
    MEDIA_ROOM_TERMINATED = MEDIA + 36;
    /// Push: changes of the active speakers.
    SELECTED_PEERS_DIFF = MEDIA + 40;
    /// Answer an SDP offer of the server.
    RENEGOTIATE = MEDIA + 50;
    /// Error reply of the media plane.
    MEDIA_ERROR = MEDIA + 60;
    /// Change one's display name during the call.
    CHANGE_DISPLAY_NAME = MEDIA + 92;
    /// Mute another peer.
    HOST_CONTROL_PEER = MEDIA + 93;
    /// Mute all other peers.
    HOST_CONTROL_ALL = MEDIA + 94;
    /// Report the level of one's own microphone.
    AUDIO_ACTIVITY = MEDIA + 100;
}

/// Name of an event, for logs and metrics.
pub fn name(event: u32) -> Option<&'static str> {
    ALL.iter()
        .find(|(number, _)| *number == event)
        .map(|(_, name)| *name)
}
