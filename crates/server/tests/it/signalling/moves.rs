//! Moves to breakout rooms: the tokens they issue, and limits on repeated and large requests.

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
use crate::signalling::breakout::{create_rooms, move_request, transferred_identity};
use crate::signalling::meeting::{Meeting, settle};
use crate::signalling::server::Server;

on_both_databases![
    a_move_does_not_prolong_a_token,
    a_move_keeps_the_expiry_of_a_token,
    the_latest_token_of_a_participant_counts,
    a_participant_listed_repeatedly_is_moved_once,
    conflicting_presets_move_nobody,
    many_participants_are_moved_in_one_frame,
    a_room_listed_repeatedly_gets_one_copy,
    concurrent_requests_cannot_exceed_the_room_limit,
];

/// Minimum lifetime of a token issued by a move, in seconds.
const MIN_TOKEN_SECS: i64 = 120;

/// Returns the expiry of a token, in Unix seconds.
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

/// Returns a participant that has joined with a token of this lifetime.
async fn participant_expiring_in(meeting: &Meeting, secs: u64) -> Peer {
    let body = json!({ "preset_name": "group_call_participant", "name": "X", "expires_in": secs });
    Peer::enter(&meeting.add(body).await).await.unwrap()
}

/// Moves a participant as the host and returns the transfer that is pushed to its peer.
async fn move_participant(
    host: &Peer,
    from: &str,
    to: &str,
    peer: &Peer,
    user: &str,
) -> TransferPeer {
    let request = move_request(from, to, &[user]);
    host.ask_on(event::MOVE_PEERS, event::MOVE_PEERS, &request)
        .await
        .unwrap();
    peer.push(event::TRANSFER_PEER).await.unwrap()
}

async fn a_move_does_not_prolong_a_token(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let mut bob = participant_expiring_in(&meeting, 30).await;
    let mut user = bob.user().to_owned();
    let mut remaining = Vec::new();
    // A chain of moves must not extend the token either.
    for (from, to) in [(&*meeting.id, &*room), (&room, &meeting.id)]
        .into_iter()
        .cycle()
        .take(4)
    {
        let transfer = move_participant(&ada, from, to, &bob, &user).await;
        let left = expiry(transfer.auth_token.as_ref().unwrap()) - now_secs();
        remaining.push(left);
        let there = Peer::open(&transferred_identity(bob.identity(), &transfer))
            .await
            .unwrap();
        user = there.join().await.unwrap().me.user_id;
        bob.close(1000).await.unwrap();
        bob = there;
    }
    let in_range = |left: &i64| (MIN_TOKEN_SECS - 15..=MIN_TOKEN_SECS).contains(left);
    assert!(remaining.iter().all(in_range), "{remaining:?}");
}

