//! Group commit: units share transactions but fail independently.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use parlor_store::{Error, Observer, Unit, values};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

crate::on_both_engines!(
    a_failing_unit_rolls_back_only_itself,
    a_sum_counts_the_units_that_succeed,
    every_unit_of_many_callers_is_committed,
    units_with_one_key_run_in_order,
    units_that_read_and_write_lose_no_update,
    two_handles_write_at_the_same_time,
    a_lane_is_a_small_number,
);

async fn a_failing_unit_rolls_back_only_itself(database: TestDatabase) {
    let db = database.with_rooms().await;
    let (taken, tally) = (Uuid::max(), Uuid::from_u128(1000));
    db.commit(rooms::add(taken, "taken")).await.unwrap();
    db.commit(rooms::add(tally, "tally")).await.unwrap();
    let missing = values![Uuid::from_u128(1001)];
    let count = || Unit::default().then(&rooms::ADD_SEAT, values![tally]);
    let failing = [
        count().then(&rooms::ADD, values![taken, "new", 0]),
        count().then(&rooms::ADD, values![Uuid::nil(), "new", "no number"]),
        count().exactly_one(&rooms::ADD_SEAT, missing),
    ];
    let mut errors = Vec::new();
    for (wave, failing_unit) in (0_u64..).zip(failing) {
        let healthy = join_all((1..64_u64).map(|number| {
            let id = Uuid::from_u64_pair(wave, number);
            db.commit(count().then(&rooms::ADD, values![id, id.to_string(), 0]))
        }));
        let (healthy, failed) = tokio::join!(healthy, db.commit(failing_unit));
        assert!(healthy.iter().all(Result::is_ok), "{healthy:?}");
        errors.push(failed.unwrap_err());
    }
    assert!(matches!(errors[0], Error::Conflict { .. }));
    assert!(matches!(errors[1], Error::Broken(_)));
    assert_eq!(errors[2], Error::WrongCount { step: 1 });
    assert_eq!(rooms::seats(&db, tally).await, 3 * 63);
    assert_eq!(rooms::count(&db).await, 2 + 3 * 63);
}

/// Each unit adds one room and counts it; one in ten fails.
async fn a_sum_counts_the_units_that_succeed(database: TestDatabase) {
    let db = database.with_rooms().await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    db.commit(rooms::add(one, "one")).await.unwrap();
    db.commit(rooms::add(two, "two")).await.unwrap();
    let outcomes = join_all((10..210_u128).map(|number| {
        let id = Uuid::from_u128(number);
        let tally = if number % 2 == 0 { one } else { two };
        let unit = Unit::default()
            .then(&rooms::ADD_SEAT, values![id])
            .then(&rooms::ADD, values![id, id.to_string(), 0])
            .sum(&rooms::ADD_SEATS, values![tally], |rows| {
                i64::try_from(rows.len()).unwrap() - 1
            });
        let missing = values![Uuid::nil()];
        db.commit(match number % 10 {
            0 => unit.exactly_one(&rooms::ADD_SEAT, missing),
            _ => unit,
        })
    }))
    .await;
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_err()).count(),
        20
    );
    assert_eq!(rooms::seats(&db, one).await, 80);
    assert_eq!(rooms::seats(&db, two).await, 100);
}

/// Records the committed batches and the reads.
#[derive(Default)]
struct Log {
    batches: Mutex<Vec<usize>>,
    reads: Mutex<HashMap<&'static str, usize>>,
}

impl Observer for Log {
    fn committed(&self, units: usize, took: Duration) {
        assert!(took > Duration::ZERO);
        self.batches.lock().unwrap().push(units);
    }

    fn queried(&self, statement: &'static str, _: Duration) {
        *self.reads.lock().unwrap().entry(statement).or_default() += 1;
    }
}

async fn every_unit_of_many_callers_is_committed(database: TestDatabase) {
    let log = Arc::new(Log::default());
    let db = database.open_with_observer(log.clone()).await;
    db.migrate(&rooms::MIGRATIONS).await.unwrap();
    let callers: Vec<_> = (0..64_u64)
        .map(|caller| {
            let db = db.clone();
            tokio::spawn(async move {
                for number in 0..25 {
                    let id = Uuid::from_u64_pair(caller, number);
                    let add = Unit::default().then(&rooms::ADD, values![id, id.to_string(), 0]);
                    db.commit(add.keyed(caller)).await.unwrap();
                    assert_eq!(
                        rooms::seats(&db, id).await,
                        0,
                        "a commit is not visible at once"
                    );
                }
            })
        })
        .collect();
    for outcome in join_all(callers).await {
        outcome.unwrap();
    }
    db.close().await;
    let batches = log.batches.lock().unwrap().clone();
    assert_eq!(batches.iter().sum::<usize>(), 64 * 25);
    assert!(batches.len() < 64 * 25 / 2, "{} batches", batches.len());
    assert_eq!(log.reads.lock().unwrap()["rooms.seats"], 64 * 25);
    assert_eq!(rooms::count(&database.open().await).await, 64 * 25);
}

async fn units_with_one_key_run_in_order(database: TestDatabase) {
    let db = database.with_rooms().await;
    let room = Uuid::from_u128(1);
    let visits = join_all((0..100_i64).map(|_| {
        db.commit(
            Unit::default()
                .exactly_one(&rooms::VISIT, values![room])
                .keyed(9),
        )
    }));
    for (position, outcome) in visits.await.into_iter().enumerate() {
        assert_eq!(
            rooms::first(outcome.unwrap().remove(0)),
            i64::try_from(position).unwrap()
        );
    }
}

async fn units_that_read_and_write_lose_no_update(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    db.commit(rooms::add(id, "a")).await.unwrap();
    let outcomes = join_all((0..64).map(|_| {
        let read = Unit::default().exactly_one(&rooms::SEATS, values![id]);
        db.commit(read.keyed(5).finish(move |rows| {
            let seats = rooms::first(rows[0].clone());
            (&rooms::SET_SEATS, values![id, seats + 1])
        }))
    }));
    assert!(outcomes.await.iter().all(Result::is_ok));
    assert_eq!(rooms::seats(&db, id).await, 64);
}

async fn two_handles_write_at_the_same_time(database: TestDatabase) {
    let handles = [database.with_rooms().await, database.open().await];
    let outcomes = join_all((0..200_u128).map(|number| {
        let add = rooms::add(Uuid::from_u128(number), &number.to_string());
        handles[usize::from(number % 2 == 0)].commit(add)
    }));
    assert!(outcomes.await.iter().all(Result::is_ok));
    assert_eq!(rooms::count(&handles[0]).await, 200);
}

async fn a_lane_is_a_small_number(database: TestDatabase) {
    let db = database.with_rooms().await;
    let unit = Unit::default().exactly_one(&rooms::VISIT, values![Uuid::nil()]);
    let lane: i64 = db.commit(unit).await.unwrap()[0][0].take(1).unwrap();
    match db.engine().as_str() {
        "sqlite" => assert_eq!(lane, 0),
        _ => assert!((0..64).contains(&lane), "{lane}"),
    }
}
