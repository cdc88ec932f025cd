//! Broken sockets, and clients that reconnect on a new one (docs/spec/signalling.md 1.5).

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::PeerInfoResponse;
use parlor_testkit::signal::{Peer, wire};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, next_message, send_message, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    a_peer_that_reconnects_in_time_has_not_left,
    a_peer_that_does_not_reconnect_has_left,
    a_new_socket_replaces_the_older_one,
    twenty_reconnects_leave_no_stale_peer_and_lose_no_message,
    a_close_frame_is_an_immediate_leave,
    a_peer_that_left_may_join_again,
    a_waiting_peer_keeps_waiting_after_a_reconnect,
    peers_reconnect_after_a_restart,
];

/// The pushes that announce joins and leaves.
const PRESENCE: [u32; 2] = [event::JOIN_ROOM, event::LEAVE_ROOM];

async fn a_peer_that_reconnects_in_time_has_not_left(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let identity = bob.cut().await;
    send_message(&ada, "while you were out").await;
    let bob = Peer::open(&identity).await.unwrap();
    let joined = bob.rejoin().await.unwrap();
    assert_eq!(
        joined.chat.len(),
        1,
        "the history contains the missed message"
    );
    assert_eq!(
        joined
            .peers
            .iter()
            .filter(|peer| peer.peer_id == ada.id())
            .count(),
        1
    );
    settle(&[&ada, &bob]).await;
    assert!(
        ada.take_pushes(&PRESENCE).is_empty(),
        "others have not noticed"
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    send_message(&bob, "back").await;
    assert_eq!(next_message(&ada).await.payload, "back");
    let session = meeting.active_session().await.unwrap();
    let peers = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert_eq!(peers.len(), 2, "one row for one peer: {peers:?}");
}

async fn a_peer_that_does_not_reconnect_has_left(server: &Server) {
    let server = Server::dedicated(server, &["--reconnect-grace-secs", "1"]).await;
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let identity = bob.cut().await;
    let push: PeerInfoResponse = ada.push(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, identity.peer);
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let session = meeting.active_session().await.unwrap();
    let peers = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert!(
        row_of(&peers, &identity.peer)["left_at"].is_string(),
        "{peers:?}"
    );
    // The grace period is over, so others see a new join.
    let bob = Peer::enter(&identity).await.unwrap();
    let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, bob.id());
}

/// Returns the only row of a peer in a list from the REST API.
#[track_caller]
fn row_of<'a>(peers: &'a [Value], id: &str) -> &'a Value {
    let mut matching = peers.iter().filter(|row| row["id"] == id);
    let row = matching
        .next()
        .unwrap_or_else(|| panic!("no row of {id} in {peers:?}"));
    assert!(matching.next().is_none(), "two rows of {id}: {peers:?}");
    row
}

