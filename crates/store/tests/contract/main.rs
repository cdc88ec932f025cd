//! What the store promises, checked on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod closing;
mod committing;
mod frozen;
mod grouping;
mod home;
mod migrating;
mod model;
mod postgres_alone;
mod reading;
mod rooms;

/// Makes each of these functions a test on both engines.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::home::Home::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::home::Home::postgres().await).await;
            })*
        }
    };
}
use on_both_engines;
