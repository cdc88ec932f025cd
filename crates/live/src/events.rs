//! Every event that a client may send: who handles it, and what it may cost.
//!
//! This is the only way to a handler, and a rule has no part that may be left out: an event without a
//! rate, a largest frame, a bound on what is in it or a bound on what it causes does not compile. What
//! is not in the table is answered 501.

use parlor_protocol::signal::event;

use crate::limits::{Allowance, Limits, Rate, frames};
use crate::peer::Allowances;
use crate::room::{Outcome, RequestContext, Room, Turn};

/// What is done about an event.
pub(crate) type Handler = fn(&mut Room, &mut Turn<'_>, &RequestContext<'_>) -> Outcome;

/// One event.
pub(crate) struct EventRule {
    /// Its number.
    pub(crate) number: u32,
    pub(crate) handler: Handler,
    /// How often a person may send it.
    pub(crate) rate: RateClass,
    /// Bytes of a frame with it, envelope included.
    pub(crate) frame_bytes: usize,
    /// Fields in its message, counted before it is decoded.
    pub(crate) elements: Elements,
    /// What one frame makes others do or hear.
    pub(crate) work: Work,
}

/// How often something may be asked for: each is one allowance of a person, in [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateClass {
    /// As often as frames of any kind.
    Frames,
    /// What others are told of.
    Changes,
    /// What reads much.
    Reads,
    /// What a client asks for in order to receive media.
    Media,
    /// Messages. Those with files the handler counts as well.
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
    /// Changes of permissions. Of further people in a request, the handler counts each.
    Permissions,
    /// Who is in which breakout room. The handler counts: where there are none it costs nothing.
    BreakoutReads,
    /// Breakout rooms made and removed.
    BreakoutChanges,
    /// Moves between rooms. The handler counts the people as well.
    Moves,
    /// Removing people.
    Kicks,
}

impl RateClass {
    /// The word for it in the documentation.
    #[cfg(test)]
    fn word(self) -> &'static str {
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

    /// What is spent before the handler is called, whatever becomes of the request, and what a refusal
    /// says. Nothing where a request costs next to nothing, or the handler counts.
    pub(crate) fn spent_first<'l>(
        self,
        left: &'l mut Allowances,
        limits: &Limits,
    ) -> Option<(&'l mut Allowance, Rate, &'static str)> {
        let many = "too many requests: slow down";
        let stores = "too many changes of stores: slow down";
        Some(match self {
            Self::Frames | Self::BreakoutReads => return None,
            Self::Chat => {
                let refusal = "too many messages: slow down";
                (&mut left.chat, limits.chat, refusal)
            }
            Self::Permissions => {
                let refusal = "too many permission updates: slow down";
                (
                    &mut left.permission_updates,
                    limits.permission_updates,
                    refusal,
                )
            }
            Self::Changes => (&mut left.changes, limits.changes, many),
            Self::Reads => (&mut left.reads, limits.reads, many),
            Self::Media => (&mut left.media, limits.media, many),
            Self::ChatReads => {
                let refusal = "too many reads of the chat: slow down";
                (&mut left.chat_reads, limits.chat_reads, refusal)
            }
            Self::Broadcasts => {
                let refusal = "too many broadcasts: slow down";
                (&mut left.broadcasts, limits.broadcasts, refusal)
            }
            Self::StoreReads => {
                let refusal = "too many reads of stores: slow down";
                (&mut left.store_reads, limits.store_reads, refusal)
            }
            Self::StoreWrites => (&mut left.store_writes, limits.stores, stores),
            Self::StoreDeletes => (&mut left.store_deletes, limits.stores, stores),
            Self::Polls => {
                let refusal = "too many polls: slow down";
                (&mut left.polls, limits.poll_rate, refusal)
            }
            Self::BreakoutChanges => {
                let refusal = "too many changes of breakout rooms: slow down";
                (&mut left.breakout_changes, limits.breakout_changes, refusal)
            }
            Self::Moves => {
                let refusal = "people are moved too often: slow down";
                (&mut left.moves, limits.moves, refusal)
            }
            Self::Kicks => {
                let refusal = "people are removed too often: slow down";
                (&mut left.kicks, limits.kicks, refusal)
            }
        })
    }
}

/// How many fields the message of an event may have, those of messages within it included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    /// So many.
    Fixed(usize),
    /// One for each client that may be here, and some that have left since the list was made.
    People,
}

impl Elements {
    /// The bound in a meeting with so many clients.
    pub(crate) fn most(self, peers: usize) -> usize {
        match self {
            Self::Fixed(most) => most,
            Self::People => 1_000 + 2 * peers,
        }
    }
}

/// How much work one frame may cause for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nobody hears of it but who asks.
    Own,
    /// Everybody is told once, of one thing.
    Everybody,
    /// So many people are each told something at most, and others of each of them. Many are done in
    /// slices.
    People(usize),
    /// The server gets one task that names so many things at most, each once.
    Delegated(usize),
    /// The media plane gets so many orders at most, and everybody is told of each.
    Media(usize),
}

