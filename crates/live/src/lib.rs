//! The room of a meeting as a state machine without I/O: roster, waiting room, stage, chat, polls,
//! stores, media signalling and permissions.
//!
//! A [`Room`] consumes [`Input`]s (a socket opened, a frame, a command of the REST API, a timer)
//! and produces [`Output`]s (frames to send, records to persist, orders to the media plane). It has
//! no socket, no clock and no source of randomness: each input comes with an [`InputContext`],
//! which holds the time and an id generator, so the same inputs produce the same outputs. Records
//! carry wall-clock time; limits, timers and durations use [`Monotonic`] time.
//!
//! The room authorizes every request against the current permissions of the participant that the
//! peer's token names. Claims that clients make about themselves are not trusted.
//!
//! The driver of a room must persist [`Output::Persist`] records before it sends the frames that
//! follow them, so that no client learns of an event that a crash can undo.
//!
//! | module | contents |
//! |---|---|
//! | `room` | dispatching inputs, restoring, the session's life cycle, timers, long-running work |
//! | `peer`, `roster` | peers; joining, leaving and reconnecting; visibility between peers |
//! | `waiting_room`, `stage`, `moderation`, `permissions` | admission, stage access, removal and muting, permission updates |
//! | `chat`, `polls`, `stores`, `broadcast` | shared state and messages |
//! | `media` | authorization of publishing and subscribing, and the active speakers; the media plane handles the packets |
//! | `breakout` | checks of breakout-room requests, which the server performs |
//! | `events` | the table of events that a client may send, with handlers and limits |
//! | `input`, `output` | what a room receives, and what it asks its driver to do |
//! | `frame`, `limits` | encoding and decoding frames; all limits |

mod breakout;
mod broadcast;
mod chat;
mod events;
mod frame;
mod input;
mod limits;
mod media;
mod moderation;
mod output;
mod peer;
mod permissions;
mod polls;
mod room;
mod roster;
mod stage;
mod stores;
mod waiting_room;

pub use chat::{ChatFull, ChatMessage, PayloadType};
pub use frame::{error_frame, frame};
pub use input::{
    Command, ConnectionId, Input, MediaAnswer, Meeting, NewPoll, ParticipantRef, PeerProfile,
    PersistedState, Request, Ticket,
};
pub use limits::{Limits, Rate};
pub use output::{
    Answer, CloseReason, DelegatedRequest, EntryKind, MediaOrder, OrderId, Output, Pace,
    PeerRecord, PeerSnapshot, Record, Refusal, SessionRecord, Subscription,
};
pub use parlor_protocol::Source;
pub use room::{InputContext, Monotonic, Room};
