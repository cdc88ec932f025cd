//! Atomicity of a single unit.

use parlor_store::{Error, Row, Statement, Unit, Value, values};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

crate::on_both_engines!(
    every_value_round_trips,
    steps_return_their_rows,
    a_conflict_names_its_index,
    a_conflict_rolls_back_the_whole_unit,
    a_step_that_affects_no_row_rolls_back_the_unit,
    a_step_that_affects_two_rows_rolls_back_the_unit,
    a_step_that_returns_two_rows_rolls_back_the_unit,
    the_last_step_is_computed_from_the_earlier_rows,
    a_last_step_that_affects_no_row_rolls_back_the_unit,
    a_panic_while_computing_the_last_step_fails_only_its_unit,
    wrong_parameters_fail_only_their_unit,
    a_unit_without_steps_commits,
);

async fn every_value_round_trips(database: TestDatabase) {
    let db = database.with_rooms().await;
    let full = (
        Uuid::from_u128(7),
        "Bärensaal ☃",
        i64::MIN,
        true,
        vec![0_u8, 255],
        i64::MAX,
    );
    let (id, name, seats, is_locked, badge, closed_at) = full.clone();
    let add = values![id, name, seats, is_locked, badge, closed_at];
    let returned = db
        .commit(Unit::default().exactly_one(&rooms::ADD_FULL, add))
        .await
        .unwrap();
    let found = db.read::<Row>(&rooms::FIND, values![id]).await.unwrap();
    for mut row in [returned.into_iter().flatten().collect(), found].concat() {
        assert_eq!(row.take(0), Ok(full.0));
        assert_eq!(row.take(1), Ok(full.1.to_owned()));
        assert_eq!(row.take(2), Ok(full.2));
        assert_eq!(row.take(3), Ok(Some(full.3)));
        assert_eq!(row.take(4), Ok(full.4.clone()));
        assert_eq!(row.take(5), Ok(Some(full.5)));
        assert!(matches!(row.take::<i64>(6), Err(Error::Broken(_))));
    }
    let id = Uuid::from_u128(8);
    let add = values![id, "", 0, false, None::<Vec<u8>>, None::<i64>];
    db.commit(Unit::default().then(&rooms::ADD_FULL, add))
        .await
        .unwrap();
    let mut row = db
        .scan::<Row>(&rooms::FIND, values![id])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(row.take(1), Ok(String::new()));
    assert_eq!(row.take(3), Ok(false));
    assert_eq!(row.take::<Option<Vec<u8>>>(4), Ok(None));
    assert!(matches!(row.take::<i64>(5), Err(Error::Broken(_))));
}

async fn steps_return_their_rows(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    let unit = rooms::add(id, "a")
        .then(&rooms::SEATS, values![id])
        .then(&rooms::SEATS, values![Uuid::nil()]);
    let rows = db.commit(unit).await.unwrap();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0]);
}

async fn a_conflict_names_its_index(database: TestDatabase) {
    let db = database.with_rooms().await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    db.commit(rooms::add(one, "a")).await.unwrap();
    let conflict = |constraint: &str| {
        Err(Error::Conflict {
            constraint: constraint.to_owned(),
        })
    };
    assert_eq!(
        db.commit(rooms::add(one, "b")).await,
        conflict("rooms_pkey")
    );
    assert_eq!(
        db.commit(rooms::add(two, "a")).await,
        conflict("rooms_name")
    );
}

