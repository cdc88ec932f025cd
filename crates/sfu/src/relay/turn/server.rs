//! State that all TURN clients share, including the allocation quotas.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::LinkId;
use super::super::credentials::Credentials;
use super::error::ErrorResponse;

/// Limits on concurrent allocations.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Quota {
    /// Maximum number of allocations of all users.
    pub(in super::super) total: usize,
    /// Maximum number of allocations of one user.
    pub(in super::super) per_user: usize,
}

/// The TURN server.
pub(in super::super) struct Server {
    pub(in super::super) credentials: Credentials,
    pub(super) media: Vec<SocketAddr>,
    quota: Quota,
    pub(super) held: Mutex<Held>,
    pub(super) last_link: AtomicU64,
}

#[derive(Default)]
pub(super) struct Held {
    total: usize,
    pub(super) by_user: HashMap<String, usize>,
}

impl Server {
    /// Creates a server that relays to these addresses only.
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

    /// Returns an unused link id.
    pub(in super::super) fn new_link(&self) -> LinkId {
        LinkId(self.last_link.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Returns the number of allocations.
    pub(in super::super) fn allocations(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total
    }

    /// Acquires a permit for one allocation of a user.
    pub(super) fn acquire(self: &Arc<Self>, user: &str) -> Result<AllocationPermit, ErrorResponse> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.quota.total {
            return Err(ErrorResponse::new(508, "Insufficient Capacity"));
        }
        let count = held.by_user.get(user).copied().unwrap_or(0);
        if count >= self.quota.per_user {
            return Err(ErrorResponse::new(486, "Allocation Quota Reached"));
        }
        held.total += 1;
        held.by_user.insert(user.to_owned(), count + 1);
        Ok(AllocationPermit {
            server: Arc::clone(self),
            user: user.to_owned(),
        })
    }
}

/// A permit for one allocation. Dropping it releases the permit.
pub(super) struct AllocationPermit {
    server: Arc<Server>,
    user: String,
}

impl Drop for AllocationPermit {
    fn drop(&mut self) {
        let held = &self.server.held;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total = held.total.saturating_sub(1);
        if let Some(count) = held.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                held.by_user.remove(&self.user);
            }
        }
    }
}
