//! A PostgreSQL server that hangs, disconnects or is slow during reads, writes and commits.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parlor_store::{DatabaseLocation, Db, Error, Options, Row, Statement, Unit, values};
use parlor_testkit::{Proxy, proxy::Direction};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

/// Far longer than any timeout of these tests.
const HANG_TIMEOUT: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options {
        timeout: Duration::from_millis(500),
        scan_timeout: Duration::from_millis(700),
        ..Options::default()
    }
}

async fn open_behind_proxy() -> (Proxy, Db) {
    let database = TestDatabase::postgres().await;
    database.with_rooms().await.close().await;
    let DatabaseLocation::Postgres(url) = &database.location else {
        unreachable!("the database is a server")
    };
    let (proxy, url) = Proxy::to_postgres(url).await.unwrap();
    let location = DatabaseLocation::Postgres(url);
    let db = Db::open(&location, options(), Arc::new(())).await;
    (proxy, db.unwrap())
}

async fn add(db: &Db, number: u128) -> Result<(), Error> {
    let unit = rooms::add(Uuid::from_u128(number), &number.to_string());
    let added = tokio::time::timeout(HANG_TIMEOUT, db.commit(unit)).await;
    added.expect("a commit hangs").map(drop)
}

async fn read(db: &Db) -> Result<i64, Error> {
    let read = db.read::<Row>(&rooms::COUNT, values![]);
    let rows = tokio::time::timeout(HANG_TIMEOUT, read).await;
    rows.expect("a read hangs").map(rooms::first)
}

/// Waits until reads and writes succeed again, on every pooled connection.
async fn wait_until_recovered(db: &Db, number: u128) {
    let mut attempts = 0;
    while add(db, number).await.is_err() || read(db).await.is_err() {
        attempts += 1;
        assert!(attempts < 200, "the database never recovers");
        tokio::time::sleep(Duration::from_millis(50)).await;
        // A commit with an unknown outcome may have succeeded; then the key exists.
        if matches!(add(db, number).await, Err(Error::Conflict { .. })) {
            break;
        }
    }
    let mut attempts = 0;
    while join_all((0..40).map(|_| read(db)))
        .await
        .iter()
        .any(Result::is_err)
    {
        attempts += 1;
        assert!(attempts < 50, "the pool never recovers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_makes_everything_unavailable_and_recovers() {
    let (proxy, db) = open_behind_proxy().await;
    add(&db, 1).await.unwrap();
    read(&db).await.unwrap();
    proxy.freeze();
    // The second round has to reconnect; the proxy accepts the connections and hangs.
    for _ in 0..2 {
        let commits = join_all((100..120).map(|number| add(&db, number)));
        let reads = join_all((0..40).map(|_| read(&db)));
        let scan = db.scan::<Row>(&rooms::COUNT, values![]);
        let scan = tokio::time::timeout(HANG_TIMEOUT, scan);
        let (commits, reads, scan) = tokio::join!(commits, reads, scan);
        for outcome in &commits {
            assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        }
        for outcome in &reads {
            assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        }
        let scan = scan.expect("a scan hangs").map(|_: Vec<Row>| ());
        assert!(matches!(scan, Err(Error::Unavailable(_))), "{scan:?}");
    }
    proxy.thaw();
    wait_until_recovered(&db, 2).await;
    assert!(read(&db).await.unwrap() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_response_leaves_a_unit_whole_or_absent_and_the_next_one_succeeds() {
    let (proxy, db) = open_behind_proxy().await;
    add(&db, 1).await.unwrap();
    for (number, direction) in [(10, Direction::Replies), (11, Direction::Requests)] {
        proxy.freeze_only(direction);
        let (outcome, ()) = tokio::join!(add(&db, number), proxy.holding());
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        proxy.thaw();
        wait_until_recovered(&db, number + 100).await;
        // A retry either conflicts with the committed unit or commits it.
        match add(&db, number).await {
            Ok(()) | Err(Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_leave_no_hung_connection_behind() {
    let (proxy, db) = open_behind_proxy().await;
    assert!(
        join_all((0..40).map(|_| read(&db)))
            .await
            .iter()
            .all(Result::is_ok)
    );
    proxy.freeze();
    let reads: Vec<_> = (0..40)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { read(&db).await })
        })
        .collect();
    proxy.holding().await;
    for read in reads {
        read.abort();
    }
    proxy.cut();
    proxy.thaw();
    wait_until_recovered(&db, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_units_survive_freezes_disconnects_and_delays_under_load() {
    let (proxy, db) = open_behind_proxy().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (1..9_u128)
        .map(|writer| {
            let (db, stopped) = (db.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let id = writer << 64 | number;
                    match add(&db, id).await {
                        Ok(()) => acknowledged.push(id),
                        Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                    if let Err(error) = read(&db).await {
                        assert!(matches!(error, Error::Unavailable(_)), "{error}");
                    }
                }
                acknowledged
            })
        })
        .collect();
    for round in 0..6 {
        match round % 3 {
            0 => proxy.freeze(),
            1 => proxy.freeze_only(Direction::Replies),
            _ => proxy.delay(Duration::from_millis(5)),
        }
        if round % 3 < 2 {
            proxy.holding().await;
        }
        proxy.cut();
        proxy.thaw();
        wait_until_recovered(&db, 1000 + round).await;
    }
    stop.send_replace(true);
    let mut acknowledged = 0;
    for writer in join_all(writers).await {
        for id in writer.unwrap() {
            acknowledged += 1;
            let id = Uuid::from_u128(id);
            let found = db.read::<Row>(&rooms::FIND, values![id]).await.unwrap();
            assert_eq!(found.len(), 1, "{id} was acknowledged but is lost");
        }
    }
    assert!(acknowledged > 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_timed_out_does_not_run_after_the_next_one() {
    static HOLD: Statement = Statement::new("hold", "SELECT CAST(1 AS BIGINT) FROM pg_sleep(4)");
    static WAITING: Statement = Statement::new(
        "waiting",
        "SELECT CAST(count(*) AS BIGINT) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    static SLEEPING: Statement = Statement::new(
        "sleeping",
        "SELECT CAST(count(*) AS BIGINT) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event = 'PgSleep'",
    );
    let database = TestDatabase::postgres().await;
    let holder = database.with_rooms().await;
    let db = Db::open(&database.location, options(), Arc::new(()))
        .await
        .unwrap();
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    db.commit(rooms::add(one, "one")).await.unwrap();
    let hold = Unit::default()
        .then(&rooms::ADD_SEAT, values![one])
        .then(&HOLD, values![]);
    let holding = tokio::spawn(async move { holder.commit(hold).await });
    let number =
        async |statement| rooms::first(db.read::<Row>(statement, values![]).await.unwrap());
    while number(&SLEEPING).await == 0 {}
    // Waits for the row lock of the other transaction and times out.
    let timed_out = Unit::default().then(&rooms::SET_SEATS, values![one, 77]);
    let timed_out = db.commit(timed_out.keyed(0)).await;
    assert!(
        matches!(timed_out, Err(Error::Unavailable(_))),
        "{timed_out:?}"
    );
    db.commit(rooms::add(two, "two").keyed(0)).await.unwrap();
    assert_eq!(
        number(&WAITING).await,
        0,
        "the unit that timed out is still running"
    );
    holding.await.unwrap().unwrap();
    assert_eq!(rooms::seats(&db, one).await, 1);
}
