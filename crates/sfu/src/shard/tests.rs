//! Tests of the threads over real UDP on the loopback interface.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tokio::runtime;
use uuid::Uuid;

use crate::client::{Client, OutgoingPacket};
use crate::{
    Config, ConsumeRequest, Direction, Error, Media, Member, Opened, Owner, Produce, Secret,
    Source, Stats,
};

const TIMEOUT: Duration = Duration::from_secs(20);

mod panics;

fn config() -> Config {
    Config {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        public: Vec::new(),
        relay: None,
        threads: 2,
        max_transports: 10,
        shares: crate::Shares::default(),
        max_consumers: 10,
        connect_timeout: Duration::from_secs(60),
        secret: Secret::ephemeral(),
    }
}

/// A member of a meeting. Meetings with even and odd numbers are on different threads.
fn member(meeting: u128, peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(meeting)),
        peer: PeerId::from_uuid(Uuid::from_u128(peer)),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

/// Opens a transport for a member whose owner has no other client.
fn open(
    media: &Media,
    member: Member,
    direction: Direction,
    offer: String,
) -> impl Future<Output = Result<Opened, Error>> + use<> {
    media.open(Owner::alone(member), member, direction, offer)
}

/// Waits until the statistics meet a condition.
fn until(condition: &str, media: &Media, is_met: impl Fn(Stats) -> bool) {
    let start = Instant::now();
    while !is_met(media.stats()) {
        assert!(
            start.elapsed() < TIMEOUT,
            "{condition}: {:?}",
            media.stats()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client with its own UDP socket.
struct UdpClient {
    client: Client,
    socket: UdpSocket,
}

impl UdpClient {
    fn new(direction: Direction) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (now, address) = (Instant::now(), socket.local_addr().unwrap());
        let client = match direction {
            Direction::Publish => Client::new(now, address),
            Direction::Receive => Client::receiving(now, address),
        };
        Self { client, socket }
    }

    fn open(media: &Media, member: Member, direction: Direction) -> (Self, Opened) {
        let mut this = Self::new(direction);
        let opened = wait(open(
            media,
            member,
            direction,
            this.client.offer().to_owned(),
        ))
        .unwrap();
        this.client.accept(&opened.answer);
        (this, opened)
    }

    /// Sends all pending datagrams and receives at most one.
    fn drive(&mut self) {
        let (sent, wakes) = self.client.poll();
        for (destination, datagram) in sent {
            self.socket.send_to(&datagram, destination).unwrap();
        }
        let pause = wakes.saturating_duration_since(Instant::now());
        let pause = pause.clamp(Duration::from_millis(1), Duration::from_millis(5));
        self.socket.set_read_timeout(Some(pause)).unwrap();
        let mut buffer = [0; 2048];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, source)) => {
                let now = Instant::now();
                self.client.receive(now, source, &buffer[..length]);
            }
            Err(_) => self.client.timeout(Instant::now()),
        }
    }

    /// Drives the client until both sides are connected.
    fn connect(&mut self, media: &Media, connected: u64) {
        let start = Instant::now();
        while !self.client.is_connected() || media.stats().connected_transports < connected {
            assert!(start.elapsed() < TIMEOUT, "{:?}", media.stats());
            self.drive();
        }
    }
}

#[test]
fn a_client_connects_both_ways_and_is_counted() {
    let (media, thread) = Media::start(&config()).unwrap();
    let ada = member(1, 1);
    let (mut publish, opened) = UdpClient::open(&media, ada, Direction::Publish);
    assert_eq!(media.stats().open_transports, 1);
    let port = format!(" {} typ host", media.local_addrs()[0].port());
    assert!(opened.answer.contains(&port), "{}", opened.answer);
    let (mut receive, _) = UdpClient::open(&media, ada, Direction::Receive);
    assert_eq!(media.stats().open_transports, 2);
    publish.connect(&media, 1);
    receive.connect(&media, 2);

    let before = media.stats();
    assert!(before.datagrams_in > 0 && before.datagrams_out > 0);
    let home = media.local_addrs()[0];
    publish.socket.send_to(b"hello", home).unwrap();
    until("dropped", &media, |stats| {
        stats.datagrams_dropped > before.datagrams_dropped
    });

    media.close(ada, false);
    until("closed", &media, |stats| stats.open_transports == 0);
    assert_eq!(media.stats().connected_transports, 0);
    media.clone().stop();
    thread.join().unwrap();
    let offer = publish.client.offer().to_owned();
    let late = wait(open(&media, ada, Direction::Publish, offer));
    assert_eq!(late, Err(Error::Stopped));
    media.close(ada, false);
}

