//! Clients that request much data over HTTP and do not read the responses.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlor_testkit::{Process, plain_http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::bystander::{Use, run_alongside};
use crate::checks::{Report, Setup, links, process};

/// Size of the requests on each connection of [`pipeline`], in bytes.
const PIPELINED: usize = 64 << 10;
/// Size of the file of [`files`], in bytes.
const FILE: usize = 20 << 20;
/// Maximum size of a request's headers, in bytes.
const HEAD: usize = 64 << 10;

/// Opens a connection with a small receive buffer.
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    Ok(socket.connect(address).await?)
}

/// Waits until the memory has not grown for a second, and returns its peak.
async fn peak_memory(process: Process) -> Result<u64> {
    let (mut peak, mut still) = (process.resident()?, 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = process.resident()?;
        still = if now > peak + (1 << 20) { 0 } else { still + 1 };
        peak = peak.max(now);
    }
    Ok(peak)
}

/// Requests with large responses, pipelined on connections that are not read.
pub(crate) async fn pipeline(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let uses = [Use::rest(&target, &meeting)];
    let process = process(&target)?;
    let one = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let many = one.repeat(PIPELINED / one.len());
    // The first responses grow caches and pools permanently.
    target.client.get("/openapi.json").await?;
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut open = Vec::new();
        for _ in 0..setup.amount(5, 600) {
            let mut stream = connect(target.address).await?;
            // The server need not read all of it.
            let writing = stream.write_all(&many);
            let _ = tokio::time::timeout(Duration::from_millis(200), writing).await;
            open.push(stream);
        }
        let peak = peak_memory(process).await?;
        drop(open);
        Ok(peak)
    };
    let peak = run_alongside(&mut report, &uses, attack).await?;
    report.growth(before, peak);
    report.released(process, before).await?;
    Ok(report)
}

/// Clients that request one file and do not read it.
pub(crate) async fn files(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let meeting = target.meeting().await?;
    let identities = target
        .add_participants(&meeting, "group_call_host", 1)
        .await?;
    let [put, get] = links(&target, &meeting, &identities[0].token).await?;
    let stored = plain_http()
        .put(format!("http://{}{put}", target.address))
        .body(vec![1_u8; FILE])
        .send()
        .await?;
    ensure!(stored.status().is_success(), "{}", stored.status());
    let uses = [Use::rest(&target, &meeting)];
    let process = process(&target)?;
    let mut before = 0;
    let attack = async {
        before = process.resident()?;
        let mut open = Vec::new();
        for _ in 0..setup.amount(30, 300) {
            let mut stream = connect(target.address).await?;
            let request = format!("GET {get} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            open.push(stream);
        }
        let peak = peak_memory(process).await?;
        let mut served = 0;
        for stream in &mut open {
            let mut status = [0; 12];
            let read = stream.read_exact(&mut status);
            let read = tokio::time::timeout(Duration::from_secs(5), read).await;
            served += usize::from(matches!(read, Ok(Ok(_))) && &status == b"HTTP/1.1 200");
        }
        Ok((peak, served, open.len()))
    };
    let (peak, served, readers) = run_alongside(&mut report, &uses, attack).await?;
    report.require(
        served == readers,
        format!("{served} of {readers} readers were served"),
    );
    report.growth(before, peak);
    report.released(process, before).await?;
    Ok(report)
}

/// Sends a request whose headers have this size. Returns the status, or `None` when the server
/// closed the connection without a response.
async fn send_head(address: SocketAddr, bytes: usize) -> Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    let begin = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Long: ";
    let end = "\r\n\r\n";
    let fill = bytes
        .checked_sub(begin.len() + end.len())
        .context("too short")?;
    let head = format!("{begin}{}{end}", "a".repeat(fill));
    // The server may close the connection before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1);
    Ok(status.and_then(|status| status.parse().ok()))
}

/// Request headers of the maximum size, and larger ones.
pub(crate) async fn long_head(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    for (bytes, is_taken) in [(HEAD, true), (HEAD + 1, false), (70_000, false)] {
        let status = send_head(target.address, bytes).await?;
        report.require(
            (status == Some(200)) == is_taken,
            format!("unexpected response to headers of {bytes} bytes: {status:?}"),
        );
    }
    Ok(report)
}

/// Checks that clients cannot read metrics.
pub(crate) async fn metrics(setup: &Setup) -> Result<Report> {
    let mut report = Report::default();
    let target = setup.start(&[]).await?;
    let status = target.client.get("/metrics").await?.status;
    report.require(status == 404, format!("/metrics responded with {status}"));
    Ok(report)
}
