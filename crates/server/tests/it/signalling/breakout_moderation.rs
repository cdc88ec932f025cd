//! Deletions and kicks by the app, and whether they reach the meeting's breakout rooms.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::room::{RemoveParticipantsRequest, TransferPeer};
use parlor_testkit::signal::{Identity, Peer};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::breakout::{create_rooms, move_request, transferred_identity};
use crate::signalling::meeting::{Meeting, assert_rejected, send_message, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    a_deleted_participant_is_revoked_in_every_breakout_room,
    a_dropped_participant_is_dropped_in_every_breakout_room,
    a_participant_deleted_in_a_breakout_room_stays_in_the_meeting,
    a_move_racing_with_a_deletion_restores_nobody,
    a_participant_deleted_while_moving_back_stays_deleted,
    a_kick_by_the_app_reaches_breakout_rooms,
    a_kick_by_the_app_in_a_breakout_room_stays_there,
    kick_all_by_the_app_reaches_breakout_rooms,
    a_kick_by_a_peer_stays_in_its_room,
    kick_all_by_a_peer_reaches_breakout_rooms_on_request,
    deactivating_a_meeting_with_a_kick_empties_its_breakout_rooms,
];

/// A meeting with two breakout rooms and a host that has joined.
pub(crate) struct MeetingWithRooms {
    pub(crate) meeting: Meeting,
    pub(crate) host: Peer,
    /// The ids of the rooms.
    pub(crate) rooms: Vec<String>,
}

impl MeetingWithRooms {
    pub(crate) async fn create(server: &Server) -> Self {
        let meeting = server.meeting().await;
        let host = meeting.host().await;
        let rooms = create_rooms(&host, &["Red", "Blue"]).await;
        Self {
            meeting,
            host,
            rooms,
        }
    }

    /// Moves a peer to another room as the host, and returns its peer in that room.
    async fn move_peer(&self, peer: Peer, from: &str, to: &str) -> Peer {
        let user = peer.user().to_owned();
        let request = move_request(from, to, &[&user]);
        let event = event::MOVE_PEERS;
        self.host.ask_on(event, event, &request).await.unwrap();
        let transfer: TransferPeer = peer.push(event::TRANSFER_PEER).await.unwrap();
        let identity = transferred_identity(peer.identity(), &transfer);
        let there = Peer::open(&identity).await.unwrap();
        let participant = there.join().await.unwrap().me.user_id;
        there.leave().await.unwrap();
        peer.close(1000).await.unwrap();
        // Joins again as a new client that knows the id of its participant.
        let identity = Identity {
            participant,
            ..identity.in_another_tab()
        };
        Peer::enter(&identity).await.unwrap()
    }

    /// Returns a peer in a breakout room, and the identity it had in the meeting.
    pub(crate) async fn participant_in(&self, room: usize) -> (Peer, Identity) {
        let bob = self.meeting.participant().await;
        let before = bob.identity().clone();
        let there = self
            .move_peer(bob, &self.meeting.id, &self.rooms[room])
            .await;
        (there, before)
    }

    /// Returns the custom ids of the participants of a meeting, and checks that `total_count`
    /// agrees.
    async fn custom_ids(&self, meeting: &str) -> Vec<String> {
        let path = format!(
            "{}/meetings/{meeting}/participants?per_page=100",
            self.meeting.app
        );
        let response = self.meeting.get(&path).await;
        let total = response.body["paging"]["total_count"].clone();
        let listed = response.expect(200).unwrap();
        let listed = listed.as_array().unwrap();
        assert_eq!(total, listed.len(), "total_count of {meeting}");
        let custom = |participant: &serde_json::Value| {
            participant["custom_participant_id"]
                .as_str()
                .map(Into::into)
        };
        listed.iter().filter_map(custom).collect()
    }

    async fn delete_participant(&self, meeting: &str, participant: &str, rest: &str) -> u16 {
        let app = &self.meeting.app;
        let path = format!("{app}/meetings/{meeting}/participants/{participant}{rest}");
        self.meeting.delete(&path).await.status.as_u16()
    }

    async fn kick(&self, meeting: &str, body: serde_json::Value) -> parlor_testkit::HttpResponse {
        let path = format!(
            "{}/meetings/{meeting}/active-session/kick",
            self.meeting.app
        );
        self.meeting.post(&path, &body).await
    }
}

