//! The relay over real sockets, with an engine that sends back whatever comes.

mod bounds;

use std::future::Future;
use std::net::Ipv4Addr;

use md5::Digest;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;

use super::doorway::WAITING_DATAGRAMS;
use super::message::{Class, Message, Writer, kind, method};
use super::*;

/// Long enough for anything on this machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A check of ICE, as far as the relay looks at it.
fn check() -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::BINDING, Class::Request, [5; 12])
        .attribute(kind::USERNAME, b"ours:theirs")
        .finish(Some(b"password"));
    bytes
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(datagram.len()).unwrap();
    [&length.to_be_bytes(), datagram].concat()
}

fn config() -> RelayConfig {
    RelayConfig {
        streams: 4,
        streams_per_ip: 3,
        ..RelayConfig::default()
    }
}

/// A relay on loopback, with the UDP socket that it is beside and the engine's end.
struct Place {
    relay: Relay,
    media: SocketAddr,
    /// Keeps its port.
    _socket: std::net::UdpSocket,
    links: UnboundedReceiver<FromLink>,
}

fn place(config: RelayConfig) -> Place {
    let (doorway, links) = Doorway::new();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let media = socket.local_addr().unwrap();
    let beside = MediaSocket {
        local: media,
        any_port: true,
        advertised: vec![media],
    };
    let relay = Relay::start(config, &Secret::ephemeral(), &[beside], doorway).unwrap();
    Place {
        relay,
        media,
        _socket: socket,
        links,
    }
}

/// An engine that answers each datagram with itself, and says what it was told.
fn echoes(mut links: UnboundedReceiver<FromLink>) -> UnboundedReceiver<String> {
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut outlets = HashMap::new();
        while let Some(told) = links.recv().await {
            let text = match told {
                FromLink::Opened { link, outlet } => {
                    assert!(outlets.insert(link, outlet).is_none());
                    "opened".to_owned()
                }
                FromLink::Datagram { link, datagram, .. } => {
                    let text = format!("{} bytes", datagram.len());
                    assert!(outlets[&link].send(datagram));
                    text
                }
                FromLink::Closed { link } => {
                    assert!(outlets.remove(&link).is_some());
                    "closed".to_owned()
                }
            };
            if said.send(text).is_err() {
                return;
            }
        }
    });
    heard
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

async fn told(heard: &mut UnboundedReceiver<String>) -> String {
    soon(heard.recv()).await.unwrap()
}

/// Reads from a connection until it ends; false if it does not.
async fn is_hung_up(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    // Whether it ends well or with a reset is the system's choice.
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .is_ok()
}

/// Waits for what becomes true by another task.
async fn until(what: impl Fn() -> bool) {
    soon(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ice_over_tcp_goes_both_ways_until_the_client_hangs_up() {
    let place = place(config());
    let mut heard = echoes(place.links);
    let mut stream = TcpStream::connect(place.relay.tcp_addresses()[0])
        .await
        .unwrap();
    let check = check();
    // In pieces, as a network may deliver it, and with the next frame behind it.
    let bytes = [framed(&check), framed(&[0x80; 8]), framed(&[0x80; 1200])].concat();
    for piece in bytes.chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&mut heard).await, "opened");
    assert_eq!(told(&mut heard).await, format!("{} bytes", check.len()));
    assert_eq!(told(&mut heard).await, "8 bytes");
    assert_eq!(told(&mut heard).await, "1200 bytes");
    let mut answer = vec![0; bytes.len()];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, bytes);
    assert_eq!(place.relay.stats().ice_tcp, 1);
    drop(stream);
    assert_eq!(told(&mut heard).await, "closed");
    until(|| place.relay.stats() == RelayStats::default()).await;
}

#[tokio::test]
async fn whoever_speaks_something_else_is_hung_up_on() {
    let mut place = place(config());
    let long = [&3000_u16.to_be_bytes()[..], &check()].concat();
    let not_a_check = {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method::BINDING, Class::Success, [5; 12]).finish(None);
        framed(&bytes)
    };
    let then_too_long = [framed(&check()), vec![0xff; 2100]].concat();
    let then_too_short = [framed(&check()), framed(&[0x80; 7])].concat();
    let then_no_turn = {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method::BINDING, Class::Request, [5; 12]).finish(None);
        [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat()
    };
    for wrong in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &long,
        &not_a_check,
        &then_too_long,
        &then_too_short,
        &then_no_turn,
    ] {
        let mut stream = TcpStream::connect(place.relay.tcp_addresses()[0])
            .await
            .unwrap();
        stream.write_all(wrong).await.unwrap();
        assert!(is_hung_up(&mut stream).await, "{wrong:?}");
    }
    until(|| place.relay.stats() == RelayStats::default()).await;
    // Only the two that began well were links, for a while.
    for _ in 0..2 {
        assert!(matches!(
            place.links.try_recv(),
            Ok(FromLink::Opened { .. })
        ));
        assert!(matches!(
            place.links.try_recv(),
            Ok(FromLink::Datagram { .. })
        ));
        assert!(matches!(
            place.links.try_recv(),
            Ok(FromLink::Closed { .. })
        ));
    }
    assert!(place.links.try_recv().is_err());
}

