//! Tokens and people that are no longer valid: what the records say holds at once, on every socket.

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::room::PeerInfoResponse;
use parlor_testkit::plain_http;
use parlor_testkit::server::ACCOUNT_ID;
use parlor_testkit::signal::{Identity, Peer, Refused};
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, is_turned_away, say, settle};
use crate::signalling::server::{Server, until};

on_both_databases![
    an_expired_token_is_turned_away_for_good,
    a_deleted_participant_stays_until_it_leaves,
    a_deleted_participant_is_dropped_when_asked,
    an_inactive_meeting_takes_nobody_in_and_throws_nobody_out,
    a_deleted_meeting_ends_for_those_on_the_setup_screen_too,
    a_deleted_app_ends_its_meetings_at_once,
    an_app_that_the_command_line_deletes_ends_its_meetings,
    a_participant_with_another_preset_joins_with_it,
    a_refreshed_token_joins_beside_the_older_one,
];

fn person_path(meeting: &Meeting, person: &Identity) -> String {
    meeting.path(&format!("/participants/{}", person.participant))
}

async fn an_expired_token_is_turned_away_for_good(server: &Server) {
    let meeting = server.meeting().await;
    let person = meeting
        .add(json!({ "preset_name": "group_call_participant", "name": "X", "expires_in": 1 }))
        .await;
    let early = Peer::enter(&person).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    is_turned_away(&person.in_another_tab()).await;
    // Whoever is inside already stays: the token was for joining.
    settle(&[&early]).await;
    say(&early, "still here").await;
}

async fn a_deleted_participant_stays_until_it_leaves(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let person = bob.identity().clone();
    meeting
        .delete(&person_path(&meeting, &person))
        .await
        .expect(200)
        .unwrap();
    is_turned_away(&person.in_another_tab()).await;
    // RealtimeKit does not drop a peer that is connected.
    settle(&[&ada, &bob]).await;
    assert!(bob.is_open());
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    // Its socket may not even break.
    bob.cut().await;
    is_turned_away(&person).await;
}

async fn a_deleted_participant_is_dropped_when_asked(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let person = bob.identity().clone();
    let path = format!("{}?drop=true", person_path(&meeting, &person));
    meeting.delete(&path).await.expect(200).unwrap();
    bob.push_frame(event::KICK).await.unwrap();
    let closed = bob.closed().await.unwrap();
    assert_eq!(closed.code, Some(1000), "{closed:?}");
    let push: PeerInfoResponse = ada.push(event::LEAVE_ROOM).await.unwrap();
    assert_eq!(push.peer.unwrap().peer_id, person.peer);
    is_turned_away(&person).await;
}

/// The socket is closed for good, or the join is refused, which the official client reports.
pub(crate) async fn may_not_join(person: &Identity) {
    let peer = Peer::open(person).await.unwrap();
    let Err(error) = peer.rejoin().await else {
        panic!("{} has joined", person.peer)
    };
    let refused = error.downcast_ref::<Refused>().map(|refused| refused.code);
    let closed = if refused.is_none() {
        peer.closed().await.unwrap().code
    } else {
        None
    };
    assert!(refused == Some(403) || closed == Some(1000), "{error:#}");
}

/// Asks for links for a file; the status.
async fn asks_for_links(server: &Server, person: &Identity) -> u16 {
    let url = format!("{}/v2/meetings/chat-upload", server.origin());
    let body = json!({ "roomUUID": person.meeting, "filename": "a.txt" });
    let request = plain_http().post(url).json(&body);
    let answer = request.bearer_auth(&person.token).send().await.unwrap();
    answer.status().as_u16()
}

