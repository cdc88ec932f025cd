//! Joins, and how other peers see them (docs/spec/signalling.md 6.1 to 6.3 and 7).

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge;
use parlor_protocol::signal::socket::room::{
    JoinRoomRequest, Peer as RoomPeer, PeerFlags, PeerInfoResponse, RoomPeersInfoRequest,
    RoomPeersInfoResponse, StageType,
};
use parlor_protocol::signal::socket::{chat, plugin, polls, room};
use parlor_testkit::signal::{Identity, PLUGINS, Peer};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{assert_rejected, send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    a_join_is_answered_step_by_step,
    others_are_notified_of_joins_and_leaves,
    requests_allowed_before_joining_are_answered,
    requests_not_allowed_before_joining_are_refused,
    joining_twice_is_joining_once,
    two_tabs_of_a_participant_are_two_peers,
    the_peer_of_another_participant_cannot_be_taken_over,
    claims_of_a_client_about_itself_are_ignored,
    a_display_name_is_chosen_only_with_permission,
    a_participant_without_a_name_joins,
    participants_of_other_meetings_are_not_visible,
    viewers_start_off_the_stage,
    a_hidden_peer_is_marked,
    the_roster_is_searched_and_paged,
    a_socket_without_valid_credentials_is_closed_for_good,
];

async fn a_join_is_answered_step_by_step(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.add_with_preset("group_call_host").await;
    let peer = Peer::open(&ada).await.unwrap();
    let joined = peer.join().await.unwrap();

    let me = &joined.me;
    assert_eq!((&me.peer_id, &me.user_id), (&ada.peer, &ada.participant));
    assert_eq!(me.display_name, ada.name);
    assert_eq!(me.stage_type(), StageType::OnStage);
    assert!(!me.waitlisted);
    assert_visible(me);

    assert_eq!(joined.room.room_id, meeting.id);
    assert_eq!(joined.room.title, "Weekly");
    let session = meeting.active_session().await.unwrap();
    assert_eq!(joined.room.room_uuid.as_deref(), session["id"].as_str());
    assert!(
        (1_600_000_000..10_000_000_000).contains(&joined.room.created_at),
        "seconds: {}",
        joined.room.created_at
    );
    assert!(joined.room.active_recordings.is_empty());
    assert!(joined.chat.is_empty() && joined.polls.is_empty() && joined.plugins.is_empty());
    let rooms = joined.rooms.unwrap();
    let parent = rooms.parent_meeting.expect("the SDK fails without it");
    assert_eq!(parent.id.as_deref(), Some(&*meeting.id));
    assert!(rooms.meetings.is_empty());
    peer.settle().await.unwrap();
}

/// Checks the two fields that make clients hide a peer (docs/spec/signalling.md 6.3).
#[track_caller]
fn assert_visible(peer: &RoomPeer) {
    assert_eq!(peer.stage_type(), StageType::OnStage, "{peer:?}");
    assert!(!peer.waitlisted);
    if let Some(flags) = &peer.flags {
        assert_eq!(flags.recorder_type, "NONE");
        assert!(!flags.hidden_participant);
    }
}

async fn others_are_notified_of_joins_and_leaves(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let bob = Peer::open(&identity).await.unwrap();
    let joined = bob.join().await.unwrap();
    let seen: Vec<_> = joined
        .peers
        .iter()
        .filter(|peer| peer.peer_id == ada.id())
        .collect();
    assert_eq!(seen.len(), 1, "{:?}", joined.peers);
    assert_visible(seen[0]);

    let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
    let peer = push.peer.unwrap();
    assert_visible(&peer);
    assert_eq!(peer.peer_id, identity.peer);
    assert_eq!(peer.user_id, identity.participant);
    assert_eq!(peer.display_name, identity.name);
    assert_eq!(
        peer.custom_participant_id.as_deref(),
        Some(&*identity.custom_id)
    );
    if let Some(PeerFlags { preset_name, .. }) = peer.flags {
        assert_eq!(preset_name, "group_call_participant");
    }
    settle(&[&ada, &bob]).await;
    assert_eq!(
        ada.take_pushes(&[event::JOIN_ROOM]).len(),
        0,
        "one push per join"
    );
    assert_eq!(
        bob.take_pushes(&[event::JOIN_ROOM]).len(),
        0,
        "no push to a peer about its own join"
    );

    bob.leave().await.unwrap();
    let push: PeerInfoResponse = ada.push(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, identity.peer);
    assert!(!ada.roster().await.unwrap().contains(&identity.peer));
}

