//! What kind of call a run of the simulation is, and who may do what in it.

use parlor_live::Newcomer;
use parlor_protocol::preset::{MediaPermission, Permissions, ViewType, WaitingRoomType};
use proptest::prelude::*;

use super::PEOPLE;
use crate::people::{RIGHTS, somebody};

/// What kind of call, and who may do what.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) view: u8,
    pub(super) persist_chat: bool,
    /// The call has begun before anything else happens.
    pub(super) begun: bool,
    pub(super) rights: Vec<u32>,
    pub(super) kinds: Vec<u8>,
}

pub(super) fn newcomer(scene: &Scene, n: u8) -> Newcomer {
    let (rights, kind) = (scene.rights[usize::from(n)], scene.kinds[usize::from(n)]);
    let view = match (scene.view, kind & 3) {
        (0, _) | (3, 0) => ViewType::GroupCall,
        (1, _) | (3, 1) => ViewType::Webinar,
        _ => ViewType::Livestream,
    };
    let mut may = Permissions::default();
    for (at, right) in RIGHTS.iter().enumerate() {
        // The first person is the host.
        (right.set)(&mut may, n == 0 || rights >> at & 1 == 1);
    }
    may.hidden_participant = n > 0 && kind & 0x1C == 0x1C;
    let media = |bits: u32| match bits & 3 {
        0 | 1 => MediaPermission::Allowed,
        2 => MediaPermission::CanRequest,
        _ => MediaPermission::NotAllowed,
    };
    if n > 0 {
        may.media.audio = media(rights >> 3).into();
        may.media.video = media(rights >> 5).into();
        may.media.screenshare = media(rights >> 7).into();
    }
    // Most say something.
    may.chat.public.can_send |= kind & 3 > 0;
    may.chat.public.text |= kind & 3 > 0;
    may.stage_access = Some(match (n, kind >> 5 & 3) {
        (0, _) | (_, 0) => MediaPermission::Allowed,
        (_, 1 | 2) => MediaPermission::CanRequest,
        _ => MediaPermission::NotAllowed,
    });
    if n > 0 {
        may.waiting_room_type = match rights >> 28 & 3 {
            0 | 1 => WaitingRoomType::Skip,
            2 => WaitingRoomType::OnPrivilegedUserEntry,
            _ => WaitingRoomType::SkipOnAccept,
        };
        may.accept_waiting_requests &= may.waiting_room_type != WaitingRoomType::SkipOnAccept;
    }
    somebody(n, view, may)
}

pub(super) fn scenes() -> impl Strategy<Value = Scene> {
    let people = usize::from(PEOPLE);
    let rights = proptest::collection::vec(any::<u32>(), people);
    let kinds = proptest::collection::vec(any::<u8>(), people);
    let flags = (0..4u8, any::<bool>(), any::<bool>());
    (flags, rights, kinds).prop_map(|((view, persist_chat, begun), rights, kinds)| Scene {
        view,
        persist_chat,
        begun,
        rights,
        kinds,
    })
}
