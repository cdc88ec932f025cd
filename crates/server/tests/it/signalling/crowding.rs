//! People who want all of a server for themselves: what they send and do not read is bounded, and the
//! others are served meanwhile.

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
use crate::signalling::breakout::make;
use crate::signalling::meeting::settle;
use crate::signalling::server::{Server, until};

on_both_databases![
    large_frames_of_one_person_fill_no_memory_and_starve_nobody,
    work_with_the_records_is_queued_for_each_person,
    texts_of_a_client_are_answered_at_a_rate,
    pings_of_whoever_does_not_read_fill_no_memory,
    a_long_text_ends_the_socket,
    when_too_much_waits_in_a_meeting_those_who_do_not_read_are_let_go,
];

/// One number of the server's metrics.
async fn metric(server: &Server, name: &str) -> u64 {
    let text = server.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.unwrap_or_else(|| panic!("{name} is not in the metrics"));
    value.trim().parse().unwrap()
}

/// The bare socket of somebody who has joined.
async fn inside(who: &Identity) -> Socket {
    let mut socket = wire::open(who).await.unwrap();
    let join = wire::frame(event::JOIN_ROOM, "j", &who.join_request());
    wire::send(&mut socket, join).await.unwrap();
    socket
}

/// The middle and the worst of some latencies.
fn print_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    let (Some(worst), middle) = (latencies.last(), latencies[latencies.len() / 2]) else {
        return;
    };
    println!(
        "{what}: {} requests, p50 {middle:?}, worst {worst:?}",
        latencies.len()
    );
}

