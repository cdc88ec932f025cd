//! Checks from outside whether a server still has a transport.
//!
//! A server responds to a client's connectivity checks as long as it has the client's transport,
//! whatever its metrics report. A check only proves that its sender knows the credentials, so it
//! may come from another socket, and long after the client is gone.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::UdpSocket;

use super::Remote;
use super::ice::{Agent, Credentials};

/// Number of checks sent at once. Small enough for any socket buffer.
const AT_ONCE: usize = 64;

/// Time without a response after which no more are expected.
const QUIET: Duration = Duration::from_millis(20);

/// Number of checks for each transport, because a datagram may be lost.
const ATTEMPTS: usize = 2;

/// Position of the transaction ID in a message (RFC 8489 5).
const TRANSACTION_ID: std::ops::Range<usize> = 8..20;

/// First bytes of a success response to a check (RFC 8489 5).
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// A connectivity check for one transport.
#[derive(Clone, Debug)]
pub struct Probe {
    check: Vec<u8>,
    to: SocketAddr,
}

impl Probe {
    pub(super) fn new(own: &Credentials, remote: &Remote) -> Option<Self> {
        let theirs = Credentials {
            ufrag: remote.ufrag.clone(),
            password: remote.password.clone(),
        };
        let now = Instant::now();
        let check = Agent::new(own.clone(), theirs, now).timeout(now)?;
        Some(Self {
            check,
            to: remote.address,
        })
    }
}

/// Returns how many of these transports the server still has. Like the client's own checks, the
/// probes keep the transports alive.
///
/// # Errors
/// When no port is free.
pub async fn count_alive(probes: &[Probe]) -> Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (mut found, mut buffer) = (HashSet::new(), [0; 1024]);
    for _ in 0..ATTEMPTS {
        for some in probes.chunks(AT_ONCE) {
            for probe in some {
                socket.send_to(&probe.check, probe.to).await?;
            }
            while let Ok(length) = tokio::time::timeout(QUIET, socket.recv(&mut buffer)).await {
                let message = buffer.get(..length?).unwrap_or_default();
                // A server may respond with an error for a transport that is gone.
                if message.starts_with(&SUCCESS) {
                    found.extend(message.get(TRANSACTION_ID).map(<[u8]>::to_vec));
                }
            }
        }
    }
    Ok(found.len())
}
