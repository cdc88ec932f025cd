//! What the app does to people of a meeting reaches its breakout rooms.

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::room::{RemoveParticipantsRequest, TransferPeer};
use parlor_testkit::signal::{Identity, Peer};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::breakout::{make, movement, transferred};
use crate::signalling::meeting::{Meeting, is_turned_away, say, settle};
use crate::signalling::server::{Server, until};

on_both_databases![
    whoever_is_deleted_is_revoked_in_every_breakout_room,
    whoever_is_dropped_is_dropped_in_every_breakout_room,
    whoever_is_deleted_in_a_breakout_room_stays_in_the_meeting,
    a_move_that_meets_a_deletion_brings_nobody_back,
    whoever_is_deleted_on_their_way_back_stays_away,
    a_kick_by_the_app_reaches_breakout_rooms,
    a_kick_by_the_app_in_a_breakout_room_stays_there,
    everybody_is_kicked_in_breakout_rooms_too,
    a_kick_inside_stays_in_its_room,
    the_end_for_all_reaches_breakout_rooms_on_request,
    a_meeting_that_is_closed_with_a_kick_empties_its_breakout_rooms,
];

/// A meeting with breakout rooms: a host inside, and where the rooms are.
pub(crate) struct Divided {
    pub(crate) meeting: Meeting,
    pub(crate) host: Peer,
    pub(crate) rooms: Vec<String>,
}

impl Divided {
    pub(crate) async fn of(server: &Server) -> Self {
        let meeting = server.meeting().await;
        let host = meeting.host().await;
        let rooms = make(&host, &["Red", "Blue"]).await;
        Self {
            meeting,
            host,
            rooms,
        }
    }

    /// Has the host move somebody to a room, who goes there: as whom they are there.
    async fn send(&self, who: Peer, from: &str, to: &str) -> Peer {
        let user = who.user().to_owned();
        let request = movement(from, to, &[&user]);
        let moved = event::MOVE_PEERS;
        self.host.ask_on(moved, moved, &request).await.unwrap();
        let transfer: TransferPeer = who.push(event::TRANSFER_PEER).await.unwrap();
        let identity = transferred(who.identity(), &transfer);
        let there = Peer::open(&identity).await.unwrap();
        let participant = there.join().await.unwrap().me.user_id;
        there.leave().await.unwrap();
        who.close(1000).await.unwrap();
        // As a new client, which knows who it is there.
        let identity = Identity {
            participant,
            ..identity.in_another_tab()
        };
        Peer::enter(&identity).await.unwrap()
    }

    /// Somebody of the meeting, in a breakout room; and who they are in the meeting.
    pub(crate) async fn moved(&self, room: usize) -> (Peer, Identity) {
        let bob = self.meeting.participant().await;
        let before = bob.identity().clone();
        let there = self.send(bob, &self.meeting.id, &self.rooms[room]).await;
        (there, before)
    }

    /// The custom ids of the participants of a meeting.
    async fn people(&self, meeting: &str) -> Vec<String> {
        let path = format!(
            "{}/meetings/{meeting}/participants?per_page=100",
            self.meeting.app
        );
        let answer = self.meeting.get(&path).await;
        let total = answer.body["paging"]["total_count"].clone();
        let listed = answer.expect(200).unwrap();
        let listed = listed.as_array().unwrap();
        assert_eq!(total, listed.len(), "the tally of {meeting}");
        let custom =
            |one: &serde_json::Value| one["custom_participant_id"].as_str().map(Into::into);
        listed.iter().filter_map(custom).collect()
    }

    async fn delete(&self, meeting: &str, who: &str, rest: &str) -> u16 {
        let app = &self.meeting.app;
        let path = format!("{app}/meetings/{meeting}/participants/{who}{rest}");
        self.meeting.delete(&path).await.status.as_u16()
    }

    async fn kick(&self, meeting: &str, body: serde_json::Value) -> parlor_testkit::Answer {
        let path = format!(
            "{}/meetings/{meeting}/active-session/kick",
            self.meeting.app
        );
        self.meeting.post(&path, &body).await
    }
}

