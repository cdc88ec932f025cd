//! The random setup of a simulation run: the kinds of call and the permissions.

use parlor_live::PeerProfile;
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use proptest::prelude::*;

use super::PARTICIPANTS;
use crate::participants::{PERMISSIONS, participant_with};

/// The random setup of a run. Participants are indexes into the vectors.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// 0 for group calls, 1 for webinars, 2 for livestreams, 3 for a random mix.
    pub(super) view: u8,
    pub(super) persist_chat: bool,
    /// Whether all peers join before the first action.
    pub(super) started: bool,
    /// Random bits that determine each participant's permissions.
    pub(super) permission_bits: Vec<u32>,
    /// Random bits that determine each participant's view type, visibility and stage access.
    pub(super) role_bits: Vec<u8>,
}

pub(super) fn profile_of(scenario: &Scenario, n: u8) -> PeerProfile {
    let (rights, kind) = (
        scenario.permission_bits[usize::from(n)],
        scenario.role_bits[usize::from(n)],
    );
    let view = match (scenario.view, kind & 3) {
        (0, _) | (3, 0) => ViewType::GroupCall,
        (1, _) | (3, 1) => ViewType::Webinar,
        _ => ViewType::Livestream,
    };
    let mut permissions = Permissions::default();
    for (index, permission) in PERMISSIONS.iter().enumerate() {
        // The first participant is the host.
        (permission.set)(&mut permissions, n == 0 || rights >> index & 1 == 1);
    }
    permissions.hidden_participant = n > 0 && kind & 0x1C == 0x1C;
    let media = |bits: u32| match bits & 3 {
        0 | 1 => MediaPermission::Allowed,
        2 => MediaPermission::CanRequest,
        _ => MediaPermission::NotAllowed,
    };
    if n > 0 {
        permissions.media.audio = media(rights >> 3).into();
        permissions.media.video = media(rights >> 5).into();
        permissions.media.screenshare = media(rights >> 7).into();
    }
    // Most participants may send text messages.
    permissions.chat.public.can_send |= kind & 3 > 0;
    permissions.chat.public.text |= kind & 3 > 0;
    permissions.stage_access = Some(match (n, kind >> 5 & 3) {
        (0, _) | (_, 0) => MediaPermission::Allowed,
        (_, 1 | 2) => MediaPermission::CanRequest,
        _ => MediaPermission::NotAllowed,
    });
    if n > 0 {
        permissions.waiting_room_type = match rights >> 28 & 3 {
            0 | 1 => WaitingRoomType::Skip,
            2 => WaitingRoomType::OnPrivilegedUserEntry,
            _ => WaitingRoomType::SkipOnAccept,
        };
        permissions.accept_waiting_requests &=
            permissions.waiting_room_type != WaitingRoomType::SkipOnAccept;
    }
    participant_with(n, view, permissions)
}

pub(super) fn scenarios() -> impl Strategy<Value = Scenario> {
    let count = usize::from(PARTICIPANTS);
    let permission_bits = proptest::collection::vec(any::<u32>(), count);
    let role_bits = proptest::collection::vec(any::<u8>(), count);
    let flags = (0..4u8, any::<bool>(), any::<bool>());
    (flags, permission_bits, role_bits).prop_map(
        |((view, persist_chat, started), permission_bits, role_bits)| Scenario {
            view,
            persist_chat,
            started,
            permission_bits,
            role_bits,
        },
    )
}
