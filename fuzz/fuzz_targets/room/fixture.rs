//! Builders for rooms, participants and frames.

use bytes::Bytes;
use parlor_live::{InputContext, Limits, Meeting, Monotonic, PeerProfile, PersistedState, Room};
use parlor_protocol::ids::{MeetingId, ParticipantId, PeerId, PresetId};
use parlor_protocol::preset::{Permissions, ViewType};
use parlor_protocol::signal::Envelope;
use prost::Message;
use uuid::Uuid;

/// Time at which the room is opened first, in Unix milliseconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) fn next_uuid(next_id: &mut u128) -> Uuid {
    *next_id += 1;
    Uuid::from_u128(*next_id)
}

/// Opens the room of a meeting from its records.
pub(crate) fn open(
    meeting: Meeting,
    limits: Limits,
    persisted: PersistedState,
    now_ms: i64,
    next_id: &mut u128,
) -> Room {
    let mut context = InputContext {
        now_ms,
        monotonic: Monotonic::from_ms(now_ms),
        ids: &mut |_| next_uuid(next_id),
    };
    Room::open(meeting, limits, persisted, &mut context)
}

pub(crate) fn meeting() -> Meeting {
    Meeting {
        id: MeetingId::from_uuid(Uuid::from_u128(1 << 100)),
        title: "T".to_owned(),
        active: true,
        persist_chat: false,
        keep_alive_ms: 60_000,
        parent: None,
        has_rooms: false,
        version: 0,
    }
}

pub(crate) fn user(person: u8) -> ParticipantId {
    ParticipantId::from_uuid(Uuid::from_u128((1 << 101) | u128::from(person)))
}

pub(crate) fn client(person: u8, number: u8) -> PeerId {
    let id = (1 << 102) | (u128::from(person) << 8) | u128::from(number);
    PeerId::from_uuid(Uuid::from_u128(id))
}

pub(crate) fn profile(
    person: u8,
    number: u8,
    view: ViewType,
    permissions: Permissions,
) -> PeerProfile {
    PeerProfile {
        peer: client(person, number),
        participant: user(person),
        custom_id: format!("c{person}"),
        name: Some(format!("P{person}")),
        picture: None,
        preset: PresetId::from_uuid(Uuid::from_u128(9)),
        preset_name: "p".to_owned(),
        view,
        permissions,
        token_expires: 0,
    }
}

/// Encodes a request frame.
pub(crate) fn frame(event: u32, payload: Bytes) -> Bytes {
    let envelope = Envelope {
        event,
        id: Some("id".to_owned()),
        payload: Some(payload),
        metadata: None,
    };
    envelope.encode_to_vec().into()
}
