use bytes::Bytes;
use parlor_live::{Limits, Meeting, Past, SessionRecord};
use parlor_protocol::ids::SessionId;
use parlor_store::Place;
use tempfile::TempDir;

use super::super::mailbox::{Mailbox, mailbox};
use super::*;
use crate::metrics::Level;
use crate::state::Parlor;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn sent(to: u64, bytes: usize) -> Output {
    Output::Send {
        to: (0..to).map(ConnectionId).collect(),
        frame: Bytes::from(vec![0; bytes]),
        pace: Pace::Now,
    }
}

/// A room whose session must end now, because nobody has been in it for a day.
async fn overdue() -> (TempDir, Mailbox, Driver) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("parlor.db"));
    let limits = crate::limits::Limits::default();
    let parlor = Arc::new(Parlor::open(&place, limits).await.unwrap());
    let now_ms = parlor.clock.now_ms();
    let app = AppId::from_uuid(parlor.clock.random_id());
    let id = MeetingId::from_uuid(parlor.clock.random_id());
    let meeting = Meeting {
        id,
        title: String::new(),
        active: true,
        persist_chat: false,
        keep_alive_ms: 60_000,
        parent: None,
        has_rooms: false,
        version: 1,
    };
    let past = Past {
        session: Some(SessionRecord {
            id: SessionId::from_uuid(parlor.clock.random_id()),
            title: String::new(),
            started_ms: now_ms - 24 * 60 * 60 * 1000,
            ended_ms: None,
            live: 0,
            peak: 0,
            total: 0,
            consumed_ms: 0,
        }),
        last_alive_ms: now_ms - 24 * 60 * 60 * 1000,
        ..Past::default()
    };
    let mut at = At {
        now_ms,
        monotonic: Monotonic::from_ms(parlor.clock.monotonic_ms()),
        ids: &mut |ms| parlor.clock.new_id(ms),
    };
    let room = Room::open(meeting, Limits::default(), past, &mut at);
    let (mailbox, letters) = mailbox(&Level::default());
    let driver = Driver::new(&parlor.live, (app, id), room, letters, Vec::new());
    (folder, mailbox, driver)
}

#[tokio::test]
async fn what_is_due_waits_while_too_much_waits_for_a_commit() {
    let (_folder, _mailbox, mut driver) = overdue().await;
    let mut slice = Slice::begin();
    tokio::time::pause();
    driver.commit = Some(Box::pin(std::future::pending()));
    driver.waiting = (0..BACKLOG).map(|_| sent(1, 1)).collect();
    let turn = tokio::time::timeout(HOUR, driver.turn(&mut slice)).await;
    assert!(turn.is_err(), "{turn:?}");
    assert_eq!(driver.waiting.len(), BACKLOG);
    driver.waiting.truncate(BACKLOG - 1);
    let turn = tokio::time::timeout(HOUR, driver.turn(&mut slice)).await;
    assert!(matches!(turn, Ok(Ok(true))), "{turn:?}");
    assert!(driver.waiting.len() > BACKLOG - 1, "the session ends");
}

#[test]
fn what_waits_counts_who_it_is_for() {
    assert_eq!(bytes_of(&sent(1, 100)), 108);
    assert_eq!(bytes_of(&sent(10_000, 100)), 80_100);
}
