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
use crate::signalling::server::{Server, until};

on_both_databases![
    rooms_are_made_listed_and_removed,
    people_are_moved_and_come_back,
    nobody_is_moved_out_of_a_strange_meeting,
    whoever_comes_back_is_what_the_records_say_by_now,
    whoever_was_deleted_does_not_bring_themselves_back,
    the_hidden_are_not_listed,
    of_a_malformed_request_nobody_is_moved,
];

/// Makes breakout rooms and answers their ids.
pub(crate) async fn make(host: &Peer, titles: &[&str]) -> Vec<String> {
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
    let made = reply.payloads.into_iter().map(|room| {
        assert!(room.error.is_none(), "{room:?}");
        room.id.unwrap()
    });
    made.collect()
}

/// The rooms by title, and the custom ids of those in them.
async fn dump(peer: &Peer) -> Vec<(String, Vec<String>)> {
    let dump: GetConnectedRoomsDumpResponse = loop {
        match peer.ask_bare(event::GET_CONNECTED_ROOMS_DUMP).await {
            // It may not be asked as often as a test asks whether it is true yet.
            Err(error)
                if error
                    .downcast_ref::<Refused>()
                    .is_some_and(|no| no.code == 429) =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            answer => break answer.unwrap(),
        }
    };
    let parent = dump.parent_meeting.expect("the SDK fails without it");
    let mut rooms: Vec<_> = [parent]
        .into_iter()
        .chain(dump.meetings)
        .map(|room| {
            let mut people: Vec<String> = room
                .participants
                .into_iter()
                .map(|person| {
                    person
                        .custom_participant_id
                        .expect("the UI tells people apart by it")
                })
                .collect();
            people.sort();
            (room.title.unwrap(), people)
        })
        .collect();
    rooms[1..].sort();
    rooms
}

pub(crate) fn movement(from: &str, to: &str, who: &[&str]) -> MovePeersBetweenRoomsRequest {
    MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(from.to_owned()),
        destination_meeting_id: Some(to.to_owned()),
        participants: who
            .iter()
            .map(|&id| MovePeerPayload {
                id: Some(id.to_owned()),
                preset_id: None,
            })
            .collect(),
    }
}

/// Whoever a client becomes by a transfer: a new peer, in the other meeting, with the new token.
pub(crate) fn transferred(person: &Identity, transfer: &TransferPeer) -> Identity {
    Identity {
        meeting: transfer.meeting_id.clone().unwrap(),
        token: transfer.auth_token.clone().unwrap(),
        peer: signal::new_peer_id(),
        ..person.clone()
    }
}

async fn rooms_are_made_listed_and_removed(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let made = make(&ada, &["Red", "Blue"]).await;
    assert_eq!(made.len(), 2);
    let listed = dump(&bob).await;
    assert_eq!(
        listed.iter().map(|(title, _)| &**title).collect::<Vec<_>>(),
        ["Weekly", "Blue", "Red"]
    );
    assert_eq!(listed[0].1.len(), 2);
    let remove = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(made[0].clone()),
        }],
    };
    ada.ask::<DisableConnectedRoomsResponse>(event::DELETE_CONNECTED_ROOMS, &remove)
        .await
        .unwrap();
    let listed = dump(&ada).await;
    assert_eq!(
        listed.iter().map(|(title, _)| &**title).collect::<Vec<_>>(),
        ["Weekly", "Blue"]
    );
    // A meeting that is no breakout room of this one is not removed by its id.
    let other = server.meeting().await;
    let strange = DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(other.id.clone()),
        }],
    };
    let _ = ada
        .ask::<DisableConnectedRoomsResponse>(event::DELETE_CONNECTED_ROOMS, &strange)
        .await;
    other.host().await;
}