async fn a_deleted_participant_is_revoked_in_every_breakout_room(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, before) = rooms.participant_in(0).await;
    let (carol, _) = rooms.participant_in(0).await;
    let red = bob.identity().clone();
    let bob = rooms.move_peer(bob, &rooms.rooms[0], &rooms.rooms[1]).await;
    let id = &before.participant;
    assert_eq!(
        rooms.delete_participant(&rooms.meeting.id, id, "").await,
        200
    );
    for identity in [&before, &red, bob.identity()] {
        assert_rejected(&identity.in_another_tab()).await;
    }
    for meeting in [&rooms.meeting.id, &rooms.rooms[0], &rooms.rooms[1]] {
        let custom_ids = rooms.custom_ids(meeting).await;
        assert!(!custom_ids.contains(&before.custom_id), "{custom_ids:?}");
    }
    // A peer that has joined stays until it leaves, and no other peer is affected.
    settle(&[&bob, &carol]).await;
    send_message(&bob, "still here").await;
    Peer::enter(&carol.identity().in_another_tab())
        .await
        .unwrap();
    bob.cut().await;
    assert_eq!(
        rooms.delete_participant(&rooms.meeting.id, id, "").await,
        404
    );
}

async fn a_dropped_participant_is_dropped_in_every_breakout_room(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, before) = rooms.participant_in(1).await;
    let (carol, _) = rooms.participant_in(1).await;
    let custom = format!("custom:{}", before.custom_id);
    let status = rooms
        .delete_participant(&rooms.meeting.id, &custom, "?drop=true")
        .await;
    assert_eq!(status, 200);
    bob.push_frame(event::KICK).await.unwrap();
    assert_eq!(bob.closed().await.unwrap().code, Some(1000));
    assert_rejected(&bob.identity().in_another_tab()).await;
    carol.push_frame(event::LEAVE_ROOM).await.unwrap();
    settle(&[&carol]).await;
    assert!(carol.take_pushes(&[event::KICK]).is_empty());
}

async fn a_participant_deleted_in_a_breakout_room_stays_in_the_meeting(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, before) = rooms.participant_in(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let status = rooms
        .delete_participant(&rooms.rooms[0], bob.user(), "?drop=true")
        .await;
    assert_eq!(status, 200);
    bob.push_frame(event::KICK).await.unwrap();
    assert_rejected(&bob.identity().in_another_tab()).await;
    settle(&[&here]).await;
    assert!(here.take_pushes(&[event::KICK]).is_empty());
    Peer::enter(&before.in_another_tab()).await.unwrap();
}

async fn a_move_racing_with_a_deletion_restores_nobody(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let mut restored = Vec::new();
    for round in 0..24 {
        let (from, to) = if round % 2 == 0 {
            (&rooms.meeting.id, &rooms.rooms[0])
        } else {
            (&rooms.rooms[0], &rooms.rooms[1])
        };
        let identity = rooms
            .meeting
            .add_with_preset("group_call_participant")
            .await;
        let mut user = identity.participant.clone();
        if round % 2 == 1 {
            let request = move_request(&rooms.meeting.id, from, &[&user]);
            let event = event::MOVE_PEERS;
            rooms.host.ask_on(event, event, &request).await.unwrap();
            let path = format!(
                "{}/meetings/{from}/participants/custom:{}",
                rooms.meeting.app, identity.custom_id
            );
            let there = rooms.meeting.get(&path).await.expect(200).unwrap();
            there["id"].as_str().unwrap().clone_into(&mut user);
        }
        let request = move_request(from, to, &[&user]);
        let (_, status) = tokio::join!(
            rooms
                .host
                .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request),
            rooms.delete_participant(&rooms.meeting.id, &identity.participant, "")
        );
        assert_eq!(status, 200);
        for meeting in [&rooms.meeting.id, &rooms.rooms[0], &rooms.rooms[1]] {
            if rooms
                .custom_ids(meeting)
                .await
                .contains(&identity.custom_id)
            {
                restored.push((round, meeting.clone()));
            }
        }
    }
    assert!(
        restored.is_empty(),
        "{} times: {restored:?}",
        restored.len()
    );
}

async fn a_participant_deleted_while_moving_back_stays_deleted(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (meeting, room) = (&rooms.meeting, &rooms.rooms[0]);
    let presets = meeting.get(&format!("{}/presets", meeting.app)).await;
    let presets = presets.expect(200).unwrap();
    let preset = presets.as_array().unwrap().iter();
    let preset = preset.map(|preset| preset["id"].as_str().unwrap()).next();
    let mut restored = 0;
    for _ in 0..24 {
        // A second host moves themselves back, with an explicit preset.
        let bob = meeting.host().await;
        let before = bob.identity().clone();
        let bob = rooms.move_peer(bob, &meeting.id, room).await;
        let mut request = move_request(room, &meeting.id, &[bob.user()]);
        request.participants[0].preset_id = preset.map(ToOwned::to_owned);
        let (_, status) = tokio::join!(
            bob.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request),
            rooms.delete_participant(&meeting.id, &before.participant, "")
        );
        assert_eq!(status, 200);
        let custom_ids = rooms.custom_ids(&meeting.id).await;
        restored += usize::from(custom_ids.contains(&before.custom_id));
        bob.close(1000).await.unwrap();
    }
    assert_eq!(restored, 0);
}

