//! Leaving, being removed, and the end for everybody (docs/spec/signalling.md 6.4).

use parlor_protocol::signal::event;
use parlor_protocol::signal::media::edge::KickAllPeersRequest;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, RemoveParticipantsRequest};
use parlor_testkit::signal::Peer;

use crate::on_both_databases;
use crate::signalling::meeting::settle;
use crate::signalling::server::{Server, until};

on_both_databases![
    a_kick_removes_its_victim_and_nobody_else,
    a_kick_of_nobody_harms_nobody,
    the_end_for_all_reaches_the_caller_too,
    the_end_for_all_ends_the_session,
];

fn kick(peers: &[&str]) -> RemoveParticipantsRequest {
    RemoveParticipantsRequest {
        peer_ids: peers.iter().map(|&peer| peer.to_owned()).collect(),
    }
}

async fn a_kick_removes_its_victim_and_nobody_else(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, carol) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    // The SDK sends it twice.
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
        ada.untaken(&[event::LEAVE_ROOM]).is_empty(),
        "one leave for one victim"
    );
    assert_eq!(
        ada.untaken(&[event::KICK]).len(),
        0,
        "whoever receives it leaves"
    );
    let answers = ada.received();
    let answers = answers
        .iter()
        .filter(|frame| frame.id.as_ref().is_some_and(|id| ids.contains(id)));
    assert!(
        answers.clone().all(|frame| frame.event == event::ERROR),
        "{:?}",
        answers.collect::<Vec<_>>()
    );
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    // The victim's client closes by itself; if it does not, it still is outside.
    if bob.is_open() {
        bob.tell(event::SEND_MESSAGE_TO_ROOM, &kick(&[])).await.ok();
        bob.settle().await.ok();
    }
    settle(&[&carol]).await;
    assert!(carol.untaken(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    // A kick is no ban: the same token joins again as another client.
    let back = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    assert_eq!(back.roster().await.unwrap().len(), 3);
}

async fn a_kick_of_nobody_harms_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let elsewhere = server.meeting().await.host().await;
    for victims in [
        vec![],
        vec!["nobody"],
        vec![""],
        vec![elsewhere.id()],
        vec!["x"; 5000],
    ] {
        ada.tell(event::KICK, &kick(&victims)).await.unwrap();
    }
    settle(&[&ada, &bob, &elsewhere]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    assert_eq!(elsewhere.roster().await.unwrap().len(), 1);
    for peer in [&ada, &bob, &elsewhere] {
        assert!(peer.untaken(&[event::KICK, event::LEAVE_ROOM]).is_empty());
    }
}

async fn the_end_for_all_reaches_the_caller_too(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let waiting = meeting
        .person_who(serde_json::json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
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

async fn the_end_for_all_ends_the_session(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let first = meeting.active_session().await.unwrap()["id"].clone();
    ada.tell(event::KICK_ALL, &KickAllPeersRequest::default())
        .await
        .unwrap();
    bob.push_frame(event::KICK_ALL).await.unwrap();
    until("no session is live", async || {
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
    // The next to join begins another.
    let bob = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    let second = meeting.active_session().await.unwrap()["id"].clone();
    assert_ne!(first, second);
    assert_eq!(bob.roster().await.unwrap().len(), 1);
}
