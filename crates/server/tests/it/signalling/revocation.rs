//! How the expiry of tokens, the deletion of participants, meetings and apps, and other changes of
//! the records affect open sockets and later joins.

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::PeerInfoResponse;
use parlor_testkit::plain_http;
use parlor_testkit::server::ACCOUNT_ID;
use parlor_testkit::signal::{Identity, Peer, Refused};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, assert_rejected, send_message, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    an_expired_token_is_rejected_for_good,
    a_deleted_participant_stays_until_it_leaves,
    a_deleted_participant_is_dropped_on_request,
    an_inactive_meeting_admits_nobody_and_removes_nobody,
    deleting_a_meeting_disconnects_peers_that_have_not_joined,
    deleting_an_app_ends_its_meetings_at_once,
    deleting_an_app_on_the_command_line_ends_its_meetings,
    a_participant_joins_with_its_new_preset,
    a_refreshed_token_joins_beside_the_older_one,
];

fn participant_path(meeting: &Meeting, identity: &Identity) -> String {
    meeting.path(&format!("/participants/{}", identity.participant))
}

async fn an_expired_token_is_rejected_for_good(server: &Server) {
    let meeting = server.meeting().await;
    let identity = meeting
        .add(json!({ "preset_name": "group_call_participant", "name": "X", "expires_in": 1 }))
        .await;
    let early = Peer::enter(&identity).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_rejected(&identity.in_another_tab()).await;
    // A peer that has joined stays, because the token is only checked on joining.
    settle(&[&early]).await;
    send_message(&early, "still here").await;
}

async fn a_deleted_participant_stays_until_it_leaves(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let identity = bob.identity().clone();
    meeting
        .delete(&participant_path(&meeting, &identity))
        .await
        .expect(200)
        .unwrap();
    assert_rejected(&identity.in_another_tab()).await;
    // RealtimeKit does not drop a peer that is connected.
    settle(&[&ada, &bob]).await;
    assert!(bob.is_open());
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    // After a broken socket the peer cannot reconnect.
    bob.cut().await;
    assert_rejected(&identity).await;
}

async fn a_deleted_participant_is_dropped_on_request(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let identity = bob.identity().clone();
    let path = format!("{}?drop=true", participant_path(&meeting, &identity));
    meeting.delete(&path).await.expect(200).unwrap();
    bob.push_frame(event::KICK).await.unwrap();
    let closed = bob.closed().await.unwrap();
    assert_eq!(closed.code, Some(1000), "{closed:?}");
    let push: PeerInfoResponse = ada.push(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, identity.peer);
    assert_rejected(&identity).await;
}

/// Checks that the join is refused, which the official client reports, or that the socket is closed
/// for good.
pub(crate) async fn assert_cannot_join(identity: &Identity) {
    let peer = Peer::open(identity).await.unwrap();
    let Err(error) = peer.rejoin().await else {
        panic!("{} has joined", identity.peer)
    };
    let refused = error.downcast_ref::<Refused>().map(|refused| refused.code);
    let closed = if refused.is_none() {
        peer.closed().await.unwrap().code
    } else {
        None
    };
    assert!(refused == Some(403) || closed == Some(1000), "{error:#}");
}

/// Requests links for a file and returns the status.
async fn request_links(server: &Server, identity: &Identity) -> u16 {
    let url = format!("{}/v2/meetings/chat-upload", server.origin());
    let body = json!({ "roomUUID": identity.meeting, "filename": "a.txt" });
    let request = plain_http().post(url).json(&body);
    let response = request.bearer_auth(&identity.token).send().await.unwrap();
    response.status().as_u16()
}

