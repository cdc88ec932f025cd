//! One connection of one client: the route to it, its SRTP keys, and the datagrams to send.

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

/// Buffer size for one DTLS datagram, in bytes.
const RECORD_BYTES: usize = 2048;

/// Initial retransmission timeout of DTLS, doubled after each attempt. Browsers use the same value:
/// with the one second recommended by RFC 6347 (4.2.4.1), one lost datagram is a second of silence
/// for a user. It also limits how often the client's own retransmissions are answered, so it must
/// not be longer than the client's.
const RETRANSMIT_TIMEOUT: Duration = Duration::from_millis(50);

/// Maximum number of retransmissions of one flight: enough to outlast [`HANDSHAKE_TIMEOUT`].
const MAX_RETRANSMISSIONS: usize = 10;

/// Maximum duration of a handshake, from the client's first datagram.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(40);

/// The DTLS configuration that all transports of one engine share.
pub(super) struct DtlsContext {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    fingerprint: [u8; 32],
}

impl DtlsContext {
    /// All transports share one certificate, since generating one takes longer than the rest of an
    /// answer. Clients verify it by its fingerprint in the answer, which reaches them over TLS (RFC
    /// 8827, 6.5).
    pub(super) fn new(identity: &Identity) -> Self {
        let config = dimpl::Config::builder()
            // Clients are authenticated by their certificate only.
            .require_client_certificate(true)
            // ICE has already verified the client's address.
            .use_server_cookie(false)
            .flight_start_rto(RETRANSMIT_TIMEOUT)
            .flight_retries(MAX_RETRANSMISSIONS)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .expect("the built-in crypto provider supports DTLS");
        Self {
            config: Arc::new(config),
            certificate: DtlsCertificate {
                certificate: identity.certificate.clone(),
                private_key: identity.key.clone(),
            },
            fingerprint: fingerprint(&identity.certificate),
        }
    }

    /// Returns the SHA-256 fingerprint of the certificate.
    pub(super) fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// A certificate and its private key, both DER-encoded.
#[derive(Clone)]
pub(crate) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Generates a certificate. Only its fingerprint matters (RFC 8827, 6.5).
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

/// The transports with queued datagrams, and a pool of outboxes for them. An idle transport holds
/// no send buffer.
#[derive(Default)]
pub(super) struct OutboxPool {
    dirty: Vec<usize>,
    spare: Vec<Outbox>,
    responses: Vec<(Route, Outbox)>,
}

/// Maximum number of pooled outboxes.
const MAX_SPARE: usize = 256;
/// Maximum capacity of a pooled outbox, in bytes. Larger ones are dropped.
const MAX_SPARE_BYTES: usize = 64 * 1024;

/// Maximum size of an outbox, in bytes. More could not be sent in one flush anyway.
const MAX_OUTBOX_BYTES: usize = 1024 * 1024;

impl OutboxPool {
    /// Queues a response to a datagram, on the route that it arrived on.
    pub(super) fn respond(&mut self, route: Route, datagram: &[u8]) {
        let mut outbox = Outbox::default();
        outbox.push(datagram);
        self.responses.push((route, outbox));
    }

    /// Takes the queued responses.
    pub(super) fn responses(&mut self) -> std::vec::Drain<'_, (Route, Outbox)> {
        self.responses.drain(..)
    }

    pub(super) fn take_dirty(&mut self) -> Option<usize> {
        self.dirty.pop()
    }

    pub(super) fn recycle(&mut self, mut outbox: Outbox) {
        if self.spare.len() < MAX_SPARE && outbox.capacity() <= MAX_SPARE_BYTES {
            outbox.clear();
            self.spare.push(outbox);
        }
    }
}

/// One connection of one client.
pub(super) struct Transport {
    /// Slab key of the transport in the engine.
    slab_key: usize,
    pub(super) ice: Ice,
    /// Fingerprint of the client's certificate, from its offer.
    expected_fingerprint: [u8; 32],
    trusted: bool,
    dtls: Box<Dtls>,
    /// When the DTLS timer fires.
    dtls_wakes_at: Option<Instant>,
    keys: Option<Keys>,
    end_reason: Option<&'static str>,
    outbox: Option<Outbox>,
}

struct Keys {
    sealer: Sealer,
    opener: Opener,
}

impl Transport {
    pub(super) fn new(
        now: Instant,
        slab_key: usize,
        dtls_context: &DtlsContext,
        ice: Ice,
        expected_fingerprint: [u8; 32],
    ) -> Self {
        let dtls = Dtls::new_12(
            Arc::clone(&dtls_context.config),
            dtls_context.certificate.clone(),
            now,
        );
        Self {
            slab_key,
            ice,
            expected_fingerprint,
            trusted: false,
            dtls: Box::new(dtls),
            dtls_wakes_at: None,
            keys: None,
            end_reason: None,
            outbox: None,
        }
    }

    /// Returns the id of the transport.
    pub(super) fn id(&self) -> &str {
        self.ice.ufrag()
    }

