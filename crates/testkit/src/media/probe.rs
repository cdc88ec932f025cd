//! Whether a server still has a transport, asked from outside.
//!
//! A server answers the connectivity checks of a client for as long as it has the client's transport,
//! whatever else it says of itself. A check proves nothing but that its sender knows what the two
//! have agreed on, so it may come from another socket and long after the client has gone.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::UdpSocket;

use super::Remote;
use super::ice::{Agent, Credentials};

/// Checks that are sent at once: few enough for any socket's buffer.
const AT_ONCE: usize = 64;

/// When nothing came for so long, nothing more will.
const QUIET: Duration = Duration::from_millis(20);

/// How often each is asked: a datagram may be lost, though hardly twice.
const TIMES: usize = 2;

/// Where the name of a transaction is in a message (RFC 8489 5).
const NAME: std::ops::Range<usize> = 8..20;

/// What the answer to a check begins with (RFC 8489 5).
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// A check for one transport.
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

/// How many of these transports the server still has. A check keeps alive what it finds, as the
/// client's own would.
///
/// # Errors
/// When there are no more ports.
pub async fn found(probes: &[Probe]) -> Result<usize> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (mut found, mut buffer) = (HashSet::new(), [0; 1024]);
    for _ in 0..TIMES {
        for some in probes.chunks(AT_ONCE) {
            for probe in some {
                socket.send_to(&probe.check, probe.to).await?;
            }
            while let Ok(length) = tokio::time::timeout(QUIET, socket.recv(&mut buffer)).await {
                let message = buffer.get(..length?).unwrap_or_default();
                // Of one that is gone, a server may say so.
                if message.starts_with(&SUCCESS) {
                    found.extend(message.get(NAME).map(<[u8]>::to_vec));
                }
            }
        }
    }
    Ok(found.len())
}
