//! The REST API: the resources, the description of their operations, and every route.
//!
//! | file | what it is for |
//! |---|---|
//! | `operations` | every operation of RealtimeKit, built or not |
//! | `openapi` | the API description |
//! | the others | a resource each, with its operations |

pub(crate) mod active_session;
pub(crate) mod analytics;
pub mod apps;
pub mod meetings;
pub mod openapi;
pub mod operations;
pub mod participants;
pub mod presets;
pub(crate) mod sessions;

use crate::http::Endpoint;

/// Every operation that is built.
pub fn endpoints() -> Vec<Endpoint> {
    [
        apps::endpoints(),
        meetings::endpoints(),
        participants::endpoints(),
        presets::endpoints(),
        sessions::endpoints(),
        active_session::endpoints(),
        analytics::endpoints(),
    ]
    .concat()
}
