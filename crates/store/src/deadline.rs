//! How long a caller waits, and what it hears then.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use crate::Error;

const LATE: &str = "no answer in time";
const FULL: &str = "too much waits already";

/// The answer to a caller that has waited long enough.
pub(crate) fn late() -> Error {
    Error::Unavailable(LATE.to_owned())
}

/// The answer to a caller when the queue is full.
pub(crate) fn full() -> Error {
    Error::Unavailable(FULL.to_owned())
}

/// What the work answers, or [`late`].
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// Whether this is what [`late`] or [`full`] says.
pub(crate) fn refusal(text: &str) -> crate::Refusal {
    match text {
        LATE => crate::Refusal::Timeout,
        FULL => crate::Refusal::QueueFull,
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
            Error::Unavailable(text) => refusal(&text),
            other => panic!("{other}"),
        };
        assert_eq!(reason(late()), Refusal::Timeout);
        assert_eq!(reason(full()), Refusal::QueueFull);
        assert_eq!(reason(crate::queue::closed()), Refusal::Unavailable);
    }
}
