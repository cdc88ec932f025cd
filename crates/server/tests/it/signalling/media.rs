//! Messages of the media plane that can be tested without media (docs/spec/media.md 1 and 4).

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::{
    ConsumePeersRequest, GlobalPeerPinningBroadcastResponse, GlobalPeerPinningRequest,
    GlobalPeerPinningResponse, HostMediaControlForAllPeerRequest,
    HostMediaControlForAllPeerResponse, HostMediaControlForPeerRequest,
    HostMediaControlForPeerResponse, PeerDisplayNameEditRequest, PeerDisplayNameEditResponse,
    PeerJoinBroadcastResponse, PeerJoinCompleteRequest, PeerJoinCompleteResponse, PeerLeaveRequest,
    PeerLeaveResponse, ProducerCreateRequest,
};
use parlor_protocol::signal::media::{
    AudioActivityRequest, CreateTransportRequest, SessionDescription,
};
use parlor_testkit::signal::Peer;

use crate::on_both_databases;
use crate::signalling::meeting::{send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    a_completed_media_join_is_announced_after_the_room_join,
    nothing_is_published_or_received_before_the_media_join,
    a_bad_offer_is_refused,
    a_peer_is_pinned_for_everybody,
    a_host_mutes_others,
    a_display_name_is_changed_during_the_call,
    leaving_the_media_is_not_leaving_the_room,
];

async fn complete_media_join(peer: &Peer) -> PeerJoinCompleteResponse {
    let request = PeerJoinCompleteRequest {};
    let reply: PeerJoinCompleteResponse = peer
        .ask(event::MEDIA_JOIN_COMPLETE, &request)
        .await
        .unwrap();
    assert!(reply.room_state.is_some(), "the SDK fails without it");
    reply
}

async fn a_completed_media_join_is_announced_after_the_room_join(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let first = complete_media_join(&ada).await;
    assert!(
        first
            .participants
            .iter()
            .all(|peer| peer.peer_id == ada.id()),
        "{first:?}"
    );
    let bob = meeting.participant().await;
    let snapshot = complete_media_join(&bob).await;
    assert!(
        snapshot
            .participants
            .iter()
            .any(|peer| peer.peer_id == ada.id()),
        "{snapshot:?}"
    );
    let push: PeerJoinBroadcastResponse = ada.push(event::MEDIA_PEER_JOINED).await.unwrap();
    assert_eq!(push.participant.unwrap().peer_id, bob.id());
    let order: Vec<u32> = ada
        .received()
        .iter()
        .map(|frame| frame.event)
        .filter(|number| [event::JOIN_ROOM, event::MEDIA_PEER_JOINED].contains(number))
        .collect();
    // The first frame is the reply to Ada's own join.
    assert_eq!(
        order,
        [event::JOIN_ROOM, event::JOIN_ROOM, event::MEDIA_PEER_JOINED]
    );
    bob.leave().await.unwrap();
    ada.push_frame(event::MEDIA_PEER_LEFT).await.unwrap();
    ada.push_frame(event::LEAVE_ROOM).await.unwrap();
}

async fn nothing_is_published_or_received_before_the_media_join(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let produce = ProducerCreateRequest {
        kind: "audio".to_owned(),
        ..ProducerCreateRequest::default()
    };
    let refused = ada.refused(event::PRODUCE, &produce).await.unwrap();
    assert!(!refused.message.is_empty());
    ada.refused(event::CONSUME, &ConsumePeersRequest::default())
        .await
        .unwrap();
    // Clients with an active microphone send this event 2.5 times a second and expect no reply.
    for _ in 0..5 {
        ada.tell(event::AUDIO_ACTIVITY, &AudioActivityRequest::default())
            .await
            .unwrap();
    }
    settle(&[&ada]).await;
}

async fn a_bad_offer_is_refused(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for (kind, sdp) in [
        ("offer", ""),
        ("offer", "v=0"),
        ("answer", "v=0\r\n"),
        ("", "nonsense"),
        ("offer", &*"a=".repeat(200_000)),
    ] {
        let request = CreateTransportRequest {
            description: Some(SessionDescription {
                target: 0,
                r#type: kind.to_owned(),
                sdp: sdp.to_owned(),
            }),
            ..CreateTransportRequest::default()
        };
        ada.refused(event::CREATE_TRANSPORT, &request)
            .await
            .unwrap();
    }
    ada.refused(event::CREATE_TRANSPORT, &CreateTransportRequest::default())
        .await
        .unwrap();
    settle(&[&ada]).await;
}

