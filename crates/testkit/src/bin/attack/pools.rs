//! Clients that take everything there is of something.

use std::time::Duration;

use anyhow::{Context, Result};
use parlor_protocol::signal::event;
use parlor_protocol::signal::media::{CreateTransportRequest, CreateTransportResponse};
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

/// Somebody in the waiting room makes no media transports.
pub(crate) async fn waiting_transports(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let preset =
        json!({"name": "waits", "permissions": {"waiting_room_type": "ON_PRIVILEGED_USER_ENTRY"}});
    let _ = preset;
    let people = stage.people(&meeting, "webinar_viewer", 1).await?;
    // The socket is open, and its owner has not joined.
    let outside = Peer::open(&people[0]).await?;
    let request = CreateTransportRequest::default();
    let mut made = 0;
    for _ in 0..20 {
        let answer: Result<CreateTransportResponse> =
            outside.ask(event::CREATE_TRANSPORT, &request).await;
        made += usize::from(answer.is_ok());
    }
    report.figure(format!("{made} transports made from outside"));
    report.must(
        made == 0,
        format!("{made} transports were made from outside"),
    );
    Ok(report)
}
