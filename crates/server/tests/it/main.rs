//! The server, tested from outside: the real binary over TCP, and the library in the process of the
//! test. One test binary, so that the server is linked once and everything shares one PostgreSQL.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client_api;
mod crash;
mod description;
mod http;
mod later;
mod owner;
mod prepare;
mod process;
mod signalling;
mod source;
mod traces;
mod upgrade;
mod usage;

/// Turns each `async fn name(server: …)` into the tests `name::sqlite` and `name::postgres`, which
/// are given what the `Server` of its module makes. They are `#[tokio::test]`s unless another
/// attribute stands before the names.
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
