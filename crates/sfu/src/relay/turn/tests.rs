use proptest::prelude::*;

use super::super::credentials::Credentials;
use super::super::message::length_on_stream;
use super::allocation::{CHANNEL, PERMISSION};
use super::*;
use crate::secret::Secret;

const QUOTA: Quota = Quota { all: 3, each: 2 };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn media() -> SocketAddr {
    address("198.51.100.7:8789")
}

fn server(born: Instant) -> Arc<Server> {
    let media = vec![media(), address("203.0.113.9:8789")];
    Arc::new(Server::new(
        Credentials::new(&Secret::from([7; 32]), born, 1_700_000_000),
        media,
        QUOTA,
    ))
}

/// A client that does what the standard says.
struct Tester {
    server: Arc<Server>,
    session: Session,
    username: String,
    nonce: String,
    /// What it was told that it is relayed from.
    relayed: Option<SocketAddr>,
    /// How many requests it has made.
    asked: u8,
    /// The latest one.
    request: Vec<u8>,
}

/// What a request was answered with.
struct Answer(Vec<u8>);

impl Answer {
    fn message(&self) -> Message<'_> {
        Message::read(&self.0).expect("answers can be read")
    }

    /// 0 for a success.
    fn code(&self) -> u16 {
        match self.message().attribute(kind::ERROR_CODE) {
            None => 0,
            Some(value) => u16::from(value[2]) * 100 + u16::from(value[3]),
        }
    }

    fn address(&self, kind: u16) -> SocketAddr {
        self.message().addresses(kind).next().unwrap().unwrap()
    }
}

type Attribute<'v> = (u16, &'v [u8]);
const FOR_UDP: Attribute<'_> = (kind::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);

impl Tester {
    fn new(server: &Arc<Server>, now: Instant, who: &str, from: &str) -> Self {
        Self {
            session: Session::new(Arc::clone(server), address(from)),
            username: server.credentials.issue(now, who).username,
            server: Arc::clone(server),
            nonce: String::new(),
            relayed: None,
            asked: 0,
            request: Vec::new(),
        }
    }

    /// With an allocation.
    fn allocated(server: &Arc<Server>, now: Instant) -> Self {
        let mut tester = Self::new(server, now, "ada", "192.0.2.1:5000");
        let answer = tester.ask(now, method::ALLOCATE, &[FOR_UDP], &[]);
        assert_eq!(answer.code(), 0);
        tester.relayed = Some(answer.address(kind::XOR_RELAYED_ADDRESS));
        tester
    }

    /// Asks as somebody who knows the nonce, which is fetched if need be.
    fn ask(
        &mut self,
        now: Instant,
        method: u16,
        attributes: &[Attribute<'_>],
        peers: &[SocketAddr],
    ) -> Answer {
        if self.nonce.is_empty() {
            self.challenged(now);
        }
        let key = self.server.credentials.key(&self.username);
        self.ask_with(now, method, attributes, peers, &key)
    }

    fn challenged(&mut self, now: Instant) {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method::ALLOCATE, Class::Request, [1; 12]).finish(None);
        let answer = self.send(now, &bytes);
        assert_eq!(answer.code(), 401);
        assert_eq!(answer.message().text(kind::REALM), Some(REALM));
        answer
            .message()
            .text(kind::NONCE)
            .unwrap()
            .clone_into(&mut self.nonce);
    }

    fn ask_with(
        &mut self,
        now: Instant,
        method: u16,
        attributes: &[Attribute<'_>],
        peers: &[SocketAddr],
        key: &Key,
    ) -> Answer {
        self.asked += 1;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, method, Class::Request, [self.asked; 12]);
        for (kind, value) in attributes {
            writer = writer.attribute(*kind, value);
        }
        for peer in peers {
            writer = writer.address(kind::XOR_PEER_ADDRESS, *peer);
        }
        writer
            .attribute(kind::USERNAME, self.username.as_bytes())
            .attribute(kind::REALM, REALM.as_bytes())
            .attribute(kind::NONCE, self.nonce.as_bytes())
            .finish(Some(key));
        self.request = bytes.clone();
        let answer = self.send(now, &bytes);
        if ![401, 438].contains(&answer.code()) {
            assert!(answer.message().is_signed_with(key), "answers are signed");
        }
        answer
    }

    fn send(&mut self, now: Instant, bytes: &[u8]) -> Answer {
        let mut out = Vec::new();
        assert_eq!(self.session.receive(now, bytes, &mut out), Ok(None));
        Answer(out)
    }

