//! The DTLS handshake with a client that retransmits like a browser.

use std::collections::BTreeMap;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// One-way delay of the network.
const ONE_WAY_DELAY: Duration = Duration::from_millis(10);

/// A transport, a client and the network between them, in virtual time.
struct Pair {
    started_at: Instant,
    now: Instant,
    server: Transport,
    pool: OutboxPool,
    client: Dtls,
    client_wakes: Instant,
    is_connected: bool,
    /// Datagrams in flight by arrival time, and whether they go to the server.
    in_flight: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sequence: u64,
    /// Number of datagrams that the server has received and sent.
    received: usize,
    sent: usize,
}

impl Pair {
    fn new(dtls_context: &DtlsContext, certificate: &DtlsCertificate, seed: u64) -> Self {
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
        let expected_fingerprint = fingerprint(&certificate.certificate);
        Self {
            started_at: now,
            now,
            server: Transport::new(now, 0, dtls_context, ice, expected_fingerprint),
            pool: OutboxPool::default(),
            client,
            client_wakes: now,
            is_connected: false,
            in_flight: BTreeMap::new(),
            sequence: 0,
            received: 0,
            sent: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.is_connected && self.server.is_secure()
    }

    /// Collects the datagrams of both sides. `is_lost` is called with whether a datagram goes to
    /// the server.
    fn collect(&mut self, mut is_lost: impl FnMut(bool) -> bool) {
        let at = self.now + ONE_WAY_DELAY;
        let mut send = |to_server, datagram: &[u8]| {
            if !is_lost(to_server) {
                self.sequence += 1;
                let datagram_in_flight = (to_server, datagram.to_vec());
                self.in_flight
                    .insert((at, self.sequence), datagram_in_flight);
            }
        };
        let mut buffer = [0; RECORD_BYTES];
        loop {
            match self.client.poll_output(&mut buffer) {
                Output::Packet(datagram) => send(true, datagram),
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
                self.sent += 1;
                send(false, datagram);
            }
        }
    }

    /// Advances to the next event and handles it.
    fn step(&mut self) {
        let next = self.in_flight.keys().next().map(|(at, _)| *at);
        let wakes = [Some(self.client_wakes), self.server.next_timeout(), next];
        let next = wakes.into_iter().flatten().min().unwrap();
        self.now = next.max(self.now + MS);
        while let Some(datagram_in_flight) = self.in_flight.first_entry() {
            if datagram_in_flight.key().0 > self.now {
                break;
            }
            let (to_server, datagram) = datagram_in_flight.remove();
            if to_server {
                self.received += 1;
                self.server.dtls(self.now, &datagram, &mut self.pool);
            } else {
                self.client.handle_timeout(self.now).unwrap();
                self.client.handle_packet(&datagram).unwrap();
            }
        }
        self.server.timeout(self.now, &mut self.pool);
        self.client.handle_timeout(self.now).unwrap();
    }

    fn elapsed(&self) -> Duration {
        self.now - self.started_at
    }
}

fn contexts() -> (DtlsContext, DtlsCertificate) {
    let identity = || Identity::generate().unwrap();
    let client = identity();
    let certificate = DtlsCertificate {
        certificate: client.certificate,
        private_key: client.key,
    };
    (DtlsContext::new(&identity()), certificate)
}

/// Loses a fifth of the datagrams in each direction, reproducibly.
fn lossy(seed: u64) -> impl FnMut(bool) -> bool {
    let mut states =
        [2 * seed + 1, 2 * seed + 2].map(|seed| seed.wrapping_mul(0xD134_2543_DE82_EF95));
    move |to_server| {
        let state = &mut states[usize::from(to_server)];
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32 < (1 << 32) / 5
    }
}

#[test]
fn browsers_connect_soon_on_a_path_that_loses_a_fifth() {
    let (dtls_context, certificate) = contexts();
    let late = (0..200).filter(|seed| {
        let mut pair = Pair::new(&dtls_context, &certificate, *seed);
        let mut is_lost = lossy(*seed);
        loop {
            pair.collect(&mut is_lost);
            if pair.is_done() || pair.elapsed() > Duration::from_secs(2) {
                return !pair.is_done();
            }
            pair.step();
        }
    });
    // One in a thousand takes longer by chance.
    let late = late.collect::<Vec<_>>();
    assert!(late.len() <= 4, "not connected: {late:?}");
}

#[test]
fn the_last_flight_is_retransmitted_whenever_the_client_retransmits() {
    let (dtls_context, certificate) = contexts();
    let mut pair = Pair::new(&dtls_context, &certificate, 1);
    while !pair.server.is_secure() {
        pair.collect(|_| false);
        pair.step();
    }
    // The client does not receive it (RFC 6347, 4.2.4).
    pair.collect(|to_server| !to_server);
    let (received, sent) = (pair.received, pair.sent);
    while pair.elapsed() < Duration::from_secs(5) {
        pair.step();
        pair.collect(|to_server| !to_server);
    }
    let (retransmitted, answered) = (pair.received - received, pair.sent - sent);
    assert!(
        retransmitted >= 5,
        "the client retransmitted {retransmitted} times"
    );
    assert!(
        answered + 2 >= retransmitted,
        "answered {answered} of {retransmitted} retransmissions"
    );
    assert!(
        answered <= retransmitted,
        "answered {answered} of {retransmitted} retransmissions"
    );
    while !pair.is_connected {
        pair.step();
        pair.collect(|_| false);
        assert!(pair.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_client_that_never_answers_is_dropped_at_the_handshake_timeout() {
    let (dtls_context, certificate) = contexts();
    let mut pair = Pair::new(&dtls_context, &certificate, 1);
    while pair.server.end_reason().is_none() {
        // Only the client's first datagram arrives.
        let has_started = pair.received > 0;
        pair.collect(|to_server| !to_server || has_started);
        pair.step();
        assert!(pair.elapsed() <= HANDSHAKE_TIMEOUT + 2 * ONE_WAY_DELAY);
    }
    assert!(
        pair.elapsed() >= HANDSHAKE_TIMEOUT,
        "ended after {:?}",
        pair.elapsed()
    );
    // A few kilobytes, whoever the client is.
    assert!(
        pair.sent <= MAX_RETRANSMISSIONS + 1,
        "sent {} datagrams",
        pair.sent
    );
}
