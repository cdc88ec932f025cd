//! A server that is started, and clients that come in.

use anyhow::{Context as _, Result};
use parlor_testkit::media::{Guest, Phases, Plan, Seated, Wires};
use parlor_testkit::{Process, Stage};

use crate::options::{Kind, Options};
use crate::{janus, parlor};

/// A client that is in. It leaves when this is dropped.
pub(crate) struct Client {
    pub(crate) phases: Phases,
    pub(crate) _stay: Stay,
}

/// What keeps a client in.
#[expect(dead_code, reason = "kept for its end only")]
pub(crate) enum Stay {
    Parlor(Box<Guest>),
    Janus(tokio::task::JoinHandle<()>, Vec<Seated>),
}

/// A server under load.
pub(crate) enum Server {
    Parlor(Box<Stage>),
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
            Kind::Parlor => {
                Self::Parlor(Box::new(Stage::start(options.task.server()?, false).await?))
            }
            Kind::Janus => Self::Janus(janus::Stage::set(options).await?),
        })
    }

    pub(crate) fn process(&self) -> Result<Process> {
        match self {
            Self::Parlor(stage) => stage.process.context("it was started here"),
            Self::Janus(stage) => Ok(stage.process()),
        }
    }

    /// Makes a room for so many.
    pub(crate) async fn room(&self, people: usize) -> Result<Room> {
        Ok(match self {
            Self::Parlor(stage) => Room::Parlor(parlor::Room::make(stage, people).await?),
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