    fn permit(&mut self, now: Instant, peers: &[SocketAddr]) -> u16 {
        self.ask(now, method::CREATE_PERMISSION, &[], peers).code()
    }

    fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr) -> u16 {
        let [high, low] = number.to_be_bytes();
        let channel = (kind::CHANNEL_NUMBER, &[high, low, 0, 0][..]);
        self.ask(now, method::CHANNEL_BIND, &[channel], &[peer])
            .code()
    }

    fn refresh(&mut self, now: Instant, lifetime: u32) -> Answer {
        let lifetime = lifetime.to_be_bytes();
        self.ask(now, method::REFRESH, &[(kind::LIFETIME, &lifetime)], &[])
    }

    /// Sends by an indication; the link it came out on.
    fn indicate(&mut self, now: Instant, peer: SocketAddr, data: &[u8]) -> Option<LinkId> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method::SEND, Class::Indication, [9; 12])
            .address(kind::XOR_PEER_ADDRESS, peer)
            .attribute(kind::DATA, data)
            .finish(None);
        self.came_out(now, &bytes, data)
    }

    fn on_channel(&mut self, now: Instant, number: u16, data: &[u8]) -> Option<LinkId> {
        let length = u16::try_from(data.len()).unwrap();
        let mut bytes = [number.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend(data);
        self.came_out(now, &bytes, data)
    }

    fn came_out(&mut self, now: Instant, bytes: &[u8], data: &[u8]) -> Option<LinkId> {
        let mut out = Vec::new();
        let came = self.session.receive(now, bytes, &mut out).unwrap();
        assert!(out.is_empty(), "what asks nothing is not answered");
        came.map(|(link, datagram)| {
            assert_eq!(datagram, data);
            link
        })
    }

    fn wrapped(&self, now: Instant, link: LinkId, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.session
            .wrap(now, link, datagram, &mut out)
            .then_some(out)
    }

    fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.session.poll_change()).collect()
    }
}

#[test]
fn an_allocation_is_made_with_credentials_and_tells_where_the_client_is() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
    let answer = ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[]);
    assert_eq!(answer.code(), 0);
    assert_eq!(
        answer.address(kind::XOR_MAPPED_ADDRESS),
        address("192.0.2.1:5000")
    );
    assert_eq!(answer.address(kind::XOR_RELAYED_ADDRESS).ip(), media().ip());
    assert_eq!(answer.message().number(kind::LIFETIME), Some(600));
    assert_eq!(ada.session.expires(), Some(now + LIFETIME));
    assert_eq!(server.allocations(), 1);
}

#[test]
fn a_binding_request_needs_no_credentials() {
    let now = Instant::now();
    let mut ada = Tester::new(&server(now), now, "ada", "[2001:db8::1]:5000");
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::BINDING, Class::Request, [3; 12]).finish(None);
    let answer = ada.send(now, &bytes);
    assert_eq!(answer.message().transaction, [3; 12]);
    assert_eq!(
        answer.address(kind::XOR_MAPPED_ADDRESS),
        address("[2001:db8::1]:5000")
    );
}

#[test]
fn bad_credentials_are_refused() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
    ada.challenged(now);
    let wrong = ada.ask_with(now, method::ALLOCATE, &[FOR_UDP], &[], &[0; 16]);
    assert_eq!(wrong.code(), 401);
    // Somebody who has good credentials and claims to be another.
    let key = server.credentials.key(&ada.username);
    ada.username = "99999999:bob".to_owned();
    let other = ada.ask_with(now, method::ALLOCATE, &[FOR_UDP], &[], &key);
    assert_eq!(other.code(), 401);
    ada.username = "no name of ours".to_owned();
    assert_eq!(ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 401);
    assert_eq!(server.allocations(), 0);
}

#[test]
fn a_signed_request_without_a_name_is_malformed() {
    let now = Instant::now();
    let mut ada = Tester::new(&server(now), now, "ada", "192.0.2.1:5000");
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::ALLOCATE, Class::Request, [1; 12]).finish(Some(&[0; 16]));
    assert_eq!(ada.send(now, &bytes).code(), 400);
}

#[test]
fn expired_credentials_make_no_allocation_but_keep_one() {
    let born = Instant::now();
    let server = server(born);
    let mut kept = Tester::allocated(&server, born);
    let mut late = Tester::new(&server, born, "bob", "192.0.2.2:5000");
    let day = Duration::from_secs(24 * 60 * 60);
    let mut now = born;
    while now < born + day {
        now += Duration::from_secs(590);
        kept.nonce.clear();
        kept.nonce = server.credentials.nonce(now, address("192.0.2.1:5000"));
        assert_eq!(kept.refresh(now, 600).code(), 0);
    }
    assert_eq!(late.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 401);
}

