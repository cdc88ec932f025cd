//! Sockets that break, and the same client on a new one (docs/spec/signalling.md 1.5).

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::PeerInfoResponse;
use parlor_testkit::signal::{Peer, wire};
use serde_json::{Value, json};

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, said, say, settle};
use crate::signalling::server::{Server, until};

on_both_databases![
    a_peer_that_comes_back_was_never_gone,
    a_peer_that_does_not_come_back_has_left,
    a_new_socket_replaces_the_older_one,
    twenty_pulls_leave_no_ghost_and_lose_no_message,
    a_goodbye_is_a_leave_at_once,
    a_peer_that_left_may_join_again,
    whoever_waits_keeps_waiting_over_a_reconnect,
    everybody_comes_back_after_a_restart,
];

/// The pushes by which others see somebody come and go.
const PRESENCE: [u32; 2] = [event::JOIN_ROOM, event::LEAVE_ROOM];

async fn a_peer_that_comes_back_was_never_gone(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let person = bob.cut().await;
    say(&ada, "while you were out").await;
    let bob = Peer::open(&person).await.unwrap();
    let joined = bob.rejoin().await.unwrap();
    assert_eq!(joined.chat.len(), 1, "what was missed is in the history");
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
        ada.untaken(&PRESENCE).is_empty(),
        "others have seen nothing"
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    say(&bob, "back").await;
    assert_eq!(said(&ada).await.payload, "back");
    let session = meeting.active_session().await.unwrap();
    let peers = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert_eq!(peers.len(), 2, "one row for one peer: {peers:?}");
}

async fn a_peer_that_does_not_come_back_has_left(server: &Server) {
    let server = Server::beside(server, &["--reconnect-grace-secs", "1"]).await;
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let person = bob.cut().await;
    let push: PeerInfoResponse = ada.push(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, person.peer);
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let session = meeting.active_session().await.unwrap();
    let peers = meeting.peers_of(session["id"].as_str().unwrap()).await;
    assert!(
        row_of(&peers, &person.peer)["left_at"].is_string(),
        "{peers:?}"
    );
    // Too late for the grace, but not to join again: for others it is a new join.
    let bob = Peer::enter(&person).await.unwrap();
    let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, bob.id());
}

/// The row of a peer in what REST lists.
#[track_caller]
fn row_of<'a>(peers: &'a [Value], id: &str) -> &'a Value {
    let mut fitting = peers.iter().filter(|row| row["id"] == id);
    let row = fitting
        .next()
        .unwrap_or_else(|| panic!("no {id} in {peers:?}"));
    assert!(fitting.next().is_none(), "two rows of {id}: {peers:?}");
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
    assert!(ada.untaken(&PRESENCE).is_empty());
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    say(&ada, "one copy").await;
    said(&new).await;
    settle(&[&new]).await;
    assert!(new.untaken(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    // The end of the older socket is not the end of the peer.
    drop(old);
    settle(&[&new, &ada]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
}

async fn twenty_pulls_leave_no_ghost_and_lose_no_message(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, mut bob) = (meeting.host().await, meeting.participant().await);
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let mut sent = Vec::new();
    let mut joined = None;
    for round in 0..20 {
        let person = bob.cut().await;
        sent.push(say(&ada, &format!("round {round}")).await.chat_id);
        bob = Peer::open(&person).await.unwrap();
        joined = Some(bob.rejoin().await.unwrap());
        // Stores are read five times a second at most.
        tokio::time::sleep(Duration::from_millis(210)).await;
    }
    let history: Vec<String> = joined
        .unwrap()
        .chat
        .into_iter()
        .map(|message| message.chat_id)
        .collect();
    assert_eq!(history, sent, "each once, oldest first");
    settle(&[&ada, &bob]).await;
    assert!(
        ada.untaken(&PRESENCE).is_empty(),
        "others have seen nothing"
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

async fn a_goodbye_is_a_leave_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for code in [1000, 1001] {
        let bob = meeting.participant().await;
        ada.push_frame(event::JOIN_ROOM).await.unwrap();
        bob.close(code).await.unwrap();
        // The answer to a goodbye is the same goodbye, or the browser reports a failure.
        assert_eq!(bob.closed().await.unwrap().code, Some(code));
        ada.push_frame(event::LEAVE_ROOM).await.unwrap();
    }
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
}

async fn a_peer_that_left_may_join_again(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let person = bob.identity().clone();
    bob.leave().await.unwrap();
    let bob = Peer::enter(&person).await.unwrap();
    settle(&[&ada, &bob]).await;
    let seen: Vec<u32> = ada
        .untaken(&PRESENCE)
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

async fn whoever_waits_keeps_waiting_over_a_reconnect(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let person = meeting
        .person_who(json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let bob = Peer::enter(&person).await.unwrap();
    let person = bob.cut().await;
    // A client that waits does not join again by itself; it listens for event 35.
    let bob = Peer::open(&person).await.unwrap();
    bob.settle().await.unwrap();
    let accept = parlor_protocol::signal::socket::room::AcceptWaitingRoomRequests {
        user_ids: vec![person.participant.clone()],
    };
    ada.tell(event::ACCEPT_WAITING_ROOM_REQUESTS, &accept)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    assert!(!bob.rejoin().await.unwrap().me.waitlisted);
}

async fn everybody_comes_back_after_a_restart(like: &Server) {
    let mut server = Server::beside(like, &[]).await;
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let sent = say(&ada, "before").await;
    let session = meeting.active_session().await.unwrap()["id"].clone();
    server.stop().await;
    for peer in [&ada, &bob] {
        let closed = peer.closed().await.unwrap();
        assert_ne!(
            closed.code,
            Some(1000),
            "1000 means: never come back. {closed:?}"
        );
    }
    server.start_again().await;
    let meeting: Meeting = meeting.moved_to(&server);
    let bob = Peer::open(&meeting.found_again(bob.identity()))
        .await
        .unwrap();
    let joined = bob.rejoin().await.unwrap();
    assert_eq!(
        joined.room.room_uuid.as_deref(),
        session.as_str(),
        "the session goes on"
    );
    let history: Vec<_> = joined.chat.iter().map(|message| &message.chat_id).collect();
    assert_eq!(history, [&sent.chat_id]);
    let ada = Peer::open(&meeting.found_again(ada.identity()))
        .await
        .unwrap();
    ada.rejoin().await.unwrap();
    settle(&[&ada, &bob]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    let rows = until("two rows, both open", async || {
        let rows = meeting.peers_of(session.as_str().unwrap()).await;
        rows.iter()
            .all(|row| row["left_at"].is_null())
            .then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    // Not even after a bare socket that never joined.
    drop(wire::open(ada.identity()).await);
}
