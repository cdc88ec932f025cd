//! TURN allocations.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::LinkId;
use super::error::{ErrorResponse, PEER_FAMILY_MISMATCH};
use super::server::AllocationPermit;

/// Lifetime of a permission (RFC 8656 9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// Lifetime of a channel (RFC 8656 12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

pub(super) struct Allocation {
    /// The transaction id of the Allocate request. A retransmission gets the same response.
    pub(super) transaction: [u8; 12],
    pub(super) response: Vec<u8>,
    pub(super) username: String,
    pub(super) relayed: SocketAddr,
    pub(super) expires: Instant,
    // The following lists have at most one entry for each media address.
    pub(super) permissions: Vec<(IpAddr, Instant)>,
    pub(super) channels: Vec<Channel>,
    pub(super) links: Vec<(LinkId, SocketAddr)>,
    pub(super) _permit: AllocationPermit,
}

#[derive(Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) expires: Instant,
}

impl Allocation {
    /// Checks whether the client may send to a peer. Only media addresses are allowed.
    pub(super) fn check_peer(&self, peer: SocketAddr, is_media: bool) -> Result<(), ErrorResponse> {
        if peer.is_ipv4() != self.relayed.is_ipv4() {
            return Err(PEER_FAMILY_MISMATCH);
        }
        if !is_media {
            return Err(ErrorResponse::new(403, "Forbidden"));
        }
        Ok(())
    }

    /// Binds a channel number to a peer, or refreshes the binding.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
    ) -> Result<(), ErrorResponse> {
        self.channels.retain(|channel| channel.expires > now);
        let mut channels = self.channels.iter();
        if channels.any(|channel| (channel.number == number) != (channel.peer == peer)) {
            return Err(ErrorResponse::malformed());
        }
        self.channels.retain(|channel| channel.peer != peer);
        self.channels.push(Channel {
            number,
            peer,
            expires: now + CHANNEL_LIFETIME,
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
        self.permissions.push((ip, now + PERMISSION_LIFETIME));
    }
}