async fn an_inactive_meeting_admits_nobody_and_removes_nobody(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let late = meeting.add_with_preset("group_call_participant").await;
    meeting
        .patch(&meeting.path(""), &json!({ "status": "INACTIVE" }))
        .await
        .expect(200)
        .unwrap();
    assert_cannot_join(&late).await;
    settle(&[&ada, &bob]).await;
    send_message(&ada, "we go on").await;
    // Only peers that have joined may send files.
    assert_eq!(request_links(server, ada.identity()).await, 200);
    assert_eq!(request_links(server, &late).await, 403);
    // Reconnecting after a broken socket is not a new join.
    let back = Peer::open(&bob.cut().await).await.unwrap();
    back.rejoin().await.unwrap();
    meeting
        .patch(&meeting.path(""), &json!({ "status": "ACTIVE" }))
        .await
        .expect(200)
        .unwrap();
    Peer::enter(&late).await.unwrap();
    meeting
        .patch(
            &meeting.path("?kick=true"),
            &json!({ "status": "INACTIVE" }),
        )
        .await
        .expect(200)
        .unwrap();
    ada.push_frame(event::KICK_ALL).await.unwrap();
    wait_until("no session is live", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
}

/// Returns a peer that has joined, and one that is connected but has not joined.
async fn joined_and_connected(meeting: &Meeting) -> [Peer; 2] {
    let identity = meeting.add_with_preset("group_call_participant").await;
    let outside = Peer::open(&identity).await.unwrap();
    // A socket is open before the room knows of it. A reply shows that the room does.
    outside.roster().await.unwrap();
    [meeting.host().await, outside]
}

/// Checks that both peers are disconnected and that neither can join.
async fn assert_removed(peers: &[Peer; 2]) {
    for peer in peers {
        peer.push_frame(event::KICK_ALL).await.unwrap();
    }
    let [_, outside] = peers;
    // The user on the setup screen joins now, but the room no longer knows the peer.
    let request = outside.identity().join_request();
    let _ = outside.tell(event::JOIN_ROOM, &request).await;
    for peer in peers {
        assert_eq!(peer.closed().await.unwrap().code, Some(1000));
        assert_rejected(&peer.identity().in_another_tab()).await;
    }
    let joined = outside.received();
    let joined = joined
        .iter()
        .filter(|frame| frame.event == event::JOIN_ROOM);
    assert_eq!(joined.count(), 0);
}

async fn deleting_a_meeting_disconnects_peers_that_have_not_joined(server: &Server) {
    let meeting = server.meeting().await;
    let peers = joined_and_connected(&meeting).await;
    let deleted = meeting.delete(&meeting.path("")).await;
    deleted.expect(200).unwrap();
    assert_removed(&peers).await;
}

async fn deleting_an_app_ends_its_meetings_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let other = server.meeting().await;
    let bystander = other.host().await;
    let peers = joined_and_connected(&meeting).await;
    let (kit, id) = meeting.app.rsplit_once('/').unwrap();
    let deleted = meeting.delete(&format!("{kit}/apps/{id}")).await;
    deleted.expect(200).unwrap();
    peers[0].push_frame(event::KICK_ALL).await.unwrap();
    peers[0].closed().await.unwrap();
    peers[1].push_frame(event::KICK_ALL).await.unwrap();
    assert_rejected(&peers[1].identity().in_another_tab()).await;
    settle(&[&bystander]).await;
}

async fn deleting_an_app_on_the_command_line_ends_its_meetings(server: &Server) {
    let meeting = server.meeting().await;
    let peers = joined_and_connected(&meeting).await;
    let (_, id) = meeting.app.rsplit_once('/').unwrap();
    server.run(&["app", "delete", id, "--account", ACCOUNT_ID]);
    assert_removed(&peers).await;
}

async fn a_participant_joins_with_its_new_preset(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let body = json!({ "preset_name": "group_call_host" });
    meeting
        .patch(&participant_path(&meeting, &identity), &body)
        .await
        .expect(200)
        .unwrap();
    // The token is older than the change, but the records decide.
    let bob = Peer::enter(&identity).await.unwrap();
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let kick = parlor_protocol::signal::socket::room::RemoveParticipantsRequest {
        peer_ids: vec![ada.id().to_owned()],
    };
    bob.tell(event::KICK, &kick).await.unwrap();
    ada.push_frame(event::KICK).await.unwrap();
}

async fn a_refreshed_token_joins_beside_the_older_one(server: &Server) {
    let meeting = server.meeting().await;
    let identity = meeting.add_with_preset("group_call_participant").await;
    let path = format!("{}/token", participant_path(&meeting, &identity));
    let refreshed = meeting.post(&path, &json!({})).await.expect(200).unwrap();
    let newer = Identity {
        token: refreshed["token"].as_str().unwrap().to_owned(),
        ..identity.in_another_tab()
    };
    let (old, new) = (
        Peer::enter(&identity).await.unwrap(),
        Peer::enter(&newer).await.unwrap(),
    );
    settle(&[&old, &new]).await;
    assert_eq!(new.roster().await.unwrap().len(), 2);
}
