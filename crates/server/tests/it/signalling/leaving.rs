//! Leaves, kicks, and ending the meeting for all (docs/spec/signalling.md 6.4).

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, RemoveParticipantsRequest};
use parlor_testkit::signal::Peer;

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    a_kick_removes_only_its_target,
    a_kick_of_unknown_peers_does_nothing,
    kick_all_reaches_the_caller_too,
    kick_all_ends_the_session,
];

fn kick(peers: &[&str]) -> RemoveParticipantsRequest {
    RemoveParticipantsRequest {
        peer_ids: peers.iter().map(|&peer| peer.to_owned()).collect(),
    }
}

async fn a_kick_removes_only_its_target(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, carol) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    // The SDK sends the kick twice.
    let ids = [
        ada.tell(event::KICK, &kick(&[bob.id()])).await.unwrap(),
        ada.tell(event::KICK, &kick(&[bob.id()])).await.unwrap(),
    ];
    bob.push_frame(event::KICK).await.unwrap();
    for other in [&ada, &carol] {
        let push: PeerInfoResponse = other.push(event::LEAVE_ROOM).await.unwrap();
        assert_eq!(push.peer.unwrap().peer_id, bob.id());
    }
    settle(&[&ada, &carol]).await;
    assert!(
        ada.take_pushes(&[event::LEAVE_ROOM]).is_empty(),
        "one leave per kicked peer"
    );
    assert_eq!(
        ada.take_pushes(&[event::KICK]).len(),
        0,
        "a client that receives this push leaves"
    );
    let replies = ada.received();
    let replies = replies
        .iter()
        .filter(|frame| frame.id.as_ref().is_some_and(|id| ids.contains(id)));
    assert!(
        replies.clone().all(|frame| frame.event == event::ERROR),
        "{:?}",
        replies.collect::<Vec<_>>()
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    // A kicked client that does not close its socket is no longer in the room either.
    if bob.is_open() {
        bob.tell(event::SEND_MESSAGE_TO_ROOM, &kick(&[])).await.ok();
        bob.settle().await.ok();
    }
    settle(&[&carol]).await;
    assert!(carol.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    // A kick is not a ban: the same token may join again with another client.
    let back = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    assert_eq!(back.roster().await.unwrap().len(), 3);
}

async fn a_kick_of_unknown_peers_does_nothing(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let stranger = server.meeting().await.host().await;
    for victims in [
        vec![],
        vec!["nobody"],
        vec![""],
        vec![stranger.id()],
        vec!["x"; 5000],
    ] {
        ada.tell(event::KICK, &kick(&victims)).await.unwrap();
    }
    settle(&[&ada, &bob, &stranger]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    assert_eq!(stranger.roster().await.unwrap().len(), 1);
    for peer in [&ada, &bob, &stranger] {
        assert!(
            peer.take_pushes(&[event::KICK, event::LEAVE_ROOM])
                .is_empty()
        );
    }
}

async fn kick_all_reaches_the_caller_too(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let waiting = meeting
        .add_with_permissions(serde_json::json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let waiting = Peer::enter(&waiting).await.unwrap();
    let request = KickAllPeersRequest {
        propagate_kick_across_rooms: true,
    };
    ada.tell(event::KICK_ALL, &request).await.unwrap();
    for peer in [&ada, &bob, &waiting] {
        peer.push_frame(event::KICK_ALL).await.unwrap();
    }
}

async fn kick_all_ends_the_session(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let first = meeting.active_session().await.unwrap()["id"].clone();
    ada.tell(event::KICK_ALL, &KickAllPeersRequest::default())
        .await
        .unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
    wait_until("no session is live", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
    let sessions = meeting.sessions().await;
    assert_eq!(sessions[0]["id"], first);
    assert_eq!(sessions[0]["status"], "ENDED", "{}", sessions[0]);
    assert!(sessions[0]["ended_at"].is_string());
    let rows = meeting.peers_of(first.as_str().unwrap()).await;
    assert!(
        rows.iter().all(|row| row["left_at"].is_string()),
        "{rows:?}"
    );
    // The next join starts a new session.
    let bob = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    let second = meeting.active_session().await.unwrap()["id"].clone();
    assert_ne!(first, second);
    assert_eq!(bob.roster().await.unwrap().len(), 1);
}
