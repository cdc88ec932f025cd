//! The waiting room (docs/spec/signalling.md 6.5).

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::{
    AcceptWaitingRoomRequests, DenyWaitingRoomRequests, GetWaitingRoomRequests, PeerInfoResponse,
};
use parlor_protocol::signal::socket::{chat, polls};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, say, settle};
use crate::signalling::server::Server;

on_both_databases![
    whoever_waits_learns_nothing,
    whoever_is_let_in_joins,
    whoever_is_turned_away_is_told,
    several_are_let_in_at_once,
    a_guest_enters_when_somebody_privileged_does,
    whoever_was_let_in_once_need_not_wait_again,
    hosts_learn_who_gives_up_waiting,
];

/// Somebody who has to be let in, in the waiting room.
async fn waiting(meeting: &Meeting) -> Peer {
    let person = meeting
        .person_who(json!({ "waiting_room_type": "SKIP_ON_ACCEPT" }))
        .await;
    let peer = Peer::open(&person).await.unwrap();
    assert!(peer.join().await.unwrap().me.waitlisted);
    peer
}

/// Who waits, by the next list that a host is sent.
async fn list(host: &Peer) -> Vec<String> {
    let push: GetWaitingRoomRequests = host.push(event::GET_WAITING_ROOM_REQUESTS).await.unwrap();
    push.requests
        .into_iter()
        .map(|request| request.user_id)
        .collect()
}

async fn whoever_waits_learns_nothing(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    say(&ada, "a secret").await;
    let poll = polls::NewPollRequest {
        question: "?".to_owned(),
        options: vec!["a".to_owned(), "b".to_owned()],
        ..polls::NewPollRequest::default()
    };
    ada.tell(event::CREATE_POLL, &poll).await.unwrap();
    ada.push_frame(event::CREATE_POLL).await.unwrap();
    assert!(list(&ada).await.is_empty());
    let bob = waiting(&meeting).await;
    let joined = bob.rejoin().await.unwrap();
    assert!(joined.me.waitlisted);
    assert!(joined.chat.is_empty() && joined.polls.is_empty() && joined.peers.is_empty());
    assert_eq!(list(&ada).await, [bob.user()]);
    say(&ada, "another secret").await;
    settle(&[&ada, &bob]).await;
    let heard = bob.untaken(&[
        event::SEND_MESSAGE_TO_ROOM,
        event::JOIN_ROOM,
        event::CREATE_POLL,
        event::BROADCAST_MESSAGE,
    ]);
    assert!(heard.is_empty(), "{heard:?}");
    assert!(
        ada.untaken(&[event::JOIN_ROOM]).is_empty(),
        "others do not see who waits"
    );
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let shout = chat::SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "let me in".to_owned(),
    };
    bob.refused(event::SEND_MESSAGE_TO_ROOM, &shout)
        .await
        .unwrap();
    settle(&[&ada]).await;
    assert!(ada.untaken(&[event::SEND_MESSAGE_TO_ROOM]).is_empty());
    let history = bob
        .ask_bare::<chat::GetChatMessagesResponse>(event::GET_MESSAGES)
        .await
        .unwrap();
    assert!(history.messages.is_empty());
}

async fn whoever_is_let_in_joins(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = waiting(&meeting).await;
    assert!(list(&ada).await.is_empty());
    assert_eq!(list(&ada).await, [bob.user()]);
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
    assert!(list(&ada).await.is_empty(), "nobody waits any more");
    say(&bob, "thanks").await;
}

async fn whoever_is_turned_away_is_told(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = waiting(&meeting).await;
    let deny = DenyWaitingRoomRequests {
        user_ids: vec![bob.user().to_owned()],
    };
    ada.tell(event::DENY_WAITING_ROOM_REQUESTS, &deny)
        .await
        .unwrap();
    bob.push_frame(event::WAITING_ROOM_REQUEST_DENIED)
        .await
        .unwrap();
    // Of several changes in a moment the last is told a little later.
    loop {
        let list: GetWaitingRoomRequests =
            ada.push(event::GET_WAITING_ROOM_REQUESTS).await.unwrap();
        if list.requests.is_empty() {
            break;
        }
    }
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    // The client may try again, and may still be let in.
    let again = bob.rejoin().await;
    let is_outside = again.as_ref().map_or(true, |joined| joined.me.waitlisted);
    assert!(
        is_outside,
        "being turned away does not let one in: {again:?}"
    );
}

async fn several_are_let_in_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let crowd = [
        waiting(&meeting).await,
        waiting(&meeting).await,
        waiting(&meeting).await,
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

async fn a_guest_enters_when_somebody_privileged_does(server: &Server) {
    let meeting = server.meeting().await;
    let guest = Peer::open(&meeting.person("group_call_guest").await)
        .await
        .unwrap();
    assert!(guest.join().await.unwrap().me.waitlisted);
    // Somebody without the right to let people in changes nothing.
    let bob = meeting.participant().await;
    settle(&[&bob, &guest]).await;
    assert!(
        guest
            .untaken(&[event::WAITING_ROOM_REQUEST_ACCEPTED])
            .is_empty()
    );
    let _ada = meeting.host().await;
    guest
        .push_frame(event::WAITING_ROOM_REQUEST_ACCEPTED)
        .await
        .unwrap();
    assert!(!guest.rejoin().await.unwrap().me.waitlisted);
    let late = Peer::open(&meeting.person("group_call_guest").await)
        .await
        .unwrap();
    assert!(
        !late.join().await.unwrap().me.waitlisted,
        "a host is there already"
    );
}

async fn whoever_was_let_in_once_need_not_wait_again(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = waiting(&meeting).await;
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
    let person = bob.identity().in_another_tab();
    bob.leave().await.unwrap();
    let again = Peer::open(&person).await.unwrap();
    assert!(!again.join().await.unwrap().me.waitlisted);
}

async fn hosts_learn_who_gives_up_waiting(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let bob = waiting(&meeting).await;
    assert!(list(&ada).await.is_empty());
    assert_eq!(list(&ada).await, [bob.user()]);
    bob.leave().await.unwrap();
    assert!(list(&ada).await.is_empty());
    settle(&[&ada]).await;
    assert!(
        ada.untaken(&[event::LEAVE_ROOM]).is_empty(),
        "it never was inside"
    );
}