#[test]
fn an_old_nonce_is_answered_with_a_new_one() {
    let born = Instant::now();
    let mut ada = Tester::allocated(&server(born), born);
    assert_eq!(ada.refresh(born, 3600).code(), 0);
    let now = born + Duration::from_secs(3599);
    assert_eq!(ada.refresh(now, 3600).code(), 0);
    let now = born + Duration::from_secs(3600);
    let stale = ada.refresh(now, 3600);
    assert_eq!(stale.code(), 438);
    stale
        .message()
        .text(kind::NONCE)
        .unwrap()
        .clone_into(&mut ada.nonce);
    assert_eq!(ada.refresh(now, 3600).code(), 0);
}

#[test]
fn a_nonce_of_another_address_is_stale() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::allocated(&server, now);
    let mut eve = Tester::new(&server, now, "eve", "192.0.2.66:5000");
    eve.nonce.clone_from(&ada.nonce);
    assert_eq!(eve.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 438);
    assert_eq!(ada.refresh(now, 600).code(), 0);
}

#[test]
fn an_allocation_is_only_its_makers() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::allocated(&server, now);
    ada.username = server.credentials.issue(now, "bob").username;
    assert_eq!(ada.refresh(now, 0).code(), 441);
    assert_eq!(server.allocations(), 1);
}

#[test]
fn addresses_that_are_not_ours_are_forbidden() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    let foreign = address("192.0.2.99:8789");
    assert_eq!(ada.permit(now, &[foreign]), 403);
    assert_eq!(ada.permit(now, &[media(), foreign]), 403);
    assert_eq!(
        ada.indicate(now, media(), b"x"),
        None,
        "all are permitted or none"
    );
    assert_eq!(ada.bind(now, 0x4000, foreign), 403);
    let elsewhere = SocketAddr::new(media().ip(), 22);
    assert_eq!(ada.bind(now, 0x4000, elsewhere), 403);
    assert_eq!(ada.permit(now, &[elsewhere]), 0, "a permission has no port");
    assert_eq!(ada.indicate(now, elsewhere, b"x"), None);
    assert_eq!(ada.indicate(now, foreign, b"x"), None);
    assert!(ada.changes().is_empty());
}

#[test]
fn addresses_of_the_other_family_do_not_match() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    assert_eq!(ada.permit(now, &[address("[2001:db8::7]:8789")]), 443);
    assert_eq!(ada.bind(now, 0x4000, address("[2001:db8::7]:8789")), 443);
    let family = (kind::REQUESTED_ADDRESS_FAMILY, &[IPV6, 0, 0, 0][..]);
    assert_eq!(ada.ask(now, method::REFRESH, &[family], &[]).code(), 443);
}

#[test]
fn an_allocation_is_refused_when_it_asks_for_what_there_is_not() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
    let mut ask =
        |attributes: &[Attribute<'_>]| ada.ask(now, method::ALLOCATE, attributes, &[]).code();
    assert_eq!(ask(&[]), 400);
    assert_eq!(ask(&[(kind::REQUESTED_TRANSPORT, &[6, 0, 0, 0])]), 442);
    let family = |family: u8| [family, 0, 0, 0];
    let wants = kind::REQUESTED_ADDRESS_FAMILY;
    assert_eq!(ask(&[FOR_UDP, (wants, &family(IPV6))]), 440);
    assert_eq!(ask(&[FOR_UDP, (wants, &family(9))]), 440);
    assert_eq!(ask(&[FOR_UDP, (kind::EVEN_PORT, &[0x80])]), 508);
    assert_eq!(ask(&[FOR_UDP, (kind::RESERVATION_TOKEN, &[0; 8])]), 508);
    // DONT-FRAGMENT, which a relay without sockets cannot honour.
    assert_eq!(ask(&[FOR_UDP, (0x001a, &[])]), 420);
    assert_eq!(server.allocations(), 0);
    assert_eq!(ask(&[FOR_UDP, (wants, &family(IPV4)), (0x8022, b"me")]), 0);
}

#[test]
fn an_unknown_attribute_is_named() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    let answer = ada.ask(now, method::REFRESH, &[(0x7abc, &[])], &[]);
    assert_eq!(answer.code(), 420);
    assert_eq!(
        answer.message().attribute(kind::UNKNOWN_ATTRIBUTES),
        Some(&[0x7a, 0xbc][..])
    );
}

