//! REST requests during a call, and their effects on the connected clients.

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::polls::UpdatePollResponse;
use parlor_protocol::signal::socket::room::{PeerInfoResponse, RoomInfoResponse};
use parlor_testkit::signal::Peer;
use serde_json::json;

use crate::on_both_databases;
use crate::signalling::meeting::{send_message, settle};
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    the_live_session_is_described,
    a_participant_is_kicked_in_every_tab,
    everybody_is_kicked,
    participants_are_muted,
    the_app_creates_a_poll,
    actions_without_a_live_session_return_404,
    a_new_title_reaches_connected_clients,
];

async fn the_live_session_is_described(server: &Server) {
    let meeting = server.meeting().await;
    let (_ada, bob) = (meeting.host().await, meeting.participant().await);
    let session = meeting.active_session().await.unwrap();
    assert_eq!(session["associated_id"], meeting.id);
    assert_eq!(session["status"], "LIVE");
    assert_eq!(session["live_participants"], 2);
    assert_eq!(session["max_concurrent_participants"], 2);
    bob.leave().await.unwrap();
    let session = wait_until("one participant is left", async || {
        let session = meeting.active_session().await.unwrap();
        (session["live_participants"] == 1).then_some(session)
    })
    .await;
    assert_eq!(session["max_concurrent_participants"], 2);
}

async fn a_participant_is_kicked_in_every_tab(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob, carol) = (
        meeting.host().await,
        meeting.participant().await,
        meeting.participant().await,
    );
    let tab = Peer::enter(&bob.identity().in_another_tab()).await.unwrap();
    let body = json!({ "participant_ids": [bob.user()], "custom_participant_ids": [carol.identity().custom_id] });
    let kicked = meeting
        .post(&meeting.path("/active-session/kick"), &body)
        .await
        .expect(200)
        .unwrap();
    assert_eq!(
        kicked["participants"].as_array().unwrap().len(),
        2,
        "{kicked}"
    );
    for peer in [&bob, &tab, &carol] {
        peer.push_frame(event::KICK).await.unwrap();
    }
    for _ in 0..3 {
        ada.push::<PeerInfoResponse>(event::LEAVE_ROOM)
            .await
            .unwrap();
    }
    settle(&[&ada]).await;
    assert!(ada.take_pushes(&[event::KICK]).is_empty());
    assert_eq!(ada.roster().await.unwrap(), [ada.id()]);
    let departed = json!({ "participant_ids": [bob.user()] });
    let again = meeting
        .post(&meeting.path("/active-session/kick"), &departed)
        .await;
    assert_eq!(again.status, 404, "{}", again.body);
}

async fn everybody_is_kicked(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let kicked = meeting
        .post(&meeting.path("/active-session/kick-all"), &json!({}))
        .await
        .expect(200)
        .unwrap();
    assert_eq!(kicked["kicked_participants_count"], 2, "{kicked}");
    for peer in [&ada, &bob] {
        let pushed = peer.push_frame(event::KICK_ALL).await;
        assert!(pushed.is_ok() || peer.push_frame(event::KICK).await.is_ok());
    }
    wait_until("no session is live", async || {
        meeting.active_session().await.is_none().then_some(())
    })
    .await;
}

async fn participants_are_muted(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let body = json!({ "participant_ids": [bob.user()] });
    meeting
        .post(&meeting.path("/active-session/mute"), &body)
        .await
        .expect(200)
        .unwrap();
    let all = json!({ "allow_unmute": true });
    let muted = meeting
        .post(&meeting.path("/active-session/mute-all"), &all)
        .await
        .expect(200)
        .unwrap();
    assert!(muted["muted_participants_count"].is_number(), "{muted}");
    settle(&[&ada, &bob]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
}

async fn the_app_creates_a_poll(server: &Server) {
    let meeting = server.meeting().await;
    let (ada, bob) = (meeting.host().await, meeting.participant().await);
    let body = json!({ "question": "Tea?", "options": ["yes", "no"] });
    let created = meeting
        .post(&meeting.path("/active-session/poll"), &body)
        .await
        .expect(201)
        .unwrap();
    for peer in [&ada, &bob] {
        let seen = wait_until("the poll arrives", async || {
            let pushed = peer.take_pushes(&[event::CREATE_POLL, event::UPDATE_POLL]);
            Some(pushed.first()?.message::<UpdatePollResponse>().unwrap())
        })
        .await;
        let poll = seen.poll.unwrap();
        assert_eq!(
            (json!(poll.poll_id), &*poll.question),
            (created["poll"]["id"].clone(), "Tea?")
        );
    }
}

async fn actions_without_a_live_session_return_404(server: &Server) {
    let meeting = server.meeting().await;
    for rest in ["/kick", "/kick-all", "/mute", "/mute-all", "/poll"] {
        let body = match rest {
            "/kick" | "/mute" => {
                json!({ "participant_ids": ["0190f3c0-a0b1-7c1d-8e2f-0123456789ab"] })
            }
            "/mute-all" => json!({ "allow_unmute": true }),
            "/poll" => json!({ "question": "?", "options": ["a", "b"] }),
            _ => json!({}),
        };
        let response = meeting
            .post(&meeting.path(&format!("/active-session{rest}")), &body)
            .await;
        assert_eq!(response.status, 404, "{rest}: {}", response.body);
    }
    assert!(meeting.active_session().await.is_none());
}

async fn a_new_title_reaches_connected_clients(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    meeting
        .patch(&meeting.path(""), &json!({ "title": "Monthly" }))
        .await
        .expect(200)
        .unwrap();
    let seen: RoomInfoResponse = wait_until("the title changes", async || {
        let info: RoomInfoResponse = ada.ask_bare(event::GET_ROOM_INFO).await.unwrap();
        (info.room.as_ref()?.title == "Monthly").then_some(info)
    })
    .await;
    assert_eq!(seen.room.unwrap().room_id, meeting.id);
    send_message(&ada, "still connected").await;
}
