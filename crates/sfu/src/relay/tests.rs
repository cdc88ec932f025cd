//! Tests of the relay over real sockets, with an engine that echoes all datagrams.

mod bounds;

use std::future::Future;
use std::net::Ipv4Addr;

use md5::Digest;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;

use super::link::MAX_QUEUED;
use super::message::{Class, Message, Writer, kind, method};
use super::*;

/// Timeout for operations that are expected to succeed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An ICE connectivity check, as far as the relay inspects it.
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

/// A relay on loopback, the UDP socket whose address it shares, and the engine's half of the queue.
struct Fixture {
    relay: Relay,
    media: SocketAddr,
    /// Keeps the port in use.
    _socket: std::net::UdpSocket,
    links: UnboundedReceiver<LinkEvent>,
}

fn fixture(config: RelayConfig) -> Fixture {
    let (link_events, links) = LinkEvents::new();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let media = socket.local_addr().unwrap();
    let media_socket = MediaSocket {
        local: media,
        any_port: true,
        advertised: vec![media],
    };
    let relay = Relay::start(config, &Secret::ephemeral(), &[media_socket], link_events).unwrap();
    Fixture {
        relay,
        media,
        _socket: socket,
        links,
    }
}

/// Spawns an engine that echoes each datagram. Returns a log of the events that it received.
fn echo_engine(mut links: UnboundedReceiver<LinkEvent>) -> UnboundedReceiver<String> {
    let (log, events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut senders = HashMap::new();
        while let Some(event) = links.recv().await {
            let text = match event {
                LinkEvent::Opened { link, sender } => {
                    assert!(senders.insert(link, sender).is_none());
                    "opened".to_owned()
                }
                LinkEvent::Datagram { link, datagram, .. } => {
                    let text = format!("{} bytes", datagram.len());
                    assert!(senders[&link].send(datagram));
                    text
                }
                LinkEvent::Closed { link } => {
                    assert!(senders.remove(&link).is_some());
                    "closed".to_owned()
                }
            };
            if log.send(text).is_err() {
                return;
            }
        }
    });
    events
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, future).await.expect("timed out")
}

async fn next_event(events: &mut UnboundedReceiver<String>) -> String {
    soon(events.recv()).await.unwrap()
}

/// Reads from a connection until it is closed. Returns `false` on a timeout.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    // The system may report a reset instead of an orderly end.
    timeout(TIMEOUT, stream.read_to_end(&mut rest))
        .await
        .is_ok()
}

/// Waits until a condition is met.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn ice_over_tcp_carries_datagrams_both_ways_until_the_client_disconnects() {
    let fixture = fixture(config());
    let mut events = echo_engine(fixture.links);
    let mut stream = TcpStream::connect(fixture.relay.tcp_addresses()[0])
        .await
        .unwrap();
    let check = check();
    // Send in small pieces, as a network may deliver them, across frame boundaries.
    let bytes = [framed(&check), framed(&[0x80; 8]), framed(&[0x80; 1200])].concat();
    for piece in bytes.chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(next_event(&mut events).await, "opened");
    assert_eq!(
        next_event(&mut events).await,
        format!("{} bytes", check.len())
    );
    assert_eq!(next_event(&mut events).await, "8 bytes");
    assert_eq!(next_event(&mut events).await, "1200 bytes");
    let mut echo = vec![0; bytes.len()];
    soon(stream.read_exact(&mut echo)).await.unwrap();
    assert_eq!(echo, bytes);
    assert_eq!(fixture.relay.stats().ice_tcp, 1);
    drop(stream);
    assert_eq!(next_event(&mut events).await, "closed");
    until(|| fixture.relay.stats() == RelayStats::default()).await;
}

#[tokio::test]
async fn connections_of_other_protocols_are_closed() {
    let mut fixture = fixture(config());
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
        let mut stream = TcpStream::connect(fixture.relay.tcp_addresses()[0])
            .await
            .unwrap();
        stream.write_all(wrong).await.unwrap();
        assert!(is_closed(&mut stream).await, "{wrong:?}");
    }
    until(|| fixture.relay.stats() == RelayStats::default()).await;
    // Only the two connections with a valid first frame opened a link.
    for _ in 0..2 {
        assert!(matches!(
            fixture.links.try_recv(),
            Ok(LinkEvent::Opened { .. })
        ));
        assert!(matches!(
            fixture.links.try_recv(),
            Ok(LinkEvent::Datagram { .. })
        ));
        assert!(matches!(
            fixture.links.try_recv(),
            Ok(LinkEvent::Closed { .. })
        ));
    }
    assert!(fixture.links.try_recv().is_err());
}

