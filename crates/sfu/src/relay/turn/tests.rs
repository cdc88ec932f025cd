use proptest::prelude::*;

use super::super::credentials::Credentials;
use super::super::message::length_on_stream;
use super::allocation::{CHANNEL_LIFETIME, PERMISSION_LIFETIME};
use super::*;
use crate::secret::Secret;

const QUOTA: Quota = Quota {
    total: 3,
    per_user: 2,
};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn media() -> SocketAddr {
    address("198.51.100.7:8789")
}

fn server(start: Instant) -> Arc<Server> {
    let media = vec![media(), address("203.0.113.9:8789")];
    Arc::new(Server::new(
        Credentials::new(&Secret::from([7; 32]), start, 1_700_000_000),
        media,
        QUOTA,
    ))
}

/// A TURN client that conforms to the RFC.
struct TestClient {
    server: Arc<Server>,
    state: ClientState,
    username: String,
    nonce: String,
    /// The relayed address of the allocation.
    relayed: Option<SocketAddr>,
    /// The number of requests made.
    requests: u8,
    /// The latest request.
    last_request: Vec<u8>,
}

/// A response to a request.
struct Response(Vec<u8>);

impl Response {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("responses can be parsed")
    }

    /// The error code, or 0 for a success.
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

impl TestClient {
    fn new(server: &Arc<Server>, now: Instant, user: &str, from: &str) -> Self {
        Self {
            state: ClientState::new(Arc::clone(server), address(from)),
            username: server.credentials.issue(now, user).username,
            server: Arc::clone(server),
            nonce: String::new(),
            relayed: None,
            requests: 0,
            last_request: Vec::new(),
        }
    }

    /// Creates a client with an allocation.
    fn allocated(server: &Arc<Server>, now: Instant) -> Self {
        let mut client = Self::new(server, now, "ada", "192.0.2.1:5000");
        let answer = client.request(now, method::ALLOCATE, &[FOR_UDP], &[]);
        assert_eq!(answer.code(), 0);
        client.relayed = Some(answer.address(kind::XOR_RELAYED_ADDRESS));
        client
    }