async fn requests_allowed_before_joining_are_answered(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    send_message(&ada, "only for participants").await;
    let bob = Peer::open(&meeting.add_with_preset("group_call_participant").await)
        .await
        .unwrap();
    // The roster before the join (docs/spec/signalling.md 6.3).
    assert_eq!(bob.roster().await.unwrap(), [ada.id()]);
    let request = bob.identity().store_request(PLUGINS);
    let store: plugin::PluginStoreResponse =
        bob.ask(event::STORE_GET_KEYS, &request).await.unwrap();
    assert_eq!(
        (&*store.plugin_id, &*store.store_name),
        (&*meeting.id, PLUGINS)
    );
    // Repeatedly, because the client tries fifteen times (docs/spec/media.md 1.1).
    for _ in 0..3 {
        let request = edge::PeerJoinRequest::default();
        bob.ask::<edge::PeerJoinResponse>(event::MEDIA_JOIN, &request)
            .await
            .unwrap();
    }
    bob.settle().await.unwrap();
    settle(&[&ada]).await;
    assert!(
        ada.take_pushes(&[event::JOIN_ROOM]).is_empty(),
        "connecting is not joining"
    );
    // The reply must not contain the chat of the meeting.
    let chat = bob
        .ask_bare::<chat::GetChatMessagesResponse>(event::GET_MESSAGES)
        .await;
    assert!(chat.is_err() || chat.unwrap().messages.is_empty());
}

async fn requests_not_allowed_before_joining_are_refused(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    // A host, so that the refusals are not about permissions.
    let bob = Peer::open(&meeting.add_with_preset("group_call_host").await)
        .await
        .unwrap();
    let ids = |id: &str| vec![id.to_owned()];
    let kick = room::RemoveParticipantsRequest {
        peer_ids: ids(ada.id()),
    };
    let message = chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "boo".to_owned(),
    };
    let poll = polls::NewPollRequest {
        question: "?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..polls::NewPollRequest::default()
    };
    let insert = plugin::PluginStoreInsertKeysRequest {
        plugin_id: meeting.id.clone(),
        store_name: "notes".to_owned(),
        insert_keys: vec![plugin::StoreKeys {
            store_key: "k".to_owned(),
            payload: Some("1".into()),
        }],
    };
    let broadcast = room::BroadcastMessage {
        r#type: "boo".to_owned(),
        ..room::BroadcastMessage::default()
    };
    let pin = edge::GlobalPeerPinningRequest {
        participant_id: ada.id().to_owned(),
    };
    let mute = edge::HostMediaControlForAllPeerRequest {
        audio: true,
        video: true,
        screen_share: true,
    };
    let refusals = [
        bob.refused(event::KICK, &kick).await,
        bob.refused(event::KICK_ALL, &edge::KickAllPeersRequest::default())
            .await,
        bob.refused(event::SEND_MESSAGE_TO_ROOM, &message).await,
        bob.refused(event::CREATE_POLL, &poll).await,
        bob.refused(event::STORE_INSERT_KEYS, &insert).await,
        bob.refused(event::BROADCAST_MESSAGE, &broadcast).await,
        bob.refused(event::PIN_PEER, &pin).await,
        bob.refused(event::HOST_CONTROL_ALL, &mute).await,
        bob.refused(event::JOIN_STAGE, &room::GetConnectedRoomsDumpRequest {})
            .await,
        bob.refused(
            event::MEDIA_JOIN_COMPLETE,
            &edge::PeerJoinCompleteRequest {},
        )
        .await,
    ];
    for (index, refused) in refusals.into_iter().enumerate() {
        let refused = refused.unwrap();
        // A media error has no code.
        let is_code = refused.code == 0 || (400..500).contains(&refused.code);
        assert!(is_code, "{index}: {refused}");
        assert!(!refused.message.is_empty());
    }
    settle(&[&ada]).await;
    let pushed: Vec<u32> = ada
        .received()
        .iter()
        .filter(|frame| frame.id.is_none())
        .map(|frame| frame.event)
        .collect();
    assert_eq!(pushed, [0; 0], "nothing is pushed to others");
    // The peer may still join.
    bob.join().await.unwrap();
    assert_eq!(ada.roster().await.unwrap().len(), 2);
}