async fn whoever_is_deleted_is_revoked_in_every_breakout_room(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, before) = rooms.moved(0).await;
    let (carol, _) = rooms.moved(0).await;
    let red = bob.identity().clone();
    let bob = rooms.send(bob, &rooms.rooms[0], &rooms.rooms[1]).await;
    let id = &before.participant;
    assert_eq!(rooms.delete(&rooms.meeting.id, id, "").await, 200);
    for gone in [&before, &red, bob.identity()] {
        is_turned_away(&gone.in_another_tab()).await;
    }
    for meeting in [&rooms.meeting.id, &rooms.rooms[0], &rooms.rooms[1]] {
        let people = rooms.people(meeting).await;
        assert!(!people.contains(&before.custom_id), "{people:?}");
    }
    // Whoever is inside stays until they leave, and nobody else is concerned.
    settle(&[&bob, &carol]).await;
    say(&bob, "still here").await;
    Peer::enter(&carol.identity().in_another_tab())
        .await
        .unwrap();
    bob.cut().await;
    assert_eq!(rooms.delete(&rooms.meeting.id, id, "").await, 404);
}

async fn whoever_is_dropped_is_dropped_in_every_breakout_room(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, before) = rooms.moved(1).await;
    let (carol, _) = rooms.moved(1).await;
    let who = format!("custom:{}", before.custom_id);
    let status = rooms.delete(&rooms.meeting.id, &who, "?drop=true").await;
    assert_eq!(status, 200);
    bob.push_frame(event::KICK).await.unwrap();
    assert_eq!(bob.closed().await.unwrap().code, Some(1000));
    is_turned_away(&bob.identity().in_another_tab()).await;
    carol.push_frame(event::LEAVE_ROOM).await.unwrap();
    settle(&[&carol]).await;
    assert!(carol.untaken(&[event::KICK]).is_empty());
}

async fn whoever_is_deleted_in_a_breakout_room_stays_in_the_meeting(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, before) = rooms.moved(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let status = rooms
        .delete(&rooms.rooms[0], bob.user(), "?drop=true")
        .await;
    assert_eq!(status, 200);
    bob.push_frame(event::KICK).await.unwrap();
    is_turned_away(&bob.identity().in_another_tab()).await;
    settle(&[&here]).await;
    assert!(here.untaken(&[event::KICK]).is_empty());
    Peer::enter(&before.in_another_tab()).await.unwrap();
}

async fn a_move_that_meets_a_deletion_brings_nobody_back(server: &Server) {
    let rooms = Divided::of(server).await;
    let mut back = Vec::new();
    for round in 0..24 {
        let (from, to) = if round % 2 == 0 {
            (&rooms.meeting.id, &rooms.rooms[0])
        } else {
            (&rooms.rooms[0], &rooms.rooms[1])
        };
        let person = rooms.meeting.person("group_call_participant").await;
        let mut user = person.participant.clone();
        if round % 2 == 1 {
            let request = movement(&rooms.meeting.id, from, &[&user]);
            let moved = event::MOVE_PEERS;
            rooms.host.ask_on(moved, moved, &request).await.unwrap();
            let path = format!(
                "{}/meetings/{from}/participants/custom:{}",
                rooms.meeting.app, person.custom_id
            );
            let there = rooms.meeting.get(&path).await.expect(200).unwrap();
            there["id"].as_str().unwrap().clone_into(&mut user);
        }
        let request = movement(from, to, &[&user]);
        let (_, status) = tokio::join!(
            rooms
                .host
                .ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request),
            rooms.delete(&rooms.meeting.id, &person.participant, "")
        );
        assert_eq!(status, 200);
        for meeting in [&rooms.meeting.id, &rooms.rooms[0], &rooms.rooms[1]] {
            if rooms.people(meeting).await.contains(&person.custom_id) {
                back.push((round, meeting.clone()));
            }
        }
    }
    assert!(back.is_empty(), "{} times: {back:?}", back.len());
}

async fn whoever_is_deleted_on_their_way_back_stays_away(server: &Server) {
    let rooms = Divided::of(server).await;
    let (meeting, room) = (&rooms.meeting, &rooms.rooms[0]);
    let presets = meeting.get(&format!("{}/presets", meeting.app)).await;
    let presets = presets.expect(200).unwrap();
    let preset = presets.as_array().unwrap().iter();
    let preset = preset.map(|one| one["id"].as_str().unwrap()).next();
    let mut back = 0;
    for _ in 0..24 {
        // A second host, who moves themselves back by name of a preset.
        let bob = meeting.host().await;
        let before = bob.identity().clone();
        let bob = rooms.send(bob, &meeting.id, room).await;
        let mut request = movement(room, &meeting.id, &[bob.user()]);
        request.participants[0].preset_id = preset.map(ToOwned::to_owned);
        let (_, status) = tokio::join!(
            bob.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request),
            rooms.delete(&meeting.id, &before.participant, "")
        );
        assert_eq!(status, 200);
        let people = rooms.people(&meeting.id).await;
        back += usize::from(people.contains(&before.custom_id));
        bob.close(1000).await.unwrap();
    }
    assert_eq!(back, 0);
}

