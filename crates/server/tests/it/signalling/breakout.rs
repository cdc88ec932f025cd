//! Breakout rooms: connected meetings (docs/spec/signalling.md 6.11).

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, BroadcastType, CreateConnectedRoomsRequest, CreateConnectedRoomsResponse,
    CreateRoomRequestPayload, DisableConnectedRoomsRequest, DisableConnectedRoomsResponse,
    DisableRoomPayload, GetConnectedRoomsDumpResponse, MovePeerPayload,
    MovePeersBetweenRoomsRequest, TransferPeer,
};
use parlor_testkit::signal::{self, Identity, Peer, Refused};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    rooms_are_created_listed_and_removed,
    participants_are_moved_and_return,
    participants_of_other_meetings_cannot_be_moved,
    a_returning_participant_has_the_currently_stored_preset,
    a_deleted_participant_cannot_move_themselves_back,
    hidden_participants_are_not_listed,
    a_malformed_request_moves_nobody,
];

/// Creates breakout rooms and returns their ids.
pub(crate) async fn create_rooms(host: &Peer, titles: &[&str]) -> Vec<String> {
    let request = CreateConnectedRoomsRequest {
        payloads: titles
            .iter()
            .map(|&title| CreateRoomRequestPayload {
                title: Some(title.to_owned()),
            })
            .collect(),
    };
    let reply: CreateConnectedRoomsResponse = host
        .ask(event::CREATE_CONNECTED_ROOMS, &request)
        .await
        .unwrap();
    let created = reply.payloads.into_iter().map(|room| {
        assert!(room.error.is_none(), "{room:?}");
        room.id.unwrap()
    });
    created.collect()
}

/// Returns the title of each room and the custom ids of its participants.
async fn list_rooms(peer: &Peer) -> Vec<(String, Vec<String>)> {
    let dump: GetConnectedRoomsDumpResponse = loop {
        match peer.ask_bare(event::GET_CONNECTED_ROOMS_DUMP).await {
            // The tests poll more often than the rate limit allows.
            Err(error)
                if error
                    .downcast_ref::<Refused>()
                    .is_some_and(|refused| refused.code == 429) =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            reply => break reply.unwrap(),
        }
    };
    let parent = dump.parent_meeting.expect("the SDK fails without it");
    let mut rooms: Vec<_> = [parent]
        .into_iter()
        .chain(dump.meetings)
        .map(|room| {
            let mut custom_ids: Vec<String> = room
                .participants
                .into_iter()
                .map(|participant| {
                    participant
                        .custom_participant_id
                        .expect("the UI tells participants apart by it")
                })
                .collect();
            custom_ids.sort();
            (room.title.unwrap(), custom_ids)
        })
        .collect();
    rooms[1..].sort();
    rooms
}

pub(crate) fn move_request(
    from: &str,
    to: &str,
    participants: &[&str],
) -> MovePeersBetweenRoomsRequest {
    MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(from.to_owned()),
        destination_meeting_id: Some(to.to_owned()),
        participants: participants
            .iter()
            .map(|&id| MovePeerPayload {
                id: Some(id.to_owned()),
                preset_id: None,
            })
            .collect(),
    }
}

/// Returns the identity with which a client joins after a transfer: a new peer in the other
/// meeting, with the new token.
pub(crate) fn transferred_identity(identity: &Identity, transfer: &TransferPeer) -> Identity {
    Identity {
        meeting: transfer.meeting_id.clone().unwrap(),
        token: transfer.auth_token.clone().unwrap(),
        peer: signal::new_peer_id(),
        ..identity.clone()
    }
}

async fn rooms_are_created_listed_and_removed(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let rooms = create_rooms(&ada, &["Red", "Blue"]).await;
    assert_eq!(rooms.len(), 2);
    let listed = list_rooms(&bob).await;
    assert_eq!(
        listed.iter().map(|(title, _)| &**title).collect::<Vec<_>>(),
        ["Weekly", "Blue", "Red"]
    );
    assert_eq!(listed[0].1.len(), 2);
    let remove = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(rooms[0].clone()),
        }],
    };
    ada.ask::<DisableConnectedRoomsResponse>(event::DELETE_CONNECTED_ROOMS, &remove)
        .await
        .unwrap();
    let listed = list_rooms(&ada).await;
    assert_eq!(
        listed.iter().map(|(title, _)| &**title).collect::<Vec<_>>(),
        ["Weekly", "Blue"]
    );
    // A meeting that is not a breakout room of this meeting cannot be removed by its id.
    let other = server.meeting().await;
    let foreign = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(other.id.clone()),
        }],
    };
    let _ = ada
        .ask::<DisableConnectedRoomsResponse>(event::DELETE_CONNECTED_ROOMS, &foreign)
        .await;
    other.host().await;
}

