use bytes::Bytes;
use parlor_live::{Limits, Meeting, PersistedState, SessionRecord};
use parlor_protocol::ids::SessionId;
use parlor_store::DatabaseLocation;
use tempfile::TempDir;

use super::super::mailbox::{Mailbox, mailbox};
use super::*;
use crate::metrics::ByteGauge;
use crate::state::ServerState;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn sent(to: u64, bytes: usize) -> Output {
    Output::Send {
        to: (0..to).map(ConnectionId).collect(),
        frame: Bytes::from(vec![0; bytes]),
        pace: Pace::Now,
    }
}

/// A room whose session must end now, because it has been empty for a day.
async fn overdue() -> (TempDir, Mailbox, Driver) {
    let folder = tempfile::tempdir().unwrap();
    let location = DatabaseLocation::Sqlite(folder.path().join("parlor.db"));
    let limits = crate::limits::Limits::default();
    let state = Arc::new(ServerState::open(&location, limits).await.unwrap());
    let now_ms = state.clock.now_ms();
    let app = AppId::from_uuid(state.clock.random_id());
    let id = MeetingId::from_uuid(state.clock.random_id());
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
    let persisted = PersistedState {
        session: Some(SessionRecord {
            id: SessionId::from_uuid(state.clock.random_id()),
            title: String::new(),
            started_ms: now_ms - 24 * 60 * 60 * 1000,
            ended_ms: None,
            live: 0,
            peak: 0,
            total: 0,
            consumed_ms: 0,
        }),
        last_alive_ms: now_ms - 24 * 60 * 60 * 1000,
        ..PersistedState::default()
    };
    let mut at = InputContext {
        now_ms,
        monotonic: Monotonic::from_ms(state.clock.monotonic_ms()),
        ids: &mut |ms| state.clock.new_id(ms),
    };
    let room = Room::open(meeting, Limits::default(), persisted, &mut at);
    let (mailbox, receiver) = mailbox(&ByteGauge::default());
    let driver = Driver::new(&state.live, (app, id), room, receiver, Vec::new());
    (folder, mailbox, driver)
}

#[tokio::test]
async fn timers_wait_while_the_commit_backlog_is_full() {
    let (_folder, _mailbox, mut driver) = overdue().await;
    let mut slice = TimeSlice::begin();
    tokio::time::pause();
    driver.commit = Some(Box::pin(std::future::pending()));
    driver.pending = (0..BACKLOG).map(|_| sent(1, 1)).collect();
    let step = tokio::time::timeout(HOUR, driver.step(&mut slice)).await;
    assert!(step.is_err(), "{step:?}");
    assert_eq!(driver.pending.len(), BACKLOG);
    driver.pending.truncate(BACKLOG - 1);
    let step = tokio::time::timeout(HOUR, driver.step(&mut slice)).await;
    assert!(matches!(step, Ok(Ok(true))), "{step:?}");
    assert!(driver.pending.len() > BACKLOG - 1, "the session ends");
}

#[test]
fn pending_bytes_include_the_recipients() {
    assert_eq!(bytes_of(&sent(1, 100)), 108);
    assert_eq!(bytes_of(&sent(10_000, 100)), 80_100);
}
