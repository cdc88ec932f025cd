//! Clients that try to exhaust the server: what they send and do not read is bounded, and other
//! clients are still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToPeersRequest, SendChatMessageToRoomRequest,
};
use parlor_protocol::signal::socket::room::{MovePeerPayload, MovePeersBetweenRoomsRequest};
use parlor_testkit::signal::wire::{self, Message, Socket};
use parlor_testkit::signal::{Identity, new_peer_id};
use tokio::task::JoinSet;

use crate::on_both_databases;
use crate::signalling::breakout::create_rooms;
use crate::signalling::meeting::settle;
use crate::signalling::server::{Server, wait_until};

on_both_databases![
    large_frames_neither_fill_memory_nor_starve_others,
    database_work_is_queued_per_participant,
    text_pings_are_answered_at_a_limited_rate,
    unread_pongs_do_not_fill_memory,
    a_long_text_frame_closes_the_socket,
    slow_readers_are_disconnected_when_a_meeting_exceeds_its_buffer_limit,
];

/// Reads one value from the server's metrics.
async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.unwrap_or_else(|| panic!("{name} is not in the metrics"));
    value.trim().parse().unwrap()
}

/// Joins on a raw socket, which nothing reads from.
async fn join_raw(identity: &Identity) -> Socket {
    let mut socket = wire::open(identity).await.unwrap();
    let join = wire::frame(event::JOIN_ROOM, "j", &identity.join_request());
    wire::send(&mut socket, join).await.unwrap();
    socket
}

/// Prints the median and the worst of some latencies.
fn print_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let (Some(worst), median) = (latencies.last(), latencies[latencies.len() / 2]) else {
        return;
    };
    println!(
        "{what}: {} requests, p50 {median:?}, worst {worst:?}",
        latencies.len()
    );
}

