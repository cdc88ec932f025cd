//! Frames that no official client sends: each is answered or ignored, and none does any harm.

use std::time::Duration;

use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::SendChatMessageToRoomRequest;
use parlor_testkit::signal::wire::Message;
use parlor_testkit::signal::{Peer, raw_frame};

use crate::on_both_databases;
use crate::signalling::meeting::{Meeting, send_message, settle};
use crate::signalling::server::Server;

on_both_databases![
    malformed_frames_do_no_harm,
    every_event_survives_every_bad_payload,
    an_unknown_event_is_refused_with_its_id,
    an_event_that_only_servers_send_is_refused,
    text_frames_are_pings_or_nothing,
    an_oversized_frame_closes_only_the_socket_of_its_sender,
    a_request_is_answered_once,
];

/// Events that only the server sends.
const SERVER_EVENTS: [u32; 17] = [
    event::LEAVE_ROOM,
    event::STARTED_LIVESTREAM,
    event::STOPPED_LIVESTREAM,
    event::ERRORED_LIVESTREAM,
    event::ROOM_PEER_COUNT,
    event::TRANSFER_PEER,
    event::MOVED_PEER,
    event::CONNECTED_ROOMS_UPDATED,
    event::CONNECTED_ROOMS_DELETED,
    event::TRANSCRIPT,
    event::WAITING_ROOM_REQUEST_ACCEPTED,
    event::WAITING_ROOM_REQUEST_DENIED,
    event::RECORDING_STARTED,
    event::RECORDING_STOPPED,
    event::RECORDING_PAUSED,
    event::LIVESTREAMING_INVOKED,
    event::UPDATE_POLL,
];

/// Returns a malicious participant and a host.
async fn attacker_and_host(meeting: &Meeting) -> (Peer, Peer) {
    (meeting.participant().await, meeting.host().await)
}

/// Checks that both are still in the room and can communicate.
async fn assert_unharmed(mallory: &Peer, ada: &Peer) {
    settle(&[mallory, ada]).await;
    assert_eq!(ada.roster().await.unwrap().len(), 2);
    send_message(ada, "are you there?").await;
    mallory
        .push_frame(event::SEND_MESSAGE_TO_ROOM)
        .await
        .unwrap();
    assert!(mallory.is_open() && ada.is_open());
}

async fn malformed_frames_do_no_harm(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    let noise: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let frames: [&[u8]; 9] = [
        b"",
        b"\x00",
        b"\xff",
        b"{\"event\":3}",
        // A field whose length exceeds the frame.
        b"\x08\x03\x1a\xff\xff\xff\xff\x0f",
        // The event as a string, and the id as a number.
        b"\x0a\x03abc\x10\x05",
        // A varint that does not end.
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        // Groups, which proto3 does not support.
        b"\x0b\x0b\x0b\x0b\x0c\x0c\x0c\x0c",
        &noise,
    ];
    for bytes in frames {
        mallory
            .send(Message::Binary(bytes.to_vec().into()))
            .await
            .unwrap();
    }
    assert_unharmed(&mallory, &ada).await;
    // Deeply nested unknown groups must not overflow the stack.
    mallory
        .send(Message::Binary(vec![0x0b; 500_000].into()))
        .await
        .unwrap();
    assert_unharmed(&mallory, &ada).await;
}

