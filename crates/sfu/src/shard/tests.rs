//! The thread, over real UDP on the loopback interface.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId};
use tokio::runtime;
use uuid::Uuid;

use crate::client::Client;
use crate::{Config, Direction, Error, Media, Member, Opened, Stats};

const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config {
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        public: Vec::new(),
        max_transports: 10,
        connect_timeout: Duration::from_secs(60),
    }
}

fn member(peer: u128) -> Member {
    Member {
        meeting: MeetingId::from_uuid(Uuid::from_u128(1)),
        peer: PeerId::from_uuid(Uuid::from_u128(peer)),
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn until(what: &str, media: &Media, reached: impl Fn(Stats) -> bool) {
    let start = Instant::now();
    while !reached(media.stats()) {
        assert!(start.elapsed() < PATIENCE, "{what}: {:?}", media.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A client on a socket of its own.
struct Guest {
    client: Client,
    socket: UdpSocket,
}

impl Guest {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = Client::new(Instant::now(), socket.local_addr().unwrap());
        Self { client, socket }
    }

    fn open(&mut self, media: &Media, member: Member, direction: Direction) -> Opened {
        let opened = wait(media.open(member, direction, self.client.offer().to_owned())).unwrap();
        self.client.accept(&opened.answer);
        opened
    }

    /// Talks until both sides say that they are connected.
    fn connect(&mut self, media: &Media, connected: u64) {
        let start = Instant::now();
        while !self.client.is_connected() || media.stats().connected_transports < connected {
            assert!(start.elapsed() < PATIENCE, "{:?}", media.stats());
            let (sent, wakes) = self.client.poll();
            for (destination, datagram) in sent {
                self.socket.send_to(&datagram, destination).unwrap();
            }
            let pause = wakes.saturating_duration_since(Instant::now());
            let pause = pause.clamp(Duration::from_millis(1), Duration::from_millis(20));
            self.socket.set_read_timeout(Some(pause)).unwrap();
            let mut buffer = [0; 2048];
            match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => {
                    self.client
                        .receive(Instant::now(), source, &buffer[..length]);
                }
                Err(_) => self.client.timeout(Instant::now()),
            }
        }
    }
}

#[test]
fn a_client_connects_both_ways_and_is_counted() {
    let (media, thread) = Media::start(config()).unwrap();
    let (mut publish, mut receive) = (Guest::new(), Guest::new());
    let opened = publish.open(&media, member(1), Direction::Publish);
    assert_eq!(media.stats().open_transports, 1);
    let port = format!(" {} typ host", media.local_addrs()[0].port());
    assert!(opened.answer.contains(&port), "{}", opened.answer);
    receive.open(&media, member(1), Direction::Receive);
    assert_eq!(media.stats().open_transports, 2);
    publish.connect(&media, 1);
    receive.connect(&media, 2);

    let before = media.stats();
    assert!(before.datagrams_in > 0 && before.datagrams_out > 0);
    publish
        .socket
        .send_to(b"hello", media.local_addrs()[0])
        .unwrap();
    until("dropped", &media, |stats| {
        stats.datagrams_dropped > before.datagrams_dropped
    });

    media.close(member(1));
    until("closed", &media, |stats| stats.open_transports == 0);
    assert_eq!(media.stats().connected_transports, 0);
    media.clone().stop();
    thread.join().unwrap();
    let offer = publish.client.offer().to_owned();
    let late = wait(media.open(member(1), Direction::Publish, offer));
    assert_eq!(late, Err(Error::Stopped));
    media.close(member(1));
}

#[test]
fn a_client_connects_through_an_address_that_was_found() {
    let bind = vec!["0.0.0.0:0".parse().unwrap()];
    let (media, thread) = Media::start(Config { bind, ..config() }).unwrap();
    let mut guest = Guest::new();
    guest.open(&media, member(1), Direction::Publish);
    guest.connect(&media, 1);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn a_transport_is_reaped_without_anybody_asking() {
    let connect_timeout = Duration::from_millis(50);
    let (media, _) = Media::start(Config {
        connect_timeout,
        ..config()
    })
    .unwrap();
    Guest::new().open(&media, member(1), Direction::Publish);
    until("reaped", &media, |stats| stats.open_transports == 0);
}

#[test]
fn orders_are_carried_out_in_the_order_of_the_calls() {
    let (media, _) = Media::start(config()).unwrap();
    let offer = Guest::new().client.offer().to_owned();
    for _ in 0..20 {
        let opening = media.open(member(1), Direction::Publish, offer.clone());
        media.close(member(1));
        assert_eq!(wait(opening), Err(Error::Stopped));
        let older = media.open(member(1), Direction::Publish, offer.clone());
        let newer = media.open(member(1), Direction::Publish, offer.clone());
        assert_eq!(wait(older), Err(Error::Stopped));
        assert!(wait(newer).is_ok());
        media.close(member(1));
        until("closed", &media, |stats| stats.open_transports == 0);
    }
}

#[test]
fn what_cannot_be_opened_is_said() {
    let (media, thread) = Media::start(config()).unwrap();
    let open = |offer: String| wait(media.open(member(1), Direction::Publish, offer));
    for offer in [
        String::new(),
        "x".repeat(128 * 1024),
        "x".repeat(200 * 1024),
    ] {
        assert!(matches!(open(offer), Err(Error::BadOffer(_))));
    }
    let offer = Guest::new().client.offer().to_owned();
    for peer in 0..5 {
        for direction in [Direction::Publish, Direction::Receive] {
            assert!(wait(media.open(member(peer), direction, offer.clone())).is_ok());
        }
    }
    let more = wait(media.open(member(6), Direction::Publish, offer.clone()));
    assert_eq!(more, Err(Error::Full));
    drop(media);
    thread.join().unwrap();
}

#[test]
fn an_offer_that_nobody_waits_for_opens_nothing() {
    let (media, thread) = Media::start(config()).unwrap();
    let offer = Guest::new().client.offer().to_owned();
    // The thread may be quick enough to open it before it is dropped, but not every time.
    let skipped = (0..50).any(|_| {
        let ahead = media.open(member(2), Direction::Publish, offer.clone());
        drop(media.open(member(1), Direction::Publish, offer.clone()));
        wait(ahead).unwrap();
        wait(media.open(member(2), Direction::Publish, offer.clone())).unwrap();
        let open = media.stats().open_transports;
        media.close(member(1));
        open == 1
    });
    assert!(skipped);
    media.stop();
    thread.join().unwrap();
}
