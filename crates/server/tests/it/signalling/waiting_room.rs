//! The waiting room (docs/spec/signalling.md 6.5).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, DenyWaitingRoomRequests, GetWaitingRoomRequests, PeerInfoResponse,
};
use parlor_protocol::signal::socket::{chat, polls};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    a_waiting_peer_learns_nothing,
    an_admitted_peer_joins,
    a_denied_peer_is_notified,
    several_peers_are_admitted_at_once,
    a_guest_is_admitted_when_a_host_joins,
    an_admitted_participant_does_not_wait_again,
    hosts_are_notified_when_a_waiting_peer_leaves,
];

/// Returns a peer in the waiting room that must be admitted.
async fn join_waiting_room(meeting: &Meeting) -> Peer {
    let identity = meeting
        .add_with_permissions(json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let peer = Peer::open(&identity).await.unwrap();
    assert!(peer.join().await.unwrap().me.waitlisted);
    peer
}

/// Waits for the next list of waiting peers that is pushed to a host, and returns their user ids.
async fn next_waiting_list(host: &Peer) -> Vec<String> {
    let push: GetWaitingRoomRequests = host.push(event::GET_WAITING_ROOM_REQUESTS).await.unwrap();
    push.requests
        .into_iter()
        .map(|request| request.user_id)
        .collect()
}

async fn a_waiting_peer_learns_nothing(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    send_message(&ada, "a secret").await;
    let poll = polls::NewPollRequest {
        question: "?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..polls::NewPollRequest::default()
    };
    ada.tell(event::CREATE_POLL, &poll).await.unwrap();
    ada.push_frame(event::CREATE_POLL).await.unwrap();
    assert!(next_waiting_list(&ada).await.is_empty());
    let bob = join_waiting_room(&meeting).await;
    let joined = bob.rejoin().await.unwrap();
    assert!(joined.me.waitlisted);
    assert!(joined.chat.is_empty() && joined.polls.is_empty() && joined.peers.is_empty());
    assert_eq!(next_waiting_list(&ada).await, [bob.user()]);
    send_message(&ada, "another secret").await;
    settle(&[&ada, &bob]).await;
    let heard = bob.take_pushes(&[
        event::SEND_MESSAGE_TO_ROOM,
        event::JOIN_ROOM,
        event::CREATE_POLL,
        event::BROADCAST_MESSAGE,
    ]);
    assert!(heard.is_empty(), "{heard:?}");
    assert!(
        ada.take_pushes(&[event::JOIN_ROOM]).is_empty(),
        "others do not see a waiting peer"
    );
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let message = chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "let me in".to_owned(),
    };
    bob.refused(event::SEND_MESSAGE_TO_ROOM, &message)
        .await
        .unwrap();
    settle(&[&ada]).await;
    assert!(ada.take_pushes(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    let history = bob
        .ask_bare::<chat::GetChatMessagesResponse>(event::GET_MESSAGES)
        .await
        .unwrap();
    assert!(history.messages.is_empty());
}

async fn an_admitted_peer_joins(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = join_waiting_room(&meeting).await;
    assert!(next_waiting_list(&ada).await.is_empty());
    assert_eq!(next_waiting_list(&ada).await, [bob.user()]);
    let accept = AcceptWaitingRoomRequests {
        user_ids: vec![bob.user().to_owned()],
    };
    ada.tell(event::ACCEPT_WAITING_ROOM_REQUESTS, &accept)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    let joined = bob.rejoin().await.unwrap();
    assert!(!joined.me.waitlisted);
    assert!(joined.peers.iter().any(|peer| peer.peer_id == ada.id()));
    let push: PeerInfoResponse = ada.push(event::JOIN_ROOM).await.unwrap();
    let peer = push.peer.unwrap();
    assert_eq!(peer.peer_id, bob.id());
    assert!(!peer.waitlisted);
    assert!(
        next_waiting_list(&ada).await.is_empty(),
        "the waiting room is empty"
    );
    send_message(&bob, "thanks").await;
}

async fn a_denied_peer_is_notified(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = join_waiting_room(&meeting).await;
    let deny = DenyWaitingRoomRequests {
        user_ids: vec![bob.user().to_owned()],
    };
    ada.tell(event::DENY_WAITING_ROOM_REQUESTS, &deny)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_DENIED)
        .await
        .unwrap();
    // Several changes in quick succession are pushed once, with a short delay.
    loop {
        let list: GetWaitingRoomRequests =
            ada.push(event::GET_WAITING_ROOM_REQUESTS).await.unwrap();
        if list.requests.is_empty() {
            break;
        }
    }
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    // The client may try again, and may still be admitted.
    let again = bob.rejoin().await;
    let is_outside = again.as_ref().map_or(true, |joined| joined.me.waitlisted);
    assert!(
        is_outside,
        "a denied peer must not be in the room: {again:?}"
    );
}

async fn several_peers_are_admitted_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let crowd = [
        join_waiting_room(&meeting).await,
        join_waiting_room(&meeting).await,
        join_waiting_room(&meeting).await,
    ];
    let mut user_ids: Vec<String> = crowd.iter().map(|peer| peer.user().to_owned()).collect();
    user_ids.extend(["nobody".to_owned(), String::new()]);
    ada.tell(
        event::ACCEPT_WAITING_ROOM_REQUESTS,
        &AcceptWaitingRoomRequests { user_ids },
    )
    .await
    .unwrap();
    for peer in &crowd {
        peer.push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
            .await
            .unwrap();
        assert!(!peer.rejoin().await.unwrap().me.waitlisted);
    }
    assert_eq!(ada.roster().await.unwrap().len(), 4);
}

async fn a_guest_is_admitted_when_a_host_joins(server: &Server) {
    let meeting = server.meeting().await;
    let guest = Peer::open(&meeting.add_with_preset("group_call_guest").await)
        .await
        .unwrap();
    assert!(guest.join().await.unwrap().me.waitlisted);
    // A participant without the permission to admit others changes nothing.
    let bob = meeting.participant().await;
    settle(&[&bob, &guest]).await;
    assert!(
        guest
            .take_pushes(&[event::WAITING_ROOM_REQUEST_ACCEPTED])
            .is_empty()
    );
    let _ada = meeting.host().await;
    guest
        .push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    assert!(!guest.rejoin().await.unwrap().me.waitlisted);
    let late = Peer::open(&meeting.add_with_preset("group_call_guest").await)
        .await
        .unwrap();
    assert!(
        !late.join().await.unwrap().me.waitlisted,
        "a host has already joined"
    );
}

async fn an_admitted_participant_does_not_wait_again(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = join_waiting_room(&meeting).await;
    let accept = AcceptWaitingRoomRequests {
        user_ids: vec![bob.user().to_owned()],
    };
    ada.tell(event::ACCEPT_WAITING_ROOM_REQUESTS, &accept)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    bob.rejoin().await.unwrap();
    let identity = bob.identity().in_another_tab();
    bob.leave().await.unwrap();
    let again = Peer::open(&identity).await.unwrap();
    assert!(!again.join().await.unwrap().me.waitlisted);
}

async fn hosts_are_notified_when_a_waiting_peer_leaves(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = join_waiting_room(&meeting).await;
    assert!(next_waiting_list(&ada).await.is_empty());
    assert_eq!(next_waiting_list(&ada).await, [bob.user()]);
    bob.leave().await.unwrap();
    assert!(next_waiting_list(&ada).await.is_empty());
    settle(&[&ada]).await;
    assert!(
        ada.take_pushes(&[event::LEAVE_ROOM]).is_empty(),
        "the waiting peer never was in the room"
    );
}
