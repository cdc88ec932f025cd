//! Clients that try to exhaust a limited resource.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, SessionDescription,
};
use parlor_protocol::signal::socket::chat::{
    SendChatMessageToRoomRequest, SendChatMessageToRoomResponse,
};
use parlor_testkit::media::{LocalDescription, sdp};
use parlor_testkit::signal::Peer;
use parlor_testkit::{Proxy, plain_http};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::checks::{Report, Setup, links};

/// Many participants start an upload and never finish it. Another participant can still upload.
pub(crate) async fn uploads(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        ["--uploads-at-once", "17"],
        ["--uploads-per-app", "0"],
        ["--uploads-per-meeting", "0"],
    ];
    let target = setup.start(arguments.as_flattened()).await?;
    let meeting = target.meeting().await?;
    let identities = target
        .add_participants(&meeting, "group_call_host", 19)
        .await?;
    let (honest, attackers) = identities
        .split_last()
        .context("there are no participants")?;
    let mut open = Vec::new();
    for attacker in attackers {
        let [put, _] = links(&target, &meeting, &attacker.token).await?;
        let mut stream = TcpStream::connect(target.address).await?;
        let head =
            format!("PUT {put} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\nx");
        stream.write_all(head.as_bytes()).await?;
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let [put, get] = links(&target, &meeting, &honest.token).await?;
    let http = plain_http();
    let sent = http
        .put(format!("http://{}{put}", target.address))
        .body(vec![7_u8; 100_000])
        .timeout(Duration::from_secs(25))
        .send()
        .await;
    let status = sent.map(|answer| answer.status().as_u16());
    report.figure(format!(
        "{} slow uploads; honest upload: {status:?}",
        open.len()
    ));
    report.require(matches!(status, Ok(200)), "the honest upload failed");
    let read = http
        .get(format!("http://{}{get}", target.address))
        .send()
        .await?;
    report.require(read.status().is_success(), "the uploaded file is missing");
    // Count the slow uploads that were not aborted to make room.
    let mut alive = 0;
    for stream in &mut open {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut byte)).await;
        alive += usize::from(read.is_err());
    }
    report.figure(format!("{alive} slow uploads still open"));
    Ok(report)
}

/// Returns a request for a publishing transport, as the SDK sends it.
fn transport() -> CreateTransportRequest {
    let own = LocalDescription {
        ufrag: "abcd".to_owned(),
        password: "apasswordoftwentyfourletters".to_owned(),
        fingerprint: ["AB"; 32].join(":"),
        address: SocketAddr::from(([127, 0, 0, 1], 9)),
    };
    let lines = [
        sdp::Line::warm_up("0", sdp::Kind::Audio),
        sdp::Line::warm_up("1", sdp::Kind::Video),
    ];
    CreateTransportRequest {
        description: Some(SessionDescription {
            target: 0,
            r#type: "offer".to_owned(),
            sdp: sdp::offer(&own, &lines),
        }),
        ..CreateTransportRequest::default()
    }
}

/// Participants in the waiting room use up all media transports. Participants in the meeting can
/// still create their own.
pub(crate) async fn waiting_transports(setup: &Setup) -> Result<Report> {
    const TRANSPORTS: usize = 10;
    let mut report = Report::default();
    let target = setup
        .start(&["--media-transports", &TRANSPORTS.to_string()])
        .await?;
    let meeting = target.meeting().await?;
    let preset = json!({
        "name": "waits",
        "config": {"view_type": "GROUP_CALL"},
        "permissions": {"waiting_room_type": "SKIP_ON_ACCEPT"},
        "ui": {},
    });
    let path = format!("{}/presets", target.app);
    target.client.post(&path, &preset).await?.expect(200)?;
    let create_transport = async |peer: &Peer| {
        let answer: Result<CreateTransportResponse> =
            peer.ask(event::CREATE_TRANSPORT, &transport()).await;
        answer
    };
    let mut waiting = Vec::new();
    for identity in target
        .add_participants(&meeting, "waits", 2 * TRANSPORTS)
        .await?
    {
        let peer = Peer::open(&identity).await?;
        let joined = peer.join().await?;
        report.require(
            joined.me.waitlisted,
            "a participant was not put in the waiting room",
        );
        waiting.push(peer);
    }
    let mut count = 0;
    for peer in &waiting {
        count += usize::from(create_transport(peer).await.is_ok());
    }
    report.figure(format!("{count} transports created from the waiting room"));
    report.require(
        count >= TRANSPORTS,
        "the waiting room did not take all transports",
    );
    let identities = target
        .add_participants(&meeting, "group_call_host", 3)
        .await?;
    let mut inside = Vec::new();
    for identity in &identities {
        let peer = Peer::enter(identity).await?;
        let answer = create_transport(&peer).await;
        report.require(
            answer.is_ok(),
            format!("{answer:?} for a participant in the meeting"),
        );
        inside.push(peer);
    }
    Ok(report)
}

