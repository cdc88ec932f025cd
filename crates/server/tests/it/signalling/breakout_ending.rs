//! Deleting or deactivating a meeting ends its breakout rooms.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    CreateConnectedRoomsRequest, CreateRoomRequestPayload, DisableConnectedRoomsRequest,
    DisableConnectedRoomsResponse, DisableRoomPayload, PeerInfoResponse,
};
use parlor_testkit::signal::{Identity, Peer};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::breakout::{move_request, transferred_identity};
use crate::signalling::breakout_moderation::MeetingWithRooms;
use crate::signalling::meeting::{Meeting, assert_rejected, send_message, settle};
use crate::signalling::revocation::assert_cannot_join;
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    deleting_a_meeting_deletes_its_breakout_rooms,
    deleting_a_breakout_room_affects_nothing_else,
    no_breakout_room_is_created_while_the_meeting_is_deleted,
    nobody_is_moved_while_the_meeting_is_deleted,
    a_previously_removed_room_is_deleted_with_the_meeting,
    a_reactivated_room_is_kept,
    deleting_an_app_ends_breakout_rooms_at_once,
    breakout_rooms_of_an_inactive_meeting_admit_nobody,
    breakout_rooms_follow_the_latest_status_of_the_meeting,
    nobody_is_moved_within_an_inactive_meeting,
    rooms_of_an_inactive_meeting_can_be_removed_only_when_empty,
    sessions_of_removed_rooms_are_listed,
];

/// Returns the ids of the app's meetings, and checks that `total_count` agrees.
async fn list_meetings(meeting: &Meeting) -> Vec<String> {
    let response = meeting.get(&format!("{}/meetings", meeting.app)).await;
    let total = response.body["paging"]["total_count"].clone();
    let listed = response.expect(200).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(total, listed.len(), "total_count of the app");
    let id = |meeting: &Value| meeting["id"].as_str().unwrap().to_owned();
    listed.iter().map(id).collect()
}

async fn delete_meeting(meeting: &Meeting, id: &str) {
    let path = format!("{}/meetings/{id}", meeting.app);
    meeting.delete(&path).await.expect(200).unwrap();
}

async fn set_status(meeting: &Meeting, id: &str, status: &str) {
    let path = format!("{}/meetings/{id}", meeting.app);
    let body = json!({ "status": status });
    meeting.patch(&path, &body).await.expect(200).unwrap();
}

async fn assert_kicked_out(peer: &Peer) {
    peer.push_frame(event::KICK_ALL).await.unwrap();
    assert_eq!(peer.closed().await.unwrap().code, Some(1000));
    assert_rejected(&peer.identity().in_another_tab()).await;
}

/// Sends the first request of a client, with its join token, and returns the status.
async fn details_status(server: &Server, identity: &Identity) -> u16 {
    let url = format!("{}/v2/internals/participant-details", server.origin());
    let request = reqwest::Client::new().get(url).bearer_auth(&identity.token);
    request.send().await.unwrap().status().as_u16()
}

fn removal_of_first_room(rooms: &MeetingWithRooms) -> DisableConnectedRoomsRequest {
    DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(rooms.rooms[0].clone()),
        }],
    }
}

/// Removes the first room as the host.
async fn remove_first_room(rooms: &MeetingWithRooms) {
    let remove = removal_of_first_room(rooms);
    let event = event::DELETE_CONNECTED_ROOMS;
    let reply = rooms
        .host
        .ask::<DisableConnectedRoomsResponse>(event, &remove);
    reply.await.unwrap();
}

async fn deleting_a_meeting_deletes_its_breakout_rooms(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let ((bob, before), (carol, _)) =
        (rooms.participant_in(0).await, rooms.participant_in(1).await);
    // A peer that is connected to a room but has not joined it.
    let outside = Peer::open(&bob.identity().in_another_tab()).await.unwrap();
    outside.roster().await.unwrap();
    let other = Meeting::create(
        server,
        rooms.meeting.app.clone(),
        json!({ "title": "Other" }),
    )
    .await;
    let bystander = other.host().await;
    assert_eq!(list_meetings(&other).await.len(), 4);
    delete_meeting(&rooms.meeting, &rooms.meeting.id).await;
    for peer in [&rooms.host, &bob, &carol, &outside] {
        assert_kicked_out(peer).await;
    }
    assert_rejected(&before.in_another_tab()).await;
    for peer in [&bob, &carol] {
        assert_eq!(details_status(server, peer.identity()).await, 404);
    }
    for room in &rooms.rooms {
        let path = format!("{}/meetings/{room}", other.app);
        assert_eq!(other.get(&path).await.status, 404);
        let body = json!({ "preset_name": "group_call_host", "custom_participant_id": "late" });
        let added = other.post(&format!("{path}/participants"), &body).await;
        assert_eq!(added.status, 404, "{}", added.body);
    }
    assert_eq!(list_meetings(&other).await, [&*other.id]);
    let found = other
        .get(&format!("{}/meetings?search=red", other.app))
        .await;
    assert_eq!(found.expect(200).unwrap(), json!([]));
    settle(&[&bystander]).await;
    assert!(bystander.take_pushes(&[event::KICK_ALL]).is_empty());
}

