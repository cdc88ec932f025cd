//! The handshake with a client that repeats what is lost as browsers do.

use std::collections::BTreeMap;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// One way through the network.
const WAY: Duration = Duration::from_millis(10);

/// A transport, a client and the network between them, in a time of their own.
struct Pair {
    began: Instant,
    now: Instant,
    server: Transport,
    yard: Yard,
    client: Dtls,
    client_wakes: Instant,
    is_connected: bool,
    /// What is on its way, and whether it is to the server.
    flights: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    flown: u64,
    /// How many datagrams have come to the server, and how many it sent.
    heard: usize,
    said: usize,
}

impl Pair {
    fn new(security: &Security, certificate: &DtlsCertificate, seed: u64) -> Self {
        let now = Instant::now();
        let config = dimpl::Config::builder()
            .flight_start_rto(50 * MS)
            .flight_retries(12)
            .handshake_timeout(Duration::from_secs(600))
            .dangerously_set_rng_seed(seed)
            .build()
            .unwrap();
        let mut client = Dtls::new_12(Arc::new(config), certificate.clone(), now);
        client.set_active(true);
        client.handle_timeout(now).unwrap();
        let ice = Ice::new("ufrag".to_owned(), "password".to_owned());
        let expected = fingerprint(&certificate.certificate);
        Self {
            began: now,
            now,
            server: Transport::new(now, 0, security, ice, expected),
            yard: Yard::default(),
            client,
            client_wakes: now,
            is_connected: false,
            flights: BTreeMap::new(),
            flown: 0,
            heard: 0,
            said: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.is_connected && self.server.is_secure()
    }

    /// Takes what both send, of which some is lost: whether it goes to the server is told.
    fn collect(&mut self, mut is_lost: impl FnMut(bool) -> bool) {
        let at = self.now + WAY;
        let mut fly = |to_server, datagram: &[u8]| {
            if !is_lost(to_server) {
                self.flown += 1;
                let flight = (to_server, datagram.to_vec());
                self.flights.insert((at, self.flown), flight);
            }
        };
        let mut buffer = [0; RECORD_BYTES];
        loop {
            match self.client.poll_output(&mut buffer) {
                Output::Packet(datagram) => fly(true, datagram),
                Output::Connected => self.is_connected = true,
                Output::Timeout(wakes) => {
                    self.client_wakes = wakes;
                    break;
                }
                _ => {}
            }
        }
        if let Some(outbox) = self.server.take_outbox() {
            for datagram in outbox.datagrams() {
                self.said += 1;
                fly(false, datagram);
            }
        }
    }

    /// Goes to what happens next, and lets it happen.
    fn step(&mut self) {
        let next = self.flights.keys().next().map(|(at, _)| *at);
        let wakes = [Some(self.client_wakes), self.server.wakes(), next];
        let next = wakes.into_iter().flatten().min().unwrap();
        self.now = next.max(self.now + MS);
        while let Some(flight) = self.flights.first_entry() {
            if flight.key().0 > self.now {
                break;
            }
            let (to_server, datagram) = flight.remove();
            if to_server {
                self.heard += 1;
                self.server.dtls(self.now, &datagram, &mut self.yard);
            } else {
                self.client.handle_timeout(self.now).unwrap();
                self.client.handle_packet(&datagram).unwrap();
            }
        }
        self.server.timeout(self.now, &mut self.yard);
        self.client.handle_timeout(self.now).unwrap();
    }

    fn time(&self) -> Duration {
        self.now - self.began
    }
}

fn both() -> (Security, DtlsCertificate) {
    let identity = || Identity::generate().unwrap();
    let client = identity();
    let certificate = DtlsCertificate {
        certificate: client.certificate,
        private_key: client.key,
    };
    (Security::new(&identity()), certificate)
}

/// Loses a fifth of what goes each way, always the same of each.
fn losing(seed: u64) -> impl FnMut(bool) -> bool {
    let mut ways =
        [2 * seed + 1, 2 * seed + 2].map(|seed| seed.wrapping_mul(0xD134_2543_DE82_EF95));
    move |to_server| {
        let way = &mut ways[usize::from(to_server)];
        *way ^= *way >> 12;
        *way ^= *way << 25;
        *way ^= *way >> 27;
        way.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32 < (1 << 32) / 5
    }
}

#[test]
fn browsers_connect_soon_on_a_path_that_loses_a_fifth() {
    let (security, certificate) = both();
    let late = (0..200).filter(|seed| {
        let mut pair = Pair::new(&security, &certificate, *seed);
        let mut is_lost = losing(*seed);
        loop {
            pair.collect(&mut is_lost);
            if pair.is_done() || pair.time() > Duration::from_secs(2) {
                return !pair.is_done();
            }
            pair.step();
        }
    });
    // One in a thousand needs longer by chance.
    let late = late.collect::<Vec<_>>();
    assert!(late.len() <= 4, "not connected: {late:?}");
}

#[test]
fn the_end_of_the_handshake_is_said_again_as_often_as_the_client_asks() {
    let (security, certificate) = both();
    let mut pair = Pair::new(&security, &certificate, 1);
    while !pair.server.is_secure() {
        pair.collect(|_| false);
        pair.step();
    }
    // The client does not hear of it (RFC 6347, 4.2.4).
    pair.collect(|to_server| !to_server);
    let (heard, said) = (pair.heard, pair.said);
    while pair.time() < Duration::from_secs(5) {
        pair.step();
        pair.collect(|to_server| !to_server);
    }
    let (asked, told) = (pair.heard - heard, pair.said - said);
    assert!(asked >= 5, "asked {asked} times");
    assert!(told + 2 >= asked, "told {told} times, asked {asked}");
    assert!(told <= asked, "told {told} times, asked {asked}");
    while !pair.is_connected {
        pair.step();
        pair.collect(|_| false);
        assert!(pair.time() < Duration::from_secs(30));
    }
}

#[test]
fn a_client_that_never_answers_is_given_up_at_the_end_of_its_time_and_not_before() {
    let (security, certificate) = both();
    let mut pair = Pair::new(&security, &certificate, 1);
    while pair.server.over().is_none() {
        // Of the client only what it began with comes.
        let is_begun = pair.heard > 0;
        pair.collect(|to_server| !to_server || is_begun);
        pair.step();
        assert!(pair.time() <= HANDSHAKE + 2 * WAY);
    }
    assert!(pair.time() >= HANDSHAKE, "over after {:?}", pair.time());
    // A few kilobytes, whoever asks.
    assert!(pair.said <= REPEATS + 1, "said {} datagrams", pair.said);
}
