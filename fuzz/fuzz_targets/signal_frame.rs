//! Binary WebSocket frames: the envelope and the payload of its event.
#![no_main]

use parlor_protocol::signal::media::{self, edge};
use parlor_protocol::signal::socket::{chat, livestreaming, plugin, polls, preset, room};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(envelope) = round_trip::<Envelope>(bytes) else {
        return;
    };
    let payload = envelope.payload.unwrap_or_default();
    let _ = event::name(envelope.event);
    match envelope.event {
        event::GET_PEER_INFO => check::<room::GetPeerInfoRequest>(&payload),
        event::GET_ROOM_PEERS_INFO => check::<room::RoomPeersInfoRequest>(&payload),
        event::JOIN_ROOM => check::<room::JoinRoomRequest>(&payload),
        event::GRANT_STAGE_ACCESS => check::<livestreaming::GrantStageAccessRequest>(&payload),
        event::DENY_STAGE_ACCESS => check::<livestreaming::DenyStageAccessRequest>(&payload),
        event::LEAVE_STAGE => check::<livestreaming::LeaveStageRequest>(&payload),
        event::CREATE_CONNECTED_ROOMS => check::<room::CreateConnectedRoomsRequest>(&payload),
        event::DELETE_CONNECTED_ROOMS => check::<room::DisableConnectedRoomsRequest>(&payload),
        event::MOVE_PEERS => check::<room::MovePeersBetweenRoomsRequest>(&payload),
        event::BROADCAST_MESSAGE | event::BROADCAST_TO_ENTITY => {
            check::<room::BroadcastMessage>(&payload);
        }
        event::KICK => check::<room::RemoveParticipantsRequest>(&payload),
        event::KICK_ALL => check::<edge::KickAllPeersRequest>(&payload),
        event::ACCEPT_WAITING_ROOM_REQUESTS => check::<room::AcceptWaitingRoomRequests>(&payload),
        event::DENY_WAITING_ROOM_REQUESTS => check::<room::DenyWaitingRoomRequests>(&payload),
        event::SEND_MESSAGE_TO_ROOM => check::<chat::SendChatMessageToRoomRequest>(&payload),
        event::SEND_MESSAGE_TO_PEERS => check::<chat::SendChatMessageToPeersRequest>(&payload),
        event::EDIT_MESSAGE => check::<chat::EditChatMessageRequest>(&payload),
        event::DELETE_MESSAGE => check::<chat::DeleteChatMessageRequest>(&payload),
        event::GET_PAGINATED_MESSAGES => {
            check::<chat::GetPaginatedChatMessageRoomRequest>(&payload);
        }
        event::SEARCH_CHANNEL_MESSAGES => check::<chat::SearchChatMessagesRequest>(&payload),
        event::PIN_MESSAGE => check::<chat::PinChatMessageRequest>(&payload),
        event::STORE_INSERT_KEYS => check::<plugin::PluginStoreInsertKeysRequest>(&payload),
        event::STORE_GET_KEYS => check::<plugin::PluginStoreGetKeysRequest>(&payload),
        event::STORE_DELETE_KEYS => check::<plugin::PluginStoreDeleteKeysRequest>(&payload),
        event::CREATE_POLL => check::<polls::NewPollRequest>(&payload),
        event::VOTE_POLL => check::<polls::VotePollRequest>(&payload),
        event::GET_USER_PRESETS => check::<preset::ReadPeersPresetRequest>(&payload),
        event::UPDATE_USER_PRESET => check::<preset::UpdatePeersPresetRequest>(&payload),
        event::CREATE_TRANSPORT => check::<media::CreateTransportRequest>(&payload),
        event::PRODUCE => check::<edge::ProducerCreateRequest>(&payload),
        event::CONSUME => check::<edge::ConsumePeersRequest>(&payload),
        event::MEDIA_JOIN => check::<edge::PeerJoinRequest>(&payload),
        event::PIN_PEER => check::<edge::GlobalPeerPinningRequest>(&payload),
        event::CHANGE_DISPLAY_NAME => check::<edge::PeerDisplayNameEditRequest>(&payload),
        event::HOST_CONTROL_PEER => check::<edge::HostMediaControlForPeerRequest>(&payload),
        event::HOST_CONTROL_ALL => check::<edge::HostMediaControlForAllPeerRequest>(&payload),
        event::RENEGOTIATE => check::<media::RenegotiateRequest>(&payload),
        _ => {}
    }
});

fn check<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let _ = round_trip::<M>(bytes);
}

/// Decodes a message and checks that it survives a round trip.
fn round_trip<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let first = M::decode(bytes).ok()?;
    let written = first.encode_to_vec();
    let second = M::decode(written.as_slice()).expect("an encoded message decodes");
    // Compares bytes, because NaN is not equal to itself.
    assert_eq!(written, second.encode_to_vec());
    Some(first)
}
