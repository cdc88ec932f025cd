//! TCP listeners, and the addresses to advertise for them.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Backlog of a listener, in connections.
const BACKLOG: i32 = 1024;

/// A UDP socket of the media plane.
#[derive(Debug, Clone)]
pub(crate) struct MediaSocket {
    /// The local address.
    pub(crate) local: SocketAddr,
    /// Whether the system chose the port, in which case TCP may use a different one.
    pub(crate) any_port: bool,
    /// The addresses advertised to clients.
    pub(crate) advertised: Vec<SocketAddr>,
}

/// Binds a listener.
///
/// # Errors
/// The address cannot be bound. The error message contains the address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            // Without this, IPv4 clients would have IPv4-mapped addresses, as with UDP.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|cause| io::Error::new(cause.kind(), format!("TCP {address}: {cause}")))
}

/// Binds a listener to the address of a UDP socket.
pub(super) fn listen_on_media_address(socket: &MediaSocket) -> io::Result<TcpListener> {
    match listen(socket.local) {
        Err(error) if socket.any_port && error.kind() == io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(socket.local.ip(), 0))
        }
        listening => listening,
    }
}

/// Returns the addresses to advertise for a listener: the advertised addresses of the UDP sockets
/// with the same local IP address or, without any, of all UDP sockets of the same family.
pub(super) fn advertised(local: SocketAddr, media: &[MediaSocket]) -> Vec<SocketAddr> {
    let candidates = |same_ip: bool| {
        media
            .iter()
            .filter(|socket| !same_ip || socket.local.ip() == local.ip())
            .flat_map(|socket| &socket.advertised)
            .filter(|address| address.is_ipv4() == local.is_ipv4())
            .map(|address| SocketAddr::new(address.ip(), local.port()))
            .collect::<Vec<_>>()
    };
    let mut advertised = candidates(true);
    if advertised.is_empty() {
        advertised = candidates(false);
    }
    let mut seen = HashSet::new();
    advertised.retain(|address| seen.insert(*address));
    advertised
}
