//! The store's contract when its disk fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use parlor_faults::{Disk, Fault, Operation};
use parlor_store::{
    DatabaseLocation, Db, Error, Migration, Observer, Options, Refusal, Row, Statement, Unit,
    values,
};

static MIGRATIONS: [Migration; 1] = [Migration {
    name: "0001_notes",
    sql: "CREATE TABLE notes (id BIGINT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (id))",
}];
static ADD: Statement = Statement::new("notes.add", "INSERT INTO notes (id, text) VALUES ($1, $2)");
static HAS: Statement = Statement::new("notes.has", "SELECT id FROM notes WHERE id = $1");
static COUNT: Statement =
    Statement::new("notes.count", "SELECT CAST(count(*) AS BIGINT) FROM notes");

async fn open(disk: &Disk, options: Options) -> Db {
    let location = DatabaseLocation::Sqlite(disk.file("parlor.db"));
    let db = Db::open(&location, options, Arc::new(())).await.unwrap();
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

/// Writes until the disk fails. Returns the acknowledged ids.
async fn write_until_failure(disk: &Disk, db: &Db, fault: (Operation, Fault)) -> Vec<i64> {
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
        (Operation::Write, Fault::IoError),
        (Operation::Sync, Fault::Full),
        (Operation::Sync, Fault::IoError),
    ] {
        let disk = Disk::new();
        let db = open(&disk, Options::default()).await;
        let mut acknowledged = write_until_failure(&disk, &db, fault).await;
        assert!(acknowledged.len() >= 20, "{fault:?}");
        for id in -5..0 {
            let refused = add(&db, id).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "{fault:?}");
        }
        // Reads need no disk space.
        assert!(has(&db, acknowledged[0]).await, "{fault:?}");
        disk.heal();
        add(&db, -100).await.unwrap();
        acknowledged.push(-100);
        for id in &acknowledged {
            assert!(has(&db, *id).await, "{fault:?} lost {id}");
        }
        db.close().await;
        let db = open(&disk, Options::default()).await;
        for id in &acknowledged {
            assert!(has(&db, *id).await, "{fault:?} lost {id} on the disk");
        }
        let found = usize::try_from(count(&db).await).unwrap();
        assert!(found >= acknowledged.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_page_is_unavailable() {
    let disk = Disk::new();
    let db = open(&disk, Options::default()).await;
    for id in 0..100 {
        add(&db, id).await.unwrap();
    }
    db.close().await;
    let db = open(&disk, Options::default()).await;
    disk.fail(Operation::Read, Fault::IoError);
    let read = db.read::<Row>(&COUNT, values![]).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    let scan = db.scan::<Row>(&COUNT, values![]).await;
    assert!(matches!(scan, Err(Error::Unavailable(_))), "{scan:?}");
    disk.heal();
    assert_eq!(count(&db).await, 100);
}

#[derive(Default)]
struct Refusals(Mutex<Vec<Refusal>>);

impl Observer for Refusals {
    fn refused(&self, why: Refusal) {
        self.0.lock().unwrap().push(why);
    }
}

impl Refusals {
    fn count(&self, why: Refusal) -> usize {
        let refusals = self.0.lock().unwrap();
        refusals.iter().filter(|refusal| **refusal == why).count()
    }
}

/// Short timeouts, for tests that wait for a hung disk.
fn short_timeouts() -> Options {
    Options {
        timeout: Duration::from_millis(300),
        scan_timeout: Duration::from_millis(300),
        ..Options::default()
    }
}

/// Panics if `work` hangs.
async fn completes<T>(work: impl Future<Output = T>) -> T {
    let completed = tokio::time::timeout(Duration::from_secs(30), work).await;
    completed.expect("it hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_write_blocks_no_caller() {
    let disk = Disk::new();
    let db = open(&disk, short_timeouts()).await;
    add(&db, 1).await.unwrap();
    disk.fail(Operation::Sync, Fault::Hang);
    let (first, ()) = tokio::join!(completes(add(&db, 2)), completes(disk.wait_for_hang()));
    assert!(matches!(first, Err(Error::Unavailable(_))), "{first:?}");
    // The writer hangs, and this unit is queued behind it.
    let second = completes(add(&db, 3)).await;
    assert!(matches!(second, Err(Error::Unavailable(_))), "{second:?}");
    assert!(has(&db, 1).await, "reads need no flush");
    disk.heal();
    add(&db, 4).await.unwrap();
    assert!(has(&db, 1).await && has(&db, 4).await);
    assert!(!has(&db, 3).await, "its caller had stopped waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_read_blocks_no_caller() {
    let disk = Disk::new();
    let db = open(&disk, short_timeouts()).await;
    for id in 0..10 {
        add(&db, id).await.unwrap();
    }
    db.close().await;
    let db = open(&disk, short_timeouts()).await;
    disk.fail(Operation::Read, Fault::Hang);
    let reads = completes(join_all((0..20).map(async |_| {
        let read = db.read::<Row>(&COUNT, values![]).await;
        let scan = db.scan::<Row>(&COUNT, values![]).await;
        (read, scan)
    })));
    for (read, scan) in reads.await {
        assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
        assert!(matches!(scan, Err(Error::Unavailable(_))), "{scan:?}");
    }
    disk.heal();
    assert_eq!(count(&db).await, 10);
    assert!(
        join_all((0..20).map(|id| has(&db, id % 10)))
            .await
            .iter()
            .all(|has| *has)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_writer_is_bounded_in_units_and_in_bytes() {
    // A unit takes between 540 and 600 bytes; the unit being written counts.
    for (queue_units, queue_bytes) in [(4, usize::MAX), (100, 3000)] {
        let disk = Disk::new();
        let refusals = Arc::new(Refusals::default());
        let options = Options {
            queue_units,
            queue_bytes,
            ..short_timeouts()
        };
        let location = DatabaseLocation::Sqlite(disk.file("parlor.db"));
        let observer = Arc::<Refusals>::clone(&refusals);
        let db = Db::open(&location, options, observer).await.unwrap();
        db.migrate(&MIGRATIONS).await.unwrap();
        disk.fail(Operation::Sync, Fault::Hang);
        let first = {
            let db = db.clone();
            tokio::spawn(async move { add(&db, 0).await })
        };
        completes(disk.wait_for_hang()).await;
        let refused = completes(join_all((1..21).map(|id| add(&db, id)))).await;
        assert!(refused.iter().all(Result::is_err));
        assert_eq!(
            refusals.count(Refusal::QueueFull),
            16,
            "4 of 20 units fit in the queue"
        );
        disk.heal();
        assert!(completes(first).await.unwrap().is_err(), "it timed out");
        // The queue stays full until the writer has dropped the abandoned units.
        completes(async { while add(&db, 100).await.is_err() {} }).await;
        assert!(has(&db, 100).await);
    }
}
