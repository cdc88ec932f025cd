//! Clients that take everything there is of something.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{
    CreateTransportRequest, CreateTransportResponse, SessionDescription,
};
use parlor_testkit::media::{Says, sdp};
use parlor_testkit::signal::Peer;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::checks::{Ground, Report, links};

/// Many people each begin an upload and never end it; somebody else still can.
pub(crate) async fn uploads(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, "group_call_host", 100).await?;
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
    let http = reqwest::Client::new();
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

/// Whoever was not admitted to the meeting makes no media transports.
pub(crate) async fn waiting_transports(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let preset = json!({
        "name": "waits",
        "config": {"view_type": "GROUP_CALL"},
        "permissions": {"waiting_room_type": "SKIP_ON_ACCEPT"},
        "ui": {},
    });
    let path = format!("{}/presets", stage.app);
    stage.client.post(&path, &preset).await?.expect(200)?;
    let people = stage.people(&meeting, "waits", 2).await?;
    let outside = Peer::open(&people[0]).await?;
    let waiting = Peer::open(&people[1]).await?;
    let joined = waiting.join().await?;
    report.must(joined.me.waitlisted, "nobody has to wait");
    let mut made = 0;
    for peer in [&outside, &waiting] {
        for _ in 0..20 {
            let answer: Result<CreateTransportResponse> =
                peer.ask(event::CREATE_TRANSPORT, &transport()).await;
            made += usize::from(answer.is_ok());
        }
    }
    report.figure(format!("{made} transports made"));
    report.must(
        made == 0,
        format!("{made} transports were made from outside"),
    );
    // The same offer is taken from somebody inside, so it was not the offer that was refused.
    let people = stage.people(&meeting, "group_call_host", 1).await?;
    let inside = Peer::enter(&people[0]).await?;
    let answer: Result<CreateTransportResponse> =
        inside.ask(event::CREATE_TRANSPORT, &transport()).await;
    answer.context("somebody inside makes a transport")?;
    Ok(report)
}