async fn people_are_moved_and_come_back(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let reply = ada
        .ask_on(
            event::MOVE_PEERS,
            event::MOVE_PEERS,
            &movement(&meeting.id, &room, &[bob.user()]),
        )
        .await
        .unwrap();
    let bytes = reply.payload.unwrap();
    assert!(
        !bytes.windows(5).any(|window| window == b"error"),
        "the SDK takes that for a failure"
    );
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    assert_eq!(transfer.meeting_id.as_deref(), Some(&*room));
    let inside = Peer::open(&transferred(bob.identity(), &transfer))
        .await
        .unwrap();
    let joined = inside.join().await.unwrap();
    bob.close(1000).await.unwrap();
    let (here, there) = (
        ada.identity().custom_id.clone(),
        bob.identity().custom_id.clone(),
    );
    until("each is where they are", async || {
        (dump(&ada).await
            == [
                ("Weekly".to_owned(), vec![here.clone()]),
                ("Red".to_owned(), vec![there.clone()]),
            ])
        .then_some(())
    })
    .await;
    assert_eq!(inside.roster().await.unwrap(), [inside.id()]);
    // From the parent to the children.
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
    // And back again, by the host.
    let user = joined.me.user_id;
    ada.ask_on(
        event::MOVE_PEERS,
        event::MOVE_PEERS,
        &movement(&room, &meeting.id, &[&user]),
    )
    .await
    .unwrap();
    let transfer: TransferPeer = inside.push(event::TRANSFER_PEER).await.unwrap();
    assert_eq!(transfer.meeting_id.as_deref(), Some(&*meeting.id));
    let back = Peer::enter(&transferred(inside.identity(), &transfer))
        .await
        .unwrap();
    inside.close(1000).await.unwrap();
    assert!(back.roster().await.unwrap().contains(&ada.id().to_owned()));
}

async fn nobody_is_moved_out_of_a_strange_meeting(server: &Server) {
    let (here, there) = (server.meeting().await, server.meeting().await);
    let (ada, victim) = (here.host().await, there.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    for request in [
        movement(&there.id, &room, &[victim.user()]),
        movement(&here.id, &there.id, &[ada.user()]),
        movement("", "", &[""]),
        movement(&here.id, &room, &[victim.user()]),
        movement(&here.id, "nowhere", &[ada.user()]),
        MovePeersBetweenRoomsRequest::default(),
    ] {
        let moved = ada
            .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request)
            .await;
        // Success is that the reply does not say "error" (docs/spec/signalling.md 5).
        let said = moved
            .ok()
            .and_then(|reply| reply.payload)
            .unwrap_or_default();
        let is_error = said.is_empty() || said.windows(5).any(|window| window == b"error");
        assert!(is_error, "{request:?}: {said:?}");
    }
    settle(&[&ada, &victim]).await;
    assert!(victim.untaken(&[event::TRANSFER_PEER]).is_empty());
    assert!(ada.untaken(&[event::TRANSFER_PEER]).is_empty());
}

/// A host who has moved themselves to a breakout room; and, as the second, somebody else who stays.
async fn gone_to_a_room(meeting: &Meeting) -> (Peer, Peer, String) {
    let (ada, bob) = (meeting.host().await, meeting.host().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let there = movement(&meeting.id, &room, &[bob.user()]);
    bob.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &there)
        .await
        .unwrap();
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    let inside = Peer::enter(&transferred(bob.identity(), &transfer))
        .await
        .unwrap();
    bob.close(1000).await.unwrap();
    (inside, ada, room)
}

/// The first participant of a room.
async fn first_of(meeting: &Meeting, room: &str) -> String {
    let path = format!("{}/meetings/{room}/participants", meeting.app);
    let listed = meeting.get(&path).await.expect(200).unwrap();
    listed.as_array().unwrap()[0]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Asks to be moved back oneself, as the participant that one is in the room.
async fn move_back(meeting: &Meeting, room: &str, inside: &Peer, me: &str) -> String {
    let back = movement(room, &meeting.id, &[me]);
    let reply = inside
        .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &back)
        .await
        .unwrap();
    String::from_utf8_lossy(&reply.payload.unwrap()).into_owned()
}

