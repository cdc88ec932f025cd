//! What the clients of one process share: the media thread, the certificate, and unique SSRCs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_sfu::wire::srtp::Profile;

use super::sdp::{Kind, LAYERS, Line, Media, Session};
use super::{Identity, MediaThread, Probe, Source, Stream, Transport, TransportId};

/// Timeout of connecting a transport.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// A source that a client publishes.
#[derive(Clone, Debug)]
pub struct Published {
    /// Source, or the highest simulcast layer of the camera.
    pub source: Source,
    /// Lower simulcast layers, the higher one first: two or none.
    pub smaller: Vec<Source>,
    /// Delay before the first packet.
    pub after: Duration,
}

impl Published {
    /// Publishes one stream without delay.
    pub fn at_once(source: Source) -> Self {
        Self {
            source,
            smaller: Vec::new(),
            after: Duration::ZERO,
        }
    }

    /// The kind of m-line for the source.
    pub fn kind(&self) -> Kind {
        match self.source {
            Source::Video { .. } => Kind::Video,
            Source::Voice { .. } | Source::Silence => Kind::Audio,
        }
    }
}

/// What the clients of one process share.
#[derive(Debug)]
pub struct SharedMedia {
    /// The thread that owns the sockets.
    pub thread: Arc<MediaThread>,
    identity: Arc<Identity>,
    next_ssrc: AtomicU32,
    profile: OnceLock<Profile>,
    probes: Mutex<Vec<Probe>>,
}

/// A connected transport. Dropping it closes the socket without notifying the server.
#[derive(Debug)]
pub struct ConnectionHandle {
    /// ID of the transport on the media thread.
    pub id: TransportId,
    thread: Arc<MediaThread>,
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.thread.remove(self.id);
    }
}

impl SharedMedia {
    /// Starts the media thread, which decrypts one in `sample` packets to measure latency.
    ///
    /// # Errors
    /// When the system has no free descriptors or no randomness.
    pub fn start(sample: u64) -> Result<Self> {
        Ok(Self {
            thread: Arc::new(MediaThread::start(sample)?),
            identity: Identity::new()?,
            next_ssrc: AtomicU32::new(1_000_000),
            profile: OnceLock::new(),
            probes: Mutex::default(),
        })
    }

    /// Opens a transport with its own socket.
    ///
    /// # Errors
    /// When no port or descriptor is free.
    pub fn transport(&self) -> Result<Transport> {
        Transport::open(&self.identity)
    }

    fn ssrc(&self) -> u32 {
        self.next_ssrc.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the m-line of a source in an offer.
    pub fn line(&self, mid: &str, published: &Published) -> Line {
        let is_simulcast = !published.smaller.is_empty();
        Line {
            ssrc: (!is_simulcast).then(|| self.ssrc()),
            is_simulcast,
            ..Line::warm_up(mid, published.kind())
        }
    }

    /// Starts to send on an m-line that was answered.
    pub fn publish(
        &self,
        on: &ConnectionHandle,
        line: &Line,
        answered: &Media,
        published: &Published,
    ) {
        let payload_type = line.kind.payload_type();
        let (source, after) = (published.source, published.after);
        if let Some(ssrc) = line.ssrc {
            let stream = Stream::new(source, payload_type, ssrc, answered.agreed(None));
            self.thread.publish(on.id, stream, after);
            return;
        }
        let layers = [source].into_iter().chain(published.smaller.clone());
        for (rid, source) in LAYERS.into_iter().zip(layers) {
            let agreed = answered.agreed(Some(rid));
            let stream = Stream::new(source, payload_type, self.ssrc(), agreed);
            self.thread.publish(on.id, stream, after);
        }
    }

    /// Connects a transport to the remote side of this SDP, and waits until it is connected.
    ///
    /// # Errors
    /// When the transport does not connect within a minute.
    pub async fn connect(
        &self,
        mut transport: Transport,
        theirs: &Session,
    ) -> Result<ConnectionHandle> {
        transport.connect(theirs.remote()?, Instant::now())?;
        let (id, connected) = self.thread.add(transport).await?;
        let thread = Arc::clone(&self.thread);
        let connection = ConnectionHandle { id, thread };
        let profile = tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .context("a transport did not connect")??;
        self.profile.get_or_init(|| profile);
        Ok(connection)
    }

    /// The SRTP profile that the server chose.
    pub fn profile(&self) -> Option<Profile> {
        self.profile.get().copied()
    }

    pub(super) fn remember(&self, probe: Probe) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.push(probe);
    }

    /// Returns probes for all transports that Parlor has created since the last call, connected or
    /// not.
    pub fn take_probes(&self) -> Vec<Probe> {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *probes)
    }
}
