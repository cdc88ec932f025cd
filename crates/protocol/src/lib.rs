//! Types shared by server and clients: ids, presets, meeting settings and signalling messages.
//!
//! Pure data types: nothing here uses a clock, randomness or sockets.
//!
//! - [`ids`]: typed ids of accounts, apps, meetings, participants, presets and tokens.
//! - [`preset`]: a participant's permissions and the look of the call; [`preset::stock`] has the
//!   seven presets of a new app.
//! - [`meeting`]: all settings of a meeting except its title and status.
//! - [`merge_patch()`]: JSON Merge Patch (RFC 7396), used for every PATCH body.
//! - [`strict`]: strict JSON deserialization.
//! - [`signal`]: the WebSocket messages, generated from `proto/`, and their event numbers.
//! - [`Source`]: microphone, camera, screen and screen audio.
//! - [`secret`]: strings that are never logged.
//! - [`urls`]: validation of URLs.
//!
//! Input is checked in two steps. serde checks the types and fills in the defaults documented on
//! each type. [`garde::Validate`] then checks the limits and reports the path of each violation.
//! [`schemars::JsonSchema`] describes both.

pub mod ids;
pub mod meeting;
mod merge_patch;
mod nullable;
pub mod preset;
pub mod secret;
pub mod signal;
mod source;
pub mod strict;
pub mod urls;

pub use ids::{
    AccountId, AppId, MeetingId, ParseIdError, ParticipantId, PeerId, PresetId, ProducerId,
    SessionId, TokenId,
};
pub use meeting::{MeetingSettings, MeetingStatus};
pub use merge_patch::merge_patch;
pub use preset::PresetBody;
pub use secret::Secret;
pub use source::Source;
