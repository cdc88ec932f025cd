//! Many units at once: grouped in transactions, without sharing a fate.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use parlor_store::{Error, Observer, Unit, values};
use uuid::Uuid;

use crate::{home::Home, rooms};

crate::on_both_engines!(
    poison_undoes_only_its_own_unit,
    a_sum_counts_the_units_that_succeed,
    every_unit_of_many_callers_is_there,
    units_with_one_key_run_in_order,
    units_that_read_and_write_lose_no_update,
    two_handles_write_at_the_same_time,
    a_lane_is_a_small_number,
);

async fn poison_undoes_only_its_own_unit(home: Home) {
    let db = home.with_rooms().await;
    let (taken, tally) = (Uuid::max(), Uuid::from_u128(1000));
    db.commit(rooms::add(taken, "taken")).await.unwrap();
    db.commit(rooms::add(tally, "tally")).await.unwrap();
    let nowhere = values![Uuid::from_u128(1001)];
    let count = || Unit::default().then(&rooms::ADD_SEAT, values![tally]);
    let poisons = [
        count().then(&rooms::ADD, values![taken, "new", 0]),
        count().then(&rooms::ADD, values![Uuid::nil(), "new", "no number"]),
        count().exactly_one(&rooms::ADD_SEAT, nowhere),
    ];
    let mut refusals = Vec::new();
    for (wave, poison) in (0_u64..).zip(poisons) {
        let healthy = join_all((1..64_u64).map(|number| {
            let id = Uuid::from_u64_pair(wave, number);
            db.commit(count().then(&rooms::ADD, values![id, id.to_string(), 0]))
        }));
        let (healthy, refused) = tokio::join!(healthy, db.commit(poison));
        assert!(healthy.iter().all(Result::is_ok), "{healthy:?}");
        refusals.push(refused.unwrap_err());
    }
    assert!(matches!(refusals[0], Error::Conflict { .. }));
    assert!(matches!(refusals[1], Error::Broken(_)));
    assert_eq!(refusals[2], Error::WrongCount { step: 1 });
    assert_eq!(rooms::seats(&db, tally).await, 3 * 63);
    assert_eq!(rooms::count(&db).await, 2 + 3 * 63);
}

/// Each unit adds one room and counts it if it is new; the tenth of them fail.
async fn a_sum_counts_the_units_that_succeed(home: Home) {
    let db = home.with_rooms().await;
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

/// Remembers what was committed and what was read.
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

async fn every_unit_of_many_callers_is_there(home: Home) {
    let log = Arc::new(Log::default());
    let db = home.open_watched(log.clone()).await;
    db.migrate(&rooms::MIGRATIONS).await.unwrap();
    let callers: Vec<_> = (0..64_u64)
        .map(|caller| {
            let db = db.clone();
            tokio::spawn(async move {
                for number in 0..25 {
                    let id = Uuid::from_u64_pair(caller, number);
                    let add = Unit::default().then(&rooms::ADD, values![id, id.to_string(), 0]);
                    db.commit(add.keyed(caller)).await.unwrap();
                    assert_eq!(rooms::seats(&db, id).await, 0, "a commit is seen at once");
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
    assert_eq!(rooms::count(&home.open().await).await, 64 * 25);
}

async fn units_with_one_key_run_in_order(home: Home) {
    let db = home.with_rooms().await;
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

async fn units_that_read_and_write_lose_no_update(home: Home) {
    let db = home.with_rooms().await;
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

async fn two_handles_write_at_the_same_time(home: Home) {
    let handles = [home.with_rooms().await, home.open().await];
    let outcomes = join_all((0..200_u128).map(|number| {
        let add = rooms::add(Uuid::from_u128(number), &number.to_string());
        handles[usize::from(number % 2 == 0)].commit(add)
    }));
    assert!(outcomes.await.iter().all(Result::is_ok));
    assert_eq!(rooms::count(&handles[0]).await, 200);
}

async fn a_lane_is_a_small_number(home: Home) {
    let db = home.with_rooms().await;
    let unit = Unit::default().exactly_one(&rooms::VISIT, values![Uuid::nil()]);
    let lane: i64 = db.commit(unit).await.unwrap()[0][0].take(1).unwrap();
    match db.engine().as_str() {
        "sqlite" => assert_eq!(lane, 0),
        _ => assert!((0..64).contains(&lane), "{lane}"),
    }
}
