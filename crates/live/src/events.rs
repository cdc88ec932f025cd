//! The table of all events that a client may send, with their handlers and limits.
//!
//! Handlers are only reachable through this table, and a rule has no optional field: an event
//! without a rate, a frame size, a field limit and a bound on its effects does not compile. Events
//! outside the table are rejected with 501.

use parlor_protocol::signal::event;

use crate::limits::{Allowance, Limits, Rate, frames};
use crate::peer::Allowances;
use crate::room::{Outcome, RequestContext, Room, Step};

/// Handler of an event.
pub(crate) type Handler = fn(&mut Room, &mut Step<'_>, &RequestContext<'_>) -> Outcome;

/// Rule of an event.
pub(crate) struct EventRule {
    /// Event number.
    pub(crate) number: u32,
    pub(crate) handler: Handler,
    /// Rate limit, per participant.
    pub(crate) rate: RateClass,
    /// Maximum frame size in bytes, including the envelope.
    pub(crate) frame_bytes: usize,
    /// Maximum number of fields in the message, counted before it is decoded.
    pub(crate) fields: FieldLimit,
    /// Maximum effect of one frame on others.
    pub(crate) effect: Effect,
}

/// Rate class. Each is one allowance of a participant, configured in [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateClass {
    /// Only the rate of all frames.
    Frames,
    /// Changes that are pushed to others.
    Changes,
    /// Expensive reads.
    Reads,
    /// Subscribing to media.
    Media,
    /// Chat messages. The handler also charges the rate of messages with files.
    Chat,
    /// Reads of the chat.
    ChatReads,
    /// Messages of the app.
    Broadcasts,
    StoreReads,
    StoreWrites,
    StoreDeletes,
    /// New polls.
    Polls,
    /// Permission updates. The handler charges each further participant of a request.
    Permissions,
    /// Reads of breakout rooms. Charged by the handler, because they are free without breakout
    /// rooms.
    BreakoutReads,
    /// Creating and deleting breakout rooms.
    BreakoutChanges,
    /// Moves between rooms. The handler also charges each moved participant.
    Moves,
    /// Removing participants.
    Kicks,
}

impl RateClass {
    /// Name of the class in the documentation.
    #[cfg(test)]
    fn doc_name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Changes => "changes",
            Self::Reads => "reads",
            Self::Media => "media",
            Self::Chat => "chat",
            Self::ChatReads => "chat reads",
            Self::Broadcasts => "broadcasts",
            Self::StoreReads => "store reads",
            Self::StoreWrites => "store writes",
            Self::StoreDeletes => "store deletions",
            Self::Polls => "polls",
            Self::Permissions => "permissions",
            Self::BreakoutReads => "breakout reads",
            Self::BreakoutChanges => "breakout changes",
            Self::Moves => "moves",
            Self::Kicks => "kicks",
        }
    }

    /// The allowance charged before the handler runs, its rate, and the error message when it is
    /// exhausted. `None` if the request is cheap or the handler charges it.
    pub(crate) fn upfront_allowance<'l>(
        self,
        allowances: &'l mut Allowances,
        limits: &Limits,
    ) -> Option<(&'l mut Allowance, Rate, &'static str)> {
        let many = "too many requests: slow down";
        let stores = "too many changes of stores: slow down";
        Some(match self {
            Self::Frames | Self::BreakoutReads => return None,
            Self::Chat => {
                let refusal = "too many messages: slow down";
                (&mut allowances.chat, limits.chat, refusal)
            }
            Self::Permissions => {
                let refusal = "too many permission updates: slow down";
                (
                    &mut allowances.permission_updates,
                    limits.permission_updates,
                    refusal,
                )
            }
            Self::Changes => (&mut allowances.changes, limits.changes, many),
            Self::Reads => (&mut allowances.reads, limits.reads, many),
            Self::Media => (&mut allowances.media, limits.media, many),
            Self::ChatReads => {
                let refusal = "too many reads of the chat: slow down";
                (&mut allowances.chat_reads, limits.chat_reads, refusal)
            }
            Self::Broadcasts => {
                let refusal = "too many broadcasts: slow down";
                (&mut allowances.broadcasts, limits.broadcasts, refusal)
            }
            Self::StoreReads => {
                let refusal = "too many reads of stores: slow down";
                (&mut allowances.store_reads, limits.store_reads, refusal)
            }
            Self::StoreWrites => (&mut allowances.store_writes, limits.stores, stores),
            Self::StoreDeletes => (&mut allowances.store_deletes, limits.stores, stores),
            Self::Polls => {
                let refusal = "too many polls: slow down";
                (&mut allowances.polls, limits.poll_rate, refusal)
            }
            Self::BreakoutChanges => {
                let refusal = "too many changes of breakout rooms: slow down";
                (
                    &mut allowances.breakout_changes,
                    limits.breakout_changes,
                    refusal,
                )
            }
            Self::Moves => {
                let refusal = "too many moves between rooms: slow down";
                (&mut allowances.moves, limits.moves, refusal)
            }
            Self::Kicks => {
                let refusal = "too many removals: slow down";
                (&mut allowances.kicks, limits.kicks, refusal)
            }
        })
    }
}

