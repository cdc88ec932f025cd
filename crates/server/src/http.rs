//! The HTTP framework: what all operations share. It knows no resource.
//!
//! | file | what it is for |
//! |---|---|
//! | `endpoint` | what an operation is, and the way of a request to its handler |
//! | `respond` | around every request: its id, its log line, its metrics |
//! | `auth` | who calls |
//! | `input`, `patch` | bodies, queries and paths into checked values |
//! | `reply`, `error` | what goes out |
//! | `idempotency` | the same answer to the same request |

pub mod auth;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod idempotency;
mod input;
mod patch;
mod reply;
pub(crate) mod respond;

pub use crate::paging::Page;
pub(crate) use endpoint::read_body;
pub use endpoint::{Call, Endpoint, Scope, Surface};
pub use error::{ApiError, Problem};
pub use idempotency::Uncommitted;
pub(crate) use idempotency::{FORGET, STATEMENTS, forgotten_ms};
pub use input::{FromPath, Input, Nothing, PathParams, checked, parse_body, parse_query};
pub use patch::Patch;
pub use reply::{Data, Reply};
pub(crate) use respond::client as respond_to_client;

/// Matches that a search considers.
pub const SEARCH_MAX: i64 = 1000;

/// The end of the range of texts that start with a prefix.
pub fn prefix_end(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}