    /// Sends a request. Fetches a nonce first if there is none.
    fn request(
        &mut self,
        now: Instant,
        method: u16,
        attributes: &[Attribute<'_>],
        peers: &[SocketAddr],
    ) -> Response {
        if self.nonce.is_empty() {
            self.fetch_nonce(now);
        }
        let key = self.server.credentials.key(&self.username);
        self.request_with_key(now, method, attributes, peers, &key)
    }

    fn fetch_nonce(&mut self, now: Instant) {
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

    fn request_with_key(
        &mut self,
        now: Instant,
        method: u16,
        attributes: &[Attribute<'_>],
        peers: &[SocketAddr],
        key: &Key,
    ) -> Response {
        self.requests += 1;
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, method, Class::Request, [self.requests; 12]);
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
        self.last_request = bytes.clone();
        let answer = self.send(now, &bytes);
        if ![401, 438].contains(&answer.code()) {
            assert!(answer.message().is_signed_with(key), "responses are signed");
        }
        answer
    }

    fn send(&mut self, now: Instant, bytes: &[u8]) -> Response {
        let mut out = Vec::new();
        assert_eq!(self.state.receive(now, bytes, &mut out), Ok(None));
        Response(out)
    }

    fn permit(&mut self, now: Instant, peers: &[SocketAddr]) -> u16 {
        self.request(now, method::CREATE_PERMISSION, &[], peers)
            .code()
    }

    fn bind(&mut self, now: Instant, number: u16, peer: SocketAddr) -> u16 {
        let [high, low] = number.to_be_bytes();
        let channel = (kind::CHANNEL_NUMBER, &[high, low, 0, 0][..]);
        self.request(now, method::CHANNEL_BIND, &[channel], &[peer])
            .code()
    }

    fn refresh(&mut self, now: Instant, lifetime: u32) -> Response {
        let lifetime = lifetime.to_be_bytes();
        self.request(now, method::REFRESH, &[(kind::LIFETIME, &lifetime)], &[])
    }

    /// Sends data in an indication. Returns the link on which it is delivered.
    fn indicate(&mut self, now: Instant, peer: SocketAddr, data: &[u8]) -> Option<LinkId> {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method::SEND, Class::Indication, [9; 12])
            .address(kind::XOR_PEER_ADDRESS, peer)
            .attribute(kind::DATA, data)
            .finish(None);
        self.deliver(now, &bytes, data)
    }

    /// Sends data on a channel. Returns the link on which it is delivered.
    fn on_channel(&mut self, now: Instant, number: u16, data: &[u8]) -> Option<LinkId> {
        let length = u16::try_from(data.len()).unwrap();
        let mut bytes = [number.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend(data);
        self.deliver(now, &bytes, data)
    }

    fn deliver(&mut self, now: Instant, bytes: &[u8], data: &[u8]) -> Option<LinkId> {
        let mut out = Vec::new();
        let received = self.state.receive(now, bytes, &mut out).unwrap();
        assert!(out.is_empty(), "data has no response");
        received.map(|(link, datagram)| {
            assert_eq!(datagram, data);
            link
        })
    }

    fn encapsulate(&self, now: Instant, link: LinkId, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.state
            .encapsulate(now, link, datagram, &mut out)
            .then_some(out)
    }

    fn changes(&mut self) -> Vec<LinkChange> {
        std::iter::from_fn(|| self.state.poll_change()).collect()
    }
}

#[test]
fn an_allocation_response_contains_the_relayed_and_mapped_addresses() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
    let answer = ada.request(now, method::ALLOCATE, &[FOR_UDP], &[]);
    assert_eq!(answer.code(), 0);
    assert_eq!(
        answer.address(kind::XOR_MAPPED_ADDRESS),
        address("192.0.2.1:5000")
    );
    assert_eq!(answer.address(kind::XOR_RELAYED_ADDRESS).ip(), media().ip());
    assert_eq!(answer.message().number(kind::LIFETIME), Some(600));
    assert_eq!(ada.state.expires(), Some(now + LIFETIME));
    assert_eq!(server.allocations(), 1);
}

#[test]
fn a_binding_request_needs_no_credentials() {
    let now = Instant::now();
    let mut ada = TestClient::new(&server(now), now, "ada", "[2001:db8::1]:5000");
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
    let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
    ada.fetch_nonce(now);
    let wrong = ada.request_with_key(now, method::ALLOCATE, &[FOR_UDP], &[], &[0; 16]);
    assert_eq!(wrong.code(), 401);
    // A client with valid credentials uses the name of another user.
    let key = server.credentials.key(&ada.username);
    ada.username = "99999999:bob".to_owned();
    let other = ada.request_with_key(now, method::ALLOCATE, &[FOR_UDP], &[], &key);
    assert_eq!(other.code(), 401);
    ada.username = "malformed".to_owned();
    assert_eq!(
        ada.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        401
    );
    assert_eq!(server.allocations(), 0);
}

#[test]
fn a_signed_request_without_a_name_is_malformed() {
    let now = Instant::now();
    let mut ada = TestClient::new(&server(now), now, "ada", "192.0.2.1:5000");
    let mut bytes = Vec::new();
    Writer::new(&mut bytes, method::ALLOCATE, Class::Request, [1; 12]).finish(Some(&[0; 16]));
    assert_eq!(ada.send(now, &bytes).code(), 400);
}

#[test]
fn expired_credentials_make_no_allocation_but_keep_one() {
    let start = Instant::now();
    let server = server(start);
    let mut kept = TestClient::allocated(&server, start);
    let mut late = TestClient::new(&server, start, "bob", "192.0.2.2:5000");
    let day = Duration::from_secs(24 * 60 * 60);
    let mut now = start;
    while now < start + day {
        now += Duration::from_secs(590);
        kept.nonce.clear();
        kept.nonce = server.credentials.nonce(now, address("192.0.2.1:5000"));
        assert_eq!(kept.refresh(now, 600).code(), 0);
    }
    assert_eq!(
        late.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        401
    );
}

#[test]
fn the_response_to_a_stale_nonce_contains_a_new_one() {
    let start = Instant::now();
    let mut ada = TestClient::allocated(&server(start), start);
    assert_eq!(ada.refresh(start, 3600).code(), 0);
    let now = start + Duration::from_secs(3599);
    assert_eq!(ada.refresh(now, 3600).code(), 0);
    let now = start + Duration::from_secs(3600);
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
    let mut ada = TestClient::allocated(&server, now);
    let mut eve = TestClient::new(&server, now, "eve", "192.0.2.66:5000");
    eve.nonce.clone_from(&ada.nonce);
    assert_eq!(
        eve.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        438
    );
    assert_eq!(ada.refresh(now, 600).code(), 0);
}

#[test]
fn an_allocation_is_only_its_makers() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = TestClient::allocated(&server, now);
    ada.username = server.credentials.issue(now, "bob").username;
    assert_eq!(ada.refresh(now, 0).code(), 441);
    assert_eq!(server.allocations(), 1);
}