async fn a_kick_by_the_app_reaches_breakout_rooms(server: &Server) {
    let rooms = Divided::of(server).await;
    let ((bob, before), (carol, her)) = (rooms.moved(0).await, rooms.moved(1).await);
    let dave = rooms.meeting.participant().await;
    let id = &rooms.meeting.id;
    // All or none, wherever they are.
    let absent = rooms.meeting.person("group_call_participant").await;
    let body = json!({ "participant_ids": [before.participant, absent.participant] });
    let answer = rooms.kick(id, body).await;
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.to_string().contains(&absent.participant));
    settle(&[&bob, &carol, &dave]).await;
    assert!(bob.untaken(&[event::KICK]).is_empty());
    let body = json!({
        "participant_ids": [before.participant, dave.user(), before.participant],
        "custom_participant_ids": [her.custom_id, before.custom_id],
    });
    let kicked = rooms.kick(id, body).await.expect(200).unwrap();
    let mut listed: Vec<&str> = kicked["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    listed.sort_unstable();
    // Each once, as who they are in the meeting that was named.
    let mut expected = [&*before.participant, &her.participant, dave.user()];
    expected.sort_unstable();
    assert_eq!(listed, expected, "{kicked}");
    for peer in [&bob, &carol, &dave] {
        peer.push_frame(event::KICK).await.unwrap();
    }
    settle(&[&rooms.host]).await;
    assert!(rooms.host.untaken(&[event::KICK]).is_empty());
    // They may come back.
    Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
}

async fn a_kick_by_the_app_in_a_breakout_room_stays_there(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, before) = rooms.moved(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let body = json!({ "custom_participant_ids": [before.custom_id] });
    let kicked = rooms.kick(&rooms.rooms[0], body).await;
    kicked.expect(200).unwrap();
    bob.push_frame(event::KICK).await.unwrap();
    settle(&[&here]).await;
    assert!(here.untaken(&[event::KICK]).is_empty());
}

async fn everybody_is_kicked_in_breakout_rooms_too(server: &Server) {
    let rooms = Divided::of(server).await;
    let ((bob, _), (carol, _)) = (rooms.moved(0).await, rooms.moved(1).await);
    let path = rooms.meeting.path("/active-session/kick-all");
    let kicked = rooms.meeting.post(&path, &json!({})).await;
    let kicked = kicked.expect(200).unwrap();
    assert_eq!(kicked["kicked_participants_count"], 3, "{kicked}");
    for peer in [&rooms.host, &bob, &carol] {
        peer.push_frame(event::KICK_ALL).await.unwrap();
    }
    // With the last of them no session is live, here or there.
    until("no session is live", async || {
        let again = rooms.meeting.post(&path, &json!({})).await;
        (again.status == 404).then_some(())
    })
    .await;
}

async fn a_kick_inside_stays_in_its_room(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, before) = rooms.moved(0).await;
    let here = Peer::enter(&before.in_another_tab()).await.unwrap();
    let kick = RemoveParticipantsRequest {
        peer_ids: vec![here.id().to_owned(), bob.id().to_owned()],
    };
    rooms.host.tell(event::KICK, &kick).await.unwrap();
    here.push_frame(event::KICK).await.unwrap();
    settle(&[&rooms.host, &bob]).await;
    assert!(bob.untaken(&[event::KICK]).is_empty());
}

async fn the_end_for_all_reaches_breakout_rooms_on_request(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    let kick = |propagate_kick_across_rooms| KickAllPeersRequest {
        propagate_kick_across_rooms,
    };
    rooms
        .host
        .tell(event::KICK_ALL, &kick(false))
        .await
        .unwrap();
    rooms.host.push_frame(event::KICK_ALL).await.unwrap();
    say(&bob, "here as before").await;
    let host = rooms.host.identity().in_another_tab();
    let host = Peer::enter(&host).await.unwrap();
    assert!(bob.untaken(&[event::KICK_ALL]).is_empty());
    host.tell(event::KICK_ALL, &kick(true)).await.unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
}

async fn a_meeting_that_is_closed_with_a_kick_empties_its_breakout_rooms(server: &Server) {
    let rooms = Divided::of(server).await;
    let (bob, _) = rooms.moved(0).await;
    let body = json!({ "status": "INACTIVE" });
    let path = rooms.meeting.path("?kick=true");
    rooms.meeting.patch(&path, &body).await.expect(200).unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
}
