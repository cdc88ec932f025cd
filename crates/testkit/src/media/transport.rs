//! One connection of a client: ICE, then DTLS, then SRTP, on its own socket.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use dimpl::{Dtls, DtlsCertificate, Output, SrtpProfile, certificate};
use nix::sys::socket::{setsockopt, sockopt};
use parlor_sfu::wire::{
    self, Kind,
    srtp::{self, Opener, Profile, Sealer},
};

use super::Probe;
use super::ice::{Agent, Credentials};

/// Size of the receive buffer, in bytes: several frames of many publishers, so that the client does
/// not lose packets.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Initial size of the buffer for DTLS records, in bytes.
const RECORD_BYTES: usize = 4096;

/// The certificate shared by all clients of this process. Generating one for each would cost more
/// than the handshake.
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<dimpl::Config>,
    fingerprint: String,
}

impl Identity {
    /// Generates a certificate.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Arc<Self>> {
        let certificate = certificate::generate_self_signed_certificate()
            .map_err(|error| anyhow!("no certificate: {error}"))?;
        let digest = certificate::calculate_fingerprint(&certificate.certificate);
        Ok(Arc::new(Self {
            fingerprint: certificate::format_fingerprint(&digest),
            certificate,
            config: Arc::new(dimpl::Config::default()),
        }))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The remote side's connection parameters, from its SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub password: String,
    /// Address of the first UDP candidate.
    pub address: SocketAddr,
    /// Whether the remote side starts the DTLS handshake, as Janus does when it answers.
    pub is_dtls_client: bool,
}

/// The local side's connection parameters, for its SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalDescription {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub password: String,
    /// SHA-256 fingerprint of the certificate, in hexadecimal pairs.
    pub fingerprint: String,
    /// Address of the socket.
    pub address: SocketAddr,
}

/// One connection of one client.
#[derive(Debug)]
pub struct Transport {
    link: Link,
    local: SocketAddr,
    credentials: Credentials,
    identity: Arc<Identity>,
    agent: Option<Agent>,
    is_dtls_client: bool,
    /// Dropped once the handshake is done as the DTLS client: in DTLS 1.2 the server sends the last
    /// flight.
    dtls: Option<Box<Dtls>>,
    dtls_timeout: Option<Instant>,
    keys: Option<(Profile, Sealer, Opener)>,
}

/// Where datagrams are sent.
#[derive(Debug)]
enum Link {
    Socket(UdpSocket),
    /// Datagrams queued until [`Transport::take_sent`].
    Memory(Vec<Vec<u8>>),
}

/// What a received datagram was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Part of ICE or DTLS, already handled.
    Handled,
    /// The end of the handshake: media may be sent now.
    Connected,
    /// An encrypted RTP packet with an unencrypted header.
    Rtp,
    /// An encrypted RTCP packet.
    Rtcp,
}

impl Link {
    fn send(&mut self, datagram: &[u8]) -> bool {
        match self {
            Self::Socket(socket) => socket.send(datagram).is_ok(),
            Self::Memory(sent) => {
                sent.push(datagram.to_vec());
                true
            }
        }
    }
}

impl Transport {
    /// Opens a socket.
    ///
    /// # Errors
    /// When no port or descriptor is free.
    pub fn open(identity: &Arc<Identity>) -> Result<Self> {
        // Janus listens on the other interfaces of this machine, but not on the loopback interface.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no UDP socket")?;
        socket.set_nonblocking(true)?;
        // Only root may exceed the system's limit.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        let port = socket.local_addr()?.port();
        Ok(Self::over(identity, Link::Socket(socket), port))
    }

    /// Creates a transport without a socket. [`Transport::take_sent`] returns what it sends.
    pub(super) fn in_memory(identity: &Arc<Identity>, port: u16) -> Self {
        Self::over(identity, Link::Memory(Vec::new()), port)
    }

    fn over(identity: &Arc<Identity>, link: Link, port: u16) -> Self {
        Self {
            link,
            local: (Ipv4Addr::LOCALHOST, port).into(),
            credentials: Credentials::random(),
            identity: Arc::clone(identity),
            agent: None,
            is_dtls_client: true,
            dtls: None,
            dtls_timeout: None,
            keys: None,
        }
    }

    /// Returns the connection parameters for the SDP.
    pub fn local_description(&self) -> LocalDescription {
        LocalDescription {
            ufrag: self.credentials.ufrag.clone(),
            password: self.credentials.password.clone(),
            fingerprint: self.identity.fingerprint.clone(),
            address: self.local,
        }
    }

    /// Starts connecting.
    ///
    /// # Errors
    /// When there is no route to the address.
    pub fn connect(&mut self, remote: &Remote, now: Instant) -> Result<()> {
        if let Link::Socket(socket) = &self.link {
            socket
                .connect(remote.address)
                .with_context(|| format!("no route to {}", remote.address))?;
            self.local = socket.local_addr()?;
        }
        let theirs = Credentials {
            ufrag: remote.ufrag.clone(),
            password: remote.password.clone(),
        };
        self.is_dtls_client = !remote.is_dtls_client;
        self.agent = Some(Agent::new(self.credentials.clone(), theirs, now));
        Ok(())
    }

