//! Binds the UDP sockets and determines the addresses to advertise to clients.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Size of the socket buffers, in bytes: enough for the datagrams that arrive while the thread
/// answers an offer. The system may grant less.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A bound address.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Non-blocking sockets, one per thread. The system distributes clients over them.
    pub(crate) sockets: Vec<UdpSocket>,
    /// The local address.
    pub(crate) local: SocketAddr,
    /// The addresses to advertise to clients. Empty if no public address has the same family.
    pub(crate) advertised: Vec<SocketAddr>,
}

/// Binds one socket per thread to each address.
///
/// # Errors
/// An address cannot be bound, a public address matches none or several of the bound addresses, or
/// there is no address to advertise.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    public: &[IpAddr],
    threads: usize,
) -> io::Result<Vec<Bound>> {
    for ip in public {
        if !addresses.iter().any(|bind| bind.is_ipv4() == ip.is_ipv4()) {
            return Err(unusable(&format!(
                "no media address has the same family as the public address {ip}"
            )));
        }
    }
    let bound = addresses
        .iter()
        .map(|address| bind_one(*address, public, threads))
        .collect::<io::Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    for address in bound.iter().flat_map(|bound| &bound.advertised) {
        if !seen.insert(address) {
            return Err(unusable(&format!(
                "{address} would be advertised for more than one media address; use different \
                 ports for these addresses"
            )));
        }
    }
    if bound.iter().all(|bound| bound.advertised.is_empty()) {
        return Err(unusable("there is no media address that clients can reach"));
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr, public: &[IpAddr], threads: usize) -> io::Result<Bound> {
    // Bind without SO_REUSEPORT first: with it, another server's socket would not be detected.
    let exclusive = socket(address, false)?;
    let local = exclusive.local_addr()?;
    let mut sockets = vec![exclusive];
    if threads > 1 {
        sockets.clear();
        for _ in 0..threads {
            sockets.push(socket(local, true)?);
        }
    }
    Ok(Bound {
        sockets,
        local,
        advertised: advertised(local, public)?,
    })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // Without this, IPv4 clients would have IPv4-mapped addresses, which ICE does not use.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .map_err(|cause| io::Error::new(cause.kind(), format!("UDP {address}: {cause}")))?;
    Ok(UdpSocket::from(socket))
}

fn advertised(local: SocketAddr, public: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
    let ips = if !public.is_empty() {
        public.to_vec()
    } else if local.ip().is_unspecified() {
        interface_addresses(local.is_ipv4())
    } else {
        vec![local.ip()]
    };
    let mut advertised = Vec::new();
    for ip in ips {
        let address = SocketAddr::new(ip, local.port());
        if ip.is_ipv4() != local.is_ipv4() || advertised.contains(&address) {
            continue;
        }
        if !is_reachable(ip) {
            return Err(unusable(&format!("{ip} cannot be advertised to clients")));
        }
        advertised.push(address);
    }
    Ok(advertised)
}

/// Returns the addresses of this machine: that of the default route, if there is one, and loopback.
fn interface_addresses(v4: bool) -> Vec<IpAddr> {
    let (unspecified, outside, loopback): (IpAddr, IpAddr, IpAddr) = if v4 {
        let outside = Ipv4Addr::new(192, 0, 2, 1);
        (
            Ipv4Addr::UNSPECIFIED.into(),
            outside.into(),
            Ipv4Addr::LOCALHOST.into(),
        )
    } else {
        let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        (
            Ipv6Addr::UNSPECIFIED.into(),
            outside.into(),
            Ipv6Addr::LOCALHOST.into(),
        )
    };
    // Connecting a UDP socket sends nothing: the system only looks up the route. The address is
    // reserved for documentation.
    let routed = UdpSocket::bind((unspecified, 0))
        .and_then(|socket| {
            socket.connect((outside, 9))?;
            socket.local_addr()
        })
        .map(|address| address.ip())
        .ok()
        .filter(|ip| is_reachable(*ip));
    routed.into_iter().chain([loopback]).collect()
}

/// Returns whether an address is a usable unicast address, which browsers accept as a candidate.
fn is_reachable(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // A link-local address is meaningful only together with an interface.
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !(ip.is_unspecified() || ip.is_multicast() || is_broadcast || is_link_local)
}

fn unusable(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_bound_address_is_advertised() {
        let bound = bind(&addresses(&["127.0.0.1:0"]), &[], 1).unwrap();
        assert_ne!(bound[0].local.port(), 0);
        assert_eq!(bound[0].advertised, [bound[0].local]);
    }

    #[test]
    fn public_addresses_replace_the_bound_one() {
        let public = ips(&["198.51.100.7", "198.51.100.7", "203.0.113.9"]);
        let bound = bind(&addresses(&["127.0.0.1:0"]), &public, 1).unwrap();
        let port = bound[0].local.port();
        let expected = addresses(&["198.51.100.7:0", "203.0.113.9:0"])
            .into_iter()
            .map(|mut address| {
                address.set_port(port);
                address
            })
            .collect::<Vec<_>>();
        assert_eq!(bound[0].advertised, expected);
    }

    #[test]
    fn an_unspecified_address_is_advertised_as_concrete_ones_including_loopback() {
        let bound = bind(&addresses(&["0.0.0.0:0"]), &[], 1).unwrap();
        let advertised = &bound[0].advertised;
        assert!(advertised.contains(&SocketAddr::new(
            Ipv4Addr::LOCALHOST.into(),
            bound[0].local.port()
        )));
        assert!(advertised.iter().all(|a| !a.ip().is_unspecified()));
    }

    #[test]
    fn a_public_address_without_a_socket_of_its_family_is_rejected() {
        let error = bind(&addresses(&["127.0.0.1:0"]), &ips(&["2001:db8::7"]), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("2001:db8::7"), "{error}");
    }

    #[test]
    fn an_unreachable_address_is_rejected() {
        for public in ["0.0.0.0", "255.255.255.255", "224.0.0.1"] {
            let error = bind(&addresses(&["127.0.0.1:0"]), &ips(&[public]), 1).unwrap_err();
            assert!(error.to_string().contains(public), "{error}");
        }
    }

    #[test]
    fn a_public_address_that_matches_two_sockets_is_rejected() {
        let first = bind(&addresses(&["127.0.0.1:0"]), &[], 1).unwrap();
        let port = first[0].local.port();
        let two = addresses(&[&format!("127.0.0.2:{port}"), &format!("127.0.0.3:{port}")]);
        assert_eq!(bind(&two, &[], 1).unwrap().len(), 2);
        let error = bind(&two, &ips(&["198.51.100.7"]), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_empty_list_of_addresses_is_rejected() {
        assert!(bind(&[], &[], 1).is_err());
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind(&addresses(&["127.0.0.1:0"]), &[], 1).unwrap();
        let error = bind(&[first[0].local], &[], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first[0].local.to_string()));
    }
}