#[test]
fn addresses_that_are_not_ours_are_forbidden() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    let foreign = address("192.0.2.99:8789");
    assert_eq!(ada.permit(now, &[foreign]), 403);
    assert_eq!(ada.permit(now, &[media(), foreign]), 403);
    assert_eq!(
        ada.indicate(now, media(), b"x"),
        None,
        "the request is rejected as a whole"
    );
    assert_eq!(ada.bind(now, 0x4000, foreign), 403);
    let other_port = SocketAddr::new(media().ip(), 22);
    assert_eq!(ada.bind(now, 0x4000, other_port), 403);
    let permitted = ada.permit(now, &[other_port]);
    assert_eq!(permitted, 0, "a permission has no port");
    assert_eq!(ada.indicate(now, other_port, b"x"), None);
    assert_eq!(ada.indicate(now, foreign, b"x"), None);
    assert!(ada.changes().is_empty());
}

#[test]
fn peer_addresses_of_the_other_family_are_rejected() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    assert_eq!(ada.permit(now, &[address("[2001:db8::7]:8789")]), 443);
    assert_eq!(ada.bind(now, 0x4000, address("[2001:db8::7]:8789")), 443);
    let family = (kind::REQUESTED_ADDRESS_FAMILY, &[IPV6, 0, 0, 0][..]);
    assert_eq!(
        ada.request(now, method::REFRESH, &[family], &[]).code(),
        443
    );
}

#[test]
fn allocations_with_unsupported_attributes_are_rejected() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
    let mut allocate =
        |attributes: &[Attribute<'_>]| ada.request(now, method::ALLOCATE, attributes, &[]).code();
    assert_eq!(allocate(&[]), 400);
    assert_eq!(allocate(&[(kind::REQUESTED_TRANSPORT, &[6, 0, 0, 0])]), 442);
    let family = |family: u8| [family, 0, 0, 0];
    let requested_family = kind::REQUESTED_ADDRESS_FAMILY;
    assert_eq!(allocate(&[FOR_UDP, (requested_family, &family(IPV6))]), 440);
    assert_eq!(allocate(&[FOR_UDP, (requested_family, &family(9))]), 440);
    assert_eq!(allocate(&[FOR_UDP, (kind::EVEN_PORT, &[0x80])]), 508);
    assert_eq!(
        allocate(&[FOR_UDP, (kind::RESERVATION_TOKEN, &[0; 8])]),
        508
    );
    // DONT-FRAGMENT, which a relay without sockets cannot support.
    assert_eq!(allocate(&[FOR_UDP, (0x001a, &[])]), 420);
    assert_eq!(server.allocations(), 0);
    assert_eq!(
        allocate(&[FOR_UDP, (requested_family, &family(IPV4)), (0x8022, b"me")]),
        0
    );
}

#[test]
fn unknown_attributes_are_listed_in_the_error_response() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    let answer = ada.request(now, method::REFRESH, &[(0x7abc, &[])], &[]);
    assert_eq!(answer.code(), 420);
    assert_eq!(
        answer.message().attribute(kind::UNKNOWN_ATTRIBUTES),
        Some(&[0x7a, 0xbc][..])
    );
}

#[test]
fn an_ipv6_media_address_allows_ipv6_allocations() {
    let now = Instant::now();
    let six = address("[2001:db8::7]:8789");
    let server = Arc::new(Server::new(
        Credentials::new(&Secret::from([7; 32]), now, 1_700_000_000),
        vec![six],
        QUOTA,
    ));
    let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
    assert_eq!(
        ada.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        440
    );
    let family = (kind::REQUESTED_ADDRESS_FAMILY, &[IPV6, 0, 0, 0][..]);
    let answer = ada.request(now, method::ALLOCATE, &[FOR_UDP, family], &[]);
    assert_eq!(answer.address(kind::XOR_RELAYED_ADDRESS).ip(), six.ip());
    assert_eq!(ada.permit(now, &[six]), 0);
    assert!(ada.indicate(now, six, b"x").is_some());
}

