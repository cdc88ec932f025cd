//! A meeting that is deleted or closed takes its breakout rooms with it.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    CreateConnectedRoomsRequest, CreateRoomRequestPayload, DisableConnectedRoomsRequest,
    DisableConnectedRoomsResponse, DisableRoomPayload, PeerInfoResponse,
};
use parlor_testkit::signal::{Identity, Peer};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::breakout::{movement, transferred};
use crate::signalling::meeting::{Meeting, is_turned_away, say, settle};
use crate::signalling::reach::Divided;
use crate::signalling::revocation::may_not_join;
use crate::signalling::server::{Server, until};

on_both_databases![
    a_deleted_meeting_takes_its_breakout_rooms_with_it,
    a_deleted_breakout_room_takes_nothing_else_with_it,
    no_breakout_room_is_made_while_the_meeting_is_deleted,
    nobody_is_moved_while_the_meeting_is_deleted,
    a_room_that_was_removed_before_is_deleted_with_the_meeting,
    a_room_that_was_made_active_again_stays,
    a_deleted_app_ends_breakout_rooms_at_once,
    an_inactive_meeting_takes_nobody_into_its_breakout_rooms,
    breakout_rooms_are_open_or_closed_as_the_meeting_was_last,
    nobody_is_moved_to_where_nobody_is_taken_in,
    rooms_of_an_inactive_meeting_stay_until_they_are_empty,
    sessions_of_rooms_that_were_removed_are_listed,
];

/// The ids of the app's meetings, as many as the list says there are.
async fn meetings_of(meeting: &Meeting) -> Vec<String> {
    let answer = meeting.get(&format!("{}/meetings", meeting.app)).await;
    let total = answer.body["paging"]["total_count"].clone();
    let listed = answer.expect(200).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(total, listed.len(), "the tally of the app");
    let id = |one: &Value| one["id"].as_str().unwrap().to_owned();
    listed.iter().map(id).collect()
}

async fn delete(meeting: &Meeting, id: &str) {
    let path = format!("{}/meetings/{id}", meeting.app);
    meeting.delete(&path).await.expect(200).unwrap();
}

async fn set_status(meeting: &Meeting, id: &str, status: &str) {
    let path = format!("{}/meetings/{id}", meeting.app);
    let body = json!({ "status": status });
    meeting.patch(&path, &body).await.expect(200).unwrap();
}

async fn is_put_out(peer: &Peer) {
    peer.push_frame(event::KICK_ALL).await.unwrap();
    assert_eq!(peer.closed().await.unwrap().code, Some(1000));
    is_turned_away(&peer.identity().in_another_tab()).await;
}

/// What a client asks first, with its join token: the status.
async fn details(server: &Server, person: &Identity) -> u16 {
    let url = format!("{}/v2/internals/participant-details", server.origin());
    let request = reqwest::Client::new().get(url).bearer_auth(&person.token);
    request.send().await.unwrap().status().as_u16()
}

fn removal_of_the_first(rooms: &Divided) -> DisableConnectedRoomsRequest {
    DisableConnectedRoomsRequest {
        payloads: vec![DisableRoomPayload {
            id: Some(rooms.rooms[0].clone()),
        }],
    }
}

/// The host removes the first room, which nobody is in any more.
async fn remove_the_first(rooms: &Divided) {
    let remove = removal_of_the_first(rooms);
    let removed = event::DELETE_CONNECTED_ROOMS;
    let reply = rooms
        .host
        .ask::<DisableConnectedRoomsResponse>(removed, &remove);
    reply.await.unwrap();
}

