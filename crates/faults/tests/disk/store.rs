//! What the store promises when its disk fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use parlor_faults::{Disk, Fault, Operation};
use parlor_store::{
    Db, Error, Migration, Observer, Options, Place, Refusal, Row, Statement, Unit, values,
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

/// Answers within a moment, so that a test can wait for what never comes.
fn impatient() -> Options {
    Options {
        timeout: Duration::from_millis(300),
        scan_timeout: Duration::from_millis(300),
        ..Options::default()
    }
}

/// What takes this long never ends.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(30), work).await;
    ended.expect("it hangs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_while_writing_holds_nobody_up() {
    let disk = Disk::new();
    let db = open(&disk, impatient()).await;
    add(&db, 1).await.unwrap();
    disk.fail(Operation::Sync, Fault::Hangs);
    let (first, ()) = tokio::join!(ends(add(&db, 2)), ends(disk.hanging()));
    assert!(matches!(first, Err(Error::Unavailable(_))), "{first:?}");
    // The writer hangs, and this one is behind it.
    let second = ends(add(&db, 3)).await;
    assert!(matches!(second, Err(Error::Unavailable(_))), "{second:?}");
    assert!(has(&db, 1).await, "reads need no flush");
    disk.heal();
    add(&db, 4).await.unwrap();
    assert!(has(&db, 1).await && has(&db, 4).await);
    assert!(!has(&db, 3).await, "nobody waited for it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_while_reading_holds_nobody_up() {
    let disk = Disk::new();
    let db = open(&disk, impatient()).await;
    for id in 0..10 {
        add(&db, id).await.unwrap();
    }
    db.close().await;
    let db = open(&disk, impatient()).await;
    disk.fail(Operation::Read, Fault::Hangs);
    let reads = ends(join_all((0..20).map(async |_| {
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
async fn what_waits_for_a_writer_is_bounded_in_number_and_in_bytes() {
    // A unit takes between 540 and 600 bytes; the one that is being written counts.
    for (queue_units, queue_bytes) in [(4, usize::MAX), (100, 3000)] {
        let disk = Disk::new();
        let refusals = Arc::new(Refusals::default());
        let options = Options {
            queue_units,
            queue_bytes,
            ..impatient()
        };
        let place = Place::Sqlite(disk.file("parlor.db"));
        let observer = Arc::<Refusals>::clone(&refusals);
        let db = Db::open(&place, options, observer).await.unwrap();
        db.migrate(&MIGRATIONS).await.unwrap();
        disk.fail(Operation::Sync, Fault::Hangs);
        let first = {
            let db = db.clone();
            tokio::spawn(async move { add(&db, 0).await })
        };
        ends(disk.hanging()).await;
        let refused = ends(join_all((1..21).map(|id| add(&db, id)))).await;
        assert!(refused.iter().all(Result::is_err));
        assert_eq!(refusals.count(Refusal::QueueFull), 16, "4 of 20 may wait");
        disk.heal();
        assert!(ends(first).await.unwrap().is_err(), "it was late");
        // The queue is full until the writer has left out what nobody waits for.
        ends(async { while add(&db, 100).await.is_err() {} }).await;
        assert!(has(&db, 100).await);
    }
}