#[tokio::test]
async fn the_engine_closes_a_connection_by_dropping_the_sender() {
    let mut fixture = fixture(config());
    let mut stream = TcpStream::connect(fixture.relay.tcp_addresses()[0])
        .await
        .unwrap();
    stream.write_all(&framed(&check())).await.unwrap();
    let Some(LinkEvent::Opened { sender, .. }) = soon(fixture.links.recv()).await else {
        panic!("expected the link to open first");
    };
    assert!(sender.send(b"last".to_vec()));
    drop(sender);
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn connections_close_when_the_engine_stops() {
    let fixture = fixture(config());
    let mut stream = TcpStream::connect(fixture.relay.tcp_addresses()[0])
        .await
        .unwrap();
    stream.write_all(&framed(&check())).await.unwrap();
    until(|| fixture.relay.stats().ice_tcp == 1).await;
    drop(fixture.links);
    assert!(is_closed(&mut stream).await);
    until(|| fixture.relay.stats() == RelayStats::default()).await;
    let refused = TcpStream::connect(fixture.relay.tcp_addresses()[0]).await;
    assert!(refused.is_err(), "the listener is closed as well");
}

#[tokio::test]
async fn the_number_of_connections_is_limited() {
    let fixture = fixture(config());
    let address = fixture.relay.tcp_addresses()[0];
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(address).await.unwrap());
    }
    until(|| fixture.relay.stats().streams == 3).await;
    let mut fourth = TcpStream::connect(address).await.unwrap();
    assert!(is_closed(&mut fourth).await, "too many from one address");
    // Other addresses can open one more.
    let other_address = |host: u8| SocketAddr::from(([192, 0, 2, host], 5000));
    let (near, far) = duplex(64);
    fixture.relay.accept(far, other_address(1));
    until(|| fixture.relay.stats().streams == 4).await;
    let (mut late, far) = duplex(64);
    fixture.relay.accept(far, other_address(2));
    assert!(is_closed(&mut late).await, "too many in total");
    assert_eq!(fixture.relay.stats().streams_refused, 2);
    drop((open, near));
    until(|| fixture.relay.stats().streams == 0).await;
    assert!(fixture.relay.0.streams.lock().unwrap().by_ip.is_empty());
}

#[tokio::test]
async fn ipv6_addresses_count_by_their_network() {
    let fixture = fixture(config());
    let from = |text: &str| {
        fixture
            .relay
            .0
            .acquire_stream(SocketAddr::new(text.parse().unwrap(), 1))
    };
    let permits = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"].map(from);
    assert!(permits.iter().all(Option::is_some));
    assert!(from("2001:db8::4").is_none());
    assert!(from("2001:db8:0:1::4").is_some());
}

