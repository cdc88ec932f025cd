//! Rooms of Parlor.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use parlor_testkit::Stage;
use parlor_testkit::media::{Guest, Plan, Wires};
use parlor_testkit::signal::Identity;

use crate::server::{Client, Stay};

/// A meeting.
pub(crate) struct Room {
    /// Who has not come yet.
    waiting: Mutex<Vec<Identity>>,
}

impl Room {
    /// Makes one for so many.
    pub(crate) async fn make(stage: &Stage, people: usize) -> Result<Self> {
        let meeting = stage.meeting().await?;
        let waiting = stage.people(&meeting, "group_call_host", people).await?;
        Ok(Self {
            waiting: Mutex::new(waiting),
        })
    }

    pub(crate) async fn enter(&self, wires: &Wires, plan: &Plan) -> Result<Client> {
        let who = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop().context("more people than were expected")?
        };
        let (guest, phases) = Guest::enter(&who, wires, plan).await?;
        ensure!(guest.refused.is_empty(), "refused: {:?}", guest.refused);
        guest.peer.forget();
        Ok(Client {
            phases,
            _stay: Stay::Parlor(Box::new(guest)),
        })
    }
}