#[tokio::test]
async fn the_engine_hangs_up_by_dropping_the_outlet() {
    let mut place = place(config());
    let mut stream = TcpStream::connect(place.relay.tcp_addresses()[0])
        .await
        .unwrap();
    stream.write_all(&framed(&check())).await.unwrap();
    let Some(FromLink::Opened { outlet, .. }) = soon(place.links.recv()).await else {
        panic!("a link opens first");
    };
    assert!(outlet.send(b"last".to_vec()));
    drop(outlet);
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn connections_end_with_the_engine() {
    let place = place(config());
    let mut stream = TcpStream::connect(place.relay.tcp_addresses()[0])
        .await
        .unwrap();
    stream.write_all(&framed(&check())).await.unwrap();
    until(|| place.relay.stats().ice_tcp == 1).await;
    drop(place.links);
    assert!(is_hung_up(&mut stream).await);
    until(|| place.relay.stats() == RelayStats::default()).await;
    let refused = TcpStream::connect(place.relay.tcp_addresses()[0]).await;
    assert!(refused.is_err(), "the listener ends as well");
}

#[tokio::test]
async fn there_are_no_more_connections_than_there_may_be() {
    let place = place(config());
    let address = place.relay.tcp_addresses()[0];
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    until(|| place.relay.stats().streams == 3).await;
    let mut fourth = TcpStream::connect(address).await.unwrap();
    assert!(is_hung_up(&mut fourth).await, "too many of one address");
    // Others have one place left.
    let elsewhere = |host: u8| SocketAddr::from(([192, 0, 2, host], 5000));
    let (near, far) = duplex(64);
    place.relay.accept(far, elsewhere(1));
    until(|| place.relay.stats().streams == 4).await;
    let (mut late, far) = duplex(64);
    place.relay.accept(far, elsewhere(2));
    assert!(is_hung_up(&mut late).await, "too many of all");
    assert_eq!(place.relay.stats().streams_refused, 2);
    drop((open, near));
    until(|| place.relay.stats().streams == 0).await;
    assert!(place.relay.0.streams.lock().unwrap().by_ip.is_empty());
}

#[tokio::test]
async fn ipv6_addresses_count_by_their_network() {
    let place = place(config());
    let from = |text: &str| {
        place
            .relay
            .0
            .seat(SocketAddr::new(text.parse().unwrap(), 1))
    };
    let seats = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"].map(from);
    assert!(seats.iter().all(Option::is_some));
    assert!(from("2001:db8::4").is_none());
    assert!(from("2001:db8:0:1::4").is_some());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_is_hung_up_on() {
    let place = place(config());
    let began = now();
    let (mut near, far) = duplex(4096);
    place
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(hangs_up(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(10));

    // Half a message is nothing, either.
    let (mut near, far) = duplex(4096);
    near.write_all(&framed(&check())[..30]).await.unwrap();
    let began = now();
    place
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(hangs_up(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(10));

    // After a check that is answered, silence may last a minute.
    let _heard = echoes(place.links);
    let (mut near, far) = duplex(4096);
    near.write_all(&framed(&check())).await.unwrap();
    let began = now();
    place
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(hangs_up(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(60));
}

/// Without a limit of its own: for tests whose time is not real.
async fn hangs_up(stream: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn turn_over_a_stream_without_an_allocation_ends_after_half_a_minute() {
    let place = place(config());
    let (mut near, far) = duplex(4096);
    let began = now();
    place
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::BINDING, Class::Request, [5; 12]).finish(None);
    for _ in 0..5 {
        // Asking where it is does not buy a client more time.
        near.write_all(&bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(hangs_up(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(30));
}

#[tokio::test]
async fn a_client_that_reads_nothing_costs_no_more_than_its_queue() {
    let mut place = place(config());
    let (mut near, far) = duplex(1024);
    place
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    near.write_all(&framed(&check())).await.unwrap();
    let Some(FromLink::Opened { outlet, .. }) = soon(place.links.recv()).await else {
        panic!("a link opens first");
    };
    let mut sent = 0;
    for _ in 0..10 * OUTLET {
        sent += usize::from(outlet.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    // What is in the queue, and what waits to be written.
    assert!((OUTLET..OUTLET + 100).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_flood_from_clients_waits_in_a_bounded_queue() {
    let (doorway, mut links) = Doorway::new();
    let places = || Arc::new(Semaphore::new(2 * WAITING_DATAGRAMS));
    let (of_one, of_other) = (places(), places());
    let delivered = (0..2 * WAITING_DATAGRAMS)
        .filter(|_| doorway.deliver(LinkId(1), &of_one, b"x"))
        .count();
    assert_eq!(delivered, WAITING_DATAGRAMS);
    assert!(!doorway.deliver(LinkId(2), &of_other, b"x"));
    // What found no place among all keeps none of its link either.
    assert_eq!(of_other.available_permits(), 2 * WAITING_DATAGRAMS);
    drop(links.recv().await);
    assert!(doorway.deliver(LinkId(1), &of_one, b"x"));
    assert!(!doorway.deliver(LinkId(1), &of_one, b"x"));
}

/// How a TURN client of the tests speaks.
struct Wire(TcpStream);

impl Wire {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        soon(self.0.read_exact(&mut bytes)).await.unwrap();
        let length = message::length_on_stream(&bytes).unwrap().unwrap();
        bytes.resize(length, 0);
        soon(self.0.read_exact(&mut bytes[4..])).await.unwrap();
        bytes
    }

    /// Makes a request, signed if it is known with what.
    async fn ask(
        &mut self,
        method: u16,
        attributes: &[(u16, &[u8])],
        peer: Option<SocketAddr>,
        signed: Option<&Signed>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, method, Class::Request, [8; 12]);
        for (kind, value) in attributes {
            writer = writer.attribute(*kind, value);
        }
        if let Some(peer) = peer {
            writer = writer.address(kind::XOR_PEER_ADDRESS, peer);
        }
        if let Some(signed) = signed {
            writer = writer
                .attribute(kind::USERNAME, signed.username.as_bytes())
                .attribute(kind::REALM, b"parlor")
                .attribute(kind::NONCE, signed.nonce.as_bytes());
        }
        writer.finish(signed.map(|signed| &signed.key[..]));
        self.send(&bytes).await;
        self.receive().await
    }
}

/// What requests are signed with.
struct Signed {
    username: String,
    nonce: String,
    key: Vec<u8>,
}

/// A client goes through everything that TURN has.
async fn turn_works(mut wire: Wire, here: SocketAddr, place: Place) {
    let media = place.media;
    let mut heard = echoes(place.links);
    let wants = (kind::REQUESTED_TRANSPORT, &[17, 0, 0, 0][..]);
    let challenge = wire.ask(method::ALLOCATE, &[wants], None, None).await;
    let nonce = Message::read(&challenge).unwrap().text(kind::NONCE);
    let issued = place.relay.credentials(now(), "ada");
    let password = format!("{}:parlor:{}", issued.username, issued.password);
    let signed = Signed {
        nonce: nonce.unwrap().to_owned(),
        key: md5::Md5::digest(password).to_vec(),
        username: issued.username,
    };
    let signed = Some(&signed);

    let allocated = wire.ask(method::ALLOCATE, &[wants], None, signed).await;
    let allocated = Message::read(&allocated).unwrap();
    assert_eq!(allocated.class, Class::Success);
    let mapped = allocated.addresses(kind::XOR_MAPPED_ADDRESS).next();
    assert_eq!(mapped, Some(Some(here)));
    assert_eq!(place.relay.stats().allocations, 1);

    let succeeded = |answer: Vec<u8>| Message::read(&answer).unwrap().class == Class::Success;
    let peer = Some(media);
    let permitted = wire.ask(method::CREATE_PERMISSION, &[], peer, signed);
    assert!(succeeded(permitted.await));
    let check = check();
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::SEND, Class::Indication, [9; 12])
        .address(kind::XOR_PEER_ADDRESS, media)
        .attribute(kind::DATA, &check)
        .finish(None);
    wire.send(&bytes).await;
    assert_eq!(told(&mut heard).await, "opened");
    assert_eq!(told(&mut heard).await, format!("{} bytes", check.len()));
    let came = wire.receive().await;
    let came = Message::read(&came).unwrap();
    assert_eq!(came.method, method::DATA);
    assert_eq!(came.attribute(kind::DATA), Some(&check[..]));
    assert_eq!(
        came.addresses(kind::XOR_PEER_ADDRESS).next(),
        Some(Some(media))
    );

    let channel = [(kind::CHANNEL_NUMBER, &[0x40, 0x07, 0, 0][..])];
    let bound = wire.ask(method::CHANNEL_BIND, &channel, peer, signed);
    assert!(succeeded(bound.await));
    wire.send(b"\x40\x07\x00\x05media\0\0\0").await;
    assert_eq!(told(&mut heard).await, "5 bytes");
    let came = wire.receive().await;
    assert_eq!(came[..9], *b"\x40\x07\x00\x05media");

    let over = (kind::LIFETIME, &[0, 0, 0, 0][..]);
    assert!(succeeded(
        wire.ask(method::REFRESH, &[over], None, signed).await
    ));
    assert_eq!(told(&mut heard).await, "closed");
    assert_eq!(place.relay.stats().allocations, 0);

    // The same client may come again.
    let mut again = Vec::new();
    soon(async {
        while again.first().is_none_or(|class| *class != 1) {
            again = wire.ask(method::ALLOCATE, &[wants], None, signed).await;
        }
    })
    .await;
    assert_eq!(place.relay.stats().allocations, 1);
}

#[tokio::test]
async fn turn_works_over_tcp() {
    let place = place(config());
    let stream = TcpStream::connect(place.relay.tcp_addresses()[0]).await;
    let stream = stream.unwrap();
    let (here, relay) = (stream.local_addr().unwrap(), place.relay.clone());
    turn_works(Wire(stream), here, place).await;
    // Hanging up frees the allocation.
    until(|| relay.stats() == RelayStats::default()).await;
}

#[test]
fn a_connection_is_told_by_its_first_bytes() {
    let mut allocate = Vec::new();
    Writer::new(&mut allocate, method::ALLOCATE, Class::Request, [5; 12]).finish(None);
    let known_at = |bytes: &[u8]| {
        (0..=bytes.len())
            .find_map(|length| Some((length, Relay::takes(&bytes[..length])?)))
            .unwrap()
    };
    assert_eq!(known_at(&allocate), (8, true));
    assert_eq!(known_at(&framed(&check())), (10, true));
    for request in ["GET / HTTP/1.1", "POST /", "PRI * HTTP/2.0", "\r\n"] {
        assert_eq!(known_at(request.as_bytes()), (1, false), "{request:?}");
    }
    assert_eq!(known_at(b"\x16\x03\x01"), (1, false));
}

#[test]
fn tcp_is_told_where_udp_is_told() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let socket = |local, advertised: &[&str]| MediaSocket {
        local: address(local),
        any_port: false,
        advertised: advertised.iter().map(|text| address(text)).collect(),
    };
    let behind_nat = [socket("0.0.0.0:8789", &["198.51.100.7:8789"])];
    let told = advertised(address("10.0.0.5:443"), &behind_nat);
    assert_eq!(told, [address("198.51.100.7:443")]);
    let two = [
        socket("192.0.2.1:8789", &["192.0.2.1:8789"]),
        socket("192.0.2.2:8789", &["192.0.2.2:8789"]),
        socket("[::]:8789", &["[2001:db8::1]:8789"]),
    ];
    let told = advertised(address("192.0.2.2:8789"), &two);
    assert_eq!(told, [address("192.0.2.2:8789")]);
    let told = advertised(address("0.0.0.0:443"), &two);
    assert_eq!(told, [address("192.0.2.1:443"), address("192.0.2.2:443")]);
    let told = advertised(address("[::]:8789"), &two);
    assert_eq!(told, [address("[2001:db8::1]:8789")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_connection_of_any_bytes_ends_without_harm(
        kind in 0..3_u8,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (doorway, mut links) = Doorway::new();
            let media = MediaSocket {
                local: SocketAddr::from(([127, 0, 0, 1], 0)),
                any_port: true,
                advertised: vec![],
            };
            let config = RelayConfig { listen: Some(vec![]), ..config() };
            let relay = Relay::start(config, &Secret::ephemeral(), &[media], doorway).unwrap();
            let (mut near, far) = duplex(256);
            relay.accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
            let beginning = match kind {
                0 => framed(&check()),
                1 => check(),
                _ => Vec::new(),
            };
            // Writing fails when it has been hung up on.
            let _ = near.write_all(&beginning).await;
            for piece in &pieces {
                let _ = near.write_all(piece).await;
            }
            drop(near);
            until(|| relay.stats().streams == 0).await;
            let (mut opened, mut closed) = (0, 0);
            while let Ok(told) = links.try_recv() {
                match told {
                    FromLink::Opened { .. } => opened += 1,
                    FromLink::Closed { .. } => closed += 1,
                    FromLink::Datagram { .. } => assert!(opened > closed),
                }
            }
            assert_eq!(opened, closed);
            assert!(opened <= 1);
        });
    }
}
