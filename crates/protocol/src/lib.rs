//! The words both sides use: ids, and the shapes of a preset and of a meeting's settings.
//!
//! Pure types. Nothing here reads a clock, draws a random number or touches a socket.
//!
//! - [`ids`]: the ids of accounts, apps, meetings, participants, presets and tokens.
//! - [`preset`]: what a participant may do and how the call looks; [`preset::stock`]
//!   holds the seven presets of a new app.
//! - [`meeting`]: everything a caller can set on a meeting but its title and status.
//! - [`merge_patch()`]: RFC 7396, the meaning of every PATCH body.
//! - [`strict`]: reads JSON without the liberties serde takes.
//! - [`signal`]: the messages on the socket, generated from `proto/`, and their event numbers.
//! - [`secret`]: a text that no log shows.
//! - [`address`]: which URLs are taken.
//!
//! Reading is in two steps. serde answers whether the JSON has the right types, and
//! fills what is absent with the defaults that each type documents. Then
//! [`garde::Validate`] answers whether the values are within their limits, and names
//! the path of each that is not. [`schemars::JsonSchema`] states both.

pub mod address;
pub mod ids;
pub mod meeting;
mod merge_patch;
mod nullable;
pub mod preset;
pub mod secret;
pub mod signal;
pub mod strict;

pub use ids::{
    AccountId, AppId, MeetingId, ParseIdError, ParticipantId, PeerId, PresetId, ProducerId,
    SessionId, TokenId,
};
pub use meeting::{MeetingSettings, MeetingStatus};
pub use merge_patch::merge_patch;
pub use preset::PresetBody;
pub use secret::Secret;
