//! Clients that take everything there is of something.

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
use parlor_testkit::media::{Says, sdp};
use parlor_testkit::signal::Peer;
use parlor_testkit::{Proxy, plain_http};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::checks::{Ground, Report, links};

/// Many people each begin an upload and never end it; somebody else still can.
pub(crate) async fn uploads(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        ["--uploads-at-once", "17"],
        ["--uploads-per-app", "0"],
        ["--uploads-per-meeting", "0"],
    ];
    let stage = ground.start(arguments.as_flattened()).await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, "group_call_host", 19).await?;
    let (honest, attackers) = people.split_last().context("somebody")?;
    let mut open = Vec::new();
    for attacker in attackers {
        let [put, _] = links(&stage, &meeting, &attacker.token).await?;
        let mut stream = TcpStream::connect(stage.address).await?;
        let head =
            format!("PUT {put} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\nx");
        stream.write_all(head.as_bytes()).await?;
        open.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let [put, get] = links(&stage, &meeting, &honest.token).await?;
    let http = plain_http();
    let sent = http
        .put(format!("http://{}{put}", stage.address))
        .body(vec![7_u8; 100_000])
        .timeout(Duration::from_secs(25))
        .send()
        .await;
    let status = sent.map(|answer| answer.status().as_u16());
    report.figure(format!(
        "{} slow uploads; the honest one: {status:?}",
        open.len()
    ));
    report.must(
        matches!(status, Ok(200)),
        "somebody who uploads as usual could not",
    );
    let read = http
        .get(format!("http://{}{get}", stage.address))
        .send()
        .await?;
    report.must(read.status().is_success(), "the file is not there");
    // Some were cut off.
    let mut alive = 0;
    for stream in &mut open {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut byte)).await;
        alive += usize::from(read.is_err());
    }
    report.figure(format!("{alive} of them still open"));
    Ok(report)
}

/// A request for a transport to publish on, as the SDK makes it.
fn transport() -> CreateTransportRequest {
    let own = Says {
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

/// People who wait take all media transports; whoever is inside still gets one.
pub(crate) async fn waiting_transports(ground: &Ground) -> Result<Report> {
    const TRANSPORTS: usize = 10;
    let mut report = Report::default();
    let stage = ground
        .start(&["--media-transports", &TRANSPORTS.to_string()])
        .await?;
    let meeting = stage.meeting().await?;
    let preset = json!({
        "name": "waits",
        "config": {"view_type": "GROUP_CALL"},
        "permissions": {"waiting_room_type": "SKIP_ON_ACCEPT"},
        "ui": {},
    });
    let path = format!("{}/presets", stage.app);
    stage.client.post(&path, &preset).await?.expect(200)?;
    let make = async |peer: &Peer| {
        let answer: Result<CreateTransportResponse> =
            peer.ask(event::CREATE_TRANSPORT, &transport()).await;
        answer
    };
    let mut waiting = Vec::new();
    for identity in stage.people(&meeting, "waits", 2 * TRANSPORTS).await? {
        let peer = Peer::open(&identity).await?;
        let joined = peer.join().await?;
        report.must(joined.me.waitlisted, "nobody has to wait");
        waiting.push(peer);
    }
    let mut count = 0;
    for peer in &waiting {
        count += usize::from(make(peer).await.is_ok());
    }
    report.figure(format!("{count} transports made by people who wait"));
    report.must(count >= TRANSPORTS, "people who wait make transports too");
    let people = stage.people(&meeting, "group_call_host", 3).await?;
    let mut inside = Vec::new();
    for identity in &people {
        let peer = Peer::enter(identity).await?;
        let answer = make(&peer).await;
        report.must(answer.is_ok(), format!("{answer:?} for somebody inside"));
        inside.push(peer);
    }
    Ok(report)
}

/// Whether a connection from this address is served.
async fn is_served(server: SocketAddr, from: [u8; 4]) -> Result<Option<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let Ok(mut stream) = socket.connect(server).await else {
        return Ok(None);
    };
    let mut answer = [0; 1024];
    let answered = async {
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await?;
        // All of it comes in one piece.
        stream.read(&mut answer).await
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), answered).await;
    let is_ok = matches!(answered, Ok(Ok(_))) && answer.starts_with(b"HTTP/1.1 200");
    // A request that is never finished, so that the connection is no idle one.
    let _ = stream
        .write_all(b"GET /healthz HTTP/1.1\r\nX-Never: ")
        .await;
    Ok(is_ok.then_some(stream))
}