#[tokio::test(start_paused = true)]
async fn silent_connections_are_closed() {
    let fixture = fixture(config());
    let began = now();
    let (mut near, far) = duplex(4096);
    fixture
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(ends(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(10));

    // An incomplete message does not count.
    let (mut near, far) = duplex(4096);
    near.write_all(&framed(&check())[..30]).await.unwrap();
    let began = now();
    fixture
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(ends(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(10));

    // After an answered check, the idle timeout is a minute.
    let _events = echo_engine(fixture.links);
    let (mut near, far) = duplex(4096);
    near.write_all(&framed(&check())).await.unwrap();
    let began = now();
    fixture
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    assert!(ends(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(60));
}

/// Like [`is_closed`], but without a timeout, for tests with simulated time.
async fn ends(stream: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_turn_connection_without_an_allocation_is_closed_after_half_a_minute() {
    let fixture = fixture(config());
    let (mut near, far) = duplex(4096);
    let began = now();
    fixture
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::BINDING, Class::Request, [5; 12]).finish(None);
    for _ in 0..5 {
        // Binding requests do not extend the deadline.
        near.write_all(&bytes).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(ends(&mut near).await);
    assert_eq!(now() - began, Duration::from_secs(30));
}

#[tokio::test]
async fn the_memory_for_a_client_that_reads_nothing_is_bounded() {
    let mut fixture = fixture(config());
    let (mut near, far) = duplex(1024);
    fixture
        .relay
        .accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
    near.write_all(&framed(&check())).await.unwrap();
    let Some(LinkEvent::Opened { sender, .. }) = soon(fixture.links.recv()).await else {
        panic!("expected the link to open first");
    };
    let mut sent = 0;
    for _ in 0..10 * LINK_QUEUE {
        sent += usize::from(sender.send(vec![0; 1200]));
        tokio::task::yield_now().await;
    }
    // The queue, and the datagrams in the write buffer.
    assert!((LINK_QUEUE..LINK_QUEUE + 100).contains(&sent), "{sent}");
}

#[tokio::test]
async fn the_queue_to_the_engine_is_bounded() {
    let (link_events, mut links) = LinkEvents::new();
    let permits = || Arc::new(Semaphore::new(2 * MAX_QUEUED));
    let (of_one, of_other) = (permits(), permits());
    let delivered = (0..2 * MAX_QUEUED)
        .filter(|_| link_events.deliver(LinkId(1), &of_one, b"x"))
        .count();
    assert_eq!(delivered, MAX_QUEUED);
    assert!(!link_events.deliver(LinkId(2), &of_other, b"x"));
    // A datagram that is dropped because of the total limit releases the permit of its link.
    assert_eq!(of_other.available_permits(), 2 * MAX_QUEUED);
    drop(links.recv().await);
    assert!(link_events.deliver(LinkId(1), &of_one, b"x"));
    assert!(!link_events.deliver(LinkId(1), &of_one, b"x"));
}

/// A TURN client for tests.
struct TurnClient(TcpStream);

impl TurnClient {
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

    /// Sends a request and returns the response. Signs the request if there are credentials.
    async fn request(
        &mut self,
        method: u16,
        attributes: &[(u16, &[u8])],
        peer: Option<SocketAddr>,
        auth: Option<&Auth>,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, method, Class::Request, [8; 12]);
        for (kind, value) in attributes {
            writer = writer.attribute(*kind, value);
        }
        if let Some(peer) = peer {
            writer = writer.address(kind::XOR_PEER_ADDRESS, peer);
        }
        if let Some(auth) = auth {
            writer = writer
                .attribute(kind::USERNAME, auth.username.as_bytes())
                .attribute(kind::REALM, b"parlor")
                .attribute(kind::NONCE, auth.nonce.as_bytes());
        }
        writer.finish(auth.map(|auth| &auth.key[..]));
        self.send(&bytes).await;
        self.receive().await
    }
}

/// The credentials of a request.
struct Auth {
    username: String,
    nonce: String,
    key: Vec<u8>,
}

/// Exercises all features of TURN.
async fn turn_works(mut client: TurnClient, local: SocketAddr, fixture: Fixture) {
    let media = fixture.media;
    let mut events = echo_engine(fixture.links);
    let udp = (kind::REQUESTED_TRANSPORT, &[17, 0, 0, 0][..]);
    let challenge = client.request(method::ALLOCATE, &[udp], None, None).await;
    let nonce = Message::parse(&challenge).unwrap().text(kind::NONCE);
    let issued = fixture.relay.credentials(now(), "ada");
    let password = format!("{}:parlor:{}", issued.username, issued.password);
    let auth = Auth {
        nonce: nonce.unwrap().to_owned(),
        key: md5::Md5::digest(password).to_vec(),
        username: issued.username,
    };
    let auth = Some(&auth);

    let allocated = client.request(method::ALLOCATE, &[udp], None, auth).await;
    let allocated = Message::parse(&allocated).unwrap();
    assert_eq!(allocated.class, Class::Success);
    let mapped = allocated.addresses(kind::XOR_MAPPED_ADDRESS).next();
    assert_eq!(mapped, Some(Some(local)));
    assert_eq!(fixture.relay.stats().allocations, 1);

    let succeeded = |response: Vec<u8>| Message::parse(&response).unwrap().class == Class::Success;
    let peer = Some(media);
    let permitted = client.request(method::CREATE_PERMISSION, &[], peer, auth);
    assert!(succeeded(permitted.await));
    let check = check();
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::SEND, Class::Indication, [9; 12])
        .address(kind::XOR_PEER_ADDRESS, media)
        .attribute(kind::DATA, &check)
        .finish(None);
    client.send(&bytes).await;
    assert_eq!(next_event(&mut events).await, "opened");
    assert_eq!(
        next_event(&mut events).await,
        format!("{} bytes", check.len())
    );
    let received = client.receive().await;
    let received = Message::parse(&received).unwrap();
    assert_eq!(received.method, method::DATA);
    assert_eq!(received.attribute(kind::DATA), Some(&check[..]));
    assert_eq!(
        received.addresses(kind::XOR_PEER_ADDRESS).next(),
        Some(Some(media))
    );

    let channel = [(kind::CHANNEL_NUMBER, &[0x40, 0x07, 0, 0][..])];
    let bound = client.request(method::CHANNEL_BIND, &channel, peer, auth);
    assert!(succeeded(bound.await));
    client.send(b"\x40\x07\x00\x05media\0\0\0").await;
    assert_eq!(next_event(&mut events).await, "5 bytes");
    let received = client.receive().await;
    assert_eq!(received[..9], *b"\x40\x07\x00\x05media");

    let zero_lifetime = (kind::LIFETIME, &[0, 0, 0, 0][..]);
    assert!(succeeded(
        client
            .request(method::REFRESH, &[zero_lifetime], None, auth)
            .await
    ));
    assert_eq!(next_event(&mut events).await, "closed");
    assert_eq!(fixture.relay.stats().allocations, 0);

    // The same client may allocate again.
    let mut response = Vec::new();
    soon(async {
        while response.first().is_none_or(|class| *class != 1) {
            response = client.request(method::ALLOCATE, &[udp], None, auth).await;
        }
    })
    .await;
    assert_eq!(fixture.relay.stats().allocations, 1);
}

#[tokio::test]
async fn turn_works_over_tcp() {
    let fixture = fixture(config());
    let stream = TcpStream::connect(fixture.relay.tcp_addresses()[0]).await;
    let stream = stream.unwrap();
    let (local, relay) = (stream.local_addr().unwrap(), fixture.relay.clone());
    turn_works(TurnClient(stream), local, fixture).await;
    // Disconnecting frees the allocation.
    until(|| relay.stats() == RelayStats::default()).await;
}

#[test]
fn the_protocol_is_detected_from_the_first_bytes() {
    let mut allocate = Vec::new();
    Writer::new(&mut allocate, method::ALLOCATE, Class::Request, [5; 12]).finish(None);
    let detected = |bytes: &[u8]| {
        (0..=bytes.len())
            .find_map(|length| Some((length, Relay::recognizes(&bytes[..length])?)))
            .unwrap()
    };
    assert_eq!(detected(&allocate), (8, true));
    assert_eq!(detected(&framed(&check())), (10, true));
    for request in ["GET / HTTP/1.1", "POST /", "PRI * HTTP/2.0", "\r\n"] {
        assert_eq!(detected(request.as_bytes()), (1, false), "{request:?}");
    }
    assert_eq!(detected(b"\x16\x03\x01"), (1, false));
}

#[test]
fn tcp_is_advertised_at_the_addresses_of_udp() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let socket = |local, advertised: &[&str]| MediaSocket {
        local: address(local),
        any_port: false,
        advertised: advertised.iter().map(|text| address(text)).collect(),
    };
    let behind_nat = [socket("0.0.0.0:8789", &["198.51.100.7:8789"])];
    let addresses = advertised(address("10.0.0.5:443"), &behind_nat);
    assert_eq!(addresses, [address("198.51.100.7:443")]);
    let two = [
        socket("192.0.2.1:8789", &["192.0.2.1:8789"]),
        socket("192.0.2.2:8789", &["192.0.2.2:8789"]),
        socket("[::]:8789", &["[2001:db8::1]:8789"]),
    ];
    let addresses = advertised(address("192.0.2.2:8789"), &two);
    assert_eq!(addresses, [address("192.0.2.2:8789")]);
    let addresses = advertised(address("0.0.0.0:443"), &two);
    assert_eq!(
        addresses,
        [address("192.0.2.1:443"), address("192.0.2.2:443")]
    );
    let addresses = advertised(address("[::]:8789"), &two);
    assert_eq!(addresses, [address("[2001:db8::1]:8789")]);
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
            let (link_events, mut links) = LinkEvents::new();
            let media = MediaSocket {
                local: SocketAddr::from(([127, 0, 0, 1], 0)),
                any_port: true,
                advertised: vec![],
            };
            let config = RelayConfig { listen: Some(vec![]), ..config() };
            let relay = Relay::start(config, &Secret::ephemeral(), &[media], link_events).unwrap();
            let (mut near, far) = duplex(256);
            relay.accept(far, SocketAddr::from(([192, 0, 2, 1], 1)));
            let prefix = match kind {
                0 => framed(&check()),
                1 => check(),
                _ => Vec::new(),
            };
            // Writing fails once the relay has closed the connection.
            let _ = near.write_all(&prefix).await;
            for piece in &pieces {
                let _ = near.write_all(piece).await;
            }
            drop(near);
            until(|| relay.stats().streams == 0).await;
            let (mut opened, mut closed) = (0, 0);
            while let Ok(event) = links.try_recv() {
                match event {
                    LinkEvent::Opened { .. } => opened += 1,
                    LinkEvent::Closed { .. } => closed += 1,
                    LinkEvent::Datagram { .. } => assert!(opened > closed),
                }
            }
            assert_eq!(opened, closed);
            assert!(opened <= 1);
        });
    }
}
