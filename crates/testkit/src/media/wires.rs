//! What the clients of one process share: the rig, the certificate, and numbers that nobody else has.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_sfu::wire::srtp::Profile;

use super::sdp::{Kind, LAYERS, Line, Media, Session};
use super::{Identity, Probe, Rig, Source, Stream, Transport, TransportId};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client publishes.
#[derive(Clone, Debug)]
pub struct Published {
    /// What is sent, of a camera with layers the largest.
    pub source: Source,
    /// The smaller layers, the larger one first: two or none.
    pub smaller: Vec<Source>,
    /// It begins so long after it could.
    pub after: Duration,
}

impl Published {
    /// One stream, from the beginning.
    pub fn at_once(source: Source) -> Self {
        Self {
            source,
            smaller: Vec::new(),
            after: Duration::ZERO,
        }
    }

    /// What carries it.
    pub fn kind(&self) -> Kind {
        match self.source {
            Source::Video { .. } => Kind::Video,
            Source::Voice { .. } | Source::Silence => Kind::Audio,
        }
    }
}

/// What all clients share.
#[derive(Debug)]
pub struct Wires {
    /// The thread with the sockets.
    pub rig: Arc<Rig>,
    identity: Arc<Identity>,
    next_ssrc: AtomicU32,
    profile: OnceLock<Profile>,
    probes: Mutex<Vec<Probe>>,
}

/// A connection that is up. Its socket is closed with this, without a word to the server.
#[derive(Debug)]
pub struct Seated {
    /// What the rig calls it.
    pub id: TransportId,
    rig: Arc<Rig>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.rig.remove(self.id);
    }
}

impl Wires {
    /// Starts the rig, which decrypts one of so many packets for the times.
    ///
    /// # Errors
    /// When the system has no descriptors or no randomness.
    pub fn lay(sample: u64) -> Result<Self> {
        Ok(Self {
            rig: Arc::new(Rig::start(sample)?),
            identity: Identity::new()?,
            next_ssrc: AtomicU32::new(1_000_000),
            profile: OnceLock::new(),
            probes: Mutex::default(),
        })
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// When there are no more ports or descriptors.
    pub fn transport(&self) -> Result<Transport> {
        Transport::open(&self.identity)
    }

    fn ssrc(&self) -> u32 {
        self.next_ssrc.fetch_add(1, Ordering::Relaxed)
    }

    /// The m-line of a source in an offer.
    pub fn line(&self, mid: &str, published: &Published) -> Line {
        let is_simulcast = !published.smaller.is_empty();
        Line {
            ssrc: (!is_simulcast).then(|| self.ssrc()),
            is_simulcast,
            ..Line::warm_up(mid, published.kind())
        }
    }

    /// Starts to send a line that was answered.
    pub fn publish(&self, on: &Seated, line: &Line, answered: &Media, published: &Published) {
        let payload_type = line.kind.payload_type();
        let (source, after) = (published.source, published.after);
        if let Some(ssrc) = line.ssrc {
            let stream = Stream::new(source, payload_type, ssrc, answered.agreed(None));
            self.rig.publish(on.id, stream, after);
            return;
        }
        let layers = [source].into_iter().chain(published.smaller.clone());
        for (rid, source) in LAYERS.into_iter().zip(layers) {
            let agreed = answered.agreed(Some(rid));
            let stream = Stream::new(source, payload_type, self.ssrc(), agreed);
            self.rig.publish(on.id, stream, after);
        }
    }

    /// Connects a transport to the other side of this SDP, and waits for it.
    ///
    /// # Errors
    /// When it does not connect in a minute.
    pub async fn connect(&self, mut transport: Transport, theirs: &Session) -> Result<Seated> {
        transport.connect(theirs.remote()?, Instant::now())?;
        let (id, connected) = self.rig.add(transport).await?;
        let rig = Arc::clone(&self.rig);
        let seated = Seated { id, rig };
        let profile = tokio::time::timeout(PATIENCE, connected)
            .await
            .context("a transport did not connect")??;
        self.profile.get_or_init(|| profile);
        Ok(seated)
    }

    /// How the server encrypts.
    pub fn profile(&self) -> Option<Profile> {
        self.profile.get().copied()
    }

    pub(super) fn remember(&self, probe: Probe) {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.push(probe);
    }

    /// Every transport that a server of Parlor's has made since the last call, connected or not.
    pub fn take_probes(&self) -> Vec<Probe> {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *probes)
    }
}
