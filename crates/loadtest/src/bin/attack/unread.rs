//! Clients that ask for much over HTTP and do not read the answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::{Process, plain_http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::bystander::{Use, beside};
use crate::checks::{Ground, Report, links, process};

/// Bytes of requests on each connection of [`pipeline`].
const PIPELINED: usize = 64 << 10;
/// Bytes of the file of [`files`].
const FILE: usize = 20 << 20;
/// Bytes that the head of a request may have.
const HEAD: usize = 64 << 10;

/// A connection that takes little before it must be read.
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    Ok(socket.connect(address).await?)
}

/// Watches memory until it has not grown for a second; the most there was.
async fn settled(process: Process) -> Result<u64> {
    let (mut most, mut still) = (process.resident()?, 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = process.resident()?;
        still = if now > most + (1 << 20) { 0 } else { still + 1 };
        most = most.max(now);
    }
    Ok(most)
}

/// Requests whose answers are much longer than they are, on connections that nobody reads.
pub(crate) async fn pipeline(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let uses = [Use::rest(&stage, &meeting)];
    let process = process(&stage)?;
    let one = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let many = one.repeat(PIPELINED / one.len());
    // The first answers grow caches and pools that stay.
    stage.client.get("/openapi.json").await?;
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut open = Vec::new();
        for _ in 0..ground.amount(5, 600) {
            let mut stream = connect(stage.address).await?;
            // The server need not take all of it.
            let writing = stream.write_all(&many);
            let _ = tokio::time::timeout(Duration::from_millis(200), writing).await;
            open.push(stream);
        }
        let most = settled(process).await?;
        drop(open);
        Ok(most)
    };
    let most = beside(&mut report, &uses, attack).await?;
    report.growth(before, most);
    report.back(process, before).await?;
    Ok(report)
}

/// Readers of one file who take nothing of it.
pub(crate) async fn files(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let meeting = stage.meeting().await?;
    let people = stage.people(&meeting, "group_call_host", 1).await?;
    let [put, get] = links(&stage, &meeting, &people[0].token).await?;
    let stored = plain_http()
        .put(format!("http://{}{put}", stage.address))
        .body(vec![1_u8; FILE])
        .send()
        .await?;
    ensure!(stored.status().is_success(), "{}", stored.status());
    let uses = [Use::rest(&stage, &meeting)];
    let process = process(&stage)?;
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut open = Vec::new();
        for _ in 0..ground.amount(30, 300) {
            let mut stream = connect(stage.address).await?;
            let request = format!("GET {get} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            open.push(stream);
        }
        let most = settled(process).await?;
        let mut served = 0;
        for stream in &mut open {
            let mut status = [0; 12];
            let read = stream.read_exact(&mut status);
            let read = tokio::time::timeout(Duration::from_secs(5), read).await;
            served += usize::from(matches!(read, Ok(Ok(_))) && &status == b"HTTP/1.1 200");
        }
        Ok((most, served, open.len()))
    };
    let (most, served, readers) = beside(&mut report, &uses, attack).await?;
    report.must(
        served == readers,
        format!("{served} of {readers} readers were served"),
    );
    report.growth(before, most);
    report.back(process, before).await?;
    Ok(report)
}

/// Sends a request with a head of so many bytes; the status, or none when the server just closed.
async fn head_of(address: SocketAddr, bytes: usize) -> Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    let begin = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: ";
    let end = "\r\n\r\n";
    let fill = bytes
        .checked_sub(begin.len() + end.len())
        .context("too short")?;
    let head = format!("{begin}{}{end}", "a".repeat(fill));
    // The server may close before it has read all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1);
    Ok(status.and_then(|status| status.parse().ok()))
}

/// The longest head that is allowed, and a byte more.
pub(crate) async fn long_head(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    for (bytes, is_taken) in [(HEAD, true), (HEAD + 1, false), (70_000, false)] {
        let status = head_of(stage.address, bytes).await?;
        report.must(
            (status == Some(200)) == is_taken,
            format!("a head of {bytes} bytes was answered with {status:?}"),
        );
    }
    Ok(report)
}

/// Metrics are for those who run the server.
pub(crate) async fn metrics(ground: &Ground) -> Result<Report> {
    let mut report = Report::default();
    let stage = ground.start(&[]).await?;
    let status = stage.client.get("/metrics").await?.status;
    report.must(status == 404, format!("/metrics answered {status}"));
    Ok(report)
}
