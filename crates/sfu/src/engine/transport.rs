//! One connection of one client: the way to it, the keys for it, and what waits to be sent on it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Dtls, DtlsCertificate, Output};
use is::stun::StunMessage;
use tracing::{debug, error};

use super::Route;
use super::ice::Ice;
use super::outbox::Outbox;
use crate::wire::rtcp;
use crate::wire::srtp::{self, Opener, Profile, Sealer};

/// Room for one DTLS datagram.
const RECORD_BYTES: usize = 2048;

/// How long DTLS waits for an answer before it repeats a flight; every time twice as long. What
/// browsers take too: with the second that RFC 6347 (4.2.4.1) has in mind for everybody, one lost
/// datagram is a second of silence for a person. It is also the pace at which what a client repeats
/// is answered, so it must not be slower than the client's own.
const FLIGHT: Duration = Duration::from_millis(50);

/// How often DTLS repeats one flight: so often that [`HANDSHAKE`] is over before.
const REPEATS: usize = 10;

/// How long a handshake may take, from the first that comes of the client's.
const HANDSHAKE: Duration = Duration::from_secs(40);

/// What the transports of one engine have in common.
pub(super) struct Security {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    fingerprint: [u8; 32],
}

impl Security {
    /// One certificate for all: making one takes longer than all the rest of an answer, and clients
    /// know it by its fingerprint in the answer, which reaches them over TLS (RFC 8827, 6.5).
    pub(super) fn new(identity: &Identity) -> Self {
        let config = dimpl::Config::builder()
            // A client is known by its certificate only: one without is nobody.
            .require_client_certificate(true)
            // ICE has shown already that the client is where it says.
            .use_server_cookie(false)
            .flight_start_rto(FLIGHT)
            .flight_retries(REPEATS)
            .handshake_timeout(HANDSHAKE)
            .build()
            .expect("the provider that is built in has what DTLS needs");
        Self {
            config: Arc::new(config),
            certificate: DtlsCertificate {
                certificate: identity.certificate.clone(),
                private_key: identity.key.clone(),
            },
            fingerprint: fingerprint(&identity.certificate),
        }
    }

    /// What clients know the certificate by.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// A certificate and its private key, both DER.
#[derive(Clone)]
pub(crate) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Makes a new one. Nothing but its fingerprint matters (RFC 8827, 6.5).
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::default().self_signed(&key)?;
        Ok(Self {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }
}

fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    bytes
}

/// Transports with something to send, and outboxes for them. A client that is sent nothing now holds
/// no memory for what it may be sent later.
#[derive(Default)]
pub(super) struct Yard {
    dirty: Vec<usize>,
    spare: Vec<Outbox>,
    answers: Vec<(Route, Outbox)>,
}

/// Outboxes that are kept for the next.
const SPARE: usize = 256;
/// Larger ones are not kept.
const SPARE_BYTES: usize = 64 * 1024;

/// What may wait for one client between two sends. More could not be sent at once anyway.
const OUTBOX_BYTES: usize = 1024 * 1024;

impl Yard {
    /// A datagram goes back the way that another came.
    pub(super) fn answer(&mut self, route: Route, datagram: &[u8]) {
        let mut outbox = Outbox::default();
        outbox.push(datagram);
        self.answers.push((route, outbox));
    }

    /// Takes what goes back.
    pub(super) fn answers(&mut self) -> std::vec::Drain<'_, (Route, Outbox)> {
        self.answers.drain(..)
    }

    pub(super) fn take_dirty(&mut self) -> Option<usize> {
        self.dirty.pop()
    }

    pub(super) fn give_back(&mut self, mut outbox: Outbox) {
        if self.spare.len() < SPARE && outbox.capacity() <= SPARE_BYTES {
            outbox.clear();
            self.spare.push(outbox);
        }
    }
}

/// One connection of one client.
pub(super) struct Transport {
    /// Its place in the engine.
    place: usize,
    pub(super) ice: Ice,
    /// What the certificate of the client must be.
    expected: [u8; 32],
    trusted: bool,
    dtls: Box<Dtls>,
    /// When DTLS wants to be woken.
    dtls_wakes: Option<Instant>,
    keys: Option<Keys>,
    over: Option<&'static str>,
    outbox: Option<Outbox>,
}

struct Keys {
    sealer: Sealer,
    opener: Opener,
}

impl Transport {
    pub(super) fn new(
        now: Instant,
        place: usize,
        security: &Security,
        ice: Ice,
        expected: [u8; 32],
    ) -> Self {
        let dtls = Dtls::new_12(
            Arc::clone(&security.config),
            security.certificate.clone(),
            now,
        );
        Self {
            place,
            ice,
            expected,
            trusted: false,
            dtls: Box::new(dtls),
            dtls_wakes: None,
            keys: None,
            over: None,
            outbox: None,
        }
    }

    /// The id of the transport.
    pub(super) fn id(&self) -> &str {
        self.ice.ufrag()
    }

