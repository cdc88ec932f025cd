//! Optimistic concurrency: read rows, compute a change, and write it only if the rows are unchanged.

use super::ApiError;

/// Number of attempts before a request fails.
const ATTEMPTS: usize = 32;

/// Runs `attempt` until it returns a result. It returns `None` if another writer has changed the
/// rows that it read.
///
/// # Errors
/// The error of the attempt, or 503 after 32 attempts. `resource` is the object of that message.
pub(crate) async fn retry_on_conflict<T, F>(
    resource: &str,
    attempt: impl Fn() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<Option<T>, ApiError>>,
{
    for _ in 0..ATTEMPTS {
        if let Some(result) = attempt().await? {
            return Ok(result);
        }
    }
    let message = format!("too many concurrent changes to {resource}");
    Err(ApiError::unavailable(message))
}