async fn deleting_a_breakout_room_affects_nothing_else(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let ((bob, before), (carol, _)) =
        (rooms.participant_in(0).await, rooms.participant_in(1).await);
    delete_meeting(&rooms.meeting, &rooms.rooms[0]).await;
    assert_kicked_out(&bob).await;
    settle(&[&rooms.host, &carol]).await;
    for peer in [&rooms.host, &carol] {
        assert!(peer.take_pushes(&[event::KICK_ALL]).is_empty());
        Peer::enter(&peer.identity().in_another_tab())
            .await
            .unwrap();
    }
    Peer::enter(&before.in_another_tab()).await.unwrap();
    assert_eq!(list_meetings(&rooms.meeting).await.len(), 2);
}

async fn no_breakout_room_is_created_while_the_meeting_is_deleted(server: &Server) {
    let app = server.create_app().await;
    let room = |number| CreateRoomRequestPayload {
        title: Some(format!("Room {number}")),
    };
    let request = CreateConnectedRoomsRequest {
        payloads: (0..5).map(room).collect(),
    };
    for _ in 0..24 {
        let meeting = Meeting::create(server, app.clone(), json!({})).await;
        let host = meeting.host().await;
        let (sent, ()) = tokio::join!(
            host.tell(event::CREATE_CONNECTED_ROOMS, &request),
            delete_meeting(&meeting, &meeting.id)
        );
        sent.unwrap();
    }
    let last = Meeting::create(server, app, json!({})).await;
    assert_eq!(list_meetings(&last).await, [&*last.id]);
}

async fn nobody_is_moved_while_the_meeting_is_deleted(server: &Server) {
    let mut admitted = 0;
    for _ in 0..12 {
        let rooms = MeetingWithRooms::create(server).await;
        let bob = rooms.meeting.participant().await;
        let request = move_request(&rooms.meeting.id, &rooms.rooms[0], &[bob.user()]);
        let (sent, ()) = tokio::join!(
            rooms.host.tell(event::MOVE_PEERS, &request),
            delete_meeting(&rooms.meeting, &rooms.meeting.id)
        );
        sent.unwrap();
        bob.push_frame(event::KICK_ALL).await.unwrap();
        for transfer in bob.take_pushes(&[event::TRANSFER_PEER]) {
            let there = transferred_identity(bob.identity(), &transfer.message().unwrap());
            admitted += usize::from(details_status(server, &there).await != 404);
        }
        assert!(list_meetings(&rooms.meeting).await.is_empty());
    }
    assert_eq!(admitted, 0);
}

async fn a_previously_removed_room_is_deleted_with_the_meeting(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    send_message(&bob, "in the room").await;
    remove_first_room(&rooms).await;
    bob.push_frame(event::KICK_ALL).await.unwrap();
    // Its record is kept until the meeting is deleted.
    assert_eq!(list_meetings(&rooms.meeting).await.len(), 3);
    delete_meeting(&rooms.meeting, &rooms.meeting.id).await;
    wait_until("the removed room is deleted", async || {
        let left = list_meetings(&rooms.meeting).await;
        left.is_empty().then_some(())
    })
    .await;
    assert_rejected(&bob.identity().in_another_tab()).await;
}

async fn a_reactivated_room_is_kept(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    remove_first_room(&rooms).await;
    bob.push_frame(event::KICK_ALL).await.unwrap();
    set_status(&rooms.meeting, &rooms.rooms[0], "ACTIVE").await;
    // The deletion of a second, identical meeting shows when the sweeper has run.
    let late = MeetingWithRooms::create(server).await;
    remove_first_room(&late).await;
    delete_meeting(&rooms.meeting, &rooms.meeting.id).await;
    delete_meeting(&late.meeting, &late.meeting.id).await;
    wait_until("the removed room is deleted", async || {
        let left = list_meetings(&late.meeting).await;
        left.is_empty().then_some(())
    })
    .await;
    assert_eq!(list_meetings(&rooms.meeting).await, [&*rooms.rooms[0]]);
    Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
}

