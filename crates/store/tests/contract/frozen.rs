//! A PostgreSQL that hangs, is cut off, or is slow, in the middle of reads, writes and commits.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parlor_store::{Db, Error, Options, Place, Row, Statement, Unit, values};
use parlor_testkit::{Proxy, proxy::Way};
use uuid::Uuid;

use crate::{home::Home, rooms};

/// Far longer than any deadline of these tests: what takes this long never ends.
const NEVER: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options {
        timeout: Duration::from_millis(500),
        scan_timeout: Duration::from_millis(700),
        ..Options::default()
    }
}

async fn behind_a_proxy() -> (Proxy, Db) {
    let home = Home::postgres().await;
    home.with_rooms().await.close().await;
    let Place::Postgres(url) = &home.place else {
        unreachable!("a server was asked for")
    };
    let (proxy, url) = Proxy::to_postgres(url).await.unwrap();
    let place = Place::Postgres(url);
    let db = Db::open(&place, options(), Arc::new(())).await;
    (proxy, db.unwrap())
}

async fn add(db: &Db, number: u128) -> Result<(), Error> {
    let unit = rooms::add(Uuid::from_u128(number), &number.to_string());
    let added = tokio::time::timeout(NEVER, db.commit(unit)).await;
    added.expect("a commit hangs").map(drop)
}

async fn read(db: &Db) -> Result<i64, Error> {
    let read = db.read::<Row>(&rooms::COUNT, values![]);
    let rows = tokio::time::timeout(NEVER, read).await;
    rows.expect("a read hangs").map(rooms::first)
}

/// Waits until reads and writes succeed again, every connection of the pools among them.
async fn until_well(db: &Db, number: u128) {
    let mut attempts = 0;
    while add(db, number).await.is_err() || read(db).await.is_err() {
        attempts += 1;
        assert!(attempts < 200, "it never recovers");
        tokio::time::sleep(Duration::from_millis(50)).await;
        // A commit that was unknown may have happened: then the key is taken.
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
    let (proxy, db) = behind_a_proxy().await;
    add(&db, 1).await.unwrap();
    read(&db).await.unwrap();
    proxy.freeze();
    // The second time connections have to be made, which are accepted and hang.
    for _ in 0..2 {
        let commits = join_all((100..120).map(|number| add(&db, number)));
        let reads = join_all((0..40).map(|_| read(&db)));
        let scan = db.scan::<Row>(&rooms::COUNT, values![]);
        let scan = tokio::time::timeout(NEVER, scan);
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
    until_well(&db, 2).await;
    assert!(read(&db).await.unwrap() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_froze_leaves_a_unit_whole_or_absent_and_the_next_one_is_well() {
    let (proxy, db) = behind_a_proxy().await;
    add(&db, 1).await.unwrap();
    for (number, way) in [(10, Way::Replies), (11, Way::Requests)] {
        proxy.freeze_only(way);
        let (outcome, ()) = tokio::join!(add(&db, number), proxy.holding());
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        proxy.thaw();
        until_well(&db, number + 100).await;
        // Whoever sends it again finds it there or adds it.
        match add(&db, number).await {
            Ok(()) | Err(Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_leave_in_the_middle_leave_no_hung_connection_behind() {
    let (proxy, db) = behind_a_proxy().await;
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
    until_well(&db, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_freezing_cutting_and_delays_under_load() {
    let (proxy, db) = behind_a_proxy().await;
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
            1 => proxy.freeze_only(Way::Replies),
            _ => proxy.delay(Duration::from_millis(5)),
        }
        if round % 3 < 2 {
            proxy.holding().await;
        }
        proxy.cut();
        proxy.thaw();
        until_well(&db, 1000 + round).await;
    }
    stop.send_replace(true);
    let mut acknowledged = 0;
    for writer in join_all(writers).await {
        for id in writer.unwrap() {
            acknowledged += 1;
            let id = Uuid::from_u128(id);
            let found = db.read::<Row>(&rooms::FIND, values![id]).await.unwrap();
            assert_eq!(found.len(), 1, "{id} was acknowledged and is lost");
        }
    }
    assert!(
        acknowledged > 0,
        "nothing was written, so nothing is proved"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_was_given_up_does_not_run_after_the_next_one() {
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
    let home = Home::postgres().await;
    let patient = home.with_rooms().await;
    let db = Db::open(&home.place, options(), Arc::new(()))
        .await
        .unwrap();
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    db.commit(rooms::add(one, "one")).await.unwrap();
    let hold = Unit::default()
        .then(&rooms::ADD_SEAT, values![one])
        .then(&HOLD, values![]);
    let holding = tokio::spawn(async move { patient.commit(hold).await });
    let number =
        async |statement| rooms::first(db.read::<Row>(statement, values![]).await.unwrap());
    while number(&SLEEPING).await == 0 {}
    // It waits for the row that the other holds, and is given up.
    let given_up = Unit::default().then(&rooms::SET_SEATS, values![one, 77]);
    let given_up = db.commit(given_up.keyed(0)).await;
    assert!(
        matches!(given_up, Err(Error::Unavailable(_))),
        "{given_up:?}"
    );
    db.commit(rooms::add(two, "two").keyed(0)).await.unwrap();
    assert_eq!(
        number(&WAITING).await,
        0,
        "what was given up is still to come"
    );
    holding.await.unwrap().unwrap();
    assert_eq!(rooms::seats(&db, one).await, 1);
}