impl Work {
    /// How many things one frame may name, each once.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Own => 0,
            Self::Everybody => 1,
            Self::People(most) | Self::Delegated(most) | Self::Media(most) => most,
        }
    }
}

/// The rule of an event, if clients may send it.
pub(crate) fn rule(number: u32) -> Option<&'static EventRule> {
    let at = RULES.binary_search_by_key(&number, |rule| rule.number);
    at.ok().map(|at| &RULES[at])
}

/// Writes a table of rules.
macro_rules! rules {
    ($($number:ident: $handler:path, $rate:ident, $frame:ident, $elements:expr, $work:expr;)*) => {
        &[$(EventRule {
            number: event::$number,
            handler: $handler,
            rate: RateClass::$rate,
            frame_bytes: frames::$frame,
            elements: $elements,
            work: $work,
        }),*]
    };
}

use Elements::{Fixed, People as Listed};
use Work::{Delegated, Everybody, Media, Own, People};

/// Everybody who may be in a meeting.
const ALL: usize = usize::MAX;
/// Fields of a request that changes what 1,000 people may do: all of their media, or as much else.
pub(crate) const MOST_FIELDS: usize = 12_000;
/// Fields of a request that names one thing, with room for those of newer clients.
const FEW: Elements = Fixed(16);

/// In the order of the numbers.
pub(crate) static RULES: &[EventRule] = rules![
    GET_PEER_INFO: Room::peer_info, Frames, SMALL, FEW, Own;
    GET_ROOM_PEERS_INFO: Room::roster, Reads, SMALL, FEW, Own;
    JOIN_ROOM: Room::join, Frames, PERSON, Fixed(64), Everybody;
    GET_ROOM_INFO: Room::room_info, Frames, SMALL, FEW, Own;
    GET_STAGE_REQUESTS: Room::stage_requests, Reads, SMALL, FEW, Own;
    REQUEST_STAGE_ACCESS: Room::request_stage, Changes, SMALL, FEW, Everybody;
    CANCEL_STAGE_REQUEST: Room::cancel_stage_request, Changes, SMALL, FEW, Everybody;
    GRANT_STAGE_ACCESS: Room::grant_stage, Changes, PEOPLE, Listed, People(ALL);
    DENY_STAGE_ACCESS: Room::deny_stage, Changes, PEOPLE, Listed, People(ALL);
    JOIN_STAGE: Room::join_stage, Changes, SMALL, FEW, Everybody;
    LEAVE_STAGE: Room::leave_stage, Changes, PEOPLE, Listed, People(ALL);
    GET_CONNECTED_ROOMS_DUMP: Room::breakout_rooms, BreakoutReads, SMALL, FEW, Delegated(0);
    CREATE_CONNECTED_ROOMS: Room::make_breakout_rooms, BreakoutChanges, ROOMS, Fixed(256), Delegated(100);
    DELETE_CONNECTED_ROOMS: Room::remove_breakout_rooms, BreakoutChanges, ROOMS, Fixed(256), Delegated(100);
    MOVE_PEERS: Room::move_peers, Moves, MOVES, Fixed(6_100), Delegated(1_000);
    BROADCAST_MESSAGE: Room::broadcast, Broadcasts, MESSAGE, Fixed(2_048), Everybody;
    KICK: Room::kick, Kicks, PEOPLE, Listed, People(ALL);
    KICK_ALL: Room::kick_all, Kicks, SMALL, FEW, People(ALL);
    GET_WAITING_ROOM_REQUESTS: Room::waiting_list, Reads, SMALL, FEW, Own;
    ACCEPT_WAITING_ROOM_REQUESTS: Room::let_in, Changes, PEOPLE, Listed, People(ALL);
    DENY_WAITING_ROOM_REQUESTS: Room::turn_away, Changes, PEOPLE, Listed, People(ALL);
    BROADCAST_TO_ENTITY: Room::broadcast_to_some, Broadcasts, MESSAGE, Fixed(2_048), Delegated(101);
    GET_ROOM_STAGE_STATE: Room::stage_state, Reads, SMALL, FEW, Own;
    GET_MESSAGES: Room::chat_history, ChatReads, SMALL, FEW, Own;
    SEND_MESSAGE_TO_ROOM: Room::say_to_all, Chat, MESSAGE, FEW, Everybody;
    SEND_MESSAGE_TO_PEERS: Room::say_to_some, Chat, PEOPLE, Listed, Everybody;
    EDIT_MESSAGE: Room::edit_message, Chat, MESSAGE, FEW, Everybody;
    DELETE_MESSAGE: Room::delete_message, Changes, SMALL, FEW, Everybody;
    GET_PAGINATED_MESSAGES: Room::chat_page, ChatReads, SMALL, FEW, Own;
    SEARCH_CHANNEL_MESSAGES: Room::search_chat, ChatReads, SMALL, FEW, Own;
    PIN_MESSAGE: Room::pin_message, Changes, SMALL, FEW, Everybody;
    STORE_INSERT_KEYS: Room::store_insert, StoreWrites, VALUES, Fixed(3_100), Everybody;
    STORE_GET_KEYS: Room::store_get, StoreReads, KEYS, Fixed(3_100), Own;
    STORE_DELETE_KEYS: Room::store_delete, StoreDeletes, KEYS, Fixed(3_100), Everybody;
    CREATE_POLL: Room::create_poll, Polls, ROOMS, Fixed(64), Everybody;
    GET_POLLS: Room::list_polls, Reads, SMALL, FEW, Own;
    VOTE_POLL: Room::vote, Changes, SMALL, FEW, Everybody;
    GET_USER_PRESETS: Room::read_permissions, Reads, PERSON, Fixed(256), Own;
    UPDATE_USER_PRESET: Room::update_permissions, Permissions, PEOPLE, Fixed(MOST_FIELDS), People(1_000);
    CREATE_TRANSPORT: Room::create_transport, Changes, TRANSPORT, Fixed(256), Media(1);
    PRODUCE: Room::produce, Changes, DESCRIPTION, Fixed(32), Media(4);
    CONSUME: Room::consume, Media, MOVES, Fixed(4_200), Media(1);
    TOGGLE_PRODUCER: Room::toggle_producer, Frames, SMALL, FEW, Media(1);
    CLOSE_PRODUCER: Room::close_own_producer, Changes, DESCRIPTION, FEW, Media(1);
    CLOSE_CONSUMER: Room::close_consumers, Media, DESCRIPTION, Fixed(300), Media(1);
    UPDATE_SIMULCAST: Room::prefer_layers, Media, MOVES, Fixed(4_200), Media(1);
    MEDIA_JOIN: Room::media_join, Changes, JOINING, Fixed(512), Media(4);
    MEDIA_LEAVE: Room::media_leave, Changes, SMALL, FEW, Media(5);
    PIN_PEER: Room::pin, Changes, SMALL, FEW, Everybody;
    MEDIA_JOIN_COMPLETE: Room::media_join_complete, Changes, SMALL, FEW, Everybody;
    RENEGOTIATE: Room::renegotiate, Media, DESCRIPTION, FEW, Media(1);
    CHANGE_DISPLAY_NAME: Room::rename, Changes, SMALL, FEW, Own;
    HOST_CONTROL_PEER: Room::host_control, Changes, SMALL, FEW, Media(4);
    HOST_CONTROL_ALL: Room::host_control_all, Changes, SMALL, FEW, People(ALL);
    AUDIO_ACTIVITY: Room::audio_activity, Frames, SMALL, FEW, Own;
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server only sends, and what it does not take: those answer 501.
    const NOT_TAKEN: &[u32] = &[
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
            assert_ne!(taken, NOT_TAKEN.contains(number), "{name}");
        }
        assert!(RULES.is_sorted_by(|one, next| one.number < next.number));
        assert_eq!(RULES.len() + NOT_TAKEN.len(), event::ALL.len());
    }

    #[test]
    fn no_rule_is_without_a_bound() {
        let limits = Limits::default();
        for rule in RULES {
            let name = event::name(rule.number);
            assert!(
                (1..=limits.frame_bytes).contains(&rule.frame_bytes),
                "{name:?}"
            );
            // The largest meeting, and everybody in it named once.
            let most = rule.elements.most(limits.peers);
            assert!((1..=24_000).contains(&most), "{name:?}");
            let mut left = Allowances::default();
            if let Some((_, rate, _)) = rule.rate.spent_first(&mut left, &limits) {
                assert!(rate.count > 0, "{name:?}");
            }
        }
    }

    /// The table in `docs/signalling.md` is this one.
    #[test]
    fn the_documentation_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/signalling.md");
        let document = std::fs::read_to_string(path).expect("it is there");
        let (begin, end) = ("<!-- events -->\n", "<!-- /events -->");
        let (before, rest) = document.split_once(begin).expect("the table begins");
        let (written, after) = rest.split_once(end).expect("the table ends");
        let table = table();
        if std::env::var_os("PARLOR_BLESS").is_some() {
            let text = format!("{before}{begin}{table}{end}{after}");
            std::fs::write(path, text).expect("it can be written");
        } else {
            assert_eq!(written, table, "PARLOR_BLESS=1 writes it anew");
        }
    }

    fn table() -> String {
        let mut table = "| event | rate | frame | fields | causes |\n|--|--|--|--|--|\n".to_owned();
        for rule in RULES {
            let name = event::name(rule.number).expect("it has a name");
            let fields = match rule.elements {
                Fixed(most) => most.to_string(),
                Listed => "1,000 and 2 for each client here".to_owned(),
            };
            let work = match rule.work {
                Own => "an answer".to_owned(),
                Everybody => "one push to those who may know".to_owned(),
                People(ALL) => "a push to each person named, and of each to others".to_owned(),
                People(most) => format!("the same, of {most} people"),
                Delegated(most) => format!("one task of the server, of {most} things"),
                Media(most) => format!("{most} orders to the media plane"),
            };
            let row = format!(
                "| {} {name} | {} | {} KiB | {fields} | {work} |\n",
                rule.number,
                rule.rate.word(),
                rule.frame_bytes / 1024,
            );
            table.push_str(&row);
        }
        table
    }
}
