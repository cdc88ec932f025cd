//! Usage analytics of an app. Operation 64 (docs/spec/rest.md 1.10).

mod daily;

use parlor_store::Statement;

use crate::http::Endpoint;

/// The analytics operations.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![daily::endpoint()]
}

pub(crate) static STATEMENTS: [&Statement; 2] = [&daily::DAYS, &daily::RUNNING];
