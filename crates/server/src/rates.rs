//! Rate limits. Each node counts on its own.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A rate limit for each key, such as an API token or a participant.
#[derive(Clone)]
pub struct RateLimits<K: Hash + Eq + Clone> {
    limiter: Option<Arc<Limiter<K>>>,
    per_minute: u32,
}

/// The quota of a key is used up.
#[derive(Debug)]
pub(crate) struct Exceeded {
    /// Seconds until the next request is allowed.
    pub(crate) retry_secs: u64,
    /// The exhausted quota.
    pub(crate) quota: Remaining,
}

/// The remaining quota of a key.
#[derive(Debug)]
pub(crate) struct Remaining {
    requests: u32,
    per_minute: u32,
}

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl<K: Hash + Eq + Clone> RateLimits<K> {
    /// Allows `per_minute` requests per minute, in a burst or spread out; 0 is no limit.
    pub fn new(per_minute: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        let limiter = quota.map(|quota| Arc::new(RateLimiter::dashmap(quota).with_middleware()));
        Self {
            limiter,
            per_minute,
        }
    }

    /// Takes one request from the quota of a key. Returns `None` when there is no limit.
    ///
    /// # Errors
    /// When the quota is used up.
    pub(crate) fn take(&self, key: &K) -> Result<Option<Remaining>, Exceeded> {
        let Some(limiter) = &self.limiter else {
            return Ok(None);
        };
        match limiter.check_key(key) {
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

    /// Removes the keys that have their full quota again.
    pub fn evict_idle(&self) {
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
