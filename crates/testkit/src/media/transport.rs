//! One connection of a client: ICE, then DTLS, then SRTP, on a socket of its own.

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

/// Room for some frames of many publishers, so that what is lost was not lost here.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Longer than any record of the handshake.
const RECORD_BYTES: usize = 4096;

/// The certificate of all clients of this process. Making one each would cost more than the
/// handshake.
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<dimpl::Config>,
    fingerprint: String,
}

impl Identity {
    /// Makes a certificate.
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

/// The other side, as its SDP says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its ICE user name.
    pub ufrag: String,
    /// Its ICE password.
    pub password: String,
    /// Its first UDP candidate.
    pub address: SocketAddr,
    /// It begins the DTLS handshake, as Janus does when it answers.
    pub is_dtls_client: bool,
}

/// What the SDP of a client says of one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says {
    /// Its ICE user name.
    pub ufrag: String,
    /// Its ICE password.
    pub password: String,
    /// The SHA-256 fingerprint of its certificate, in hexadecimal pairs.
    pub fingerprint: String,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// One connection of one client.
#[derive(Debug)]
pub struct Transport {
    way: Way,
    local: SocketAddr,
    credentials: Credentials,
    identity: Arc<Identity>,
    agent: Option<Agent>,
    is_dtls_client: bool,
    /// Gone when a client's handshake is done: with DTLS 1.2 the server speaks last.
    dtls: Option<Box<Dtls>>,
    dtls_timeout: Option<Instant>,
    keys: Option<(Profile, Sealer, Opener)>,
}

/// How datagrams leave.
#[derive(Debug)]
enum Way {
    Socket(UdpSocket),
    /// They wait until somebody takes them.
    Memory(Vec<Vec<u8>>),
}

/// What a datagram was for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The connection itself; done.
    Handled,
    /// The connection is up: media may be sent.
    Connected,
    /// Still encrypted, with a header in clear.
    Rtp,
    /// Still encrypted.
    Rtcp,
}

impl Way {
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
    /// When there are no more ports or descriptors.
    pub fn open(identity: &Arc<Identity>) -> Result<Self> {
        // Janus does not listen on the loopback interface, only on others of this machine.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no UDP socket")?;
        socket.set_nonblocking(true)?;
        // Beyond the limit of the system only root may go; else the limit has to do.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        let port = socket.local_addr()?.port();
        Ok(Self::over(identity, Way::Socket(socket), port))
    }

    /// One without a socket; [`Transport::take_sent`] has what it sends.
    pub(super) fn in_memory(identity: &Arc<Identity>, port: u16) -> Self {
        Self::over(identity, Way::Memory(Vec::new()), port)
    }

    fn over(identity: &Arc<Identity>, way: Way, port: u16) -> Self {
        Self {
            way,
            local: (Ipv4Addr::LOCALHOST, port).into(),
            credentials: Credentials::draw(),
            identity: Arc::clone(identity),
            agent: None,
            is_dtls_client: true,
            dtls: None,
            dtls_timeout: None,
            keys: None,
        }
    }

    /// What its SDP says of it.
    pub fn says(&self) -> Says {
        Says {
            ufrag: self.credentials.ufrag.clone(),
            password: self.credentials.password.clone(),
            fingerprint: self.identity.fingerprint.clone(),
            address: self.local,
        }
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// When the address cannot be reached at all.
    pub fn connect(&mut self, remote: &Remote, now: Instant) -> Result<()> {
        if let Way::Socket(socket) = &self.way {
            socket
                .connect(remote.address)
                .with_context(|| format!("no way to {}", remote.address))?;
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

    /// What asks a server later whether it still has this.
    pub fn probe(&self, remote: &Remote) -> Option<Probe> {
        Probe::new(&self.credentials, remote)
    }

    /// The SRTP profile that the server chose; `None` before that.
    pub fn profile(&self) -> Option<Profile> {
        self.keys.as_ref().map(|(profile, ..)| *profile)
    }

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        match &self.way {
            Way::Socket(socket) => Some(socket),
            Way::Memory(_) => None,
        }
    }

    /// What was sent without a socket since the last call.
    pub(super) fn take_sent(&mut self) -> Vec<Vec<u8>> {
        match &mut self.way {
            Way::Socket(_) => Vec::new(),
            Way::Memory(sent) => std::mem::take(sent),
        }
    }

    pub(super) fn sealer(&mut self) -> Option<&mut Sealer> {
        self.keys.as_mut().map(|(_, sealer, _)| sealer)
    }

    pub(super) fn opener(&mut self) -> Option<&mut Opener> {
        self.keys.as_mut().map(|(.., opener)| opener)
    }

    /// Sends. What the system has no room for is lost, as on any network.
    pub(super) fn send(&mut self, datagram: &[u8]) -> bool {
        self.way.send(datagram)
    }

    /// Takes a datagram.
    ///
    /// # Errors
    /// When the handshake failed.
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
                    agent.rest(now);
                    self.shake_hands(now)?;
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

    /// When [`Transport::timeout`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let check = self.agent.as_ref().map(Agent::next_timeout);
        let record = self.dtls_timeout.filter(|_| self.dtls.is_some());
        check.into_iter().chain(record).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the handshake failed.
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

    fn shake_hands(&mut self, now: Instant) -> Result<()> {
        let config = Arc::clone(&self.identity.config);
        let mut dtls = Dtls::new_12(config, self.identity.certificate.clone(), now);
        dtls.set_active(self.is_dtls_client);
        dtls.handle_timeout(now).context("DTLS")?;
        self.dtls = Some(Box::new(dtls));
        self.drive(now)?;
        Ok(())
    }

    /// Sends what DTLS has to say; whether the handshake is done.
    fn drive(&mut self, now: Instant) -> Result<bool> {
        let is_client = self.is_dtls_client;
        let Some(dtls) = &mut self.dtls else {
            return Ok(false);
        };
        let (mut buffer, mut is_connected) = (vec![0; RECORD_BYTES], false);
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(record) => {
                    // Lost records are sent again.
                    self.way.send(record);
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
                // The fingerprint is not compared: a load test has nobody to fear.
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
