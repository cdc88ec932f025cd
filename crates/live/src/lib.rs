//! What happens while people are in a meeting: who is there, who waits, who is on the stage, what
//! they say, ask and share, and what each of them may do.
//!
//! A [`Room`] is a state machine. [`Input`]s go in (a socket opened, a frame, a command of the REST
//! API, time passing), [`Output`]s come out (frames to send, records to keep, orders to the media
//! plane). It has no socket, no clock and no randomness of its own: the time and the source of ids
//! come with each input ([`At`]), so that the same inputs give the same outputs. Records have the time
//! of the clock; limits, timers and durations go by a time that nobody sets ([`Monotonic`]).
//!
//! What a peer may do is decided here, by the permissions of the participant behind its token as
//! they stand at that moment. What clients say about themselves is not believed.
//!
//! Whoever drives a room must keep its [`Output::Keep`] records before it sends the frames that
//! come after them: what somebody was told has happened is then never lost.
//!
//! | file | what happens there |
//! |---|---|
//! | `room` | the way of an input to its handler; restoring; the session's life; what happens as time passes |
//! | `peer`, `roster` | who is there; join, leave, reconnect; who sees whom |
//! | `waiting_room`, `stage`, `moderation`, `permissions` | who may come in, be seen and stay, and who decides |
//! | `chat`, `polls`, `stores`, `broadcast` | what people share |
//! | `media` | who may publish, who may receive whom, who speaks; the bytes are the media plane's |
//! | `breakout` | what the room only checks and passes on |
//! | `events` | every event that a client may send: its handler, and what it may cost |
//! | `frame`, `limits` | frames in and out; how much of everything |

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
    Command, ConnectionId, Input, MediaAnswer, Meeting, NewPoll, Newcomer, Past, Person, Request,
    Ticket,
};
pub use limits::{Limits, Rate};
pub use output::{
    Answer, Closing, Delegated, EntryKind, MediaOrder, OrderId, Output, Pace, PeerRecord, Present,
    Record, Refusal, SessionRecord, Source, Wanted,
};
pub use room::{At, Monotonic, Room};
