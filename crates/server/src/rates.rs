//! How often somebody may do something, if the server says so. Counted by each node for itself.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The limit on what each `K`, a token or a person, does.
#[derive(Clone)]
pub struct Rates<K: Hash + Eq + Clone> {
    limiter: Option<Arc<Limiter<K>>>,
    per_minute: u32,
}

/// Somebody has used up their quota.
#[derive(Debug)]
pub(crate) struct Exceeded {
    /// Seconds until one more request is allowed.
    pub(crate) retry_secs: u64,
    /// The quota, of which nothing is left.
    pub(crate) quota: Remaining,
}

/// What is left of a quota.
#[derive(Debug)]
pub(crate) struct Remaining {
    requests: u32,
    per_minute: u32,
}

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl<K: Hash + Eq + Clone> Rates<K> {
    /// Allows so many requests a minute, at once or spread; 0 is no limit.
    pub fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        let limiter = quota.map(|quota| Arc::new(RateLimiter::dashmap(quota).with_middleware()));
        Self {
            limiter,
            per_minute,
        }
    }

    /// Takes one request from somebody's quota; `None` when there is no limit.
    ///
    /// # Errors
    /// When none is left.
    pub(crate) fn take(&self, whose: &K) -> Result<Option<Remaining>, Exceeded> {
        let Some(limiter) = &self.limiter else {
            return Ok(None);
        };
        match limiter.check_key(whose) {
            Ok(state) => {
                let requests = state.remaining_burst_capacity();
                Ok(Some(Remaining {
                    requests,
                    per_minute: self.per_minute,
                }))
            }
            Err(refused) => {
                let wait = refused.wait_time_from(DefaultClock::default().now());
                let none = Remaining {
                    requests: 0,
                    per_minute: self.per_minute,
                };
                Err(Exceeded {
                    retry_secs: wait.as_secs() + 1,
                    quota: none,
                })
            }
        }
    }

    /// Forgets those who have their whole quota again.
    pub fn forget_idle(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
        }
    }
}

impl Remaining {
    /// Writes the `ratelimit` headers (IETF draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Self {
            requests,
            per_minute,
        } = self;
        let left = format!("\"default\";r={requests}");
        let policy = format!("\"default\";q={per_minute};w=60");
        for (name, value) in [(&RATELIMIT, left), (&RATELIMIT_POLICY, policy)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name.clone(), value);
            }
        }
    }
}