async fn large_frames_of_one_person_fill_no_memory_and_starve_nobody(server: &Server) {
    const SOCKETS: usize = 5;
    const REQUESTS: usize = 50;
    // Most of it is what reading these frames takes, one at a time.
    const GROWTH: u64 = 50 << 20;
    // A frame for each socket, and what may wait before it.
    const UNHEARD: u64 = 6 << 20;
    let server = Server::beside(server, &[]).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mallory = meeting.person("group_call_participant").await;
    // As many entries as fit into a frame: what it costs to read is as much as it can be.
    let request = SendChatMessageToPeersRequest {
        peer_ids: vec![String::new(); 515_000],
        ..SendChatMessageToPeersRequest::default()
    };
    let frame = wire::frame(event::SEND_MESSAGE_TO_PEERS, "m", &request);
    let sent = Arc::<AtomicUsize>::default();
    let before = server.process().resident().unwrap();
    let mut attack = JoinSet::new();
    for _ in 0..SOCKETS {
        let (mut sink, mut stream) = inside(&mallory.in_another_tab()).await.split();
        let (frame, sent) = (frame.clone(), Arc::clone(&sent));
        attack.spawn(async move {
            while sink.send(frame.clone()).await.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        attack.spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    }
    until("the attack is on its way", async || {
        (sent.load(Ordering::Relaxed) >= 2 * SOCKETS).then_some(())
    })
    .await;
    let (mut latencies, mut answered, mut most) = (Vec::new(), 0, 0);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        answered += usize::from(ada.settle().await.is_ok());
        latencies.push(began.elapsed());
        most = most.max(server.process().resident().unwrap());
        let unheard = metric(&server, "parlor_mailbox_bytes ").await;
        assert!(unheard <= UNHEARD, "{unheard} bytes wait for the room");
        if answered == 0 {
            break;
        }
    }
    let grown = most.saturating_sub(before);
    print_latencies("beside a flood of large frames", latencies);
    println!(
        "{} frames of 1 MiB were sent; memory grew by {} MiB",
        sent.load(Ordering::Relaxed),
        grown >> 20
    );
    attack.abort_all();
    assert_eq!(
        answered, REQUESTS,
        "somebody else's requests were not answered"
    );
    assert!(grown < GROWTH, "memory grew by {} MiB", grown >> 20);
}

async fn work_with_the_records_is_queued_for_each_person(server: &Server) {
    const REQUESTS: usize = 400;
    // And the one that is being done.
    const QUEUED: u64 = 128 + 1;
    let server = Server::beside(server, &[]).await;
    let meeting = server.meeting().await;
    let mallory = meeting.host().await;
    let rooms = make(&mallory, &["Red"]).await;
    // Nobody of these exists, so each of them is looked for in vain.
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
    print_latencies("GET beside a flood of moves", latencies);
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

async fn texts_of_a_client_are_answered_at_a_rate(server: &Server) {
    const TEXTS: usize = 2_000;
    const BURST: usize = 20;
    let meeting = server.meeting().await;
    let (mallory, ada) = (meeting.participant().await, meeting.host().await);
    let began = Instant::now();
    for _ in 0..TEXTS {
        mallory.send(Message::text("2")).await.unwrap();
    }
    until("the burst is answered", async || {
        (mallory.pongs() >= BURST).then_some(())
    })
    .await;
    for _ in 0..20 {
        ada.settle().await.unwrap();
    }
    let answered = mallory.pongs();
    let allowed = BURST + 2 * usize::try_from(began.elapsed().as_secs() + 1).unwrap();
    println!("{answered} of {TEXTS} pings were answered");
    assert!(answered <= allowed, "{answered} answers, {allowed} at most");
    assert!(mallory.is_open());
}

async fn pings_of_whoever_does_not_read_fill_no_memory(server: &Server) {
    const PINGS: usize = 400_000;
    const GROWTH: u64 = 24 << 20;
    let server = Server::beside(server, &[]).await;
    let meeting = server.meeting().await;
    let mut socket = inside(&meeting.person("group_call_participant").await).await;
    let ada = meeting.host().await;
    let before = server.process().resident().unwrap();
    // It is never read from, so each answer waits.
    let ping = Message::Ping(vec![0; 125].into());
    let mut sent = 0;
    let flood = async {
        while sent < PINGS && socket.send(ping.clone()).await.is_ok() {
            sent += 1;
        }
    };
    // A server that does not read lets the flood wait for ever.
    let _ = tokio::time::timeout(Duration::from_secs(5), flood).await;
    settle(&[&ada]).await;
    let grown = server.process().resident().unwrap().saturating_sub(before);
    println!("{sent} pings were sent; memory grew by {} MiB", grown >> 20);
    assert!(grown < GROWTH, "memory grew by {} MiB", grown >> 20);
}

async fn a_long_text_ends_the_socket(server: &Server) {
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

async fn when_too_much_waits_in_a_meeting_those_who_do_not_read_are_let_go(server: &Server) {
    const SLEEPERS: usize = 3;
    const MOST: u64 = 8 << 20;
    const MESSAGES: usize = 1000;
    // All of it may wait twice at the moment at which the bound is passed: for Ada, and for those
    // who do not read. It is a small part of the bound, or she could be the slowest herself.
    const AT_ONCE: usize = 10;
    let most = MOST.to_string();
    let arguments = [
        "--chat-per-minute",
        "0",
        "--socket-bytes-per-meeting",
        &most,
    ];
    let server = Server::beside(server, &arguments).await;
    let meeting = server.meeting().await;
    let ada = meeting.host().await;
    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        let who = meeting.person("group_call_participant").await;
        sleepers.push(inside(&who).await);
        ada.push_frame(event::JOIN_ROOM).await.unwrap();
    }
    let large = SendChatMessageToRoomRequest {
        payload_type: 3,
        payload: serde_json::json!({ "message": "x".repeat(60_000) }).to_string(),
    };
    let (mut said, mut unsent) = (0, 0);
    while metric(&server, "parlor_sockets_overflowed_total ").await < SLEEPERS as u64 {
        assert!(said < MESSAGES, "what waits in a meeting has no end");
        for _ in 0..AT_ONCE {
            ada.tell(event::SEND_MESSAGE_TO_ROOM, &large).await.unwrap();
        }
        settle(&[&ada]).await;
        ada.forget();
        said += AT_ONCE;
        unsent = metric(&server, "parlor_unsent_bytes ").await.max(unsent);
        // As often as one person may send.
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    println!("after {said} messages; {unsent} bytes were unsent at most");
    assert!(unsent <= MOST, "{unsent} bytes were unsent");
    settle(&[&ada]).await;
    assert!(ada.is_open(), "whoever reads stays");
    let overflowed = metric(&server, "parlor_sockets_overflowed_total ").await;
    assert_eq!(overflowed, SLEEPERS as u64);
}
