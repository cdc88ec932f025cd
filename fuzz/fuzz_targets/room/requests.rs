//! Valid requests that refer to existing participants, messages and polls.

use parlor_live::EntryKind;
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge;
use parlor_protocol::signal::socket::{chat, livestreaming, plugin, polls, preset, room};
use prost::Message;
use uuid::Uuid;

use super::fixture::{client, meeting, user};
use super::{CLIENTS, PARTICIPANTS, Script, StoredRecords};

/// Returns the event and the payload of a request.
pub(super) fn valid_request(records: &StoredRecords, script: &mut Script<'_>) -> (u32, Vec<u8>) {
    let which = script.any() % 19;
    let person = script.any() % PARTICIPANTS;
    let peer = client(person, script.any() % CLIENTS).to_string();
    match which {
        0..9 => content_request(which, peer, records, script),
        18 => (event::JOIN_ROOM, Vec::new()),
        _ => moderation_request(which, peer, user(person).to_string(), script),
    }
}

/// Chat, poll and store requests.
fn content_request(
    which: u8,
    peer: String,
    records: &StoredRecords,
    script: &mut Script<'_>,
) -> (u32, Vec<u8>) {
    let chat_id = records
        .chat
        .keys()
        .next_back()
        .map(Uuid::to_string)
        .unwrap_or_default();
    let mut polls = records
        .entries
        .keys()
        .filter(|(kind, _)| *kind == EntryKind::Poll);
    let poll_id = polls
        .next_back()
        .map(|(_, key)| key.clone())
        .unwrap_or_default();
    let store_keys = |script: &mut Script<'_>| {
        let (store_key, payload) = (script.text(), Some(script.text().into()));
        vec![plugin::StoreKeys { store_key, payload }]
    };
    match which {
        0 => (
            event::SEND_MESSAGE_TO_ROOM,
            chat::SendChatMessageToRoomRequest {
                payload_type: i32::from(script.any() % 5),
                payload: script.text(),
            }
            .encode_to_vec(),
        ),
        1 => (
            event::SEND_MESSAGE_TO_PEERS,
            chat::SendChatMessageToPeersRequest {
                peer_ids: vec![peer],
                payload_type: 0,
                payload: script.text(),
            }
            .encode_to_vec(),
        ),
        2 => (
            event::EDIT_MESSAGE,
            chat::EditChatMessageRequest {
                chat_id,
                payload_type: Some(0),
                payload: Some(script.text()),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        3 => (
            event::DELETE_MESSAGE,
            chat::DeleteChatMessageRequest {
                chat_id,
                channel_id: None,
            }
            .encode_to_vec(),
        ),
        4 => (
            event::PIN_MESSAGE,
            chat::PinChatMessageRequest {
                chat_id,
                pinned: script.flag(),
                channel_id: None,
            }
            .encode_to_vec(),
        ),
        5 => (
            event::CREATE_POLL,
            polls::NewPollRequest {
                question: script.text(),
                options: vec![script.text(), script.text()],
                anonymous: script.flag(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        6 => (
            event::VOTE_POLL,
            polls::VotePollRequest {
                poll_id,
                index: script.any().into(),
            }
            .encode_to_vec(),
        ),
        7 => (
            event::STORE_INSERT_KEYS,
            plugin::PluginStoreInsertKeysRequest {
                plugin_id: meeting().id.to_string(),
                store_name: script.text(),
                insert_keys: store_keys(script),
            }
            .encode_to_vec(),
        ),
        _ => (
            event::STORE_DELETE_KEYS,
            plugin::PluginStoreDeleteKeysRequest {
                plugin_id: meeting().id.to_string(),
                store_name: script.text(),
                delete_keys: store_keys(script),
            }
            .encode_to_vec(),
        ),
    }
}

/// Requests that affect other participants.
fn moderation_request(
    which: u8,
    peer: String,
    user: String,
    script: &mut Script<'_>,
) -> (u32, Vec<u8>) {
    match which {
        9 => (
            event::KICK,
            room::RemoveParticipantsRequest {
                peer_ids: vec![peer],
            }
            .encode_to_vec(),
        ),
        10 => (
            event::ACCEPT_WAITING_ROOM_REQUESTS,
            room::AcceptWaitingRoomRequests {
                user_ids: vec![user],
            }
            .encode_to_vec(),
        ),
        11 => (
            event::DENY_WAITING_ROOM_REQUESTS,
            room::DenyWaitingRoomRequests {
                user_ids: vec![user],
            }
            .encode_to_vec(),
        ),
        12 => (
            event::GRANT_STAGE_ACCESS,
            livestreaming::GrantStageAccessRequest {
                user_ids: vec![user],
            }
            .encode_to_vec(),
        ),
        13 => (
            event::DENY_STAGE_ACCESS,
            livestreaming::DenyStageAccessRequest {
                user_ids: vec![user],
            }
            .encode_to_vec(),
        ),
        14 => (
            event::LEAVE_STAGE,
            livestreaming::LeaveStageRequest {
                user_ids: vec![user],
            }
            .encode_to_vec(),
        ),
        15 => (
            event::PIN_PEER,
            edge::GlobalPeerPinningRequest {
                participant_id: peer,
            }
            .encode_to_vec(),
        ),
        16 => (
            event::BROADCAST_TO_ENTITY,
            room::BroadcastMessage {
                r#type: script.text(),
                ids: vec![peer],
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        _ => {
            let patch = preset::PresetUpdates::decode(script.bytes()).ok();
            let update = preset::UpdatePeerPreset {
                user_ids: user,
                patch,
            };
            (
                event::UPDATE_USER_PRESET,
                preset::UpdatePeersPresetRequest {
                    update_peers_presets: vec![update],
                }
                .encode_to_vec(),
            )
        }
    }
}
