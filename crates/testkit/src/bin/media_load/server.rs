//! A server that is started, and clients that come in.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parlor_sfu::wire::srtp::Profile;
use parlor_testkit::media::sdp::{Kind as MediaKind, LAYERS, Line, Media, Session};
use parlor_testkit::media::{Identity, Rig, Source, Stream, Transport, TransportId};

use crate::options::{Kind, Options};
use crate::process::Process;
use crate::{janus, parlor};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client does once it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Sends these, each so long after it could.
    pub(crate) publishes: Vec<(Source, Duration)>,
    /// Sends each video in three layers.
    pub(crate) is_simulcast: bool,
    /// Receives everything that others send.
    pub(crate) subscribes: bool,
    /// Has a connection of each direction in any case, as the official SDK does.
    pub(crate) connects_both: bool,
}

/// How long each phase of coming took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phases {
    /// The socket, and joining the room.
    pub(crate) signalling: Duration,
    /// Offers and answers of the first connections.
    pub(crate) offers: Duration,
    /// ICE and DTLS of those.
    pub(crate) connecting: Duration,
    /// Offers and answers of what is sent and received.
    pub(crate) tracks: Duration,
}

/// A client that is in. It leaves when this is dropped.
pub(crate) struct Client {
    pub(crate) phases: Phases,
    pub(crate) _signalling: Signalling,
}

/// What keeps a client in.
#[expect(dead_code, reason = "kept for its end only")]
pub(crate) enum Signalling {
    Parlor(Box<parlor_testkit::signal::Peer>),
    Janus(tokio::task::JoinHandle<()>),
}

/// A server under load.
pub(crate) enum Server {
    Parlor(Box<parlor::Stage>),
    Janus(janus::Stage),
}

/// One room of it.
pub(crate) enum Room {
    Parlor(parlor::Room),
    Janus(Box<janus::Room>),
}

impl Server {
    pub(crate) async fn start(kind: Kind, options: &Options) -> Result<Self> {
        Ok(match kind {
            Kind::Parlor => Self::Parlor(Box::new(parlor::Stage::set(options).await?)),
            Kind::Janus => Self::Janus(janus::Stage::set(options).await?),
        })
    }

    pub(crate) fn process(&self) -> Process {
        match self {
            Self::Parlor(stage) => stage.process(),
            Self::Janus(stage) => stage.process(),
        }
    }

    /// Makes a room for so many.
    pub(crate) async fn room(&self, people: usize) -> Result<Room> {
        Ok(match self {
            Self::Parlor(stage) => Room::Parlor(stage.room(people).await?),
            Self::Janus(stage) => Room::Janus(Box::new(stage.room().await?)),
        })
    }
}

impl Room {
    pub(crate) async fn enter(&self, wires: &Wires, plan: &Plan) -> Result<Client> {
        match self {
            Self::Parlor(room) => room.enter(wires, plan).await,
            Self::Janus(room) => room.enter(wires, plan).await,
        }
    }
}

/// What all clients share.
pub(crate) struct Wires {
    pub(crate) rig: Rig,
    identity: Arc<Identity>,
    next_ssrc: AtomicU32,
    profile: OnceLock<Profile>,
}

impl Wires {
    pub(crate) fn lay(sample: u64) -> Result<Self> {
        Ok(Self {
            rig: Rig::start(sample)?,
            identity: Identity::new()?,
            next_ssrc: AtomicU32::new(1_000_000),
            profile: OnceLock::new(),
        })
    }

    pub(crate) fn transport(&self) -> Result<Transport> {
        Transport::open(&self.identity)
    }

    fn ssrc(&self) -> u32 {
        self.next_ssrc.fetch_add(1, Ordering::Relaxed)
    }

    /// The m-line of a source in an offer.
    pub(crate) fn line(&self, mid: &str, source: Source, is_simulcast: bool) -> Line {
        let kind = kind_of(source);
        let is_simulcast = is_simulcast && kind == MediaKind::Video;
        Line {
            mid: mid.to_owned(),
            kind,
            ssrc: (!is_simulcast).then(|| self.ssrc()),
            is_simulcast,
        }
    }

    /// Starts to send a line that was answered.
    pub(crate) fn publish(
        &self,
        id: TransportId,
        line: &Line,
        answered: &Media,
        (source, after): (Source, Duration),
    ) {
        let payload_type = line.kind.payload_type();
        if let Some(ssrc) = line.ssrc {
            let stream = Stream::new(source, payload_type, ssrc, answered.agreed(None));
            self.rig.publish(id, stream, after);
            return;
        }
        let layers = [source, Source::video(500), Source::video(150)];
        for (rid, source) in LAYERS.into_iter().zip(layers) {
            let agreed = answered.agreed(Some(rid));
            let stream = Stream::new(source, payload_type, self.ssrc(), agreed);
            self.rig.publish(id, stream, after);
        }
    }

    /// Connects a transport to the other side of this SDP, and waits for it.
    pub(crate) async fn connect(
        &self,
        mut transport: Transport,
        theirs: &Session,
    ) -> Result<TransportId> {
        transport.connect(theirs.remote()?, Instant::now())?;
        let (id, connected) = self.rig.add(transport).await?;
        let profile = tokio::time::timeout(PATIENCE, connected)
            .await
            .context("a transport did not connect")??;
        self.profile.get_or_init(|| profile);
        Ok(id)
    }

    /// How the server encrypts.
    pub(crate) fn profile(&self) -> Option<Profile> {
        self.profile.get().copied()
    }
}

/// What carries a source.
pub(crate) fn kind_of(source: Source) -> MediaKind {
    match source {
        Source::Video { .. } => MediaKind::Video,
        Source::Voice { .. } | Source::Silence => MediaKind::Audio,
    }
}