async fn a_move_keeps_the_expiry_of_a_token(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let bob = participant_expiring_in(&meeting, 5000).await;
    let expires = expiry(&bob.identity().token);
    let transfer = move_participant(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let there = Peer::open(&transferred_identity(bob.identity(), &transfer))
        .await
        .unwrap();
    let user = there.join().await.unwrap().me.user_id;
    let back = move_participant(&ada, &room, &meeting.id, &there, &user).await;
    assert_eq!(expiry(transfer.auth_token.as_ref().unwrap()), expires);
    assert_eq!(expiry(back.auth_token.as_ref().unwrap()), expires);
}

async fn the_latest_token_of_a_participant_counts(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let bob = participant_expiring_in(&meeting, 30).await;
    let path = meeting.path(&format!("/participants/{}/token", bob.user()));
    let refreshed = meeting.post(&path, &json!({ "expires_in": 700 })).await;
    let refreshed = refreshed.expect(200).unwrap();
    let newer = Identity {
        token: refreshed["token"].as_str().unwrap().to_owned(),
        ..bob.identity().in_another_tab()
    };
    let tab = Peer::enter(&newer).await.unwrap();
    let transfer = move_participant(&ada, &meeting.id, &room, &bob, bob.user()).await;
    assert_eq!(
        expiry(transfer.auth_token.as_ref().unwrap()),
        expiry(&newer.token)
    );
    // The token of a peer that has left does not count.
    tab.close(1000).await.unwrap();
    ada.push_frame(event::LEAVE_ROOM).await.unwrap();
    let transfer = move_participant(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let left = expiry(transfer.auth_token.as_ref().unwrap()) - now_secs();
    assert!(
        (MIN_TOKEN_SECS - 15..=MIN_TOKEN_SECS).contains(&left),
        "{left}"
    );
}

async fn a_participant_listed_repeatedly_is_moved_once(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let request = move_request(&meeting.id, &room, &vec![bob.user(); 1000]);
    let reply: MovePeersBetweenRoomsResponse = ada.ask(event::MOVE_PEERS, &request).await.unwrap();
    let [moved] = &*reply.payloads else {
        panic!("{reply:?}");
    };
    assert!(moved.error.is_none(), "{moved:?}");
    bob.push_frame(event::TRANSFER_PEER).await.unwrap();
    // The room handles commands in order, so a second transfer would have arrived by now.
    ada.roster().await.unwrap();
    settle(&[&ada, &bob]).await;
    assert_eq!(bob.take_pushes(&[event::TRANSFER_PEER]).len(), 0);
}

async fn conflicting_presets_move_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let mut request = move_request(&meeting.id, &room, &[bob.user(), bob.user()]);
    request.participants[1].preset_id = Some("0190f3c0-a0b1-7c1d-8e2f-0123456789ab".to_owned());
    let refused = ada.refused(event::MOVE_PEERS, &request).await.unwrap();
    assert_eq!(refused.code, 400);
    settle(&[&bob]).await;
    assert!(bob.take_pushes(&[event::TRANSFER_PEER]).is_empty());
}

async fn many_participants_are_moved_in_one_frame(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let participants: Vec<Value> = (0..120)
        .map(|n| json!({ "custom_participant_id": format!("p{n}"), "preset_name": "group_call_participant", "name": format!("P {n}") }))
        .collect();
    let body = json!({ "participants": participants });
    let added = meeting
        .post(&meeting.path("/participants/bulk"), &body)
        .await;
    let added = added.expect(201).unwrap();
    let ids: Vec<&str> = added
        .as_array()
        .unwrap()
        .iter()
        .map(|participant| participant["id"].as_str().unwrap())
        .collect();
    let mut listed = ids.clone();
    // An unknown participant does not keep the others from being moved.
    listed.insert(60, "0190f3c0-a0b1-7c1d-8e2f-0123456789ab");
    let request = move_request(&meeting.id, &room, &listed);
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
    let response = meeting.get(&path).await;
    assert_eq!(response.body["paging"]["total_count"], 120);
    let there = response.expect(200).unwrap();
    assert_eq!(there.as_array().unwrap().len(), 120);
    // Moving them again, when they are already in the room, has the same result.
    let reply: MovePeersBetweenRoomsResponse = ada.ask(event::MOVE_PEERS, &request).await.unwrap();
    let succeeded = reply.payloads.iter().filter(|moved| moved.error.is_none());
    assert_eq!(succeeded.count(), 120);
    let response = meeting.get(&path).await;
    assert_eq!(response.body["paging"]["total_count"], 120);
}

async fn a_room_listed_repeatedly_gets_one_copy(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let room = create_rooms(&ada, &["Red"]).await.remove(0);
    let transfer = move_participant(&ada, &meeting.id, &room, &bob, bob.user()).await;
    let there = Peer::enter(&transferred_identity(bob.identity(), &transfer))
        .await
        .unwrap();
    let wave = |ids: Vec<String>| BroadcastMessage {
        r#type: "wave".to_owned(),
        payload: "{}".into(),
        timestamp: 1,
        ids,
        broadcast_type: Some(BroadcastType::Rooms.into()),
    };
    let repeated = wave(vec![room.clone(); 40]);
    let foreign = wave(vec![room.clone(), meeting.app.clone()]);
    ada.ask_on(
        event::BROADCAST_TO_ENTITY,
        event::BROADCAST_TO_ENTITY,
        &repeated,
    )
    .await
    .unwrap();
    let refused = ada.refused(event::BROADCAST_TO_ENTITY, &foreign).await;
    assert_eq!(refused.unwrap().code, 404);
    there.push_frame(event::BROADCAST_TO_ENTITY).await.unwrap();
    settle(&[&there]).await;
    let copies = there.take_pushes(&[event::BROADCAST_TO_ENTITY]).len();
    assert_eq!(copies, 0, "{copies} additional copies");
}

async fn concurrent_requests_cannot_exceed_the_room_limit(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.host().await);
    let request = CreateConnectedRoomsRequest {
        payloads: (0..60)
            .map(|n| CreateRoomRequestPayload {
                title: Some(format!("Room {n}")),
            })
            .collect(),
    };
    let create = event::CREATE_CONNECTED_ROOMS;
    let (one, other) = tokio::join!(
        ada.ask_on(create, create, &request),
        bob.ask_on(create, create, &request)
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    let dump: parlor_protocol::signal::socket::room::GetConnectedRoomsDumpResponse =
        ada.ask_bare(event::GET_CONNECTED_ROOMS_DUMP).await.unwrap();
    assert_eq!(dump.meetings.len(), 60);
}