/// Opens a connection from this address and sends a request. Returns the connection if the request
/// succeeded.
async fn try_connection(server: SocketAddr, from: [u8; 4]) -> Result<Option<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let Ok(mut stream) = socket.connect(server).await else {
        return Ok(None);
    };
    let mut answer = [0; 1024];
    let answered = async {
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await?;
        // The response arrives in one segment.
        stream.read(&mut answer).await
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), answered).await;
    let is_ok = matches!(answered, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 200");
    // Send an unfinished request, so that the connection is not idle.
    let _ = stream
        .write_all(b"GET /healthz HTTP/1.1\r\nX-Never: ")
        .await;
    Ok(is_ok.then_some(stream))
}

/// One address cannot exceed its share of connections, and other addresses are still served.
pub(crate) async fn connections(setup: &Setup) -> Result<Report> {
    const SHARE: usize = 50;
    let mut report = Report::default();
    let share = SHARE.to_string();
    let arguments = ["--connections", "200", "--connections-per-address", &share];
    let target = setup.start(&arguments).await?;
    let mut held = Vec::new();
    for _ in 0..SHARE * 4 {
        held.extend(try_connection(target.address, [127, 0, 0, 9]).await?);
    }
    let mut others = Vec::new();
    for _ in 0..20 {
        others.extend(try_connection(target.address, [127, 0, 0, 10]).await?);
    }
    report.figure(format!(
        "{} of {} served; from another address {} of 20",
        held.len(),
        SHARE * 4,
        others.len()
    ));
    report.require(others.len() == 20, "another address was not served");
    let mut open = 0;
    for stream in &mut held {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(2), stream.read(&mut byte)).await;
        open += usize::from(read.is_err());
    }
    report.require(
        (1..=SHARE).contains(&open),
        format!("one address holds {open} connections"),
    );
    Ok(report)
}

/// Files and chat messages of a meeting cannot exceed their quotas.
pub(crate) async fn quotas(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        "--files-per-meeting-bytes",
        "10000",
        "--chat-per-meeting-bytes",
        "10000",
    ];
    let target = setup.start(&arguments).await?;
    let meeting = target.meeting().await?;
    let identities = target
        .add_participants(&meeting, "group_call_host", 1)
        .await?;
    let http = plain_http();
    let mut accepted_files = 0;
    for _ in 0..4 {
        let [put, _] = links(&target, &meeting, &identities[0].token).await?;
        let url = format!("http://{}{put}", target.address);
        let status = http.put(url).body(vec![1_u8; 4000]).send().await?.status();
        accepted_files += usize::from(status == 200);
        report.require(
            status == 200 || status == 507,
            format!("unexpected status of an upload: {status}"),
        );
    }
    report.require(
        accepted_files == 2,
        format!("{accepted_files} files of 4,000 bytes were accepted"),
    );
    let peer = Peer::enter(&identities[0]).await?;
    let message = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "a".repeat(1500),
    };
    let mut accepted = 0;
    for _ in 0..20 {
        let answer: Result<SendChatMessageToRoomResponse> =
            peer.ask(event::SEND_MESSAGE_TO_ROOM, &message).await;
        accepted += usize::from(answer.is_ok());
    }
    report.figure(format!(
        "{accepted_files} of 4 files, {accepted} of 20 messages"
    ));
    report.require(
        (1..=6).contains(&accepted),
        format!("{accepted} messages were accepted"),
    );
    Ok(report)
}

/// While PostgreSQL hangs, requests fail with 503. After it recovers, they succeed again.
pub(crate) async fn frozen_database(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let url = setup
        .postgres
        .as_deref()
        .context("PostgreSQL is required")?;
    let (proxy, url) = Proxy::to_postgres(url).await?;
    let setup = Setup {
        postgres: Some(url),
        builder: setup.builder.clone(),
        is_long: setup.is_long,
    };
    let target = setup.start(&["--database-timeout-secs", "1"]).await?;
    let meeting = target.meeting().await?;
    let path = format!("{}/meetings/{meeting}/participants", target.app);
    let participant = json!({"custom_participant_id": "a", "preset_name": "group_call_host"});
    proxy.freeze();
    // The result of a readiness check is cached for a second.
    let mut ready = target.client.get("/readyz").await?.status;
    for _ in 0..30 {
        if ready == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        ready = target.client.get("/readyz").await?.status;
    }
    report.require(ready == 503, format!("/readyz responded with {ready}"));
    let answer = target.client.post(&path, &participant).await?;
    report.require(
        answer.status == 503,
        format!("a write failed with {} instead of 503", answer.status),
    );
    report.require(
        answer.headers.contains_key("retry-after"),
        "the response has no Retry-After header",
    );
    proxy.thaw();
    let mut added = 0;
    for _ in 0..100 {
        added = target
            .client
            .post(&path, &participant)
            .await?
            .status
            .as_u16();
        if added == 201 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report.require(
        added == 201,
        format!("the status after the recovery is {added}"),
    );
    let listed = target.client.get(&path).await?.expect(200)?;
    let count = listed.as_array().map_or(0, Vec::len);
    report.require(count == 1, format!("{count} records of one participant"));
    Ok(report)
}
