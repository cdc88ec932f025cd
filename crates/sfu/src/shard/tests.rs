//! The threads, over real UDP on the loopback interface.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use parlor_protocol::{MeetingId, PeerId, ProducerId};
use tokio::runtime;
use uuid::Uuid;

use crate::client::{Client, Say};
use crate::{
    Config, Direction, Error, Media, Member, Opened, Owner, Produce, Secret, Source, Stats, Want,
};

const PATIENCE: Duration = Duration::from_secs(20);

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

/// Somebody in one of the meetings, which live on different threads.
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

/// Opens a transport for somebody who has no other client.
fn open(
    media: &Media,
    member: Member,
    direction: Direction,
    offer: String,
) -> impl Future<Output = Result<Opened, Error>> + use<> {
    media.open(Owner::alone(member), member, direction, offer)
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
        let mut guest = Self::new(direction);
        let opened = wait(open(
            media,
            member,
            direction,
            guest.client.offer().to_owned(),
        ))
        .unwrap();
        guest.client.accept(&opened.answer);
        (guest, opened)
    }

    /// Sends what there is to send, and takes one datagram at most.
    fn talk(&mut self) {
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

    /// Talks until both sides say that they are connected.
    fn connect(&mut self, media: &Media, connected: u64) {
        let start = Instant::now();
        while !self.client.is_connected() || media.stats().connected_transports < connected {
            assert!(start.elapsed() < PATIENCE, "{:?}", media.stats());
            self.talk();
        }
    }
}

#[test]
fn a_client_connects_both_ways_and_is_counted() {
    let (media, thread) = Media::start(&config()).unwrap();
    let somebody = member(1, 1);
    let (mut publish, opened) = Guest::open(&media, somebody, Direction::Publish);
    assert_eq!(media.stats().open_transports, 1);
    let port = format!(" {} typ host", media.local_addrs()[0].port());
    assert!(opened.answer.contains(&port), "{}", opened.answer);
    let (mut receive, _) = Guest::open(&media, somebody, Direction::Receive);
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

    media.close(somebody, false);
    until("closed", &media, |stats| stats.open_transports == 0);
    assert_eq!(media.stats().connected_transports, 0);
    media.clone().stop();
    thread.join().unwrap();
    let offer = publish.client.offer().to_owned();
    let late = wait(open(&media, somebody, Direction::Publish, offer));
    assert_eq!(late, Err(Error::Stopped));
    media.close(somebody, false);
}

#[test]
fn who_waits_on_one_thread_makes_room_for_who_is_inside_on_another() {
    let config = Config {
        max_transports: 2,
        ..config()
    };
    let (media, thread) = Media::start(&config).unwrap();
    let outside = |member| Owner {
        admitted: false,
        ..Owner::alone(member)
    };
    let offer = || Guest::new(Direction::Publish).client.offer().to_owned();
    let open = |owner, member| media.open(owner, member, Direction::Publish, offer());
    let [waiting, entering, inside, other] =
        [(2, 1), (2, 2), (3, 3), (3, 4)].map(|(m, p)| member(m, p));
    assert!(wait(open(outside(waiting), waiting)).is_ok());
    // It is let in before its offer is read.
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
fn audio_comes_through_whichever_thread_a_meeting_lives_on() {
    let (media, thread) = Media::start(&config()).unwrap();
    for meeting in [2, 3] {
        let [ada, ben] = [member(meeting, 1), member(meeting, 2)];
        let (mut out, to) = Guest::open(&media, ada, Direction::Publish);
        let (mut into, from) = Guest::open(&media, ben, Direction::Receive);
        let connected = media.stats().connected_transports;
        out.connect(&media, connected + 1);
        into.connect(&media, connected + 2);

        let (mid, offer) = out.client.offer_track(true, &[]);
        let producer = ProducerId::from_uuid(Uuid::from_u128(meeting));
        let produce = Produce {
            transport: to.transport_id,
            producer,
            mid: mid.clone(),
            source: Source::Microphone,
            paused: false,
            offer,
        };
        let answer = wait(media.produce(ada, produce)).unwrap();
        out.client.accept(&answer);
        let want = Want {
            producer,
            publisher: ada.peer,
            preferred_rid: None,
        };
        let transport = from.transport_id;
        let consumed = wait(media.consume(ben, transport.clone(), vec![want])).unwrap();
        let answer = into.client.answer(&consumed.offer.unwrap());
        wait(media.answered(ben, transport, answer)).unwrap();
        assert_eq!((media.stats().producers, media.stats().consumers), (1, 1));

        let start = Instant::now();
        for index in 0.. {
            assert!(start.elapsed() < PATIENCE, "{:?}", media.stats());
            let say = Say {
                index,
                timestamp: u32::try_from(index).unwrap() * 960,
                marker: false,
                level: Some(-20),
                payload: vec![7; 60],
            };
            out.client.say(Instant::now(), &mid, None, &say);
            out.talk();
            into.talk();
            if into.client.heard.len() >= 20 {
                break;
            }
        }
        assert!(
            into.client
                .heard
                .iter()
                .all(|heard| *heard.payload == [7; 60])
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
fn a_client_connects_through_an_address_that_was_found() {
    let bind = vec!["0.0.0.0:0".parse().unwrap()];
    let (media, thread) = Media::start(&Config { bind, ..config() }).unwrap();
    let (mut guest, _) = Guest::open(&media, member(1, 1), Direction::Publish);
    guest.connect(&media, 1);
    media.stop();
    thread.join().unwrap();
}

#[test]
fn a_transport_is_freed_without_anybody_asking() {
    let connect_timeout = Duration::from_millis(50);
    let (media, _thread) = Media::start(&Config {
        connect_timeout,
        ..config()
    })
    .unwrap();
    Guest::open(&media, member(1, 1), Direction::Publish);
    until("freed", &media, |stats| stats.open_transports == 0);
}

#[test]
fn orders_are_carried_out_in_the_order_of_the_calls() {
    let (media, _thread) = Media::start(&config()).unwrap();
    let offer = Guest::new(Direction::Publish).client.offer().to_owned();
    let somebody = member(1, 1);
    let open_one = || open(&media, somebody, Direction::Publish, offer.clone());
    for _ in 0..20 {
        let opening = open_one();
        media.close(somebody, false);
        assert_eq!(wait(opening), Err(Error::Stopped));
        let (older, newer) = (open_one(), open_one());
        assert_eq!(wait(older), Err(Error::Stopped));
        assert!(wait(newer).is_ok());
        media.close(somebody, false);
        until("closed", &media, |stats| stats.open_transports == 0);
    }
}

#[test]
fn what_cannot_be_opened_is_said() {
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
    let offer = Guest::new(Direction::Publish).client.offer().to_owned();
    // The limit is one for all threads.
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
fn an_offer_that_nobody_waits_for_opens_nothing() {
    let (media, thread) = Media::start(&config()).unwrap();
    let offer = Guest::new(Direction::Publish).client.offer().to_owned();
    let open_one = |peer| open(&media, member(1, peer), Direction::Publish, offer.clone());
    // Whether it is dropped in time is up to the threads, but not every time.
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