async fn a_kick_by_the_app_reaches_breakout_rooms(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let ((bob, before), (carol, carol_before)) =
        (rooms.participant_in(0).await, rooms.participant_in(1).await);
    let dave = rooms.meeting.participant().await;
    let id = &rooms.meeting.id;
    // Either all of them are kicked or none, whichever room they are in.
    let absent = rooms
        .meeting
        .add_with_preset("group_call_participant")
        .await;
    let body = json!({ "participant_ids": [before.participant, absent.participant] });
    let response = rooms.kick(id, body).await;
    assert_eq!(response.status, 404, "{}", response.body);
    assert!(response.body.to_string().contains(&absent.participant));
    settle(&[&bob, &carol, &dave]).await;
    assert!(bob.take_pushes(&[event::KICK]).is_empty());
    let body = json!({
        "participant_ids": [before.participant, dave.user(), before.participant],
        "custom_participant_ids": [carol_before.custom_id, before.custom_id],
    });
    let kicked = rooms.kick(id, body).await.expect(200).unwrap();
    let mut listed: Vec<&str> = kicked["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|participant| participant["id"].as_str().unwrap())
        .collect();
    listed.sort_unstable();
    // Each participant once, with its id in the meeting of the request.
    let mut expected = [&*before.participant, &carol_before.participant, dave.user()];
    expected.sort_unstable();
    assert_eq!(listed, expected, "{kicked}");
    for peer in [&bob, &carol, &dave] {
        peer.push_frame(event::KICK).await.unwrap();
    }
    settle(&[&rooms.host]).await;
    assert!(rooms.host.take_pushes(&[event::KICK]).is_empty());
    // They may join again.
    Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
}

async fn a_kick_by_the_app_in_a_breakout_room_stays_there(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, before) = rooms.participant_in(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let body = json!({ "custom_participant_ids": [before.custom_id] });
    let kicked = rooms.kick(&rooms.rooms[0], body).await;
    kicked.expect(200).unwrap();
    bob.push_frame(event::KICK).await.unwrap();
    settle(&[&here]).await;
    assert!(here.take_pushes(&[event::KICK]).is_empty());
}

async fn kick_all_by_the_app_reaches_breakout_rooms(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let ((bob, _), (carol, _)) = (rooms.participant_in(0).await, rooms.participant_in(1).await);
    let path = rooms.meeting.path("/active-session/kick-all");
    let kicked = rooms.meeting.post(&path, &json!({})).await;
    let kicked = kicked.expect(200).unwrap();
    assert_eq!(kicked["kicked_participants_count"], 3, "{kicked}");
    for peer in [&rooms.host, &bob, &carol] {
        peer.push_frame(event::KICK_ALL).await.unwrap();
    }
    // Without peers no session is live in the meeting or its rooms.
    wait_until("no session is live", async || {
        let again = rooms.meeting.post(&path, &json!({})).await;
        (again.status == 404).then_some(())
    })
    .await;
}

async fn a_kick_by_a_peer_stays_in_its_room(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, before) = rooms.participant_in(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![here.id().to_owned(), bob.id().to_owned()],
    };
    rooms.host.tell(event::KICK, &kick).await.unwrap();
    here.push_frame(event::KICK).await.unwrap();
    settle(&[&rooms.host, &bob]).await;
    assert!(bob.take_pushes(&[event::KICK]).is_empty());
}

async fn kick_all_by_a_peer_reaches_breakout_rooms_on_request(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    let kick = |propagate_kick_across_rooms| KickAllPeersRequest {
        propagate_kick_across_rooms,
    };
    rooms
        .host
        .tell(event::KICK_ALL, &kick(false))
        .await
        .unwrap();
    rooms.host.push_frame(event::KICK_ALL).await.unwrap();
    send_message(&bob, "still here").await;
    let host = rooms.host.identity().in_another_tab();
    let host = Peer::enter(&host).await.unwrap();
    assert!(bob.take_pushes(&[event::KICK_ALL]).is_empty());
    host.tell(event::KICK_ALL, &kick(true)).await.unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
}

async fn deactivating_a_meeting_with_a_kick_empties_its_breakout_rooms(server: &Server) {
    let rooms = MeetingWithRooms::create(server).await;
    let (bob, _) = rooms.participant_in(0).await;
    let body = json!({ "status": "INACTIVE" });
    let path = rooms.meeting.path("?kick=true");
    rooms.meeting.patch(&path, &body).await.expect(200).unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
}