async fn every_event_survives_every_bad_payload(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    let payloads: [Option<&[u8]>; 6] = [
        None,
        Some(b"\xff\xff\xff"),
        // The first fields with the wrong types, and strings that are not UTF-8.
        Some(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01\x18\x01\x20\x01"),
        Some(b"\x0a\x02\xc3\x28\x12\x02\xc3\x28\x1a\x02\xc3\x28"),
        Some(b"\x0a\x05abc"),
        Some(b"\x0d\x00\x00\xc0\x7f\x11\x00\x00\x00\x00\x00\x00\xf8\x7f"),
    ];
    // The sender has no permissions over others. `MEDIA_LEAVE` is omitted, because others notice
    // it.
    let events = event::ALL
        .iter()
        .filter(|(number, _)| *number != event::MEDIA_LEAVE);
    for (number, name) in events {
        for (index, payload) in payloads.into_iter().enumerate() {
            let id = format!("bad-{number}-{index}");
            let bytes = payload.map(|bytes| bytes.to_vec().into());
            mallory
                .send(raw_frame(*number, Some(&id), bytes))
                .await
                .unwrap();
        }
        mallory
            .settle()
            .await
            .unwrap_or_else(|error| panic!("after {name}: {error:#}"));
        // Stays below the rate limits.
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    settle(&[&ada]).await;
    let harm: Vec<_> = ada.take_pushes(&[
        event::LEAVE_ROOM,
        event::KICK,
        event::KICK_ALL,
        event::SEND_MESSAGE_TO_ROOM,
        event::SEND_MESSAGE_TO_PEERS,
        event::CREATE_POLL,
        event::UPDATE_USER_PRESET,
        event::PEER_PINNED,
    ]);
    assert!(harm.is_empty(), "{harm:?}");
    assert_unharmed(&mallory, &ada).await;
}

async fn an_unknown_event_is_refused_with_its_id(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    for number in [
        1,
        6,
        7,
        45,
        9999,
        65_542,
        131_072,
        131_085,
        196_612,
        262_144,
        16_777_217,
        50_331_899,
        u32::MAX,
    ] {
        let id = format!("unknown-{number}");
        mallory
            .send(raw_frame(number, Some(&id), Some(vec![1].into())))
            .await
            .unwrap();
        let refused = mallory.error_reply(&id, number).await.unwrap();
        let is_code = refused.code == 0 || (400..=501).contains(&refused.code);
        assert!(
            is_code && !refused.message.is_empty(),
            "{number}: {refused}"
        );
    }
    // A frame without an id gets no reply, and the socket stays open.
    mallory.send(raw_frame(9999, None, None)).await.unwrap();
    mallory.send(raw_frame(9999, Some(""), None)).await.unwrap();
    mallory
        .send(raw_frame(9999, Some(&"i".repeat(100_000)), None))
        .await
        .unwrap();
    assert_unharmed(&mallory, &ada).await;
}

async fn an_event_that_only_servers_send_is_refused(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    for number in SERVER_EVENTS {
        let id = format!("push-{number}");
        mallory
            .send(raw_frame(number, Some(&id), Some(Vec::new().into())))
            .await
            .unwrap();
        mallory.error_reply(&id, number).await.unwrap();
    }
    settle(&[&ada]).await;
    assert!(
        ada.take_pushes(&SERVER_EVENTS).is_empty(),
        "no event reaches another client"
    );
    assert_unharmed(&mallory, &ada).await;
}

async fn text_frames_are_pings_or_nothing(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    for text in ["hello", "", "3", "{}", "22", "\u{0}", &"x".repeat(4_096)] {
        mallory.send(Message::text(text)).await.unwrap();
    }
    mallory.send(Message::text("2")).await.unwrap();
    assert_unharmed(&mallory, &ada).await;
    assert_eq!(
        mallory.pongs(),
        1,
        "a client without the capability pings by itself (docs/spec/signalling.md 1.4)"
    );
}

async fn an_oversized_frame_closes_only_the_socket_of_its_sender(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = attacker_and_host(&meeting).await;
    // A little larger than the largest frame of the official client: decoded, and then refused.
    let large = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "x".repeat(900_000),
    };
    let refused = mallory
        .refused(event::SEND_MESSAGE_TO_ROOM, &large)
        .await
        .unwrap();
    assert!([400, 413].contains(&refused.code), "{refused}");
    assert_unharmed(&mallory, &ada).await;
    mallory
        .send(Message::Binary(vec![0; 8 << 20].into()))
        .await
        .unwrap();
    let closed = mallory.closed().await.unwrap();
    assert_ne!(
        closed.code,
        Some(1000),
        "the client may reconnect: {closed:?}"
    );
    settle(&[&ada]).await;
    send_message(&ada, "still here").await;
}

async fn a_request_is_answered_once(server: &Server) {
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    for number in [
        event::GET_ROOM_PEERS_INFO,
        event::GET_ROOM_INFO,
        event::GET_MESSAGES,
        event::GET_POLLS,
        event::GET_CONNECTED_ROOMS_DUMP,
        event::JOIN_ROOM,
    ] {
        let id = format!("once-{number}");
        ada.send(raw_frame(number, Some(&id), Some(Vec::new().into())))
            .await
            .unwrap();
        let is_reply = |frame: &parlor_testkit::signal::Received| frame.id.as_deref() == Some(&*id);
        let count = || ada.received().into_iter().filter(is_reply).count();
        // Some replies need a database query first.
        for _ in 0..100 {
            ada.settle().await.unwrap();
            if count() > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        ada.settle().await.unwrap();
        let replies = count();
        assert_eq!(replies, 1, "event {number}");
    }
}