#[test]
fn a_retransmitted_request_gets_the_same_response() {
    let now = Instant::now();
    let server = server(now);
    let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
    let first = ada.request(now, method::ALLOCATE, &[FOR_UDP], &[]);
    let request = ada.last_request.clone();
    let again = ada.send(now + Duration::from_millis(500), &request);
    assert_eq!(first.0, again.0);
    assert_eq!(server.allocations(), 1);
    // A new request is not a retransmission.
    assert_eq!(
        ada.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        437
    );
    assert_eq!(ada.permit(now, &[media()]), 0);
    let request = ada.last_request.clone();
    assert_eq!(ada.send(now, &request).code(), 0);
}

#[test]
fn whoever_has_too_many_allocations_gets_no_more_until_one_ends() {
    let now = Instant::now();
    let server = server(now);
    let mut clients = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"]
        .map(|from| TestClient::new(&server, now, "ada", from));
    let mut codes = Vec::new();
    for client in &mut clients {
        // Other credentials of the same user.
        client.username = server
            .credentials
            .issue(now + Duration::from_secs(codes.len() as u64), "ada")
            .username;
        codes.push(
            client
                .request(now, method::ALLOCATE, &[FOR_UDP], &[])
                .code(),
        );
    }
    assert_eq!(codes, [0, 0, 486]);
    let mut bob = TestClient::new(&server, now, "bob", "192.0.2.2:1");
    assert_eq!(
        bob.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        0
    );
    let mut carol = TestClient::new(&server, now, "carol", "192.0.2.3:1");
    assert_eq!(
        carol.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        508
    );

    let [mut first, second, mut third] = clients;
    assert_eq!(first.refresh(now, 0).code(), 0);
    drop(second);
    assert_eq!(server.allocations(), 1);
    assert_eq!(
        third.request(now, method::ALLOCATE, &[FOR_UDP], &[]).code(),
        0
    );
    drop((first, third, bob));
    assert_eq!(server.allocations(), 0);
    let held = server.held.lock().unwrap();
    assert!(held.by_user.is_empty(), "no user is left in the map");
}

#[test]
fn indications_carry_datagrams_both_ways() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    assert_eq!(ada.indicate(now, media(), b"early"), None);
    assert_eq!(ada.permit(now, &[media()]), 0);
    let link = ada.indicate(now, media(), b"hello").unwrap();
    assert_eq!(
        ada.changes(),
        [LinkChange::Opened(link, ada.relayed.unwrap())]
    );
    assert_eq!(ada.indicate(now, media(), b"again"), Some(link));
    assert!(ada.changes().is_empty());

    let wrapped = Response(ada.encapsulate(now, link, b"answer").unwrap());
    let message = wrapped.message();
    assert_eq!(
        (message.method, message.class),
        (method::DATA, Class::Indication)
    );
    assert_eq!(message.attribute(kind::DATA), Some(&b"answer"[..]));
    assert_eq!(wrapped.address(kind::XOR_PEER_ADDRESS), media());
}

#[test]
fn each_media_address_has_its_own_link() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    let other = address("203.0.113.9:8789");
    assert_eq!(ada.permit(now, &[media(), other]), 0);
    let first = ada.indicate(now, media(), b"1").unwrap();
    let second = ada.indicate(now, other, b"2").unwrap();
    assert_ne!(first, second);
    let from = |link| {
        let wrapped = Response(ada.encapsulate(now, link, b"x").unwrap());
        wrapped.address(kind::XOR_PEER_ADDRESS)
    };
    assert_eq!((from(first), from(second)), (media(), other));
}

#[test]
fn channels_carry_datagrams_both_ways() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    assert_eq!(ada.on_channel(now, 0x4001, b"early"), None);
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    let link = ada.on_channel(now, 0x4001, b"hello").unwrap();
    assert_eq!(
        ada.indicate(now, media(), b"a binding implies a permission"),
        Some(link)
    );
    let wrapped = ada.encapsulate(now, link, b"answer").unwrap();
    assert_eq!(wrapped, b"\x40\x01\x00\x06answer\0\0");
    assert_eq!(length_on_stream(&wrapped), Ok(Some(wrapped.len())));
}

