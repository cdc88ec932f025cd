//! Reading and changing permissions during a call (docs/spec/signalling.md 6.10).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest;
use parlor_protocol::signal::socket::preset::{
    ChatPermissionUpdate, PollsPermissionUpdate, PresetUpdates, PublicChatPermission,
    ReadPeersPresetRequest, ReadPeersPresetResponse, UpdatePeerPreset, UpdatePeersPresetRequest,
    UpdatePeersPresetResponse,
};
use parlor_testkit::signal::Peer;
use serde_json::Value;

use crate::on_both_databases;
use crate::signalling::meeting::{send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    permissions_are_read_as_json,
    a_change_reaches_every_tab_of_the_participant,
    a_change_survives_a_reconnect,
    a_change_of_one_permission_leaves_the_others,
    a_granted_permission_takes_effect_at_once,
];

fn update_request(peer: &Peer, patch: PresetUpdates) -> UpdatePeersPresetRequest {
    UpdatePeersPresetRequest {
        update_peers_presets: vec![UpdatePeerPreset {
            user_ids: peer.user().to_owned(),
            patch: Some(patch),
        }],
    }
}

fn deny_public_chat() -> PresetUpdates {
    PresetUpdates {
        chat: Some(ChatPermissionUpdate {
            public: Some(PublicChatPermission {
                can_send: Some(false),
                ..PublicChatPermission::default()
            }),
            private: None,
        }),
        ..PresetUpdates::default()
    }
}

/// Reads the permissions of a peer as another client.
async fn permissions(reader: &Peer, of: &Peer) -> Value {
    let request = ReadPeersPresetRequest {
        user_ids: vec![of.user().to_owned()],
    };
    let reply: ReadPeersPresetResponse =
        reader.ask(event::GET_USER_PRESETS, &request).await.unwrap();
    assert_eq!(reply.peer_presets[0].user_id, of.user());
    let preset: Value = serde_json::from_slice(&reply.peer_presets[0].preset).unwrap();
    preset["permissions"].clone()
}

async fn permissions_are_read_as_json(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let read = permissions(&ada, &bob).await;
    assert_eq!(read["chat"]["public"]["can_send"], true, "{read}");
    assert_eq!(read["polls"]["can_create"], false);
    assert_eq!(read["plugins"]["can_start"], false);
    for unknown in ["", "nobody", "0190f3c0-a0b1-7c1d-8e2f-0123456789ab"] {
        let request = ReadPeersPresetRequest {
            user_ids: vec![unknown.to_owned()],
        };
        let reply = ada
            .ask::<ReadPeersPresetResponse>(event::GET_USER_PRESETS, &request)
            .await;
        assert!(reply.is_err() || reply.unwrap().peer_presets.is_empty());
    }
}

async fn a_change_reaches_every_tab_of_the_participant(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, eve) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    let tab = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    let request = update_request(&bob, deny_public_chat());
    ada.ask::<UpdatePeersPresetResponse>(event::UPDATE_USER_PRESET, &request)
        .await
        .unwrap();
    for peer in [&bob, &tab] {
        let push: UpdatePeersPresetResponse = peer.push(event::UPDATE_USER_PRESET).await.unwrap();
        assert_eq!(push.update_peers_presets, request.update_peers_presets);
        let message = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        assert_eq!(
            peer.refused(event::SEND_MESSAGE_TO_ROOM, &message)
                .await
                .unwrap()
                .code,
            403
        );
    }
    settle(&[&ada, &eve]).await;
    assert!(
        eve.take_pushes(&[event::UPDATE_USER_PRESET]).is_empty(),
        "other participants are not notified"
    );
    assert!(ada.take_pushes(&[event::UPDATE_USER_PRESET]).is_empty());
    assert_eq!(
        permissions(&ada, &bob).await["chat"]["public"]["can_send"],
        false
    );
}

async fn a_change_survives_a_reconnect(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.ask::<UpdatePeersPresetResponse>(
        event::UPDATE_USER_PRESET,
        &update_request(&bob, deny_public_chat()),
    )
    .await
    .unwrap();
    let identity = bob.cut().await;
    let back = Peer::open(&identity).await.unwrap();
    back.rejoin().await.unwrap();
    let fresh = Peer::enter(&identity.in_another_tab()).await.unwrap();
    for peer in [&back, &fresh] {
        let message = SendChatMessageToRoomRequest {
            payload_type: 0,
            payload: "x".to_owned(),
        };
        assert_eq!(
            peer.refused(event::SEND_MESSAGE_TO_ROOM, &message)
                .await
                .unwrap()
                .code,
            403
        );
    }
}

async fn a_change_of_one_permission_leaves_the_others(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let before = permissions(&ada, &bob).await;
    let update = PresetUpdates {
        polls: Some(PollsPermissionUpdate {
            can_create: Some(true),
            ..PollsPermissionUpdate::default()
        }),
        ..PresetUpdates::default()
    };
    ada.ask::<UpdatePeersPresetResponse>(event::UPDATE_USER_PRESET, &update_request(&bob, update))
        .await
        .unwrap();
    let mut expected = before;
    expected["polls"]["can_create"] = true.into();
    assert_eq!(permissions(&ada, &bob).await, expected);
}

async fn a_granted_permission_takes_effect_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, eve) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    let grant = PresetUpdates {
        kick_participant: Some(true),
        ..PresetUpdates::default()
    };
    ada.ask::<UpdatePeersPresetResponse>(event::UPDATE_USER_PRESET, &update_request(&bob, grant))
        .await
        .unwrap();
    let kick = parlor_protocol::signal::socket::room::RemoveParticipantsRequest {
        peer_ids: vec![eve.id().to_owned()],
    };
    bob.tell(event::KICK, &kick).await.unwrap();
    eve.push_frame(event::KICK).await.unwrap();
    // Updates of unknown users do not affect others.
    let unknown = UpdatePeersPresetRequest {
        update_peers_presets: vec![
            UpdatePeerPreset {
                user_ids: "nobody".to_owned(),
                patch: Some(deny_public_chat()),
            },
            UpdatePeerPreset {
                user_ids: String::new(),
                patch: None,
            },
        ],
    };
    let _ = ada
        .ask::<UpdatePeersPresetResponse>(event::UPDATE_USER_PRESET, &unknown)
        .await;
    send_message(&bob, "still here").await;
}