async fn a_peer_is_pinned_for_everybody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    complete_media_join(&ada).await;
    complete_media_join(&bob).await;
    for pinned in [bob.id(), ""] {
        let request = GlobalPeerPinningRequest {
            participant_id: pinned.to_owned(),
        };
        ada.ask::<GlobalPeerPinningResponse>(event::PIN_PEER, &request)
            .await
            .unwrap();
        for peer in [&ada, &bob] {
            let push: GlobalPeerPinningBroadcastResponse =
                peer.push(event::PEER_PINNED).await.unwrap();
            assert_eq!(push.participant_id, pinned);
        }
    }
    let unknown = GlobalPeerPinningRequest {
        participant_id: "nobody".to_owned(),
    };
    ada.refused(event::PIN_PEER, &unknown).await.unwrap();
    // The snapshot contains the pin for peers that join later.
    let request = GlobalPeerPinningRequest {
        participant_id: bob.id().to_owned(),
    };
    ada.ask::<GlobalPeerPinningResponse>(event::PIN_PEER, &request)
        .await
        .unwrap();
    let carol = meeting.participant().await;
    assert_eq!(
        complete_media_join(&carol)
            .await
            .room_state
            .unwrap()
            .pinned_peer_ids,
        [bob.id()]
    );
}

async fn a_host_mutes_others(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let one = HostMediaControlForPeerRequest {
        participant_id: bob.id().to_owned(),
        audio: true,
        ..HostMediaControlForPeerRequest::default()
    };
    let reply: HostMediaControlForPeerResponse =
        ada.ask(event::HOST_CONTROL_PEER, &one).await.unwrap();
    assert_eq!(reply.status, "success");
    let all = HostMediaControlForAllPeerRequest {
        audio: true,
        ..HostMediaControlForAllPeerRequest::default()
    };
    let reply: HostMediaControlForAllPeerResponse =
        ada.ask(event::HOST_CONTROL_ALL, &all).await.unwrap();
    assert_eq!(reply.status, "success");
}

async fn a_display_name_is_changed_during_the_call(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let request = PeerDisplayNameEditRequest {
        participant_id: bob.id().to_owned(),
        display_name: "Robert".to_owned(),
    };
    let reply: PeerDisplayNameEditResponse =
        bob.ask(event::CHANGE_DISPLAY_NAME, &request).await.unwrap();
    assert_eq!(reply.status, "success");
    assert_eq!(
        send_message(&bob, "call me Robert").await.display_name,
        "Robert"
    );
    // A peer cannot rename another one by sending its id.
    let other = PeerDisplayNameEditRequest {
        participant_id: ada.id().to_owned(),
        display_name: "Fool".to_owned(),
    };
    let _ = bob
        .ask::<PeerDisplayNameEditResponse>(event::CHANGE_DISPLAY_NAME, &other)
        .await;
    for name in ["x".repeat(257), String::new()] {
        let invalid = PeerDisplayNameEditRequest {
            participant_id: bob.id().to_owned(),
            display_name: name,
        };
        bob.refused(event::CHANGE_DISPLAY_NAME, &invalid)
            .await
            .unwrap();
    }
    assert_eq!(
        send_message(&ada, "I am").await.display_name,
        ada.identity().name
    );
}

async fn leaving_the_media_is_not_leaving_the_room(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    complete_media_join(&ada).await;
    complete_media_join(&bob).await;
    let request = PeerLeaveRequest::default();
    bob.ask::<PeerLeaveResponse>(event::MEDIA_LEAVE, &request)
        .await
        .unwrap();
    ada.push_frame(event::MEDIA_PEER_LEFT).await.unwrap();
    settle(&[&ada, &bob]).await;
    assert!(ada.take_pushes(&[event::LEAVE_ROOM]).is_empty());
    assert_eq!(ada.roster().await.unwrap().len(), 2);
}
