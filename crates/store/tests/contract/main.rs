//! The store's contract, tested on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod closing;
mod committing;
mod database;
mod frozen;
mod grouping;
mod migrating;
mod model;
mod postgres_only;
mod reading;
mod rooms;

/// Runs each of these functions as a test on both engines.
macro_rules! on_both_engines {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::database::TestDatabase::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::database::TestDatabase::postgres().await).await;
            })*
        }
    };
}
use on_both_engines;
