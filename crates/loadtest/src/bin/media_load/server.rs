//! Starts a server and joins its rooms.

use anyhow::{Context as _, Result};
use parlor_testkit::media::{ConnectionHandle, MediaClient, Phases, Plan, SharedMedia};
use parlor_testkit::{LoadTarget, Process};

use crate::options::{Kind, Options};
use crate::{janus, parlor};

/// A client in a room. It leaves when this is dropped.
pub(crate) struct Client {
    pub(crate) phases: Phases,
    pub(crate) _guard: ClientGuard,
}

/// Keeps a client in its room until it is dropped.
#[expect(dead_code, reason = "only dropped")]
pub(crate) enum ClientGuard {
    Parlor(Box<MediaClient>),
    Janus(tokio::task::JoinHandle<()>, Vec<ConnectionHandle>),
}

/// A server under load.
pub(crate) enum Server {
    Parlor(Box<LoadTarget>),
    Janus(janus::Server),
}

/// A room of a server.
pub(crate) enum Room {
    Parlor(parlor::Room),
    Janus(Box<janus::Room>),
}

impl Server {
    pub(crate) async fn start(kind: Kind, options: &Options) -> Result<Self> {
        Ok(match kind {
            Kind::Parlor => Self::Parlor(Box::new(
                LoadTarget::start(options.common.server()?, false).await?,
            )),
            Kind::Janus => Self::Janus(janus::Server::start(options).await?),
        })
    }

    pub(crate) fn process(&self) -> Result<Process> {
        match self {
            Self::Parlor(target) => target.process.context("the process ID is unknown"),
            Self::Janus(server) => Ok(server.process()),
        }
    }

    /// Creates a room with `participants` participants.
    pub(crate) async fn room(&self, participants: usize) -> Result<Room> {
        Ok(match self {
            Self::Parlor(target) => Room::Parlor(parlor::Room::create(target, participants).await?),
            Self::Janus(server) => Room::Janus(Box::new(server.room().await?)),
        })
    }
}

impl Room {
    pub(crate) async fn enter(&self, shared: &SharedMedia, plan: &Plan) -> Result<Client> {
        match self {
            Self::Parlor(room) => room.enter(shared, plan).await,
            Self::Janus(room) => room.enter(shared, plan).await,
        }
    }
}
