//! `/readyz`: reports whether the database accepts a write and answers a read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use parlor_store::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::rooms::records;
use crate::state::ServerState;

/// How long a result is cached, from the start of its check. Clients must not control how often the
/// disk is written.
const CACHE_TTL: Duration = Duration::from_secs(1);

type Outcome = Option<Result<(), Error>>;

/// The last check of the database, finished or in progress.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<Check>>);

struct Check {
    started: Instant,
    outcome: watch::Receiver<Outcome>,
}

impl Readiness {
    /// Returns 200 or 503.
    pub(crate) async fn respond(&self, state: &Arc<ServerState>) -> Response {
        let mut check = self.check(state);
        let outcome = check.wait_for(Option::is_some).await;
        let is_ready = outcome.is_ok_and(|outcome| matches!(*outcome, Some(Ok(()))));
        if is_ready {
            return "ready\n".into_response();
        }
        let text = "the database does not answer or accepts no writes\n";
        let retry = [(header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
    }

    /// Joins the check in progress, reuses a recent one, or starts a new one. A check runs on when
    /// its caller disconnects, so that disconnecting callers cannot start more checks.
    fn check(&self, state: &Arc<ServerState>) -> watch::Receiver<Outcome> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(check) = &*last
            && (check.started.elapsed() < CACHE_TTL || is_in_progress(&check.outcome))
        {
            return check.outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let (written, read) = tokio::join!(records::probe_write(&state.live), state.db.ping());
            let found = written.and(read);
            if let Err(error) = &found {
                tracing::warn!(%error, "not ready");
            }
            sender.send_replace(Some(found));
        });
        *last = Some(Check {
            started: Instant::now(),
            outcome: outcome.clone(),
        });
        outcome
    }
}

/// Whether the check is still running. A check that panicked never has an outcome.
fn is_in_progress(outcome: &watch::Receiver<Outcome>) -> bool {
    outcome.borrow().is_none() && outcome.has_changed().is_ok()
}