/// Maximum number of fields in a message, including those of nested messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldLimit {
    /// A fixed number.
    Fixed(usize),
    /// Scales with the number of peers, with room for peers that have left since the client built
    /// its list.
    PerPeer,
}

impl FieldLimit {
    /// The limit in a meeting with `peers` peers.
    pub(crate) fn max(self, peers: usize) -> usize {
        match self {
            Self::Fixed(max) => max,
            Self::PerPeer => 1_000 + 2 * peers,
        }
    }
}

/// Maximum effect of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Only the requester receives anything.
    ReplyOnly,
    /// One push to all peers.
    Broadcast,
    /// Each of at most this number of participants receives a push, and the others receive a push
    /// about each of them. The work is done in slices.
    Participants(usize),
    /// The server receives one task with at most this number of distinct items.
    Delegated(usize),
    /// The media plane receives at most this number of orders, and each is pushed to all peers.
    Media(usize),
}

impl Effect {
    /// Maximum number of distinct items in one frame.
    pub(crate) fn max(self) -> usize {
        match self {
            Self::ReplyOnly => 0,
            Self::Broadcast => 1,
            Self::Participants(max) | Self::Delegated(max) | Self::Media(max) => max,
        }
    }
}

/// The rule of an event, if clients may send it.
pub(crate) fn rule(number: u32) -> Option<&'static EventRule> {
    let at = RULES.binary_search_by_key(&number, |rule| rule.number);
    at.ok().map(|at| &RULES[at])
}

/// Builds the table of rules.
macro_rules! rules {
    ($($number:ident: $handler:path, $rate:ident, $frame:ident, $fields:expr, $effect:expr;)*) => {
        &[$(EventRule {
            number: event::$number,
            handler: $handler,
            rate: RateClass::$rate,
            frame_bytes: frames::$frame,
            fields: $fields,
            effect: $effect,
        }),*]
    };
}

use Effect::{Broadcast, Delegated, Media, Participants, ReplyOnly};
use FieldLimit::{Fixed, PerPeer};

/// All participants of a meeting.
const ALL: usize = usize::MAX;
/// Fields of a request that updates the permissions of 1,000 participants: all of their media
/// permissions, or as many others.
pub(crate) const MAX_FIELDS: usize = 12_000;
/// Fields of a request with one item, with room for fields of newer clients.
const FEW: FieldLimit = Fixed(16);