#[test]
fn a_channel_belongs_to_one_address_and_an_address_to_one_channel() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
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
fn channels_and_permissions_expire_unless_refreshed() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    assert_eq!(ada.refresh(now, 3600).code(), 0);
    assert_eq!(ada.bind(now, 0x4001, media()), 0);
    let link = ada.on_channel(now, 0x4001, b"x").unwrap();

    let late = now + PERMISSION_LIFETIME;
    assert_eq!(
        ada.on_channel(late, 0x4001, b"the permission expired"),
        None
    );
    assert_eq!(ada.encapsulate(late, link, b"x"), None);
    assert_eq!(ada.permit(late, &[media()]), 0);
    assert_eq!(ada.on_channel(late, 0x4001, b"x"), Some(link));

    let later = now + CHANNEL_LIFETIME;
    assert_eq!(ada.permit(later, &[media()]), 0);
    assert_eq!(ada.on_channel(later, 0x4001, b"the channel expired"), None);
    assert_eq!(ada.indicate(later, media(), b"x"), Some(link));
    let wrapped = ada.encapsulate(later, link, b"x").unwrap();
    assert!(
        is_stun(&wrapped),
        "an indication, since there is no channel"
    );
    let other = address("203.0.113.9:8789");
    assert_eq!(
        ada.bind(later, 0x4001, other),
        0,
        "the number is free again"
    );
}

#[test]
fn an_allocation_ends_when_it_expires_or_the_client_frees_it() {
    let now = Instant::now();
    let server = server(now);
    for is_freed in [false, true] {
        let mut ada = TestClient::allocated(&server, now);
        assert_eq!(ada.permit(now, &[media()]), 0);
        let link = ada.indicate(now, media(), b"x").unwrap();
        ada.state.timeout(now + Duration::from_millis(599_999));
        assert_eq!(
            ada.changes(),
            [LinkChange::Opened(link, ada.relayed.unwrap())]
        );
        if is_freed {
            let answer = ada.refresh(now, 0);
            assert_eq!(answer.message().number(kind::LIFETIME), Some(0));
        } else {
            ada.state.timeout(now + LIFETIME);
        }
        assert_eq!(ada.changes(), [LinkChange::Closed(link)]);
        assert_eq!(ada.state.expires(), None);
        assert_eq!(server.allocations(), 0);
        assert_eq!(ada.encapsulate(now, link, b"x"), None);
        assert_eq!(ada.refresh(now, 600).code(), 437);
        assert_eq!(ada.permit(now, &[media()]), 437);
        assert_eq!(ada.bind(now, 0x4000, media()), 437);
    }
}

#[test]
fn the_lifetime_of_an_allocation_is_between_ten_minutes_and_an_hour() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    for (requested, granted) in [(1, 600), (1800, 1800), (u32::MAX, 3600)] {
        let answer = ada.refresh(now, requested);
        assert_eq!(answer.message().number(kind::LIFETIME), Some(granted));
        let expires = now + Duration::from_secs(granted.into());
        assert_eq!(ada.state.expires(), Some(expires));
    }
}

#[test]
fn malformed_messages_are_errors_and_irrelevant_ones_are_ignored() {
    let now = Instant::now();
    let mut ada = TestClient::allocated(&server(now), now);
    let mut out = Vec::new();
    for malformed in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x40\x01",
        b"\x40\x01\x00\x05abcd",
        b"\x80\x01\x00\x00",
        b"\x00\x01\x00\x00\x21\x12\xa4\x42",
    ] {
        assert_eq!(ada.state.receive(now, malformed, &mut out), Err(()));
    }
    for (method, class) in [
        (method::ALLOCATE, Class::Success),
        (method::BINDING, Class::Indication),
        (method::SEND, Class::Indication),
        (method::DATA, Class::Indication),
    ] {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, method, class, [0; 12]).finish(None);
        assert_eq!(ada.state.receive(now, &bytes, &mut out), Ok(None));
    }
    assert!(out.is_empty());
}