    /// Returns a probe that checks whether the server still has this transport.
    pub fn probe(&self, remote: &Remote) -> Option<Probe> {
        Probe::new(&self.credentials, remote)
    }

    /// The SRTP profile that the server chose; `None` before that.
    pub fn profile(&self) -> Option<Profile> {
        self.keys.as_ref().map(|(profile, ..)| *profile)
    }

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        match &self.link {
            Link::Socket(socket) => Some(socket),
            Link::Memory(_) => None,
        }
    }

    /// Returns the datagrams sent without a socket since the last call.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        match &mut self.link {
            Link::Socket(_) => Vec::new(),
            Link::Memory(sent) => std::mem::take(sent),
        }
    }

    pub(super) fn sealer(&mut self) -> Option<&mut Sealer> {
        self.keys.as_mut().map(|(_, sealer, _)| sealer)
    }

    pub(super) fn opener(&mut self) -> Option<&mut Opener> {
        self.keys.as_mut().map(|(.., opener)| opener)
    }

    /// Sends a datagram. Returns `false` when the system did not accept it, in which case it is
    /// lost.
    pub(super) fn send(&mut self, datagram: &[u8]) -> bool {
        self.link.send(datagram)
    }

    /// Handles a received datagram.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<Incoming> {
        match wire::kind(datagram) {
            Kind::Rtp => return Ok(Incoming::Rtp),
            Kind::Rtcp => return Ok(Incoming::Rtcp),
            Kind::Stun => {
                let Some(agent) = &mut self.agent else {
                    return Ok(Incoming::Handled);
                };
                let was_connected = agent.is_connected;
                if let Some(reply) = agent.receive(datagram, self.local) {
                    self.send(&reply);
                } else if agent.is_connected && !was_connected {
                    agent.schedule_consent(now);
                    self.start_handshake(now)?;
                }
            }
            Kind::Dtls => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_timeout(now).context("DTLS")?;
                    dtls.handle_packet(datagram).context("DTLS")?;
                    if self.drive(now)? {
                        self.dtls.take_if(|_| self.is_dtls_client);
                        return Ok(Incoming::Connected);
                    }
                }
            }
            _ => {}
        }
        Ok(Incoming::Handled)
    }

    /// Returns when to call [`Transport::timeout`].
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let check = self.agent.as_ref().map(Agent::next_timeout);
        let record = self.dtls_timeout.filter(|_| self.dtls.is_some());
        check.into_iter().chain(record).min()
    }

    /// Handles the timers that are due.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(super) fn timeout(&mut self, now: Instant) -> Result<()> {
        if let Some(check) = self.agent.as_mut().and_then(|agent| agent.timeout(now)) {
            self.send(&check);
        }
        if self.dtls_timeout.is_some_and(|due| due <= now)
            && let Some(dtls) = &mut self.dtls
        {
            dtls.handle_timeout(now).context("DTLS")?;
            self.drive(now)?;
        }
        Ok(())
    }

    fn start_handshake(&mut self, now: Instant) -> Result<()> {
        let config = Arc::clone(&self.identity.config);
        let mut dtls = Dtls::new_12(config, self.identity.certificate.clone(), now);
        dtls.set_active(self.is_dtls_client);
        dtls.handle_timeout(now).context("DTLS")?;
        self.dtls = Some(Box::new(dtls));
        self.drive(now)?;
        Ok(())
    }

    /// Sends the pending DTLS records. Returns whether the handshake is done.
    fn drive(&mut self, now: Instant) -> Result<bool> {
        let is_client = self.is_dtls_client;
        let Some(dtls) = &mut self.dtls else {
            return Ok(false);
        };
        let (mut buffer, mut is_connected) = (vec![0; RECORD_BYTES], false);
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(record) => {
                    // Lost records are retransmitted.
                    self.link.send(record);
                }
                Output::Timeout(due) => {
                    self.dtls_timeout = Some(due.max(now));
                    break;
                }
                Output::Connected => is_connected = true,
                Output::KeyingMaterial(material, chosen) => {
                    let profile = profile(chosen)?;
                    let (sealer, opener) = srtp::pair(profile, &material, !is_client)
                        .map_err(|error| anyhow!("no SRTP keys: {error}"))?;
                    self.keys = Some((profile, sealer, opener));
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                // The fingerprint is not verified: a load test has no attacker.
                _ => {}
            }
        }
        Ok(is_connected && self.keys.is_some())
    }
}

fn profile(chosen: SrtpProfile) -> Result<Profile> {
    Ok(match chosen {
        SrtpProfile::AEAD_AES_128_GCM => Profile::Aead128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Profile::Aead256Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128Sha1_80,
        other => bail!("unknown SRTP profile {other:?}"),
    })
}