#[test]
fn an_ipv6_media_address_takes_ipv6_allocations() {
    let now = Instant::now();
    let six = address("[2001:db8::7]:8789");
    let server = Arc::new(Server::new(
        Credentials::new(&Secret::from([7; 32]), now, 1_700_000_000),
        vec![six],
        QUOTA,
    ));
    let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
    assert_eq!(ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 440);
    let family = (kind::REQUESTED_ADDRESS_FAMILY, &[IPV6, 0, 0, 0][..]);
    let answer = ada.ask(now, method::ALLOCATE, &[FOR_UDP, family], &[]);
    assert_eq!(answer.address(kind::XOR_RELAYED_ADDRESS).ip(), six.ip());
    assert_eq!(ada.permit(now, &[six]), 0);
    assert!(ada.indicate(now, six, b"x").is_some());
}

#[test]
fn a_request_that_is_sent_again_is_answered_alike() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
    let first = ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[]);
    let request = ada.request.clone();
    let again = ada.send(now + Duration::from_millis(500), &request);
    assert_eq!(first.0, again.0);
    assert_eq!(server.allocations(), 1);
    // A new request is not the same one again.
    assert_eq!(ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 437);
    assert_eq!(ada.permit(now, &[media()]), 0);
    let request = ada.request.clone();
    assert_eq!(ada.send(now, &request).code(), 0);
}

#[test]
fn whoever_has_too_many_allocations_gets_no_more_until_one_ends() {
    let now = Instant::now();
    let server = server(now);
    let mut testers = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"]
        .map(|from| Tester::new(&server, now, "ada", from));
    let mut codes = Vec::new();
    for tester in &mut testers {
        // Other credentials are no other user.
        tester.username = server
            .credentials
            .issue(now + Duration::from_secs(codes.len() as u64), "ada")
            .username;
        codes.push(tester.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code());
    }
    assert_eq!(codes, [0, 0, 486]);
    let mut bob = Tester::new(&server, now, "bob", "192.0.2.2:1");
    assert_eq!(bob.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 0);
    let mut carol = Tester::new(&server, now, "carol", "192.0.2.3:1");
    assert_eq!(
        carol.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        508
    );

    let [mut first, second, mut third] = testers;
    assert_eq!(first.refresh(now, 0).code(), 0);
    drop(second);
    assert_eq!(server.allocations(), 1);
    assert_eq!(third.ask(now, method::ALLOCATE, &[FOR_UDP], &[]).code(), 0);
    drop((first, third, bob));
    assert_eq!(server.allocations(), 0);
    let held = server.held.lock().unwrap();
    assert!(held.by_user.is_empty(), "nobody is remembered");
}

#[test]
fn datagrams_go_both_ways_in_indications() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    assert_eq!(ada.indicate(now, media(), b"early"), None);
    assert_eq!(ada.permit(now, &[media()]), 0);
    let link = ada.indicate(now, media(), b"hello").unwrap();
    assert_eq!(ada.changes(), [Change::Opened(link, ada.relayed.unwrap())]);
    assert_eq!(ada.indicate(now, media(), b"again"), Some(link));
    assert!(ada.changes().is_empty());

    let wrapped = Answer(ada.wrapped(now, link, b"answer").unwrap());
    let message = wrapped.message();
    assert_eq!(
        (message.method, message.class),
        (method::DATA, Class::Indication)
    );
    assert_eq!(message.attribute(kind::DATA), Some(&b"answer"[..]));
    assert_eq!(wrapped.address(kind::XOR_PEER_ADDRESS), media());
}

#[test]
fn each_of_our_addresses_has_a_link_so_that_answers_come_from_it() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    let other = address("203.0.113.9:8789");
    assert_eq!(ada.permit(now, &[media(), other]), 0);
    let first = ada.indicate(now, media(), b"1").unwrap();
    let second = ada.indicate(now, other, b"2").unwrap();
    assert_ne!(first, second);
    let from = |link| {
        let wrapped = Answer(ada.wrapped(now, link, b"x").unwrap());
        wrapped.address(kind::XOR_PEER_ADDRESS)
    };
    assert_eq!((from(first), from(second)), (media(), other));
}