async fn a_deleted_meeting_takes_its_breakout_rooms_with_it(server: &Server) {
    let rooms = Divided::of(server).await;
    let ((bob, before), (carol, _)) = (rooms.moved(0).await, rooms.moved(1).await);
    // On the setup screen of a room.
    let outside = Peer::open(&bob.identity().in_another_tab()).await.unwrap();
    outside.roster().await.unwrap();
    let other = Meeting::make(
        server,
        rooms.meeting.app.clone(),
        json!({ "title": "Other" }),
    )
    .await;
    let bystander = other.host().await;
    assert_eq!(meetings_of(&other).await.len(), 4);
    delete(&rooms.meeting, &rooms.meeting.id).await;
    for peer in [&rooms.host, &bob, &carol, &outside] {
        is_put_out(peer).await;
    }
    is_turned_away(&before.in_another_tab()).await;
    for peer in [&bob, &carol] {
        assert_eq!(details(server, peer.identity()).await, 404);
    }
    for room in &rooms.rooms {
        let path = format!("{}/meetings/{room}", other.app);
        assert_eq!(other.get(&path).await.status, 404);
        let body = json!({ "preset_name": "group_call_host", "custom_participant_id": "late" });
        let added = other.post(&format!("{path}/participants"), &body).await;
        assert_eq!(added.status, 404, "{}", added.body);
    }
    assert_eq!(meetings_of(&other).await, [&*other.id]);
    let found = other
        .get(&format!("{}/meetings?search=red", other.app))
        .await;
    assert_eq!(found.expect(200).unwrap(), json!([]));
    settle(&[&bystander]).await;
    assert!(bystander.untaken(&[event::KICK_ALL]).is_empty());
}

async fn a_deleted_breakout_room_takes_nothing_else_with_it(server: &Server) {
    let rooms = Divided::of(server).await;
    let ((bob, before), (carol, _)) = (rooms.moved(0).await, rooms.moved(1).await);
    delete(&rooms.meeting, &rooms.rooms[0]).await;
    is_put_out(&bob).await;
    settle(&[&rooms.host, &carol]).await;
    for peer in [&rooms.host, &carol] {
        assert!(peer.untaken(&[event::KICK_ALL]).is_empty());
        Peer::enter(&peer.identity().in_another_tab())
            .await
            .unwrap();
    }
    Peer::enter(&before.in_another_tab()).await.unwrap();
    assert_eq!(meetings_of(&rooms.meeting).await.len(), 2);
}

async fn no_breakout_room_is_made_while_the_meeting_is_deleted(server: &Server) {
    let app = server.app().await;
    let room = |number| CreateRoomRequestPayload {
        title: Some(format!("Room {number}")),
    };
    let request = CreateConnectedRoomsRequest {
        payloads: (0..5).map(room).collect(),
    };
    for _ in 0..24 {
        let meeting = Meeting::make(server, app.clone(), json!({})).await;
        let host = meeting.host().await;
        let (asked, ()) = tokio::join!(
            host.tell(event::CREATE_CONNECTED_ROOMS, &request),
            delete(&meeting, &meeting.id)
        );
        asked.unwrap();
    }
    let last = Meeting::make(server, app, json!({})).await;
    assert_eq!(meetings_of(&last).await, [&*last.id]);
}

async fn nobody_is_moved_while_the_meeting_is_deleted(server: &Server) {
    let mut admitted = 0;
    for _ in 0..12 {
        let rooms = Divided::of(server).await;
        let bob = rooms.meeting.participant().await;
        let request = movement(&rooms.meeting.id, &rooms.rooms[0], &[bob.user()]);
        let (asked, ()) = tokio::join!(
            rooms.host.tell(event::MOVE_PEERS, &request),
            delete(&rooms.meeting, &rooms.meeting.id)
        );
        asked.unwrap();
        bob.push_frame(event::KICK_ALL).await.unwrap();
        for transfer in bob.untaken(&[event::TRANSFER_PEER]) {
            let there = transferred(bob.identity(), &transfer.message().unwrap());
            admitted += usize::from(details(server, &there).await != 404);
        }
        assert!(meetings_of(&rooms.meeting).await.is_empty());
    }
    assert_eq!(admitted, 0);
}

async fn a_room_that_was_removed_before_is_deleted_with_the_meeting(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    say(&bob, "in the room").await;
    remove_the_first(&rooms).await;
    bob.push_frame(event::KICK_ALL).await.unwrap();
    // It is a record until the meeting is deleted.
    assert_eq!(meetings_of(&rooms.meeting).await.len(), 3);
    delete(&rooms.meeting, &rooms.meeting.id).await;
    until("the removed room is deleted", async || {
        let left = meetings_of(&rooms.meeting).await;
        left.is_empty().then_some(())
    })
    .await;
    is_turned_away(&bob.identity().in_another_tab()).await;
}

