//! Meetings of Parlor.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use parlor_testkit::LoadTarget;
use parlor_testkit::media::{MediaClient, Plan, SharedMedia};
use parlor_testkit::signal::Identity;

use crate::server::{Client, ClientGuard};

/// A meeting.
pub(crate) struct Room {
    /// Participants identity have not joined yet.
    waiting: Mutex<Vec<Identity>>,
}

impl Room {
    /// Creates a meeting with `count` participants.
    pub(crate) async fn create(target: &LoadTarget, count: usize) -> Result<Self> {
        let meeting = target.meeting().await?;
        let waiting = target
            .add_participants(&meeting, "group_call_host", count)
            .await?;
        Ok(Self {
            waiting: Mutex::new(waiting),
        })
    }

    pub(crate) async fn enter(&self, shared: &SharedMedia, plan: &Plan) -> Result<Client> {
        let identity = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop().context("more clients than participants")?
        };
        let (client, phases) = MediaClient::enter(&identity, shared, plan).await?;
        ensure!(client.refused.is_empty(), "rejected: {:?}", client.refused);
        client.peer.forget();
        Ok(Client {
            phases,
            _guard: ClientGuard::Parlor(Box::new(client)),
        })
    }
}
