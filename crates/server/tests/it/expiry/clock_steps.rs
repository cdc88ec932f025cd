//! Clock steps while the server runs (docs/adr/0014-two-times.md).

use http::StatusCode;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_server::identity::join_token::TokenError;
use parlor_server::ops::sweeper;
use parlor_testkit::signal::{Identity, Peer, new_peer_id};
use serde_json::{Value, json};

use super::{DAY_MS, Server, new_participant};
use crate::on_both_databases;

const HOUR_MS: i64 = 60 * 60 * 1000;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    clock_steps_block_no_chat_messages,
    clock_steps_expire_no_stored_response,
    deleted_rows_are_swept_twice_despite_clock_steps,
    a_revoked_token_stays_revoked_when_the_clock_is_set_back,
    pages_are_correct_when_clock_steps_disorder_new_rows,
    a_token_is_valid_when_the_clock_is_set_back_before_it_was_issued,
];

impl Server {
    /// Adds a participant to a meeting and joins as it over a WebSocket.
    async fn enter(&self, meeting: &str) -> Peer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let added = self.add(meeting, new_participant("ada"), None).await;
        let text = |name: &str| added[name].as_str().unwrap().to_owned();
        let identity = Identity {
            server: address,
            meeting: meeting.to_owned(),
            peer: new_peer_id(),
            participant: text("id"),
            custom_id: "ada".to_owned(),
            name: "Ada".to_owned(),
            token: text("token"),
            requests_waiting_room: false,
        };
        Peer::enter(&identity).await.unwrap()
    }
}

async fn clock_steps_block_no_chat_messages(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.state.clock);
    let peer = server.enter(&meeting).await;
    let request = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "hello".to_owned(),
    };
    let mut sent = Vec::new();
    let send = async |sent: &mut Vec<(u64, String)>| {
        let reply = peer.ask(event::SEND_MESSAGE_TO_ROOM, &request).await;
        let reply: SendChatMessageToRoomResponse = reply.ok()?;
        let message = reply.message.unwrap();
        sent.push((message.created_at_ms(), message.chat_id));
        Some(())
    };
    // Exhausts the rate limit.
    while send(&mut sent).await.is_some() {}
    assert!(sent.len() >= 180, "{}", sent.len());
    let steps_ms = [-120_000, HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS];
    for step_ms in steps_ms {
        clock.step_ms(step_ms);
        // The limit refills by thirty messages in ten seconds.
        clock.advance_ms(10_000);
        for _ in 0..30 {
            assert!(send(&mut sent).await.is_some(), "{step_ms}");
        }
    }
    assert!(sent.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1));
}

async fn clock_steps_expire_no_stored_response(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.state.clock);
    // A running server reads its clock all the time.
    sweeper::sweep(&server.state).await.unwrap();
    let first = server
        .add(&meeting, new_participant("a"), Some("key"))
        .await;
    for step_ms in [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS] {
        for set_ms in [step_ms, -step_ms] {
            clock.step_ms(set_ms);
            sweeper::sweep(&server.state).await.unwrap();
            let again = server
                .add(&meeting, new_participant("a"), Some("key"))
                .await;
            assert_eq!(again, first, "{step_ms}");
        }
    }
    // A step that persists takes effect eventually.
    clock.step_ms(400 * DAY_MS);
    for _ in 0..3 {
        clock.advance_ms(DAY_MS);
        sweeper::sweep(&server.state).await.unwrap();
    }
    let again = server
        .add(&meeting, new_participant("a"), Some("key"))
        .await;
    assert_ne!(again["updated_at"], first["updated_at"]);
}

async fn deleted_rows_are_swept_twice_despite_clock_steps(server: Server) {
    let clock = &server.state.clock;
    sweeper::sweep(&server.state).await.unwrap();
    for step_ms in [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS] {
        let meeting = server.meeting().await;
        let path = format!("/{}/meetings/{meeting}", server.app);
        let deleted = server.send("DELETE", &path, json!({}), None).await;
        assert_eq!(deleted.0, StatusCode::OK);
        sweeper::sweep(&server.state).await.unwrap();
        clock.step_ms(step_ms);
        sweeper::sweep(&server.state).await.unwrap();
        // A request that found the meeting before the deletion still adds rows to it.
        server.insert_session(&meeting, 1).await;
        clock.advance_ms(9 * 60_000);
        sweeper::sweep(&server.state).await.unwrap();
        assert_eq!(
            server.count_session_rows().await[..4],
            [1, 1, 1, 1],
            "{step_ms}"
        );
        clock.advance_ms(2 * 60_000);
        sweeper::sweep(&server.state).await.unwrap();
        assert_eq!(server.count_session_rows().await[..4], [0; 4], "{step_ms}");
        clock.step_ms(-step_ms);
        clock.advance_ms(2 * DAY_MS);
        sweeper::sweep(&server.state).await.unwrap();
    }
}

async fn a_revoked_token_stays_revoked_when_the_clock_is_set_back(server: Server) {
    let path = format!("/{}/meetings", server.app);
    let list = async || server.send("GET", &path, json!({}), None).await.0;
    assert_eq!(list().await, StatusCode::OK);
    let tokens = server.state.tokens.list(server.account).await;
    let id = tokens.unwrap()[0].id;
    server
        .state
        .tokens
        .revoke(server.account, id)
        .await
        .unwrap();
    // The clock returns to the time at which the token was last accepted.
    server.state.clock.step_ms(-HOUR_MS);
    server.state.clock.advance_ms(HOUR_MS);
    assert_eq!(list().await, StatusCode::UNAUTHORIZED);
}

async fn pages_are_correct_when_clock_steps_disorder_new_rows(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.state.clock);
    let ids = async |query: &str| {
        let path = format!("/{}/meetings/{meeting}/participants?{query}", server.app);
        let (status, body) = server.send("GET", &path, json!({}), None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let items = body["data"].as_array().unwrap().clone();
        let ids = items.iter().map(|item| item["id"].clone());
        ids.collect::<Vec<Value>>()
    };
    for n in 0..30 {
        server
            .add(&meeting, new_participant(&format!("a{n:02}")), None)
            .await;
    }
    clock.advance_ms(120_000);
    assert_eq!(ids("per_page=10&page_no=2").await.len(), 10);
    for step_ms in [-HOUR_MS, 400 * DAY_MS, -400 * DAY_MS, HOUR_MS] {
        clock.step_ms(step_ms);
        for n in 0..5 {
            let name = format!("b{step_ms}-{n}");
            server.add(&meeting, new_participant(&name), None).await;
        }
        for _ in 0..2 {
            let all = ids("per_page=100").await;
            for page in [1, 2, 3] {
                let query = format!("per_page=10&page_no={page}");
                assert_eq!(ids(&query).await, all[page * 10 - 10..page * 10]);
            }
            clock.advance_ms(120_000);
        }
    }
}

async fn a_token_is_valid_when_the_clock_is_set_back_before_it_was_issued(server: Server) {
    let meeting = server.meeting().await;
    let added = server.add(&meeting, new_participant("a"), None).await;
    for step_ms in [-HOUR_MS, -730 * DAY_MS] {
        server.state.clock.step_ms(step_ms);
        assert_eq!(server.verify_token(&added).await, Ok(()));
    }
    // The expiry is an absolute date.
    server.state.clock.step_ms(730 * DAY_MS + 400 * DAY_MS);
    assert_eq!(server.verify_token(&added).await, Err(TokenError::Expired));
}
