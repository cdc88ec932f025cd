use std::sync::Arc;
use std::time::Duration;

use parlor_live::{Output, Record, SessionRecord};
use parlor_protocol::MeetingSettings;
use parlor_protocol::ids::{AppId, MeetingId, SessionId};
use parlor_store::{Error, Options, Place, Statement, Unit, values};
use parlor_testkit::{Postgres, Proxy};
use tokio::time::timeout;

use super::driver;
use crate::limits::Limits;
use crate::rooms::records;
use crate::state::Parlor;

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

fn session(parlor: &Parlor, started_ms: i64) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_uuid(parlor.clock.new_id(started_ms)),
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
async fn a_room_that_cannot_be_read_is_read_again_until_its_session_ends() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("parlor.db"));
    let parlor = Arc::new(Parlor::open(&place, Limits::default()).await.unwrap());
    let now_ms = parlor.clock.now_ms();
    let app = AppId::from_uuid(parlor.clock.random_id());
    let meeting = MeetingId::from_uuid(parlor.clock.new_id(now_ms));
    let session = session(&parlor, now_ms - 24 * 60 * 60 * 1000);
    let settings = serde_json::to_string(&MeetingSettings::default()).unwrap();
    let spoilt = Unit::default()
        .then(&ADD_MEETING, values![app.uuid(), meeting.uuid(), settings])
        .then(&SPOIL, values![app.uuid(), session.id.uuid(), vec![0_u8]]);
    parlor.db.commit(spoilt).await.unwrap();
    let kept = records::unit(app, meeting, now_ms, &[Record::Session(session)]);
    parlor.db.commit(kept).await.unwrap();

    parlor.live.resume().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(records::open_sessions(&parlor.live).await.unwrap().len(), 1);

    let mended = Unit::default().then(&MEND, values![app.uuid()]);
    parlor.db.commit(mended).await.unwrap();
    // Nobody comes to this meeting; the session has been empty for longer than its keep-alive.
    let ended = async {
        while !records::open_sessions(&parlor.live)
            .await
            .unwrap()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(4 * super::RETRY, ended).await.unwrap();
    parlor.live.suspend().await;
    parlor.db.close().await;
}

#[tokio::test]
async fn a_room_gives_up_on_a_database_that_hangs() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let (proxy, url) = Proxy::to_postgres(&url).await.unwrap();
    // So that it is the room that gives up, and not the store.
    let patient = Options {
        timeout: Duration::from_secs(60 * 60),
        scan_timeout: Duration::from_secs(60 * 60),
        ..Options::default()
    };
    let limits = Limits {
        database: patient,
        ..Limits::default()
    };
    let place = Place::Postgres(url);
    let parlor = Arc::new(Parlor::open(&place, limits).await.unwrap());
    let app = AppId::from_uuid(parlor.clock.random_id());
    let meeting = MeetingId::from_uuid(parlor.clock.random_id());
    let records = vec![Record::ChatDeleted(parlor.clock.random_id())];
    proxy.freeze();
    // Nothing can come any more, so time goes on at once to the next deadline.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let kept = driver::keep(Arc::clone(&parlor.live), app, meeting, 0, records).await;
    assert!(matches!(kept, Err(Error::Unavailable(_))), "{kept:?}");
    let waited = started.elapsed();
    assert!(
        waited <= driver::PATIENCE + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_room_is_read_after_what_was_given_up_is_kept() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let place = Place::Postgres(url);
    let parlor = Parlor::open(&place, Limits::default()).await.unwrap();
    let now_ms = parlor.clock.now_ms();
    let app = AppId::from_uuid(parlor.clock.random_id());
    let meeting = MeetingId::from_uuid(parlor.clock.new_id(now_ms));
    let settings = serde_json::to_string(&MeetingSettings::default()).unwrap();
    let row = values![app.uuid(), meeting.uuid(), settings];
    let added = Unit::default().then(&ADD_MEETING, row);
    parlor.db.commit(added).await.unwrap();
    // The commit of a room whose patience has ended: the server is still at it.
    let records = [Record::Session(session(&parlor, now_ms))];
    let late = records::unit(app, meeting, now_ms, &records).then(&SLEEP, values![]);
    let given_up = timeout(Duration::from_millis(500), parlor.db.commit(late)).await;
    assert!(given_up.is_err());
    let (_, first) = driver::open(&parlor.live, app, meeting)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(first[..], [Output::Keep(Record::Session(_))]),
        "the room does not know of its session"
    );
    parlor.db.close().await;
}
