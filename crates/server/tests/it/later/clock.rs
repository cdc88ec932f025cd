//! Clocks that are set while the server runs (docs/adr/0014-two-times.md).

use http::StatusCode;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_server::identity::join_token::Refused;
use parlor_server::ops::sweeper;
use parlor_testkit::signal::{Identity, Peer, new_peer_id};
use serde_json::{Value, json};

use super::{DAY_MS, Server, person};
use crate::on_both_databases;

const HOUR_MS: i64 = 60 * 60 * 1000;

on_both_databases![
    #[tokio::test(flavor = "multi_thread")]
    nobody_in_a_meeting_is_silenced_though_the_clock_is_set,
    a_clock_that_is_set_forgets_no_answer,
    what_is_deleted_is_swept_twice_though_the_clock_is_set,
    a_token_that_was_revoked_stays_so_though_the_clock_is_set_back,
    pages_are_right_though_new_rows_come_before_older_ones,
    a_token_is_good_though_the_clock_was_set_back_behind_it,
];

impl Server {
    /// Somebody in a meeting, on a socket.
    async fn enter(&self, meeting: &str) -> Peer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let added = self.add(meeting, person("ada"), None).await;
        let text = |name: &str| added[name].as_str().unwrap().to_owned();
        let identity = Identity {
            server: address,
            meeting: meeting.to_owned(),
            peer: new_peer_id(),
            participant: text("id"),
            custom_id: "ada".to_owned(),
            name: "Ada".to_owned(),
            token: text("token"),
            asks_who_waits: false,
        };
        Peer::enter(&identity).await.unwrap()
    }
}

async fn nobody_in_a_meeting_is_silenced_though_the_clock_is_set(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.parlor.clock);
    let peer = server.enter(&meeting).await;
    let say = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "hello".to_owned(),
    };
    let mut said = Vec::new();
    let said_more = async |said: &mut Vec<(u64, String)>| {
        let asked = peer.ask(event::SEND_MESSAGE_TO_ROOM, &say).await;
        let reply: SendChatMessageToRoomResponse = asked.ok()?;
        let message = reply.message.unwrap();
        said.push((message.created_at_ms(), message.chat_id));
        Some(())
    };
    // Everything that there is for the moment.
    while said_more(&mut said).await.is_some() {}
    assert!(said.len() >= 180, "{}", said.len());
    let steps_ms = [-120_000, HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS];
    for step_ms in steps_ms {
        clock.step_ms(step_ms);
        // In ten seconds thirty are allowed.
        clock.advance_ms(10_000);
        for _ in 0..30 {
            assert!(said_more(&mut said).await.is_some(), "{step_ms}");
        }
    }
    assert!(said.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1));
}

async fn a_clock_that_is_set_forgets_no_answer(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.parlor.clock);
    // The server looks at its clock all the time.
    sweeper::sweep(&server.parlor).await.unwrap();
    let first = server.add(&meeting, person("a"), Some("key")).await;
    for step_ms in [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS] {
        for set_ms in [step_ms, -step_ms] {
            clock.step_ms(set_ms);
            sweeper::sweep(&server.parlor).await.unwrap();
            let again = server.add(&meeting, person("a"), Some("key")).await;
            assert_eq!(again, first, "{step_ms}");
        }
    }
    // A step that lasts counts in the end.
    clock.step_ms(400 * DAY_MS);
    for _ in 0..3 {
        clock.advance_ms(DAY_MS);
        sweeper::sweep(&server.parlor).await.unwrap();
    }
    let again = server.add(&meeting, person("a"), Some("key")).await;
    assert_ne!(again["updated_at"], first["updated_at"]);
}

async fn what_is_deleted_is_swept_twice_though_the_clock_is_set(server: Server) {
    let clock = &server.parlor.clock;
    sweeper::sweep(&server.parlor).await.unwrap();
    for step_ms in [HOUR_MS, -HOUR_MS, 400 * DAY_MS, -730 * DAY_MS] {
        let gone = server.meeting().await;
        let path = format!("/{}/meetings/{gone}", server.app);
        let deleted = server.send("DELETE", &path, json!({}), None).await;
        assert_eq!(deleted.0, StatusCode::OK);
        sweeper::sweep(&server.parlor).await.unwrap();
        clock.step_ms(step_ms);
        sweeper::sweep(&server.parlor).await.unwrap();
        // A request that had found the meeting is still adding to it.
        server.hold(&gone, 1).await;
        clock.advance_ms(9 * 60_000);
        sweeper::sweep(&server.parlor).await.unwrap();
        assert_eq!(server.session_rows().await[..4], [1, 1, 1, 1], "{step_ms}");
        clock.advance_ms(2 * 60_000);
        sweeper::sweep(&server.parlor).await.unwrap();
        assert_eq!(server.session_rows().await[..4], [0; 4], "{step_ms}");
        clock.step_ms(-step_ms);
        clock.advance_ms(2 * DAY_MS);
        sweeper::sweep(&server.parlor).await.unwrap();
    }
}

async fn a_token_that_was_revoked_stays_so_though_the_clock_is_set_back(server: Server) {
    let path = format!("/{}/meetings", server.app);
    let list = async || server.send("GET", &path, json!({}), None).await.0;
    assert_eq!(list().await, StatusCode::OK);
    let tokens = server.parlor.tokens.list(server.account).await;
    let id = tokens.unwrap()[0].id;
    server
        .parlor
        .tokens
        .revoke(server.account, id)
        .await
        .unwrap();
    // The clock shows again what it showed when the token was believed.
    server.parlor.clock.step_ms(-HOUR_MS);
    server.parlor.clock.advance_ms(HOUR_MS);
    assert_eq!(list().await, StatusCode::UNAUTHORIZED);
}

async fn pages_are_right_though_new_rows_come_before_older_ones(server: Server) {
    let (meeting, clock) = (server.meeting().await, &server.parlor.clock);
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
            .add(&meeting, person(&format!("a{n:02}")), None)
            .await;
    }
    clock.advance_ms(120_000);
    assert_eq!(ids("per_page=10&page_no=2").await.len(), 10);
    for step_ms in [-HOUR_MS, 400 * DAY_MS, -400 * DAY_MS, HOUR_MS] {
        clock.step_ms(step_ms);
        for n in 0..5 {
            let name = format!("b{step_ms}-{n}");
            server.add(&meeting, person(&name), None).await;
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

async fn a_token_is_good_though_the_clock_was_set_back_behind_it(server: Server) {
    let meeting = server.meeting().await;
    let added = server.add(&meeting, person("a"), None).await;
    for step_ms in [-HOUR_MS, -730 * DAY_MS] {
        server.parlor.clock.step_ms(step_ms);
        assert_eq!(server.admits(&added).await, Ok(()));
    }
    // It ends at a date.
    server.parlor.clock.step_ms(730 * DAY_MS + 400 * DAY_MS);
    assert_eq!(server.admits(&added).await, Err(Refused::Expired));
}
