//! Participants and their permissions.

use parlor_live::PeerProfile;
use parlor_protocol::ids::{ParticipantId, PeerId};
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use parlor_protocol::signal::socket::preset::{
    ChatPermissionUpdate, ConnectedMeetingPermissionUpdate, PluginsPermissionsUpdate,
    PollsPermissionUpdate, PresetUpdates, PrivateChatPermission, PublicChatPermission,
};
use uuid::Uuid;

/// A boolean permission: its place in a preset, and in an update during the call.
#[derive(Clone, Copy)]
pub(crate) struct Permission {
    pub(crate) name: &'static str,
    pub(crate) set: fn(&mut Permissions, bool),
    /// `None` if it cannot be changed during the call.
    pub(crate) patch: Option<fn(&mut PresetUpdates, bool)>,
}

macro_rules! permissions {
    ($($name:literal: $($field:ident).+ $(, $patch:expr)?;)*) => {
        /// Every permission that the room checks.
        pub(crate) const PERMISSIONS: &[Permission] = &[$(Permission {
            name: $name,
            set: |permissions, on| permissions.$($field).+ = on,
            patch: permissions!(@patch $($patch)?),
        }),*];
    };
    (@patch) => { None };
    (@patch $patch:expr) => { Some($patch) };
}

fn public(patch: &mut PresetUpdates) -> &mut PublicChatPermission {
    let chat: &mut ChatPermissionUpdate = patch.chat.get_or_insert_default();
    chat.public.get_or_insert_default()
}

fn private(patch: &mut PresetUpdates) -> &mut PrivateChatPermission {
    let chat: &mut ChatPermissionUpdate = patch.chat.get_or_insert_default();
    chat.private.get_or_insert_default()
}

fn polls(patch: &mut PresetUpdates) -> &mut PollsPermissionUpdate {
    patch.polls.get_or_insert_default()
}

fn plugins(patch: &mut PresetUpdates) -> &mut PluginsPermissionsUpdate {
    patch.plugins.get_or_insert_default()
}

fn rooms(patch: &mut PresetUpdates) -> &mut ConnectedMeetingPermissionUpdate {
    patch.connected_meetings.get_or_insert_default()
}

permissions! {
    "chat.public.can_send": chat.public.can_send, |patch, on| public(patch).can_send = Some(on);
    "chat.public.text": chat.public.text, |patch, on| public(patch).text = Some(on);
    "chat.public.files": chat.public.files, |patch, on| public(patch).files = Some(on);
    "chat.private.can_send": chat.private.can_send, |patch, on| private(patch).can_send = Some(on);
    "chat.private.can_receive": chat.private.can_receive, |patch, on| private(patch).can_receive = Some(on);
    "chat.private.text": chat.private.text, |patch, on| private(patch).text = Some(on);
    "chat.private.files": chat.private.files, |patch, on| private(patch).files = Some(on);
    "polls.can_create": polls.can_create, |patch, on| polls(patch).can_create = Some(on);
    "polls.can_vote": polls.can_vote, |patch, on| polls(patch).can_vote = Some(on);
    "polls.can_view": polls.can_view, |patch, on| polls(patch).can_view = Some(on);
    "plugins.can_start": plugins.can_start, |patch, on| plugins(patch).can_start = Some(on);
    "plugins.can_close": plugins.can_close, |patch, on| plugins(patch).can_close = Some(on);
    "accept_waiting_requests": accept_waiting_requests, |patch, on| patch.accept_waiting_requests = Some(on);
    "can_accept_production_requests": can_accept_production_requests, |patch, on| patch.can_accept_production_requests = Some(on);
    "accept_stage_requests": accept_stage_requests;
    "can_change_participant_permissions": can_change_participant_permissions, |patch, on| patch.can_change_participant_permissions = Some(on);
    "can_edit_display_name": can_edit_display_name, |patch, on| patch.can_edit_display_name = Some(on);
    "can_spotlight": can_spotlight, |patch, on| patch.can_spotlight = Some(on);
    "kick_participant": kick_participant, |patch, on| patch.kick_participant = Some(on);
    "pin_participant": pin_participant, |patch, on| patch.pin_participant = Some(on);
    "disable_participant_audio": disable_participant_audio, |patch, on| patch.disable_participant_audio = Some(on);
    "disable_participant_video": disable_participant_video, |patch, on| patch.disable_participant_video = Some(on);
    "disable_participant_screensharing": disable_participant_screensharing, |patch, on| patch.disable_participant_screensharing = Some(on);
    "can_alter_connected_meetings": connected_meetings.can_alter_connected_meetings, |patch, on| rooms(patch).can_alter_connected_meetings = Some(on);
    "can_switch_connected_meetings": connected_meetings.can_switch_connected_meetings, |patch, on| rooms(patch).can_switch_connected_meetings = Some(on);
    "can_switch_to_parent_meeting": connected_meetings.can_switch_to_parent_meeting, |patch, on| rooms(patch).can_switch_to_parent_meeting = Some(on);
    "hidden_participant": hidden_participant, |patch, on| patch.hidden_participant = Some(on);
}

pub(crate) fn permission(name: &str) -> Permission {
    let found = PERMISSIONS
        .iter()
        .find(|permission| permission.name == name);
    *found.unwrap_or_else(|| panic!("there is no permission {name}"))
}

/// All permissions, without being hidden.
pub(crate) fn all() -> Permissions {
    let mut permissions = Permissions::default();
    for permission in PERMISSIONS {
        (permission.set)(&mut permissions, true);
    }
    permissions.hidden_participant = false;
    permissions.stage_access = Some(MediaPermission::Allowed);
    permissions
}

/// The `n`th participant's id.
pub(crate) fn user(n: u8) -> ParticipantId {
    ParticipantId::from_uuid(Uuid::from_u128(0xAAAA_0000 + u128::from(n)))
}

/// The peer id of the `client`th client of the `n`th participant.
pub(crate) fn peer(n: u8, client: u8) -> PeerId {
    PeerId::from_uuid(Uuid::from_u128(
        0xBBBB_0000 + u128::from(n) * 256 + u128::from(client),
    ))
}

/// The first client of the `n`th participant.
pub(crate) fn participant_with(n: u8, view: ViewType, permissions: Permissions) -> PeerProfile {
    PeerProfile {
        peer: peer(n, 0),
        participant: user(n),
        custom_id: format!("ext-{n}"),
        name: Some(format!("Person {n}")),
        picture: None,
        preset: "0197f3a0-0000-7000-8000-0000000000ff"
            .parse()
            .expect("an id"),
        preset_name: "some_preset".to_owned(),
        view,
        permissions,
        token_expires: 1_000 + i64::from(n),
    }
}

/// A group call participant with every permission.
pub(crate) fn host(n: u8) -> PeerProfile {
    participant_with(n, ViewType::GroupCall, all())
}

/// A group call participant with default permissions.
pub(crate) fn participant(n: u8) -> PeerProfile {
    participant_with(n, ViewType::GroupCall, Permissions::default())
}

/// A participant who has to wait to be admitted.
pub(crate) fn waiting(n: u8, kind: WaitingRoomType) -> PeerProfile {
    let mut profile = participant(n);
    profile.permissions.waiting_room_type = kind;
    profile
}

/// A viewer of a webinar or a livestream who may request to join the stage.
pub(crate) fn viewer(n: u8, view: ViewType) -> PeerProfile {
    let mut profile = participant_with(n, view, Permissions::default());
    profile.permissions.stage_access = Some(MediaPermission::CanRequest);
    profile
}