async fn participants_are_moved_and_return(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let reply = ada
        .ask_on(
            event::MOVE_PEERS,
            event::MOVE_PEERS,
            &move_request(&meeting.id, &room, &[bob.user()]),
        )
        .await
        .unwrap();
    let bytes = reply.payload.unwrap();
    assert!(
        !bytes.windows(5).any(|window| window == b"error"),
        "the SDK treats that as a failure"
    );
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    assert_eq!(transfer.meeting_id.as_deref(), Some(&*room));
    let inside = Peer::open(&transferred_identity(bob.identity(), &transfer))
        .await
        .unwrap();
    let joined = inside.join().await.unwrap();
    bob.close(1000).await.unwrap();
    let (here, there) = (
        ada.identity().custom_id.clone(),
        bob.identity().custom_id.clone(),
    );
    wait_until("each participant is listed in their room", async || {
        (list_rooms(&ada).await
            == [
                ("Weekly".to_owned(), vec![here.clone()]),
                ("Red".to_owned(), vec![there.clone()]),
            ])
        .then_some(())
    })
    .await;
    assert_eq!(inside.roster().await.unwrap(), [inside.id()]);
    // A broadcast from the parent meeting to its rooms.
    let wave = BroadcastMessage {
        r#type: "wave".to_owned(),
        payload: "{}".into(),
        timestamp: 1,
        ids: vec![room.clone()],
        broadcast_type: Some(BroadcastType::Rooms.into()),
    };
    ada.ask_on(
        event::BROADCAST_TO_ENTITY,
        event::BROADCAST_TO_ENTITY,
        &wave,
    )
    .await
    .unwrap();
    inside.push_frame(event::BROADCAST_TO_ENTITY).await.unwrap();
    // The host moves the participant back.
    let user = joined.me.user_id;
    ada.ask_on(
        event::MOVE_PEERS,
        event::MOVE_PEERS,
        &move_request(&room, &meeting.id, &[&user]),
    )
    .await
    .unwrap();
    let transfer: TransferPeer = inside.push(event::TRANSFER_PEER).await.unwrap();
    assert_eq!(transfer.meeting_id.as_deref(), Some(&*meeting.id));
    let back = Peer::enter(&transferred_identity(inside.identity(), &transfer))
        .await
        .unwrap();
    inside.close(1000).await.unwrap();
    assert!(back.roster().await.unwrap().contains(&ada.id().to_owned()));
}

async fn participants_of_other_meetings_cannot_be_moved(server: &Server) {
    let (here, there) = (server.meeting().await, server.meeting().await);
    let (ada, victim) = (here.host().await, there.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    for request in [
        move_request(&there.id, &room, &[victim.user()]),
        move_request(&here.id, &there.id, &[ada.user()]),
        move_request("", "", &[""]),
        move_request(&here.id, &room, &[victim.user()]),
        move_request(&here.id, "nowhere", &[ada.user()]),
        MovePeersBetweenRoomsRequest::default(),
    ] {
        let moved = ada
            .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request)
            .await;
        // A reply without the word "error" means success (docs/spec/signalling.md 5).
        let payload = moved
            .ok()
            .and_then(|reply| reply.payload)
            .unwrap_or_default();
        let is_error = payload.is_empty() || payload.windows(5).any(|window| window == b"error");
        assert!(is_error, "{request:?}: {payload:?}");
    }
    settle(&[&ada, &victim]).await;
    assert!(victim.take_pushes(&[event::TRANSFER_PEER]).is_empty());
    assert!(ada.take_pushes(&[event::TRANSFER_PEER]).is_empty());
}

/// Returns a host who has moved themselves to a breakout room, a second host who has stayed, and
/// the id of the room.
async fn host_in_room(meeting: &Meeting) -> (Peer, Peer, String) {
    let (ada, bob) = (meeting.host().await, meeting.host().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let there = move_request(&meeting.id, &room, &[bob.user()]);
    bob.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &there)
        .await
        .unwrap();
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    let inside = Peer::enter(&transferred_identity(bob.identity(), &transfer))
        .await
        .unwrap();
    bob.close(1000).await.unwrap();
    (inside, ada, room)
}

