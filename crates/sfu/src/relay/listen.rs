//! Where connections come in, and where clients are told to come to for that.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the system keeps for a listener that is slow to accept.
const BACKLOG: i32 = 1024;

/// A UDP socket of the media plane.
#[derive(Debug, Clone)]
pub(crate) struct MediaSocket {
    /// Where it is bound.
    pub(crate) local: SocketAddr,
    /// Whether the system chose its port, so that another would do for TCP.
    pub(crate) any_port: bool,
    /// Where clients are told to come to.
    pub(crate) advertised: Vec<SocketAddr>,
}

/// A listener, ready to accept.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // As the UDP sockets: an IPv4 client in an IPv6 spelling is one that ICE does not know.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|cause| io::Error::new(cause.kind(), format!("TCP {address}: {cause}")))
}

/// At the address of a UDP socket.
pub(super) fn listen_beside(socket: &MediaSocket) -> io::Result<TcpListener> {
    match listen(socket.local) {
        Err(error) if socket.any_port && error.kind() == io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(socket.local.ip(), 0))
        }
        listening => listening,
    }
}

/// Where clients are told to come to for a listener: where they are told to come to for the UDP
/// socket at the same IP address, or else for any of the family.
pub(super) fn advertised(local: SocketAddr, media: &[MediaSocket]) -> Vec<SocketAddr> {
    let of = |same_ip: bool| {
        media
            .iter()
            .filter(|socket| !same_ip || socket.local.ip() == local.ip())
            .flat_map(|socket| &socket.advertised)
            .filter(|address| address.is_ipv4() == local.is_ipv4())
            .map(|address| SocketAddr::new(address.ip(), local.port()))
            .collect::<Vec<_>>()
    };
    let mut told = of(true);
    if told.is_empty() {
        told = of(false);
    }
    let mut seen = HashSet::new();
    told.retain(|address| seen.insert(*address));
    told
}