async fn person_of(meeting: &Meeting, custom_id: &str) -> Option<Value> {
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let found = meeting.get(&path).await;
    (found.status == 200).then(|| found.body["data"].clone())
}

async fn whoever_comes_back_is_what_the_records_say_by_now(server: &Server) {
    let meeting = server.meeting().await;
    let (bob, _ada, room) = gone_to_a_room(&meeting).await;
    let custom_id = bob.identity().custom_id.clone();
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let demoted = json!({ "preset_name": "group_call_participant" });
    meeting.patch(&path, &demoted).await.expect(200).unwrap();
    let me = first_of(&meeting, &room).await;
    let said = move_back(&meeting, &room, &bob, &me).await;
    assert!(!said.contains("error"), "{said}");
    let transfer: TransferPeer = bob.push(event::TRANSFER_PEER).await.unwrap();
    let back = Peer::enter(&transferred(bob.identity(), &transfer))
        .await
        .unwrap();
    let person = person_of(&meeting, &custom_id).await.unwrap();
    assert_eq!(person["preset_name"], "group_call_participant");
    let rooms = CreateConnectedRoomsRequest::default();
    let refused = back.refused(event::CREATE_CONNECTED_ROOMS, &rooms).await;
    assert_eq!(refused.unwrap().code, 403);
}

async fn whoever_was_deleted_does_not_bring_themselves_back(server: &Server) {
    let meeting = server.meeting().await;
    let (bob, _ada, room) = gone_to_a_room(&meeting).await;
    let custom_id = bob.identity().custom_id.clone();
    let path = meeting.path(&format!("/participants/custom:{custom_id}"));
    let me = first_of(&meeting, &room).await;
    meeting.delete(&path).await.expect(200).unwrap();
    let back = movement(&room, &meeting.id, &[&me]);
    let refused = bob.refused(event::MOVE_PEERS, &back).await.unwrap();
    assert_eq!(refused.code, 403);
    settle(&[&bob]).await;
    assert!(bob.untaken(&[event::TRANSFER_PEER]).is_empty());
    assert_eq!(person_of(&meeting, &custom_id).await, None);
    // Nor does it help to be a participant of the room again.
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
    let said = move_back(&meeting, &room, &again, again.user()).await;
    assert!(said.contains("error"), "{said}");
    assert_eq!(person_of(&meeting, &custom_id).await, None);
}

async fn the_hidden_are_not_listed(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    make(&ada, &["Red"]).await;
    let eve = meeting
        .person_who(json!({ "hidden_participant": true }))
        .await;
    let eve = Peer::enter(&eve).await.unwrap();
    let bob = meeting.participant().await;
    let expected: Vec<String> = [&ada, &bob]
        .iter()
        .map(|peer| peer.identity().custom_id.clone())
        .collect();
    for peer in [&ada, &eve] {
        assert_eq!(dump(peer).await[0].1, expected);
    }
    // And what everybody is told after somebody has come says the same.
    let told = until("everybody is told", async || {
        let pushed = bob.untaken(&[event::GET_CONNECTED_ROOMS_DUMP]);
        pushed.last().cloned()
    })
    .await;
    let told: GetConnectedRoomsDumpResponse = told.message().unwrap();
    assert_eq!(told.parent_meeting.unwrap().participants.len(), 2);
}

async fn of_a_malformed_request_nobody_is_moved(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let mut request = movement(&meeting.id, &room, &[bob.user(), ada.user()]);
    request.participants[1].preset_id = Some("the best one".to_owned());
    let refused = ada.refused(event::MOVE_PEERS, &request).await.unwrap();
    assert_eq!(refused.code, 400);
    settle(&[&bob]).await;
    assert!(bob.untaken(&[event::TRANSFER_PEER]).is_empty());
    let path = format!("{}/meetings/{room}/participants", meeting.app);
    let listed = meeting.get(&path).await.expect(200).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 0);
}
