//! What only a server over the network can do: deadlock, go away, have more types.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parlor_store::{Db, Error, Options, Place, Statement, Unit, values};
use parlor_testkit::{Postgres, Proxy};
use uuid::Uuid;

use crate::{home::Home, rooms};

static PAUSE: Statement = Statement::new("pause", "SELECT CAST(1 AS BIGINT) FROM pg_sleep(0.3)");

#[tokio::test(flavor = "multi_thread")]
async fn units_that_deadlock_are_run_again() {
    let db = Home::postgres().await.with_rooms().await;
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

/// Ends every connection that the store holds to this database.
async fn break_connections(home: &Home) {
    let Place::Postgres(url) = &home.place else {
        unreachable!("a server was asked for")
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
    let home = Home::postgres().await;
    let db = home.with_rooms().await;
    assert_eq!(rooms::count(&db).await, 0);
    break_connections(&home).await;
    let mut attempts = 0;
    while db
        .commit(rooms::add(Uuid::nil(), "a").keyed(0))
        .await
        .is_err()
    {
        attempts += 1;
        assert!(attempts < 50, "commits never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while db.ping().await.is_err() {
        attempts += 1;
        assert!(attempts < 50, "reads never came back");
    }
    assert_eq!(rooms::count(&db).await, 1);
}

/// Commits three slow units on one writer. However they are grouped, at least two are in
/// the batch that runs after 450 ms. Answers how many outcomes are unknown.
async fn unknown_of_three(db: &Db, hit: impl AsyncFnOnce()) -> usize {
    let commits = join_all((0..3_u128).map(|number| {
        let add = values![Uuid::from_u128(number), number.to_string(), 0];
        let unit = Unit::default()
            .then(&rooms::ADD, add)
            .then(&PAUSE, values![]);
        db.commit(unit.keyed(0))
    }));
    let hit = async {
        tokio::time::sleep(Duration::from_millis(450)).await;
        hit().await;
    };
    let (outcomes, ()) = tokio::join!(commits, hit);
    let is_unknown = |outcome: &&Result<_, _>| matches!(outcome, Err(Error::Unavailable(_)));
    outcomes.iter().filter(is_unknown).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_server_ended_is_not_run_again() {
    let home = Home::postgres().await;
    let db = home.with_rooms().await;
    let unknown = unknown_of_three(&db, async || break_connections(&home).await).await;
    assert!(unknown >= 2, "{unknown} outcomes are unknown");
    let db = home.open().await;
    assert_eq!(rooms::count(&db).await, i64::try_from(3 - unknown).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_is_not_run_again() {
    let home = Home::postgres().await;
    home.with_rooms().await.close().await;
    let Place::Postgres(url) = &home.place else {
        unreachable!("a server was asked for")
    };
    let (proxy, url) = Proxy::to_postgres(url).await.unwrap();
    let place = Place::Postgres(url);
    let db = Db::open(&place, Options::default(), Arc::new(()))
        .await
        .unwrap();
    let unknown = unknown_of_three(&db, async || proxy.cut()).await;
    assert!(unknown >= 2, "{unknown} outcomes are unknown");
    db.commit(rooms::add(Uuid::max(), "after")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_no_value_carries_is_refused_before_anything_runs() {
    static SUM: Statement = Statement::new("rooms.sum", "SELECT sum(seats) FROM rooms");
    let db = Home::postgres().await.with_rooms().await;
    assert!(matches!(db.prepare(&SUM).await, Err(Error::Broken(_))));
    let unit = Unit::default()
        .then(&rooms::ADD, values![Uuid::nil(), "a", 0])
        .then(&SUM, values![]);
    assert!(matches!(db.commit(unit).await, Err(Error::Broken(_))));
    assert_eq!(rooms::count(&db).await, 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let place = Place::Postgres("postgres://parlor@127.0.0.1:1/parlor".to_owned());
    let opened = Db::open(&place, Options::default(), Arc::new(())).await;
    assert!(matches!(opened.err(), Some(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_required() {
    let Place::Postgres(url) = Home::postgres().await.place else {
        unreachable!("a server was asked for")
    };
    let place = Place::Postgres(format!("{url}?sslmode=require"));
    let opened = Db::open(&place, Options::default(), Arc::new(())).await;
    assert!(matches!(opened.err(), Some(Error::Unavailable(_))));
}