/// An action of a malicious client.
#[derive(Debug, Clone)]
enum Action {
    Allocate,
    Refresh(u32),
    Permit(usize),
    Bind(u16, usize),
    Indicate(usize),
    OnChannel(u16),
    Answer,
    Wait(u64),
    Bytes(Vec<u8>),
    /// Repeats the last request with one byte changed.
    Corrupted(usize, u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => Just(Action::Allocate),
        1 => prop::sample::select(vec![0, 1, 600, 4000]).prop_map(Action::Refresh),
        2 => (0..4_usize).prop_map(Action::Permit),
        2 => (0x3ffe..0x4003_u16, 0..4_usize).prop_map(|(number, peer)| Action::Bind(number, peer)),
        3 => (0..4_usize).prop_map(Action::Indicate),
        3 => (0x4000..0x4003_u16).prop_map(Action::OnChannel),
        2 => Just(Action::Answer),
        2 => (0..400_u64).prop_map(Action::Wait),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Action::Bytes),
        1 => (any::<usize>(), 1..=255_u8).prop_map(|(at, flip)| Action::Corrupted(at, flip)),
    ]
}

proptest! {
    #[test]
    fn links_lead_only_to_media_addresses_and_are_used_only_while_open(
        actions in prop::collection::vec(action(), 0..60),
    ) {
        let start = Instant::now();
        let server = server(start);
        let peers = [
            media(),
            address("203.0.113.9:8789"),
            address("198.51.100.7:22"),
            address("192.0.2.99:8789"),
        ];
        let mut now = start;
        let mut ada = TestClient::new(&server, now, "ada", "192.0.2.1:5000");
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for action in actions {
            let mut out = Vec::new();
            let mut delivered = None;
            ada.nonce = server.credentials.nonce(now, address("192.0.2.1:5000"));
            match action {
                Action::Allocate => drop(ada.request(now, method::ALLOCATE, &[FOR_UDP], &[])),
                Action::Refresh(lifetime) => drop(ada.refresh(now, lifetime)),
                Action::Permit(peer) => {
                    let code = ada.permit(now, &[peers[peer]]);
                    prop_assert!(code != 0 || peer < 3);
                }
                Action::Bind(number, peer) => {
                    let code = ada.bind(now, number, peers[peer]);
                    prop_assert!(code != 0 || peer < 2);
                }
                Action::Indicate(peer) => {
                    delivered = ada.indicate(now, peers[peer], b"data");
                    prop_assert!(delivered.is_none() || peer < 2);
                }
                Action::OnChannel(number) => delivered = ada.on_channel(now, number, b"data"),
                Action::Answer => {
                    for link in &closed {
                        prop_assert!(!ada.state.encapsulate(now, *link, b"data", &mut out));
                    }
                    for link in &open {
                        ada.state.encapsulate(now, *link, b"data", &mut out);
                    }
                }
                Action::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    ada.state.timeout(now);
                }
                Action::Bytes(bytes) => {
                    let _ = ada.state.receive(now, &bytes, &mut out);
                }
                Action::Corrupted(at, flip) => {
                    let mut bytes = ada.last_request.clone();
                    // Do not change the fingerprint: it is not signed, so with a different type it
                    // would be an unknown attribute of an otherwise unchanged request.
                    let signed = ada.last_request.len().saturating_sub(8).max(1);
                    if let Some(byte) = bytes.get_mut(at % signed) {
                        *byte ^= flip;
                    }
                    let before = ada.state.expires();
                    let _ = ada.state.receive(now, &bytes, &mut out);
                    let after = ada.state.expires();
                    prop_assert!(after == before || after.is_none());
                }
            }
            for change in ada.changes() {
                match change {
                    LinkChange::Opened(link, _) => {
                        prop_assert!(!open.contains(&link) && !closed.contains(&link));
                        open.push(link);
                    }
                    LinkChange::Closed(link) => {
                        prop_assert!(open.contains(&link));
                        open.retain(|known| *known != link);
                        closed.push(link);
                    }
                }
            }
            prop_assert!(delivered.is_none_or(|link| open.contains(&link)));
            prop_assert!(open.len() <= 2, "at most one link per media address");
            let has = ada.state.expires().is_some_and(|expires| expires > now);
            prop_assert!(open.is_empty() || ada.state.expires().is_some());
            prop_assert_eq!(server.allocations(), usize::from(has || ada.state.expires().is_some()));
        }
        drop(ada);
        prop_assert_eq!(server.allocations(), 0);
    }
}