async fn a_new_socket_replaces_the_older_one(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, old) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let new = Peer::open(old.identity()).await.unwrap();
    new.rejoin().await.unwrap();
    old.closed().await.unwrap();
    settle(&[&ada, &new]).await;
    assert!(ada.take_pushes(&PRESENCE).is_empty());
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    send_message(&ada, "one copy").await;
    next_message(&new).await;
    settle(&[&new]).await;
    assert!(new.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    // Closing the older socket does not end the peer.
    drop(old);
    settle(&[&new, &ada]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
}

async fn twenty_reconnects_leave_no_stale_peer_and_lose_no_message(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, mut bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let mut sent = Vec::new();
    let mut joined = None;
    for round in 0..20 {
        let identity = bob.cut().await;
        sent.push(send_message(&ada, &format!("round {round}")).await.chat_id);
        bob = Peer::open(&identity).await.unwrap();
        joined = Some(bob.rejoin().await.unwrap());
        // Stores may be read five times a second.
        tokio::time::sleep(Duration::from_millis(210)).await;
    }
    let history: Vec<String> = joined
        .unwrap()
        .chat
        .into_iter()
        .map(|message| message.chat_id)
        .collect();
    assert_eq!(history, sent, "every message once, oldest first");
    settle(&[&ada, &bob]).await;
    assert!(
        ada.take_pushes(&PRESENCE).is_empty(),
        "others have not noticed"
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    let session = meeting.active_session().await.unwrap();
    assert_eq!(session["live_participants"], 2);
    assert_eq!(
        meeting
            .peers_of(session["id"].as_str().unwrap())
            .await
            .len(),
        2
    );
}

async fn a_close_frame_is_an_immediate_leave(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for code in [1000, 1001] {
        let bob = meeting.participant().await;
        ada.push_frame(event::JOIN_ROOM).await.unwrap();
        bob.close(code).await.unwrap();
        // The server echoes the close code. Otherwise the browser reports a failure.
        assert_eq!(bob.closed().await.unwrap().code, Some(code));
        ada.push_frame(event::LEAVE_ROOM).await.unwrap();
    }
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
}

async fn a_peer_that_left_may_join_again(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let identity = bob.identity().clone();
    bob.leave().await.unwrap();
    let bob = Peer::enter(&identity).await.unwrap();
    settle(&[&ada, &bob]).await;
    let seen: Vec<u32> = ada
        .take_pushes(&PRESENCE)
        .iter()
        .map(|frame| frame.event)
        .collect();
    assert_eq!(
        seen,
        [event::JOIN_ROOM, event::LEAVE_ROOM, event::JOIN_ROOM]
    );
    let session = meeting.active_session().await.unwrap();
    let peers = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert!(row_of(&peers, bob.id())["left_at"].is_null(), "{peers:?}");
}

async fn a_waiting_peer_keeps_waiting_after_a_reconnect(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let identity = meeting
        .add_with_permissions(json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let bob = Peer::enter(&identity).await.unwrap();
    let identity = bob.cut().await;
    // A waiting client does not join again by itself; it waits for event 35.
    let bob = Peer::open(&identity).await.unwrap();
    bob.settle().await.unwrap();
    let accept = parlor_protocol::signal::socket::room::AcceptWaitingRoomRequests {
        user_ids: vec![identity.participant.clone()],
    };
    ada.tell(event::ACCEPT_WAITING_ROOM_REQUESTS, &accept)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    assert!(!bob.rejoin().await.unwrap().me.waitlisted);
}

async fn peers_reconnect_after_a_restart(shared: &Server) {
    let mut server = Server::dedicated(shared, &[]).await;
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let sent = send_message(&ada, "before").await;
    let session = meeting.active_session().await.unwrap()["id"].clone();
    server.stop().await;
    for peer in [&ada, &bob] {
        let closed = peer.closed().await.unwrap();
        assert_ne!(
            closed.code,
            Some(1000),
            "code 1000 tells the client not to reconnect: {closed:?}"
        );
    }
    server.start_again().await;
    let meeting: Meeting = meeting.after_restart(&server);
    let bob = Peer::open(&meeting.at_current_address(bob.identity()))
        .await
        .unwrap();
    let joined = bob.rejoin().await.unwrap();
    assert_eq!(
        joined.room.room_uuid.as_deref(),
        session.as_str(),
        "the session continues"
    );
    let history: Vec<_> = joined.chat.iter().map(|message| &message.chat_id).collect();
    assert_eq!(history, [&sent.chat_id]);
    let ada = Peer::open(&meeting.at_current_address(ada.identity()))
        .await
        .unwrap();
    ada.rejoin().await.unwrap();
    settle(&[&ada, &bob]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    let rows = wait_until("both rows are open", async || {
        let rows = meeting.peers_of(session.as_str().unwrap()).await;
        rows.iter()
            .all(|row| row["left_at"].is_null())
            .then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    // A raw socket that never joins adds no row.
    drop(wire::open(ada.identity()).await);
}
