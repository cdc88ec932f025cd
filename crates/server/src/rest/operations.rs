//! Every operation of `RealtimeKit`'s REST API, with the numbers of docs/spec/rest.md 1.
//! Operations without an [`Endpoint`](crate::http::Endpoint) return 501. The table in the README is
//! generated from this list.

use std::collections::HashSet;

use http::Method;

use crate::http::endpoint::{Scope, Surface, mounts};

/// Where an operation is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    /// Under the account.
    Account,
    /// Under the app, on surface A only.
    App,
    /// Under the app, on both surfaces.
    Both,
    /// At the root of the host.
    Host,
    /// On surface B only, outside of any app.
    V2,
}

/// An operation of the REST API.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The number of the operation in the tables of docs/spec/rest.md 1.
    pub number: u8,
    method: &'static str,
    mount: Mount,
    /// The path relative to the account, the app or the host.
    pub path: &'static str,
    /// The operation's name, which is its `operationId`.
    pub name: &'static str,
    /// The resource group, which is the operation's tag.
    pub tag: &'static str,
}

impl Operation {
    /// The HTTP method.
    pub fn method(&self) -> Method {
        self.method.parse().expect("the table has common methods")
    }

    /// The surfaces and paths where the operation is mounted.
    pub fn mounts(&self) -> Vec<(Surface, String)> {
        match self.mount {
            Mount::Account => mounts(Scope::Account, self.path),
            Mount::App => mounts(Scope::App { on_v2: false }, self.path),
            Mount::Both => mounts(Scope::App { on_v2: true }, self.path),
            Mount::Host => vec![(Surface::A, self.path.to_owned())],
            Mount::V2 => vec![(Surface::B, format!("/v2{}", self.path))],
        }
    }

    /// Whether the operation is mounted on surface B.
    pub fn is_on_v2(&self) -> bool {
        matches!(self.mount, Mount::Both | Mount::V2)
    }
}

const fn operation(
    number: u8,
    method: &'static str,
    mount: Mount,
    path: &'static str,
    name: &'static str,
    tag: &'static str,
) -> Operation {
    Operation {
        number,
        method,
        mount,
        path,
        name,
        tag,
    }
}

