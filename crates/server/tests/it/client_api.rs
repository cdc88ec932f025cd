//! What the official client SDKs call over HTTP, asked of the real binary, on both databases; and
//! the HTTPS that they call it by.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod calls;
mod cors;
mod details;
mod files;
mod links;
mod server;
mod tls;

/// Turns each `async fn name(server: &Server)` into the tests `name::sqlite` and `name::postgres`.
macro_rules! on_both_databases {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            #[tokio::test]
            async fn sqlite() {
                super::$test(crate::client_api::server::Server::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$test(crate::client_api::server::Server::postgres().await).await;
            }
        }
    )*};
}
use on_both_databases;
