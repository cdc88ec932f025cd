//! The HTTP API over real TCP, spoken to the real binary: the same tests on SQLite and PostgreSQL.
//!
//! The modules are shaped like the URLs. One server for each database serves every test of the
//! process, so each test works in an app of its own.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod active_session;
mod analytics;
mod answer;
mod apps;
mod authorisation;
mod bodies;
mod connections;
mod crowds;
mod errors;
mod idempotency;
mod meetings;
mod nodes;
mod operations;
mod participants;
mod place;
mod planned;
mod presets;
mod server;
mod sessions;
mod surface_b;
mod unread;

/// Turns each `async fn name(server: &Server)` into the tests `name::sqlite` and `name::postgres`.
macro_rules! on_both_databases {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            #[tokio::test]
            async fn sqlite() {
                super::$test(crate::http::server::Server::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$test(crate::http::server::Server::postgres().await).await;
            }
        }
    )*};
}
use on_both_databases;