async fn an_inactive_meeting_takes_nobody_in_and_throws_nobody_out(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let late = meeting.person("group_call_participant").await;
    meeting
        .patch(&meeting.path(""), &json!({ "status": "INACTIVE" }))
        .await
        .expect(200)
        .unwrap();
    may_not_join(&late).await;
    settle(&[&ada, &bob]).await;
    say(&ada, "we go on").await;
    // Those who are inside send files as well, nobody else.
    assert_eq!(asks_for_links(server, ada.identity()).await, 200);
    assert_eq!(asks_for_links(server, &late).await, 403);
    // A socket that breaks is no new join.
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
    until("no session is live", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
}

/// Somebody inside, and somebody on the setup screen.
async fn inside_and_outside(meeting: &Meeting) -> [Peer; 2] {
    let person = meeting.person("group_call_participant").await;
    let outside = Peer::open(&person).await.unwrap();
    // A socket is open before the room has heard of it; what it answers, it has heard.
    outside.roster().await.unwrap();
    [meeting.host().await, outside]
}

/// Whoever is connected is put out, and nobody joins.
async fn have_to_go(peers: &[Peer; 2]) {
    for peer in peers {
        peer.push_frame(event::KICK_ALL).await.unwrap();
    }
    let [_, outside] = peers;
    // Whoever was on the setup screen clicks "join" now: the room does not know them any more.
    let request = outside.identity().join_request();
    let _ = outside.tell(event::JOIN_ROOM, &request).await;
    for peer in peers {
        assert_eq!(peer.closed().await.unwrap().code, Some(1000));
        is_turned_away(&peer.identity().in_another_tab()).await;
    }
    let joined = outside.received();
    let joined = joined
        .iter()
        .filter(|frame| frame.event == event::JOIN_ROOM);
    assert_eq!(joined.count(), 0);
}

async fn a_deleted_meeting_ends_for_those_on_the_setup_screen_too(server: &Server) {
    let meeting = server.meeting().await;
    let peers = inside_and_outside(&meeting).await;
    let gone = meeting.delete(&meeting.path("")).await;
    gone.expect(200).unwrap();
    have_to_go(&peers).await;
}

async fn a_deleted_app_ends_its_meetings_at_once(server: &Server) {
    let meeting = server.meeting().await;
    let other = server.meeting().await;
    let bystander = other.host().await;
    let peers = inside_and_outside(&meeting).await;
    let (kit, id) = meeting.app.rsplit_once('/').unwrap();
    let gone = meeting.delete(&format!("{kit}/apps/{id}")).await;
    gone.expect(200).unwrap();
    peers[0].push_frame(event::KICK_ALL).await.unwrap();
    peers[0].closed().await.unwrap();
    peers[1].push_frame(event::KICK_ALL).await.unwrap();
    is_turned_away(&peers[1].identity().in_another_tab()).await;
    settle(&[&bystander]).await;
}

async fn an_app_that_the_command_line_deletes_ends_its_meetings(server: &Server) {
    let meeting = server.meeting().await;
    let peers = inside_and_outside(&meeting).await;
    let (_, id) = meeting.app.rsplit_once('/').unwrap();
    server.run(&["app", "delete", id, "--account", ACCOUNT_ID]);
    have_to_go(&peers).await;
}

async fn a_participant_with_another_preset_joins_with_it(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let person = meeting.person("group_call_participant").await;
    let body = json!({ "preset_name": "group_call_host" });
    meeting
        .patch(&person_path(&meeting, &person), &body)
        .await
        .expect(200)
        .unwrap();
    // With the token it had before: what counts is what the records say.
    let bob = Peer::enter(&person).await.unwrap();
    ada.push_frame(event::JOIN_ROOM).await.unwrap();
    let kick = parlor_protocol::signal::socket::room::RemoveParticipantsRequest {
        peer_ids: vec![ada.id().to_owned()],
    };
    bob.tell(event::KICK, &kick).await.unwrap();
    ada.push_frame(event::KICK).await.unwrap();
}

async fn a_refreshed_token_joins_beside_the_older_one(server: &Server) {
    let meeting = server.meeting().await;
    let person = meeting.person("group_call_participant").await;
    let path = format!("{}/token", person_path(&meeting, &person));
    let refreshed = meeting.post(&path, &json!({})).await.expect(200).unwrap();
    let newer = Identity {
        token: refreshed["token"].as_str().unwrap().to_owned(),
        ..person.in_another_tab()
    };
    let (old, new) = (
        Peer::enter(&person).await.unwrap(),
        Peer::enter(&newer).await.unwrap(),
    );
    settle(&[&old, &new]).await;
    assert_eq!(new.roster().await.unwrap().len(), 2);
}