async fn deleting_an_app_ends_breakout_rooms_at_once(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    let (kit, id) = rooms.meeting.app.rsplit_once('/').unwrap();
    let deleted = rooms.meeting.delete(&format!("{kit}/apps/{id}")).await;
    deleted.expect(200).unwrap();
    for peer in [&rooms.host, &bob] {
        assert_kicked_out(peer).await;
        assert_eq!(details_status(server, peer.identity()).await, 404);
    }
}

async fn breakout_rooms_of_an_inactive_meeting_admit_nobody(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let ((bob, _), (carol, _)) = (rooms.participant_in(0).await, rooms.participant_in(1).await);
    // This room is empty, and does not run.
    let away = carol.identity().in_another_tab();
    carol.leave().await.unwrap();
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    for late in [bob.identity().in_another_tab(), away.in_another_tab()] {
        assert_cannot_join(&late).await;
        assert_eq!(details_status(server, &late).await, 403);
    }
    // As in the meeting itself, participants that have joined stay, even if their socket breaks.
    send_message(&bob, "we go on").await;
    let bob = bob.cut().await;
    Peer::open(&bob).await.unwrap().rejoin().await.unwrap();
    set_status(&rooms.meeting, &rooms.meeting.id, "ACTIVE").await;
    for late in [bob.in_another_tab(), away.in_another_tab()] {
        Peer::enter(&late).await.unwrap();
        assert_eq!(details_status(server, &late).await, 200);
    }
    // A room that was deactivated itself stays inactive.
    set_status(&rooms.meeting, &rooms.rooms[1], "INACTIVE").await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    set_status(&rooms.meeting, &rooms.meeting.id, "ACTIVE").await;
    assert_cannot_join(&away.in_another_tab()).await;
}

async fn breakout_rooms_follow_the_latest_status_of_the_meeting(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    let id = &rooms.meeting.id;
    let mut wrong = Vec::new();
    for round in 0..12 {
        tokio::join!(
            set_status(&rooms.meeting, id, "ACTIVE"),
            set_status(&rooms.meeting, id, "INACTIVE"),
            set_status(&rooms.meeting, id, "ACTIVE"),
            set_status(&rooms.meeting, id, "INACTIVE"),
        );
        let meeting = rooms.meeting.get(&rooms.meeting.path("")).await;
        let status = meeting.expect(200).unwrap()["status"].clone();
        let late = Peer::open(&bob.identity().in_another_tab()).await.unwrap();
        let request = late.identity().join_request();
        let joined = late.ask::<PeerInfoResponse>(event::JOIN_ROOM, &request);
        let joined = joined.await.is_ok();
        if joined != (status == "ACTIVE") {
            wrong.push((round, status));
        }
        late.close(1000).await.unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

async fn nobody_is_moved_within_an_inactive_meeting(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    let carol = rooms.meeting.participant().await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    let (meeting, red) = (&rooms.meeting.id, &rooms.rooms[0]);
    for request in [
        move_request(meeting, red, &[carol.user()]),
        move_request(red, meeting, &[bob.user()]),
    ] {
        let refused = rooms.host.refused(event::MOVE_PEERS, &request).await;
        assert_eq!(refused.unwrap().code, 403);
    }
    settle(&[&bob, &carol]).await;
    for peer in [&bob, &carol] {
        assert!(peer.take_pushes(&[event::TRANSFER_PEER]).is_empty());
    }
}

/// Clients move everybody out of a room before they remove it, and such a move is refused.
async fn rooms_of_an_inactive_meeting_can_be_removed_only_when_empty(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    let removal = removal_of_first_room(&rooms);
    let refused = rooms
        .host
        .refused(event::DELETE_CONNECTED_ROOMS, &removal)
        .await;
    assert_eq!(refused.unwrap().code, 403);
    send_message(&bob, "we go on").await;
    bob.leave().await.unwrap();
    remove_first_room(&rooms).await;
}

async fn sessions_of_removed_rooms_are_listed(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    remove_first_room(&rooms).await;
    bob.push_frame(event::KICK_ALL).await.unwrap();
    let session = rooms.meeting.active_session().await.unwrap();
    let path = format!(
        "{}/sessions/{}?include_breakout_rooms=true",
        rooms.meeting.app,
        session["id"].as_str().unwrap()
    );
    let shown = rooms.meeting.get(&path).await.expect(200).unwrap();
    let listed = shown["breakout_rooms"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{shown}");
    assert_eq!(listed[0]["associated_id"], rooms.rooms[0]);
}