async fn large_frames_neither_fill_memory_nor_starve_others(server: &Server) {
    const SOCKETS: usize = 5;
    const REQUESTS: usize = 50;
    // Mostly the memory for decoding these frames, one at a time.
    const GROWTH: u64 = 50 << 20;
    // One frame per socket, and the mailbox in front of it.
    const MAX_MAILBOX: u64 = 6 << 20;
    let server = Server::dedicated(server, &[]).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mallory = meeting.add_with_preset("group_call_participant").await;
    // As many entries as fit into a frame, which makes decoding as expensive as possible.
    let request = SendChatMessageToPeersRequest {
        peer_ids: vec![String::new(); 515_000],
        ..SendChatMessageToPeersRequest::default()
    };
    let frame = wire::frame(event::SEND_MESSAGE_TO_PEERS, "m", &request);
    let sent = Arc::<AtomicUsize>::default();
    let before = server.process().resident().unwrap();
    let mut attack = JoinSet::new();
    for _ in 0..SOCKETS {
        let (mut sink, mut stream) = join_raw(&mallory.in_another_tab()).await.split();
        let (frame, sent) = (frame.clone(), Arc::clone(&sent));
        attack.spawn(async move {
            while sink.send(frame.clone()).await.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        attack.spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    }
    wait_until("the attack is running", async || {
        (sent.load(Ordering::Relaxed) >= 2 * SOCKETS).then_some(())
    })
    .await;
    let (mut latencies, mut answered, mut most) = (Vec::new(), 0, 0);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        answered += usize::from(ada.settle().await.is_ok());
        latencies.push(began.elapsed());
        most = most.max(server.process().resident().unwrap());
        let mailbox = metric(&server, "parlor_mailbox_bytes ").await;
        assert!(mailbox <= MAX_MAILBOX, "{mailbox} bytes wait for the room");
        if answered == 0 {
            break;
        }
    }
    let grown = most.saturating_sub(before);
    print_latencies("during a flood of large frames", latencies);
    println!(
        "{} frames of 1 MiB were sent; memory grew by {} MiB",
        sent.load(Ordering::Relaxed),
        grown >> 20
    );
    attack.abort_all();
    assert_eq!(
        answered, REQUESTS,
        "requests of another client were not answered"
    );
    assert!(grown < GROWTH, "memory grew by {} MiB", grown >> 20);
}

async fn database_work_is_queued_per_participant(server: &Server) {
    const REQUESTS: usize = 400;
    // The queue, and the request that is being handled.
    const QUEUED: u64 = 128 + 1;
    let server = Server::dedicated(server, &[]).await;
    let meeting = server.meeting().await;
    let mallory = meeting.host().await;
    let rooms = create_rooms(&mallory, &["Red"]).await;
    // None of these participants exists, so each costs a lookup.
    let moved = (0..300).map(|_| MovePeerPayload {
        id: Some(new_peer_id()),
        ..MovePeerPayload::default()
    });
    let request = MovePeersBetweenRoomsRequest {
        source_meeting_id: Some(meeting.id.clone()),
        destination_meeting_id: Some(rooms[0].clone()),
        participants: moved.collect(),
    };
    settle(&[&mallory]).await;
    let mut ids = Vec::new();
    for _ in 0..REQUESTS {
        ids.push(mallory.tell(event::MOVE_PEERS, &request).await.unwrap());
    }
    let mut latencies = Vec::new();
    let path = meeting.path("/participants");
    for _ in 0..50 {
        let began = Instant::now();
        meeting.get(&path).await.expect(200).unwrap();
        latencies.push(began.elapsed());
        let waiting = metric(&server, "parlor_delegated_waiting ").await;
        assert!(waiting <= QUEUED, "{waiting} requests wait");
    }
    print_latencies("GET during a flood of moves", latencies);
    settle(&[&mallory]).await;
    let refused = || {
        let received = mallory.received();
        let refused = received.iter().filter(|frame| {
            let mine = frame.id.as_ref().is_some_and(|id| ids.contains(id));
            mine && frame.refusal().is_some_and(|refused| refused.code == 429)
        });
        refused.count()
    };
    let refused = refused();
    println!("{refused} of {REQUESTS} were refused");
    assert!(refused >= 10, "{refused} of {REQUESTS} were refused");
    assert!(mallory.is_open());
}

async fn text_pings_are_answered_at_a_limited_rate(server: &Server) {
    const TEXTS: usize = 2_000;
    const BURST: usize = 20;
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    let began = Instant::now();
    for _ in 0..TEXTS {
        mallory.send(Message::text("2")).await.unwrap();
    }
    wait_until("the burst is answered", async || {
        (mallory.pongs() >= BURST).then_some(())
    })
    .await;
    for _ in 0..20 {
        ada.settle().await.unwrap();
    }
    let answered = mallory.pongs();
    let allowed = BURST + 2 * usize::try_from(began.elapsed().as_secs() + 1).unwrap();
    println!("{answered} of {TEXTS} pings were answered");
    assert!(
        answered <= allowed,
        "{answered} pongs, at most {allowed} allowed"
    );
    assert!(mallory.is_open());
}

async fn unread_pongs_do_not_fill_memory(server: &Server) {
    const PINGS: usize = 400_000;
    const GROWTH: u64 = 24 << 20;
    let server = Server::dedicated(server, &[]).await;
    let meeting = server.meeting().await;
    let mut socket = join_raw(&meeting.add_with_preset("group_call_participant").await).await;
    let ada = meeting.host().await;
    let before = server.process().resident().unwrap();
    // The socket is never read from, so every pong is queued.
    let ping = Message::Ping(vec![0; 125].into());
    let mut sent = 0;
    let flood = async {
        while sent < PINGS && socket.send(ping.clone()).await.is_ok() {
            sent += 1;
        }
    };
    // The flood blocks when the server stops reading.
    let _ = tokio::time::timeout(Duration::from_secs(5), flood).await;
    settle(&[&ada]).await;
    let grown = server.process().resident().unwrap().saturating_sub(before);
    println!("{sent} pings were sent; memory grew by {} MiB", grown >> 20);
    assert!(grown < GROWTH, "memory grew by {} MiB", grown >> 20);
}

async fn a_long_text_frame_closes_the_socket(server: &Server) {
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    mallory
        .send(Message::text("x".repeat(100_000)))
        .await
        .unwrap();
    let closed = mallory.closed().await.unwrap();
    assert_eq!(closed.code, Some(1009), "{closed:?}");
    settle(&[&ada]).await;
}

async fn slow_readers_are_disconnected_when_a_meeting_exceeds_its_buffer_limit(server: &Server) {
    const SLEEPERS: usize = 3;
    const LIMIT: u64 = 8 << 20;
    const MESSAGES: usize = 1000;
    // Messages in a batch. When the limit is exceeded, a batch may be queued twice: for Ada, and
    // for the sleepers. It is a small part of the limit, so that Ada is not the slowest reader.
    const BATCH: usize = 10;
    let limit = LIMIT.to_string();
    let arguments = [
        "--chat-per-minute",
        "0",
        "--socket-bytes-per-meeting",
        &limit,
    ];
    let server = Server::dedicated(server, &arguments).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        let sleeper = meeting.add_with_preset("group_call_participant").await;
        sleepers.push(join_raw(&sleeper).await);
        ada.push_frame(event::JOIN_ROOM).await.unwrap();
    }
    let large = SendChatMessageToRoomRequest {
        payload_type: 3,
        payload: serde_json::json!({ "message": "x".repeat(60_000) }).to_string(),
    };
    let (mut said, mut unsent) = (0, 0);
    while metric(&server, "parlor_sockets_overflowed_total ").await < SLEEPERS as u64 {
        assert!(said < MESSAGES, "the buffers of the meeting are unbounded");
        for _ in 0..BATCH {
            ada.tell(event::SEND_MESSAGE_TO_ROOM, &large).await.unwrap();
        }
        settle(&[&ada]).await;
        ada.forget();
        said += BATCH;
        unsent = metric(&server, "parlor_unsent_bytes ").await.max(unsent);
        // Stays within the frame rate of one participant.
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    println!("after {said} messages; at most {unsent} bytes were unsent");
    assert!(unsent <= LIMIT, "{unsent} bytes were unsent");
    settle(&[&ada]).await;
    assert!(ada.is_open(), "a client that reads stays connected");
    let overflowed = metric(&server, "parlor_sockets_overflowed_total ").await;
    assert_eq!(overflowed, SLEEPERS as u64);
}
