//! Integration tests of the server, both through the binary over TCP and through the library in the
//! test process. They form one test binary, so that the server is linked once and all tests share
//! one PostgreSQL server.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client_api;
mod crash;
mod description;
mod expiry;
mod fixtures;
mod http;
mod prepare;
mod process;
mod signalling;
mod source;
mod traces;
mod upgrade;
mod usage;

/// Turns each `async fn name(server: …)` into the tests `name::sqlite` and `name::postgres`, which
/// pass `Server::sqlite()` and `Server::postgres()` of the calling module. The tests are
/// `#[tokio::test]`s unless another attribute precedes the names.
macro_rules! on_both_databases {
    (#[$attribute:meta] $($test:ident),* $(,)?) => {$(
        mod $test {
            #[$attribute]
            async fn sqlite() {
                super::$test(super::Server::sqlite().await).await;
            }

            #[$attribute]
            async fn postgres() {
                super::$test(super::Server::postgres().await).await;
            }
        }
    )*};
    ($($test:ident),* $(,)?) => {
        $crate::on_both_databases![#[tokio::test] $($test),*];
    };
}
use on_both_databases;
