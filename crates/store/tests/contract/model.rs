//! Compares random units, committed in random groups, with a model.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use parlor_store::{Db, Row, Statement, Unit, values};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

static ALL: Statement = Statement::new("rooms.all", "SELECT name, seats FROM rooms");
static REMOVE: Statement = Statement::new("rooms.remove", "DELETE FROM rooms WHERE id = $1");

/// A step on one of a few rooms.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add(u8),
    AddSeat(u8),
    MustAddSeat(u8),
    Remove(u8),
}

type Model = BTreeMap<String, i64>;

impl Step {
    fn append(self, unit: Unit) -> Unit {
        let id = |room: u8| Uuid::from_u128(room.into());
        match self {
            Self::Add(room) => unit.then(&rooms::ADD, values![id(room), room.to_string(), 0]),
            Self::AddSeat(room) => unit.then(&rooms::ADD_SEAT, values![id(room)]),
            Self::MustAddSeat(room) => unit.exactly_one(&rooms::ADD_SEAT, values![id(room)]),
            Self::Remove(room) => unit.then(&REMOVE, values![id(room)]),
        }
    }

    /// Applies the step to the model. Returns whether it succeeds.
    fn apply(self, model: &mut Model) -> bool {
        let (Self::Add(room) | Self::AddSeat(room) | Self::MustAddSeat(room) | Self::Remove(room)) =
            self;
        let name = room.to_string();
        let touched = match self {
            Self::Add(_) => model.insert(name, 0).is_none(),
            Self::AddSeat(_) | Self::MustAddSeat(_) => {
                model.get_mut(&name).map(|seats| *seats += 1).is_some()
            }
            Self::Remove(_) => model.remove(&name).is_some(),
        };
        touched || matches!(self, Self::AddSeat(_) | Self::Remove(_))
    }
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..5_u8;
    prop_oneof![
        room.clone().prop_map(Step::Add),
        room.clone().prop_map(Step::AddSeat),
        room.clone().prop_map(Step::MustAddSeat),
        room.prop_map(Step::Remove),
    ]
}

/// Groups of units that are committed concurrently.
fn groups() -> impl Strategy<Value = Vec<Vec<Vec<Step>>>> {
    let unit = prop::collection::vec(step(), 1..4);
    prop::collection::vec(prop::collection::vec(unit, 1..12), 1..8)
}

async fn matches_model(db: &Db, groups: Vec<Vec<Vec<Step>>>) {
    let mut model = Model::new();
    for group in groups {
        let commits = group.iter().map(|steps| {
            let unit = steps
                .iter()
                .fold(Unit::default(), |unit, step| step.append(unit));
            db.commit(unit.keyed(1))
        });
        let outcomes = join_all(commits).await;
        for (steps, outcome) in group.iter().zip(outcomes) {
            let mut after = model.clone();
            let succeeds = steps.iter().all(|step| step.apply(&mut after));
            assert_eq!(
                outcome.is_ok(),
                succeeds,
                "{steps:?} on {model:?}: {outcome:?}"
            );
            if succeeds {
                model = after;
            }
        }
        assert_eq!(stored(db).await, model);
    }
}

async fn stored(db: &Db) -> Model {
    let rows = db.read::<Row>(&ALL, values![]).await.unwrap();
    let pair = |mut row: Row| (row.take(0).unwrap(), row.take(1).unwrap());
    rows.into_iter().map(pair).collect()
}

fn check(cases: u32, database: impl AsyncFn() -> TestDatabase) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    proptest!(ProptestConfig::with_cases(cases), |(groups in groups())| {
        runtime.block_on(async {
            let database = database().await;
            let db = database.with_rooms().await;
            matches_model(&db, groups).await;
            db.close().await;
        });
    });
}

#[test]
fn random_units_on_sqlite_match_the_model() {
    check(64, async || TestDatabase::sqlite());
}

#[test]
fn random_units_on_postgres_match_the_model() {
    check(12, TestDatabase::postgres);
}
