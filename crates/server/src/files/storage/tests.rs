use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::super::slots::Holder;
use super::writing::{WriteError, WriteLimits};
use super::*;

const SHORT_PAUSE: Duration = Duration::from_millis(600);
const LONG_PAUSE: Duration = Duration::from_secs(60);

fn file(number: u128) -> File {
    File {
        app: AppId::from_uuid(Uuid::nil()),
        meeting: MeetingId::from_uuid(Uuid::nil()),
        id: Uuid::from_u128(number),
        name: "a".into(),
    }
}

/// In-memory storage with this many slots and no limits per app, meeting or participant.
fn files(all: usize, grace: Duration) -> Files {
    let store = Arc::new(object_store::memory::InMemory::new());
    let limits = slots::SlotLimits {
        all,
        app: 0,
        meeting: 0,
        participant: 0,
        grace,
    };
    Files {
        slots: Slots::new(limits),
        ..Files::new(store, DISK_PART_BYTES, 1000)
    }
}

/// Writes a file that arrives as `pieces` chunks of `piece` bytes, with a pause before each.
async fn write_file(
    files: Files,
    number: u128,
    (piece, pieces, pause_ms): (usize, usize, u64),
    max_pause: Duration,
) -> Result<u64, WriteError> {
    let chunks = stream::iter(0..pieces).then(move |_| async move {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        Ok::<_, std::io::Error>(vec![0; piece])
    });
    let limits = WriteLimits {
        bytes: 1 << 30,
        pause: max_pause,
        reserve: 0,
    };
    let id = Uuid::from_u128(number);
    let holder = Holder {
        app: id,
        meeting: id,
        participant: id,
    };
    let slot = files.slots.acquire(holder).await.expect("a slot");
    let reservation = files
        .reserve_space(0, 0)
        .expect("space is not limited without a disk");
    let mut body = Body::from_stream(chunks);
    let file = file(number);
    let writing = files.write(&file, &mut body, limits, slot.pace(), reservation);
    writing.await
}

#[tokio::test(start_paused = true)]
async fn a_trickling_upload_is_aborted() {
    let files = files(1, slots::GRACE);
    let written = write_file(files, 1, (1, 1000, 50), SHORT_PAUSE).await;
    assert!(matches!(written, Err(WriteError::Slow)), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_start_does_not_make_up_for_a_trickle() {
    let files = files(1, slots::GRACE);
    let start = stream::iter([Ok::<_, std::io::Error>(vec![0; 4 << 20])]);
    let rest = stream::iter(0..1000).then(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(vec![0; 1])
    });
    let limits = WriteLimits {
        bytes: 1 << 30,
        pause: SHORT_PAUSE,
        reserve: 0,
    };
    let id = Uuid::from_u128(1);
    let holder = Holder {
        app: id,
        meeting: id,
        participant: id,
    };
    let slot = files.slots.acquire(holder).await.expect("a slot");
    let reservation = files
        .reserve_space(0, 0)
        .expect("space is not limited without a disk");
    let mut body = Body::from_stream(start.chain(rest));
    let file = file(1);
    let written = files.write(&file, &mut body, limits, slot.pace(), reservation);
    assert!(matches!(written.await, Err(WriteError::Slow)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_steady_upload_succeeds() {
    let files = files(1, slots::GRACE);
    let written = write_file(files, 1, (8 * 1024, 30, 50), SHORT_PAUSE).await;
    assert_eq!(written.ok(), Some(30 * 8 * 1024));
}

#[tokio::test(start_paused = true)]
async fn trickling_uploads_do_not_hold_the_slots() {
    let files = files(17, Duration::from_millis(100));
    let trickling: Vec<_> = (0..17)
        .map(|number| {
            tokio::spawn(write_file(
                files.clone(),
                number,
                (1, 1000, 200),
                LONG_PAUSE,
            ))
        })
        .collect();
    while files.slots.open_count() < 17 {
        tokio::task::yield_now().await;
    }
    let honest = write_file(files.clone(), 99, (100_000, 3, 0), LONG_PAUSE).await;
    assert_eq!(honest.ok(), Some(300_000));
    let (aborted, rest): (Vec<_>, Vec<_>) = trickling
        .into_iter()
        .partition(tokio::task::JoinHandle::is_finished);
    assert_eq!(aborted.len(), 1, "only one upload had to be aborted");
    for writing in aborted {
        assert!(matches!(writing.await.unwrap(), Err(WriteError::Aborted)));
    }
    rest.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_does_not_finish_a_file_times_out() {
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
    let written = write_file(files, 1, (1000, 3, 0), LONG_PAUSE).await;
    assert!(matches!(written, Err(WriteError::Slow)), "{written:?}");
    assert!(started.elapsed() < Duration::from_secs(60 * 60));
}

#[tokio::test]
async fn a_file_is_read_in_chunks() {
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
fn space_is_reserved_until_it_is_written() {
    let mut files = files(1, slots::GRACE);
    files.disk = Some(Disk::with(1001));
    let mut first = files.reserve_space(500, 1).expect("there is room");
    assert!(files.reserve_space(501, 1).is_none());
    first.on_disk(500);
    assert!(
        files.reserve_space(501, 1).is_none(),
        "written bytes are not free"
    );
    let second = files.reserve_space(500, 1).expect("there is room");
    drop((first, second));
    assert_eq!(files.reserved.load(Ordering::Relaxed), 0);
    assert_eq!(files.disk.as_ref().unwrap().free(), Some(501));
}

#[tokio::test]
async fn bytes_written_since_the_last_disk_reading_are_not_free() {
    let mut files = files(1, slots::GRACE);
    let disk = Disk::with(10 << 20);
    files.disk = Some(disk.clone());
    for number in 1..=2 {
        let piece = (1 << 20, 4, 0);
        let written = write_file(files.clone(), number, piece, LONG_PAUSE).await;
        assert_eq!(written.ok(), Some(4 << 20));
    }
    assert_eq!(disk.free(), Some(2 << 20));
    assert!(files.reserve_space(2 << 20, 1).is_none());
    disk.read(|| Some(10 << 20));
    assert!(files.reserve_space(2 << 20, 1).is_some());
}
