//! Failures and features specific to a database server: deadlocks, lost connections, more types.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parlor_store::{DatabaseLocation, Db, Error, Options, Statement, Unit, values};
use parlor_testkit::{Postgres, Proxy};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

static PAUSE: Statement = Statement::new("pause", "SELECT CAST(1 AS BIGINT) FROM pg_sleep(0.3)");

#[tokio::test(flavor = "multi_thread")]
async fn units_that_deadlock_are_retried() {
    let db = TestDatabase::postgres().await.with_rooms().await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    db.commit(rooms::add(one, "one").then(&rooms::ADD, values![two, "two", 0]))
        .await
        .unwrap();
    let cross = |key: u64, first: Uuid, second: Uuid| {
        let unit = Unit::default()
            .then(&rooms::ADD_SEAT, values![first])
            .then(&PAUSE, values![])
            .then(&rooms::ADD_SEAT, values![second]);
        db.commit(unit.keyed(key))
    };
    let outcomes = tokio::join!(cross(0, one, two), cross(1, two, one));
    assert!(outcomes.0.is_ok() && outcomes.1.is_ok(), "{outcomes:?}");
    assert_eq!(rooms::seats(&db, one).await, 2);
    assert_eq!(rooms::seats(&db, two).await, 2);
}

/// Terminates every connection of the store to this database.
async fn break_connections(database: &TestDatabase) {
    let DatabaseLocation::Postgres(url) = &database.location else {
        unreachable!("the database is a server")
    };
    let name = url.rsplit('/').next().unwrap();
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'parlor' AND datname = '{name}'"
    );
    let server = Postgres::shared_durable().await.unwrap();
    server.execute(&kill).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_replaced() {
    let database = TestDatabase::postgres().await;
    let db = database.with_rooms().await;
    assert_eq!(rooms::count(&db).await, 0);
    break_connections(&database).await;
    let mut attempts = 0;
    while db
        .commit(rooms::add(Uuid::nil(), "a").keyed(0))
        .await
        .is_err()
    {
        attempts += 1;
        assert!(attempts < 50, "commits never recovered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while db.ping().await.is_err() {
        attempts += 1;
        assert!(attempts < 50, "reads never recovered");
    }
    assert_eq!(rooms::count(&db).await, 1);
}

/// Commits three slow units on one writer. However they are grouped, at least two are in the batch
/// that runs after 450 ms. Returns the number of unknown outcomes.
async fn unknown_of_three(db: &Db, interrupt: impl AsyncFnOnce()) -> usize {
    let commits = join_all((0..3_u128).map(|number| {
        let add = values![Uuid::from_u128(number), number.to_string(), 0];
        let unit = Unit::default()
            .then(&rooms::ADD, add)
            .then(&PAUSE, values![]);
        db.commit(unit.keyed(0))
    }));
    let interrupt_later = async {
        tokio::time::sleep(Duration::from_millis(450)).await;
        interrupt().await;
    };
    let (outcomes, ()) = tokio::join!(commits, interrupt_later);
    let is_unknown = |outcome: &&Result<_, _>| matches!(outcome, Err(Error::Unavailable(_)));
    outcomes.iter().filter(is_unknown).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_terminated_by_the_server_is_not_retried() {
    let database = TestDatabase::postgres().await;
    let db = database.with_rooms().await;
    let unknown = unknown_of_three(&db, async || break_connections(&database).await).await;
    assert!(unknown >= 2, "{unknown} outcomes are unknown");
    let db = database.open().await;
    assert_eq!(rooms::count(&db).await, i64::try_from(3 - unknown).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_response_was_lost_is_not_retried() {
    let database = TestDatabase::postgres().await;
    database.with_rooms().await.close().await;
    let DatabaseLocation::Postgres(url) = &database.location else {
        unreachable!("the database is a server")
    };
    let (proxy, url) = Proxy::to_postgres(url).await.unwrap();
    let location = DatabaseLocation::Postgres(url);
    let db = Db::open(&location, Options::default(), Arc::new(()))
        .await
        .unwrap();
    let unknown = unknown_of_three(&db, async || proxy.cut()).await;
    assert!(unknown >= 2, "{unknown} outcomes are unknown");
    db.commit(rooms::add(Uuid::max(), "after")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupported_type_is_rejected_before_anything_runs() {
    static SUM: Statement = Statement::new("rooms.sum", "SELECT sum(seats) FROM rooms");
    let db = TestDatabase::postgres().await.with_rooms().await;
    assert!(matches!(db.prepare(&SUM).await, Err(Error::Broken(_))));
    let unit = Unit::default()
        .then(&rooms::ADD, values![Uuid::nil(), "a", 0])
        .then(&SUM, values![]);
    assert!(matches!(db.commit(unit).await, Err(Error::Broken(_))));
    assert_eq!(rooms::count(&db).await, 0);
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let location = DatabaseLocation::Postgres("postgres://parlor@127.0.0.1:1/parlor".to_owned());
    let opened = Db::open(&location, Options::default(), Arc::new(())).await;
    assert!(matches!(opened.err(), Some(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_server_without_tls_is_rejected_when_tls_is_required() {
    let DatabaseLocation::Postgres(url) = TestDatabase::postgres().await.location else {
        unreachable!("the database is a server")
    };
    let location = DatabaseLocation::Postgres(format!("{url}?sslmode=require"));
    let opened = Db::open(&location, Options::default(), Arc::new(())).await;
    assert!(matches!(opened.err(), Some(Error::Unavailable(_))));
}
