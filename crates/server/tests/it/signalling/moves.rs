//! What a move to a breakout room gives to those who are moved, and what it costs others.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    BroadcastMessage, BroadcastType, CreateConnectedRoomsRequest, CreateRoomRequestPayload,
    MovePeersBetweenRoomsResponse, TransferPeer,
};
use parlor_testkit::signal::{Identity, Peer};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::breakout::{make, movement, transferred};
use crate::signalling::meeting::{Meeting, settle};
use crate::signalling::server::Server;

on_both_databases![
    a_move_does_not_prolong_a_token,
    a_move_keeps_what_is_left_of_a_token,
    of_several_tokens_of_a_person_the_latest_counts,
    whoever_is_listed_often_is_moved_once,
    with_two_presets_nobody_is_moved,
    many_people_are_moved_in_one_frame,
    a_room_that_is_named_often_gets_one_copy,
    two_who_make_rooms_at_once_make_no_more_than_there_may_be,
];

/// The least that a token of a move lives, in seconds.
const MOVED_SECS: i64 = 120;

/// When a token expires, Unix seconds.
fn expiry(token: &str) -> i64 {
    let payload = token.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_i64().unwrap()
}

fn now_secs() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Somebody inside whose token lives for some seconds.
async fn short_lived(meeting: &Meeting, secs: u64) -> Peer {
    let body = json!({ "preset_name": "group_call_participant", "name": "X", "expires_in": secs });
    Peer::enter(&meeting.add(body).await).await.unwrap()
}

/// Has somebody moved by a host; what they are sent.
async fn moved(host: &Peer, from: &str, to: &str, who: &Peer, user: &str) -> TransferPeer {
    let request = movement(from, to, &[user]);
    host.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request)
        .await
        .unwrap();
    who.push(event::TRANSFER_PEER).await.unwrap()
}

async fn a_move_does_not_prolong_a_token(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = make(&ada, &["Red"]).await.remove(0);
    let mut bob = short_lived(&meeting, 30).await;
    let mut user = bob.user().to_owned();
    let mut lives = Vec::new();
    // A chain of moves prolongs nothing either.
    for (from, to) in [(&*meeting.id, &*room), (&room, &meeting.id)]
        .into_iter()
        .cycle()
        .take(4)
    {
        let transfer = moved(&ada, from, to, &bob, &user).await;
        let left = expiry(transfer.auth_token.as_ref().unwrap()) - now_secs();
        lives.push(left);
        let there = Peer::open(&transferred(bob.identity(), &transfer))
            .await
            .unwrap();
        user = there.join().await.unwrap().me.user_id;
        bob.close(1000).await.unwrap();
        bob = there;
    }
    let as_it_should = |left: &i64| (MOVED_SECS - 15..=MOVED_SECS).contains(left);
    assert!(lives.iter().all(as_it_should), "{lives:?}");
}

