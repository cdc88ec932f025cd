//! Deadlines and the errors for requests that the store rejects itself.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use crate::Error;

const TIMEOUT: &str = "no response in time";
const QUEUE_FULL: &str = "the queue is full";

/// The error for an expired deadline.
pub(crate) fn timed_out() -> Error {
    Error::Unavailable(TIMEOUT.to_owned())
}

/// The error for a full queue.
pub(crate) fn queue_full() -> Error {
    Error::Unavailable(QUEUE_FULL.to_owned())
}

/// Runs `work`, or returns [`timed_out`] when it takes longer than `limit`.
pub(crate) async fn with_deadline<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

/// The reason behind the text of an [`Error::Unavailable`].
pub(crate) fn refusal_reason(text: &str) -> crate::Refusal {
    match text {
        TIMEOUT => crate::Refusal::Timeout,
        QUEUE_FULL => crate::Refusal::QueueFull,
        _ => crate::Refusal::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;

    #[test]
    fn every_refusal_has_its_reason() {
        let reason = |error| match error {
            Error::Unavailable(text) => refusal_reason(&text),
            other => panic!("{other}"),
        };
        assert_eq!(reason(timed_out()), Refusal::Timeout);
        assert_eq!(reason(queue_full()), Refusal::QueueFull);
        assert_eq!(reason(crate::queue::closed()), Refusal::Unavailable);
    }
}
