//! What a client has once it is let in.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::LinkId;
use super::refusal::{FAMILY, Refusal};
use super::server::Seat;

/// Life of a permission (RFC 8656 9).
pub(super) const PERMISSION: Duration = Duration::from_secs(300);
/// Life of a channel (RFC 8656 12).
pub(super) const CHANNEL: Duration = Duration::from_secs(600);

pub(super) struct Allocation {
    /// The request that made it and its answer, for when that is sent again.
    pub(super) transaction: [u8; 12],
    pub(super) answer: Vec<u8>,
    pub(super) username: String,
    pub(super) relayed: SocketAddr,
    pub(super) expires: Instant,
    /// None of these has more entries than there are media addresses.
    pub(super) permissions: Vec<(IpAddr, Instant)>,
    pub(super) channels: Vec<Channel>,
    pub(super) links: Vec<(LinkId, SocketAddr)>,
    pub(super) _seat: Seat,
}

#[derive(Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) expires: Instant,
}

impl Allocation {
    pub(super) fn may_reach(&self, peer: SocketAddr, ours: bool) -> Result<(), Refusal> {
        if peer.is_ipv4() != self.relayed.is_ipv4() {
            return Err(FAMILY);
        }
        if !ours {
            return Err(Refusal::new(403, "Forbidden"));
        }
        Ok(())
    }

    /// Gives an address a number, for as long as a channel lives.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
    ) -> Result<(), Refusal> {
        self.channels.retain(|channel| channel.expires > now);
        let mut channels = self.channels.iter();
        if channels.any(|channel| (channel.number == number) != (channel.peer == peer)) {
            return Err(Refusal::malformed());
        }
        self.channels.retain(|channel| channel.peer != peer);
        self.channels.push(Channel {
            number,
            peer,
            expires: now + CHANNEL,
        });
        Ok(())
    }

    pub(super) fn permits(&self, now: Instant, peer: SocketAddr) -> bool {
        self.permissions
            .iter()
            .any(|(ip, expires)| *ip == peer.ip() && *expires > now)
    }

    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) {
        self.permissions.retain(|(permitted, _)| *permitted != ip);
        self.permissions.push((ip, now + PERMISSION));
    }
}
