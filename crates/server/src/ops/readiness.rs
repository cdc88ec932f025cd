//! `/readyz`: whether the database takes a write and answers a read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use parlor_store::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::rooms::records;
use crate::state::Parlor;

/// How long an answer holds, from the time when it was asked for. Whoever asks does not decide how
/// often the disk is written.
const BELIEVED: Duration = Duration::from_secs(1);

type Outcome = Option<Result<(), Error>>;

/// The last look at the database, or the one that is under way.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<Look>>);

struct Look {
    began: Instant,
    outcome: watch::Receiver<Outcome>,
}

impl Readiness {
    /// 200 or 503.
    pub(crate) async fn answer(&self, parlor: &Arc<Parlor>) -> Response {
        let mut look = self.look(parlor);
        let outcome = look.wait_for(Option::is_some).await;
        let is_ready = outcome.is_ok_and(|outcome| matches!(*outcome, Some(Ok(()))));
        if is_ready {
            return "ready\n".into_response();
        }
        let text = "the database does not answer or takes no writes\n";
        let retry = [(header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
    }

    /// The look that is under way or fresh, or a new one. It goes on when its caller leaves, so that
    /// callers who leave cannot make it more.
    fn look(&self, parlor: &Arc<Parlor>) -> watch::Receiver<Outcome> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = &*last
            && (look.began.elapsed() < BELIEVED || is_under_way(&look.outcome))
        {
            return look.outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let parlor = Arc::clone(parlor);
        tokio::spawn(async move {
            let (written, read) = tokio::join!(records::touch(&parlor.live), parlor.db.ping());
            let found = written.and(read);
            if let Err(error) = &found {
                tracing::warn!(%error, "not ready");
            }
            tell.send_replace(Some(found));
        });
        *last = Some(Look {
            began: Instant::now(),
            outcome: outcome.clone(),
        });
        outcome
    }
}

/// Whether the outcome is still to come. A look that panicked will have none.
fn is_under_way(outcome: &watch::Receiver<Outcome>) -> bool {
    outcome.borrow().is_none() && outcome.has_changed().is_ok()
}