async fn joining_twice_is_joining_once(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = meeting.participant().await;
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let again = bob.rejoin().await.unwrap();
    assert_eq!(again.me.peer_id, bob.id());
    assert!(!again.me.waitlisted);
    settle(&[&ada]).await;
    assert!(
        ada.take_pushes(&[event::JOIN_ROOM, event::LEAVE_ROOM])
            .is_empty(),
        "a second push makes clients forget the peer's tracks"
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    let session = meeting.active_session().await.unwrap();
    assert_eq!(
        meeting
            .peers_of(session["id"].as_str().unwrap())
            .await
            .len(),
        2
    );
}

async fn two_tabs_of_a_participant_are_two_peers(server: &Server) {
    let meeting = server.meeting().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let first = Peer::enter(&identity).await.unwrap();
    let second = Peer::enter(&identity.in_another_tab()).await.unwrap();
    let push: PeerInfoResponse = first.push(event::JOIN_ROOM).await.unwrap();
    let peer = push.peer.unwrap();
    assert_eq!(peer.peer_id, second.id());
    assert_eq!(peer.user_id, identity.participant);
    assert_eq!(second.roster().await.unwrap().len(), 2);
    second.leave().await.unwrap();
    first.push_frame(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(first.roster().await.unwrap(), [first.id()]);
}

async fn the_peer_of_another_participant_cannot_be_taken_over(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mallory = meeting.add_with_preset("group_call_participant").await;
    let disguised = Identity {
        peer: ada.id().to_owned(),
        ..mallory
    };
    let attempt = Peer::open(&disguised).await.unwrap();
    let joined = attempt.rejoin().await;
    assert!(joined.is_err(), "{joined:?}");
    settle(&[&ada]).await;
    assert!(ada.is_open());
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let echo = send_message(&ada, "it is still me").await;
    assert_eq!(echo.user_id, ada.user());
    assert!(
        attempt
            .take_pushes(&[event::SEND_MESSAGE_TO_ROOM])
            .is_empty()
    );
    // Not even after the other has left, because the peer is stored.
    ada.leave().await.unwrap();
    let late = Peer::open(&disguised).await.unwrap();
    assert!(late.rejoin().await.is_err());
}

async fn claims_of_a_client_about_itself_are_ignored(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let bob = Peer::open(&identity).await.unwrap();
    let claim = JoinRoomRequest {
        peer: Some(RoomPeer {
            peer_id: ada.id().to_owned(),
            user_id: ada.user().to_owned(),
            display_name: identity.name.clone(),
            stage_type: Some(StageType::RequestedStage.into()),
            custom_participant_id: Some("the boss".to_owned()),
            preset_id: Some(ada.id().to_owned()),
            waitlisted: true,
            flags: Some(PeerFlags {
                preset_name: "group_call_host".to_owned(),
                recorder_type: "RECORDER".to_owned(),
                hidden_participant: true,
            }),
            ..RoomPeer::default()
        }),
        ..JoinRoomRequest::default()
    };
    let reply: PeerInfoResponse = bob.ask(event::JOIN_ROOM, &claim).await.unwrap();
    let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
    for peer in [reply.peer.unwrap(), push.peer.unwrap()] {
        assert_visible(&peer);
        assert_eq!(
            (&peer.peer_id, &peer.user_id),
            (&identity.peer, &identity.participant)
        );
        assert_eq!(
            peer.custom_participant_id.as_deref(),
            Some(&*identity.custom_id)
        );
        if let Some(flags) = peer.flags {
            assert_eq!(flags.preset_name, "group_call_participant");
        }
    }
}

async fn a_display_name_is_chosen_only_with_permission(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for (allowed, shown) in [(true, "Chosen"), (false, "Given")] {
        let mut identity = meeting
            .add_with_permissions(json!({ "can_edit_display_name": allowed }))
            .await;
        let path = meeting.path(&format!("/participants/{}", identity.participant));
        meeting
            .patch(&path, &json!({ "name": "Given" }))
            .await
            .expect(200)
            .unwrap();
        "Chosen".clone_into(&mut identity.name);
        let peer = Peer::enter(&identity).await.unwrap();
        let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
        assert_eq!(
            push.peer.unwrap().display_name,
            shown,
            "may choose: {allowed}"
        );
        assert_eq!(send_message(&peer, "hello").await.display_name, shown);
    }
}

async fn a_participant_without_a_name_joins(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let nameless = meeting
        .add(json!({ "preset_name": "group_call_participant" }))
        .await;
    let peer = Peer::enter(&nameless).await.unwrap();
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    send_message(&peer, "who am I").await;
    settle(&[&ada, &peer]).await;
}

async fn participants_of_other_meetings_are_not_visible(server: &Server) {
    let (here, there) = (server.meeting().await, server.meeting().await);
    let (ada, bob) = (here.host().await, there.host().await);
    send_message(&ada, "here").await;
    settle(&[&bob]).await;
    assert_eq!(bob.roster().await.unwrap(), [bob.id()]);
    assert!(
        bob.take_pushes(&[event::JOIN_ROOM, event::SEND_MESSAGE_TO_ROOM])
            .is_empty()
    );
    // A token is not valid for another meeting.
    let strayed = Identity {
        meeting: there.id.clone(),
        ..here.add_with_preset("group_call_host").await
    };
    assert_rejected(&strayed).await;
}

async fn viewers_start_off_the_stage(server: &Server) {
    let meeting = server.meeting().await;
    for (preset, expected) in [
        ("webinar_presenter", StageType::ApprovedStage),
        ("webinar_viewer", StageType::OffStage),
        ("livestream_host", StageType::ApprovedStage),
        ("livestream_viewer", StageType::OffStage),
        ("group_call_participant", StageType::OnStage),
    ] {
        let peer = Peer::open(&meeting.add_with_preset(preset).await)
            .await
            .unwrap();
        let joined = peer.join().await.unwrap();
        assert_eq!(joined.me.stage_type(), expected, "{preset}");
    }
}

async fn a_hidden_peer_is_marked(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let ghost = meeting
        .add_with_permissions(json!({ "hidden_participant": true }))
        .await;
    let recorder = meeting
        .add_with_permissions(json!({ "recorder_type": "RECORDER" }))
        .await;
    let ghost = Peer::enter(&ghost).await.unwrap();
    let recorder = Peer::enter(&recorder).await.unwrap();
    // Not announcing these peers at all would be correct, too.
    settle(&[&ghost, &recorder, &ada]).await;
    for push in ada.take_pushes(&[event::JOIN_ROOM]) {
        let peer = push.message::<PeerInfoResponse>().unwrap().peer.unwrap();
        let flags = peer.flags.unwrap();
        if peer.peer_id == ghost.id() {
            assert!(flags.hidden_participant);
        } else {
            assert_eq!(
                (&peer.peer_id[..], &*flags.recorder_type),
                (recorder.id(), "RECORDER")
            );
        }
    }
}

async fn the_roster_is_searched_and_paged(server: &Server) {
    let meeting = server.meeting().await;
    let mut peers = Vec::new();
    for name in ["Ada", "Adam", "Bob", "Carol"] {
        let participant = json!({ "preset_name": "group_call_participant", "name": name });
        peers.push(Peer::enter(&meeting.add(participant).await).await.unwrap());
    }
    // The reply may omit the peer that asks (docs/spec/signalling.md 6.3).
    let watcher = meeting.host().await;
    let page = async |query: &str, limit, offset| {
        let request = RoomPeersInfoRequest {
            seach_query: query.to_owned(),
            limit,
            offset,
        };
        let reply: RoomPeersInfoResponse = watcher
            .ask(event::GET_ROOM_PEERS_INFO, &request)
            .await
            .unwrap();
        let names: Vec<String> = reply
            .peers
            .into_iter()
            .map(|peer| peer.display_name)
            .collect();
        names
    };
    let mut found = page("ada", 10, 0).await;
    found.sort();
    assert_eq!(found, ["Ada", "Adam"]);
    assert_eq!(page("nobody", 10, 0).await, [""; 0]);
    let (first, second, third) = (
        page("", 2, 0).await,
        page("", 2, 2).await,
        page("", 2, 4).await,
    );
    assert_eq!((first.len(), second.len(), third.len()), (2, 2, 0));
    let mut all = [first, second].concat();
    all.sort();
    assert_eq!(all, ["Ada", "Adam", "Bob", "Carol"]);
    // Nonsensical numbers must not cause a failure.
    for (limit, offset) in [(-1, 0), (0, -1), (i32::MAX, i32::MAX), (i32::MIN, i32::MIN)] {
        let request = RoomPeersInfoRequest {
            seach_query: String::new(),
            limit,
            offset,
        };
        let _ = watcher
            .ask::<RoomPeersInfoResponse>(event::GET_ROOM_PEERS_INFO, &request)
            .await;
        watcher.settle().await.unwrap();
    }
}

async fn a_socket_without_valid_credentials_is_closed_for_good(server: &Server) {
    let meeting = server.meeting().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let mut halves = identity.token.rsplitn(2, '.');
    let (signature, rest) = (halves.next().unwrap(), halves.next().unwrap());
    let forged: String = signature.chars().rev().collect();
    for token in [
        "",
        "eyJ",
        "eyJ.eyJ.eyJ",
        "a.b.c",
        &format!("{rest}.{forged}"),
        &"x".repeat(5000),
    ] {
        assert_rejected(&Identity {
            token: token.to_owned(),
            ..identity.clone()
        })
        .await;
    }
    for peer in ["", "me", "../../etc/passwd", &"f".repeat(3000)] {
        assert_rejected(&Identity {
            peer: peer.to_owned(),
            ..identity.clone()
        })
        .await;
    }
    for room in ["", "0190f3c0-a0b1-7c1d-8e2f-0123456789ab"] {
        assert_rejected(&Identity {
            meeting: room.to_owned(),
            ..identity.clone()
        })
        .await;
    }
    Peer::enter(&identity).await.unwrap();
}