async fn a_conflict_rolls_back_the_whole_unit(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    let twice = Unit::default()
        .then(&rooms::ADD, values![id, "a", 1])
        .then(&rooms::ADD, values![id, "b", 2]);
    assert!(matches!(
        db.commit(twice).await,
        Err(Error::Conflict { .. })
    ));
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_step_that_affects_no_row_rolls_back_the_unit(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    let unit = rooms::add(id, "a").exactly_one(&rooms::ADD_SEAT, values![Uuid::nil()]);
    assert_eq!(db.commit(unit).await, Err(Error::WrongCount { step: 1 }));
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_step_that_affects_two_rows_rolls_back_the_unit(database: TestDatabase) {
    static SEAT_ALL: Statement =
        Statement::new("rooms.seat_all", "UPDATE rooms SET seats = seats + $1");
    let db = database.with_rooms().await;
    for number in 1..=2 {
        let add = rooms::add(Uuid::from_u128(number), &number.to_string());
        db.commit(add).await.unwrap();
    }
    let unit = Unit::default().exactly_one(&SEAT_ALL, values![5_i64]);
    assert_eq!(db.commit(unit).await, Err(Error::WrongCount { step: 0 }));
    assert_eq!(rooms::seats(&db, Uuid::from_u128(1)).await, 0);
}

async fn a_step_that_returns_two_rows_rolls_back_the_unit(database: TestDatabase) {
    static CLEAR: Statement = Statement::new("rooms.clear", "DELETE FROM rooms RETURNING id");
    let db = database.with_rooms().await;
    for number in 1..=2 {
        let add = rooms::add(Uuid::from_u128(number), &number.to_string());
        db.commit(add).await.unwrap();
    }
    let unit = Unit::default().exactly_one(&CLEAR, values![]);
    assert_eq!(db.commit(unit).await, Err(Error::WrongCount { step: 0 }));
    let all = db
        .commit(Unit::default().then(&CLEAR, values![]))
        .await
        .unwrap();
    assert_eq!(all[0].len(), 2);
}

/// Parameters that increment the room's seats.
fn one_more(rows: &[Vec<Row>], id: Uuid) -> Vec<Value> {
    let seats: i64 = rows[0][0].clone().take(0).unwrap();
    values![id, seats + 1]
}

async fn the_last_step_is_computed_from_the_earlier_rows(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    db.commit(rooms::add(id, "a")).await.unwrap();
    let unit = Unit::default()
        .then(&rooms::SEATS, values![id])
        .finish(move |rows| (&rooms::SET_SEATS, one_more(rows, id)));
    let rows = db.commit(unit).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rooms::seats(&db, id).await, 1);
}

async fn a_last_step_that_affects_no_row_rolls_back_the_unit(database: TestDatabase) {
    let db = database.with_rooms().await;
    let unit = rooms::add(Uuid::from_u128(1), "a")
        .finish(|_| (&rooms::SET_SEATS, values![Uuid::nil(), 1]));
    assert_eq!(db.commit(unit).await, Err(Error::WrongCount { step: 1 }));
    assert_eq!(rooms::count(&db).await, 0);
}

async fn a_panic_while_computing_the_last_step_fails_only_its_unit(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    let unit = rooms::add(id, "a").finish(|rows| (&rooms::SET_SEATS, one_more(rows, id_of(rows))));
    assert!(matches!(db.commit(unit).await, Err(Error::Broken(_))));
    assert_eq!(rooms::count(&db).await, 0);
    db.commit(rooms::add(id, "a")).await.unwrap();
    assert_eq!(rooms::count(&db).await, 1);
}

/// Panics if the first step returned no row.
fn id_of(rows: &[Vec<Row>]) -> Uuid {
    rows[0][0].clone().take(0).unwrap()
}

async fn wrong_parameters_fail_only_their_unit(database: TestDatabase) {
    let db = database.with_rooms().await;
    let id = Uuid::from_u128(1);
    for wrong in [
        values![id, "a"],
        values![id, "a", 1, 2],
        values![id, "a", "seats"],
    ] {
        let unit = rooms::add(id, "a").then(&rooms::ADD, wrong);
        assert!(matches!(db.commit(unit).await, Err(Error::Broken(_))));
        assert_eq!(rooms::count(&db).await, 0);
    }
}

async fn a_unit_without_steps_commits(database: TestDatabase) {
    let db = database.with_rooms().await;
    assert_eq!(db.commit(Unit::default()).await, Ok(Vec::new()));
}
