//! The REST API: the resources, their operations and the OpenAPI description.
//!
//! | file | contents |
//! |---|---|
//! | `operations` | every operation of RealtimeKit, implemented or planned |
//! | `openapi` | the generated OpenAPI description |
//! | the others | one resource each, with its operations |

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

/// Every implemented operation.
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