/// An address has its share of connections, and others have theirs.
pub(crate) async fn connections(ground: &Ground) -> Result<Report> {
    const SHARE: usize = 50;
    let mut report = Report::default();
    let share = SHARE.to_string();
    let arguments = ["--connections", "200", "--connections-per-address", &share];
    let stage = ground.start(&arguments).await?;
    let mut held = Vec::new();
    for _ in 0..SHARE * 4 {
        held.extend(is_served(stage.address, [127, 0, 0, 9]).await?);
    }
    let mut others = Vec::new();
    for _ in 0..20 {
        others.extend(is_served(stage.address, [127, 0, 0, 10]).await?);
    }
    report.figure(format!(
        "{} served of {}; of another address {} of 20",
        held.len(),
        SHARE * 4,
        others.len()
    ));
    report.must(others.len() == 20, "another address was not served");
    let mut open = 0;
    for stream in &mut held {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(2), stream.read(&mut byte)).await;
        open += usize::from(read.is_err());
    }
    report.must(
        (1..=SHARE).contains(&open),
        format!("one address holds {open} connections"),
    );
    Ok(report)
}

/// Files and messages of a meeting take no more than they may.
pub(crate) async fn quotas(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let arguments = [
        "--files-per-meeting-bytes",
        "10000",
        "--chat-per-meeting-bytes",
        "10000",
    ];
    let stage = ground.start(&arguments).await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, "group_call_host", 1).await?;
    let http = plain_http();
    let mut taken = 0;
    for _ in 0..4 {
        let [put, _] = links(&stage, &meeting, &people[0].token).await?;
        let url = format!("http://{}{put}", stage.address);
        let status = http.put(url).body(vec![1_u8; 4000]).send().await?.status();
        taken += usize::from(status == 200);
        report.must(
            status == 200 || status == 507,
            format!("an upload was answered with {status}"),
        );
    }
    report.must(
        taken == 2,
        format!("{taken} files of 4,000 bytes were taken"),
    );
    let peer = Peer::enter(&people[0]).await?;
    let message = SendChatMessageToRoomRequest {
        payload_type: 0,
        payload: "a".repeat(1500),
    };
    let mut said = 0;
    for _ in 0..20 {
        let answer: Result<SendChatMessageToRoomResponse> =
            peer.ask(event::SEND_MESSAGE_TO_ROOM, &message).await;
        said += usize::from(answer.is_ok());
    }
    report.figure(format!("{taken} of 4 files, {said} of 20 messages"));
    report.must(
        (1..=6).contains(&said),
        format!("{said} messages were taken"),
    );
    Ok(report)
}

/// A PostgreSQL that hangs is answered for, and forgotten when it is back.
pub(crate) async fn frozen_database(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let url = ground.postgres.as_deref().context("PostgreSQL")?;
    let (proxy, url) = Proxy::to_postgres(url).await?;
    let ground = Ground {
        postgres: Some(url),
        builder: ground.builder.clone(),
        is_long: ground.is_long,
    };
    let stage = ground.start(&["--database-timeout-secs", "1"]).await?;
    let meeting = stage.meeting().await?;
    let people = format!("{}/meetings/{meeting}/participants", stage.app);
    let person = json!({"custom_participant_id": "a", "preset_name": "group_call_host"});
    proxy.freeze();
    // What it found is remembered for a second.
    let mut ready = stage.client.get("/readyz").await?.status;
    for _ in 0..30 {
        if ready == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        ready = stage.client.get("/readyz").await?.status;
    }
    report.must(ready == 503, format!("/readyz answered {ready}"));
    let answer = stage.client.post(&people, &person).await?;
    report.must(answer.status == 503, format!("a write: {}", answer.status));
    report.must(answer.headers.contains_key("retry-after"), "no retry-after");
    proxy.thaw();
    let mut added = 0;
    for _ in 0..100 {
        added = stage.client.post(&people, &person).await?.status.as_u16();
        if added == 201 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report.must(added == 201, format!("after the thaw: {added}"));
    let listed = stage.client.get(&people).await?.expect(200)?;
    let count = listed.as_array().map_or(0, Vec::len);
    report.must(count == 1, format!("{count} records of one person"));
    Ok(report)
}
