use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;

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

#[tokio::test]
async fn whoever_trickles_a_file_is_let_go_soon() {
    let files = files(1, slots::GRACE);
    let written = written(files, 1, (1, 1000, 50), IMPATIENT).await;
    assert!(matches!(written, Err(Unwritten::Slow)), "{written:?}");
}

#[tokio::test]
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

#[tokio::test]
async fn a_slow_line_takes_its_time() {
    let files = files(1, slots::GRACE);
    let written = written(files, 1, (8 * 1024, 30, 50), IMPATIENT).await;
    assert_eq!(written.ok(), Some(30 * 8 * 1024));
}

#[tokio::test]
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
    let folder = tempfile::tempdir().unwrap();
    let files = directory(folder.path()).unwrap();
    let free = files.disk.as_ref().unwrap().free().unwrap();
    let mut first = files.promise(free / 2, 1).expect("there is room");
    assert!(files.promise(free / 2 + 1, 1).is_none());
    first.written(free / 2);
    let second = files.promise(free / 2, 1).expect("there is room again");
    drop((first, second));
    assert_eq!(files.promised.load(Ordering::Relaxed), 0);
}