    /// Returns why the transport has ended, if it has.
    pub(super) fn end_reason(&self) -> Option<&'static str> {
        self.end_reason
    }

    /// Whether media can flow in both directions.
    pub(super) fn is_connected(&self, now: Instant) -> bool {
        self.is_secure() && self.ice.is_alive(now)
    }

    /// Whether the handshake is complete and the client's certificate matches its offer.
    pub(super) fn is_secure(&self) -> bool {
        self.trusted && self.keys.is_some()
    }

    /// Whether the route is the selected one and the client has used it recently.
    pub(super) fn holds(&self, now: Instant, route: Route) -> bool {
        self.is_secure() && self.ice.holds(now, route)
    }

    /// Returns when [`Transport::timeout`] must be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.dtls_wakes_at
    }

    /// Handles a connectivity check and returns the response, or `None` if the signature is
    /// invalid.
    pub(super) fn check(
        &mut self,
        now: Instant,
        route: Route,
        source: SocketAddr,
        message: &StunMessage<'_>,
    ) -> Option<Vec<u8>> {
        self.ice.check(now, route, source, message)
    }

    /// Processes a DTLS datagram.
    pub(super) fn dtls(&mut self, now: Instant, datagram: &[u8], pool: &mut OutboxPool) {
        self.catch_panic(pool, |transport, pool| {
            transport.dtls.handle_timeout(now)?;
            transport.dtls.handle_packet(datagram)?;
            transport.poll_dtls(pool);
            Ok(())
        });
    }

    /// Retransmits the last DTLS flight if it was not acknowledged in time.
    pub(super) fn timeout(&mut self, now: Instant, pool: &mut OutboxPool) {
        // After the handshake there is nothing to retransmit, and the connectivity checks show that
        // the client is alive.
        if self.end_reason.is_some() || self.dtls_wakes_at.is_none_or(|wakes| wakes > now) {
            return;
        }
        self.catch_panic(pool, |transport, pool| {
            transport.dtls.handle_timeout(now)?;
            transport.poll_dtls(pool);
            Ok(())
        });
    }

    /// Catches a panic on one client's input, because one thread serves many transports. The
    /// transport is freed afterwards, since its state may be inconsistent.
    fn catch_panic(
        &mut self,
        pool: &mut OutboxPool,
        work: impl FnOnce(&mut Self, &mut OutboxPool) -> Result<(), dimpl::Error>,
    ) {
        match catch_unwind(AssertUnwindSafe(|| work(self, pool))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(transport_id = self.id(), %error, "DTLS failed");
                self.end_reason = Some("DTLS failed");
            }
            Err(_) => {
                error!(transport_id = self.id(), "transport panicked");
                self.end_reason = Some("panicked");
            }
        }
    }

    fn poll_dtls(&mut self, pool: &mut OutboxPool) {
        let mut buffer = vec![0; RECORD_BYTES];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(record) => {
                    let outbox = outbox(&mut self.outbox, self.slab_key, pool);
                    outbox.push(record);
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(wakes) => {
                    self.dtls_wakes_at = (!self.is_secure()).then_some(wakes);
                    return;
                }
                Output::PeerCert(certificate) => {
                    self.trusted = fingerprint(certificate) == self.expected_fingerprint;
                    if !self.trusted {
                        self.end_reason = Some("the client's certificate does not match its offer");
                    }
                }
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aead128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aead256Gcm,
                        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128Sha1_80,
                        _ => {
                            self.end_reason = Some("unknown SRTP profile");
                            continue;
                        }
                    };
                    match srtp::pair(profile, &material, true) {
                        Ok((sealer, opener)) => self.keys = Some(Keys { sealer, opener }),
                        Err(_) => self.end_reason = Some("unusable SRTP keys"),
                    }
                }
                Output::CloseNotify => self.end_reason = Some("closed by the client"),
                _ => {}
            }
        }
    }

    /// Returns the SRTP context for incoming packets, or `None` before the client's certificate is
    /// verified.
    pub(super) fn opener(&mut self) -> Option<&mut Opener> {
        let trusted = self.trusted;
        self.keys
            .as_mut()
            .filter(|_| trusted)
            .map(|keys| &mut keys.opener)
    }

    /// Begins a datagram to the client. The caller writes it into the outbox, seals it, and must
    /// then call [`Outbox::end`].
    pub(super) fn begin<'a>(
        &'a mut self,
        pool: &mut OutboxPool,
    ) -> Option<(&'a mut Outbox, &'a mut Sealer)> {
        if !self.trusted {
            return None;
        }
        let sealer = &mut self.keys.as_mut()?.sealer;
        let outbox = outbox(&mut self.outbox, self.slab_key, pool);
        (outbox.size() < MAX_OUTBOX_BYTES).then_some((outbox, sealer))
    }

    /// Sends a compound RTCP packet in one datagram.
    pub(super) fn send_rtcp(&mut self, pool: &mut OutboxPool, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((outbox, sealer)) = self.begin(pool) else {
            return;
        };
        let (bytes, start) = outbox.begin();
        write(bytes);
        if bytes.len() > start {
            sealer.seal_rtcp(bytes, start);
            outbox.end();
        }
    }

    /// Takes the queued datagrams.
    pub(super) fn take_outbox(&mut self) -> Option<Outbox> {
        self.outbox.take()
    }
}

fn outbox<'a>(
    slot: &'a mut Option<Outbox>,
    slab_key: usize,
    pool: &mut OutboxPool,
) -> &'a mut Outbox {
    slot.get_or_insert_with(|| {
        pool.dirty.push(slab_key);
        pool.spare.pop().unwrap_or_default()
    })
}

/// Returns the middle 32 bits of an NTP timestamp, the form that report blocks use (RFC 3550,
/// 6.4.1).
pub(super) fn ntp_middle(ntp: u64) -> u32 {
    u32::try_from(ntp >> 16 & 0xFFFF_FFFF).expect("the value has 32 bits")
}

/// Returns the round-trip time from the LSR and DLSR fields of a report block.
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
