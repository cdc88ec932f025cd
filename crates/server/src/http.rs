//! The HTTP framework that all operations share. It knows nothing of individual resources.
//!
//! | file | contents |
//! |---|---|
//! | `endpoint` | the definition of an operation, and the path of a request to its handler |
//! | `dispatch` | the wrapper around every request: request id, log line, metrics |
//! | `auth` | authentication and authorization of the caller |
//! | `input`, `patch` | parsing and validation of bodies, queries and paths |
//! | `response`, `error` | response bodies |
//! | `optimistic` | retries of updates that lose a race |
//! | `idempotency` | replay of responses by `Idempotency-Key` |

pub mod auth;
pub(crate) mod dispatch;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod idempotency;
mod input;
mod optimistic;
mod patch;
mod response;

pub use crate::paging::Page;
pub(crate) use dispatch::client as dispatch_client;
pub(crate) use endpoint::read_body;
pub use endpoint::{Call, Endpoint, Scope, Surface};
pub use error::{ApiError, Problem};
pub use idempotency::CommitError;
pub(crate) use idempotency::{DELETE_EXPIRED, STATEMENTS, expiry_cutoff_ms};
pub use input::{Empty, FromPath, Input, PathParams, parse_body, parse_query, parse_value};
pub(crate) use optimistic::retry_on_conflict;
pub use patch::Patch;
pub use response::{ApiResponse, Data};

/// Maximum number of matches that a search considers.
pub const SEARCH_MAX: i64 = 1000;

/// The exclusive upper bound of the strings that start with a prefix.
pub fn prefix_end(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}
