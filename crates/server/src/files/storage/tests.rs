use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::super::slots::Holder;
use super::writing::{Bounds, Unwritten};
use super::*;

const IMPATIENT: Duration = Duration::from_millis(600);
const PATIENT: Duration = Duration::from_secs(60);

fn file(number: u128) -> File {
    File {
        app: AppId::from_uuid(Uuid::nil()),
        meeting: MeetingId::from_uuid(Uuid::nil()),
        id: Uuid::from_u128(number),
        name: "a".into(),
    }
}

/// Storage in memory with so many slots, and no shares.
fn files(all: usize, grace: Duration) -> Files {
    let store = Arc::new(object_store::memory::InMemory::new());
    let bounds = slots::Bounds {
        all,
        app: 0,
        meeting: 0,
        person: 0,
        grace,
    };
    Files {
        slots: Slots::new(bounds),
        ..Files::new(store, DISK_PART_BYTES, 1000)
    }
}

/// Writes what comes in so many pieces of so many bytes, with pauses before each.
async fn written(
    files: Files,
    number: u128,
    (piece, pieces, pause_ms): (usize, usize, u64),
    patience: Duration,
) -> Result<u64, Unwritten> {
    let coming = stream::iter(0..pieces).then(move |_| async move {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok::<_, std::io::Error>(vec![0; piece])
    });
    let bounds = Bounds {
        bytes: 1 << 30,
        pause: patience,
        reserve: 0,
    };
    let id = Uuid::from_u128(number);
    let who = Holder {
        app: id,
        meeting: id,
        person: id,
    };
    let slot = files.slots.take(who).await.expect("a slot");
    let promise = files.promise(0, 0).expect("there is no disk");
    let mut body = Body::from_stream(coming);
    let file = file(number);
    let writing = files.write(&file, &mut body, bounds, slot.pace(), promise);
    writing.await
}

#[tokio::test(start_paused = true)]
async fn whoever_trickles_a_file_is_let_go_soon() {
    let files = files(1, slots::GRACE);
    let written = written(files, 1, (1, 1000, 50), IMPATIENT).await;
    assert!(matches!(written, Err(Unwritten::Slow)), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_start_does_not_pay_for_a_trickle() {
    let files = files(1, slots::GRACE);
    let start = stream::iter([Ok::<_, std::io::Error>(vec![0; 4 << 20])]);
    let rest = stream::iter(0..1000).then(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(vec![0; 1])
    });
    let bounds = Bounds {
        bytes: 1 << 30,
        pause: IMPATIENT,
        reserve: 0,
    };
    let id = Uuid::from_u128(1);
    let who = Holder {
        app: id,
        meeting: id,
        person: id,
    };
    let slot = files.slots.take(who).await.expect("a slot");
    let promise = files.promise(0, 0).expect("there is no disk");
    let mut body = Body::from_stream(start.chain(rest));
    let file = file(1);
    let written = files.write(&file, &mut body, bounds, slot.pace(), promise);
    assert!(matches!(written.await, Err(Unwritten::Slow)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_takes_its_time() {
    let files = files(1, slots::GRACE);
    let written = written(files, 1, (8 * 1024, 30, 50), IMPATIENT).await;
    assert_eq!(written.ok(), Some(30 * 8 * 1024));
}

#[tokio::test(start_paused = true)]
async fn those_who_send_a_byte_each_do_not_hold_the_slots() {
    let files = files(17, Duration::from_millis(100));
    let trickling: Vec<_> = (0..17)
        .map(|number| tokio::spawn(written(files.clone(), number, (1, 1000, 200), PATIENT)))
        .collect();
    while files.slots.open_count() < 17 {
        tokio::task::yield_now().await;
    }
    let honest = written(files.clone(), 99, (100_000, 3, 0), PATIENT).await;
    assert_eq!(honest.ok(), Some(300_000));
    let (cut, rest): (Vec<_>, Vec<_>) = trickling
        .into_iter()
        .partition(tokio::task::JoinHandle::is_finished);
    assert_eq!(cut.len(), 1, "no more than needed are cut off");
    for writing in cut {
        assert!(matches!(writing.await.unwrap(), Err(Unwritten::CutOff)));
    }
    rest.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_does_not_take_the_end_of_a_file_is_not_waited_for() {
    let config = ThrottleConfig {
        wait_put_per_call: Duration::from_secs(24 * 60 * 60),
        ..ThrottleConfig::default()
    };
    let store = ThrottledStore::new(object_store::memory::InMemory::new(), config);
    let files = Files {
        store: Arc::new(store),
        ..files(1, slots::GRACE)
    };
    let started = tokio::time::Instant::now();
    let written = written(files, 1, (1000, 3, 0), PATIENT).await;
    assert!(matches!(written, Err(Unwritten::Slow)), "{written:?}");
    assert!(started.elapsed() < Duration::from_secs(60 * 60));
}

#[tokio::test]
async fn a_file_is_read_piece_by_piece() {
    let files = files(1, slots::GRACE);
    let bytes: Vec<u8> = (0..=250_u8).cycle().take(4321).collect();
    let path = path(key(&file(1)));
    files.store.put(&path, bytes.clone().into()).await.unwrap();
    for (range, wanted) in [
        (None, 0..4321),
        (Some("bytes=0-9"), 0..10),
        (Some("bytes=999-3001"), 999..3002),
        (Some("bytes=-1000"), 3321..4321),
    ] {
        let found = files.read(&file(1), range).await.unwrap();
        assert_eq!(found.length, u64::try_from(wanted.len()).unwrap());
        let pieces: Vec<Bytes> = found.bytes.try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= 1000));
        assert_eq!(pieces.concat(), bytes[wanted]);
    }
}

#[test]
fn promises_are_kept_until_they_are_written() {
    let mut files = files(1, slots::GRACE);
    files.disk = Some(Disk::with(1001));
    let mut first = files.promise(500, 1).expect("there is room");
    assert!(files.promise(501, 1).is_none());
    first.on_disk(500);
    assert!(files.promise(501, 1).is_none(), "they are written");
    let second = files.promise(500, 1).expect("there is room");
    drop((first, second));
    assert_eq!(files.promised.load(Ordering::Relaxed), 0);
    assert_eq!(files.disk.as_ref().unwrap().free(), Some(501));
}

#[tokio::test]
async fn what_was_written_since_the_disk_was_read_is_not_free() {
    let mut files = files(1, slots::GRACE);
    let disk = Disk::with(10 << 20);
    files.disk = Some(disk.clone());
    for number in 1..=2 {
        let piece = (1 << 20, 4, 0);
        let written = written(files.clone(), number, piece, PATIENT).await;
        assert_eq!(written.ok(), Some(4 << 20));
    }
    assert_eq!(disk.free(), Some(2 << 20));
    assert!(files.promise(2 << 20, 1).is_none());
    disk.read(|| Some(10 << 20));
    assert!(files.promise(2 << 20, 1).is_some());
}