/// All operations, in the order of their numbers.
#[rustfmt::skip]
pub static OPERATIONS: [Operation; 70] = [
    operation(1, "GET", Mount::Account, "/apps", "listApps", "Apps"),
    operation(2, "POST", Mount::Account, "/apps", "createApp", "Apps"),
    operation(3, "GET", Mount::Account, "/apps/{app_id}", "getApp", "Apps"),
    operation(4, "GET", Mount::Both, "/meetings", "listMeetings", "Meetings"),
    operation(5, "POST", Mount::Both, "/meetings", "createMeeting", "Meetings"),
    operation(6, "GET", Mount::Both, "/meetings/{meeting_id}", "getMeeting", "Meetings"),
    operation(7, "PATCH", Mount::Both, "/meetings/{meeting_id}", "updateMeeting", "Meetings"),
    operation(8, "PUT", Mount::Both, "/meetings/{meeting_id}", "replaceMeeting", "Meetings"),
    operation(9, "GET", Mount::Both, "/meetings/{meeting_id}/participants", "listParticipants", "Participants"),
    operation(10, "POST", Mount::Both, "/meetings/{meeting_id}/participants", "addParticipant", "Participants"),
    operation(11, "GET", Mount::Both, "/meetings/{meeting_id}/participants/{participant_id}", "getParticipant", "Participants"),
    operation(12, "PATCH", Mount::Both, "/meetings/{meeting_id}/participants/{participant_id}", "updateParticipant", "Participants"),
    operation(13, "PUT", Mount::App, "/meetings/{meeting_id}/participants/{participant_id}", "replaceParticipant", "Participants"),
    operation(14, "DELETE", Mount::Both, "/meetings/{meeting_id}/participants/{participant_id}", "deleteParticipant", "Participants"),
    operation(15, "POST", Mount::Both, "/meetings/{meeting_id}/participants/{participant_id}/token", "refreshParticipantToken", "Participants"),
    operation(16, "GET", Mount::Both, "/presets", "listPresets", "Presets"),
    operation(17, "POST", Mount::Both, "/presets", "createPreset", "Presets"),
    operation(18, "GET", Mount::Both, "/presets/{preset_id}", "getPreset", "Presets"),
    operation(19, "PATCH", Mount::Both, "/presets/{preset_id}", "updatePreset", "Presets"),
    operation(20, "PUT", Mount::App, "/presets/{preset_id}", "replacePreset", "Presets"),
    operation(21, "DELETE", Mount::Both, "/presets/{preset_id}", "deletePreset", "Presets"),
    operation(22, "GET", Mount::Both, "/sessions", "listSessions", "Sessions"),
    operation(23, "GET", Mount::Both, "/sessions/{session_id}", "getSession", "Sessions"),
    operation(24, "GET", Mount::Both, "/sessions/{session_id}/participants", "listSessionParticipants", "Sessions"),
    operation(25, "GET", Mount::Both, "/sessions/{session_id}/participants/{participant_id}", "getSessionParticipant", "Sessions"),
    operation(26, "GET", Mount::Both, "/sessions/peer-report/{peer_id}", "getPeerReport", "Sessions"),
    operation(27, "GET", Mount::Both, "/sessions/{session_id}/chat", "getSessionChat", "Sessions"),
    operation(28, "GET", Mount::Both, "/sessions/{session_id}/transcript", "getSessionTranscript", "Sessions"),
    operation(29, "GET", Mount::Both, "/sessions/{session_id}/summary", "getSessionSummary", "Sessions"),
    operation(30, "POST", Mount::Both, "/sessions/{session_id}/summary", "generateSessionSummary", "Sessions"),
    operation(31, "GET", Mount::Both, "/sessions/{session_id}/livestream-sessions", "listSessionLivestreams", "Sessions"),
    operation(32, "GET", Mount::Both, "/recordings", "listRecordings", "Recordings"),
    operation(33, "POST", Mount::Both, "/recordings", "startRecording", "Recordings"),
    operation(34, "GET", Mount::Both, "/recordings/{recording_id}", "getRecording", "Recordings"),
    operation(35, "PUT", Mount::Both, "/recordings/{recording_id}", "updateRecording", "Recordings"),
    operation(36, "GET", Mount::Both, "/recordings/active-recording/{meeting_id}", "getActiveRecording", "Recordings"),
    operation(37, "POST", Mount::Both, "/recordings/track", "startTrackRecording", "Recordings"),
    operation(38, "GET", Mount::Both, "/webhooks", "listWebhooks", "Webhooks"),
    operation(39, "POST", Mount::Both, "/webhooks", "createWebhook", "Webhooks"),
    operation(40, "GET", Mount::Both, "/webhooks/{webhook_id}", "getWebhook", "Webhooks"),
    operation(41, "PUT", Mount::Both, "/webhooks/{webhook_id}", "replaceWebhook", "Webhooks"),
    operation(42, "PATCH", Mount::Both, "/webhooks/{webhook_id}", "updateWebhook", "Webhooks"),
    operation(43, "DELETE", Mount::Both, "/webhooks/{webhook_id}", "deleteWebhook", "Webhooks"),
    operation(44, "GET", Mount::Both, "/webhooks/all", "listWebhookEvents", "Webhooks"),
    operation(45, "GET", Mount::Host, "/.well-known/webhooks.json", "getWebhookKey", "Webhooks"),
    operation(46, "GET", Mount::Both, "/meetings/{meeting_id}/active-session", "getActiveSession", "Active session"),
    operation(47, "POST", Mount::Both, "/meetings/{meeting_id}/active-session/kick", "kickParticipants", "Active session"),
    operation(48, "POST", Mount::Both, "/meetings/{meeting_id}/active-session/kick-all", "kickAllParticipants", "Active session"),
    operation(49, "POST", Mount::Both, "/meetings/{meeting_id}/active-session/mute", "muteParticipants", "Active session"),
    operation(50, "POST", Mount::Both, "/meetings/{meeting_id}/active-session/mute-all", "muteAllParticipants", "Active session"),
    operation(51, "POST", Mount::Both, "/meetings/{meeting_id}/active-session/poll", "createPoll", "Active session"),
    operation(52, "GET", Mount::Both, "/livestreams", "listLivestreams", "Livestreams"),
    operation(53, "POST", Mount::Both, "/livestreams", "createLivestream", "Livestreams"),
    operation(54, "GET", Mount::Both, "/livestreams/{livestream_id}", "getLivestream", "Livestreams"),
    operation(55, "GET", Mount::Both, "/livestreams/{livestream_id}/active-livestream-session", "getActiveLivestreamSession", "Livestreams"),
    operation(56, "GET", Mount::Both, "/livestreams/sessions/{livestream_session_id}", "getLivestreamSession", "Livestreams"),
    operation(57, "PUT", Mount::Both, "/livestreams/{livestream_id}/enable", "enableLivestream", "Livestreams"),
    operation(58, "PUT", Mount::Both, "/livestreams/{livestream_id}/disable", "disableLivestream", "Livestreams"),
    operation(59, "POST", Mount::Both, "/livestreams/{livestream_id}/reset-stream-key", "resetLivestreamKey", "Livestreams"),
    operation(60, "POST", Mount::Both, "/meetings/{meeting_id}/livestreams", "startMeetingLivestream", "Livestreams"),
    operation(61, "POST", Mount::Both, "/meetings/{meeting_id}/active-livestream/stop", "stopMeetingLivestream", "Livestreams"),
    operation(62, "GET", Mount::Both, "/meetings/{meeting_id}/active-livestream", "getMeetingActiveLivestream", "Livestreams"),
    operation(63, "GET", Mount::Both, "/meetings/{meeting_id}/livestream", "listMeetingLivestreams", "Livestreams"),
    operation(64, "GET", Mount::Both, "/analytics/daywise", "getDailyAnalytics", "Analytics"),
    operation(65, "GET", Mount::Both, "/analytics/livestreams/overall", "getLivestreamAnalytics", "Analytics"),
    operation(66, "GET", Mount::Both, "/analytics/livestreams/daywise", "getDailyLivestreamAnalytics", "Analytics"),
    operation(67, "GET", Mount::V2, "/orgs", "listOrganisations", "Organisations"),
    operation(68, "POST", Mount::V2, "/orgs", "createOrganisation", "Organisations"),
    operation(69, "GET", Mount::V2, "/orgs/{org_id}", "getOrganisation", "Organisations"),
    operation(70, "PATCH", Mount::V2, "/orgs/{org_id}", "updateOrganisation", "Organisations"),
];

/// The operations that are not implemented.
pub fn planned() -> Vec<&'static Operation> {
    let implemented: HashSet<_> = super::endpoints()
        .iter()
        .map(crate::http::Endpoint::id)
        .collect();
    OPERATIONS
        .iter()
        .filter(|operation| !implemented.contains(operation.name))
        .collect()
}