#[test]
fn datagrams_go_both_ways_on_a_channel() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    assert_eq!(ada.on_channel(now, 0x4001, b"early"), None);
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    let link = ada.on_channel(now, 0x4001, b"hello").unwrap();
    assert_eq!(
        ada.indicate(now, media(), b"binding permits, too"),
        Some(link)
    );
    let wrapped = ada.wrapped(now, link, b"answer").unwrap();
    assert_eq!(wrapped, b"\x40\x01\x00\x06answer\0\0");
    assert_eq!(length_on_stream(&wrapped), Ok(Some(wrapped.len())));
}

#[test]
fn a_channel_belongs_to_one_address_and_an_address_to_one_channel() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    let other = address("203.0.113.9:8789");
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    assert_eq!(ada.bind(now, 0x4001, other), 400);
    assert_eq!(ada.bind(now, 0x4002, media()), 400);
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    assert_eq!(ada.bind(now, 0x4002, other), 0);
    for number in [0, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(ada.bind(now, number, media()), 400);
    }
}

#[test]
fn channels_and_permissions_end_unless_they_are_renewed() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    assert_eq!(ada.refresh(now, 3600).code(), 0);
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    let link = ada.on_channel(now, 0x4001, b"x").unwrap();

    let late = now + PERMISSION;
    assert_eq!(
        ada.on_channel(late, 0x4001, b"not permitted any more"),
        None
    );
    assert_eq!(ada.wrapped(late, link, b"x"), None);
    assert_eq!(ada.permit(late, &[media()]), 0);
    assert_eq!(ada.on_channel(late, 0x4001, b"x"), Some(link));

    let later = now + CHANNEL;
    assert_eq!(ada.permit(later, &[media()]), 0);
    assert_eq!(ada.on_channel(later, 0x4001, b"no channel any more"), None);
    assert_eq!(ada.indicate(later, media(), b"x"), Some(link));
    let wrapped = ada.wrapped(later, link, b"x").unwrap();
    assert!(is_stun(&wrapped), "an indication, for lack of a channel");
    let other = address("203.0.113.9:8789");
    assert_eq!(
        ada.bind(later, 0x4001, other),
        0,
        "the number is free again"
    );
}

#[test]
fn an_allocation_ends_with_its_time_or_when_the_client_says_so() {
    let now = Instant::now();
    let server = server(now);
    for asked_to in [false, true] {
        let mut ada = Tester::allocated(&server, now);
        assert_eq!(ada.permit(now, &[media()]), 0);
        let link = ada.indicate(now, media(), b"x").unwrap();
        ada.session.timeout(now + Duration::from_millis(599_999));
        assert_eq!(ada.changes(), [Change::Opened(link, ada.relayed.unwrap())]);
        if asked_to {
            let answer = ada.refresh(now, 0);
            assert_eq!(answer.message().number(kind::LIFETIME), Some(0));
        } else {
            ada.session.timeout(now + LIFETIME);
        }
        assert_eq!(ada.changes(), [Change::Closed(link)]);
        assert_eq!(ada.session.expires(), None);
        assert_eq!(server.allocations(), 0);
        assert_eq!(ada.wrapped(now, link, b"x"), None);
        assert_eq!(ada.refresh(now, 600).code(), 437);
        assert_eq!(ada.permit(now, &[media()]), 437);
        assert_eq!(ada.bind(now, 0x4000, media()), 437);
    }
}

#[test]
fn no_allocation_lives_longer_than_an_hour_unrefreshed_nor_shorter_than_ten_minutes() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    for (asked, given) in [(1, 600), (1800, 1800), (u32::MAX, 3600)] {
        let answer = ada.refresh(now, asked);
        assert_eq!(answer.message().number(kind::LIFETIME), Some(given));
        let expires = now + Duration::from_secs(given.into());
        assert_eq!(ada.session.expires(), Some(expires));
    }
}

#[test]
fn what_is_broken_is_an_error_and_what_asks_for_nothing_is_passed_over() {
    let now = Instant::now();
    let mut ada = Tester::allocated(&server(now), now);
    let mut out = Vec::new();
    for broken in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x40\x01",
        b"\x40\x01\x00\x05abcd",
        b"\x80\x01\x00\x00",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
    ] {
        assert_eq!(ada.session.receive(now, broken, &mut out), Err(()));
    }
    for (method, class) in [
        (method::ALLOCATE, Class::Success),
        (method::BINDING, Class::Indication),
        (method::SEND, Class::Indication),
        (method::DATA, Class::Indication),
    ] {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method, class, [0; 12]).finish(None);
        assert_eq!(ada.session.receive(now, &bytes, &mut out), Ok(None));
    }
    assert!(out.is_empty());
}

