//! A binary frame of the socket: the envelope, and the message that its event stands for.
#![no_main]

use parlor_protocol::signal::media::{self, edge};
use parlor_protocol::signal::socket::{chat, livestreaming, plugin, polls, preset, room};
use parlor_protocol::signal::{Envelope, event};
use prost::Message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(envelope) = read_twice::<Envelope>(bytes) else {
        return;
    };
    let payload = envelope.payload.unwrap_or_default();
    let _ = event::name(envelope.event);
    match envelope.event {
        event::GET_PEER_INFO => read::<room::GetPeerInfoRequest>(&payload),
        event::GET_ROOM_PEERS_INFO => read::<room::RoomPeersInfoRequest>(&payload),
        event::JOIN_ROOM => read::<room::JoinRoomRequest>(&payload),
        event::GRANT_STAGE_ACCESS => read::<livestreaming::GrantStageAccessRequest>(&payload),
        event::DENY_STAGE_ACCESS => read::<livestreaming::DenyStageAccessRequest>(&payload),
        event::LEAVE_STAGE => read::<livestreaming::LeaveStageRequest>(&payload),
        event::CREATE_CONNECTED_ROOMS => read::<room::CreateConnectedRoomsRequest>(&payload),
        event::DELETE_CONNECTED_ROOMS => read::<room::DisableConnectedRoomsRequest>(&payload),
        event::MOVE_PEERS => read::<room::MovePeersBetweenRoomsRequest>(&payload),
        event::BROADCAST_MESSAGE | event::BROADCAST_TO_ENTITY => {
            read::<room::BroadcastMessage>(&payload);
        }
        event::KICK => read::<room::RemoveParticipantsRequest>(&payload),
        event::KICK_ALL => read::<edge::KickAllPeersRequest>(&payload),
        event::ACCEPT_WAITING_ROOM_REQUESTS => read::<room::AcceptWaitingRoomRequests>(&payload),
        event::DENY_WAITING_ROOM_REQUESTS => read::<room::DenyWaitingRoomRequests>(&payload),
        event::SEND_MESSAGE_TO_ROOM => read::<chat::SendChatMessageToRoomRequest>(&payload),
        event::SEND_MESSAGE_TO_PEERS => read::<chat::SendChatMessageToPeersRequest>(&payload),
        event::EDIT_MESSAGE => read::<chat::EditChatMessageRequest>(&payload),
        event::DELETE_MESSAGE => read::<chat::DeleteChatMessageRequest>(&payload),
        event::GET_PAGINATED_MESSAGES => {
            read::<chat::GetPaginatedChatMessageRoomRequest>(&payload);
        }
        event::SEARCH_CHANNEL_MESSAGES => read::<chat::SearchChatMessagesRequest>(&payload),
        event::PIN_MESSAGE => read::<chat::PinChatMessageRequest>(&payload),
        event::STORE_INSERT_KEYS => read::<plugin::PluginStoreInsertKeysRequest>(&payload),
        event::STORE_GET_KEYS => read::<plugin::PluginStoreGetKeysRequest>(&payload),
        event::STORE_DELETE_KEYS => read::<plugin::PluginStoreDeleteKeysRequest>(&payload),
        event::CREATE_POLL => read::<polls::NewPollRequest>(&payload),
        event::VOTE_POLL => read::<polls::VotePollRequest>(&payload),
        event::GET_USER_PRESETS => read::<preset::ReadPeersPresetRequest>(&payload),
        event::UPDATE_USER_PRESET => read::<preset::UpdatePeersPresetRequest>(&payload),
        event::CREATE_TRANSPORT => read::<media::CreateTransportRequest>(&payload),
        event::PRODUCE => read::<edge::ProducerCreateRequest>(&payload),
        event::CONSUME => read::<edge::ConsumePeersRequest>(&payload),
        event::MEDIA_JOIN => read::<edge::PeerJoinRequest>(&payload),
        event::PIN_PEER => read::<edge::GlobalPeerPinningRequest>(&payload),
        event::CHANGE_DISPLAY_NAME => read::<edge::PeerDisplayNameEditRequest>(&payload),
        event::HOST_CONTROL_PEER => read::<edge::HostMediaControlForPeerRequest>(&payload),
        event::HOST_CONTROL_ALL => read::<edge::HostMediaControlForAllPeerRequest>(&payload),
        event::RENEGOTIATE => read::<media::RenegotiateRequest>(&payload),
        _ => {}
    }
});

fn read<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let _ = read_twice::<M>(bytes);
}

/// What is read and written again reads the same.
fn read_twice<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let first = M::decode(bytes).ok()?;
    let written = first.encode_to_vec();
    let second = M::decode(written.as_slice()).expect("what was written can be read");
    // A float that is not a number equals nothing, itself included; its bytes tell.
    assert_eq!(written, second.encode_to_vec());
    Some(first)
}