/// Returns the id of the first participant of a room.
async fn first_participant(meeting: &Meeting, room: &str) -> String {
    let path = format!("{}/meetings/{room}/participants", meeting.app);
    let listed = meeting.get(&path).await.expect(200).unwrap();
    listed.as_array().unwrap()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Requests to be moved back as `me`, the id that the participant has in the room, and returns the
/// reply.
async fn move_back(meeting: &Meeting, room: &str, inside: &Peer, me: &str) -> String {
    let back = move_request(room, &meeting.id, &[me]);
    let reply = inside
        .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &back)
        .await
        .unwrap();
    String::from_utf8_lossy(&reply.payload.unwrap()).into_owned()
}

async fn find_participant(meeting: &Meeting, custom_id: &str) -> Option<Value> {
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let found = meeting.get(&path).await;
    (found.status == 200).then(|| found.body["data"].clone())
}

async fn a_returning_participant_has_the_currently_stored_preset(server: &Server) {
    let meeting = server.meeting().await;
    let (bob, _ada, room) = host_in_room(&meeting).await;
    let custom_id = bob.identity().custom_id.clone();
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let demoted = json!({ "preset_name": "group_call_participant" });
    meeting.patch(&path, &demoted).await.expect(200).unwrap();
    let me = first_participant(&meeting, &room).await;
    let reply = move_back(&meeting, &room, &bob, &me).await;
    assert!(!reply.contains("error"), "{reply}");
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    let back = Peer::enter(&transferred_identity(bob.identity(), &transfer))
        .await
        .unwrap();
    let participant = find_participant(&meeting, &custom_id).await.unwrap();
    assert_eq!(participant["preset_name"], "group_call_participant");
    let rooms = CreateConnectedRoomsRequest::default();
    let refused = back.refused(event::CREATE_CONNECTED_ROOMS, &rooms).await;
    assert_eq!(refused.unwrap().code, 403);
}

async fn a_deleted_participant_cannot_move_themselves_back(server: &Server) {
    let meeting = server.meeting().await;
    let (bob, _ada, room) = host_in_room(&meeting).await;
    let custom_id = bob.identity().custom_id.clone();
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let me = first_participant(&meeting, &room).await;
    meeting.delete(&path).await.expect(200).unwrap();
    let back = move_request(&room, &meeting.id, &[&me]);
    let refused = bob.refused(event::MOVE_PEERS, &back).await.unwrap();
    assert_eq!(refused.code, 403);
    settle(&[&bob]).await;
    assert!(bob.take_pushes(&[event::TRANSFER_PEER]).is_empty());
    assert_eq!(find_participant(&meeting, &custom_id).await, None);
    // Becoming a participant of the room again does not help.
    let path = format!("{}/meetings/{room}/participants", meeting.app);
    let body = json!({ "custom_participant_id": custom_id, "preset_name": "group_call_host" });
    let added = meeting.post(&path, &body).await.expect(201).unwrap();
    let text = |name: &str| added[name].as_str().unwrap().to_owned();
    let again = Identity {
        token: text("token"),
        participant: text("id"),
        ..bob.identity().in_another_tab()
    };
    let again = Peer::enter(&again).await.unwrap();
    let reply = move_back(&meeting, &room, &again, again.user()).await;
    assert!(reply.contains("error"), "{reply}");
    assert_eq!(find_participant(&meeting, &custom_id).await, None);
}

async fn hidden_participants_are_not_listed(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    create_rooms(&ada, &["Red"]).await;
    let eve = meeting
        .add_with_permissions(json!({ "hidden_participant": true }))
        .await;
    let eve = Peer::enter(&eve).await.unwrap();
    let bob = meeting.participant().await;
    let expected: Vec<String> = [&ada, &bob]
        .iter()
        .map(|peer| peer.identity().custom_id.clone())
        .collect();
    for peer in [&ada, &eve] {
        assert_eq!(list_rooms(peer).await[0].1, expected);
    }
    // The dump pushed to everybody after a join has the same contents.
    let push = wait_until("the dump is pushed", async || {
        let pushed = bob.take_pushes(&[event::GET_CONNECTED_ROOMS_DUMP]);
        pushed.last().cloned()
    })
    .await;
    let dump: GetConnectedRoomsDumpResponse = push.message().unwrap();
    assert_eq!(dump.parent_meeting.unwrap().participants.len(), 2);
}

async fn a_malformed_request_moves_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let mut request = move_request(&meeting.id, &room, &[bob.user(), ada.user()]);
    request.participants[1].preset_id = Some("the best one".to_owned());
    let refused = ada.refused(event::MOVE_PEERS, &request).await.unwrap();
    assert_eq!(refused.code, 400);
    settle(&[&bob]).await;
    assert!(bob.take_pushes(&[event::TRANSFER_PEER]).is_empty());
    let path = format!("{}/meetings/{room}/participants", meeting.app);
    let listed = meeting.get(&path).await.expect(200).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 0);
}