#[test]
fn an_unadmitted_client_on_one_thread_is_evicted_for_an_admitted_one_on_another() {
    let config = Config {
        max_transports: 2,
        ..config()
    };
    let (media, thread) = Media::start(&config).unwrap();
    let outside = |member| Owner {
        admitted: false,
        ..Owner::alone(member)
    };
    let offer = || UdpClient::new(Direction::Publish).client.offer().to_owned();
    let open = |owner, member| media.open(owner, member, Direction::Publish, offer());
    let [waiting, entering, inside, other] =
        [(2, 1), (2, 2), (3, 3), (3, 4)].map(|(m, p)| member(m, p));
    assert!(wait(open(outside(waiting), waiting)).is_ok());
    // The client is admitted before its offer is parsed.
    let opening = open(outside(entering), entering);
    media.admit(entering);
    assert!(wait(opening).is_ok());
    assert_eq!(wait(open(Owner::alone(inside), inside)).map(|_| ()), Ok(()));
    assert_eq!(wait(media.report(waiting)), None);
    assert!(wait(media.report(entering)).is_some());
    assert_eq!(
        wait(open(Owner::alone(other), other)).map(|_| ()),
        Err(Error::Full)
    );
    assert_eq!(media.stats().refused, [0, 0, 0, 1]);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn audio_is_forwarded_on_every_thread() {
    let (media, thread) = Media::start(&config()).unwrap();
    for meeting in [2, 3] {
        let [ada, ben] = [member(meeting, 1), member(meeting, 2)];
        let (mut publish, published) = UdpClient::open(&media, ada, Direction::Publish);
        let (mut receive, received) = UdpClient::open(&media, ben, Direction::Receive);
        let connected = media.stats().connected_transports;
        publish.connect(&media, connected + 1);
        receive.connect(&media, connected + 2);

        let (mid, offer) = publish.client.offer_track(true, &[]);
        let producer = ProducerId::from_uuid(Uuid::from_u128(meeting));
        let produce = Produce {
            transport: published.transport_id,
            producer,
            mid: mid.clone(),
            source: Source::Microphone,
            paused: false,
            offer,
        };
        let answer = wait(media.produce(ada, produce)).unwrap();
        publish.client.accept(&answer);
        let request = ConsumeRequest {
            producer,
            publisher: ada.peer,
            preferred_rid: None,
        };
        let transport = received.transport_id;
        let consumed = wait(media.consume(ben, transport.clone(), vec![request])).unwrap();
        let answer = receive.client.answer(&consumed.offer.unwrap());
        wait(media.apply_answer(ben, transport, answer)).unwrap();
        assert_eq!((media.stats().producers, media.stats().consumers), (1, 1));

        let start = Instant::now();
        for index in 0.. {
            assert!(start.elapsed() < TIMEOUT, "{:?}", media.stats());
            let packet = OutgoingPacket {
                index,
                timestamp: u32::try_from(index).unwrap() * 960,
                marker: false,
                level: Some(-20),
                payload: vec![7; 60],
            };
            publish.client.send(Instant::now(), &mid, None, &packet);
            publish.drive();
            receive.drive();
            if receive.client.received.len() >= 20 {
                break;
            }
        }
        assert!(
            receive
                .client
                .received
                .iter()
                .all(|packet| *packet.payload == [7; 60])
        );
        let report = wait(media.report(ben)).unwrap().receive.unwrap();
        assert_eq!(report.protocol, "udp");
        assert!(report.tracks[0].packets >= 20);
        media.close(ada, false);
        until("ended", &media, |stats| {
            stats.producers + stats.consumers == 0
        });
    }
    media.stop();
    thread.join().unwrap();
}

#[test]
fn a_client_connects_through_a_discovered_address() {
    let bind = vec!["0.0.0.0:0".parse().unwrap()];
    let (media, thread) = Media::start(&Config { bind, ..config() }).unwrap();
    let (mut client, _) = UdpClient::open(&media, member(1, 1), Direction::Publish);
    client.connect(&media, 1);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn a_transport_that_never_connects_is_freed() {
    let connect_timeout = Duration::from_millis(50);
    let (media, _thread) = Media::start(&Config {
        connect_timeout,
        ..config()
    })
    .unwrap();
    UdpClient::open(&media, member(1, 1), Direction::Publish);
    until("freed", &media, |stats| stats.open_transports == 0);
}

#[test]
fn requests_take_effect_in_call_order() {
    let (media, _thread) = Media::start(&config()).unwrap();
    let offer = UdpClient::new(Direction::Publish).client.offer().to_owned();
    let ada = member(1, 1);
    let open_one = || open(&media, ada, Direction::Publish, offer.clone());
    for _ in 0..20 {
        let opening = open_one();
        media.close(ada, false);
        assert_eq!(wait(opening), Err(Error::Stopped));
        let (older, newer) = (open_one(), open_one());
        assert_eq!(wait(older), Err(Error::Stopped));
        assert!(wait(newer).is_ok());
        media.close(ada, false);
        until("closed", &media, |stats| stats.open_transports == 0);
    }
}

#[test]
fn bad_offers_and_a_full_media_plane_are_errors() {
    let (media, thread) = Media::start(&config()).unwrap();
    let open_one = |meeting, peer, offer: String| {
        wait(open(
            &media,
            member(meeting, peer),
            Direction::Publish,
            offer,
        ))
    };
    for offer in [String::new(), "x".repeat(600 * 1024)] {
        assert!(matches!(open_one(1, 1, offer), Err(Error::BadOffer(_))));
    }
    let offer = UdpClient::new(Direction::Publish).client.offer().to_owned();
    // The limit applies to all threads together.
    for peer in 0..10 {
        assert!(open_one(peer, peer, offer.clone()).is_ok());
    }
    assert_eq!(open_one(20, 20, offer.clone()), Err(Error::Full));
    media.close(member(3, 3), false);
    until("closed", &media, |stats| stats.open_transports == 9);
    assert!(open_one(20, 20, offer).is_ok());
    drop(media);
    thread.join().unwrap();
}

#[test]
fn a_dropped_request_opens_no_transport() {
    let (media, thread) = Media::start(&config()).unwrap();
    let offer = UdpClient::new(Direction::Publish).client.offer().to_owned();
    let open_one = |peer| open(&media, member(1, peer), Direction::Publish, offer.clone());
    // Whether the drop wins the race depends on timing, so try repeatedly.
    let skipped = (0..50).any(|_| {
        let ahead = open_one(2);
        drop(open_one(1));
        wait(ahead).unwrap();
        wait(open_one(2)).unwrap();
        let count = media.stats().open_transports;
        media.close(member(1, 1), false);
        count == 1
    });
    assert!(skipped);
    media.stop();
    thread.join().unwrap();
}