async fn a_move_keeps_what_is_left_of_a_token(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = make(&ada, &["Red"]).await.remove(0);
    let bob = short_lived(&meeting, 5000).await;
    let expires = expiry(&bob.identity().token);
    let transfer = moved(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let there = Peer::open(&transferred(bob.identity(), &transfer))
        .await
        .unwrap();
    let user = there.join().await.unwrap().me.user_id;
    let back = moved(&ada, &room, &meeting.id, &there, &user).await;
    assert_eq!(expiry(transfer.auth_token.as_ref().unwrap()), expires);
    assert_eq!(expiry(back.auth_token.as_ref().unwrap()), expires);
}

async fn of_several_tokens_of_a_person_the_latest_counts(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = make(&ada, &["Red"]).await.remove(0);
    let bob = short_lived(&meeting, 30).await;
    let path = meeting.path(&format!("/participants/{}/token", bob.user()));
    let refreshed = meeting.post(&path, &json!({ "expires_in": 700 })).await;
    let refreshed = refreshed.expect(200).unwrap();
    let newer = Identity {
        token: refreshed["token"].as_str().unwrap().to_owned(),
        ..bob.identity().in_another_tab()
    };
    let tab = Peer::enter(&newer).await.unwrap();
    let transfer = moved(&ada, &meeting.id, &room, &bob, bob.user()).await;
    assert_eq!(
        expiry(transfer.auth_token.as_ref().unwrap()),
        expiry(&newer.token)
    );
    // A token that nobody is here with any more does not count.
    tab.close(1000).await.unwrap();
    ada.push_frame(event::LEAVE_ROOM).await.unwrap();
    let transfer = moved(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let left = expiry(transfer.auth_token.as_ref().unwrap()) - now_secs();
    assert!((MOVED_SECS - 15..=MOVED_SECS).contains(&left), "{left}");
}

async fn whoever_is_listed_often_is_moved_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let request = movement(&meeting.id, &room, &vec![bob.user(); 1000]);
    let reply: MovePeersBetweenRoomsResponse = ada.ask(event::MOVE_PEERS, &request).await.unwrap();
    let [moved] = &*reply.payloads else {
        panic!("{reply:?}");
    };
    assert!(moved.error.is_none(), "{moved:?}");
    bob.push_frame(event::TRANSFER_PEER).await.unwrap();
    // Commands come to the room in their order: a second would have come by now.
    ada.roster().await.unwrap();
    settle(&[&ada, &bob]).await;
    assert_eq!(bob.untaken(&[event::TRANSFER_PEER]).len(), 0);
}

async fn with_two_presets_nobody_is_moved(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let mut request = movement(&meeting.id, &room, &[bob.user(), bob.user()]);
    request.participants[1].preset_id = Some("0190f3c0-a0b1-7c1d-8e2f-0123456789ab".to_owned());
    let refused = ada.refused(event::MOVE_PEERS, &request).await.unwrap();
    assert_eq!(refused.code, 400);
    settle(&[&bob]).await;
    assert!(bob.untaken(&[event::TRANSFER_PEER]).is_empty());
}

async fn many_people_are_moved_in_one_frame(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = make(&ada, &["Red"]).await.remove(0);
    let people: Vec<Value> = (0..120)
        .map(|n| json!({ "custom_participant_id": format!("p{n}"), "preset_name": "group_call_participant", "name": format!("P {n}") }))
        .collect();
    let body = json!({ "participants": people });
    let added = meeting
        .post(&meeting.path("/participants/bulk"), &body)
        .await;
    let added = added.expect(201).unwrap();
    let ids: Vec<&str> = added
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    let mut listed = ids.clone();
    // One of them is not there; the others are moved all the same.
    listed.insert(60, "0190f3c0-a0b1-7c1d-8e2f-0123456789ab");
    let request = movement(&meeting.id, &room, &listed);
    let reply: MovePeersBetweenRoomsResponse = ada.ask(event::MOVE_PEERS, &request).await.unwrap();
    let failed: Vec<usize> = (0..reply.payloads.len())
        .filter(|at| reply.payloads[*at].error.is_some())
        .collect();
    assert_eq!((reply.payloads.len(), failed), (121, vec![60]));
    assert_eq!(
        reply.payloads[61].custom_participant_id.as_deref(),
        Some("p60")
    );
    let path = format!("{}/meetings/{room}/participants?per_page=200", meeting.app);
    let answer = meeting.get(&path).await;
    assert_eq!(answer.body["paging"]["total_count"], 120);
    let there = answer.expect(200).unwrap();
    assert_eq!(there.as_array().unwrap().len(), 120);
    // And once more, when they are there already.
    let reply: MovePeersBetweenRoomsResponse = ada.ask(event::MOVE_PEERS, &request).await.unwrap();
    let done = reply.payloads.iter().filter(|one| one.error.is_none());
    assert_eq!(done.count(), 120);
    let answer = meeting.get(&path).await;
    assert_eq!(answer.body["paging"]["total_count"], 120);
}

async fn a_room_that_is_named_often_gets_one_copy(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = make(&ada, &["Red"]).await.remove(0);
    let transfer = moved(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let there = Peer::enter(&transferred(bob.identity(), &transfer))
        .await
        .unwrap();
    let wave = |ids: Vec<String>| BroadcastMessage {
        r#type: "wave".to_owned(),
        payload: "{}".into(),
        timestamp: 1,
        ids,
        broadcast_type: Some(BroadcastType::Rooms.into()),
    };
    let often = wave(vec![room.clone(); 40]);
    let strange = wave(vec![room.clone(), meeting.app.clone()]);
    ada.ask_on(
        event::BROADCAST_TO_ENTITY,
        event::BROADCAST_TO_ENTITY,
        &often,
    )
    .await
    .unwrap();
    let refused = ada.refused(event::BROADCAST_TO_ENTITY, &strange).await;
    assert_eq!(refused.unwrap().code, 404);
    there.push_frame(event::BROADCAST_TO_ENTITY).await.unwrap();
    settle(&[&there]).await;
    let copies = there.untaken(&[event::BROADCAST_TO_ENTITY]).len();
    assert_eq!(copies, 0, "and {copies} more");
}

async fn two_who_make_rooms_at_once_make_no_more_than_there_may_be(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.host().await);
    let request = CreateConnectedRoomsRequest {
        payloads: (0..60)
            .map(|n| CreateRoomRequestPayload {
                title: Some(format!("Room {n}")),
            })
            .collect(),
    };
    let make = event::CREATE_CONNECTED_ROOMS;
    let (one, other) = tokio::join!(
        ada.ask_on(make, make, &request),
        bob.ask_on(make, make, &request)
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    let dump: parlor_protocol::signal::socket::room::GetConnectedRoomsDumpResponse =
        ada.ask_bare(event::GET_CONNECTED_ROOMS_DUMP).await.unwrap();
    assert_eq!(dump.meetings.len(), 60);
}