/// What a client of ill will may do.
#[derive(Debug, Clone)]
enum Act {
    Allocate,
    Refresh(u32),
    Permit(usize),
    Bind(u16, usize),
    Indicate(usize),
    OnChannel(u16),
    Answer,
    Wait(u64),
    Bytes(Vec<u8>),
    /// The request before, with a byte of it changed.
    Spoilt(usize, u8),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Allocate),
        1 => prop::sample::select(vec![0, 1, 600, 4000]).prop_map(Act::Refresh),
        2 => (0..4_usize).prop_map(Act::Permit),
        2 => (0x3ffe..0x4003_u16, 0..4_usize).prop_map(|(number, peer)| Act::Bind(number, peer)),
        3 => (0..4_usize).prop_map(Act::Indicate),
        3 => (0x4000..0x4003_u16).prop_map(Act::OnChannel),
        2 => Just(Act::Answer),
        2 => (0..400_u64).prop_map(Act::Wait),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Act::Bytes),
        1 => (any::<usize>(), 1..=255_u8).prop_map(|(at, flip)| Act::Spoilt(at, flip)),
    ]
}

proptest! {
    #[test]
    fn whatever_a_client_does_links_are_opened_once_used_between_and_lead_to_us(
        acts in prop::collection::vec(acts(), 0..60),
    ) {
        let born = Instant::now();
        let server = server(born);
        let peers = [
            media(),
            address("203.0.113.9:8789"),
            address("198.51.100.7:22"),
            address("192.0.2.99:8789"),
        ];
        let mut now = born;
        let mut ada = Tester::new(&server, now, "ada", "192.0.2.1:5000");
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for act in acts {
            let mut out = Vec::new();
            let mut came = None;
            ada.nonce = server.credentials.nonce(now, address("192.0.2.1:5000"));
            match act {
                Act::Allocate => drop(ada.ask(now, method::ALLOCATE, &[FOR_UDP], &[])),
                Act::Refresh(lifetime) => drop(ada.refresh(now, lifetime)),
                Act::Permit(peer) => {
                    let code = ada.permit(now, &[peers[peer]]);
                    prop_assert!(code != 0 || peer < 3);
                }
                Act::Bind(number, peer) => {
                    let code = ada.bind(now, number, peers[peer]);
                    prop_assert!(code != 0 || peer < 2);
                }
                Act::Indicate(peer) => {
                    came = ada.indicate(now, peers[peer], b"data");
                    prop_assert!(came.is_none() || peer < 2);
                }
                Act::OnChannel(number) => came = ada.on_channel(now, number, b"data"),
                Act::Answer => {
                    for link in &closed {
                        prop_assert!(!ada.session.wrap(now, *link, b"data", &mut out));
                    }
                    for link in &open {
                        ada.session.wrap(now, *link, b"data", &mut out);
                    }
                }
                Act::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    ada.session.timeout(now);
                }
                Act::Bytes(bytes) => {
                    let _ = ada.session.receive(now, &bytes, &mut out);
                }
                Act::Spoilt(at, flip) => {
                    let mut bytes = ada.request.clone();
                    // What comes after the signature, the fingerprint, is not read: with another type it
                    // is an attribute that is not known, and the request the same as before.
                    let signed = ada.request.len().saturating_sub(8).max(1);
                    if let Some(byte) = bytes.get_mut(at % signed) {
                        *byte ^= flip;
                    }
                    let before = ada.session.expires();
                    let _ = ada.session.receive(now, &bytes, &mut out);
                    let after = ada.session.expires();
                    prop_assert!(after == before || after.is_none());
                }
            }
            for change in ada.changes() {
                match change {
                    Change::Opened(link, _) => {
                        prop_assert!(!open.contains(&link) && !closed.contains(&link));
                        open.push(link);
                    }
                    Change::Closed(link) => {
                        prop_assert!(open.contains(&link));
                        open.retain(|known| *known != link);
                        closed.push(link);
                    }
                }
            }
            prop_assert!(came.is_none_or(|link| open.contains(&link)));
            prop_assert!(open.len() <= 2, "no more than there are addresses of ours");
            let has = ada.session.expires().is_some_and(|expires| expires > now);
            prop_assert!(open.is_empty() || ada.session.expires().is_some());
            prop_assert_eq!(server.allocations(), usize::from(has || ada.session.expires().is_some()));
        }
        drop(ada);
        prop_assert_eq!(server.allocations(), 0);
    }
}