    /// Why it will never do anything again.
    pub(super) fn over(&self) -> Option<&'static str> {
        self.over
    }

    /// Whether packets of media can go both ways.
    pub(super) fn is_connected(&self, now: Instant) -> bool {
        self.is_secure() && self.ice.is_alive(now)
    }

    /// Whether both have keys, and the client is the one that made the offer.
    pub(super) fn is_secure(&self) -> bool {
        self.trusted && self.keys.is_some()
    }

    /// Whether its client has lately shown itself on this way, which is the one that is in use.
    pub(super) fn holds(&self, now: Instant, route: Route) -> bool {
        self.is_secure() && self.ice.holds(now, route)
    }

    /// When it is to be woken for DTLS.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.dtls_wakes
    }

    /// Answers a check of the client; nothing if it is not signed as it should be.
    pub(super) fn check(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        message: &StunMessage<'_>,
    ) -> Option<Vec<u8>> {
        self.ice.check(now, route, source, message)
    }

    /// Takes a DTLS datagram.
    pub(super) fn dtls(&mut self, now: Instant, datagram: &[u8], yard: &mut Yard) {
        self.guarded(yard, |transport, yard| {
            transport.dtls.handle_timeout(now)?;
            transport.dtls.handle_packet(datagram)?;
            transport.pump(yard);
            Ok(())
        });
    }

    /// Lets DTLS repeat what was not answered.
    pub(super) fn timeout(&mut self, now: Instant, yard: &mut Yard) {
        // After the handshake there is nothing to repeat, and a client that checks is alive.
        if self.over.is_some() || self.dtls_wakes.is_none_or(|wakes| wakes > now) {
            return;
        }
        self.guarded(yard, |transport, yard| {
            transport.dtls.handle_timeout(now)?;
            transport.pump(yard);
            Ok(())
        });
    }

    /// One thread serves everybody: a panic over one client's bytes must stay that client's. What is
    /// left in a bad state is freed.
    fn guarded(
        &mut self,
        yard: &mut Yard,
        work: impl FnOnce(&mut Self, &mut Yard) -> Result<(), dimpl::Error>,
    ) {
        match catch_unwind(AssertUnwindSafe(|| work(self, yard))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(transport_id = self.id(), %error, "DTLS failed");
                self.over = Some("DTLS failed");
            }
            Err(_) => {
                error!(transport_id = self.id(), "a transport panicked");
                self.over = Some("panicked");
            }
        }
    }

    fn pump(&mut self, yard: &mut Yard) {
        let mut buffer = vec![0; RECORD_BYTES];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(record) => {
                    let outbox = outbox(&mut self.outbox, self.place, yard);
                    outbox.push(record);
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(wakes) => {
                    self.dtls_wakes = (!self.is_secure()).then_some(wakes);
                    return;
                }
                Output::PeerCert(certificate) => {
                    self.trusted = fingerprint(certificate) == self.expected;
                    if !self.trusted {
                        self.over = Some("its certificate is not the one of its offer");
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aead128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aead256Gcm,
                        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128Sha1_80,
                        _ => {
                            self.over = Some("SRTP profile unknown");
                            continue;
                        }
                    };
                    match srtp::pair(profile, &material, true) {
                        Ok((sealer, opener)) => self.keys = Some(Keys { sealer, opener }),
                        Err(_) => self.over = Some("SRTP keys unusable"),
                    }
                }
                Output::CloseNotify => self.over = Some("closed by the client"),
                _ => {}
            }
        }
    }

    /// What opens packets of the client. Nothing before the client is known.
    pub(super) fn opener(&mut self) -> Option<&mut Opener> {
        let trusted = self.trusted;
        self.keys
            .as_mut()
            .filter(|_| trusted)
            .map(|keys| &mut keys.opener)
    }

    /// Begins a datagram to the client: where it is written, from which byte on, and what seals it.
    /// [`Outbox::end`] must follow.
    pub(super) fn begin<'a>(
        &'a mut self,
        yard: &mut Yard,
    ) -> Option<(&'a mut Outbox, &'a mut Sealer)> {
        if !self.trusted {
            return None;
        }
        let sealer = &mut self.keys.as_mut()?.sealer;
        let outbox = outbox(&mut self.outbox, self.place, yard);
        (outbox.size() < OUTBOX_BYTES).then_some((outbox, sealer))
    }

    /// Sends RTCP packets in one datagram.
    pub(super) fn send_rtcp(&mut self, yard: &mut Yard, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((outbox, sealer)) = self.begin(yard) else {
            return;
        };
        let (bytes, start) = outbox.begin();
        write(bytes);
        if bytes.len() > start {
            sealer.seal_rtcp(bytes, start);
            outbox.end();
        }
    }

    /// What waits to be sent.
    pub(super) fn take_outbox(&mut self) -> Option<Outbox> {
        self.outbox.take()
    }
}

fn outbox<'a>(slot: &'a mut Option<Outbox>, place: usize, yard: &mut Yard) -> &'a mut Outbox {
    slot.get_or_insert_with(|| {
        yard.dirty.push(place);
        yard.spare.pop().unwrap_or_default()
    })
}

/// The middle of an NTP time, as reports repeat it (RFC 3550, 6.4.1).
pub(super) fn middle(ntp: u64) -> u32 {
    u32::try_from(ntp >> 16 & 0xFFFF_FFFF).expect("it has 32 bits")
}

/// A round trip from what a report says about the last one it heard of.
pub(super) fn round_trip(
    now: Instant,
    sent: Instant,
    block: &rtcp::ReportBlock,
) -> Option<Duration> {
    let held = Duration::from_secs_f64(f64::from(block.dlsr) / 65_536.0);
    now.saturating_duration_since(sent).checked_sub(held)
}

#[cfg(test)]
mod tests;
