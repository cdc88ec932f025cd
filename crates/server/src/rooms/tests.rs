use std::sync::Arc;
use std::time::Duration;

use parlor_live::{Output, Record, SessionRecord};
use parlor_protocol::MeetingSettings;
use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{DatabaseLocation, Error, Options, Statement, Unit, values};
use parlor_testkit::{Postgres, Proxy};
use tokio::time::timeout;

use super::driver;
use crate::limits::Limits;
use crate::rooms::records;
use crate::state::ServerState;

static ADD_MEETING: Statement = Statement::new(
    "test.add_meeting",
    "INSERT INTO meetings (app_id, id, title, status, version, created_at, updated_at, settings)
     VALUES ($1, $2, 'Weekly', 'ACTIVE', 1, 0, 0, $3)",
);
static SPOIL: Statement = Statement::new(
    "test.spoil",
    "INSERT INTO session_entries (app_id, session_id, kind, key, value) VALUES ($1, $2, 'nonsense', '', $3)",
);
static MEND: Statement =
    Statement::new("test.mend", "DELETE FROM session_entries WHERE app_id = $1");
static SLEEP: Statement = Statement::new("test.sleep", "SELECT 1 FROM pg_sleep(2)");

fn session(state: &ServerState, started_ms: i64) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_uuid(state.clock.new_id(started_ms)),
        title: "Weekly".to_owned(),
        started_ms,
        ended_ms: None,
        live: 0,
        peak: 0,
        total: 0,
        consumed_ms: 0,
    }
}

#[tokio::test]
async fn a_room_that_cannot_be_loaded_is_retried_until_its_session_ends() {
    let folder = tempfile::tempdir().unwrap();
    let location = DatabaseLocation::Sqlite(folder.path().join("parlor.db"));
    let state = Arc::new(
        ServerState::open(&location, Limits::default())
            .await
            .unwrap(),
    );
    let now_ms = state.clock.now_ms();
    let app = AppId::from_uuid(state.clock.random_id());
    let meeting = MeetingId::from_uuid(state.clock.new_id(now_ms));
    let session = session(&state, now_ms - 24 * 60 * 60 * 1000);
    let settings = serde_json::to_string(&MeetingSettings::default()).unwrap();
    let spoilt = Unit::default()
        .then(&ADD_MEETING, values![app.uuid(), meeting.uuid(), settings])
        .then(&SPOIL, values![app.uuid(), session.id.uuid(), vec![0_u8]]);
    state.db.commit(spoilt).await.unwrap();
    let kept = records::unit(app, meeting, now_ms, &[Record::Session(session)]);
    state.db.commit(kept).await.unwrap();

    state.live.resume().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(records::open_sessions(&state.live).await.unwrap().len(), 1);

    let mended = Unit::default().then(&MEND, values![app.uuid()]);
    state.db.commit(mended).await.unwrap();
    // No client joins this meeting; the session has been empty for longer than its keep-alive.
    let ended = async {
        while !records::open_sessions(&state.live)
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(4 * super::RETRY_DELAY, ended)
        .await
        .unwrap();
    state.live.suspend().await;
    state.db.close().await;
}

#[tokio::test]
async fn a_room_gives_up_on_a_database_that_hangs() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let (proxy, url) = Proxy::to_postgres(&url).await.unwrap();
    // A long timeout, so that the room times out and not the store.
    let options = Options {
        timeout: Duration::from_secs(60 * 60),
        scan_timeout: Duration::from_secs(60 * 60),
        ..Options::default()
    };
    let limits = Limits {
        database: options,
        ..Limits::default()
    };
    let location = DatabaseLocation::Postgres(url);
    let state = Arc::new(ServerState::open(&location, limits).await.unwrap());
    let app = AppId::from_uuid(state.clock.random_id());
    let meeting = MeetingId::from_uuid(state.clock.random_id());
    let records = vec![Record::ChatDeleted(state.clock.random_id())];
    proxy.freeze();
    // No more responses can arrive, so the paused clock advances at once to the next deadline.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let kept = driver::commit(Arc::clone(&state.live), app, meeting, 0, records).await;
    assert!(matches!(kept, Err(Error::Unavailable(_))), "{kept:?}");
    let waited = started.elapsed();
    assert!(
        waited <= driver::COMMIT_TIMEOUT + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_room_is_loaded_after_an_abandoned_commit_is_settled() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let location = DatabaseLocation::Postgres(url);
    let state = ServerState::open(&location, Limits::default())
        .await
        .unwrap();
    let now_ms = state.clock.now_ms();
    let app = AppId::from_uuid(state.clock.random_id());
    let meeting = MeetingId::from_uuid(state.clock.new_id(now_ms));
    let settings = serde_json::to_string(&MeetingSettings::default()).unwrap();
    let row = values![app.uuid(), meeting.uuid(), settings];
    let added = Unit::default().then(&ADD_MEETING, row);
    state.db.commit(added).await.unwrap();
    // A room's commit that has timed out while the database still executes it.
    let records = [Record::Session(session(&state, now_ms))];
    let late = records::unit(app, meeting, now_ms, &records).then(&SLEEP, values![]);
    let abandoned = timeout(Duration::from_millis(500), state.db.commit(late)).await;
    assert!(abandoned.is_err());
    let (_, first) = driver::open(&state.live, app, meeting)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(first[..], [Output::Persist(Record::Session(_))]),
        "the room did not load its session"
    );
    state.db.close().await;
}