/// Sorted by event number.
pub(crate) static RULES: &[EventRule] = rules![
    GET_PEER_INFO: Room::peer_info, Frames, SMALL, FEW, ReplyOnly;
    GET_ROOM_PEERS_INFO: Room::roster, Reads, SMALL, FEW, ReplyOnly;
    JOIN_ROOM: Room::join, Frames, PROFILE, Fixed(64), Broadcast;
    GET_ROOM_INFO: Room::room_info, Frames, SMALL, FEW, ReplyOnly;
    GET_STAGE_REQUESTS: Room::stage_requests, Reads, SMALL, FEW, ReplyOnly;
    REQUEST_STAGE_ACCESS: Room::request_stage, Changes, SMALL, FEW, Broadcast;
    CANCEL_STAGE_REQUEST: Room::cancel_stage_request, Changes, SMALL, FEW, Broadcast;
    GRANT_STAGE_ACCESS: Room::grant_stage, Changes, PARTICIPANTS, PerPeer, Participants(ALL);
    DENY_STAGE_ACCESS: Room::deny_stage, Changes, PARTICIPANTS, PerPeer, Participants(ALL);
    JOIN_STAGE: Room::join_stage, Changes, SMALL, FEW, Broadcast;
    LEAVE_STAGE: Room::leave_stage, Changes, PARTICIPANTS, PerPeer, Participants(ALL);
    GET_CONNECTED_ROOMS_DUMP: Room::breakout_rooms, BreakoutReads, SMALL, FEW, Delegated(0);
    CREATE_CONNECTED_ROOMS: Room::create_breakout_rooms, BreakoutChanges, ROOMS, Fixed(256), Delegated(100);
    DELETE_CONNECTED_ROOMS: Room::delete_breakout_rooms, BreakoutChanges, ROOMS, Fixed(256), Delegated(100);
    MOVE_PEERS: Room::move_peers, Moves, MOVES, Fixed(6_100), Delegated(1_000);
    BROADCAST_MESSAGE: Room::broadcast, Broadcasts, MESSAGE, Fixed(2_048), Broadcast;
    KICK: Room::kick, Kicks, PARTICIPANTS, PerPeer, Participants(ALL);
    KICK_ALL: Room::kick_all, Kicks, SMALL, FEW, Participants(ALL);
    GET_WAITING_ROOM_REQUESTS: Room::waiting_list, Reads, SMALL, FEW, ReplyOnly;
    ACCEPT_WAITING_ROOM_REQUESTS: Room::accept_waiting, Changes, PARTICIPANTS, PerPeer, Participants(ALL);
    DENY_WAITING_ROOM_REQUESTS: Room::deny_waiting, Changes, PARTICIPANTS, PerPeer, Participants(ALL);
    BROADCAST_TO_ENTITY: Room::broadcast_to_some, Broadcasts, MESSAGE, Fixed(2_048), Delegated(101);
    GET_ROOM_STAGE_STATE: Room::stage_state, Reads, SMALL, FEW, ReplyOnly;
    GET_MESSAGES: Room::chat_history, ChatReads, SMALL, FEW, ReplyOnly;
    SEND_MESSAGE_TO_ROOM: Room::send_to_all, Chat, MESSAGE, FEW, Broadcast;
    SEND_MESSAGE_TO_PEERS: Room::send_to_some, Chat, PARTICIPANTS, PerPeer, Broadcast;
    EDIT_MESSAGE: Room::edit_message, Chat, MESSAGE, FEW, Broadcast;
    DELETE_MESSAGE: Room::delete_message, Changes, SMALL, FEW, Broadcast;
    GET_PAGINATED_MESSAGES: Room::chat_page, ChatReads, SMALL, FEW, ReplyOnly;
    SEARCH_CHANNEL_MESSAGES: Room::search_chat, ChatReads, SMALL, FEW, ReplyOnly;
    PIN_MESSAGE: Room::pin_message, Changes, SMALL, FEW, Broadcast;
    STORE_INSERT_KEYS: Room::store_insert, StoreWrites, VALUES, Fixed(3_100), Broadcast;
    STORE_GET_KEYS: Room::store_get, StoreReads, KEYS, Fixed(3_100), ReplyOnly;
    STORE_DELETE_KEYS: Room::store_delete, StoreDeletes, KEYS, Fixed(3_100), Broadcast;
    CREATE_POLL: Room::create_poll, Polls, ROOMS, Fixed(64), Broadcast;
    GET_POLLS: Room::list_polls, Reads, SMALL, FEW, ReplyOnly;
    VOTE_POLL: Room::vote, Changes, SMALL, FEW, Broadcast;
    GET_USER_PRESETS: Room::read_permissions, Reads, PROFILE, Fixed(256), ReplyOnly;
    UPDATE_USER_PRESET: Room::update_permissions, Permissions, PARTICIPANTS, Fixed(MAX_FIELDS), Participants(1_000);
    CREATE_TRANSPORT: Room::create_transport, Changes, TRANSPORT, Fixed(256), Media(1);
    PRODUCE: Room::produce, Changes, DESCRIPTION, Fixed(32), Media(4);
    CONSUME: Room::consume, Media, MOVES, Fixed(4_200), Media(1);
    TOGGLE_PRODUCER: Room::toggle_producer, Frames, SMALL, FEW, Media(1);
    CLOSE_PRODUCER: Room::close_own_producer, Changes, DESCRIPTION, FEW, Media(1);
    CLOSE_CONSUMER: Room::close_consumers, Media, DESCRIPTION, Fixed(300), Media(1);
    UPDATE_SIMULCAST: Room::prefer_layers, Media, MOVES, Fixed(4_200), Media(1);
    MEDIA_JOIN: Room::media_join, Changes, JOINING, Fixed(512), Media(4);
    MEDIA_LEAVE: Room::media_leave, Changes, SMALL, FEW, Media(5);
    PIN_PEER: Room::pin, Changes, SMALL, FEW, Broadcast;
    MEDIA_JOIN_COMPLETE: Room::media_join_complete, Changes, SMALL, FEW, Broadcast;
    RENEGOTIATE: Room::renegotiate, Media, DESCRIPTION, FEW, Media(1);
    CHANGE_DISPLAY_NAME: Room::rename, Changes, SMALL, FEW, ReplyOnly;
    HOST_CONTROL_PEER: Room::host_control, Changes, SMALL, FEW, Media(4);
    HOST_CONTROL_ALL: Room::host_control_all, Changes, SMALL, FEW, Participants(ALL);
    AUDIO_ACTIVITY: Room::audio_activity, Frames, SMALL, FEW, ReplyOnly;
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that only the server sends or that are not supported. They are rejected with 501.
    const REJECTED: &[u32] = &[
        event::LEAVE_ROOM,
        event::STARTED_LIVESTREAM,
        event::STOPPED_LIVESTREAM,
        event::ERRORED_LIVESTREAM,
        event::ROOM_PEER_COUNT,
        event::TRANSFER_PEER,
        event::MOVED_PEER,
        event::CONNECTED_ROOMS_UPDATED,
        event::CONNECTED_ROOMS_DELETED,
        event::GET_ALL_ADDED_PARTICIPANTS,
        event::TRANSCRIPT,
        event::WAITING_ROOM_REQUEST_ACCEPTED,
        event::WAITING_ROOM_REQUEST_DENIED,
        event::PEER_STAGE_STATUS_UPDATE,
        event::RECORDING_STARTED,
        event::RECORDING_STOPPED,
        event::RECORDING_PAUSED,
        event::LIVESTREAMING_INVOKED,
        event::ERROR,
        event::STORE_DELETE,
        event::UPDATE_POLL,
        event::TOGGLE_CONSUMER,
        event::SELECTED_PEERS,
        event::MEDIA_PEER_JOINED,
        event::MEDIA_PEER_LEFT,
        event::PRODUCER_CREATED,
        event::PRODUCER_TOGGLED,
        event::PRODUCER_CLOSED,
        event::PEER_PINNED,
        event::MEDIA_ROOM_TERMINATED,
        event::SELECTED_PEERS_DIFF,
        event::MEDIA_ERROR,
    ];

    #[test]
    fn every_event_has_a_rule_or_is_not_taken() {
        for (number, name) in event::ALL {
            let taken = rule(*number).is_some();
            assert_ne!(taken, REJECTED.contains(number), "{name}");
        }
        assert!(RULES.is_sorted_by(|one, next| one.number < next.number));
        assert_eq!(RULES.len() + REJECTED.len(), event::ALL.len());
    }

    #[test]
    fn every_rule_has_bounds() {
        let limits = Limits::default();
        for rule in RULES {
            let name = event::name(rule.number);
            assert!(
                (1..=limits.frame_bytes).contains(&rule.frame_bytes),
                "{name:?}"
            );
            // The largest meeting, with every peer listed once.
            let max = rule.fields.max(limits.peers);
            assert!((1..=24_000).contains(&max), "{name:?}");
            let mut allowances = Allowances::default();
            if let Some((_, rate, _)) = rule.rate.upfront_allowance(&mut allowances, &limits) {
                assert!(rate.count > 0, "{name:?}");
            }
        }
    }

    /// Keeps the table in `docs/signalling.md` up to date.
    #[test]
    fn the_documentation_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/signalling.md");
        let document = std::fs::read_to_string(path).expect("the document exists");
        let (begin, end) = ("<!-- events -->\n", "<!-- /events -->");
        let (before, rest) = document.split_once(begin).expect("the begin marker exists");
        let (written, after) = rest.split_once(end).expect("the end marker exists");
        let table = table();
        if std::env::var_os("PARLOR_BLESS").is_some() {
            let text = format!("{before}{begin}{table}{end}{after}");
            std::fs::write(path, text).expect("the document is writable");
        } else {
            assert_eq!(written, table, "PARLOR_BLESS=1 rewrites it");
        }
    }

    fn table() -> String {
        let mut table = "| event | rate | frame | fields | causes |\n|--|--|--|--|--|\n".to_owned();
        for rule in RULES {
            let name = event::name(rule.number).expect("every event has a name");
            let fields = match rule.fields {
                Fixed(max) => max.to_string(),
                PerPeer => "1,000, and 2 for each connected client".to_owned(),
            };
            let effect = match rule.effect {
                ReplyOnly => "a reply".to_owned(),
                Broadcast => "one push to all peers that may see it".to_owned(),
                Participants(ALL) => {
                    "a push to each listed participant, and about each to others".to_owned()
                }
                Participants(max) => format!("the same, for at most {max} participants"),
                Delegated(0) => "one server task".to_owned(),
                Delegated(max) => format!("one server task with at most {max} items"),
                Media(max) => format!("at most {max} orders to the media plane"),
            };
            let row = format!(
                "| {} {name} | {} | {} KiB | {fields} | {effect} |\n",
                rule.number,
                rule.rate.doc_name(),
                rule.frame_bytes / 1024,
            );
            table.push_str(&row);
        }
        table
    }
}
