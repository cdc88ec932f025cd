//! What the store promises when its disk fails.

use std::sync::Arc;

use futures_util::future::join_all;
use parlor_faults::{Disk, Fault, Operation};
use parlor_store::{Db, Error, Migration, Options, Place, Row, Statement, Unit, values};

static MIGRATIONS: [Migration; 1] = [Migration {
    name: "0001_notes",
    sql: "CREATE TABLE notes (id BIGINT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (id))",
}];
static ADD: Statement = Statement::new(
    "notes.add",
    "INSERT INTO notes (id, text) VALUES ($1, $2)",
);
static HAS: Statement = Statement::new("notes.has", "SELECT id FROM notes WHERE id = $1");
static COUNT: Statement =
    Statement::new("notes.count", "SELECT CAST(count(*) AS BIGINT) FROM notes");

async fn open(disk: &Disk, options: Options) -> Db {
    let place = Place::Sqlite(disk.file("parlor.db"));
    let db = Db::open(&place, options, Arc::new(())).await.unwrap();
    db.migrate(&MIGRATIONS).await.unwrap();
    db
}

async fn add(db: &Db, id: i64) -> Result<(), Error> {
    let text = "x".repeat(500);
    let unit = Unit::default().exactly_one(&ADD, values![id, text]);
    db.commit(unit).await.map(drop)
}

async fn count(db: &Db) -> i64 {
    let mut rows = db.read::<Row>(&COUNT, values![]).await.unwrap();
    rows[0].take(0).unwrap()
}

async fn has(db: &Db, id: i64) -> bool {
    !db.read::<Row>(&HAS, values![id]).await.unwrap().is_empty()
}

/// Writers that go on until the disk has failed under them. Answers the ids that were acknowledged.
async fn write_until_it_fails(disk: &Disk, db: &Db, fault: (Operation, Fault)) -> Vec<i64> {
    let writers = join_all((0..8).map(async |writer| {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let id = writer * 1_000_000 + number;
            match add(db, id).await {
                Ok(()) => acknowledged.push(id),
                Err(error) => {
                    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
                    break;
                }
            }
            if acknowledged.len() == 20 {
                disk.fail(fault.0, fault.1);
            }
        }
        acknowledged
    }));
    writers.await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_loses_nothing_that_was_acknowledged() {
    for fault in [
        (Operation::Write, Fault::Full),
        (Operation::Write, Fault::Broken),
        (Operation::Sync, Fault::Full),
        (Operation::Sync, Fault::Broken),
    ] {
        let disk = Disk::new();
        let db = open(&disk, Options::default()).await;
        let mut acknowledged = write_until_it_fails(&disk, &db, fault).await;
        assert!(acknowledged.len() >= 20, "{fault:?}");
        for id in -5..0 {
            let refused = add(&db, id).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{fault:?}");
        }
        // What is read does not need the space that is missing.
        assert!(has(&db, acknowledged[0]).await, "{fault:?}");
        disk.heal();
        add(&db, -100).await.unwrap();
        acknowledged.push(-100);
        for id in &acknowledged {
            assert!(has(&db, *id).await, "{fault:?} has lost {id}");
        }
        db.close().await;
        let db = open(&disk, Options::default()).await;
        for id in &acknowledged {
            assert!(has(&db, *id).await, "{fault:?} has lost {id} on the disk");
        }
        let found = usize::try_from(count(&db).await).unwrap();
        assert!(found >= acknowledged.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_is_unavailable_and_not_a_mistake() {
    let disk = Disk::new();
    let db = open(&disk, Options::default()).await;
    for id in 0..100 {
        add(&db, id).await.unwrap();
    }
    db.close().await;
    let db = open(&disk, Options::default()).await;
    disk.fail(Operation::Read, Fault::Broken);
    let read = db.read::<Row>(&COUNT, values![]).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    let scan = db.scan::<Row>(&COUNT, values![]).await;
    assert!(matches!(scan, Err(Error::Unavailable(_))), "{scan:?}");
    disk.heal();
    assert_eq!(count(&db).await, 100);
}
