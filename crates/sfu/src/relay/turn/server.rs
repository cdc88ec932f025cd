//! What the clients of the relay share, and how much of it each may have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::LinkId;
use super::super::credentials::Credentials;
use super::refusal::Refusal;

/// Who may have how much.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Quota {
    /// Allocations at once.
    pub(in super::super) all: usize,
    /// Allocations at once of one user.
    pub(in super::super) each: usize,
}

/// What every client of the relay shares.
pub(in super::super) struct Server {
    pub(in super::super) credentials: Credentials,
    pub(super) media: Vec<SocketAddr>,
    quota: Quota,
    pub(super) held: Mutex<Held>,
    pub(super) last_link: AtomicU64,
}

#[derive(Default)]
pub(super) struct Held {
    all: usize,
    pub(super) by_user: HashMap<String, usize>,
}

impl Server {
    /// A server that leads to these addresses.
    pub(in super::super) fn new(
        credentials: Credentials,
        media: Vec<SocketAddr>,
        quota: Quota,
    ) -> Self {
        Self {
            credentials,
            media,
            quota,
            held: Mutex::default(),
            last_link: AtomicU64::new(0),
        }
    }

    /// A link that nobody had before.
    pub(in super::super) fn new_link(&self) -> LinkId {
        LinkId(self.last_link.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// How many allocations there are.
    pub(in super::super) fn allocations(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// A place for one more allocation of a user.
    pub(super) fn seat(self: &Arc<Self>, who: &str) -> Result<Seat, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.all >= self.quota.all {
            return Err(Refusal::new(508, "Insufficient Capacity"));
        }
        let theirs = held.by_user.get(who).copied().unwrap_or(0);
        if theirs >= self.quota.each {
            return Err(Refusal::new(486, "Allocation Quota Reached"));
        }
        held.all += 1;
        held.by_user.insert(who.to_owned(), theirs + 1);
        Ok(Seat {
            server: Arc::clone(self),
            who: who.to_owned(),
        })
    }
}

/// The place of an allocation in the quota, given back when it is dropped.
pub(super) struct Seat {
    server: Arc<Server>,
    who: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let held = &self.server.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        if let Some(theirs) = held.by_user.get_mut(&self.who) {
            *theirs -= 1;
            if *theirs == 0 {
                held.by_user.remove(&self.who);
            }
        }
    }
}