async fn a_room_that_was_made_active_again_stays(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    remove_the_first(&rooms).await;
    bob.push_frame(event::KICK_ALL).await.unwrap();
    set_status(&rooms.meeting, &rooms.rooms[0], "ACTIVE").await;
    // A meeting that is removed after it, in the same way, shows when the sweeper was there.
    let late = Divided::of(server).await;
    remove_the_first(&late).await;
    delete(&rooms.meeting, &rooms.meeting.id).await;
    delete(&late.meeting, &late.meeting.id).await;
    until("the removed room is deleted", async || {
        let left = meetings_of(&late.meeting).await;
        left.is_empty().then_some(())
    })
    .await;
    assert_eq!(meetings_of(&rooms.meeting).await, [&*rooms.rooms[0]]);
    Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
}

async fn a_deleted_app_ends_breakout_rooms_at_once(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    let (kit, id) = rooms.meeting.app.rsplit_once('/').unwrap();
    let gone = rooms.meeting.delete(&format!("{kit}/apps/{id}")).await;
    gone.expect(200).unwrap();
    for peer in [&rooms.host, &bob] {
        is_put_out(peer).await;
        assert_eq!(details(server, peer.identity()).await, 404);
    }
}

async fn an_inactive_meeting_takes_nobody_into_its_breakout_rooms(server: &Server) {
    let rooms = Divided::of(server).await;
    let ((bob, _), (carol, _)) = (rooms.moved(0).await, rooms.moved(1).await);
    // Nobody is in this room any more, and it does not run.
    let away = carol.identity().in_another_tab();
    carol.leave().await.unwrap();
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    for late in [bob.identity().in_another_tab(), away.in_another_tab()] {
        may_not_join(&late).await;
        assert_eq!(details(server, &late).await, 403);
    }
    // As in the meeting itself: whoever is inside stays, also when their socket breaks.
    say(&bob, "we go on").await;
    let bob = bob.cut().await;
    Peer::open(&bob).await.unwrap().rejoin().await.unwrap();
    set_status(&rooms.meeting, &rooms.meeting.id, "ACTIVE").await;
    for late in [bob.in_another_tab(), away.in_another_tab()] {
        Peer::enter(&late).await.unwrap();
        assert_eq!(details(server, &late).await, 200);
    }
    // A room that is closed itself stays so.
    set_status(&rooms.meeting, &rooms.rooms[1], "INACTIVE").await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    set_status(&rooms.meeting, &rooms.meeting.id, "ACTIVE").await;
    may_not_join(&away.in_another_tab()).await;
}

async fn breakout_rooms_are_open_or_closed_as_the_meeting_was_last(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
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

async fn nobody_is_moved_to_where_nobody_is_taken_in(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    let carol = rooms.meeting.participant().await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    let (meeting, red) = (&rooms.meeting.id, &rooms.rooms[0]);
    for request in [
        movement(meeting, red, &[carol.user()]),
        movement(red, meeting, &[bob.user()]),
    ] {
        let refused = rooms.host.refused(event::MOVE_PEERS, &request).await;
        assert_eq!(refused.unwrap().code, 403);
    }
    settle(&[&bob, &carol]).await;
    for peer in [&bob, &carol] {
        assert!(peer.untaken(&[event::TRANSFER_PEER]).is_empty());
    }
}

/// Whoever closes rooms moves everybody out first, and that is refused.
async fn rooms_of_an_inactive_meeting_stay_until_they_are_empty(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    set_status(&rooms.meeting, &rooms.meeting.id, "INACTIVE").await;
    let removal = removal_of_the_first(&rooms);
    let refused = rooms
        .host
        .refused(event::DELETE_CONNECTED_ROOMS, &removal)
        .await;
    assert_eq!(refused.unwrap().code, 403);
    say(&bob, "we go on").await;
    bob.leave().await.unwrap();
    remove_the_first(&rooms).await;
}

async fn sessions_of_rooms_that_were_removed_are_listed(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    remove_the_first(&rooms).await;
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
