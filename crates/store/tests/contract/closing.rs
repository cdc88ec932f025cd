//! Closing and reopening a database.

use std::{fs, sync::Arc};

use futures_util::future::join_all;
use parlor_store::{DatabaseLocation, Db, Error, Options, Row, Unit, values};
use uuid::Uuid;

use crate::{database::TestDatabase, rooms};

crate::on_both_engines!(
    committed_units_survive_a_reopen,
    a_close_commits_accepted_units,
    operations_after_a_close_are_rejected,
);

async fn committed_units_survive_a_reopen(database: TestDatabase) {
    let id = Uuid::from_u128(1);
    let db = database.with_rooms().await;
    db.commit(rooms::add(id, "a")).await.unwrap();
    db.close().await;
    let db = database.with_rooms().await;
    assert_eq!(rooms::seats(&db, id).await, 0);
}

async fn a_close_commits_accepted_units(database: TestDatabase) {
    let db = database.with_rooms().await;
    let units: Vec<_> = (0..300_u128)
        .map(|number| {
            let db = db.clone();
            let add = rooms::add(Uuid::from_u128(number), &number.to_string());
            tokio::spawn(async move { db.commit(add).await })
        })
        .collect();
    db.commit(rooms::add(Uuid::max(), "first")).await.unwrap();
    db.close().await;
    let mut expected = 1;
    for outcome in join_all(units).await {
        match outcome.unwrap() {
            Ok(_) => expected += 1,
            Err(error) => assert!(matches!(error, Error::Unavailable(_)), "{error}"),
        }
    }
    assert_eq!(rooms::count(&database.open().await).await, expected);
}

async fn operations_after_a_close_are_rejected(database: TestDatabase) {
    let db = database.with_rooms().await;
    let clone = db.clone();
    tokio::join!(db.close(), clone.close());
    let add = || rooms::add(Uuid::nil(), "late");
    for db in [&db, &clone] {
        assert!(matches!(db.commit(add()).await, Err(Error::Unavailable(_))));
        let read = db.read::<Row>(&rooms::COUNT, values![]).await;
        assert!(matches!(read, Err(Error::Unavailable(_))));
        let scan = db.scan::<Row>(&rooms::COUNT, values![]).await;
        assert!(matches!(scan, Err(Error::Unavailable(_))));
    }
}

#[tokio::test]
async fn a_closed_sqlite_database_is_one_file() {
    let database = TestDatabase::sqlite();
    let DatabaseLocation::Sqlite(path) = &database.location else {
        unreachable!("the database is a file")
    };
    let db = database.with_rooms().await;
    db.commit(rooms::add(Uuid::nil(), "a")).await.unwrap();
    assert!(path.with_extension("db-wal").exists());
    db.close().await;
    let files = fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1, "the log was not removed");
}

#[tokio::test]
async fn a_long_sqlite_log_is_truncated_while_writing() {
    let database = TestDatabase::sqlite();
    let DatabaseLocation::Sqlite(path) = &database.location else {
        unreachable!("the database is a file")
    };
    let db = database.with_rooms().await;
    let mut longest = 0;
    for number in 0..60_u128 {
        let (id, badge) = (Uuid::from_u128(number), vec![7_u8; 2 << 20]);
        let add = values![id, number.to_string(), 0, false, badge, None::<i64>];
        db.commit(Unit::default().exactly_one(&rooms::ADD_FULL, add))
            .await
            .unwrap();
        longest = longest.max(fs::metadata(path.with_extension("db-wal")).unwrap().len());
    }
    assert!(longest < 80 << 20, "the log grew to {longest} bytes");
    assert_eq!(rooms::count(&db).await, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sqlite_file_can_be_opened_many_times_at_once() {
    for _ in 0..20 {
        let database = TestDatabase::sqlite();
        let opened = join_all((0..12).map(|_| {
            let location = database.location.clone();
            tokio::spawn(async move { Db::open(&location, Options::default(), Arc::new(())).await })
        }));
        for db in opened.await {
            db.unwrap().unwrap().close().await;
        }
    }
}

#[tokio::test]
async fn a_missing_directory_makes_the_database_unavailable() {
    let location = DatabaseLocation::Sqlite("/nowhere/at/all/parlor.db".into());
    let opened = Db::open(&location, Options::default(), Arc::new(())).await;
    assert!(matches!(opened.err(), Some(Error::Unavailable(_))));
}

#[test]
fn a_password_does_not_show_in_a_log() {
    let location = DatabaseLocation::Postgres("postgres://parlor:secret@db/parlor".to_owned());
    assert!(!format!("{location:?}").contains("secret"));
}
