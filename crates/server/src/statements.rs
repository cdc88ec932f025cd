//! All SQL statements of the server.

use parlor_store::Statement;

/// Returns every statement that the server runs, for a test that prepares them on both engines.
pub fn statements() -> Vec<&'static Statement> {
    let mut all = crate::tallies::STATEMENTS.to_vec();
    all.extend(crate::http::STATEMENTS);
    all.extend(crate::identity::accounts::STATEMENTS);
    all.extend(crate::identity::api_tokens::STATEMENTS);
    all.extend(crate::identity::app_owners::STATEMENTS);
    all.extend(crate::rest::apps::statements());
    all.extend(crate::rooms::records::statements());
    all.extend(crate::rest::meetings::statements());
    all.extend(crate::rest::participants::statements());
    all.extend(crate::rest::presets::statements());
    all.extend(crate::rest::sessions::statements());
    all.extend(crate::rest::analytics::STATEMENTS);
    all.extend(crate::identity::signing_keys::STATEMENTS);
    all.extend(crate::ops::sweeper::STATEMENTS);
    all.extend(crate::usage::STATEMENTS);
    all.extend(crate::files::statements());
    all
}
